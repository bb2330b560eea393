//! Warnings about a source apart from its executions: a wrong clock, a push token that several n8n share.
//! May use `store`.

pub mod check;
pub mod clock_skew;
pub mod instances;
pub mod senders;
pub mod standing;
