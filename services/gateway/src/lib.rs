//! The HTTP face of Flowmeter: the catalog's originals, tokens, usage, the limit check, live events and the
//! dashboard. It counts nothing: figures come from the aggregator's messages.

mod access;
mod admission;
mod api;
mod directory;
mod measure;
mod purge;
mod service;
mod settings;
mod sources;
mod store;
mod usage;

pub use api::openapi;
pub use purge::{PurgeError, round as purge_round};
pub use service::{Gateway, start_on};
pub use settings::GatewaySettings;

/// The gateway's own tables.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
