//! The argument, tried on generated histories: a small n8n acts between any two requests of a sweep, and after
//! each sweep everything that had stopped before `complete_until` must have been published, each run under one
//! key only, and each key for one run only.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use metering::{ExecutionId, Mode, Status, WorkflowId};
use proptest::prelude::*;

use super::*;

const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// A row is visible this long after its id was handed out, at the latest.
const COMMIT_S: i64 = 3;

/// Small, so that much can happen between two pages.
const PAGE_ROWS: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    /// Whether the process that answers holds it in memory, which hides it from the list of all.
    Running(bool),
    /// 1.x only: whether it sleeps in memory, which hides it from every list.
    Waiting(bool),
    Ended(Status),
}

#[derive(Debug, Clone, Copy)]
struct Run {
    /// Tells runs apart whatever their id.
    serial: usize,
    phase: Phase,
    started_s: Option<i64>,
    stopped_s: Option<i64>,
    commits_s: i64,
}

#[derive(Debug, Clone)]
enum Act {
    Start { queued: bool, hidden: bool, late: bool },
    RunMany(u8),
    End(prop::sample::Index, Status),
    Sleep(prop::sample::Index, bool),
    Wake(prop::sample::Index),
    Recover,
    Delete(prop::sample::Index),
    Prune(u16),
    Restore(u8),
    Pass(u16),
}

#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<u64, Run>,
    next_id: u64,
    serial: usize,
    now_s: i64,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

impl Model {
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

    fn act(&mut self, act: &Act) {
        let now_s = self.now_s;
        match act {
            Act::Start { queued: true, late, .. } => drop(self.add(Phase::New, *late)),
            Act::Start { hidden, late, .. } => drop(self.add(Phase::Running(*hidden), *late)),
            Act::RunMany(count) => {
                for _ in 0..*count {
                    self.add(Phase::Ended(Status::Success), false);
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
            Act::Restore(back) => {
                self.next_id = self.next_id.saturating_sub(u64::from(*back));
                self.rows.split_off(&(self.next_id + 1));
                // Starting again takes a while.
                self.now_s += 10;
            }
            Act::Pass(seconds) => self.now_s += i64::from(*seconds),
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

    fn list(&self, shown: impl Fn(Phase) -> bool, below: u64, rows_max: usize) -> Vec<(u64, Run)> {
        let visible = self.rows.range(..below).rev().map(|(id, run)| (*id, *run));
        visible.filter(|(_, run)| run.commits_s <= self.now_s && shown(run.phase)).take(rows_max).collect()
    }
}

fn shown_in_list_of_all(phase: Phase) -> bool {
    !matches!(phase, Phase::Running(true) | Phase::Waiting(true))
}

fn row((id, run): (u64, Run)) -> Row {
    let (id, started_at) = (RunId::new(id).unwrap(), run.started_s.map(at));
    let Phase::Ended(status) = run.phase else { return Row::Open(id, started_at) };
    let execution = Execution {
        id: ExecutionId::parse(&id.to_string()).unwrap(),
        workflow: WorkflowId::parse("w").unwrap(),
        workflow_name: None,
        status,
        mode: Mode::Webhook,
        started_at,
        stopped_at: at(run.stopped_s.unwrap()),
        retry_of: None,
    };
    Row::Final(id, execution)
}

/// Serves a sweep as `collect` asks for it, and lets the history go on between two requests.
struct Stage<'a> {
    model: Model,
    history: std::slice::Iter<'a, Vec<Act>>,
    /// Which run stands behind a published key, and how it was last published.
    published: HashMap<(u32, u64), (usize, Status, Timestamp)>,
    repeats: usize,
    /// Done between two sweeps: n8n is down for the time of a restore, so a sweep that meets it fails.
    restore: Option<Act>,
    /// One in a history. Several within minutes, each before the one before is proven, can be told twice.
    has_restored: bool,
}

impl Stage<'_> {
    fn pass(&mut self) {
        self.model.now_s += 1;
        for act in self.history.next().into_iter().flatten() {
            if let Act::Restore(_) = act {
                if !self.has_restored {
                    self.restore = Some(act.clone());
                    self.has_restored = true;
                }
            } else {
                self.model.act(act);
            }
        }
    }

    fn publish(&mut self, epoch: u32, execution: &Execution) {
        let id: u64 = execution.id.as_str().parse().unwrap();
        // The row was read in this very moment, so the model still shows the run.
        let serial = self.model.rows[&id].serial;
        let told = (serial, execution.status, execution.stopped_at);
        let before = self.published.insert((epoch, id), told);
        assert!(before.is_none_or(|before| before.0 == serial), "{epoch}/{id} is two runs");
        if before == Some(told) {
            self.repeats += 1;
        }
        let keys = self.published.values().filter(|other| other.0 == serial).count();
        assert_eq!(keys, 1, "run {serial} was published twice");
    }

    fn sweep(&mut self, before: Cursor) -> Cursor {
        let mut sweep = Sweep::new(before, at(self.model.now_s), SKEW);
        self.pass();
        let newest = self.model.list(shown_in_list_of_all, u64::MAX, 1).pop().map(row);
        sweep.newest_is(newest.as_ref().map(Row::id));
        let running = |phase: Phase| matches!(phase, Phase::Running(_));
        let open: [fn(Phase) -> bool; 4] =
            [|phase| phase == Phase::New, running, |phase| phase == Phase::Waiting(false), running];
        for shown in open {
            self.pass();
            for listed in self.model.list(shown, u64::MAX, usize::MAX) {
                sweep.listed_open(&row(listed));
            }
        }
        if sweep.was_restored(newest.as_ref()) {
            sweep.begin_epoch();
        }
        self.list_all(&mut sweep);
        for (id, question) in sweep.questions() {
            self.pass();
            let visible = |run: &&Run| run.commits_s <= self.model.now_s;
            let found = self.model.rows.get(&id.number()).filter(visible).map(|run| row((id.number(), *run)));
            if let Answer::Publish(execution) = sweep.answered(id, question, found) {
                self.publish(sweep.epoch(), &execution);
            }
        }
        sweep.finish("http://n8n.example/".to_owned(), 0)
    }

    fn list_all(&mut self, sweep: &mut Sweep) {
        let mut below = u64::MAX;
        loop {
            self.pass();
            let mut page = self.model.list(shown_in_list_of_all, below, PAGE_ROWS + 1);
            let is_last = page.len() <= PAGE_ROWS;
            page.truncate(PAGE_ROWS);
            let rows: Vec<Row> = page.into_iter().map(row).collect();
            if below == u64::MAX {
                self.recognise(sweep, &rows);
            }
            below = rows.last().map_or(0, |row| row.id().number());
            for execution in sweep.listed(rows) {
                self.publish(sweep.epoch(), &execution);
            }
            if sweep.has_listed_enough(is_last) {
                return;
            }
        }
    }

    fn recognise(&mut self, sweep: &mut Sweep, rows: &[Row]) {
        let mut identity = sweep.identity(rows);
        for id in sweep.known_ids() {
            if identity == Identity::Unknown {
                let found = self.model.rows.get(&id.number()).map(|run| row((id.number(), *run)));
                identity = sweep.identity(&found);
            }
        }
        if identity == Identity::Other {
            sweep.begin_epoch();
        }
    }

    fn check(&self, cursor: &Cursor) {
        let until = cursor.complete_until.unwrap();
        for (id, run) in &self.model.rows {
            let (Phase::Ended(status), Some(stopped_s)) = (run.phase, run.stopped_s) else { continue };
            let told = self.published.values().find(|told| told.0 == run.serial);
            if at(stopped_s) < until {
                let told = told.map(|(_, status, stopped_at)| (*status, *stopped_at));
                if cursor.epoch > 1 && told.is_some_and(|(status, _)| status == Status::Crashed) {
                    // A crash that became an error while the database was restored stays a crash.
                    continue;
                }
                assert_eq!(told, Some((status, at(stopped_s))), "{id} ({run:?}) is missing before {until}");
            }
        }
    }
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(Status::ALL.to_vec())
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(queued, hidden, late)| Act::Start { queued, hidden, late }),
        3 => (1..120_u8).prop_map(Act::RunMany),
        4 => (index(), status()).prop_map(|(index, status)| Act::End(index, status)),
        3 => (index(), any::<bool>()).prop_map(|(index, in_memory)| Act::Sleep(index, in_memory)),
        3 => index().prop_map(Act::Wake),
        1 => Just(Act::Recover),
        1 => (0..400_u16).prop_map(Act::Pass),
    ]
}

/// What is done between two requests: mostly nothing.
fn moments(act: impl Strategy<Value = Act> + 'static) -> impl Strategy<Value = Vec<Vec<Act>>> {
    let moment = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(act, 1..4)];
    prop::collection::vec(moment, 20..80)
}

/// Sweeps until the history has come to its end, and once more. `abandoned` sweeps are not committed.
fn play(history: &[Vec<Act>], abandoned: &[bool]) -> usize {
    let mut stage = Stage {
        model: Model::default(),
        history: history.iter(),
        published: HashMap::new(),
        repeats: 0,
        restore: None,
        has_restored: false,
    };
    let mut cursor = Cursor::start();
    let mut abandoned = abandoned.iter();
    loop {
        let is_last = stage.history.len() == 0;
        let next = stage.sweep(cursor.clone());
        stage.check(&next);
        assert!(next.complete_until >= cursor.complete_until, "complete_until went back");
        if is_last {
            return stage.repeats;
        }
        if !abandoned.next().copied().unwrap_or(false) {
            cursor = next;
        }
        // The next sweep is due some time later.
        stage.model.now_s += 60;
        if let Some(restore) = stage.restore.take() {
            stage.model.act(&restore);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_is_told_twice(history in moments(prop_oneof![
        12 => act(),
        1 => any::<prop::sample::Index>().prop_map(Act::Delete),
        1 => (100..900_u16).prop_map(Act::Prune),
    ])) {
        prop_assert_eq!(play(&history, &[]), 0, "told twice without a change");
    }

    #[test]
    fn a_sweep_that_was_not_committed_is_done_again(
        history in moments(act()),
        abandoned in prop::collection::vec(any::<bool>(), 20),
    ) {
        play(&history, &abandoned);
    }

    #[test]
    fn a_restored_database_is_told_from_its_former_life(history in moments(prop_oneof![
        // A recovery in the very sweep that meets a restore is told twice at worst: see the README.
        30 => act().prop_filter("recovery", |act| !matches!(act, Act::Recover)),
        1 => (1..150_u8).prop_map(Act::Restore),
    ])) {
        play(&history, &[]);
    }
}
