//! What a worker remembers of sources: their execution ids, their workflows, and which tenants they belong
//! to. Only a cache: it is valid while the source's row has the version that it had when the worker last
//! locked it, and is dropped otherwise, and after every transaction that did not commit.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};
use jiff::Timestamp;
use metering::{SafeText, TenantId, WorkflowId};

use crate::recording::{
    batch::Facts,
    id_chunks::{Chunk, place_of},
    known_workflow::Workflow,
    ownership::Ownership,
};

/// Chunks that one worker remembers; a full one takes 8 KiB.
const CHUNKS_MAX: usize = 8_192;

/// Workflows that one worker remembers.
const WORKFLOWS_MAX: usize = 200_000;

/// A push adds a workflow only while its source has fewer than this. Anyone with a push token can make up
/// ids, and each is kept for ever.
const PUSHED_WORKFLOWS_MAX: usize = 10_000;

const NOT_SHOWN_NAME: &str = "Workflows that no poll has shown yet";

/// What a worker remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    sources: HashMap<i32, Remembered>,
    transactions: u64,
}

/// What is remembered of one source.
#[derive(Debug)]
pub(crate) struct Remembered {
    version: i64,
    last_used: u64,
    pub(crate) ownership: Ownership,
    pub(crate) chunks: HashMap<(i32, i64), Chunk>,
    pub(crate) workflows: HashMap<WorkflowId, Workflow>,
    /// How many workflows the source has, once it was queried.
    pub(crate) workflows_kept: Option<usize>,
}

impl Memory {
    /// What is remembered of a source whose row has this version, if it is still valid.
    pub(crate) fn recall(&mut self, source: i32, version: i64) -> Option<&mut Remembered> {
        let transactions = self.transactions;
        let remembered = self.sources.get_mut(&source).filter(|known| known.version == version)?;
        remembered.last_used = transactions;
        Some(remembered)
    }

    /// Begins to remember a source.
    pub(crate) fn begin(&mut self, source: i32, version: i64, ownership: Ownership) {
        let remembered = Remembered {
            version,
            last_used: self.transactions,
            ownership,
            chunks: HashMap::new(),
            workflows: HashMap::new(),
            workflows_kept: None,
        };
        self.sources.insert(source, remembered);
    }

    /// What is remembered of a source that was recalled or begun in this transaction.
    pub(crate) fn of(&mut self, source: i32) -> Option<&mut Remembered> {
        self.sources.get_mut(&source)
    }

    /// The transaction has committed, and has raised the versions of these sources by one.
    pub(crate) fn committed(&mut self, raised: &[i32]) {
        for source in raised {
            if let Some(remembered) = self.sources.get_mut(source) {
                remembered.version += 1;
            }
        }
        self.transactions += 1;
        self.shrink();
    }

    /// Drops sources: their transaction was rolled back, its outcome is unknown, or memory is full.
    pub(crate) fn forget(&mut self, sources: impl IntoIterator<Item = i32>) {
        for source in sources {
            self.sources.remove(&source);
        }
    }

    /// If there is too much, drops the half of the sources that was least recently used: half, so that it is
    /// rare.
    fn shrink(&mut self) {
        let chunks: usize = self.sources.values().map(|source| source.chunks.len()).sum();
        let workflows: usize = self.sources.values().map(|source| source.workflows.len()).sum();
        if chunks <= CHUNKS_MAX && workflows <= WORKFLOWS_MAX {
            return;
        }
        let mut by_use: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
        for (number, source) in &self.sources {
            by_use.entry(source.last_used).or_default().push(*number);
        }
        let half = self.sources.len().div_ceil(2);
        let oldest: Vec<i32> = by_use.into_values().flatten().take(half).collect();
        self.forget(oldest);
    }
}

impl Remembered {
    /// Whether the execution is recorded. Its chunk must have been loaded.
    pub(crate) fn knows(&self, epoch: i32, id: i64) -> bool {
        let (chunk, low) = place_of(id);
        self.chunks.get(&(epoch, chunk)).is_some_and(|chunk| chunk.ids.contains(low))
    }

    /// Notes that it is recorded, and how: as crashed, and as not shown by a poll yet.
    pub(crate) fn note(&mut self, epoch: i32, id: i64, crashed: bool, pushed: bool) {
        let (chunk, low) = place_of(id);
        let chunk = self.chunks.entry((epoch, chunk)).or_default();
        chunk.ids.insert(low);
        for (is, kept) in [(crashed, &mut chunk.crashed), (pushed, &mut chunk.pushed)] {
            // Most ids are in neither, and checking is cheaper than removing.
            if is {
                kept.insert(low);
            } else if !kept.is_empty() {
                kept.remove(low);
            }
        }
    }

    /// Whether it is recorded as crashed.
    pub(crate) fn is_crashed(&self, epoch: i32, id: i64) -> bool {
        let (chunk, low) = place_of(id);
        self.chunks.get(&(epoch, chunk)).is_some_and(|chunk| chunk.crashed.contains(low))
    }

    /// Whether it is recorded and no poll has shown it yet.
    pub(crate) fn is_only_pushed(&self, epoch: i32, id: i64) -> bool {
        let (chunk, low) = place_of(id);
        self.chunks.get(&(epoch, chunk)).is_some_and(|chunk| chunk.pushed.contains(low))
    }

    /// The number of the workflow that executions of this one are counted under.
    pub(crate) fn number_of(&self, workflow: &WorkflowId) -> i32 {
        let known = self.workflows.get(workflow).or_else(|| self.workflows.get(&WorkflowId::not_shown()));
        known.map_or(0, |known| known.number)
    }

    /// Learns a workflow's name from an execution, and returns the workflow that the execution is counted
    /// under. Once the source's list has named a workflow, a push does not rename it. A push adds none beyond
    /// [`PUSHED_WORKFLOWS_MAX`]: executions of further ones are counted under one common workflow, and
    /// corrected by the poll.
    pub(crate) fn name(
        &mut self,
        workflow: &WorkflowId,
        name: Option<&SafeText>,
        at: Timestamp,
        polled: bool,
    ) -> WorkflowId {
        let is_full = self.workflows_kept.is_some_and(|kept| kept >= PUSHED_WORKFLOWS_MAX);
        let (workflow, name) = if polled || !is_full || self.workflows.contains_key(workflow) {
            (workflow.clone(), name.map(SafeText::as_str))
        } else {
            metrics::counter!("flowmeter_executions_of_workflows_not_shown_total").increment(1);
            (WorkflowId::not_shown(), Some(NOT_SHOWN_NAME))
        };
        if !self.workflows.contains_key(&workflow) {
            self.workflows.insert(workflow.clone(), Workflow { dirty: true, ..Workflow::default() });
            self.workflows_kept = self.workflows_kept.map(|kept| kept + 1);
        }
        let (Some(known), Some(name)) = (self.workflows.get_mut(&workflow), name) else { return workflow };
        let newer = known.named_at.is_none_or(|named_at| named_at < at);
        if newer && (polled || known.read_at.is_none()) && known.name.as_deref() != Some(name) {
            known.name = Some(name.to_owned());
            known.named_at = Some(at);
            known.dirty = true;
        }
        workflow
    }

    /// Learns what the source shows of a workflow. Returns whether its executions may belong to another
    /// tenant now.
    pub(crate) fn learn(&mut self, facts: Facts) -> bool {
        let name = facts.name.map(String::from);
        let project = facts.project.map(String::from);
        let tags: Vec<String> = facts.tags.into_iter().map(String::from).collect();
        let known =
            self.workflows.entry(facts.workflow).or_insert(Workflow { dirty: true, ..Workflow::default() });
        if name.is_some() && known.named_at.is_none_or(|named_at| named_at < facts.read_at) {
            known.dirty |= known.name != name;
            known.name = name;
            known.named_at = Some(facts.read_at);
        }
        if known.read_at.is_some_and(|read_at| read_at >= facts.read_at) {
            return false;
        }
        let moved = known.project != project || known.tags != tags;
        known.dirty |= moved || known.read_at.is_none();
        known.project = project;
        known.tags = tags;
        known.read_at = Some(facts.read_at);
        moved
    }

    /// The tenant of an execution.
    pub(crate) fn tenant_of(&self, workflow: &WorkflowId, stopped_at: Timestamp) -> Option<&TenantId> {
        self.ownership.tenant_of(workflow, self.workflows.get(workflow), stopped_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::id_chunks::ids_of;

    #[test]
    fn an_old_version_is_not_recalled() {
        let mut memory = Memory::default();
        memory.begin(1, 7, Ownership::Tenant(None));
        assert!(memory.recall(1, 7).is_some());
        assert!(memory.recall(1, 8).is_none());
        memory.committed(&[1]);
        assert!(memory.recall(1, 7).is_none());
        assert!(memory.recall(1, 8).is_some());
        memory.forget([1]);
        assert!(memory.recall(1, 8).is_none());
    }

    #[test]
    fn ids_at_the_edges_of_a_chunk_are_distinct() {
        let mut memory = Memory::default();
        memory.begin(1, 0, Ownership::Tenant(None));
        let source = memory.of(1).unwrap();
        for id in [0, 65_535, 65_536, i64::MAX] {
            assert!(!source.knows(1, id));
            source.note(1, id, false, false);
            assert!(source.knows(1, id) && !source.knows(2, id), "{id}");
            let (first, last) = ids_of(place_of(id).0);
            assert!((first..=last).contains(&id));
        }
        assert!(!source.knows(1, 1) && !source.knows(1, i64::MAX - 1));
    }

    #[test]
    fn the_last_note_decides_whether_an_execution_may_still_change() {
        let mut memory = Memory::default();
        memory.begin(1, 0, Ownership::Tenant(None));
        let source = memory.of(1).unwrap();
        let state = |source: &Remembered| (source.is_crashed(1, 7), source.is_only_pushed(1, 7));
        for (crashed, pushed) in [(true, true), (false, true), (true, false), (false, false)] {
            source.note(1, 7, crashed, pushed);
            assert_eq!(state(source), (crashed, pushed));
            assert!(source.knows(1, 7) && !source.is_crashed(1, 8) && !source.is_only_pushed(2, 7));
        }
    }

    #[test]
    fn the_later_reading_of_a_workflow_wins() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let workflow = WorkflowId::parse("w").unwrap();
        let text = |text: &str| SafeText::clean(text, 100);
        let facts = |name: &str, tag: &str, second| Facts {
            workflow: workflow.clone(),
            name: Some(text(name)),
            project: None,
            tags: vec![text(tag)],
            read_at: at(second),
        };
        let mut memory = Memory::default();
        memory.begin(1, 0, Ownership::Tenant(None));
        let source = memory.of(1).unwrap();
        source.name(&workflow, Some(&text("From a run")), at(5), false);
        assert!(source.learn(facts("First", "a", 10)));
        assert!(!source.learn(facts("Older", "b", 9)));
        source.name(&workflow, Some(&text("Older still")), at(8), true);
        let known = &source.workflows[&workflow];
        assert_eq!(
            (known.name.as_deref(), known.tags.as_slice()),
            (Some("First"), ["a".to_owned()].as_slice())
        );
        assert!(!source.learn(facts("Renamed", "a", 11)), "a name alone moves nothing");
        source.name(&workflow, Some(&text("Pushed")), at(12), false);
        assert_eq!(source.workflows[&workflow].name.as_deref(), Some("Renamed"), "a push renames nothing");
        source.name(&workflow, Some(&text("Newest")), at(12), true);
        assert_eq!(source.workflows[&workflow].name.as_deref(), Some("Newest"));
    }
}
