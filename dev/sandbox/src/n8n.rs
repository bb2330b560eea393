//! A stand-in for n8n: any number of instances, each with its executions, its version and its faults.

mod answer;
pub(crate) mod api;
mod execution;
mod fault;
mod instance;
mod load;
mod query;
mod retention;
mod tally;
mod workflow;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use metering::Clock as _;

pub use execution::{Ending, Execution, Gone, Mode, Runs, Start, Status};
pub use fault::{BIG_PAGE_BYTES, N8nFault, SLOW_DEFAULT};
pub(crate) use instance::{Instance, to_millis};
pub use instance::{
    InstanceConfig, InstanceError, OPEN_MAX, RUNS_PER_CALL_MAX, Version, WORKFLOWS_MAX, Wait,
};
pub use load::LOAD_PER_SECOND_MAX;
pub(crate) use load::run as run_load;
pub use retention::{GONE_ROWS_MAX, RETAIN_ROWS_MAX};
pub use tally::Tally;
pub use workflow::{WorkflowChange, WorkflowSaving};

use crate::changes::Changes;
use crate::clock::SandboxClock;
use crate::faults::Faults;

/// Most instances of one sandbox: the benchmark of one collector has ten thousand.
pub const INSTANCES_MAX: usize = 20_000;

/// One n8n instance. Cloning it gives another handle to the same instance.
#[derive(Debug, Clone)]
pub struct N8n {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    instance: Mutex<Instance>,
    faults: Faults<N8nFault>,
    slowness: Mutex<Duration>,
    clock: SandboxClock,
    changes: Changes,
}

impl N8n {
    fn new(instance: Instance, clock: SandboxClock, changes: Changes) -> Self {
        let instance = Mutex::new(instance);
        let slowness = Mutex::new(SLOW_DEFAULT);
        Self { shared: Arc::new(Shared { instance, faults: Faults::default(), slowness, clock, changes }) }
    }

    /// Creates finished runs; returns their ids.
    ///
    /// # Errors
    /// A status that is not final, or more than the bounds allow.
    pub fn run(&self, runs: &Runs) -> Result<Vec<u64>, InstanceError> {
        self.change(|instance, now| instance.run(runs, now))
    }

    /// Begins an execution and leaves it open; returns its id.
    ///
    /// # Errors
    /// More open executions than the bound allows.
    pub fn start(&self, start: &Start) -> Result<u64, InstanceError> {
        self.change(|instance, now| instance.start(start, now))
    }

    /// Ends an open execution now, or turns a crashed one into an error, as n8n's recovery does.
    ///
    /// # Errors
    /// No such execution, or one that has ended.
    pub fn finish(&self, id: u64, status: Status) -> Result<(), InstanceError> {
        self.change(|instance, now| instance.finish(id, status, true, now))
    }

    /// Ends an open execution of which no row is kept: its id is burnt.
    ///
    /// # Errors
    /// No such execution, or one that has ended.
    pub fn finish_unsaved(&self, id: u64, status: Status) -> Result<(), InstanceError> {
        self.change(|instance, now| instance.finish(id, status, false, now))
    }

    /// Puts a running execution to sleep.
    ///
    /// # Errors
    /// No such execution, or one that does not run.
    pub fn wait(&self, id: u64, wait: Wait) -> Result<(), InstanceError> {
        self.change(|instance, now| instance.wait(id, wait, now))
    }

    /// Wakes a waiting execution.
    ///
    /// # Errors
    /// No such execution, or one that does not wait.
    pub fn resume(&self, id: u64) -> Result<(), InstanceError> {
        self.change(|instance, _| instance.resume(id))
    }

    /// Makes the row of an uncommitted execution visible.
    ///
    /// # Errors
    /// No such execution.
    pub fn commit(&self, id: u64) -> Result<(), InstanceError> {
        self.change(|instance, _| instance.commit(id))
    }

    /// Retries a failed execution; returns the id of the retry.
    ///
    /// # Errors
    /// No such execution, or one that did not fail.
    pub fn retry(&self, id: u64, status: Status) -> Result<u64, InstanceError> {
        self.change(|instance, now| instance.retry(id, status, now))
    }

    /// Deletes a row, whatever its state.
    ///
    /// # Errors
    /// No such execution.
    pub fn delete(&self, id: u64) -> Result<(), InstanceError> {
        self.change(|instance, _| instance.delete(id).map(drop))
    }

    /// Renames, tags or moves a workflow, created if it does not exist.
    ///
    /// # Errors
    /// More workflows than the bound allows.
    pub fn change_workflow(&self, change: &WorkflowChange) -> Result<(), InstanceError> {
        self.change(|instance, now| instance.change_workflow(change, now))
    }

    /// Deletes a workflow and its executions; returns how many.
    pub fn delete_workflow(&self, workflow: &str) -> usize {
        self.change(|instance, _| instance.delete_workflow(workflow))
    }

    /// Prunes all but the newest finished rows; returns how many.
    pub fn prune(&self, keep: usize) -> usize {
        self.change(|instance, _| instance.prune(keep))
    }

    /// Restores a backup taken when `to_id` was the newest id; 0 is an empty database.
    pub fn restore(&self, to_id: u64) {
        self.change(|instance, now| instance.restore(to_id, now));
    }

    /// Changes how the instance is set up.
    pub fn configure(&self, configure: impl FnOnce(&mut InstanceConfig)) {
        self.change(|instance, _| configure(&mut instance.config));
    }

    /// How the instance is set up.
    pub fn config(&self) -> InstanceConfig {
        self.read(|instance| instance.config.clone())
    }

    /// Begins, changes or (with 0) ends the background load.
    ///
    /// # Errors
    /// More than the bound allows, or not a number of runs at all.
    pub fn load(&self, per_second: f64) -> Result<(), InstanceError> {
        load::check(per_second)?;
        self.change(|instance, _| instance.load_per_second = per_second);
        Ok(())
    }

    /// Arms a fault for the next calls: `count` of them, or all until the faults are cleared.
    pub fn fault(&self, fault: N8nFault, count: Option<u32>) {
        self.shared.faults.arm(fault, count);
    }

    /// How late a slow answer comes.
    pub fn set_slowness(&self, slowness: Duration) {
        *self.shared.slowness.lock().unwrap_or_else(PoisonError::into_inner) = slowness;
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Answers as a starting n8n does: `starting` calls with HTML and 200, then `not_found` calls with HTML and 404.
    pub fn restart(&self, starting: u32, not_found: u32) {
        self.fault(N8nFault::Html, Some(starting));
        self.fault(N8nFault::NotFoundHtml, Some(not_found));
    }

    /// Every execution of the current life of the database, including those the API does not show.
    pub fn executions(&self) -> Vec<Execution> {
        self.settled(|instance| instance.rows.values().cloned().collect())
    }

    /// Everything that ever happened here, counted.
    pub fn tallies(&self) -> Vec<Tally> {
        self.settled(|instance| instance.tallies())
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Instance) -> T) -> T {
        read(&self.lock())
    }

    /// Reads after everything due by now has happened.
    pub(crate) fn settled<T>(&self, read: impl FnOnce(&Instance) -> T) -> T {
        let mut instance = self.lock();
        if instance.settle(self.now()) {
            self.shared.changes.mark();
        }
        read(&instance)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Instance, Timestamp) -> T) -> T {
        let now = self.now();
        let mut instance = self.lock();
        instance.settle(now);
        self.shared.changes.mark();
        change(&mut instance, now)
    }

    /// The fault of a call to this path.
    pub(crate) fn take_fault(&self, path: &str) -> Option<N8nFault> {
        self.shared.faults.take_if(|fault| fault.concerns(path))
    }

    pub(crate) fn slowness(&self) -> Duration {
        *self.shared.slowness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Date` header of its answers.
    pub(crate) fn http_date(&self) -> Option<String> {
        let ahead = SignedDuration::from_millis(self.read(|instance| instance.config.clock_ahead_ms));
        let now = self.shared.clock.now().checked_add(ahead).ok()?;
        DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()
    }

    fn now(&self) -> Timestamp {
        to_millis(self.shared.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, Instance> {
        self.shared.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All instances of the sandbox, by name.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    instances: Arc<Mutex<BTreeMap<String, N8n>>>,
    clock: SandboxClock,
    changes: Changes,
}

impl Registry {
    pub(crate) fn new(saved: BTreeMap<String, Instance>, clock: SandboxClock, changes: Changes) -> Self {
        let instances = saved
            .into_iter()
            .map(|(name, instance)| (name, N8n::new(instance, clock.clone(), changes.clone())))
            .collect();
        Self { instances: Arc::new(Mutex::new(instances)), clock, changes }
    }

    pub(crate) fn find(&self, name: &str) -> Option<N8n> {
        self.lock().get(name).cloned()
    }

    /// The instance of this name, created with n8n's defaults if it does not exist. `None` past the bound.
    pub(crate) fn find_or_create(&self, name: &str) -> Option<N8n> {
        let mut instances = self.lock();
        if let Some(n8n) = instances.get(name) {
            return Some(n8n.clone());
        }
        if instances.len() >= INSTANCES_MAX {
            return None;
        }
        self.changes.mark();
        let n8n = self.detached(name);
        instances.insert(name.to_owned(), n8n.clone());
        Some(n8n)
    }

    /// An instance that belongs to no registry.
    pub(crate) fn detached(&self, name: &str) -> N8n {
        let instance = Instance::new(InstanceConfig::for_instance(name));
        N8n::new(instance, self.clock.clone(), self.changes.clone())
    }

    pub(crate) fn all(&self) -> Vec<(String, N8n)> {
        self.lock().iter().map(|(name, n8n)| (name.clone(), n8n.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, N8n>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
