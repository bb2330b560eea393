//! What the collector publishes.

use std::time::Duration;

use jiff::Timestamp;
use messaging::{Bus, Outgoing, PublishError, ask::AskError, dead};
use metering::{Execution, SourceId};
use prost::Message;
use proto::{subjects::Question, timestamp, v1};
use sha2::{Digest, Sha256};

use crate::{
    checks::standing::Standing,
    n8n::row::{RowError, RunId},
    sweep::failure::Failure,
};

/// Executions in one message: a page of n8n's list. More would come near the broker's largest message.
pub const BATCH_EXECUTIONS_MAX: usize = 250;

/// Workflows in one message.
const BATCH_WORKFLOWS_MAX: usize = 250;

/// Bytes of workflows in one message: half of the broker's largest. One workflow takes at most a sixth of it.
const BATCH_WORKFLOW_BYTES_MAX: usize = 512 * 1024;

/// Time for the aggregator's answer while a sweep waits for it; if it does not come, the next sweep asks
/// again.
const RECORDED_TIMEOUT: Duration = Duration::from_secs(5);

/// How a batch was received.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// The epoch it is published under.
    pub epoch: u32,
    /// By poll, push or replay.
    pub origin: v1::Origin,
    /// When.
    pub at: Timestamp,
}

/// Publishes for one collector.
#[derive(Clone)]
pub struct Publisher {
    bus: Bus,
}

/// A finished sweep.
#[derive(Debug, Clone)]
pub struct Synced<'a> {
    /// The source's epoch.
    pub epoch: u32,
    /// Every execution that stopped before it has been published.
    pub complete_until: Timestamp,
    /// Executions that were open at that instant.
    pub open_executions: u32,
    /// Their ids, unless there are too many.
    pub open_ids: Vec<u64>,
    /// The sequence of the source's last batch.
    pub published_through: u64,
    /// The life of the stream that the sequence belongs to.
    pub stream_life: &'a str,
    /// When the sweep began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Executions it published.
    pub executions_published: u32,
    /// When the source is expected to prune what nobody has seen.
    pub loss_expected_at: Option<Timestamp>,
    /// Ids that the source has handed out and never showed, at most.
    pub unseen_ids_max: u64,
    /// Since when.
    pub unseen_since: Option<Timestamp>,
    /// Workflows whose settings say that some of their executions are not saved.
    pub unsaving_workflows: u32,
    /// Its standing apart from its executions.
    pub standing: &'a Standing,
}

/// A row that cannot be read, on its way to the dead letters.
#[derive(Debug)]
pub struct BadRow<'a> {
    /// The epoch it was met in.
    pub epoch: u32,
    /// The row, as [`crate::n8n::row::kept`] keeps it.
    pub row: Vec<u8>,
    /// Identifies it among the source's rows.
    pub digest: &'a str,
    /// Why it cannot be read.
    pub error: &'a RowError,
    /// When it was met.
    pub received_at: Timestamp,
}

/// How a source fails.
#[derive(Debug, Clone, Copy)]
pub struct Failing<'a> {
    /// Why.
    pub failure: &'a Failure,
    /// Since when.
    pub since: Timestamp,
    /// When it failed last.
    pub at: Timestamp,
    /// Failed sweeps in a row.
    pub consecutive: u32,
}

impl Publisher {
    /// The connection that it publishes on.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes on this connection.
    pub fn new(bus: Bus) -> Self {
        Self { bus }
    }

    /// Publishes at most [`BATCH_EXECUTIONS_MAX`] executions of one source, with what is known of their
    /// workflows unless that was published before. Returns the batch's stream sequence.
    pub async fn executions(
        &self,
        source: &SourceId,
        received: Received,
        executions: &[Execution],
        workflows: Vec<v1::Workflow>,
    ) -> Result<u64, PublishError> {
        let content = v1::ExecutionBatch {
            source_id: source.to_string(),
            epoch: received.epoch,
            // A push and a poll are two messages even if they say the same: only the poll confirms.
            origin: received.origin.into(),
            executions: executions.iter().map(v1::Execution::from).collect(),
            ..v1::ExecutionBatch::default()
        };
        // Without the time: the same page, read again after a crash, is the same message.
        let message_id = digest(&content.encode_to_vec());
        let batch = v1::ExecutionBatch { received_at: Some(timestamp(received.at)), workflows, ..content };
        let subject = self.bus.namespace().executions(source.as_str());
        let sequence = self.bus.publish(Outgoing::new(subject, message_id, &batch, received.at)).await?;
        let count = u64::try_from(executions.len()).unwrap_or(u64::MAX);
        metrics::counter!("flowmeter_executions_published_total").increment(count);
        Ok(sequence)
    }

    /// Publishes workflows without executions. Returns the stream sequence of the last batch; `None` if there
    /// is none.
    pub async fn workflows(
        &self,
        source: &SourceId,
        received: Received,
        workflows: Vec<v1::Workflow>,
    ) -> Result<Option<u64>, PublishError> {
        let mut last = None;
        for workflows in packed(workflows) {
            let batch = v1::ExecutionBatch {
                source_id: source.to_string(),
                epoch: received.epoch,
                received_at: Some(timestamp(received.at)),
                origin: received.origin.into(),
                workflows,
                ..v1::ExecutionBatch::default()
            };
            let message_id = digest(&batch.encode_to_vec());
            let subject = self.bus.namespace().executions(source.as_str());
            last = Some(self.bus.publish(Outgoing::new(subject, message_id, &batch, received.at)).await?);
        }
        Ok(last)
    }

    /// Publishes that a sweep has succeeded.
    pub async fn synced(&self, source: &SourceId, synced: Synced<'_>) -> Result<(), PublishError> {
        let standing = synced.standing;
        let message = v1::SourceSynced {
            source_id: source.to_string(),
            epoch: synced.epoch,
            complete_until: Some(timestamp(synced.complete_until)),
            open_executions: synced.open_executions,
            published_through: synced.published_through,
            sweep_started_at: Some(timestamp(synced.started_at)),
            sweep_ended_at: Some(timestamp(synced.ended_at)),
            executions_published: synced.executions_published,
            loss_expected_at: synced.loss_expected_at.map(timestamp),
            stream_life: synced.stream_life.to_owned(),
            unseen_ids_max: synced.unseen_ids_max,
            unseen_since: synced.unseen_since.map(timestamp),
            unsaving_workflows: synced.unsaving_workflows,
            open_ids: synced.open_ids,
            clock_skew_ms: standing.clock.map(|clock| clock.skew_ms),
            clock_measured_at: standing.clock.map(|clock| timestamp(clock.at)),
            clock_wrong_since: standing.clock_wrong_since.map(timestamp),
            token_shared_since: standing.token_shared_since.map(timestamp),
            instances: standing.instances.clone(),
            counted_twice_since: standing.doubled_since.map(timestamp),
            same_instance_sources: standing.same_instance.clone(),
        };
        let subject = self.bus.namespace().source_synced(source.as_str());
        self.state(subject, &message, synced.ended_at).await
    }

    /// What was recorded of these ids, from the first of them on.
    pub async fn recorded(
        &self,
        source: &SourceId,
        epoch: u32,
        (first_execution_id, last_execution_id): (u64, u64),
    ) -> Result<v1::RecordedAnswer, AskError> {
        let question = v1::RecordedQuestion {
            source_id: source.to_string(),
            epoch,
            first_execution_id,
            last_execution_id,
        };
        self.bus.ask(Question::Recorded, &question, RECORDED_TIMEOUT).await
    }

    /// Publishes an audit's progress.
    pub async fn audit(
        &self,
        source: &SourceId,
        audit: &v1::SourceAudit,
        at: Timestamp,
    ) -> Result<(), PublishError> {
        self.state(self.bus.namespace().source_audit(source.as_str()), audit, at).await
    }

    /// Publishes that a sweep has failed.
    pub async fn failing(&self, source: &SourceId, failing: Failing<'_>) -> Result<(), PublishError> {
        let message = v1::SourceFailing {
            source_id: source.to_string(),
            reason: failing.failure.reason.into(),
            detail: failing.failure.detail.clone(),
            failing_since: Some(timestamp(failing.since)),
            failed_at: Some(timestamp(failing.at)),
            consecutive_failures: failing.consecutive,
        };
        let subject = self.bus.namespace().source_failing(source.as_str());
        self.state(subject, &message, failing.at).await
    }

    /// Publishes that executions are missing, from `first` to `last`.
    pub async fn gap(
        &self,
        source: &SourceId,
        epoch: u32,
        reason: v1::GapReason,
        (first, last): (RunId, RunId),
        found_at: Timestamp,
    ) -> Result<(), PublishError> {
        let message = v1::SourceGap {
            source_id: source.to_string(),
            epoch,
            reason: reason.into(),
            first_execution_id: first.to_string(),
            last_execution_id: last.to_string(),
            found_at: Some(timestamp(found_at)),
        };
        let subject = self.bus.namespace().source_gap(source.as_str());
        // Without the time: the same gap, found again after a crash, is the same message.
        let message_id = format!("gap:{source}:{epoch}:{}:{first}:{last}", reason.as_str_name());
        self.bus.publish(Outgoing::new(subject, message_id, &message, found_at)).await.map(drop)
    }

    /// Publishes that a restore has ended an epoch: its executions from `first` on can no longer be seen. Up
    /// to which is not known, so the last id is empty.
    pub async fn epoch_ended(
        &self,
        source: &SourceId,
        epoch: u32,
        first: RunId,
        found_at: Timestamp,
    ) -> Result<(), PublishError> {
        let reason = v1::GapReason::EpochEnded;
        let message = v1::SourceGap {
            source_id: source.to_string(),
            epoch,
            reason: reason.into(),
            first_execution_id: first.to_string(),
            last_execution_id: String::new(),
            found_at: Some(timestamp(found_at)),
        };
        let subject = self.bus.namespace().source_gap(source.as_str());
        let message_id = format!("gap:{source}:{epoch}:{}", reason.as_str_name());
        self.bus.publish(Outgoing::new(subject, message_id, &message, found_at)).await.map(drop)
    }

    /// Publishes an unreadable row as a dead letter; a replay sends it to [`crate::sweep::replay::Replay`].
    pub async fn bad_row(&self, source: &SourceId, bad: BadRow<'_>) -> Result<(), PublishError> {
        let row = v1::SourceRow {
            source_id: source.to_string(),
            epoch: bad.epoch,
            row: bad.row.into(),
            received_at: Some(timestamp(bad.received_at)),
        };
        let letter = dead::Dead {
            letter_id: format!("row:{source}:{}", bad.digest),
            original_subject: self.bus.namespace().rows(source.as_str()),
            original_payload: row.encode_to_vec().into(),
            original_headers: Vec::new(),
            reason: bad.error.to_string(),
            failed_at: bad.received_at,
            deliveries: 1,
        };
        dead::publish(&self.bus, letter).await
    }

    /// Publishes a state of which only the last is kept: again whenever its content differs.
    async fn state(
        &self,
        subject: String,
        message: &impl Message,
        occurred_at: Timestamp,
    ) -> Result<(), PublishError> {
        let message_id = digest(&[subject.as_bytes(), &message.encode_to_vec()].concat());
        self.bus.publish(Outgoing::new(subject, message_id, message, occurred_at)).await.map(drop)
    }
}

/// The workflows in messages of bounded size.
fn packed(workflows: Vec<v1::Workflow>) -> Vec<Vec<v1::Workflow>> {
    let mut messages: Vec<Vec<v1::Workflow>> = Vec::new();
    let mut bytes = 0;
    for workflow in workflows {
        let more = workflow.encoded_len();
        match messages.last_mut() {
            Some(last) if last.len() < BATCH_WORKFLOWS_MAX && bytes + more <= BATCH_WORKFLOW_BYTES_MAX => {
                last.push(workflow);
                bytes += more;
            }
            _ => {
                messages.push(vec![workflow]);
                bytes = more;
            }
        }
    }
    messages
}

/// Identifies content: the first half of its SHA-256, which is more than enough to distinguish messages.
pub fn digest(content: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(content).into();
    let (half, _) = hash.split_at(16);
    hex::encode(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_are_sent_in_messages_of_bounded_size() {
        let workflow = |name: &str| v1::Workflow { name: name.to_owned(), ..v1::Workflow::default() };
        let lengths = |workflows| packed(workflows).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(Vec::new()), Vec::<usize>::new());
        assert_eq!(lengths(vec![workflow("w"); 501]), [250, 250, 1]);
        assert_eq!(lengths(vec![workflow(&"x".repeat(200 * 1024)); 5]), [2, 2, 1]);
    }
}
