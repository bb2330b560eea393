//! Publishing, consuming, the outbox and dead letters on NATS JetStream.
//!
//! - [`Bus`] publishes with a deterministic message id, the W3C trace context and the event time.
//! - [`consume`] runs a handler per message: acknowledged after it returns, so after its commit; retried with
//!   backoff; dead-lettered with its reason when no retry can help.
//! - [`intake`] takes many messages at once, for a service that handles them in one transaction.
//! - [`ask`] asks another service one question and gets one answer, for what needs no stream.
//! - [`outbox`] publishes what a transaction has decided, if and only if it committed.

mod address;
pub mod ask;
mod backoff;
mod bus;
pub mod consume;
pub mod dead;
mod disposition;
mod error_chain;
pub mod follow;
pub mod intake;
mod isolation;
mod life;
pub mod outbox;
mod outgoing;
mod patience;
mod place;
mod settle;
mod streams;
pub mod trace;
mod waits;

pub use address::{AddressError, check_brokers};
pub use ask::{Answerer, AskError, Refusal};
pub use backoff::doubling;
pub use bus::{Bus, BusConfig, ConnectError, PublishError};
pub use consume::{Delivery, Handler};
pub use disposition::{Dispose, Disposition};
pub use error_chain::error_chain;
pub use intake::{InHand, Intake};
pub use life::{Life, LifeError};
pub use outgoing::Outgoing;
pub use patience::PATIENCE;
pub use streams::{FULL_WARN_RATIO, StreamError};
pub use waits::Waits;

/// The tables that this crate needs in a service's schema.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
