//! Closes periods: once every source of the tenant is counted past the period's end, or after a grace period,
//! naming the incomplete sources. Executions found later are late: they stay in their own period.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, error_chain, outbox};
use metering::Clock;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    events,
    rollups::{fold::FoldError, unfolded::Unfolded},
    store::{self, DuePeriod},
};

/// Interval for checking ended periods.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Periods that one round closes; the end of a month brings one per tenant, and the rest follow in later
/// rounds.
const PERIODS_PER_LOOK: i64 = 500;

/// Closes periods.
pub(crate) struct Closer {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    grace: SignedDuration,
}

impl Closer {
    /// `grace` is how long an ended period waits for incomplete sources.
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>, grace: SignedDuration) -> Self {
        Self { pool, bus, clock, grace }
    }

    /// Closes until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(LOOK_INTERVAL, shutdown);
        while rounds.next().await {
            if let Err(error) = self.close_due().await {
                tracing::warn!(error = error_chain(&error), "cannot close periods; trying again");
            }
        }
    }

    async fn close_due(&self) -> Result<(), FoldError> {
        let now = self.clock.now();
        let grace_over = now.checked_sub(self.grace).unwrap_or(Timestamp::MIN);
        let mut unfolded = Unfolded::default();
        for due in store::due_periods(&self.pool, now, grace_over, PERIODS_PER_LOOK).await? {
            self.close(&due, now, &mut unfolded).await?;
        }
        Ok(())
    }

    async fn close(&self, due: &DuePeriod, now: Timestamp, unfolded: &mut Unfolded) -> Result<(), FoldError> {
        let mut transaction = self.pool.begin().await?;
        // Nothing is folded while the figures are read: pending changes are added to the folded figures.
        store::fold_turn(&mut transaction).await?;
        store::lock_tenant(&mut transaction, due.tenant_number).await?;
        let incomplete =
            store::incomplete_sources(&mut transaction, due.tenant_number, due.period.end).await?;
        let grace_over = due.period.end.checked_add(self.grace).is_ok_and(|end| end <= now);
        // Checked again under the lock: another replica may have closed it, or a source may have been added.
        let may_close = incomplete.is_empty() || grace_over;
        if !may_close || !store::close(&mut transaction, due.tenant_number, due.period, now).await? {
            return Ok(());
        }
        let revision = store::next_revision(&mut transaction, due.tenant_number).await?;
        let period = [(due.tenant_number, due.period)].into();
        unfolded.read(&mut transaction).await?;
        let waiting = (&unfolded.of(&period), &unfolded.by_hour(&period));
        let mut snapshots =
            store::snapshots(&mut transaction, &period, waiting, events::WORKFLOWS_MAX).await?;
        let snapshot = snapshots.remove(&due.tenant_number).unwrap_or_default();
        let timeline = store::timeline(&mut *transaction, due.tenant_number).await?;
        let calendar = timeline.as_ref().map(|timeline| timeline.calendar_at(due.period.start));
        let time_zone = calendar.map_or("", |calendar| calendar.time_zone_name());
        let closed = (due, time_zone);
        let messages =
            events::period_closed(self.bus.namespace(), closed, revision, &snapshot, incomplete, now);
        outbox::enqueue(&mut transaction, &messages).await?;
        transaction.commit().await?;
        tracing::info!(tenant = due.tenant_id, period_start = %due.period.start, "period closed");
        Ok(())
    }
}
