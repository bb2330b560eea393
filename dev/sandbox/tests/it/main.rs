//! The sandbox from outside: its answers against the recordings of the real services, and its behaviour over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod control;
mod harness;
mod mail;
mod n8n_behaviour;
mod n8n_recordings;
mod otlp;
mod state;
mod stripe_faults;
mod stripe_rules;
mod stripe_schema;
