//! The collector against a real Postgres, a real NATS and the sandbox's n8n.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod audits;
mod checks;
mod failures;
mod gaps;
mod growth;
mod harness;
mod lifecycle;
mod limits;
mod many;
mod odd_servers;
mod placements;
mod push;
mod requests;
mod rows;
mod stream_lives;
mod sweeps;
mod unseen;
mod workflows;
