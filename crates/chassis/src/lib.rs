//! What every service has: configuration, telemetry, the clock, database, broker, health and metrics,
//! start-up and a shutdown that finishes the work in progress. A service that starts before its database or
//! its broker waits for them, alive and not ready; only a configuration that has to be changed ends it.
//! Services differ only by their [`Service`] implementation:
//!
//! ```ignore
//! fn main() -> ExitCode { chassis::run::<Aggregator>() }
//! ```

mod bearer;
mod clock;
mod context;
mod copy;
mod database;
mod database_error;
mod keep_for;
mod keepalive;
mod log_lines;
mod ops;
mod panics;
mod places;
mod rounds;
mod run;
mod schema;
mod settings;
mod stream_watch;
mod tasks;
mod telemetry;
mod warnings;

pub mod measures;

pub use bearer::bearer;
pub use context::Context;
pub use copy::CopyBuffer;
pub use database::{PoolBounds, migrate as migrate_database, open as open_database, pool_beside};
pub use database_error::DatabaseError;
pub use keep_for::{InvalidKeepFor, KeepFor};
pub use panics::catch_panic;
pub use places::{NoPlace, Place, PlaceBounds, Places};
pub use rounds::Rounds;
pub use run::{Service, run};
pub use settings::{
    ClockSettings, CommonSettings, DatabaseSettings, Migrations, NatsSettings, OpsSettings, SettingsError,
    TelemetrySettings, Validate, duration,
};
pub use stream_watch::on_replaced;
pub use tasks::Tasks;
pub use warnings::Warnings;
