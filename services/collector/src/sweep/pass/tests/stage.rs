//! Runs sweeps as `collect` and `schedule` do, continues the history between two requests, and checks after
//! each sweep what it claims.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use metering::{Execution, Status};

use super::{
    super::{Answer, Identity, Part, Sweep},
    model::{Act, Model, Phase, at, row, shown_in_list_of_all},
};
use crate::{
    n8n::row::{Row, RunId, born_at},
    sweep::cursor::{Backlog, Begin, Cursor, State},
};

const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Small, so that much can happen between two pages.
const PAGE_ROWS: usize = 40;

/// More attempts would be a sweep that never ends.
const ATTEMPTS_MAX: usize = 50;

/// Why a sweep is given up.
enum Stop {
    Contradicted(Begin),
    Changed,
}

fn check(sweep: &Sweep) -> Result<(), Stop> {
    sweep.contradiction().map_or(Ok(()), |begin| Err(Stop::Contradicted(begin)))
}

/// A source with its n8n, and what was published of it.
pub struct Stage<'a> {
    model: Model,
    /// Pages of the list that one sweep reads.
    slice_pages: usize,
    history: std::slice::Iter<'a, Vec<Act>>,
    /// As the store has it.
    cursor: Cursor,
    /// Which run a published key belongs to, and how it was last published.
    published: BTreeMap<(u32, u64), (usize, Status, Timestamp)>,
    epoch_of: HashMap<usize, u32>,
    /// Runs that were open when a cursor was committed.
    open: BTreeMap<u64, usize>,
    vanished: HashSet<u64>,
    /// Runs that were lost because their keys were another's.
    taken: HashSet<usize>,
    /// Epochs that began because of what a sweep has seen.
    pub epochs_begun: usize,
    met_in_the_middle: bool,
    /// Whether restores wait for the end of the sweep.
    pub only_between: bool,
    /// A restore that comes between this sweep and the next.
    between: Option<Act>,
    /// Sweeps that found their source changed at the end.
    pub given_up: usize,
    /// Executions that were published again unchanged.
    pub repeats: usize,
}

impl<'a> Stage<'a> {
    pub fn new(history: &'a [Vec<Act>], slice_pages: usize) -> Self {
        Self {
            model: Model::default(),
            slice_pages,
            history: history.iter(),
            cursor: Cursor::start(),
            published: BTreeMap::new(),
            epoch_of: HashMap::new(),
            open: BTreeMap::new(),
            vanished: HashSet::new(),
            taken: HashSet::new(),
            epochs_begun: 0,
            met_in_the_middle: false,
            only_between: false,
            between: None,
            given_up: 0,
            repeats: 0,
        }
    }

    /// Sweeps until the history is at its end and everything was read. `abandoned` sweeps are not committed.
    pub fn play(&mut self, abandoned: &[bool]) {
        let mut abandoned = abandoned.iter();
        loop {
            let is_last = self.history.len() == 0;
            let next = self.sweep_until_done();
            assert!(next.complete_until >= self.cursor.complete_until, "complete_until went back");
            if is_last || !abandoned.next().copied().unwrap_or(false) {
                self.commit(next);
            }
            if is_last && self.cursor.backlog.is_none() {
                return;
            }
            // The next sweep is due some time later.
            self.model.now_s += 60;
            if let Some(restore) = self.between.take() {
                self.model.act(&restore);
            }
        }
    }

    fn pass(&mut self) {
        self.model.now_s += 1;
        for act in self.history.next().into_iter().flatten() {
            if self.only_between && matches!(act, Act::Restore(..)) {
                self.between = Some(act.clone());
                continue;
            }
            let restores = self.model.restores;
            self.model.act(act);
            self.met_in_the_middle |= self.model.restores > restores;
        }
    }

    /// What a restore in the middle of a sweep, or several restores, can do to a life that no sweep has seen
    /// is not fully known: see the README. Then the only claim is that nothing is counted twice.
    fn is_obscure(&self) -> bool {
        self.met_in_the_middle || self.model.restores > 1
    }

    fn sweep_until_done(&mut self) -> Cursor {
        for _ in 0..ATTEMPTS_MAX {
            if self.cursor.unfinished {
                self.cursor.begin_epoch(Begin::Doubtful);
            }
            match self.sweep() {
                Ok(next) => return next,
                Err(Stop::Contradicted(begin)) => {
                    self.epochs_begun += 1;
                    self.cursor.begin_epoch(begin);
                }
                Err(Stop::Changed) => self.given_up += 1,
            }
        }
        panic!("the sweep does not end");
    }

    fn sweep(&mut self) -> Result<Cursor, Stop> {
        let mut sweep = Sweep::new(self.cursor.clone(), at(self.model.now_s), SKEW);
        self.pass();
        let newest = self.newest();
        sweep.newest_is(newest.as_ref().map(Row::id), newest.as_ref());
        let running = |phase: Phase| matches!(phase, Phase::Running(_));
        let open: [fn(Phase) -> bool; 4] =
            [|phase| phase == Phase::New, running, |phase| phase == Phase::Waiting(false), running];
        for shown in open {
            self.pass();
            for listed in self.model.list(shown, u64::MAX, usize::MAX) {
                sweep.listed_open(&row(listed));
            }
        }
        sweep.compare(newest.as_ref());
        check(&sweep)?;
        let backlog = self.list_live(&mut sweep)?;
        let backlog = self.list_backlog(&mut sweep, backlog)?;
        for (id, question) in sweep.questions() {
            self.pass();
            match sweep.answered(id, question, self.model.find(id)) {
                Answer::Publish(execution) => self.publish(&execution),
                Answer::Vanished => drop(self.vanished.insert(id.number())),
                Answer::Nothing => check(&sweep)?,
            }
        }
        self.look_again(&sweep)?;
        for execution in sweep.take_held_back() {
            self.publish(&execution);
        }
        self.vanished.extend(sweep.replaced().map(RunId::number));
        let next = sweep.finish(
            "http://n8n.example/".to_owned(),
            0,
            self.cursor.latest_start,
            backlog,
            crate::n8n::workflow::SaveSettings::default(),
        );
        if next.backlog.is_none() && !self.is_obscure() {
            self.check_completeness(next.complete_until.unwrap());
        }
        Ok(next)
    }

    fn newest(&self) -> Option<Row> {
        self.model.list(shown_in_list_of_all, u64::MAX, 1).pop().map(row)
    }

    fn page(&self, below: u64) -> (Vec<Row>, Option<u64>) {
        let mut page = self.model.list(shown_in_list_of_all, below, PAGE_ROWS + 1);
        let is_last = page.len() <= PAGE_ROWS;
        page.truncate(PAGE_ROWS);
        let next = page.last().map(|(id, _)| *id).filter(|_| !is_last);
        (page.into_iter().map(row).collect(), next)
    }

    fn list_live(&mut self, sweep: &mut Sweep) -> Result<Option<Backlog>, Stop> {
        let mut below = u64::MAX;
        for page_number in 1.. {
            self.pass();
            let (rows, next) = self.page(below);
            if below == u64::MAX && self.recognise(sweep, &rows) == Identity::Other {
                return Err(Stop::Contradicted(Begin::Restored));
            }
            self.publish_listed(sweep, rows, Part::Live)?;
            if sweep.has_listed_enough(next.is_none()) {
                break;
            }
            below = next.unwrap();
            if self.cursor.floor.is_none() && page_number == self.slice_pages {
                return Ok(Some(Backlog { next_page: below.to_string(), rows_read: 0 }));
            }
        }
        Ok(self.cursor.backlog.clone())
    }

    fn list_backlog(&mut self, sweep: &mut Sweep, backlog: Option<Backlog>) -> Result<Option<Backlog>, Stop> {
        let Some(mut backlog) = backlog else { return Ok(None) };
        if self.cursor.floor.is_none() {
            return Ok(Some(backlog));
        }
        for _ in 0..self.slice_pages {
            self.pass();
            let (rows, next) = self.page(backlog.next_page.parse().unwrap());
            self.publish_listed(sweep, rows, Part::Backlog)?;
            let Some(next) = next else { return Ok(None) };
            backlog.next_page = next.to_string();
        }
        Ok(Some(backlog))
    }

    fn publish_listed(&mut self, sweep: &mut Sweep, rows: Vec<Row>, part: Part) -> Result<(), Stop> {
        let news = sweep.listed(rows, part);
        check(sweep)?;
        for execution in &news {
            self.publish(execution);
        }
        Ok(())
    }

    fn recognise(&self, sweep: &Sweep, rows: &[Row]) -> Identity {
        let mut identity = sweep.identity(rows);
        for id in sweep.known_ids() {
            if identity == Identity::Unknown {
                identity = sweep.identity(&self.model.find(id));
            }
        }
        identity
    }

    fn look_again(&mut self, sweep: &Sweep) -> Result<(), Stop> {
        self.pass();
        // At one moment: what happens between the last two requests might as well happen after the sweep.
        let is_unchanged = sweep.is_unchanged(self.newest().as_ref()).unwrap_or_else(|| {
            let anchor = sweep.anchor().and_then(|id| self.model.find(id));
            anchor.is_some_and(|row| sweep.is_anchor(&row))
        });
        if is_unchanged { Ok(()) } else { Err(Stop::Changed) }
    }

    fn publish(&mut self, execution: &Execution) {
        let born_at = born_at(execution);
        if Some(born_at) > self.cursor.latest_start {
            self.cursor.latest_start = Some(born_at);
            self.cursor.unfinished = true;
        }
        let epoch = self.cursor.epochs.of(born_at);
        let id: u64 = execution.id.as_str().parse().unwrap();
        let serial: usize = execution.workflow.as_str().parse().unwrap();
        let published_as = (serial, execution.status, execution.stopped_at);
        let before = self.published.get(&(epoch, id)).copied();
        if before.is_some_and(|before| before.0 != serial) {
            // Lost, because a restore was noticed too late; without one it cannot be. Better lost than
            // counted twice.
            assert!(self.model.restores > 0, "{epoch}/{id} is two runs");
            self.taken.insert(serial);
            return;
        }
        self.published.insert((epoch, id), published_as);
        if before == Some(published_as) {
            self.repeats += 1;
        }
        let first = *self.epoch_of.entry(serial).or_insert(epoch);
        assert_eq!(first, epoch, "run {serial} was published under two epochs");
    }

    fn commit(&mut self, next: Cursor) {
        self.check_gaps(&next);
        let is_open = |id: &RunId| next.tracked.get(id).is_some_and(|known| known.state == State::Open);
        let rows = self.model.rows.iter();
        self.open = rows
            .filter(|(id, _)| is_open(&RunId::new(**id).unwrap()))
            .map(|(id, run)| (*id, run.serial))
            .collect();
        self.cursor = next;
    }

    /// Everything that is final and visible and stopped before `until` was published as it is.
    fn check_completeness(&self, until: Timestamp) {
        let published_as: HashMap<usize, (Status, Timestamp)> =
            self.published.values().map(|(serial, status, stopped)| (*serial, (*status, *stopped))).collect();
        for (id, run) in &self.model.rows {
            let (Phase::Ended(status), Some(stopped_s)) = (run.phase, run.stopped_s) else { continue };
            if at(stopped_s) < until && !self.taken.contains(&run.serial) {
                let published_as = published_as.get(&run.serial).copied();
                // A restore may undo a recovery; the run was published all the same.
                let is_published = published_as == Some((status, at(stopped_s)))
                    || published_as.is_some() && self.model.restores > 0;
                assert!(is_published, "{id} ({run:?}) is missing before {until}: {published_as:?}");
            }
        }
    }

    /// Every run that was open still is, or was published, or its loss was reported.
    fn check_gaps(&self, next: &Cursor) {
        for (id, serial) in &self.open {
            let is_open = next.tracked.contains_key(&RunId::new(*id).unwrap());
            let is_published = self.published.values().any(|published_as| published_as.0 == *serial);
            // Its id was handed out again, and nothing else has revealed the restore: see the README.
            let is_replaced = self.model.rows.get(id).is_some_and(|run| run.serial != *serial);
            let is_lost = self.vanished.contains(id) || self.taken.contains(serial);
            assert!(is_open || is_published || is_lost || is_replaced, "the loss of {id} was not reported");
        }
    }
}
