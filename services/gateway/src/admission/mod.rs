//! The limit check: may this run start? Decisions are made in memory under a lease and in the ledger, and every unit is given once.
//! `admissions` is the way in, `decision` holds the rules, `settlement` applies them to what the ledger knows.
//! May use `directory`, `usage::live` and `store`; knows nothing of HTTP.

pub mod admissions;
pub mod answer;
pub mod decision;
pub mod id_lookup;
pub mod known;
pub mod lease_size;
pub mod ledger;
pub mod loop_allowance;
pub mod loop_detection;
pub mod message;
pub mod placements;
pub mod preview;
pub mod rate_caps;
pub mod refusals;
pub mod resources;
pub mod resweep;
pub mod run_key;
pub mod settlement;
pub mod stored;
pub mod tallies;
pub mod tenant_lease;
pub mod unwritten;
pub mod verdict;
pub mod verdict_cache;
pub mod write_behind;
