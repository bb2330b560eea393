//! Everything Flowmeter needs on one machine: finds or installs, starts, watches and stops a private Postgres and NATS,
//! the sandbox and the five services, as child processes. The tasks and the whole-stack tests use it.
//!
//! Its calls block and its dependencies are few, so that `cargo xtask` builds quickly after a clone. Like an
//! operator, it knows the services only by their binaries and their HTTP APIs.

pub mod api;
pub mod backing;
pub mod binaries;
pub mod cluster;
pub mod cpu;
pub mod database;
pub mod demo;
pub mod face_ports;
pub mod install;
pub mod interrupt;
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
pub use interrupt::Interrupt;
pub use process::Process;
pub use project::{Profile, Project};
pub use proxy::Proxy;
pub use replica::Replica;
pub use services::{Program, Stack};
