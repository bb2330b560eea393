//! Plays a known history in a whole stack while everything that can break does, and compares the results with
//! the truth. `cargo xtask chaos` and the whole-stack tests use it.

pub mod asking;
pub mod broker;
pub mod cast;
pub mod compare;
pub mod delays;
pub mod fault;
pub mod gather;
pub mod guests;
pub mod play;
pub mod run;
pub mod script;
pub mod servers;
pub mod strike;
pub mod truth;
pub mod upgrade;

pub use run::{Plan, Verdict, run, run_cluster};
