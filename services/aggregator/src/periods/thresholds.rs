//! One `ThresholdCrossed` per tenant, period, rule and threshold. A unique index decides, so neither a crash
//! nor a race can publish it twice. A raised limit rearms thresholds that are no longer crossed.

use catalog::{Plan, Tenant};
use jiff::{SignedDuration, Timestamp};
use metering::{Percent, Period, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store;

/// The only rule so far: counted executions against the plan's monthly limit.
pub(crate) const MONTHLY_EXECUTIONS: &str = "monthly-executions";

/// The namespace of crossing ids: an arbitrary value that must never change.
const CROSSING_IDS: Uuid = Uuid::from_u128(0x6f6c_9e4a_51c0_4d8e_9a63_0f1d_7b2a_c455);

/// A threshold that has just been crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) crossing_id: Uuid,
    pub(crate) tenant: String,
    pub(crate) plan: String,
    pub(crate) period: Period,
    pub(crate) rule: &'static str,
    pub(crate) threshold: Percent,
    /// The highest threshold that the same change has crossed.
    pub(crate) highest: Percent,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) crossed_at: Timestamp,
}

/// The plan, limit and thresholds that a period is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) plan: String,
    /// `None` is no limit.
    pub(crate) limit: Option<u64>,
    pub(crate) thresholds: Vec<Percent>,
}

impl Terms {
    /// The terms in force for a tenant at an instant.
    pub(crate) fn at(plan: &Plan, tenant: &Tenant, instant: Timestamp) -> Self {
        Self {
            plan: plan.id.to_string(),
            limit: plan.limit_for(tenant, instant),
            thresholds: plan.thresholds.clone(),
        }
    }

    /// The terms that a period is compared with at `now`: the present ones while it is current; the last ones
    /// in force (`kept`) once it has ended, for as long as it may wait for its sources. A period that ended
    /// so long ago that it is closed or about to close is not compared: the past months of a new source must
    /// not cause warnings.
    pub(crate) fn of_period(
        kept: Option<Self>,
        plan: Option<&Plan>,
        tenant: &Tenant,
        period: Period,
        now: Timestamp,
        grace: SignedDuration,
    ) -> Option<Self> {
        if period.contains(now) {
            return plan.map(|plan| Self::at(plan, tenant, now));
        }
        let waits_until = period.end.saturating_add(grace).unwrap_or(Timestamp::MAX);
        if now < period.start || now >= waits_until {
            return None;
        }
        let last = period.end.saturating_sub(SignedDuration::from_micros(1)).unwrap_or(period.end);
        kept.or_else(|| plan.map(|plan| Self::at(plan, tenant, last)))
    }

    /// The thresholds that this many counted executions reach.
    pub(crate) fn reached(&self, counted: i64) -> Vec<Percent> {
        let used = u64::try_from(counted).unwrap_or(0);
        self.limit.map(|limit| metering::crossed(&self.thresholds, used, limit)).unwrap_or_default()
    }
}

/// Compares a period with its terms. Returns the new crossings; the caller puts them into the outbox in the
/// same transaction.
pub(crate) async fn evaluate(
    connection: &mut PgConnection,
    tenant_number: i32,
    tenant: &TenantId,
    terms: &Terms,
    period: Period,
    now: Timestamp,
) -> Result<Vec<Crossing>, sqlx::Error> {
    let counted = store::totals(connection, tenant_number, period).await?.counted;
    let used = u64::try_from(counted).unwrap_or(0);
    let reached = terms.reached(counted);
    store::rearm(connection, tenant_number, period, MONTHLY_EXECUTIONS, &reached, now).await?;
    let mut crossings = Vec::new();
    for threshold in reached {
        let arming = store::armings(connection, tenant_number, period, MONTHLY_EXECUTIONS, threshold).await?;
        let crossing = Crossing {
            crossing_id: crossing_id(tenant, period, threshold, arming),
            tenant: tenant.to_string(),
            plan: terms.plan.clone(),
            period,
            rule: MONTHLY_EXECUTIONS,
            threshold,
            highest: threshold,
            limit: terms.limit.unwrap_or_default(),
            used,
            crossed_at: now,
        };
        if store::cross(connection, tenant_number, &crossing, arming).await? {
            crossings.push(crossing);
        }
    }
    if let Some(highest) = crossings.iter().map(|crossing| crossing.threshold).max() {
        for crossing in &mut crossings {
            crossing.highest = highest;
        }
    }
    Ok(crossings)
}

/// The same for the same crossing, even in a rebuilt database.
fn crossing_id(tenant: &TenantId, period: Period, threshold: Percent, arming: i32) -> Uuid {
    let name = format!("{tenant}/{}/{MONTHLY_EXECUTIONS}/{}/{arming}", period.start, threshold.get());
    Uuid::new_v5(&CROSSING_IDS, name.as_bytes())
}
