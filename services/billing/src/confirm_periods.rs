//! Compares each closed period with Stripe's own summary: a 200 is a promise, the summary is what will be billed.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use futures_util::StreamExt;
use jiff::Timestamp;
use messaging::{error_chain, outbox};
use metering::Clock;
use proto::Namespace;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    events::{self, Drift},
    ledger::Ledger,
    outcome::ReadError,
    store::{
        StoreError, drifts,
        ledgers::{self, Key},
        reports,
    },
    stripe::Stripe,
};
use metering::later;

/// Summaries are eventually consistent: the first comparison comes this long after the last change.
pub const CONFIRM_DELAY: Duration = Duration::from_secs(10 * 60);

/// A difference that lasts longer than this after the last change is drift.
const CONSISTENT_WITHIN: Duration = Duration::from_secs(30 * 60);

/// Pause between two comparisons while a summary may still catch up.
const CATCH_UP_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Pause between two comparisons of a period that has drifted: somebody may be correcting it.
const DRIFT_PAUSE: Duration = Duration::from_secs(60 * 60);

/// A drifted period is watched this long after it closed, which is the longest life of a draft invoice.
const WATCHED_FOR: Duration = Duration::from_secs(72 * 60 * 60);

/// Pause after a comparison that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// Periods compared at once, to bound the requests to Stripe.
const PERIODS_IN_FLIGHT_MAX: usize = 4;

/// Interval for checking due comparisons, by the machine's clock.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A period cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// The books cannot be read or written.
    #[error("cannot write the books")]
    Store(#[from] StoreError),
    /// Stripe cannot be read.
    #[error("cannot read Stripe's summary")]
    Stripe(#[from] ReadError),
}

impl From<sqlx::Error> for ConfirmError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A closed period compared with Stripe's summary.
struct Comparison {
    /// The destinations that differ.
    drifts: Vec<Drift>,
    /// When anything that Stripe sums up last changed.
    last_change: Timestamp,
    /// Whether another report to one of the destinations is still open.
    is_open: bool,
}

/// Compares closed periods.
pub struct Confirmer {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names the subjects of events.
    pub namespace: Namespace,
    /// Whose summaries count.
    pub stripe: Arc<Stripe>,
}

impl Confirmer {
    /// Compares until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(LOOK_INTERVAL, shutdown.clone());
        while rounds.next().await {
            match ledgers::to_check(&self.pool, self.clock.now()).await {
                Ok(due) => {
                    let looks = futures_util::stream::iter(due);
                    looks
                        .take_until(shutdown.cancelled())
                        .for_each_concurrent(PERIODS_IN_FLIGHT_MAX, |key| self.look(key))
                        .await;
                }
                Err(error) => tracing::warn!(
                    error = error_chain(&error),
                    "cannot look for closed periods to compare, retrying"
                ),
            }
        }
    }

    async fn look(&self, key: Key) {
        let now = self.clock.now();
        let Err(error) = self.compare(&key, now).await else { return };
        tracing::warn!(
            tenant = key.tenant,
            error = error_chain(&error),
            "cannot compare a closed period with Stripe, retrying in a minute"
        );
        if let Err(error) = self.look_again(&key, Some(later(now, FAILURE_PAUSE))).await {
            tracing::warn!(error = error_chain(&error), "cannot postpone the comparison with Stripe");
        }
    }

    async fn look_again(&self, key: &Key, at: Option<Timestamp>) -> Result<(), ConfirmError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::from)?;
        Ok(ledgers::check_at(&mut connection, key, at).await?)
    }

    async fn compare(&self, key: &Key, now: Timestamp) -> Result<(), ConfirmError> {
        let Some(ledger) = self.ledger(key).await? else { return Ok(()) };
        if ledger.unreported() != 0 && !ledger.waived {
            // A report is about to be sealed, or waits for an operator: the sum is not final.
            return self.look_again(key, Some(later(now, CATCH_UP_PAUSE))).await;
        }
        let comparison = self.comparison(key, &ledger).await?;
        if comparison.is_open {
            return self.look_again(key, Some(later(now, CATCH_UP_PAUSE))).await;
        }
        if comparison.drifts.is_empty() {
            return self.agree(key).await;
        }
        if now < later(comparison.last_change, CONSISTENT_WITHIN) {
            return self.look_again(key, Some(later(now, CATCH_UP_PAUSE))).await;
        }
        self.tell(key, &comparison, now).await
    }

    async fn ledger(&self, key: &Key) -> Result<Option<Ledger>, ConfirmError> {
        let mut connection = self.pool.acquire().await?;
        Ok(ledgers::lock(&mut connection, key).await?)
    }

    async fn comparison(&self, key: &Key, ledger: &Ledger) -> Result<Comparison, ConfirmError> {
        let (period, tenant) = (ledger.period, &ledger.tenant);
        let last_change = ledger.closed_at.unwrap_or(period.end);
        let mut comparison = Comparison { drifts: Vec::new(), last_change, is_open: false };
        for destination in reports::destinations(&self.pool, key).await? {
            let taken = reports::taken(&self.pool, &destination, period).await?;
            comparison.is_open |= taken.is_open;
            if let Some(last_at) = taken.last_at {
                comparison.last_change = comparison.last_change.max(last_at);
            }
            let stripe_total = match self.stripe.total(&destination, period.start, period.end).await {
                // A customer that does not exist is not billed either.
                Err(ReadError::NoCustomer(_)) => 0,
                total => total?,
            };
            if stripe_total != taken.total {
                let tenant = tenant.clone();
                let accepted = taken.total;
                comparison.drifts.push(Drift { tenant, period, destination, accepted, stripe_total });
            }
        }
        Ok(comparison)
    }

    async fn agree(&self, key: &Key) -> Result<(), ConfirmError> {
        let mut transaction = self.pool.begin().await?;
        let confirmed = reports::confirm(&mut transaction, key).await?;
        ledgers::check_at(&mut transaction, key, None).await?;
        transaction.commit().await?;
        tracing::info!(tenant = key.tenant, period_start = %key.period_start, confirmed, "period confirmed");
        Ok(())
    }

    async fn tell(&self, key: &Key, comparison: &Comparison, now: Timestamp) -> Result<(), ConfirmError> {
        let mut transaction = self.pool.begin().await?;
        for drift in &comparison.drifts {
            if drifts::claim(&mut transaction, drift, now).await? {
                let Drift { accepted, stripe_total, .. } = drift;
                tracing::error!(tenant = key.tenant, accepted, stripe_total, "Stripe's total has drifted");
                outbox::enqueue(&mut transaction, &[events::drifted(&self.namespace, drift, now)]).await?;
            }
        }
        let is_watched = now < later(comparison.last_change, WATCHED_FOR);
        ledgers::check_at(&mut transaction, key, is_watched.then(|| later(now, DRIFT_PAUSE))).await?;
        transaction.commit().await?;
        Ok(())
    }
}
