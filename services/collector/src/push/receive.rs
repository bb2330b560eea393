//! Accepts pushed executions: checks who pushes, publishes, and only then answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use catalog::{Source, store::CatalogError};
use jiff::{SignedDuration, Timestamp};
use messaging::{PublishError, error_chain};
use metering::{Clock, Execution, Mode, SourceId};
use proto::v1::{self, Origin};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use subtle::ConstantTimeEq;

use crate::{
    checks::{
        check,
        senders::{Sender, Senders},
    },
    events::{BATCH_EXECUTIONS_MAX, Publisher, Received},
    n8n::row::{RunId, born_at},
    push::{far_ids, item::Pushed},
    store,
    sweep::epochs::Epochs,
};

/// A push token is `fmp_<source>.<secret>`: it names its source, so that one row is read to check it.
const TOKEN_PREFIX: &str = "fmp_";

/// How much later than in its row the start of a pushed execution may be: n8n's hook reports when the
/// workflow began, which on a busy machine is some 50 ms after the start in the row.
const START_TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// Accepts pushed executions.
pub struct Receive {
    /// Where executions go.
    pub publisher: Publisher,
    /// The catalog's copy, and where the last sequence is kept.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Time between sweeps of a source without an interval of its own.
    pub poll_interval: Duration,
    /// The skew above which a source's clock is reported as wrong.
    pub clock_skew_warning: SignedDuration,
    /// Who has pushed lately.
    pub senders: Senders,
}

/// A pushed execution of an unknown workflow makes the next sweep come at once, if a tenant depends on it; at
/// most once in this many seconds, because the source may list no such workflow.
pub const UNKNOWN_WORKFLOW_PAUSE_S: i64 = 60;

/// A source that may push.
#[derive(Debug)]
pub struct Pusher {
    source: SourceId,
    interval: Duration,
    depends_on_places: bool,
}

impl Pusher {
    /// The source.
    pub fn source(&self) -> &SourceId {
        &self.source
    }
}

/// Pushed executions are not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Not a token of a source.
    #[error("the push token is not known")]
    UnknownToken,
    /// The source is paused.
    #[error("the source accepts no pushed executions")]
    Resting,
    /// The catalog cannot be read.
    #[error("cannot check the push token")]
    Catalog(#[from] CatalogError),
    /// The broker did not take them.
    #[error("cannot publish")]
    Publish(#[from] PublishError),
    /// The database failed.
    #[error("cannot store the sequence")]
    Store(#[from] sqlx::Error),
}

impl Receive {
    /// The source whose token it is.
    pub async fn admit(&self, token: &SecretString) -> Result<Pusher, ReceiveError> {
        let source = source_of(token).ok_or(ReceiveError::UnknownToken)?;
        let found = catalog::store::find::<Source>(&self.pool, source.as_str()).await?;
        // The same answer whether there is such a source and whether it may push: otherwise anybody could
        // find out.
        let found = found.ok_or(ReceiveError::UnknownToken)?;
        let expected = found.push_token_sha256.ok_or(ReceiveError::UnknownToken)?;
        let hash: [u8; 32] = Sha256::digest(token.expose_secret().as_bytes()).into();
        // In constant time, which does not reveal how much of it is right.
        if !bool::from(hash.ct_eq(&expected)) {
            return Err(ReceiveError::UnknownToken);
        }
        let interval = found.poll_interval.unwrap_or(self.poll_interval);
        let depends_on_places = found.depends_on_places();
        if found.paused {
            return Err(ReceiveError::Resting);
        }
        Ok(Pusher { source, interval, depends_on_places })
    }

    /// Records who has sent a request that arrived at `received_at`. A failure loses nothing else: the
    /// executions are durable.
    pub async fn note_sender(&self, pusher: &Pusher, sender: Sender, received_at: Timestamp) {
        let source = &pusher.source;
        let note = self.senders.note_sender(source, sender, received_at);
        let noted = check::note(&self.pool, source, note, self.clock_skew_warning, self.clock.now()).await;
        if let Err(error) = noted {
            tracing::debug!(%source, error = error_chain(&error), "cannot record who pushes");
        }
    }

    /// Publishes the executions. Returns when the broker has all of them durably, and how many are left to the
    /// sweep. A failure in between leaves some published: sent again, they are the same executions, and count
    /// once.
    pub async fn publish(&self, pusher: &Pusher, mut pushed: Vec<Pushed>) -> Result<usize, ReceiveError> {
        let source = &pusher.source;
        let mut left = self.leave_far_ids(source, &mut pushed).await?;
        let Some(latest_start) = pushed.iter().map(|pushed| born_at(&pushed.execution)).max() else {
            return Ok(left);
        };
        let refused: Vec<RunId> = pushed.iter().filter(|pushed| pushed.refused).filter_map(run_id).collect();
        if !refused.is_empty() {
            // Before they are published: the sweep may find them at any moment.
            store::refusals::claim(&self.pool, source, &refused, self.clock.now()).await?;
        }
        let epochs = store::epochs::raise_latest_start(&self.pool, source, latest_start).await?;
        let mut by_epoch: BTreeMap<u32, Vec<Execution>> = BTreeMap::new();
        for pushed in pushed {
            match epoch_of(&epochs, &pushed) {
                Some(epoch) => by_epoch.entry(epoch).or_default().push(pushed.execution),
                None => left += 1,
            }
        }
        let mut published_through = 0;
        for (epoch, mut executions) in by_epoch {
            for batch in executions.chunks_mut(BATCH_EXECUTIONS_MAX) {
                let workflows = self.describe(pusher, batch).await?;
                let received = Received { epoch, origin: Origin::Push, at: self.clock.now() };
                let sequence = self.publisher.executions(source, received, batch, workflows).await?;
                published_through = published_through.max(sequence);
            }
        }
        store::published(&self.pool, source, published_through).await?;
        if published_through > 0 {
            store::pushed(&self.pool, source, pusher.interval, self.clock.now()).await?;
        }
        Ok(left)
    }

    /// Removes those whose id lies far beyond what the source has shown. Returns how many.
    async fn leave_far_ids(&self, source: &SourceId, pushed: &mut Vec<Pushed>) -> Result<usize, sqlx::Error> {
        // Most sources never have ids so large that the database has to be read.
        if !far_ids::any_beyond(pushed, far_ids::largest(None)) {
            return Ok(0);
        }
        let newest = store::newest(&self.pool, source).await?;
        let left = far_ids::take_out(pushed, far_ids::largest(newest));
        if left > 0 {
            tracing::debug!(%source, left, "pushed ids are far beyond what the source has shown; the poll decides");
            metrics::counter!("flowmeter_pushed_far_ids_total")
                .increment(u64::try_from(left).unwrap_or(u64::MAX));
        }
        Ok(left)
    }

    /// Returns what is known of the executions' workflows, and fills in missing workflow names.
    async fn describe(
        &self,
        pusher: &Pusher,
        executions: &mut [Execution],
    ) -> Result<Vec<v1::Workflow>, ReceiveError> {
        let ids: BTreeSet<_> = executions.iter().map(|execution| execution.workflow.clone()).collect();
        let known = store::workflows::of(&self.pool, &pusher.source, &ids).await?;
        if pusher.depends_on_places && known.len() < ids.len() {
            let pause_s = UNKNOWN_WORKFLOW_PAUSE_S;
            store::workflows::want(&self.pool, &pusher.source, pause_s, self.clock.now()).await?;
        }
        for execution in executions.iter_mut().filter(|execution| execution.workflow_name.is_none()) {
            let workflow = known.get(&execution.workflow).and_then(Option::as_ref);
            execution.workflow_name = workflow.and_then(|(workflow, _)| workflow.name.clone().non_empty());
        }
        let found = known.iter().filter_map(|(id, known)| known.as_ref().map(|known| (id, known)));
        Ok(found.map(|(id, (workflow, read_at))| workflow.to_wire(id, *read_at)).collect())
    }
}

/// The epoch under which the sweep publishes the execution too. `None` if its row may lie on the other side
/// of an epoch's beginning: published under both it would count twice, so it is left to the sweep.
fn epoch_of(epochs: &Epochs, pushed: &Pushed) -> Option<u32> {
    let execution = &pushed.execution;
    let epoch = epochs.of(born_at(execution));
    // n8n 1.x lists a run that has waited with the start of its last part, and the sweep publishes it under
    // the epoch of that.
    if pushed.resumed_at.is_some_and(|resumed_at| epochs.of(resumed_at) != epoch) {
        return None;
    }
    let earliest = match execution.started_at {
        // After a wait these report when they resumed: the data of their nodes, from which others derive the
        // start, is in part that of the run they began with.
        Some(_) if matches!(execution.mode, Mode::Retry | Mode::Manual) => Epochs::FIRST,
        Some(started_at) => epochs.of(started_at.saturating_sub(START_TOLERANCE).unwrap_or(started_at)),
        None => Epochs::FIRST,
    };
    (earliest == epoch).then_some(epoch)
}

fn run_id(pushed: &Pushed) -> Option<RunId> {
    RunId::new(pushed.execution.id.as_str().parse().ok()?)
}

fn source_of(token: &SecretString) -> Option<SourceId> {
    let (source, _) = token.expose_secret().strip_prefix(TOKEN_PREFIX)?.split_once('.')?;
    SourceId::parse(source).ok()
}

#[cfg(test)]
mod tests {
    use metering::{ExecutionId, Status, WorkflowId};

    use super::*;

    #[test]
    fn an_execution_near_the_beginning_of_an_epoch_is_left_to_the_sweep() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut epochs = Epochs::new(Vec::new());
        let started = |second| Execution {
            id: ExecutionId::parse("7").unwrap(),
            workflow: WorkflowId::parse("w").unwrap(),
            workflow_name: None,
            status: Status::Success,
            mode: Mode::Webhook,
            started_at: Some(at(second)),
            stopped_at: at(second + 1),
            retry_of: None,
            admitted_at: None,
        };
        let pushed = |execution| Pushed { execution, resumed_at: None, refused: false };
        let epoch_of = |epochs: &Epochs, execution: &Execution| epoch_of(epochs, &pushed(execution.clone()));
        let never_started = Execution { started_at: None, ..started(1_000) };
        let retry = |second| Execution { mode: Mode::Retry, ..started(second) };
        assert_eq!(epoch_of(&epochs, &never_started), Some(1));
        assert_eq!(epoch_of(&epochs, &retry(1_000)), Some(1), "there is no other");
        epochs.begin(at(100));
        assert_eq!(epoch_of(&epochs, &started(99)), Some(1));
        assert_eq!(epoch_of(&epochs, &started(105)), None);
        assert_eq!(epoch_of(&epochs, &started(111)), Some(2));
        assert_eq!(epoch_of(&epochs, &never_started), None);
        assert_eq!(epoch_of(&epochs, &retry(99)), Some(1), "an earlier start is in it as well");
        assert_eq!(
            epoch_of(&epochs, &retry(1_000)),
            None,
            "it may have waited since before the second began"
        );
        let waited = |second| Pushed { resumed_at: Some(at(second)), ..pushed(started(50)) };
        assert_eq!(super::epoch_of(&epochs, &waited(99)), Some(1));
        assert_eq!(super::epoch_of(&epochs, &waited(111)), None, "1.x lists it with its later start");
    }

    #[test]
    fn a_token_names_its_source() {
        let source = |text: &str| source_of(&text.into()).map(|source| source.to_string());
        assert_eq!(source("fmp_north-n8n.abc").as_deref(), Some("north-n8n"));
        for bad in ["", "fmp_", "fmp_north-n8n", "fm_north.abc", "fmp_.abc", "fmp_North!.abc"] {
            assert_eq!(source(bad), None, "{bad:?}");
        }
    }
}
