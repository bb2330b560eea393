//! What a catalog change means for billing: since when a tenant is billed, and where its usage goes.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{CatalogKind, Change, OnChange, Plan, Tenant, store::CatalogError};
use jiff::Timestamp;
use messaging::error_chain;
use metering::{Clock, TenantId};
use sqlx::{PgConnection, PgPool};

use crate::{
    identifier::Destination,
    owed::bind,
    store::{StoreError, destinations, ledgers, owed, pauses},
};

/// Follows customers and meters.
pub struct CatalogChanges {
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl OnChange for CatalogChanges {
    async fn changed(&self, connection: &mut PgConnection, change: &Change) -> Result<(), CatalogError> {
        self.changed_at(connection, change, None).await
    }

    async fn changed_at(
        &self,
        connection: &mut PgConnection,
        change: &Change,
        occurred_at: Option<Timestamp>,
    ) -> Result<(), CatalogError> {
        let now = self.clock.now();
        // A change that is read late took effect when it was made.
        let at = occurred_at.unwrap_or(now).min(now);
        match change {
            Change::Tenant(tenant) => {
                // Without the plan the meter is unknown; the plan's own message will follow.
                let plan: Option<Plan> = catalog::store::find(&mut *connection, tenant.plan.as_str()).await?;
                if let Some(plan) = plan {
                    follow(connection, tenant, &plan, at, now).await?;
                }
                ledgers::seal_all_at(connection, &tenant.id, now).await?;
            }
            Change::Plan(plan) => {
                for tenant in readable_tenants(&mut *connection).await? {
                    if tenant.plan == plan.id {
                        follow(connection, &tenant, plan, at, now).await?;
                    }
                }
            }
            Change::Removed { kind: CatalogKind::Tenant, id } => {
                if let Ok(tenant) = TenantId::parse(id) {
                    // What it owes is reported at once, to its last destination.
                    destinations::end(connection, &tenant, at).await?;
                    ledgers::seal_all_at(connection, &tenant, now).await?;
                }
            }
            Change::Source(_) | Change::Removed { .. } => {}
        }
        Ok(())
    }
}

/// Records the destinations of tenants that were in the catalog before billing recorded any.
pub async fn catch_up(pool: &PgPool, now: Timestamp) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    for tenant in readable_tenants(&mut connection).await? {
        let plan = catalog::store::find::<Plan>(&mut *connection, tenant.plan.as_str()).await;
        match plan {
            Ok(Some(plan)) => {
                let mut transaction = sqlx::Connection::begin(&mut *connection).await?;
                follow(&mut transaction, &tenant, &plan, now, now).await?;
                transaction.commit().await?;
            }
            Ok(None) => {}
            Err(CatalogError::Database(error)) => return Err(error.into()),
            Err(error) => {
                tracing::error!(
                    tenant = %tenant.id, error = error_chain(&error),
                    "cannot read a tenant's plan, so its customer and meter are not recorded"
                )
            }
        }
    }
    Ok(())
}

/// Puts the tenant's customer and meter in force. Unsealed usage from before is owed to the former ones.
async fn follow(
    connection: &mut PgConnection,
    tenant: &Tenant,
    plan: &Plan,
    at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let names = tenant.stripe_customer.clone().zip(plan.meter_event_name.clone());
    let next = names.map(|(customer, event_name)| Destination { customer, event_name });
    let replaced = destinations::replace(connection, &tenant.id, next.as_ref(), at).await?;
    let Some(replaced) = replaced else { return Ok(()) };
    if let Some(former) = &replaced.former {
        bind_to(connection, &tenant.id, former, replaced.since).await?;
    }
    ledgers::seal_all_at(connection, &tenant.id, now).await
}

/// Unsealed usage up to `since` is owed to `former`.
async fn bind_to(
    connection: &mut PgConnection,
    tenant: &TenantId,
    former: &Destination,
    since: Timestamp,
) -> Result<(), StoreError> {
    // A meter that Stripe does not have was a mistake: its correction covers unsealed usage, too.
    if pauses::is_meter_paused(&mut *connection, &former.event_name).await? {
        return Ok(());
    }
    for ledger in ledgers::lock_owing(connection, tenant).await? {
        // A period that had ended keeps the destination it had at its end.
        if ledger.period.contains(since) {
            let mut parts = owed::list(connection, &ledger).await?;
            bind(&mut parts, ledger.billable_total, former);
            owed::put(connection, &ledger, &parts).await?;
        }
    }
    Ok(())
}

/// All tenants; an unreadable one is logged and skipped.
async fn readable_tenants(connection: &mut PgConnection) -> Result<Vec<Tenant>, sqlx::Error> {
    let mut tenants = Vec::new();
    for tenant in catalog::store::list_each::<Tenant>(connection).await? {
        match tenant {
            Ok(tenant) => tenants.push(tenant),
            Err(error) => {
                tracing::error!(
                    error = error_chain(&error),
                    "cannot read a tenant of the catalog, skipping it"
                )
            }
        }
    }
    Ok(tenants)
}
