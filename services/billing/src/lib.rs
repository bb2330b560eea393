//! Billing: the billable usage of each tenant becomes meter events at Stripe, each execution in exactly one.
//!
//! - [`ledger`] keeps the books of one tenant and period, and seals what is not reported yet; [`owed`]
//!   decides where its parts go, [`minutes`] when they are sealed.
//! - [`report`] is the life cycle of a sealed report; [`outcome`] is what Stripe may answer.
//! - `record_usage`, `seal_reports`, `send_reports` and `confirm_periods` are the use cases.
//! - `store` holds all SQL, `stripe` is the only file that knows Stripe's library.

mod catalog_changes;
mod confirm_periods;
pub mod decide;
mod events;
pub mod identifier;
pub mod ledger;
pub mod minutes;
pub mod outcome;
pub mod owed;
mod record_usage;
pub mod report;
mod retention;
mod seal_reports;
mod send_reports;
mod service;
mod settings;
mod store;
mod stripe;
pub mod stripe_amount;

pub use retention::Retention;
pub use service::Billing;
pub use settings::Settings;

/// The tables of this service.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
