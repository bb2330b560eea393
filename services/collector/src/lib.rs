//! Collects the executions of n8n instances: completely, and each in its current state. See `README.md` for
//! what the service owns, and [`sweep`] for the argument that nothing is lost.

mod activity;
mod address;
mod audit;
mod checks;
mod clock_skew;
mod collect;
mod comparison;
mod cursor;
mod epochs;
mod expiry;
mod failure;
mod far_ids;
mod instances;
mod json;
mod limits;
mod measure;
mod n8n;
mod pace;
mod pages;
mod placement;
mod publish;
mod push;
mod receive;
mod refusals;
mod replay;
mod retention;
mod row;
mod schedule;
mod senders;
mod service;
mod settings;
mod store;
mod stream_life;
mod sweep;
mod unseen;
mod workflow;
mod workflows;

pub use expiry::Expiry;
pub use service::{Collector, start_on};
pub use settings::Settings;

/// The tables of the collector.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
