//! One `ExecutionBatch`: its valid content, and the executions in it that are invalid.

use jiff::Timestamp;
use messaging::{Dispose, Disposition};
use metering::{
    Execution, InvalidId, NAME_CHARS_MAX, SafeText, SourceId, WorkflowId, check_instants, is_plausible,
};
use proto::{InvalidTimestamp, instant, v1};

/// Tags of one workflow that are kept; the collector sends no more.
const TAGS_MAX: usize = 100;

/// Executions and workflows of one source.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) source: SourceId,
    pub(crate) epoch: i32,
    /// Whether a poll of the source's own list has shown them. A push is only a claim.
    pub(crate) polled: bool,
    /// Each with its id as a number.
    pub(crate) executions: Vec<(i64, Execution)>,
    pub(crate) workflows: Vec<Facts>,
    /// When the executions were received: of two names of a workflow, the later wins.
    pub(crate) received_at: Timestamp,
    /// Indexes in the message, each with the reason.
    pub(crate) unreadable: Vec<(usize, String)>,
}

/// What the source shows of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) workflow: WorkflowId,
    pub(crate) name: Option<SafeText>,
    pub(crate) project: Option<SafeText>,
    pub(crate) tags: Vec<SafeText>,
    pub(crate) read_at: Timestamp,
}

/// A message without anything that can be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParcelError {
    #[error("the batch has no valid source id")]
    Source(#[from] InvalidId),
    #[error("epoch {0} is out of range")]
    Epoch(u32),
}

impl Dispose for ParcelError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Source(_) | Self::Epoch(_) => Disposition::DeadLetter,
        }
    }
}

impl Batch {
    /// Reads a message received at `now`.
    pub(crate) fn read(message: v1::ExecutionBatch, now: Timestamp) -> Result<Self, ParcelError> {
        let mut batch = Self {
            source: SourceId::parse(&message.source_id)?,
            epoch: i32::try_from(message.epoch).map_err(|_| ParcelError::Epoch(message.epoch))?,
            // A replayed row is one that a poll has read.
            polled: matches!(message.origin(), v1::Origin::Poll | v1::Origin::Replay),
            executions: Vec::with_capacity(message.executions.len()),
            workflows: Vec::new(),
            received_at: plausible(instant(message.received_at.as_ref(), "received_at"), now).unwrap_or(now),
            unreadable: Vec::new(),
        };
        for (place, row) in message.executions.into_iter().enumerate() {
            match read_execution(row, now) {
                Ok(execution) => batch.executions.push(execution),
                Err(reason) => batch.unreadable.push((place, reason)),
            }
        }
        for workflow in message.workflows {
            // Facts only refine what is known; the source repeats them.
            match read_facts(workflow, batch.received_at, now) {
                Ok(facts) => batch.workflows.push(facts),
                Err(error) => {
                    tracing::warn!(source = %batch.source, %error, "skipped the invalid facts of a workflow")
                }
            }
        }
        Ok(batch)
    }
}

fn read_execution(row: v1::Execution, now: Timestamp) -> Result<(i64, Execution), String> {
    let mut execution = Execution::try_from(row).map_err(|error| error.to_string())?;
    // In the database's precision, so that rebuilt figures are the same.
    execution.started_at = execution.started_at.map(whole_microseconds);
    execution.stopped_at = whole_microseconds(execution.stopped_at);
    let id = execution.id.as_str();
    let number: i64 = id
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(|| format!("execution id {id:?} is not a number"))?;
    check_instants(execution.started_at, Some(execution.stopped_at), now)
        .map_err(|error| format!("execution {id} {error}"))?;
    Ok((number, execution))
}

/// The instant in whole microseconds, the database's precision.
fn whole_microseconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

/// An instant that decides which of two readings is later. An implausible one is dropped: it would be the
/// latest for ever, or not fit the database.
fn plausible(read: Result<Option<Timestamp>, InvalidTimestamp>, now: Timestamp) -> Option<Timestamp> {
    read.ok().flatten().filter(|at| is_plausible(*at, now))
}

fn read_facts(wire: v1::Workflow, received_at: Timestamp, now: Timestamp) -> Result<Facts, InvalidId> {
    // Not only the collector may publish here. What no attribution can name is skipped, as in the collector.
    let tags = wire.tags.iter().filter_map(|tag| SafeText::exact(tag, NAME_CHARS_MAX)).take(TAGS_MAX);
    Ok(Facts {
        workflow: WorkflowId::parse(&wire.workflow_id)?,
        name: SafeText::clean(&wire.name, NAME_CHARS_MAX).non_empty(),
        project: SafeText::exact(&wire.project_id, NAME_CHARS_MAX),
        tags: tags.collect(),
        read_at: plausible(instant(wire.read_at.as_ref(), "read_at"), now).unwrap_or(received_at),
    })
}
