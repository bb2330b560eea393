//! Everything Flowmeter needs on one machine: a private Postgres and NATS, the sandbox and the five services
//! as child processes, found or installed, started, watched and stopped. `xtask` and the whole-stack tests use it.
//!
//! It blocks, and its dependencies are few, so that `cargo xtask` is ready soon after a clone. It knows the
//! services by their binaries and their HTTP faces only, as an operator does.

pub mod api;
pub mod backing;
pub mod cpu;
pub mod database;
pub mod face_ports;
pub mod install;
pub mod keys;
pub mod memory;
pub mod nats;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod project;
pub mod proxy;
pub mod replica;
pub mod services;
pub mod wait;

pub use api::Api;
pub use backing::Backing;
pub use face_ports::FacePorts;
pub use process::Process;
pub use project::{Profile, Project};
pub use proxy::Proxy;
pub use replica::Replica;
pub use services::{Program, Stack};
