//! The HTTP face of Flowmeter: the catalog's originals, tokens, usage, the limit check, live events and the
//! dashboard. It counts nothing: figures come from the aggregator's messages.

mod accounts;
mod admission;
mod admit;
mod api;
mod change_catalog;
mod directory;
mod follow;
mod forecast;
mod gap_counts;
mod keep_gaps;
mod keep_periods;
mod purge;
mod service;
mod settings;
mod source_audits;
mod sources;
mod store;
mod tokens;
mod usage;
mod wording;

pub use api::openapi;
pub use service::{Gateway, start_on};
pub use settings::GatewaySettings;

/// The gateway's own tables.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
