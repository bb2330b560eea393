//! Stores which calendar applies to a tenant's periods from when. A period's bounds are facts: a changed
//! calendar applies from the end of the current period, and only an operator can end that one sooner
//! (`end_period.rs`).

use catalog::{Tenant, store::CatalogError};
use jiff::Timestamp;
use messaging::error_chain;
use metering::{Calendar, Timeline};
use sqlx::{PgConnection, PgPool};

use crate::store;

/// Tenants of one transaction at the first start of this version: bounds how long it locks them.
const TENANTS_PER_STEP: i64 = 500;

/// Sets a tenant's calendar. The caller holds the tenant's lock, and raises the catalog's version in the same
/// transaction.
pub(crate) async fn set(
    connection: &mut PgConnection,
    number: i32,
    calendar: &Calendar,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let kept = store::timeline(&mut *connection, number).await?;
    let opened_until = store::opened_until(connection, number).await?;
    let timeline = match (kept, opened_until) {
        // Nothing has been counted or published yet.
        (_, None) => Timeline::new(calendar.clone()),
        (Some(mut timeline), Some(_)) => {
            if !timeline.set(calendar, now, opened_until) {
                return Ok(());
            }
            timeline
        }
        // Not written since the upgrade: its periods keep their bounds.
        (None, Some(_)) => {
            Timeline::of_rows(calendar.clone(), &store::period_rows(connection, number).await?)
        }
    };
    store::put_timeline(connection, number, &timeline).await
}

/// Writes the timelines of tenants that have none: those of the version before. Their periods keep their
/// bounds. A tenant that the catalog does not have, or whose entry cannot be read, gets one when its entry
/// arrives.
pub(crate) async fn write_missing(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut after = 0;
    loop {
        let mut transaction = pool.begin().await?;
        let tenants = store::without_timeline(&mut transaction, after, TENANTS_PER_STEP).await?;
        let Some((last, _)) = tenants.last() else { return Ok(()) };
        after = *last;
        for (number, id) in tenants {
            let tenant: Tenant = match catalog::store::find(&mut *transaction, &id).await {
                Ok(Some(tenant)) => tenant,
                Ok(None) => continue,
                Err(CatalogError::Database(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        tenant = id,
                        error = error_chain(&error),
                        "cannot read the tenant's catalog entry; its calendar is stored with the next one"
                    );
                    continue;
                }
            };
            let rows = store::period_rows(&mut transaction, number).await?;
            store::put_timeline(&mut transaction, number, &Timeline::of_rows(tenant.calendar, &rows)).await?;
        }
        store::raise_catalog_version(&mut transaction).await?;
        transaction.commit().await?;
    }
}
