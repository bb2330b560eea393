//! What a change of the catalog means for billing.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Change, OnChange, store::CatalogError};
use metering::Clock;
use sqlx::PgConnection;

use crate::store::accounts;

/// A corrected customer or meter lets what was refused be reported again at once.
pub struct CatalogChanges {
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl OnChange for CatalogChanges {
    async fn changed(&self, connection: &mut PgConnection, change: &Change) -> Result<(), CatalogError> {
        let now = self.clock.now();
        match change {
            Change::Tenant(tenant) => accounts::seal_all_at(connection, Some(&tenant.id), now).await?,
            Change::Plan(_) => accounts::seal_all_at(connection, None, now).await?,
            Change::Source(_) | Change::Removed { .. } => {}
        }
        Ok(())
    }
}
