//! The aggregator counts every execution exactly once, and publishes usage, crossed thresholds and closed
//! periods. It knows no prices, no Stripe and no mail.
//!
//! The path of an execution: [`record`] claims it by its key and adds it to its period, [`thresholds`]
//! compares the period with the limit in the same transaction, [`publish`] publishes the tenant's new usage,
//! [`close`] closes the period once every source is complete past its end ([`progress`]).

mod admitted;
mod answer_recorded;
mod answer_unmapped;
mod answer_usage;
mod answer_workflows;
mod asked;
mod attribution;
mod calendars;
mod close;
mod contradictions;
mod correct;
mod decide;
mod directory;
mod durations;
mod end_period;
mod explain;
mod fold;
mod intake;
mod leases;
mod map_unmapped;
mod memory;
mod parcel;
mod pools;
mod progress;
mod publish;
mod rebuild;
mod record;
mod restate;
mod retention;
mod retire;
mod rollup;
mod service;
mod settings;
mod store;
mod tally;
mod thresholds;
mod totals;
mod unfolded;
mod wire;
mod word;
mod write;

pub use chassis::{InvalidKept, Kept};
pub use pools::PoolSettings;
pub use rebuild::{Difference, Rebuild, RebuildError};
pub use retention::Retention;
pub use retire::Dropped;
pub use service::Aggregator;
pub use settings::AggregatorSettings;

/// The aggregator's tables.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
