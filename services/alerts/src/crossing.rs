//! A crossed threshold, as the aggregator publishes it.

use jiff::Timestamp;
use metering::{InvalidId, InvalidPercent, Percent, Period, PlanId, TenantId};
use proto::{InvalidMessage, InvalidTimestamp, required_instant, v1};

/// The only rule that this service has words for.
const MONTHLY_EXECUTIONS: &str = "monthly-executions";

/// Longest crossing id that is accepted, in bytes; the aggregator's are far shorter.
const ID_BYTES_MAX: usize = 256;

/// Largest count that the database keeps.
const EXECUTIONS_MAX: u64 = i64::MAX.unsigned_abs();

/// A tenant's usage has reached a share of its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// The same for every delivery of this crossing.
    pub id: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The plan at the crossing.
    pub plan: PlanId,
    /// The period.
    pub period: Period,
    /// The share of the limit.
    pub percent: Percent,
    /// The highest share that the same change has reached; zero if not known.
    pub highest_percent: u32,
    /// The limit at the crossing.
    pub limit: u64,
    /// Usage at the crossing.
    pub used: u64,
    /// When it was detected.
    pub crossed_at: Timestamp,
}

/// The message is not a valid crossing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCrossing {
    /// The crossing has no usable id.
    #[error("`crossing_id` must have 1 to {ID_BYTES_MAX} bytes")]
    CrossingId,
    /// A tenant or plan id is malformed.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The threshold is not a share.
    #[error(transparent)]
    Percent(#[from] InvalidPercent),
    /// The period is invalid.
    #[error(transparent)]
    Period(#[from] InvalidMessage),
    /// An instant is missing or out of range.
    #[error(transparent)]
    Timestamp(#[from] InvalidTimestamp),
    /// A rule of a later version.
    #[error("there are no words for the rule {0:?}")]
    Rule(String),
    /// A count is too large to be one.
    #[error("`{0}` is larger than any count")]
    Count(&'static str),
}

impl TryFrom<v1::ThresholdCrossed> for Crossing {
    type Error = InvalidCrossing;

    fn try_from(wire: v1::ThresholdCrossed) -> Result<Self, InvalidCrossing> {
        if !(1..=ID_BYTES_MAX).contains(&wire.crossing_id.len()) {
            return Err(InvalidCrossing::CrossingId);
        }
        if wire.rule != MONTHLY_EXECUTIONS {
            return Err(InvalidCrossing::Rule(wire.rule.chars().take(80).collect()));
        }
        Ok(Self {
            tenant: TenantId::parse(&wire.tenant_id)?,
            plan: PlanId::parse(&wire.plan_id)?,
            period: wire.period.ok_or(InvalidMessage::Missing("period"))?.try_into()?,
            percent: Percent::new(wire.threshold_percent)?,
            highest_percent: wire.highest_percent,
            limit: checked_count(wire.limit, "limit")?,
            used: checked_count(wire.used, "used")?,
            crossed_at: required_instant(wire.crossed_at.as_ref(), "crossed_at")?,
            id: wire.crossing_id,
        })
    }
}

fn checked_count(count: u64, field: &'static str) -> Result<u64, InvalidCrossing> {
    if count <= EXECUTIONS_MAX { Ok(count) } else { Err(InvalidCrossing::Count(field)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut v1::ThresholdCrossed);

    fn wire() -> v1::ThresholdCrossed {
        let at = |text: &str| Some(proto::timestamp(text.parse().unwrap()));
        v1::ThresholdCrossed {
            crossing_id: "north:2026-11:80".into(),
            tenant_id: "north".into(),
            period: Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") }),
            rule: MONTHLY_EXECUTIONS.into(),
            threshold_percent: 80,
            limit: 100,
            used: 80,
            crossed_at: at("2026-11-24T12:00:00Z"),
            plan_id: "pro".into(),
            highest_percent: 80,
        }
    }

    #[test]
    fn a_whole_message_is_a_crossing() {
        let crossing = Crossing::try_from(wire()).unwrap();
        assert_eq!((crossing.tenant.as_str(), crossing.percent.get()), ("north", 80));
    }

    #[test]
    fn an_invalid_field_is_named() {
        let cases: [(&str, Spoil); 7] = [
            ("crossing_id", |wire| wire.crossing_id.clear()),
            ("tenant id", |wire| wire.tenant_id.clear()),
            ("plan id", |wire| wire.plan_id = "A".into()),
            ("period", |wire| wire.period = None),
            ("threshold", |wire| wire.threshold_percent = 0),
            ("weekly", |wire| wire.rule = "weekly".into()),
            ("used", |wire| wire.used = u64::MAX),
        ];
        for (word, spoil) in cases {
            let mut wire = wire();
            spoil(&mut wire);
            let error = Crossing::try_from(wire).unwrap_err().to_string();
            assert!(error.contains(word), "{error} does not say {word}");
        }
    }
}
