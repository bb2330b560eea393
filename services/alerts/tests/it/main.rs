//! Alerts against the real database and broker, and a real SMTP conversation with the sandbox.

mod delivery;
mod desk;
mod receipt;
mod trace;
