//! The tenants' usage as metrics: how many are near or over their limit, and how many admitted runs are not
//! counted yet. No tenant has a label of its own; `flowmeter usage` names them.

use std::{sync::Arc, time::Duration};

use catalog::store::CatalogError;
use chassis::Rounds;
use jiff::Timestamp;
use messaging::error_chain;
use metering::Clock;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    directory::snapshot::{Directory, Snapshot},
    store,
    usage::live::UsageView,
};

/// Time between measurements.
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// A tenant is near its limit from this percentage on: n8n's own warning level.
const NEAR_PERCENT: u128 = 80;

/// The labels of `flowmeter_tenants`.
const STATES: [&str; 5] = ["within", "near", "over", "unlimited", "unknown"];

/// Measures the tenants.
pub struct Measure {
    /// The database with the ledgers.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The catalog.
    pub directory: Arc<Directory>,
    /// The counted usage.
    pub usage: Arc<UsageView>,
}

#[derive(Debug, thiserror::Error)]
enum MeasureError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("cannot read the open reservations")]
    Ledger(#[from] sqlx::Error),
}

impl Measure {
    /// Measures until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(MEASURE_INTERVAL, shutdown);
        while rounds.next().await {
            if let Err(error) = self.measure().await {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot measure the tenants, retrying in {} s",
                    MEASURE_INTERVAL.as_secs()
                );
            }
        }
    }

    async fn measure(&self) -> Result<(), MeasureError> {
        let catalog = self.directory.current().await?;
        let now = self.clock.now();
        let mut counts = [0_u32; STATES.len()];
        let mut counted_until = Vec::new();
        for tenant in catalog.tenants.keys() {
            let counted = self.usage.of(tenant).filter(|counted| counted.is_current(now));
            let used = counted.as_ref().map(|counted| counted.totals.counted);
            let state = state(&catalog, tenant, used, now);
            let places = STATES.iter().zip(&mut counts);
            places.filter(|(label, _)| **label == state).for_each(|(_, count)| *count += 1);
            if let Some(until) = counted.and_then(|counted| counted.complete_until) {
                counted_until.push((tenant.as_str(), until));
            }
        }
        for (state, count) in STATES.into_iter().zip(counts) {
            metrics::gauge!("flowmeter_tenants", "usage" => state).set(f64::from(count));
        }
        let open = store::admissions::tallied_since(&self.pool, &counted_until).await?;
        metrics::gauge!("flowmeter_reservations_open")
            .set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
        Ok(())
    }
}

/// A tenant's usage relative to its limit.
fn state(catalog: &Snapshot, tenant: &metering::TenantId, used: Option<u64>, now: Timestamp) -> &'static str {
    let Some((tenant, plan)) = catalog.terms(tenant) else { return "unknown" };
    let Some(limit) = tenant.limit_override_at(now).or(plan.monthly_limit) else { return "unlimited" };
    used.map_or("unknown", |used| level(used, limit))
}

fn level(used: u64, limit: u64) -> &'static str {
    if used >= limit {
        "over"
    } else if u128::from(used) * 100 >= u128::from(limit) * NEAR_PERCENT {
        "near"
    } else {
        "within"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_near_its_limit_from_80_percent_on() {
        for (used, limit, expected) in [
            (79, 100, "within"),
            (80, 100, "near"),
            (99, 100, "near"),
            (100, 100, "over"),
            (0, 0, "over"),
            (u64::MAX - 1, u64::MAX, "near"),
        ] {
            assert_eq!(level(used, limit), expected, "{used} of {limit}");
            assert!(STATES.contains(&expected));
        }
    }
}
