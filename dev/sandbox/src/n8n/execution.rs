//! An execution as n8n keeps it, and what a test can ask for.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The state of an execution, in n8n's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "n8n's own vocabulary")]
pub enum Status {
    Canceled,
    Crashed,
    Error,
    New,
    Running,
    Success,
    Unknown,
    Waiting,
}

impl Status {
    /// All statuses, in the order in which n8n 2.40 lists them in its error message.
    pub(crate) const ALL: [Status; 8] = [
        Status::Canceled,
        Status::Crashed,
        Status::Error,
        Status::New,
        Status::Running,
        Status::Success,
        Status::Unknown,
        Status::Waiting,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Canceled => "canceled",
            Status::Crashed => "crashed",
            Status::Error => "error",
            Status::New => "new",
            Status::Running => "running",
            Status::Success => "success",
            Status::Unknown => "unknown",
            Status::Waiting => "waiting",
        }
    }

    /// Whether an execution with this status has ended. (A crashed one may still turn into an error.)
    pub fn is_final(self) -> bool {
        matches!(self, Status::Success | Status::Error | Status::Crashed | Status::Canceled)
    }
}

/// How an execution was started, in n8n's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "n8n's own vocabulary")]
pub enum Mode {
    Agent,
    Chat,
    Cli,
    Error,
    Evaluation,
    Integrated,
    Internal,
    Manual,
    Retry,
    Trigger,
    Webhook,
}

/// Why an execution has no row any more, or never had one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// The workflow does not save such executions: the id is burnt.
    NotSaved,
    /// It was deleted, or its workflow was.
    Deleted,
    /// n8n pruned it.
    Pruned,
}

/// An end that will come by itself once the clock reaches it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ending {
    /// When it ends.
    pub at: Timestamp,
    /// How it ends.
    pub status: Status,
}

/// One execution as it really happened; the API shows a part of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    /// The id, unique within one life of the database.
    pub id: u64,
    /// The workflow's id.
    pub workflow: String,
    /// How it was started.
    pub mode: Mode,
    /// Its state.
    pub status: Status,
    /// When its row was created.
    pub created_at: Timestamp,
    /// When it began; a queued one has not.
    pub started_at: Option<Timestamp>,
    /// When it last stopped: set for a waiting one too.
    pub stopped_at: Option<Timestamp>,
    /// Until when it waits.
    pub wait_till: Option<Timestamp>,
    /// The execution it retries.
    pub retry_of: Option<u64>,
    /// The retry that succeeded.
    pub retry_success_id: Option<u64>,
    /// Whether the API process holds it in memory, which hides it from the default list.
    pub in_memory: bool,
    /// Whether its row is visible to others yet: ids are assigned before the row is committed.
    pub committed: bool,
    /// Why the API no longer shows it.
    pub gone: Option<Gone>,
    /// The end that comes by itself.
    pub ending: Option<Ending>,
}

impl Execution {
    /// Whether the API can show it at all.
    pub fn is_shown(&self) -> bool {
        self.committed && self.gone.is_none()
    }

    /// Whether it has begun or will begin, and has not ended.
    pub fn is_open(&self) -> bool {
        !self.status.is_final() && self.gone.is_none()
    }
}

/// Finished executions to create at once.
#[derive(Debug, Clone)]
pub struct Runs {
    pub(crate) workflow: String,
    pub(crate) name: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) status: Status,
    pub(crate) count: u32,
    pub(crate) duration: SignedDuration,
    pub(crate) stopped_at: Option<Timestamp>,
    pub(crate) saved: bool,
    pub(crate) committed: bool,
}

impl Runs {
    /// One successful webhook run of this workflow that took 40 ms and ended now.
    pub fn of(workflow: impl Into<String>) -> Self {
        Self {
            workflow: workflow.into(),
            name: None,
            mode: Mode::Webhook,
            status: Status::Success,
            count: 1,
            duration: SignedDuration::from_millis(40),
            stopped_at: None,
            saved: true,
            committed: true,
        }
    }

    /// Names the workflow.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How they were started.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How they ended.
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// How many.
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// How long each took.
    pub fn lasting(mut self, duration: SignedDuration) -> Self {
        self.duration = duration;
        self
    }

    /// When they ended, if not now.
    pub fn stopped_at(mut self, stopped_at: Timestamp) -> Self {
        self.stopped_at = Some(stopped_at);
        self
    }

    /// Leaves no rows: the ids are burnt, as with a workflow that does not save its executions.
    pub fn unsaved(mut self) -> Self {
        self.saved = false;
        self
    }

    /// Holds the rows back until they are committed one by one.
    pub fn uncommitted(mut self) -> Self {
        self.committed = false;
        self
    }
}

/// An execution to begin and leave open.
#[derive(Debug, Clone)]
pub struct Start {
    pub(crate) workflow: String,
    pub(crate) name: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) queued: bool,
    pub(crate) elsewhere: bool,
    pub(crate) committed: bool,
    pub(crate) ending: Option<(SignedDuration, Status)>,
}

impl Start {
    /// A webhook run of this workflow in the process that answers the API.
    pub fn of(workflow: impl Into<String>) -> Self {
        Self {
            workflow: workflow.into(),
            name: None,
            mode: Mode::Webhook,
            queued: false,
            elsewhere: false,
            committed: true,
            ending: None,
        }
    }

    /// Names the workflow.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How it was started.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Leaves it in the queue: status `new`, no start time.
    pub fn queued(mut self) -> Self {
        self.queued = true;
        self
    }

    /// Runs it in another process, so that the default list shows it as running.
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Holds the row back until it is committed.
    pub fn uncommitted(mut self) -> Self {
        self.committed = false;
        self
    }

    /// Lets it end by itself after this time on the sandbox's clock.
    pub fn ending(mut self, after: SignedDuration, status: Status) -> Self {
        self.ending = Some((after, status));
        self
    }
}
