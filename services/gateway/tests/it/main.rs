//! The gateway over real HTTP, against the real Postgres and the real NATS.

mod admissions;
mod auth;
mod catalog_api;
mod support;
mod usage;
