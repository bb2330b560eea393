//! One `ExecutionBatch` as far as it makes sense, and what of it does not.

use jiff::{SignedDuration, Timestamp};
use messaging::{Dispose, Disposition};
use metering::{Execution, InvalidId, SourceId, WorkflowId};
use proto::{instant, v1};

/// A source whose clock is further ahead than this is wrong, and would open periods that have not begun.
const CLOCK_AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Executions cannot be older than the first release of n8n (2019); bounds the months that bad input can open.
const EARLIEST_SECOND: i64 = 1_546_300_800;

/// Executions and workflows of one source.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) source: SourceId,
    pub(crate) epoch: i32,
    /// Whether the source's own list has shown them. What was pushed is only claimed.
    pub(crate) polled: bool,
    /// Each with its id as a number.
    pub(crate) executions: Vec<(i64, Execution)>,
    pub(crate) workflows: Vec<Facts>,
    /// When the executions were received: of two names of a workflow, the later holds.
    pub(crate) received_at: Timestamp,
    /// Places in the message, with the reason.
    pub(crate) unreadable: Vec<(usize, String)>,
}

/// What the source shows of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) workflow: WorkflowId,
    pub(crate) name: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) read_at: Timestamp,
}

/// A message that holds nothing to record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParcelError {
    #[error("the batch names no source")]
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

impl Parcel {
    /// Reads a message that came at `now`.
    pub(crate) fn read(message: v1::ExecutionBatch, now: Timestamp) -> Result<Self, ParcelError> {
        let mut parcel = Self {
            source: SourceId::parse(&message.source_id)?,
            epoch: i32::try_from(message.epoch).map_err(|_| ParcelError::Epoch(message.epoch))?,
            // A replayed row is one that a poll has read.
            polled: matches!(message.origin(), v1::Origin::Poll | v1::Origin::Replay),
            executions: Vec::with_capacity(message.executions.len()),
            workflows: Vec::new(),
            received_at: instant(message.received_at.as_ref(), "received_at").ok().flatten().unwrap_or(now),
            unreadable: Vec::new(),
        };
        for (place, row) in message.executions.into_iter().enumerate() {
            match read_execution(row, now) {
                Ok(execution) => parcel.executions.push(execution),
                Err(reason) => parcel.unreadable.push((place, reason)),
            }
        }
        for workflow in message.workflows {
            // Facts only refine what is known; the source repeats them.
            match read_facts(workflow, parcel.received_at) {
                Ok(facts) => parcel.workflows.push(facts),
                Err(error) => tracing::warn!(source = %parcel.source, %error, "a workflow is passed over"),
            }
        }
        Ok(parcel)
    }
}

fn read_execution(row: v1::Execution, now: Timestamp) -> Result<(i64, Execution), String> {
    let mut execution = Execution::try_from(row).map_err(|error| error.to_string())?;
    // As the database keeps them, so that figures that are made anew are the same.
    execution.started_at = execution.started_at.map(whole_microseconds);
    execution.stopped_at = whole_microseconds(execution.stopped_at);
    let id = execution.id.as_str();
    let number: i64 = id
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(|| format!("execution id {id:?} is not a number"))?;
    let stopped_at = execution.stopped_at;
    if stopped_at.duration_since(now) > CLOCK_AHEAD_MAX {
        return Err(format!("execution {id} stopped at {stopped_at}, more than a day ahead"));
    }
    if stopped_at.as_second() < EARLIEST_SECOND {
        return Err(format!("execution {id} stopped at {stopped_at}, before there was n8n"));
    }
    Ok((number, execution))
}

/// The instant without what is finer than the database keeps.
fn whole_microseconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(instant.as_microsecond()).unwrap_or(instant)
}

fn read_facts(wire: v1::Workflow, received_at: Timestamp) -> Result<Facts, InvalidId> {
    Ok(Facts {
        workflow: WorkflowId::parse(&wire.workflow_id)?,
        name: Some(wire.name).filter(|name| !name.is_empty()),
        project: Some(wire.project_id).filter(|project| !project.is_empty()),
        tags: wire.tags,
        read_at: instant(wire.read_at.as_ref(), "read_at").ok().flatten().unwrap_or(received_at),
    })
}
