//! Private servers: what they keep and what they allow.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail the test")]

mod nats;
mod permissions;
mod postgres;
mod process;
mod proxy;
mod subscribers;
