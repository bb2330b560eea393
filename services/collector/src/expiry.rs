//! How long data from sources is kept. One replica at a time, in small batches; a crash leaves the rest to
//! the next round.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use jiff::SignedDuration;
use metering::Clock;
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    checks::instances::KEPT_FOR,
    store::{self, expiry as rows},
};

/// Often enough: rows age slowly.
const ROUND_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// A workflow that has not changed for this long is deleted. If the source still lists it, the next reading
/// publishes it once more, and nothing changes; if it was deleted there, nobody asks for it any more.
const WORKFLOWS_KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Rows that one statement deletes.
const ROWS_PER_BATCH: i64 = 1_000;

/// Statements of one kind in one round; the rest waits for the next.
const BATCHES_MAX: usize = 1_000;

/// Deletes old rows.
pub struct Expiry {
    /// The collector's database.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Expiry {
    /// Runs rounds until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // An interrupted round keeps what it has committed.
        Rounds::new(ROUND_INTERVAL, shutdown)
            .each("cannot delete old rows, retrying in an hour", || self.round())
            .await;
    }

    /// One round. Does nothing while another replica runs one.
    ///
    /// # Errors
    ///
    /// The database failed. What was deleted stays deleted; the next round does the rest.
    pub async fn round(&self) -> Result<(), sqlx::Error> {
        let now = self.clock.now();
        let workflows_before = now.saturating_sub(WORKFLOWS_KEPT).unwrap_or(now);
        let unreadable_before = store::seconds_before(now, store::UNREADABLE_KEPT_S);
        let instances_before = now.saturating_sub(KEPT_FOR).unwrap_or(now);
        // A connection of its own: its end, even by a crash, releases the lock.
        let mut connection = self.pool.acquire().await?.detach();
        if rows::take_turn(&mut connection).await? {
            for _ in 0..BATCHES_MAX {
                if rows::workflows(&mut connection, workflows_before, ROWS_PER_BATCH).await? == 0 {
                    break;
                }
            }
            for _ in 0..BATCHES_MAX {
                if rows::instances(&mut connection, instances_before, ROWS_PER_BATCH).await? == 0 {
                    break;
                }
            }
            for _ in 0..BATCHES_MAX {
                if rows::unreadable_rows(&mut connection, unreadable_before, ROWS_PER_BATCH).await? == 0 {
                    break;
                }
            }
        }
        connection.close().await
    }
}
