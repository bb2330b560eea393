//! The gateway over real HTTP, against the real Postgres and the real NATS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends here"
)]

mod admissions;
mod auth;
mod catalog_api;
mod doubts;
mod figures;
mod leases;
mod relay;
mod restores;
mod rules;
mod streams;
mod support;
mod upgrade;
mod usage;
mod verdicts;
