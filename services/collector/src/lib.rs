//! Collects the executions of n8n instances: completely, and each in its current state. See `README.md` for
//! what the service owns, and `sweep::pass` for the argument that nothing is lost.

mod audit;
mod checks;
mod events;
mod expiry;
mod measure;
mod n8n;
mod push;
mod schedule;
mod service;
mod settings;
mod store;
mod sweep;

pub use expiry::Expiry;
pub use service::{Collector, start_on};
pub use settings::Settings;

/// The tables of the collector.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
