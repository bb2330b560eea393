//! Billing against the real Postgres and NATS, and the sandbox's Stripe.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod confirmation;
mod faults;
mod growth;
mod messages;
mod recovery;
mod refusals;
mod reporting;
mod world;
