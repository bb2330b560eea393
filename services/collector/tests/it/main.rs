//! The collector against a real Postgres, a real NATS and the sandbox's n8n.

mod failures;
mod gaps;
mod lifecycle;
mod rows;
mod stage;
mod sweeps;
