//! The whole stack, as an operator runs it: five service processes, a real Postgres, a real NATS, and the
//! sandbox for external systems. Each test has a stack of its own.
//!
//! `cargo xtask test` starts the servers and builds the binaries. Logs stay in `.flowmeter/whole/<test>/logs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends here"
)]

mod archive;
mod bad_input;
mod catalog;
mod chaos;
mod cluster;
mod crash;
mod dependencies;
mod harness;
mod logs;
mod metrics;
mod period_end;
mod questions;
mod replicas;
mod trace;
