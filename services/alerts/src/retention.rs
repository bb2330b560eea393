//! How long crossings, notices and their mails are kept. One replica at a time, in small batches; a crash
//! leaves the rest to the next round.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use jiff::SignedDuration;
use metering::Clock;
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::store::retention as rows;

/// Mails get old slowly.
const ROUND_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// A year, and a month to look back at it. Longer than any stream keeps what a mail was made of (90 days), so
/// that no message is delivered again after its marker is gone.
const KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Crossings, notices or sweeps that one statement deletes. A notice may have thousands of facts.
const ROWS_PER_BATCH: i64 = 200;

/// Statements of one kind in one round; the rest waits for the next.
const BATCHES_MAX: usize = 1_000;

/// Deletes old rows.
pub struct Retention {
    /// The database of alerts.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Runs a statement of `rows` until it finds nothing.
macro_rules! all_of {
    ($statement:path, $connection:expr, $before:expr) => {
        for _ in 0..BATCHES_MAX {
            if $statement($connection, $before, ROWS_PER_BATCH).await? == 0 {
                break;
            }
        }
    };
}

impl Retention {
    /// Rounds until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // An interrupted round keeps what it has committed.
        Rounds::new(ROUND_INTERVAL, shutdown)
            .each("cannot delete old mails; trying again in an hour", || self.round())
            .await;
    }

    /// One round. Does nothing while another replica has the turn.
    ///
    /// # Errors
    ///
    /// The database failed. Committed deletions stay; the next round does the rest.
    pub async fn round(&self) -> Result<(), sqlx::Error> {
        let now = self.clock.now();
        let before = now.saturating_sub(KEPT).unwrap_or(now);
        // A connection of its own: its end, also by a crash, ends the turn.
        let mut connection = self.pool.acquire().await?.detach();
        if rows::take_turn(&mut connection).await? {
            all_of!(rows::crossings, &mut connection, before);
            all_of!(rows::notices, &mut connection, before);
            all_of!(rows::sweeps, &mut connection, before);
        }
        connection.close().await
    }
}
