//! One n8n's database: what happened in it, independent of how its API shows it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::execution::{Ending, Execution, Gone, Mode, Runs, Start, Status};
use super::tally::Dropped;
use super::workflow::{Workflow, WorkflowChange};

/// n8n's default for `EXECUTIONS_DATA_PRUNE_MAX_COUNT`.
pub(crate) const ROWS_DEFAULT: usize = 10_000;
/// n8n's default for `EXECUTIONS_DATA_MAX_AGE`.
pub(crate) const HOURS_DEFAULT: i64 = 336;
/// Most runs one call may create: n8n's own list would need 400 pages for them.
pub const RUNS_PER_CALL_MAX: u32 = 100_000;
/// Most executions that may be open at once in one instance.
pub const OPEN_MAX: usize = 10_000;
/// Most workflows of one instance.
pub const WORKFLOWS_MAX: usize = 1_000;

/// Which n8n this is: the answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// The 1.x line, as recorded from 1.123.
    #[serde(rename = "1.123")]
    V1_123,
    /// The 2.x line, as recorded from 2.40.
    #[serde(rename = "2.40")]
    V2_40,
}

/// How an instance is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceConfig {
    /// Which n8n it is.
    pub version: Version,
    /// The API key it requires.
    pub key: String,
    /// How many finished executions it keeps before it prunes.
    pub retain_rows: usize,
    /// For how long it keeps finished executions before it prunes.
    pub retain_hours: i64,
    /// Whether runs happen in other processes than the one that answers the API.
    pub queue_mode: bool,
    /// How far the `Date` of its answers is ahead of the sandbox's clock, in milliseconds; negative for behind.
    #[serde(default)]
    pub clock_ahead_ms: i64,
}

impl InstanceConfig {
    /// n8n's own defaults, with the key `key-<instance>`.
    pub fn for_instance(name: &str) -> Self {
        Self {
            version: Version::V2_40,
            key: format!("key-{name}"),
            retain_rows: ROWS_DEFAULT,
            retain_hours: HOURS_DEFAULT,
            queue_mode: false,
            clock_ahead_ms: 0,
        }
    }
}

/// Why a control call was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InstanceError {
    /// No row with this id in the current life of the database.
    #[error("there is no execution {0}")]
    NoSuchExecution(u64),
    /// The execution is in a state that does not allow the step.
    #[error("execution {id} is {}, so it cannot {step}", status.as_str())]
    WrongStatus {
        /// The execution.
        id: u64,
        /// Its state.
        status: Status,
        /// The requested step.
        step: &'static str,
    },
    /// A final status was needed.
    #[error("{} is not a status that an execution can end with", .0.as_str())]
    NotFinal(Status),
    /// A bound of the stand-in.
    #[error("at most {max} {what}")]
    TooMany {
        /// What there would be too many of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

/// An execution of an earlier life of the database, before it was restored from a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Former {
    pub(crate) epoch: u32,
    pub(crate) execution: Execution,
}

/// The state of one n8n.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) config: InstanceConfig,
    pub(crate) workflows: BTreeMap<String, Workflow>,
    pub(crate) rows: BTreeMap<u64, Execution>,
    pub(crate) former: Vec<Former>,
    pub(crate) dropped: Dropped,
    pub(crate) epoch: u32,
    pub(crate) load_per_second: f64,
    /// The ids of executions that end by themselves, so that no call has to scan all rows.
    pub(super) ending: BTreeSet<u64>,
    pub(super) enforced_at: Timestamp,
    next_id: u64,
}

impl Instance {
    pub(crate) fn new(config: InstanceConfig) -> Self {
        Self {
            config,
            workflows: BTreeMap::new(),
            rows: BTreeMap::new(),
            former: Vec::new(),
            dropped: Dropped::default(),
            epoch: 1,
            load_per_second: 0.0,
            ending: BTreeSet::new(),
            enforced_at: Timestamp::UNIX_EPOCH,
            next_id: 1,
        }
    }

    /// Creates finished runs; returns their ids.
    pub(crate) fn run(&mut self, runs: &Runs, now: Timestamp) -> Result<Vec<u64>, InstanceError> {
        if !runs.status.is_final() {
            return Err(InstanceError::NotFinal(runs.status));
        }
        if runs.count > RUNS_PER_CALL_MAX {
            let max = usize::try_from(RUNS_PER_CALL_MAX).unwrap_or(usize::MAX);
            return Err(InstanceError::TooMany { what: "runs in one call", max });
        }
        self.name_workflow(&runs.workflow, runs.name.as_deref(), now)?;
        let stopped_at = to_millis(runs.stopped_at.unwrap_or(now));
        let started_at = earlier(stopped_at, runs.duration);
        let ids = (0..runs.count)
            .map(|_| {
                let mut execution = self.allocate(&runs.workflow, runs.mode, started_at);
                execution.status = runs.status;
                execution.started_at = Some(started_at);
                execution.stopped_at = Some(stopped_at);
                execution.committed = runs.committed;
                execution.gone = (!runs.saved).then_some(Gone::NotSaved);
                let id = execution.id;
                self.rows.insert(id, execution);
                id
            })
            .collect();
        self.enforce_retention(now);
        Ok(ids)
    }

    /// Begins an execution and leaves it open.
    pub(crate) fn start(&mut self, start: &Start, now: Timestamp) -> Result<u64, InstanceError> {
        if self.rows.values().filter(|row| row.is_open()).count() >= OPEN_MAX {
            return Err(InstanceError::TooMany { what: "open executions", max: OPEN_MAX });
        }
        self.name_workflow(&start.workflow, start.name.as_deref(), now)?;
        let mut execution = self.allocate(&start.workflow, start.mode, now);
        if start.queued {
            execution.status = Status::New;
        } else {
            execution.started_at = Some(now);
            execution.in_memory = !start.elsewhere && !self.config.queue_mode;
        }
        execution.committed = start.committed;
        execution.ending = start.ending.map(|(after, status)| Ending { at: later(now, after), status });
        let id = execution.id;
        if execution.ending.is_some() {
            self.ending.insert(id);
        }
        self.rows.insert(id, execution);
        Ok(id)
    }

    /// Ends an open execution, or turns a crashed one into what the recovery found. `saved: false` leaves no row.
    pub(crate) fn finish(
        &mut self,
        id: u64,
        status: Status,
        saved: bool,
        now: Timestamp,
    ) -> Result<(), InstanceError> {
        if !status.is_final() {
            return Err(InstanceError::NotFinal(status));
        }
        let row = self.row(id)?;
        if !row.is_open() && row.status != Status::Crashed {
            return Err(InstanceError::WrongStatus { id, status: row.status, step: "end again" });
        }
        end(row, status, now);
        if !saved {
            row.gone = Some(Gone::NotSaved);
        }
        self.ending.remove(&id);
        self.enforce_retention(now);
        Ok(())
    }

    /// Puts a running execution to sleep. It has stopped for now, and n8n sets its `stoppedAt`.
    pub(crate) fn wait(&mut self, id: u64, wait: Wait, now: Timestamp) -> Result<(), InstanceError> {
        let row = self.row(id)?;
        if !matches!(row.status, Status::Running | Status::New) {
            return Err(InstanceError::WrongStatus { id, status: row.status, step: "begin to wait" });
        }
        let wakes_at = later(now, wait.lasting);
        row.status = Status::Waiting;
        row.started_at.get_or_insert(now);
        row.stopped_at = Some(now);
        row.wait_till = Some(wakes_at);
        row.in_memory = wait.in_memory;
        row.ending = wait.then.map(|status| Ending { at: wakes_at, status });
        if row.ending.is_some() {
            self.ending.insert(id);
        }
        Ok(())
    }

    /// Wakes a waiting execution: it runs again, under the same id and with the same start.
    pub(crate) fn resume(&mut self, id: u64) -> Result<(), InstanceError> {
        let in_memory = !self.config.queue_mode;
        let row = self.row(id)?;
        if row.status != Status::Waiting {
            return Err(InstanceError::WrongStatus { id, status: row.status, step: "resume" });
        }
        row.status = Status::Running;
        row.wait_till = None;
        row.ending = None;
        row.in_memory = in_memory;
        self.ending.remove(&id);
        Ok(())
    }

    /// Makes the row of an uncommitted execution visible.
    pub(crate) fn commit(&mut self, id: u64) -> Result<(), InstanceError> {
        self.row(id)?.committed = true;
        Ok(())
    }

    /// Retries a failed execution as a new one. If that succeeds, the original refers to it.
    pub(crate) fn retry(&mut self, id: u64, status: Status, now: Timestamp) -> Result<u64, InstanceError> {
        let original = self.row(id)?;
        if !matches!(original.status, Status::Error | Status::Crashed) {
            return Err(InstanceError::WrongStatus { id, status: original.status, step: "be retried" });
        }
        let workflow = original.workflow.clone();
        let retried = self.run(&Runs::of(workflow).mode(Mode::Retry).status(status), now)?;
        let retry = retried.first().copied().ok_or(InstanceError::NoSuchExecution(id))?;
        if let Some(row) = self.rows.get_mut(&retry) {
            row.retry_of = Some(id);
        }
        if status == Status::Success {
            self.row(id)?.retry_success_id = Some(retry);
        }
        Ok(retry)
    }

    /// Removes a row, whatever its state, as its workflow's owner may.
    pub(crate) fn delete(&mut self, id: u64) -> Result<Execution, InstanceError> {
        let row = self.row(id)?;
        row.gone = Some(Gone::Deleted);
        let deleted = row.clone();
        self.ending.remove(&id);
        Ok(deleted)
    }

    /// Deletes a workflow and with it its executions; returns how many.
    pub(crate) fn delete_workflow(&mut self, workflow: &str) -> usize {
        self.workflows.remove(workflow);
        let mut deleted = 0;
        for row in self.rows.values_mut().filter(|row| row.workflow == workflow && row.gone.is_none()) {
            row.gone = Some(Gone::Deleted);
            deleted += 1;
        }
        deleted
    }

    /// Goes back to a backup taken when `to_id` was the newest id: newer rows vanish, and their ids are assigned again.
    pub(crate) fn restore(&mut self, to_id: u64, now: Timestamp) {
        let epoch = self.epoch;
        let lost = self.rows.split_off(&to_id.saturating_add(1));
        self.former.extend(lost.into_values().map(|execution| Former { epoch, execution }));
        self.ending.retain(|id| *id <= to_id);
        self.epoch = self.epoch.saturating_add(1);
        self.next_id = to_id.saturating_add(1);
        self.enforce_retention(now);
    }

    /// Applies what is due by now: the ends of executions, and n8n's own pruning.
    pub(crate) fn settle(&mut self, now: Timestamp) -> bool {
        let due: Vec<(u64, Ending)> = self
            .ending
            .iter()
            .filter_map(|id| self.rows.get(id).and_then(|row| row.ending).map(|ending| (*id, ending)))
            .filter(|(_, ending)| ending.at <= now)
            .collect();
        for (id, ending) in &due {
            if let Some(row) = self.rows.get_mut(id) {
                end(row, ending.status, ending.at);
            }
            self.ending.remove(id);
        }
        let pruned = self.enforce_retention_hourly(now);
        !due.is_empty() || pruned
    }

    fn row(&mut self, id: u64) -> Result<&mut Execution, InstanceError> {
        self.rows.get_mut(&id).filter(|row| row.gone.is_none()).ok_or(InstanceError::NoSuchExecution(id))
    }

    fn name_workflow(&mut self, id: &str, name: Option<&str>, now: Timestamp) -> Result<(), InstanceError> {
        if !self.workflows.contains_key(id) && self.workflows.len() >= WORKFLOWS_MAX {
            return Err(InstanceError::TooMany { what: "workflows", max: WORKFLOWS_MAX });
        }
        let workflow = self.workflows.entry(id.to_owned()).or_insert_with(|| Workflow::new(id, now));
        if let Some(name) = name {
            name.clone_into(&mut workflow.name);
        }
        Ok(())
    }

    /// Renames, tags or moves a workflow.
    pub(crate) fn change_workflow(
        &mut self,
        change: &WorkflowChange,
        now: Timestamp,
    ) -> Result<(), InstanceError> {
        self.name_workflow(&change.workflow, change.name.as_deref(), now)?;
        if let Some(workflow) = self.workflows.get_mut(&change.workflow) {
            if let Some(tags) = &change.tags {
                workflow.tags.clone_from(tags);
            }
            workflow.project = change.project.clone().or(workflow.project.take());
            workflow.saving = change.saving.or(workflow.saving);
        }
        Ok(())
    }

    /// A running execution with the next id, not yet in the table.
    fn allocate(&mut self, workflow: &str, mode: Mode, created_at: Timestamp) -> Execution {
        let id = self.next_id;
        self.next_id += 1;
        Execution {
            id,
            workflow: workflow.to_owned(),
            mode,
            status: Status::Running,
            created_at,
            started_at: None,
            stopped_at: None,
            wait_till: None,
            retry_of: None,
            retry_success_id: None,
            in_memory: false,
            committed: true,
            gone: None,
            ending: None,
        }
    }
}

/// How an execution waits.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// For how long.
    pub lasting: SignedDuration,
    /// How it ends when the time is over; `None` leaves it waiting until it is resumed or finished.
    pub then: Option<Status>,
    /// Whether the API process keeps it in memory, which 1.123 hides.
    pub in_memory: bool,
}

impl Wait {
    /// Waits this long on the sandbox's clock, and then until it is resumed or finished.
    pub fn lasting(lasting: SignedDuration) -> Self {
        Self { lasting, then: None, in_memory: false }
    }

    /// Ends by itself when the time is over.
    pub fn then(mut self, status: Status) -> Self {
        self.then = Some(status);
        self
    }
}

fn end(row: &mut Execution, status: Status, at: Timestamp) {
    row.status = status;
    row.started_at.get_or_insert(at);
    row.stopped_at = Some(at);
    row.wait_till = None;
    row.in_memory = false;
    row.ending = None;
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(now)
}

fn earlier(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_sub(by).unwrap_or(now)
}

/// n8n keeps milliseconds; a finer instant would not equal itself after a round trip through the API.
pub(crate) fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
