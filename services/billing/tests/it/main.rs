//! Billing against the real Postgres and NATS, and the sandbox's Stripe.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod beginning;
mod catalog_order;
mod confirmation;
mod connections;
mod damage;
mod faults;
mod growth;
mod harness;
mod many_tenants;
mod messages;
mod month_end;
mod owed;
mod recovery;
mod refusals;
mod reporting;
