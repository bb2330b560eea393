//! What a running service works with.

use std::sync::Arc;

use messaging::Bus;
use metering::Clock;
use sqlx::PgPool;

use crate::{Tasks, Warnings};

/// Handed to a service at start; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The time, real or simulated.
    pub clock: Arc<dyn Clock>,
    /// The database, in the service's own schema.
    pub pool: PgPool,
    /// The broker.
    pub bus: Bus,
    /// Where the service's loops run.
    pub tasks: Tasks,
    /// What works only in part because of the configuration.
    pub warnings: Warnings,
}
