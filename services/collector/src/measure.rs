//! Metrics of the sources: how many are in which state, and how far the slowest is behind. No source has a
//! label of its own, because there may be ten thousand; `flowmeter sources` lists them.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use messaging::error_chain;
use metering::Clock;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store;

/// Interval between measurements.
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

/// One in this many measurements is logged: one line in ten minutes.
const LOGGED_EACH: u32 = 40;

/// Measures the sources.
pub struct Measure {
    /// The collector's tables.
    pub pool: PgPool,
    /// The time that lag is measured against.
    pub clock: Arc<dyn Clock>,
}

impl Measure {
    /// Measures until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(MEASURE_INTERVAL, shutdown);
        let mut round = 0_u32;
        while rounds.next().await {
            round = round.wrapping_add(1);
            match store::states::read(&self.pool, self.clock.now()).await {
                Ok(states) => {
                    states.show();
                    if round.is_multiple_of(LOGGED_EACH) {
                        states.log();
                    }
                }
                Err(error) => tracing::warn!(
                    error = error_chain(&error),
                    "cannot measure the sources, trying again in {} s",
                    MEASURE_INTERVAL.as_secs()
                ),
            }
        }
    }
}
