//! A small n8n: what it holds, and what happens to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use metering::{Execution, ExecutionId, Mode, Status, WorkflowId};
use proptest::prelude::*;

use crate::n8n::row::{Row, RunId};

/// A row is visible this long after its id was handed out, at the latest.
const COMMIT_S: i64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    New,
    /// Whether the process that answers holds it in memory, which hides it from the list of all.
    Running(bool),
    /// 1.x only: whether it sleeps in memory, which hides it from every list.
    Waiting(bool),
    Ended(Status),
}

#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Identifies a run, whatever its id.
    pub serial: usize,
    pub phase: Phase,
    started_s: Option<i64>,
    pub stopped_s: Option<i64>,
    commits_s: i64,
}

#[derive(Debug, Clone)]
pub enum Act {
    Start {
        queued: bool,
        hidden: bool,
        late: bool,
    },
    RunMany(u8),
    /// Takes this many seconds and gets its id at its end: no n8n does so, a stand-in may.
    RunLong(i64),
    End(prop::sample::Index, Status),
    Sleep(prop::sample::Index, bool),
    Wake(prop::sample::Index),
    Recover,
    Delete(prop::sample::Index),
    Prune(u16),
    Backup,
    /// Goes back to a backup; whether what was running then is found crashed.
    Restore(prop::sample::Index, bool),
    Pass(u16),
}

#[derive(Debug, Default)]
pub struct Model {
    pub rows: BTreeMap<u64, Run>,
    next_id: u64,
    serial: usize,
    pub now_s: i64,
    backups: Vec<(BTreeMap<u64, Run>, u64)>,
    pub restores: usize,
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

impl Model {
    /// The row of this id, if it can be seen.
    pub fn find(&self, id: RunId) -> Option<Row> {
        let visible = |run: &&Run| run.commits_s <= self.now_s;
        self.rows.get(&id.number()).filter(visible).map(|run| row((id.number(), *run)))
    }

    fn add(&mut self, phase: Phase, late: bool) -> u64 {
        self.next_id += 1;
        self.serial += 1;
        let ended = matches!(phase, Phase::Ended(_)).then_some(self.now_s);
        let run = Run {
            serial: self.serial,
            phase,
            started_s: (phase != Phase::New).then_some(self.now_s),
            stopped_s: ended,
            commits_s: self.now_s + if late { COMMIT_S } else { 0 },
        };
        self.rows.insert(self.next_id, run);
        self.next_id
    }

    pub fn act(&mut self, act: &Act) {
        let now_s = self.now_s;
        match act {
            Act::Start { queued: true, late, .. } => drop(self.add(Phase::New, *late)),
            Act::Start { hidden, late, .. } => drop(self.add(Phase::Running(*hidden), *late)),
            Act::RunMany(count) => {
                for _ in 0..*count {
                    self.add(Phase::Ended(Status::Success), false);
                }
            }
            Act::RunLong(seconds) => {
                let id = self.add(Phase::Ended(Status::Success), false);
                if let Some(run) = self.rows.get_mut(&id) {
                    run.started_s = Some(now_s - seconds);
                }
            }
            Act::End(index, status) => {
                if let Some(run) = self.pick(index, |run| !matches!(run.phase, Phase::Ended(_))) {
                    run.phase = Phase::Ended(*status);
                    run.started_s.get_or_insert(now_s);
                    run.stopped_s = Some(now_s);
                }
            }
            Act::Sleep(index, in_memory) => {
                if let Some(run) = self.pick(index, |run| matches!(run.phase, Phase::Running(_))) {
                    run.phase = Phase::Waiting(*in_memory);
                    run.stopped_s = Some(now_s);
                }
            }
            Act::Wake(index) => {
                if let Some(run) = self.pick(index, |run| matches!(run.phase, Phase::Waiting(_))) {
                    run.phase = Phase::Running(true);
                }
            }
            Act::Recover => {
                let crashed = Phase::Ended(Status::Crashed);
                // n8n recovers what has crashed within minutes.
                let soon = |run: &&mut Run| {
                    run.phase == crashed && run.stopped_s.is_some_and(|stopped_s| now_s - stopped_s < 600)
                };
                for run in self.rows.values_mut().filter(soon) {
                    run.phase = Phase::Ended(Status::Error);
                    run.stopped_s = Some(now_s);
                }
            }
            Act::Delete(index) => {
                let ids: Vec<u64> = self.rows.keys().copied().collect();
                if !ids.is_empty() {
                    self.rows.remove(index.get(&ids));
                }
            }
            Act::Prune(keep) => {
                let ended = self.rows.iter().rev().filter(|(_, run)| matches!(run.phase, Phase::Ended(_)));
                let pruned: Vec<u64> = ended.skip(usize::from(*keep)).map(|(id, _)| *id).collect();
                self.rows.retain(|id, _| !pruned.contains(id));
            }
            Act::Backup => {
                let visible = self.rows.iter().filter(|(_, run)| run.commits_s <= now_s);
                self.backups.push((visible.map(|(id, run)| (*id, *run)).collect(), self.next_id));
            }
            Act::Restore(index, crashes) => self.restore(index, *crashes),
            Act::Pass(seconds) => self.now_s += i64::from(*seconds),
        }
    }

    fn restore(&mut self, index: &prop::sample::Index, crashes: bool) {
        if self.backups.is_empty() {
            return;
        }
        (self.rows, self.next_id) = index.get(&self.backups).clone();
        self.restores += 1;
        // Starting again takes a while.
        self.now_s += 10;
        for run in self.rows.values_mut() {
            match run.phase {
                // It starts (again): another run, with the id of the first.
                Phase::New => {
                    self.serial += 1;
                    run.serial = self.serial;
                }
                Phase::Running(_) if crashes => {
                    run.phase = Phase::Ended(Status::Crashed);
                    run.stopped_s = Some(self.now_s);
                }
                _ => {}
            }
        }
    }

    fn pick(&mut self, index: &prop::sample::Index, fits: impl Fn(&Run) -> bool) -> Option<&mut Run> {
        let now_s = self.now_s;
        let ids: Vec<u64> = self
            .rows
            .iter()
            .filter(|(_, run)| run.commits_s <= now_s && fits(run))
            .map(|(id, _)| *id)
            .collect();
        if ids.is_empty() { None } else { self.rows.get_mut(index.get(&ids)) }
    }

    pub fn list(&self, shown: impl Fn(Phase) -> bool, below: u64, rows_max: usize) -> Vec<(u64, Run)> {
        let visible = self.rows.range(..below).rev().map(|(id, run)| (*id, *run));
        visible.filter(|(_, run)| run.commits_s <= self.now_s && shown(run.phase)).take(rows_max).collect()
    }
}

pub fn shown_in_list_of_all(phase: Phase) -> bool {
    !matches!(phase, Phase::Running(true) | Phase::Waiting(true))
}

pub fn row((id, run): (u64, Run)) -> Row {
    let (id, started_at) = (RunId::new(id).unwrap(), run.started_s.map(at));
    let Phase::Ended(status) = run.phase else { return Row::Open(id, started_at) };
    let execution = Execution {
        id: ExecutionId::parse(&id.to_string()).unwrap(),
        // So that it is known which run was published, whatever has its id by then.
        workflow: WorkflowId::parse(&run.serial.to_string()).unwrap(),
        workflow_name: None,
        status,
        mode: Mode::Webhook,
        started_at,
        stopped_at: at(run.stopped_s.unwrap()),
        retry_of: None,
        admitted_at: None,
    };
    Row::Final(id, execution)
}
