//! The aggregator counts every execution exactly once, and publishes usage, crossed thresholds and closed
//! periods. It knows no prices, no Stripe and no mail.
//!
//! The path of an execution: `recording::record` claims it by its key and adds it to its period, `periods::thresholds`
//! compares the period with the limit in the same transaction, `periods::publish` publishes the tenant's new usage,
//! `periods::close` closes the period once every source is complete past its end (`periods::progress`).

mod attribution;
mod events;
mod figures;
mod periods;
mod pools;
mod questions;
mod rebuild;
mod recording;
mod retention;
mod rollups;
mod service;
mod settings;
mod store;

pub use chassis::{InvalidKeepFor, KeepFor};
pub use pools::PoolSettings;
pub use rebuild::{Difference, Rebuild, RebuildError};
pub use retention::retire::Dropped;
pub use retention::rounds::Retention;
pub use service::Aggregator;
pub use settings::AggregatorSettings;

/// The aggregator's tables.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
