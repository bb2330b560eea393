//! Follows the catalog: a new or changed source is due at once, a paused or removed one is left alone.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{CatalogKind, Change, OnChange, store::CatalogError};
use metering::Clock;
use sqlx::PgConnection;

use crate::store::{self, Activity};

/// Keeps the schedule in step with the catalog, in the transaction that changes the copy.
pub struct FollowCatalog {
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl OnChange for FollowCatalog {
    async fn changed(&self, connection: &mut PgConnection, change: &Change) -> Result<(), CatalogError> {
        let (source, activity) = match change {
            Change::Source(source) if source.paused => (source.id.as_str(), Activity::Resting),
            Change::Source(source) => (source.id.as_str(), Activity::Active),
            Change::Removed { kind: CatalogKind::Source, id } => (id.as_str(), Activity::Resting),
            Change::Tenant(_) | Change::Plan(_) | Change::Removed { .. } => return Ok(()),
        };
        Ok(store::set_activity(connection, source, activity, self.clock.now()).await?)
    }
}
