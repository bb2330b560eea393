//! The gateway over real HTTP, against the real Postgres and the real NATS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends here"
)]

mod admissions;
mod archive;
mod attributed;
mod auth;
mod base_path;
mod catalog_api;
mod comparison;
mod connections;
mod document;
mod doubts;
mod figures;
mod growth;
mod harness;
mod leases;
mod loop_bursts;
mod one_decision;
mod played;
mod quotas;
mod refusals;
mod relay;
mod restores;
mod rules;
mod strangers;
mod streams;
mod time_zones;
mod twice;
mod upgrade;
mod usage;
mod verdicts;
