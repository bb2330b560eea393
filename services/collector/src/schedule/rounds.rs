//! When each source is swept, and by whom. A source that is due is leased in the database, so that several
//! collectors share the sources and none is swept twice at a time; a collector that dies loses its leases.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catalog::{Source, sealing::OpeningKey};
use chassis::Rounds;
use jiff::SignedDuration;
use messaging::{doubling, error_chain};
use metering::Clock;
use rand::{Rng, rngs::StdRng};
use sqlx::PgPool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    events::{Failing, Publisher},
    n8n::{client::Client, row::RunId},
    schedule::pace::{Pace, stretched},
    store::{self, Claim, Health},
    sweep::{
        collect::{Collect, Collected, collect},
        cursor::{Begin, Cursor, Tracked},
        failure::{Failure, SweepError},
        workflows,
    },
};
use metering::later;

/// Interval for checking due sources, in the machine's time; whether one is due goes by the clock.
const TICK: Duration = Duration::from_millis(250);

/// How often a running sweep renews its lease: three times before it would run out.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);

/// Longest sweep: enough for a million executions since the last one.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// Sweeps begun in a row if the source turns out not to be the one that it was.
const ATTEMPTS_MAX: u32 = 3;

/// Sweeps of failing sources may take one slot in this many, so that those that time out leave room.
const FAILING_SHARE: usize = 4;

/// So may sweeps that continue a first contact, so that they leave room for sources that have been read.
const BACKLOG_SHARE: usize = 4;

/// A sweep is due up to this fraction of its interval earlier or later, so that sources are spread.
const JITTER: f64 = 0.1;

/// The first pause after a failure, unless the source's interval is shorter.
const BACKOFF_FIRST: Duration = Duration::from_secs(15);

/// The longest pause: three intervals, within these bounds.
const BACKOFF_CAP_MIN: Duration = Duration::from_secs(30);
const BACKOFF_CAP_MAX: Duration = Duration::from_secs(30 * 60);

/// Longest pause that a source may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Sweeps sources when they are due.
pub struct Schedule {
    work: Arc<Work>,
    clock: Arc<dyn Clock>,
    /// Slots for each kind of source.
    slots: [(Health, Arc<Semaphore>); 3],
    tasks: chassis::Tasks,
    rng: StdRng,
}

/// What every sweep needs.
pub struct Work {
    /// Reads sources.
    pub client: Client,
    /// Publishes.
    pub publisher: Publisher,
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Opens API keys.
    pub opening_key: OpeningKey,
    /// Time between sweeps of a source without an interval of its own.
    pub poll_interval: Duration,
    /// How far a source's clock may be behind.
    pub clock_skew: SignedDuration,
    /// The skew above which its clock is reported as wrong.
    pub clock_skew_warning: SignedDuration,
    /// Rows that a source is assumed to keep.
    pub rows_kept: u64,
}

impl Schedule {
    /// A schedule with `concurrency` sweeps at once, whose jitter comes from `rng`.
    pub fn new(work: Work, concurrency: usize, tasks: chassis::Tasks, rng: StdRng) -> Self {
        let share = |parts: usize| Arc::new(Semaphore::new((concurrency / parts).max(1)));
        let slots = [
            (Health::Well, share(1)),
            (Health::Failing, share(FAILING_SHARE)),
            (Health::Behind, share(BACKLOG_SHARE)),
        ];
        Self { clock: work.clock.clone(), work: Arc::new(work), slots, tasks, rng }
    }

    /// Starts due sweeps until shutdown.
    pub async fn run(mut self) {
        let mut rounds = Rounds::new(TICK, self.tasks.shutdown());
        while rounds.next().await {
            if let Err(error) = self.start_due().await {
                tracing::warn!(error = error_chain(&error), "cannot look for due sources, retrying");
            }
        }
    }

    async fn start_due(&mut self) -> Result<(), SweepError> {
        for (health, slots) in self.slots.clone() {
            let free = slots.available_permits();
            if free == 0 {
                continue;
            }
            for claim in store::claim(&self.work.pool, health, free, self.clock.now()).await? {
                // Only this loop takes slots, so there are still as many as there were.
                let Ok(slot) = slots.clone().try_acquire_owned() else { break };
                self.start(claim, slot);
            }
        }
        Ok(())
    }

    fn start(&mut self, claim: Claim, slot: OwnedSemaphorePermit) {
        let jitter = self.rng.random_range(1.0 - JITTER..=1.0 + JITTER);
        let (work, shutdown) = (self.work.clone(), self.tasks.shutdown());
        // A root span: the trace of everything that follows from this sweep begins here.
        let span = tracing::info_span!(parent: None, "sweep", source = %claim.source);
        let sweep = async move {
            work.sweep(claim, jitter, shutdown).await;
            drop(slot);
        };
        self.tasks.spawn(sweep.instrument(span));
    }
}

impl Work {
    /// One sweep, from lease to release. A shutdown ends it where it stands: nothing is committed, and the
    /// next collector does it again.
    async fn sweep(&self, claim: Claim, jitter: f64, shutdown: CancellationToken) {
        let began_at = tokio::time::Instant::now();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => {
                self.give_back(&claim).await;
                return;
            }
            error = self.keep_lease(&claim) => Err(error),
            outcome = timeout(SWEEP_TIME_MAX, self.sweep_once(&claim, jitter)) => {
                outcome.unwrap_or(Err(SweepError::TooSlow(SWEEP_TIME_MAX)))
            }
        };
        let label = match outcome {
            Ok(true) => "ended",
            Ok(false) => "skipped",
            Err(SweepError::LeaseLost) => {
                tracing::info!(source = %claim.source, "another collector has taken over the source");
                "lost"
            }
            Err(error) => {
                self.note_failure(&claim, &error, jitter).await;
                "failed"
            }
        };
        metrics::counter!("flowmeter_sweeps_total", "outcome" => label).increment(1);
        metrics::histogram!("flowmeter_sweep_seconds").record(began_at.elapsed().as_secs_f64());
    }

    /// Renews the lease until it cannot.
    async fn keep_lease(&self, claim: &Claim) -> SweepError {
        let mut ticks = interval(RENEW_INTERVAL);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match store::renew(&self.pool, claim).await {
                Ok(true) => {}
                Ok(false) => return SweepError::LeaseLost,
                // The lease outlives two failed renewals; the commit checks it in any case.
                Err(error) => {
                    tracing::warn!(source = %claim.source, error = error_chain(&error), "cannot renew the source's lease; trying again")
                }
            }
        }
    }

    /// Returns whether there was something to sweep.
    async fn sweep_once(&self, claim: &Claim, jitter: f64) -> Result<bool, SweepError> {
        let Some(source) = self.source(claim).await? else {
            store::release(&self.pool, claim).await?;
            return Ok(false);
        };
        let key = self.opening_key.open(&source.api_key)?;
        let n8n = self.client.instance(&source.base_url, &key)?;
        let work = Collect {
            source: &claim.source,
            claim,
            base_url: &source.base_url,
            n8n: &n8n,
            publisher: &self.publisher,
            pool: &self.pool,
            clock: self.clock.as_ref(),
            clock_skew: self.clock_skew,
            clock_skew_warning: self.clock_skew_warning,
            interval: self.interval_of(&source),
            rows_kept: self.rows_kept,
            pushes: source.push_token_sha256.is_some(),
            workflows_fresh_for: workflows::fresh_for(&source),
        };
        let (tracked, collected) = self.collect(work).await?;
        let Collected { cursor, started_at, executions_published, forecast } = collected;
        let pace = match cursor.backlog {
            Some(_) => Pace::at_once(started_at),
            None => {
                let interval = self.interval_of(&source);
                let pace = Pace::after(started_at, interval, jitter, forecast);
                match store::limits::is_any_near(&self.pool, &source.tenants()).await? {
                    true => pace.near_limit(started_at, interval, jitter),
                    false => pace,
                }
            }
        };
        store::advance(&self.pool, claim, &tracked, &cursor, started_at, pace).await?;
        if claim.failures > 0 {
            let failures = claim.failures;
            tracing::info!(source = %claim.source, failures, "the source answers again");
        }
        // For debugging: nobody has to act, and there is one for each source and interval. `Measure` sums
        // them up.
        tracing::debug!(
            source = %claim.source,
            epoch = cursor.epochs.current(),
            executions_published,
            complete_until = cursor.complete_until.map(tracing::field::display),
            "swept"
        );
        Ok(true)
    }

    /// A sweep within one epoch. If it turns out that another has begun, that is committed, and the sweep
    /// starts again.
    async fn collect(&self, work: Collect<'_>) -> Result<(BTreeMap<RunId, Tracked>, Collected), SweepError> {
        let mut outcome = Err(SweepError::Changed);
        for _ in 0..ATTEMPTS_MAX {
            let mut before = store::cursor(&self.pool, work.source).await?;
            if before.unfinished {
                // Nothing is read again, and nothing is lost or counted twice: see [`Begin::Doubtful`].
                let epoch = before.epochs.current();
                tracing::info!(source = %work.source, epoch, "a sweep was not committed, so another epoch begins");
                before = self.begin_epoch(work.claim, before, Begin::Doubtful).await?;
            }
            let tracked = before.tracked.clone();
            outcome = match collect(work, before.clone()).await {
                Ok(collected) => return Ok((tracked, collected)),
                Err(error) => Err(error),
            };
            match &outcome {
                Err(SweepError::Contradicted(begin)) => {
                    drop(self.begin_epoch(work.claim, before, *begin).await?)
                }
                Err(SweepError::Changed) => {
                    tracing::info!(source = %work.source, "the source has changed in the middle of a sweep, sweeping it again");
                }
                _ => break,
            }
        }
        outcome
    }

    async fn begin_epoch(&self, claim: &Claim, ended: Cursor, begin: Begin) -> Result<Cursor, SweepError> {
        let epoch = ended.epochs.current();
        if begin != Begin::Doubtful {
            tracing::warn!(source = %claim.source, epoch, ?begin, "the source's execution ids have started over; a new epoch begins");
            // Published before the commit: afterwards nobody would know of it any more.
            if let Some(floor) = ended.floor {
                self.publisher.epoch_ended(&claim.source, epoch, floor.next(), self.clock.now()).await?;
            }
        }
        store::epochs::begin(&self.pool, claim, begin).await?;
        store::cursor(&self.pool, &claim.source).await
    }

    async fn source(&self, claim: &Claim) -> Result<Option<Source>, SweepError> {
        Ok(catalog::store::find::<Source>(&self.pool, claim.source.as_str()).await?)
    }

    fn interval_of(&self, source: &Source) -> Duration {
        source.poll_interval.unwrap_or(self.poll_interval)
    }

    async fn note_failure(&self, claim: &Claim, error: &SweepError, jitter: f64) {
        let failure = error.failure();
        tracing::warn!(source = %claim.source, error = error_chain(error), "sweep failed");
        let interval = match self.source(claim).await {
            Ok(Some(source)) => self.interval_of(&source),
            _ => self.poll_interval,
        };
        let at = self.clock.now();
        let since = claim.failing_since.unwrap_or(at);
        let consecutive = claim.failures.saturating_add(1);
        let failing = Failing { failure: &failure, since, at, consecutive };
        if let Err(error) = self.publisher.failing(&claim.source, failing).await {
            tracing::warn!(source = %claim.source, error = error_chain(&error), "cannot publish that the source is failing");
        }
        let next = later(at, stretched(pause(interval, consecutive, &failure), jitter));
        // If this fails too, the lease runs out and the source is due again.
        if let Err(error) = store::fail(&self.pool, claim, since, next).await {
            tracing::warn!(source = %claim.source, error = error_chain(&error), "cannot store the source's failure; it is swept again when the lease expires");
        }
    }

    async fn give_back(&self, claim: &Claim) {
        if let Err(error) = store::release(&self.pool, claim).await {
            tracing::warn!(source = %claim.source, error = error_chain(&error), "cannot release the source's lease; it expires by itself");
        }
    }
}

/// The pause after `failures` failed sweeps in a row.
fn pause(interval: Duration, failures: u32, failure: &Failure) -> Duration {
    let cap = interval.saturating_mul(3).clamp(BACKOFF_CAP_MIN, BACKOFF_CAP_MAX);
    let own = doubling(BACKOFF_FIRST.min(interval), failures.into(), cap);
    own.max(failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proto::v1::FailureReason;

    use super::*;

    fn failure(retry_after: Option<Duration>) -> Failure {
        Failure { reason: FailureReason::RateLimited, detail: String::new(), retry_after }
    }

    #[test]
    fn pauses_double_up_to_their_cap() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let pauses = [1, 2, 3, 100].map(|failures| pause(minutes(10), failures, &failure(None)));
        assert_eq!(pauses, [BACKOFF_FIRST, BACKOFF_FIRST * 2, minutes(1), minutes(30)]);
        let second = Duration::from_secs(1);
        assert_eq!(pause(second, 1, &failure(None)), second);
        assert_eq!(pause(second, 100, &failure(None)), BACKOFF_CAP_MIN);
    }

    #[test]
    fn a_source_is_left_alone_as_long_as_it_asks() {
        let asked = Duration::from_secs(300);
        assert_eq!(pause(Duration::from_secs(600), 1, &failure(Some(asked))), asked);
        let absurd = Duration::from_secs(u64::MAX);
        assert_eq!(pause(Duration::from_secs(600), 1, &failure(Some(absurd))), RETRY_AFTER_MAX);
    }
}
