//! Stand-ins for external systems: n8n, Stripe, a mail server and an OTLP collector. They speak the real protocols, so
//! that the services see no difference, and they run on a simulated clock.
//!
//! The same sandbox serves as a process (`flowmeter-sandbox`) and as a library in a test:
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! use sandbox::n8n::Runs;
//! use sandbox::{Sandbox, SandboxOptions};
//!
//! let sandbox = Sandbox::start(SandboxOptions::default()).await?;
//! sandbox.n8n("north").run(&Runs::of("orderSync").count(300))?;
//! let base = sandbox.n8n_url("north"); // with the key "key-north"
//! # let _ = base;
//! # Ok(())
//! # }
//! ```

mod changes;
mod clock;
mod connection;
mod control;
mod demo;
mod faults;
pub mod mail;
pub mod n8n;
pub mod otlp;
mod server;
mod snapshot;
pub mod stripe;

pub use clock::SandboxClock;
pub use demo::DemoError;
pub use server::{Sandbox, SandboxError, SandboxOptions};
pub use snapshot::SnapshotError;
