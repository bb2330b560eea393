//! How long things are kept. A round creates the tables of this month and the next ahead of time, drops old
//! months of executions ([`crate::retention::retire`]), and removes old figures by hour, old crossings, old claims of
//! admission, and the hours of closed periods. One replica at a time; a crash leaves the rest to the next
//! round.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use jiff::Timestamp;
use metering::Clock;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    KeepFor,
    recording::{
        admitted,
        decide::{month_after, month_of, start_of},
    },
    retention::retire::{self, Dropped, Retired},
    store,
};

/// Time between rounds: a month that could not be dropped is tried again this soon.
const ROUND_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Tenants whose old hours one statement removes: bounds how long the folder waits for it.
const TENANTS_PER_PAGE: i64 = 200;

/// Days of workflows that one statement removes.
const WORKFLOW_DAYS_PER_BATCH: i64 = 20_000;

/// How long crossings are kept: as long as the events of their period. The period is closed by then, so no
/// threshold is crossed again.
const CROSSINGS_KEPT_DAYS: u16 = 400;

/// Crossings that one statement removes.
const CROSSINGS_PER_BATCH: i64 = 1_000;

/// Claims of when an execution was admitted that one statement removes.
const ADMITTED_PER_BATCH: i64 = 20_000;

/// Removes what is no longer kept.
pub struct Retention {
    /// The aggregator's database.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long executions are kept one by one.
    pub executions_kept: KeepFor,
    /// How long figures by hour, and those of workflows by day, are kept.
    pub hours_kept: KeepFor,
}

impl Retention {
    /// Runs rounds until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // An interrupted round keeps what it has committed.
        Rounds::new(ROUND_INTERVAL, shutdown)
            .each("cannot delete old executions; trying again", || self.round())
            .await;
    }

    /// Runs one round. Returns the months that were dropped.
    ///
    /// # Errors
    ///
    /// The database failed. Everything that was committed is consistent; the next round does the rest.
    pub async fn round(&self) -> Result<Vec<Dropped>, sqlx::Error> {
        let now = self.clock.now();
        let month = month_of(now);
        // Its own connection, used for everything: the turn ends when it closes, even by a crash.
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        for month in [month, month_after(month)] {
            store::ensure_month(&mut connection, month).await?;
        }
        let mut dropped = Vec::new();
        if store::take_retention_turn(&mut connection).await? {
            self.drop_months(&mut connection, now, &mut dropped).await?;
            self.remove_hours(&mut connection, now).await?;
            remove_closed_hours(&mut connection).await?;
            remove_crossings(&mut connection, now).await?;
            remove_admitted(&mut connection, now).await?;
        }
        connection.close().await?;
        Ok(dropped)
    }

    async fn drop_months(
        &self,
        connection: &mut PgConnection,
        now: Timestamp,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), sqlx::Error> {
        let Some(cutoff) = self.executions_kept.cutoff(now) else { return Ok(()) };
        for month in store::months(connection).await? {
            if month_after(month) > cutoff {
                break;
            }
            match retire::month(connection, month).await? {
                Retired::Dropped(month) => dropped.push(month),
                // Later months wait as well, so that `since` stays correct.
                Retired::Later(reason) => {
                    tracing::debug!(%month, reason, "an old month of executions is kept for now");
                    break;
                }
            }
        }
        Ok(())
    }

    async fn remove_hours(&self, connection: &mut PgConnection, now: Timestamp) -> Result<(), sqlx::Error> {
        let Some(cutoff) = self.hours_kept.cutoff(now) else { return Ok(()) };
        store::raise_hours_since(connection, start_of(cutoff)).await?;
        let mut page = Some(i32::MIN);
        while let Some(after) = page {
            // Under the folder's turn: nobody else compares or writes hours.
            let mut transaction = connection.begin().await?;
            store::fold_turn(&mut transaction).await?;
            page = store::remove_hours(&mut transaction, after, TENANTS_PER_PAGE).await?;
            transaction.commit().await?;
        }
        loop {
            let mut transaction = connection.begin().await?;
            store::fold_turn(&mut transaction).await?;
            let removed = store::remove_workflow_days(&mut transaction, WORKFLOW_DAYS_PER_BATCH).await?;
            transaction.commit().await?;
            if removed < WORKFLOW_DAYS_PER_BATCH.unsigned_abs() {
                return Ok(());
            }
        }
    }
}

/// The hours of a period are needed until it is closed.
async fn remove_closed_hours(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut page = Some(i32::MIN);
    while let Some(after) = page {
        // Under the folder's turn: nobody else writes hours.
        let mut transaction = connection.begin().await?;
        store::fold_turn(&mut transaction).await?;
        page = store::remove_closed_hours(&mut transaction, after, TENANTS_PER_PAGE).await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn remove_admitted(connection: &mut PgConnection, now: Timestamp) -> Result<(), sqlx::Error> {
    let before = admitted::first_kept(now);
    while store::remove_admitted(connection, before, ADMITTED_PER_BATCH).await? > 0 {}
    Ok(())
}

async fn remove_crossings(connection: &mut PgConnection, now: Timestamp) -> Result<(), sqlx::Error> {
    let Some(cutoff) = KeepFor::days(CROSSINGS_KEPT_DAYS).cutoff(now) else { return Ok(()) };
    while store::remove_crossings(connection, start_of(cutoff), CROSSINGS_PER_BATCH).await? > 0 {}
    Ok(())
}
