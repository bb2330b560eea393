//! Turns crossed thresholds into mails to the tenant's recipients, and problems into mails to the operator's:
//! each once to each recipient.
//!
//! [`record`] records who is to be notified, once, when a crossing arrives. [`gather`] collects what concerns
//! the operator, and [`seal`] makes mails of it. [`deliver`] sends what is due until it is accepted or given
//! up. See the README for what this service owns.

mod alert;
mod cause;
mod crossing;
pub mod deliver;
mod fact;
pub mod gather;
mod mail_body;
mod notice;
mod notice_phrases;
mod notification;
pub mod pace;
mod phrases;
pub mod record;
mod refused_mail;
mod retention;
pub mod schedule;
pub mod seal;
mod service;
mod settings;
mod smtp;
pub mod store;

pub use alert::Alert;
pub use cause::Cause;
pub use crossing::{Crossing, InvalidCrossing};
pub use fact::{Fact, InvalidFact, SETTLE, SPACING, Topic};
pub use mail_body::MailBody;
pub use notice::{Notice, Sealed};
pub use notification::{Event, MessageId, State};
pub use refused_mail::{Refusal, RefusedMail};
pub use retention::Retention;
pub use service::{Alerts, MIGRATOR};
pub use settings::Settings;
pub use smtp::{Mailer, SendError};
