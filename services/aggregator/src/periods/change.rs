//! What follows from changed figures of periods: a new revision, late usage, crossed thresholds.

use catalog::{Plan, Tenant, store::CatalogError};
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, Outgoing};
use metering::Period;
use sqlx::PgConnection;

use crate::{
    events,
    periods::thresholds::{self, Terms},
    store,
};

/// Gives the tenant a new revision after figures of these periods changed. Returns the messages: late usage
/// of closed periods, crossed thresholds of the others. The caller holds the tenant's lock.
pub(crate) async fn messages(
    connection: &mut PgConnection,
    bus: &Bus,
    (number, tenant, is_archived): (i32, &Tenant, bool),
    periods: &[Period],
    (now, grace): (Timestamp, SignedDuration),
) -> Result<Vec<Outgoing>, CatalogError> {
    let revision = store::next_revision(connection, number).await?;
    let plan: Option<Plan> = catalog::store::find(&mut *connection, tenant.plan.as_str()).await?;
    let mut messages = Vec::new();
    for row in store::ensure_periods(connection, number, &periods.iter().copied().collect(), now).await? {
        if row.closed {
            let totals = store::totals(connection, number, row.period).await?;
            let namespace = bus.namespace();
            messages.extend(events::late_usage(
                namespace,
                tenant.id.as_str(),
                row.period,
                revision,
                &totals,
                now,
            ));
        }
        let terms = Terms::of_period(row.terms, plan.as_ref(), tenant, row.period, now, grace);
        // Nobody is warned about an archived tenant.
        if let Some(terms) = terms.filter(|_| !row.closed && !is_archived) {
            let crossed =
                thresholds::evaluate(connection, number, &tenant.id, &terms, row.period, now).await?;
            messages.extend(
                crossed.iter().flat_map(|crossing| events::threshold_crossed(bus.namespace(), crossing)),
            );
        }
    }
    Ok(messages)
}
