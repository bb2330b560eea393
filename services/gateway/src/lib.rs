//! The HTTP face of Flowmeter: the catalog's originals, tokens, usage, the limit check, live events and the
//! dashboard. It counts nothing: figures come from the aggregator's messages.

mod accounts;
mod admission;
mod admit;
mod answer_admissions;
mod api;
mod caps;
mod change_catalog;
mod comparison;
mod desk;
mod directory;
mod doubts;
mod follow;
mod forecast;
mod gap_counts;
mod keep_gaps;
mod keep_periods;
mod lease;
mod lookups;
mod loop_allowance;
mod loops;
mod measure;
mod pairs;
mod parts;
mod placements;
mod preview;
mod purge;
mod refusals;
mod remembered;
mod restate;
mod run_key;
mod service;
mod settings;
mod settle;
mod shares;
mod source_audits;
mod sources;
mod store;
mod tallies;
mod tokens;
mod usage;
mod wording;
mod write_down;

pub use api::openapi;
pub use purge::{PurgeError, round as purge_round};
pub use service::{Gateway, start_on};
pub use settings::GatewaySettings;

/// The gateway's own tables.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
