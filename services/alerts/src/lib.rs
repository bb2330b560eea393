//! Turns crossed thresholds into mails to the tenant's recipients: each crossing is told once to each of them.
//!
//! [`record`] writes down who is to be told what, once, when a crossing arrives; [`deliver`] sends what is due
//! until it is taken or given up. See the README for what this service owns.

mod alert;
mod crossing;
pub mod deliver;
mod letter;
mod locale;
mod notification;
mod phrases;
pub mod record;
pub mod schedule;
mod service;
mod settings;
mod smtp;
pub mod store;

pub use alert::Alert;
pub use crossing::{Crossing, InvalidCrossing};
pub use letter::Letter;
pub use notification::{Event, MessageId, State};
pub use service::{Alerts, MIGRATOR};
pub use settings::Settings;
pub use smtp::{Mailer, SendError};
