//! All SQL of billing.

pub mod accounts;
pub mod drifts;
pub mod leases;
pub mod pauses;
pub mod reports;
pub mod retention;

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

fn damaged(what: impl ToString) -> StoreError {
    StoreError::Damaged(what.to_string())
}
