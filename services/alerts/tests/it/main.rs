//! Alerts against the real database and broker, and a real SMTP conversation with the sandbox.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod delivery;
mod growth;
mod harness;
mod operator;
mod paced;
mod receipt;
mod recipients;
mod set_aside;
mod trace;
