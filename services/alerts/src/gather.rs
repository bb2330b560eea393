//! Gathers facts for the operator: each once, those of one topic and subject in one notice until it is due.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use messaging::{Delivery, Dispose, Disposition, Handler, trace};
use metering::{Clock, later};
use prost::Message;
use proto::{required_instant, v1};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;

use crate::{Fact, InvalidFact, Topic, fact::SETTLE, store::notices};

/// Where facts come together.
#[derive(Clone)]
pub struct Gatherer {
    /// Where they are kept.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Shorter failures of a source are not reported.
    pub failing_after: Duration,
    /// Notified when a notice may be due.
    pub wake: Arc<Notify>,
}

/// A fact cannot be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The message is invalid.
    #[error("not a fact for the operator")]
    Invalid(#[from] InvalidFact),
    /// The database failed.
    #[error("cannot store a fact for the operator")]
    Store(#[from] sqlx::Error),
}

impl Dispose for GatherError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Invalid(_) => Disposition::DeadLetter,
            Self::Store(error) => error.disposition(),
        }
    }
}

/// A message that carries at most one fact.
pub trait CarriesFact: Message + Default {
    /// The fact, if it concerns the operator.
    fn fact(self) -> Result<Option<Fact>, InvalidFact>;
}

impl CarriesFact for v1::SourceGap {
    fn fact(self) -> Result<Option<Fact>, InvalidFact> {
        Fact::gap(self).map(Some)
    }
}

impl CarriesFact for v1::SourceContradicted {
    fn fact(self) -> Result<Option<Fact>, InvalidFact> {
        Fact::contradicted(self).map(Some)
    }
}

impl CarriesFact for v1::DeadLetter {
    fn fact(self) -> Result<Option<Fact>, InvalidFact> {
        Fact::dead(self).map(Some)
    }
}

impl CarriesFact for v1::BillingEvent {
    fn fact(self) -> Result<Option<Fact>, InvalidFact> {
        Fact::billing(self)
    }
}

impl CarriesFact for v1::AdmissionEvent {
    fn fact(self) -> Result<Option<Fact>, InvalidFact> {
        Fact::admission(self)
    }
}

/// Handles messages that carry facts.
pub struct Gather<M> {
    gatherer: Gatherer,
    marker: PhantomData<fn(M)>,
}

impl<M> Gather<M> {
    /// Hands the facts to `gatherer`.
    pub fn new(gatherer: Gatherer) -> Self {
        Self { gatherer, marker: PhantomData }
    }
}

#[async_trait]
impl<M: CarriesFact + 'static> Handler for Gather<M> {
    type Message = M;
    type Error = GatherError;

    async fn handle(&self, delivery: Delivery<M>) -> Result<(), GatherError> {
        let Some(fact) = delivery.message.fact()? else { return Ok(()) };
        let mut transaction = self.gatherer.pool.begin().await?;
        let at = fact.at();
        let settled_at = later(self.gatherer.clock.now(), SETTLE);
        gather(&mut transaction, fact, at, settled_at).await?;
        transaction.commit().await?;
        self.gatherer.wake.notify_one();
        Ok(())
    }
}

/// Handles `SourceFailing`: the operator is notified of a failure that lasts.
pub struct GatherFailing(pub Gatherer);

#[async_trait]
impl Handler for GatherFailing {
    type Message = v1::SourceFailing;
    type Error = GatherError;

    async fn handle(&self, delivery: Delivery<v1::SourceFailing>) -> Result<(), GatherError> {
        let fact = Fact::failing(delivery.message)?;
        let (source, since, key) = (fact.subject().to_owned(), fact.at(), fact.key());
        let mut transaction = self.0.pool.begin().await?;
        // The two topics arrive in any order: a sweep may have ended this failure already.
        let swept_at = notices::put_sweep(&mut transaction, &source, Timestamp::UNIX_EPOCH).await?;
        if swept_at > since {
            return Ok(());
        }
        // A new series of failures: an earlier one has ended, even if the sweep that ended it was not read
        // yet.
        notices::withdraw(&mut *transaction, Topic::Failing, &source, since).await?;
        if notices::is_known(&mut *transaction, &key).await? {
            notices::renew(&mut *transaction, &key, &fact).await?;
        } else {
            let lasts = since.saturating_add(self.0.failing_after).unwrap_or(Timestamp::MAX);
            // At least long enough to read a sweep that ended it: after a start, all are read again.
            let due_at = later(self.0.clock.now(), SETTLE).max(lasts);
            gather(&mut transaction, fact, since, due_at).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Handles `SourceSynced`: ends failures, and reports expected losses and problems of the source.
pub struct GatherSynced(pub Gatherer);

#[async_trait]
impl Handler for GatherSynced {
    type Message = v1::SourceSynced;
    type Error = GatherError;

    async fn handle(&self, delivery: Delivery<v1::SourceSynced>) -> Result<(), GatherError> {
        let synced = delivery.message;
        let loss = Fact::loss(&synced)?;
        let warnings = Fact::warnings(&synced)?;
        let ended_at =
            required_instant(synced.sweep_ended_at.as_ref(), "sweep_ended_at").map_err(InvalidFact::from)?;
        let now = self.0.clock.now();
        let mut transaction = self.0.pool.begin().await?;
        notices::put_sweep(&mut transaction, &synced.source_id, ended_at).await?;
        end_failure(&mut transaction, &synced.source_id, ended_at, now).await?;
        if let Some(loss) = loss {
            gather(&mut transaction, loss, ended_at, now).await?;
        }
        // A problem that was fixed before anybody was notified of it is withdrawn.
        for topic in [Topic::Clock, Topic::SharedToken, Topic::CountedTwice] {
            if !warnings.iter().any(|warning| warning.topic() == topic) {
                notices::withdraw(&mut *transaction, topic, &synced.source_id, ended_at).await?;
            }
        }
        for warning in warnings {
            let since = warning.at();
            gather(&mut transaction, warning, since, later(now, SETTLE)).await?;
        }
        transaction.commit().await?;
        self.0.wake.notify_one();
        Ok(())
    }
}

/// A failure that was not reported yet is withdrawn; a reported one is followed by the recovery, once.
async fn end_failure(
    connection: &mut PgConnection,
    source: &str,
    ended_at: Timestamp,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    notices::withdraw(&mut *connection, Topic::Failing, source, ended_at).await?;
    let last = notices::last_fact(&mut *connection, Topic::Failing, source, ended_at).await?;
    let Some(Fact::Failing(failing)) = last else { return Ok(()) };
    gather(connection, Fact::Recovered(failing), ended_at, now).await
}

/// Puts a fact that was found `at` into the notice of its topic and subject; a new one is due at `ready_at`, or
/// later if the topic's last mail is recent.
async fn gather(
    connection: &mut PgConnection,
    fact: Fact,
    at: Timestamp,
    ready_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let (key, fact) = (fact.key(), fact.abridged());
    let (topic, subject) = (fact.topic(), fact.subject().to_owned());
    notices::lock_topic(connection, topic, &subject).await?;
    if notices::is_known(&mut *connection, &key).await? {
        count(topic, "repeated");
        return Ok(());
    }
    if let Some(open) = notices::find_open(connection, topic, &subject).await? {
        notices::add(connection, &open.id, &key, &open.fact.and(fact), at).await?;
    } else {
        let spoke_at = notices::last_sealed_at(&mut *connection, topic, &subject).await?;
        let may_speak_at = spoke_at.map_or(ready_at, |spoke_at| later(spoke_at, topic.spacing()));
        let due_at = ready_at.max(may_speak_at);
        notices::open(connection, &key, &fact, at, due_at, trace::current().as_deref()).await?;
    }
    count(topic, "gathered");
    Ok(())
}

/// Gathers a fact that this service has found itself.
pub(crate) async fn gather_own(
    connection: &mut PgConnection,
    fact: Fact,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let at = fact.at();
    gather(connection, fact, at, later(now, SETTLE)).await
}

fn count(topic: Topic, outcome: &'static str) {
    metrics::counter!("flowmeter_operator_facts_total", "topic" => topic.as_str(), "outcome" => outcome)
        .increment(1);
}
