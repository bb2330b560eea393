//! The aggregator on the real Postgres and the real NATS.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on ends here"
)]

mod archive;
mod attribution;
mod authority;
mod bad_input;
mod calendars;
mod cloud_events;
mod connections;
mod corrections;
mod counting;
mod figures;
mod growth;
mod harness;
mod history;
mod lives;
mod periods;
mod rebuild;
mod retention;
mod rollover;
mod thresholds;
mod unfolded;
mod upgrade;
