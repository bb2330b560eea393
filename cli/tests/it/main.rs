//! The command line as a person runs it: the built binary against the real broker, and against a fake
//! gateway.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod apply;
mod billing;
mod command;
mod dead;
mod gateway;
mod probes;
mod topics;
mod watch;
