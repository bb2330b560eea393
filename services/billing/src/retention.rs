//! How long settled reports are kept. One replica at a time, in small batches; a crash leaves the rest to the
//! next round.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use jiff::SignedDuration;
use metering::Clock;
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::store::retention as rows;

/// Often enough: periods age slowly.
const ROUND_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Settled reports and differences stay this long: a year, and a month to look back at it. Stripe keeps the invoices.
const KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

/// After this long without a call, a customer's fence no longer matters: calls end within a minute.
const SENDERS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Accounts that one statement archives: a month of reports each five minutes is 9,000 rows.
const ACCOUNTS_PER_BATCH: i64 = 5;

/// Rows of the small tables that one statement deletes.
const ROWS_PER_BATCH: i64 = 1_000;

/// Statements of one kind in one round; the rest waits for the next.
const BATCHES_MAX: usize = 1_000;

/// Deletes old rows.
pub struct Retention {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Retention {
    /// Runs rounds until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // An interrupted round keeps what it has committed.
        Rounds::new(ROUND_INTERVAL, shutdown)
            .each("cannot delete settled reports, retrying in an hour", || self.round())
            .await;
    }

    /// One round. Does nothing while another replica runs one.
    ///
    /// # Errors
    ///
    /// The database failed. What was deleted stays deleted; the next round does the rest.
    pub async fn round(&self) -> Result<(), sqlx::Error> {
        let now = self.clock.now();
        let before = now.saturating_sub(KEPT).unwrap_or(now);
        // A connection of its own: its end, even by a crash, releases the lock.
        let mut connection = self.pool.acquire().await?.detach();
        if rows::take_turn(&mut connection).await? {
            for _ in 0..BATCHES_MAX {
                if rows::archive(&mut connection, before, now, ACCOUNTS_PER_BATCH).await? == 0 {
                    break;
                }
            }
            for _ in 0..BATCHES_MAX {
                if rows::drifts(&mut connection, before, ROWS_PER_BATCH).await? == 0 {
                    break;
                }
            }
            for _ in 0..BATCHES_MAX {
                if rows::senders(&mut connection, SENDERS_KEPT, ROWS_PER_BATCH).await? == 0 {
                    break;
                }
            }
        }
        connection.close().await
    }
}
