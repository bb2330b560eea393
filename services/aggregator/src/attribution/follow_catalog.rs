//! Which tenants a source's executions may belong to, by the catalog. A change of plan or limit is news for
//! the tenant: its thresholds are compared again. A changed calendar applies from its next period.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{CatalogKind, Change, OnChange, store::CatalogError};
use metering::Clock;
use sqlx::PgConnection;

use crate::{periods::calendars, store};

/// Follows the catalog.
pub(crate) struct Attribution {
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl OnChange for Attribution {
    async fn changed(&self, connection: &mut PgConnection, change: &Change) -> Result<(), CatalogError> {
        match change {
            Change::Tenant(tenant) => {
                // Sources are locked before tenants, as everywhere.
                store::map_again_for_tenant(connection, tenant.id.as_str()).await?;
                let number = store::put_tenant(connection, tenant).await?;
                calendars::set(connection, number, &tenant.calendar, self.clock.now()).await?;
            }
            Change::Plan(plan) => {
                store::map_again_for_plan(connection, plan.id.as_str()).await?;
                store::touch_tenants_of_plan(connection, plan.id.as_str()).await?;
            }
            Change::Source(source) => store::put_source(connection, source).await?,
            Change::Removed { kind: CatalogKind::Source, id } => {
                store::deactivate_source(connection, id).await?;
            }
            // Its figures stay; its open period closes in time.
            Change::Removed { .. } => {}
        }
        store::raise_catalog_version(connection).await?;
        Ok(())
    }
}
