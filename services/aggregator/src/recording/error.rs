//! Why a message cannot be recorded, and what then becomes of it.

use catalog::store::CatalogError;
use messaging::{Dispose, Disposition, PublishError};
use metering::{PlanId, SourceId, TenantId};

/// A message cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("source {0} is not in the catalog; add it, then replay")]
    UnknownSource(SourceId),
    #[error("tenant {0} is not in the catalog; add it, then replay")]
    UnknownTenant(TenantId),
    #[error("plan {0} is not in the catalog; add it, then replay")]
    UnknownPlan(PlanId),
    #[error("a tenant's calendar changed in the meantime")]
    CalendarChanged,
    #[error("cannot read the catalog")]
    Catalog(#[from] CatalogError),
    #[error("cannot write the executions")]
    Database(#[from] sqlx::Error),
    #[error("cannot dead-letter unreadable executions")]
    DeadLetter(#[from] PublishError),
}

impl Dispose for RecordError {
    fn disposition(&self) -> Disposition {
        match self {
            // The catalog entry may still arrive.
            Self::UnknownSource(_)
            | Self::UnknownTenant(_)
            | Self::UnknownPlan(_)
            | Self::CalendarChanged => Disposition::Retry,
            Self::Catalog(error) => error.disposition(),
            Self::Database(error) => error.disposition(),
            Self::DeadLetter(error) => error.disposition(),
        }
    }
}

impl RecordError {
    /// Whether the next attempt may succeed because memory was stale: an id that exists after all, a month
    /// that was dropped, or a calendar that changed since it was read.
    pub(crate) fn is_stale(&self) -> bool {
        if matches!(self, Self::CalendarChanged) {
            return true;
        }
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("23505" | "23514"))
    }
}
