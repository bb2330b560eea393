//! What one sweep of a source has to ask, and what follows from the answers: no I/O, no clock.
//!
//! # Why nothing is lost
//!
//! A sweep begins at `t0` and does four things in this order: (0) it reads the newest visible id `M`; (1) it
//! lists the executions that have not ended; (2) it lists all executions from the newest back to the last
//! sweep's `M`, the *floor*, and [`OVERLAP_IDS`] further; (3) it asks, one by one, for what it cannot place.
//! Claim: every execution that stopped before `complete_until` = `t0` less the clock skew, and that the
//! source still shows, has been published when the sweep ends. Take such an execution `e`. At `t0` its row
//! says that it has ended, and final rows are shown by every list from then on.
//!
//! - If its id is above the floor, (2) meets it.
//! - Otherwise its id was handed out before the last sweep read its `M`.
//!   - Its row was not yet visible then: rows follow their ids within milliseconds, far less than the overlap
//!     spans, so (2) meets it.
//!   - It was visible and had ended by the time the last sweep's (2) came to its place: published then, or
//!     (by induction) in a sweep before.
//!   - It was visible and had not ended. Then the last sweep knows it as *open*: an execution moves from
//!     new to running to its end, or between running and waiting; (1) asks for new, running, waiting and
//!     running again, so one that falls asleep or wakes between two questions is met by the next. It stays
//!     tracked until it is seen to have ended: by (2), or by (3), which asks for every tracked id that
//!     neither list showed.
//!
//! Two holes are left by n8n itself, and (3) closes them where it can. A list hides what the API's process
//! holds in memory: always the running ones (so (1) asks for them by status), and in 1.x also those that
//! sleep for less than about a minute (no question shows them). And an execution could fall asleep and wake
//! three times between our questions. Both leave an id between floor (none at first) and `M` that no list has shown, as do
//! unsaved executions, which have no row at all. (3) asks for the newest [`HOLES_MAX`] such ids once; a
//! 404 then is an unsaved execution or a deleted one, and neither is a gap. A source that saves nothing makes
//! more holes than that; there, and only on 1.x, an execution asleep in memory can be missed.
//!
//! `M` itself may miss running executions with higher ids; those are above the next floor, so nothing follows
//! from it. A final row may change once more (crashed becomes error): it is asked for again for
//! [`RECHECK_SPAN`](crate::cursor::RECHECK_SPAN), and published again when it differs.
//!
//! # What is a gap
//!
//! An open execution that answers 404 has been there and cannot be counted: deleted, or not saved when it
//! ended. And where the list is at its end above the floor, while rows at or below the floor were there at
//! the last sweep, the source has removed everything that we had seen; pruning takes the oldest first, so it
//! has come past the floor, and whatever stood between the floor and the oldest visible row was never seen.
//! Which of those ids were saved executions nobody can tell any more: the range is what is told. A missing
//! id alone proves nothing, and an empty list does not either (an idle source is pruned to nothing).
//!
//! # When an epoch ends
//!
//! A database restored from a backup hands the same ids out again. Two things prove it: an execution that we
//! know to have ended is open now or has another start (neither can be); or the newest id has gone back below
//! what was visible, and there is a row that we do not know although it started after `complete_until`. That
//! the newest rows are gone proves nothing: somebody may have deleted them. In the new epoch everything is
//! listed from an empty cursor, but a row that stopped before the old `complete_until`, or that is tracked
//! with the same end, is of the former life and was published there: it is not published again. The same
//! holds where a source is given another address and nothing known is found there: what had stopped before
//! is left out, because a moved n8n that was counted twice would be worse than a history that was not asked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use metering::Execution;

use crate::{
    cursor::{Cursor, OVERLAP_IDS, State, Tracked},
    row::{Row, RunId},
};

/// Ids between floor and newest that no list has shown and that are asked for in one sweep.
pub const HOLES_MAX: usize = 50;

/// Known executions that are asked for to recognise the source, where the first page shows none of them.
pub const RECOGNISED_BY_MAX: usize = 3;

/// Unreadable rows that are looked at again; each has a dead letter anyway.
const UNREADABLE_TRACKED_MAX: usize = 100;

/// Whether the source is the one that the cursor was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A known execution is there as it was.
    Same,
    /// A known id is another execution now.
    Other,
    /// None of the known ids was shown.
    Unknown,
}

/// Why an id is asked for by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// It was open.
    WasOpen,
    /// It had crashed or was unreadable, and may have changed.
    MayHaveChanged,
    /// No list has shown it.
    Unseen,
}

/// What follows from the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is to be published.
    Publish(Box<Execution>),
    /// An execution that was open is gone.
    Vanished,
    /// Nothing is to be told.
    Nothing,
}

/// One sweep, from its first answer to the next cursor.
#[derive(Debug)]
pub struct Sweep {
    before: Cursor,
    started_at: Timestamp,
    complete_until: Timestamp,
    epoch: u32,
    /// Rows that stopped earlier belong to the former life; set where a new epoch begins.
    former_life_until: Option<Timestamp>,
    floor: Option<RunId>,
    newest: Option<RunId>,
    /// What this sweep has seen and the next one must know of.
    seen: BTreeMap<RunId, Tracked>,
    /// Tracked ids that neither list has shown yet.
    unsettled: BTreeSet<RunId>,
    unreadable: usize,
    /// An execution that we know to have ended was listed as open: its id is another's now.
    known_is_open: bool,
    holes: Vec<RunId>,
    newest_listed: Option<RunId>,
    oldest_listed: Option<RunId>,
    list_ended: bool,
}

impl Sweep {
    /// A sweep that began at `started_at`, before its first question.
    pub fn new(before: Cursor, started_at: Timestamp, clock_skew: jiff::SignedDuration) -> Self {
        let proven = started_at.saturating_sub(clock_skew).unwrap_or(started_at);
        let unsettled =
            before.tracked.iter().filter(|(_, tracked)| tracked.is_unsettled()).map(|(id, _)| *id).collect();
        Self {
            epoch: before.epoch,
            floor: before.floor,
            // A clock that was set back must not take back what was told.
            complete_until: before.complete_until.map_or(proven, |earlier| earlier.max(proven)),
            before,
            started_at,
            former_life_until: None,
            newest: None,
            seen: BTreeMap::new(),
            unsettled,
            unreadable: 0,
            known_is_open: false,
            holes: Vec::new(),
            newest_listed: None,
            oldest_listed: None,
            list_ended: false,
        }
    }

    /// The epoch that executions of this sweep belong to.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// (0) The newest visible id.
    pub fn newest_is(&mut self, newest: Option<RunId>) {
        self.newest = newest;
    }

    /// (1) A row of a list of what has not ended. One that has ended in between comes again in (2) or (3).
    pub fn listed_open(&mut self, row: &Row) {
        if let Row::Open(id, started_at) = row {
            self.known_is_open |= self.same_as_known(row) == Some(false);
            self.unsettled.remove(id);
            self.see(*id, Tracked { state: State::Open, started_at: *started_at, stopped_at: None });
        }
    }

    /// Whether (0) and (1) prove that the database was restored: the newest id has gone back below what was
    /// visible and an unknown execution has started since, or a known one that had ended is at work.
    /// `newest` is the row of (0).
    pub fn was_restored(&self, newest: Option<&Row>) -> bool {
        if self.known_is_open {
            return true;
        }
        let listed = self.seen.iter().map(|(id, tracked)| (*id, tracked.started_at));
        let newest = newest.map(|row| (row.id(), row.started_at()));
        listed.chain(newest).any(|(id, started_at)| self.has_gone_back(self.newest, id, started_at))
    }

    /// Whether the ids have gone back: the newest visible one is below what was visible, and this execution is
    /// unknown although it started after `complete_until`.
    fn has_gone_back(&self, newest: Option<RunId>, id: RunId, started_at: Option<Timestamp>) -> bool {
        let ended = self.before.tracked.iter().rev().find(|(_, known)| known.has_ended());
        let highest = self.before.floor.max(ended.map(|(id, _)| *id));
        let (Some(highest), Some(until)) = (highest, self.before.complete_until) else { return false };
        newest.is_none_or(|newest| newest < highest)
            && id < highest
            && started_at.is_some_and(|at| at >= until)
            && !self.before.tracked.contains_key(&id)
    }

    /// What rows say about the source's identity.
    pub fn identity<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) -> Identity {
        let mut identity = Identity::Unknown;
        for row in rows {
            match self.same_as_known(row) {
                Some(false) => return Identity::Other,
                Some(true) => identity = Identity::Same,
                None => {}
            }
        }
        identity
    }

    /// The ids by which the source can be recognised, newest first.
    pub fn known_ids(&self) -> Vec<RunId> {
        let ended = self.before.tracked.iter().rev().filter(|(_, known)| known.has_ended());
        ended.map(|(id, _)| *id).take(RECOGNISED_BY_MAX).collect()
    }

    /// Whether a new epoch has begun.
    pub fn has_begun_epoch(&self) -> bool {
        self.epoch != self.before.epoch
    }

    /// Begins a new epoch: everything is listed, and what the former life has published is left out.
    pub fn begin_epoch(&mut self) {
        if self.has_begun_epoch() {
            return;
        }
        self.epoch = self.epoch.saturating_add(1);
        self.floor = None;
        self.former_life_until = self.before.complete_until;
        // What (0) has read may be of the former life.
        self.newest = self.newest.min(self.newest_listed.or(self.newest));
        for told in self.seen.values_mut().filter(|seen| seen.has_ended()) {
            told.state = State::Former;
        }
    }

    /// (2) A page of the list of all. Gives what is to be published. Rows come in descending order of id.
    pub fn listed(&mut self, rows: Vec<Row>) -> Vec<Execution> {
        let mut news = Vec::new();
        for row in rows {
            let id = row.id();
            self.newest_listed.get_or_insert(id);
            self.note_holes(id);
            self.oldest_listed = Some(self.oldest_listed.map_or(id, |oldest| oldest.min(id)));
            if let Some(execution) = self.place(row) {
                news.push(execution);
            }
        }
        news
    }

    /// A row with this id, in a list or by itself, that cannot be read.
    pub fn met_unreadable(&mut self, id: RunId) {
        self.unsettled.remove(&id);
        self.unreadable += 1;
        if self.unreadable <= UNREADABLE_TRACKED_MAX {
            let known = self.before.tracked.get(&id).filter(|known| known.state == State::Unreadable);
            let found_at = known.and_then(|known| known.stopped_at).unwrap_or(self.started_at);
            self.see(id, Tracked { state: State::Unreadable, started_at: None, stopped_at: Some(found_at) });
        }
    }

    /// Whether (2) is at its end: the last page was read, or it has come below the overlap.
    pub fn has_listed_enough(&mut self, is_last_page: bool) -> bool {
        if is_last_page {
            self.list_ended = true;
            self.note_holes(RunId::LOWEST);
        }
        let down_to = self.floor.map(|floor| floor.below(OVERLAP_IDS));
        is_last_page || down_to.zip(self.oldest_listed).is_some_and(|(down_to, oldest)| oldest <= down_to)
    }

    /// (3) The ids to ask for, each with the reason.
    pub fn questions(&self) -> Vec<(RunId, Question)> {
        let tracked = self.unsettled.iter().map(|id| {
            // What a restored database does not hold was lost with it, and is no gap of this epoch.
            let was_open = !self.has_begun_epoch()
                && self.before.tracked.get(id).is_some_and(|known| known.state == State::Open);
            (*id, if was_open { Question::WasOpen } else { Question::MayHaveChanged })
        });
        let holes = self.holes.iter().filter(|id| !self.is_known(**id)).map(|id| (*id, Question::Unseen));
        tracked.chain(holes).collect()
    }

    /// (3) The answer to a question; nothing where the source answered 404.
    pub fn answered(&mut self, id: RunId, question: Question, row: Option<Row>) -> Answer {
        self.unsettled.remove(&id);
        match row {
            None if question == Question::WasOpen => Answer::Vanished,
            None => {
                // Deleted. It is still what we knew under this id, should the id be handed out again.
                let known = self.before.tracked.get(&id).filter(|known| known.has_ended()).copied();
                if let Some(known) = known.filter(|_| !self.has_begun_epoch()) {
                    self.see(id, known);
                }
                Answer::Nothing
            }
            Some(row) => match self.place(row) {
                Some(execution) => Answer::Publish(Box::new(execution)),
                None => Answer::Nothing,
            },
        }
    }

    /// The ids that were pruned before they were seen: first and last. See "What is a gap" above.
    pub fn pruned(&self) -> Option<(RunId, RunId)> {
        let (floor, oldest) = self.floor.zip(self.oldest_listed)?;
        let had_rows = self.before.tracked.values().any(Tracked::has_ended);
        if !(self.list_ended && had_rows && oldest > floor.next()) {
            return None;
        }
        let mut missing =
            (floor.next().number()..oldest.number()).filter_map(RunId::new).filter(|id| !self.is_known(*id));
        let first = missing.next()?;
        Some((first, missing.next_back().unwrap_or(first)))
    }

    /// The next cursor, once everything was published. `published_through` includes this sweep's batches.
    pub fn finish(mut self, base_url: String, published_through: u64) -> Cursor {
        let floor = self.next_floor();
        let mut tracked = std::mem::take(&mut self.seen);
        if !self.has_begun_epoch() {
            for (id, known) in &self.before.tracked {
                let settled = !known.is_unsettled() || self.unsettled.contains(id);
                if settled && known.is_needed(*id, floor, self.complete_until, self.started_at) {
                    tracked.entry(*id).or_insert(*known);
                }
            }
        }
        Cursor {
            epoch: self.epoch,
            floor,
            complete_until: Some(self.complete_until),
            base_url: Some(base_url),
            published_through,
            tracked,
        }
    }

    fn place(&mut self, row: Row) -> Option<Execution> {
        let id = row.id();
        // Restored while the sweep was going on: what it has published keeps its keys, which were new ones.
        let is_other = self.same_as_known(&row) == Some(false)
            || self.has_gone_back(self.newest_listed, id, row.started_at());
        if is_other {
            self.begin_epoch();
        }
        self.unsettled.remove(&id);
        match row {
            Row::Open(_, started_at) => {
                self.see(id, Tracked { state: State::Open, started_at, stopped_at: None });
                None
            }
            Row::Final(_, execution) => {
                let (started_at, stopped_at) = (execution.started_at, Some(execution.stopped_at));
                let is_former = self.is_of_former_life(id, &execution);
                let is_news = !is_former && self.is_news(id, &execution);
                let state = if is_former { State::Former } else { State::Final(execution.status) };
                self.see(id, Tracked { state, started_at, stopped_at });
                is_news.then_some(execution)
            }
        }
    }

    /// Whether it was told under an earlier epoch. Told again, it would be counted again; where a crash becomes
    /// an error after a restore, it therefore stays a crash.
    fn is_of_former_life(&self, id: RunId, execution: &Execution) -> bool {
        let known = self.seen.get(&id).filter(|seen| seen.state == State::Former);
        match known.or_else(|| self.before.tracked.get(&id).filter(|known| known.has_ended())) {
            Some(known) => {
                let may_be = self.former_life_until.is_some() || known.state == State::Former;
                may_be && known.started_at == execution.started_at
            }
            None => {
                let was_open = self.before.tracked.contains_key(&id);
                !was_open && self.former_life_until.is_some_and(|until| execution.stopped_at < until)
            }
        }
    }

    fn is_news(&self, id: RunId, execution: &Execution) -> bool {
        let seen_now = self.seen.get(&id).filter(|seen| seen.has_ended());
        if let Some(known) = seen_now.or_else(|| self.before.tracked.get(&id)) {
            let unchanged = known.state == State::Final(execution.status)
                && known.stopped_at == Some(execution.stopped_at);
            return !unchanged;
        }
        // Below the overlap (a page does not end where that does) an untracked final row is one that an earlier
        // sweep has published, unless it stopped so late that it would be tracked then.
        self.floor.is_none_or(|floor| id > floor.below(OVERLAP_IDS))
            || self.before.complete_until.is_none_or(|until| execution.stopped_at >= until)
    }

    fn see(&mut self, id: RunId, tracked: Tracked) {
        if tracked.is_needed(id, self.next_floor(), self.complete_until, self.started_at) {
            self.seen.insert(id, tracked);
        } else {
            self.seen.remove(&id);
        }
    }

    /// Never lower within an epoch: that the newest rows are gone does not make the others unseen.
    fn next_floor(&self) -> Option<RunId> {
        self.floor.max(self.newest)
    }

    /// Whether the row shows the execution that is known under its id; nothing where none is known to have ended.
    /// What has ended stays so (but a crash may be taken back), and its start never changes.
    fn same_as_known(&self, row: &Row) -> Option<bool> {
        let known = self.before.tracked.get(&row.id()).filter(|known| known.has_ended())?;
        let has_not_started = row.started_at().is_none() && known.started_at.is_some();
        if matches!(row, Row::Open(..)) && (has_not_started || !known.is_unsettled()) {
            return Some(false);
        }
        known.started_at.zip(row.started_at()).map(|(before, now)| before == now)
    }

    fn is_known(&self, id: RunId) -> bool {
        self.seen.contains_key(&id) || self.before.tracked.contains_key(&id)
    }

    /// Ids that the list has stepped over on its way to `id`, between floor and newest. Higher ones are the next
    /// sweep's.
    fn note_holes(&mut self, id: RunId) {
        let above = self.oldest_listed.or(self.newest.map(RunId::next));
        if let (Some(newest), Some(above)) = (self.newest, above) {
            let from = self.floor.map_or(id.next(), |floor| id.next().max(floor.next())).number();
            let to = above.number().min(newest.next().number());
            let room = HOLES_MAX.saturating_sub(self.holes.len());
            self.holes.extend((from..to).rev().take(room).filter_map(RunId::new));
        }
    }
}

#[cfg(test)]
mod tests;
