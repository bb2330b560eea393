//! All SQL of billing.

pub mod destinations;
pub mod drifts;
pub mod leases;
pub mod ledgers;
pub mod owed;
pub mod pauses;
pub mod reports;
pub mod retention;

use catalog::{InvalidEntry, store::CatalogError};
use messaging::{Dispose, Disposition};

/// The books cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("cannot reach the books")]
    Database(#[from] sqlx::Error),
    /// A stored value is not what it should be.
    #[error("the books are damaged: {0}")]
    Damaged(String),
}

impl Dispose for StoreError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Database(error) => error.disposition(),
            Self::Damaged(_) => Disposition::Retry,
        }
    }
}

/// For what billing does when the catalog changes.
impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => Self::Database(error),
            StoreError::Damaged(what) => {
                let source = InvalidEntry::field("account", what.clone());
                Self::Damaged { kind: "account", id: what, source }
            }
        }
    }
}

fn damaged(what: impl ToString) -> StoreError {
    StoreError::Damaged(what.to_string())
}
