//! How the limit check decides, beyond the monthly limit.

use std::time::Duration;

use proto::v1;

use crate::{InvalidEntry, entry::checked_duration};

/// Longest grace, and longest time for which an open outage rule may hold.
const DURATION_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Shortest of both: a shorter one ends before anybody notices.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// How the limit check decides, beyond the monthly limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdmissionRule {
    /// Decide and record, never refuse.
    pub shadow: bool,
    /// With a soft limit: executions allowed past it; unbounded if missing.
    pub overage_max: Option<u64>,
    /// With a hard limit: how long runs are still allowed after it is reached.
    pub grace: Option<Duration>,
    /// How long the open outage rule holds after metering was last fresh; unbounded if missing.
    pub open_at_most: Option<Duration>,
    /// Caps over all workflows of a tenant.
    pub tenant_caps: RunCaps,
    /// Caps for each workflow.
    pub workflow_caps: RunCaps,
    /// The largest share of the monthly limit that one workflow may use, in percent: 1 to 100.
    pub workflow_share_percent: Option<u32>,
    /// What happens when a workflow seems to start itself.
    pub loop_rule: LoopRule,
}

/// How often runs may start; a missing cap is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCaps {
    /// Runs in a minute.
    pub per_minute: Option<u64>,
    /// Runs in any 24 hours.
    pub per_day: Option<u64>,
    /// Admitted runs that are not known to have ended.
    pub concurrent: Option<u64>,
}

/// What happens when a workflow seems to start itself over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoopRule {
    /// It is reported.
    #[default]
    Tell,
    /// It is reported, and the workflow's runs are refused until its rate is back to normal.
    Refuse,
    /// Not checked.
    Off,
}

impl AdmissionRule {
    pub(crate) fn from_wire(wire: v1::AdmissionRule) -> Result<Self, InvalidEntry> {
        let loop_rule = match wire.loop_rule() {
            v1::LoopRule::Unspecified | v1::LoopRule::Tell => LoopRule::Tell,
            v1::LoopRule::Refuse => LoopRule::Refuse,
            v1::LoopRule::Off => LoopRule::Off,
        };
        if wire.workflow_share_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(InvalidEntry::field("admission.workflow_share_percent", "use 1 to 100"));
        }
        let bounds = DURATION_MIN..=DURATION_MAX;
        Ok(Self {
            shadow: wire.shadow,
            overage_max: wire.overage_max,
            grace: checked_duration("admission.grace", wire.grace, &bounds)?,
            open_at_most: checked_duration("admission.open_at_most", wire.open_at_most, &bounds)?,
            tenant_caps: RunCaps::from_wire(wire.tenant_caps),
            workflow_caps: RunCaps::from_wire(wire.workflow_caps),
            workflow_share_percent: wire.workflow_share_percent,
            loop_rule,
        })
    }

    pub(crate) fn to_wire(&self) -> v1::AdmissionRule {
        v1::AdmissionRule {
            shadow: self.shadow,
            overage_max: self.overage_max,
            grace: self.grace.map(crate::entry::wire_duration),
            open_at_most: self.open_at_most.map(crate::entry::wire_duration),
            tenant_caps: Some(self.tenant_caps.to_wire()),
            workflow_caps: Some(self.workflow_caps.to_wire()),
            workflow_share_percent: self.workflow_share_percent,
            loop_rule: match self.loop_rule {
                LoopRule::Tell => v1::LoopRule::Tell,
                LoopRule::Refuse => v1::LoopRule::Refuse,
                LoopRule::Off => v1::LoopRule::Off,
            }
            .into(),
        }
    }
}

impl RunCaps {
    fn from_wire(wire: Option<v1::RunCaps>) -> Self {
        let wire = wire.unwrap_or_default();
        Self { per_minute: wire.per_minute, per_day: wire.per_day, concurrent: wire.concurrent }
    }

    fn to_wire(self) -> v1::RunCaps {
        v1::RunCaps { per_minute: self.per_minute, per_day: self.per_day, concurrent: self.concurrent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_gives_the_same_rule_back() {
        let caps = RunCaps { per_minute: Some(60), per_day: None, concurrent: Some(0) };
        let rule = AdmissionRule {
            shadow: true,
            overage_max: Some(0),
            grace: Some(Duration::from_secs(86_400)),
            open_at_most: Some(Duration::from_millis(1_500)),
            tenant_caps: caps,
            workflow_caps: RunCaps { per_day: Some(7), ..RunCaps::default() },
            workflow_share_percent: Some(50),
            loop_rule: LoopRule::Refuse,
        };
        assert_eq!(AdmissionRule::from_wire(rule.to_wire()).unwrap(), rule);
        assert_eq!(AdmissionRule::from_wire(v1::AdmissionRule::default()).unwrap(), AdmissionRule::default());
    }

    #[test]
    fn shares_and_times_are_bounded() {
        let share =
            |percent| v1::AdmissionRule { workflow_share_percent: Some(percent), ..Default::default() };
        assert!(AdmissionRule::from_wire(share(0)).is_err());
        assert!(AdmissionRule::from_wire(share(101)).is_err());
        let grace = Some(prost_types::Duration { seconds: 0, nanos: 1 });
        assert!(AdmissionRule::from_wire(v1::AdmissionRule { grace, ..Default::default() }).is_err());
    }
}
