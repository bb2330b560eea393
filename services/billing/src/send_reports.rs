//! Sends sealed reports: one sender per customer, one report at a time, each attempt recorded before it is
//! made.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use messaging::{doubling, error_chain, outbox};
use metering::Clock;
use proto::Namespace;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::{
    task::{Id, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    confirm_periods::CONFIRM_DELAY,
    events,
    identifier::Identifier,
    ledger::{GRACE_MARGIN, Ledger, SEND_MARGIN},
    outcome::{Outcome, ReadError},
    owed::give_back,
    report::{Event, Impossible, Report, State, Step},
    store::{
        StoreError,
        leases::{self, Lease},
        ledgers::{self, Key},
        owed,
        pauses::{self, Scope},
        reports::{self, Progress},
    },
    stripe::Stripe,
};
use metering::{earlier, later};

/// Interval for checking due reports, by the machine's clock.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Customers served at once. Stripe allows 25 calls a second in its test mode.
const CUSTOMERS_IN_FLIGHT_MAX: usize = 16;

/// Pause after the first attempt that did not settle a report; doubles with every further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest pause between two attempts. Their number is bounded by the window for sending.
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);

/// Pause after a read that failed.
const READ_PAUSE: Duration = Duration::from_secs(15);

/// Pause before a refused API key is tried again; a new key comes with a restart.
const ACCOUNT_PAUSE: Duration = Duration::from_secs(60);

/// Pause before a missing meter is looked up again.
const METER_PAUSE: Duration = Duration::from_secs(60);

/// Refused usage is reported again after this, or earlier if the catalog changes.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60 * 60);

/// A report cannot be processed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The books cannot be read or written.
    #[error("cannot write the books")]
    Store(#[from] StoreError),
    /// The transition table forbids it.
    #[error("the report's state does not allow this step")]
    LifeCycle(#[from] Impossible),
}

impl From<sqlx::Error> for SendError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Sends reports.
pub struct Sender {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names the subjects of events.
    pub namespace: Namespace,
    /// Where reports go.
    pub stripe: Arc<Stripe>,
}

impl Sender {
    /// Sends until `shutdown`, then finishes the attempts under way.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut workers = JoinSet::new();
        let mut busy: HashMap<Id, String> = HashMap::new();
        while !shutdown.is_cancelled() {
            while let Some(finished) = workers.try_join_next_with_id() {
                let id = match &finished {
                    Ok((id, ())) => *id,
                    Err(error) => error.id(),
                };
                busy.remove(&id);
            }
            match self.due().await {
                Ok(due) => {
                    for report in due {
                        let customer = &report.destination.customer;
                        let is_busy = busy.values().any(|name| name == customer);
                        if is_busy || busy.len() >= CUSTOMERS_IN_FLIGHT_MAX {
                            continue;
                        }
                        let (sender, customer) = (self.clone(), customer.clone());
                        let identifier = report.identifier;
                        let worker = workers.spawn({
                            let customer = customer.clone();
                            async move { sender.serve(&customer, &identifier).await }
                        });
                        busy.insert(worker.id(), customer);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "cannot look for reports to send, retrying")
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
        while workers.join_next().await.is_some() {}
    }

    /// The reports that are next for their customer and meter and have a step to take.
    async fn due(&self) -> Result<Vec<Report>, StoreError> {
        metrics::gauge!("flowmeter_billing_paused").set(pauses::count(&self.pool).await?);
        if pauses::is_account_paused(&self.pool).await? {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut due = reports::heads(&self.pool).await?;
        due.retain(|report| {
            // An attempt under way is either ours or was left over by a crash: the lease decides.
            matches!(report.state, State::Sending | State::Resending) || report.next_step(now) != Step::Wait
        });
        Ok(due)
    }

    /// Takes one report of a customer one step further.
    async fn serve(&self, customer: &str, identifier: &Identifier) {
        let outcome = async {
            let Some(lease) = leases::acquire(&self.pool, customer).await? else { return Ok(()) };
            let outcome = self.step(&lease, identifier).await;
            leases::release(&self.pool, &lease).await?;
            outcome
        };
        if let Err(error) = outcome.await {
            tracing::warn!(%identifier, error = error_chain(&error), "cannot process a report, retrying");
        }
    }

    async fn step(&self, lease: &Lease, identifier: &Identifier) -> Result<(), SendError> {
        let recovered = reports::recover(&self.pool, lease).await?;
        if recovered > 0 {
            tracing::info!(
                customer = lease.customer,
                recovered,
                "taking over reports from a sender that stopped in the middle of them"
            );
        }
        let Some(report) = reports::find(&self.pool, identifier).await? else { return Ok(()) };
        match report.next_step(self.clock.now()) {
            Step::Send => self.attempt(lease, report).await,
            Step::ReadReceipt => self.read_receipt(lease, &report).await,
            Step::GiveUp => {
                self.settle(lease, &report, Event::WindowOver, Some("it could not be sent in time"), false)
                    .await
            }
            Step::Wait => Ok(()),
        }
    }

    async fn attempt(&self, lease: &Lease, mut report: Report) -> Result<(), SendError> {
        if report.state == State::Sealed
            && let Err(error) = self.stripe.check(&report.destination, report.event_at).await
        {
            return self.not_ready(lease, &report, error).await;
        }
        let next = report.state.after(Event::Begun)?;
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        let begun = leases::hold(&mut transaction, lease).await?
            && reports::begin(&mut transaction, lease, &report, next, now).await?;
        transaction.commit().await?;
        if !begun {
            return Ok(());
        }
        report.state = next;
        report.attempts = report.attempts.saturating_add(1);
        report.first_attempt_at.get_or_insert(now);
        let outcome = self.stripe.send(&report).await;
        self.take_outcome(lease, &report, &outcome).await
    }

    async fn take_outcome(&self, lease: &Lease, report: &Report, outcome: &Outcome) -> Result<(), SendError> {
        let (label, reason) = describe(outcome);
        metrics::counter!("flowmeter_billing_attempts_total", "outcome" => label).increment(1);
        match outcome {
            Outcome::Unauthorized(text) => self.pause(&Scope::Account, text, ACCOUNT_PAUSE).await?,
            Outcome::NoMeter(text) => {
                let scope = Scope::Meter(report.destination.event_name.clone());
                self.pause(&scope, text, METER_PAUSE).await?;
            }
            _ => {}
        }
        // Stripe would repeat an answered failure for ever under the same key.
        let new_key = matches!(outcome, Outcome::Failed(_));
        self.settle(lease, report, Event::of(outcome), reason, new_key).await
    }

    /// The check before the first attempt failed; nothing was sent.
    async fn not_ready(&self, lease: &Lease, report: &Report, error: ReadError) -> Result<(), SendError> {
        let reason = error.to_string();
        match error {
            ReadError::NoCustomer(_) => {
                self.settle(lease, report, Event::Refused, Some(&reason), false).await
            }
            error => Ok(self.cannot_read(report, error).await?),
        }
    }

    async fn read_receipt(&self, lease: &Lease, report: &Report) -> Result<(), SendError> {
        match self.stripe.receipt(&report.destination, report.event_at).await {
            Ok(value) if value == report.quantity => {
                self.settle(lease, report, Event::ReceiptFound, None, false).await
            }
            Ok(0) if report.absent_since.is_some() => {
                self.settle(lease, report, Event::ReceiptAbsent, Some("it had not arrived"), true).await
            }
            Ok(0) => Ok(reports::note_absent(&self.pool, &report.identifier, self.clock.now()).await?),
            Ok(value) => {
                let reason = format!("Stripe's summary of its minute shows {value}");
                self.settle(lease, report, Event::ReceiptStrange, Some(&reason), false).await
            }
            Err(error @ ReadError::NoCustomer(_)) => {
                let reason = error.to_string();
                self.settle(lease, report, Event::ReceiptStrange, Some(&reason), false).await
            }
            Err(error) => Ok(self.cannot_read(report, error).await?),
        }
    }

    async fn cannot_read(&self, report: &Report, error: ReadError) -> Result<(), StoreError> {
        let reason = error.to_string();
        match error {
            ReadError::Unauthorized(_) => self.pause(&Scope::Account, &reason, ACCOUNT_PAUSE).await,
            ReadError::NoMeter(event_name) => {
                self.pause(&Scope::Meter(event_name), &reason, METER_PAUSE).await
            }
            ReadError::NoCustomer(_) | ReadError::Unavailable(_) => {
                reports::postpone(&self.pool, &report.identifier, READ_PAUSE, &reason).await
            }
        }
    }

    async fn pause(&self, scope: &Scope, reason: &str, retry_after: Duration) -> Result<(), StoreError> {
        if pauses::begin(&self.pool, scope, reason, retry_after, self.clock.now()).await? {
            tracing::error!(?scope, reason, "sending is paused until an operator corrects this");
        }
        Ok(())
    }

    /// Records the result of a step and everything that follows from it, in one transaction.
    async fn settle(
        &self,
        lease: &Lease,
        report: &Report,
        event: Event,
        reason: Option<&str>,
        new_key: bool,
    ) -> Result<(), SendError> {
        let now = self.clock.now();
        let next = report.state.after(event)?;
        let pause = if next.is_open() && event != Event::ReceiptAbsent {
            backoff(&report.identifier, report.attempts)
        } else {
            Duration::ZERO
        };
        let proven_absent = event == Event::ReceiptAbsent;
        let progress = Progress { next, reason, pause, new_key, proven_absent, now };
        let mut transaction = self.pool.begin().await?;
        let written = leases::hold(&mut transaction, lease).await?
            && reports::advance(&mut transaction, report, &progress).await?;
        if !written {
            // The new holder of the lease finds the result by the same identifier.
            tracing::info!(
                identifier = %report.identifier,
                "lost the lease while sending a report; the next sender finds its result"
            );
            return Ok(());
        }
        self.follow_up(&mut transaction, report, next, reason.unwrap_or_default(), now).await?;
        transaction.commit().await?;
        log(report, next, reason);
        Ok(())
    }

    async fn follow_up(
        &self,
        connection: &mut PgConnection,
        report: &Report,
        next: State,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = Key { tenant: report.tenant.to_string(), period_start: report.period.start };
        let event = match next {
            State::Accepted => {
                pauses::end(&mut *connection, &report.destination.event_name).await?;
                ledgers::check_at(connection, &key, Some(later(now, CONFIRM_DELAY))).await?;
                let total = reports::accepted_total(connection, &report.tenant, key.period_start).await?;
                events::reported(&self.namespace, report, total, now)
            }
            State::Rejected => {
                if let Some(ledger) = ledgers::lock(connection, &key).await? {
                    take_back(connection, ledger, report, now).await?;
                }
                events::failed(&self.namespace, report, next, reason, now)
            }
            State::Late | State::Stuck => events::failed(&self.namespace, report, next, reason, now),
            State::Sealed | State::Sending | State::Resending | State::Unknown | State::Confirmed => {
                return Ok(());
            }
        };
        outbox::enqueue(connection, &[event]).await?;
        Ok(())
    }
}

/// Returns a report's quantity to its account, to be reported again.
async fn take_back(
    connection: &mut PgConnection,
    mut ledger: Ledger,
    report: &Report,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut parts = owed::list(connection, &ledger).await?;
    give_back(&mut parts, ledger.reported_total, &report.destination);
    owed::put(connection, &ledger, &parts).await?;
    ledger.give_back(report.quantity, &report.destination);
    ledgers::save(connection, &ledger).await?;
    // Once more at the deadline, if the pause would skip it.
    let deadline = earlier(report.send_before, GRACE_MARGIN - SEND_MARGIN);
    let again = later(now, REFUSAL_PAUSE);
    let again = if now < deadline { again.min(deadline) } else { again };
    ledgers::seal_at(connection, &ledger, again).await
}

/// An outcome's name for metrics, and Stripe's message.
fn describe(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Accepted => ("accepted", None),
        Outcome::Duplicate => ("duplicate", None),
        Outcome::KeyReused(text) => ("key_reused", Some(text)),
        Outcome::Refused(text) => ("refused", Some(text)),
        Outcome::TooOld(text) => ("too_old", Some(text)),
        Outcome::Unauthorized(text) => ("unauthorized", Some(text)),
        Outcome::NoMeter(text) => ("no_meter", Some(text)),
        Outcome::Busy(text) => ("busy", Some(text)),
        Outcome::Failed(text) => ("failed", Some(text)),
        Outcome::NoAnswer(text) => ("no_answer", Some(text)),
    }
}

/// The pause before the next attempt: doubling, and spread over its second half, so that customers who failed
/// together do not come back together. The spread is a hash, not random: a test can repeat it.
fn backoff(identifier: &Identifier, attempts: u32) -> Duration {
    let full = doubling(BACKOFF_FIRST, attempts.into(), BACKOFF_MAX);
    let hash = Sha256::digest(format!("{identifier}:{attempts}"));
    let share = hash.first().copied().map_or(0.0, f64::from) / 255.0;
    full.mul_f64(0.5 + share / 2.0)
}

/// The level depends on who must act: an operator if the usage will not be billed automatically, nobody if
/// the report goes on.
fn log(report: &Report, next: State, reason: Option<&str>) {
    let (tenant, identifier, quantity) = (&report.tenant, &report.identifier, report.quantity);
    let (period_start, state) = (report.period.start, next.as_str());
    match next {
        State::Rejected | State::Stuck | State::Late => {
            tracing::error!(%tenant, %identifier, quantity, %period_start, state, reason,
                            "usage was not reported to Stripe: see flowmeter billing");
        }
        State::Unknown => tracing::warn!(%tenant, %identifier, quantity, state, reason,
                                         "no clear answer from Stripe about a report, trying again"),
        _ => {
            tracing::info!(%tenant, %identifier, quantity, state, reason, "a report to Stripe has a new state")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_spreads() {
        let north = Identifier::stored("north-20261101-1-aa".into());
        let south = Identifier::stored("south-20261101-1-bb".into());
        let first = backoff(&north, 1);
        assert!(first >= BACKOFF_FIRST / 2 && first <= BACKOFF_FIRST, "{first:?}");
        assert!(backoff(&north, u32::MAX) >= BACKOFF_MAX / 2 && backoff(&north, u32::MAX) <= BACKOFF_MAX);
        assert_ne!(backoff(&north, 3), backoff(&south, 3));
    }
}
