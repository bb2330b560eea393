//! One `ThresholdCrossed` per tenant, period, rule and threshold. The table's key decides, so neither a crash
//! nor a race can say it twice; a raised limit arms again what is no longer crossed.

use catalog::{Plan, Tenant};
use jiff::Timestamp;
use metering::{Percent, Period};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store;

/// The only rule so far: counted executions against the plan's monthly limit.
pub(crate) const MONTHLY_EXECUTIONS: &str = "monthly-executions";

/// Makes crossing ids; any fixed value will do, and this one must never change.
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
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) crossed_at: Timestamp,
}

/// Compares a period with the limit that holds now. Returns what has been crossed since the last look; the
/// caller puts it into the outbox of the same transaction.
pub(crate) async fn evaluate(
    connection: &mut PgConnection,
    tenant_number: i32,
    tenant: &Tenant,
    plan: &Plan,
    period: Period,
    now: Timestamp,
) -> Result<Vec<Crossing>, sqlx::Error> {
    let counted = store::totals(connection, tenant_number, period).await?.counted;
    let (used, limit) = (u64::try_from(counted).unwrap_or(0), plan.limit_for(tenant, now));
    let reached = reached(plan, tenant, counted, now);
    store::rearm(connection, tenant_number, period, MONTHLY_EXECUTIONS, &reached, now).await?;
    let mut crossings = Vec::new();
    for threshold in reached {
        let arming = store::armings(connection, tenant_number, period, MONTHLY_EXECUTIONS, threshold).await?;
        let crossing = Crossing {
            crossing_id: crossing_id(&tenant.id, period, threshold, arming),
            tenant: tenant.id.to_string(),
            plan: plan.id.to_string(),
            period,
            rule: MONTHLY_EXECUTIONS,
            threshold,
            limit: limit.unwrap_or_default(),
            used,
            crossed_at: now,
        };
        if store::cross(connection, tenant_number, &crossing, arming).await? {
            crossings.push(crossing);
        }
    }
    Ok(crossings)
}

/// The thresholds that so many counted executions reach, under the limit that holds now.
pub(crate) fn reached(plan: &Plan, tenant: &Tenant, counted: i64, now: Timestamp) -> Vec<Percent> {
    let used = u64::try_from(counted).unwrap_or(0);
    let limit = plan.limit_for(tenant, now);
    limit.map(|limit| metering::crossed(&plan.thresholds, used, limit)).unwrap_or_default()
}

/// The same for the same crossing, also if the database were rebuilt.
fn crossing_id(tenant: &metering::TenantId, period: Period, threshold: Percent, arming: i32) -> Uuid {
    let name = format!("{tenant}/{}/{MONTHLY_EXECUTIONS}/{}/{arming}", period.start, threshold.get());
    Uuid::new_v5(&CROSSING_IDS, name.as_bytes())
}
