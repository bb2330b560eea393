//! What one sweep of a source has to ask, and what follows from the answers: no I/O, no clock.
//!
#![doc = include_str!("argument.md")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use metering::Execution;

use crate::{
    n8n::row::{Row, RunId, born_at},
    n8n::workflow::SaveSettings,
    sweep::{
        cursor::{Backlog, Begin, Cursor, OVERLAP_IDS, State, Tracked},
        epochs::Epochs,
        unseen::{Found, IdRanges},
    },
};

/// Ids between floor and newest that no list has shown and that one sweep reads one by one.
pub const HOLES_MAX: usize = 50;

/// Pages of the whole list that one sweep reads on a first contact: 10,000 rows, which is what n8n keeps by
/// default.
pub const SLICE_PAGES: u32 = 40;

/// Known executions that are read to recognise the source, if the first page shows none of them.
pub const RECOGNISED_BY_MAX: usize = 3;

/// Unreadable rows that are checked again; each has a dead letter anyway.
const UNREADABLE_TRACKED_MAX: usize = 100;

/// Whether the source is the one that the cursor was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A known execution is there, unchanged.
    Same,
    /// A known id is another execution now.
    Other,
    /// None of the known ids was shown.
    Unknown,
}

/// Which part of the list a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From the newest back to the floor.
    Live,
    /// From where the last sweep stopped on a first contact.
    Backlog,
}

/// Why an execution is read by its id.
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
    /// Nothing is to be published.
    Nothing,
}

/// One sweep, from its first answer to the next cursor.
#[derive(Debug)]
pub struct Sweep {
    before: Cursor,
    started_at: Timestamp,
    complete_until: Timestamp,
    newest: Option<RunId>,
    newest_has_ended: bool,
    /// New executions that started after the sweep began, held back until it is known that the source has not
    /// changed.
    held_back: Vec<Execution>,
    /// What this sweep has seen and the next one must know of.
    seen: BTreeMap<RunId, Tracked>,
    /// Tracked ids that neither list has shown yet.
    unsettled: BTreeSet<RunId>,
    unreadable: usize,
    /// Something that was seen cannot be, or may not be, in the database that the cursor was read from.
    contradiction: Option<Begin>,
    /// Open executions whose ids belong to others now, after a restore.
    replaced: BTreeSet<RunId>,
    holes: Vec<RunId>,
    /// All ids between floor and newest that the list has stepped over.
    stepped_over: Vec<(u64, u64)>,
    /// Holes of the sweep before that nothing has shown since.
    unseen: IdRanges,
    /// Whether it is not known which of these were pushed.
    unseen_unsure: bool,
    /// Ids that were shown by something other than the list.
    shown_apart: BTreeSet<RunId>,
    newest_listed: Option<RunId>,
    oldest_listed: Option<RunId>,
    list_ended: bool,
    first_listed: Option<(RunId, Option<Timestamp>)>,
    /// The first execution that was listed as ended: it is there to stay.
    anchor: Option<(RunId, Option<Timestamp>)>,
}

impl Sweep {
    /// A sweep that began at `started_at`, before its first request.
    pub fn new(before: Cursor, started_at: Timestamp, clock_skew: jiff::SignedDuration) -> Self {
        let proven = started_at.saturating_sub(clock_skew).unwrap_or(started_at);
        let unsettled =
            before.tracked.iter().filter(|(_, tracked)| tracked.is_unsettled()).map(|(id, _)| *id).collect();
        Self {
            // A clock that was set back must not take back what was published.
            complete_until: before.complete_until.map_or(proven, |earlier| earlier.max(proven)),
            started_at,
            newest: None,
            newest_has_ended: false,
            held_back: Vec::new(),
            seen: BTreeMap::new(),
            unsettled,
            unreadable: 0,
            contradiction: None,
            replaced: BTreeSet::new(),
            holes: Vec::new(),
            stepped_over: Vec::new(),
            unseen: before.unseen.pending.clone(),
            unseen_unsure: false,
            shown_apart: BTreeSet::new(),
            newest_listed: None,
            oldest_listed: None,
            list_ended: false,
            first_listed: None,
            anchor: None,
            before,
        }
    }

    /// The cursor that it continues from.
    pub fn before(&self) -> &Cursor {
        &self.before
    }

    /// (0) The newest visible id, and its row if that can be read.
    pub fn newest_is(&mut self, newest: Option<RunId>, row: Option<&Row>) {
        self.newest = newest;
        self.newest_has_ended = matches!(row, Some(Row::Final(..)));
    }

    /// (1) A row of a list of open executions. One that has ended in between comes again in (2) or (3).
    pub fn listed_open(&mut self, row: &Row) {
        if let Row::Open(id, started_at) = row {
            if self.same_as_known(row) == Some(false) {
                self.contradiction = Some(Begin::Restored);
            }
            self.note_replaced(row);
            self.show_apart(*id);
            self.unsettled.remove(id);
            self.see(*id, Tracked { state: State::Open, started_at: *started_at, stopped_at: None });
        }
    }

    /// Checks what (0) and (1) say about the database: whether the newest id has gone back below what was
    /// visible and an unknown execution has started since, or a known one that had ended is running. `newest`
    /// is the row of (0).
    pub fn compare(&mut self, newest: Option<&Row>) {
        let listed = self.seen.iter().map(|(id, tracked)| (*id, tracked.started_at));
        let newest = newest.map(|row| (row.id(), row.started_at()));
        if listed.chain(newest).any(|(id, started_at)| self.has_gone_back(self.newest, id, started_at)) {
            self.contradiction = Some(Begin::Restored);
        }
    }

    /// Whether the ids have gone back: the newest visible one is below what was visible, and this execution is
    /// unknown although it started after `complete_until`, or waits to start.
    fn has_gone_back(&self, newest: Option<RunId>, id: RunId, started_at: Option<Timestamp>) -> bool {
        let known = &self.before.tracked;
        let ended = known.iter().rev().find(|(_, known)| known.has_ended());
        let highest = self.before.floor.max(ended.map(|(id, _)| *id));
        let (Some(highest), Some(until)) = (highest, self.before.complete_until) else { return false };
        newest.is_none_or(|newest| newest < highest)
            && id < highest
            && started_at.is_none_or(|at| at >= until)
            && known.get(&id).is_none_or(|known| known.started_at.is_some_and(|at| Some(at) != started_at))
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

    /// (2) A page of the list of all executions. Returns what is to be published. Rows come in descending
    /// order of id. Nothing of it may be published if there is a [`Self::contradiction`] afterwards.
    pub fn listed(&mut self, rows: Vec<Row>, part: Part) -> Vec<Execution> {
        let mut news = Vec::new();
        for row in rows {
            let id = row.id();
            self.unseen.remove(id);
            if part == Part::Live {
                self.newest_listed.get_or_insert(id);
                self.note_holes(id);
                self.oldest_listed = Some(self.oldest_listed.map_or(id, |oldest| oldest.min(id)));
                self.first_listed.get_or_insert((id, row.started_at()));
                if matches!(row, Row::Final(..)) {
                    self.anchor.get_or_insert((id, row.started_at()));
                }
            }
            if let Some(execution) = self.place(row, part) {
                news.push(execution);
            }
        }
        news
    }

    /// The epoch that has to begin, because the database cannot be, or may not be, the one that the cursor was read
    /// from.
    pub fn contradiction(&self) -> Option<Begin> {
        self.contradiction
    }

    /// A row with this id, in a list or by itself, that cannot be read.
    pub fn met_unreadable(&mut self, id: RunId) {
        self.show_apart(id);
        self.unsettled.remove(&id);
        self.unreadable += 1;
        if self.unreadable <= UNREADABLE_TRACKED_MAX {
            let known = self.before.tracked.get(&id).filter(|known| known.state == State::Unreadable);
            let found_at = known.and_then(|known| known.stopped_at).unwrap_or(self.started_at);
            self.see(id, Tracked { state: State::Unreadable, started_at: None, stopped_at: Some(found_at) });
        }
    }

    /// Whether (2) is done: the last page was read, or it has come below the overlap.
    pub fn has_listed_enough(&mut self, is_last_page: bool) -> bool {
        if is_last_page {
            self.list_ended = true;
            self.note_holes(RunId::LOWEST);
        }
        let down_to = self.before.floor.map(|floor| floor.below(OVERLAP_IDS));
        is_last_page || down_to.zip(self.oldest_listed).is_some_and(|(down_to, oldest)| oldest <= down_to)
    }

    /// (3) The ids to read, each with the reason.
    pub fn questions(&self) -> Vec<(RunId, Question)> {
        let tracked = self.unsettled.iter().map(|id| {
            let was_open = self.before.tracked.get(id).is_some_and(|known| known.state == State::Open);
            (*id, if was_open { Question::WasOpen } else { Question::MayHaveChanged })
        });
        let holes = self.holes.iter().filter(|id| !self.is_known(**id)).map(|id| (*id, Question::Unseen));
        tracked.chain(holes).collect()
    }

    /// (3) The answer to a question; `None` if the source answered 404.
    pub fn answered(&mut self, id: RunId, question: Question, row: Option<Row>) -> Answer {
        self.unsettled.remove(&id);
        if row.is_some() {
            self.show_apart(id);
        }
        match row {
            None if question == Question::WasOpen => Answer::Vanished,
            None => {
                // Deleted. Still remembered under this id, in case the id is handed out again.
                let known = self.before.tracked.get(&id).filter(|known| known.has_ended()).copied();
                if let Some(known) = known {
                    self.see(id, known);
                }
                Answer::Nothing
            }
            Some(row) => match self.place(row, Part::Live) {
                Some(execution) => Answer::Publish(Box::new(execution)),
                None => Answer::Nothing,
            },
        }
    }

    /// The ids that were pruned before they were seen: first and last. See "What is a gap" above.
    pub fn pruned(&self) -> Option<(RunId, RunId)> {
        let (floor, oldest) = self.before.floor.zip(self.oldest_listed)?;
        let had_rows = self.before.tracked.values().any(Tracked::has_ended);
        if !(self.list_ended && had_rows && oldest > floor.next()) {
            return None;
        }
        let mut missing =
            (floor.next().number()..oldest.number()).filter_map(RunId::new).filter(|id| !self.is_known(*id));
        let first = missing.next()?;
        Some((first, missing.next_back().unwrap_or(first)))
    }

    /// Ids that neither the last sweep nor this one has seen; those that were pushed are still to be
    /// [removed](Self::was_recorded).
    pub fn unseen(&self) -> &IdRanges {
        &self.unseen
    }

    /// Removes an id that was pushed.
    pub fn was_recorded(&mut self, id: RunId) {
        self.unseen.remove(id);
    }

    /// Notes that it cannot be found out this time which of them were pushed.
    pub fn cannot_tell_unseen(&mut self) {
        self.unseen_unsure = true;
    }

    /// Open executions of the former life that are gone: their ids belong to others now.
    pub fn replaced(&self) -> impl Iterator<Item = RunId> + '_ {
        self.replaced.iter().copied()
    }

    /// The execution that must still be there when the sweep ends.
    pub fn anchor(&self) -> Option<RunId> {
        self.anchor.map(|(id, _)| id)
    }

    /// New executions that may be published once [`Self::is_unchanged`].
    pub fn take_held_back(&mut self) -> Vec<Execution> {
        std::mem::take(&mut self.held_back)
    }

    /// Whether the source still is what this sweep has read, by its newest row now; `None` if that does not
    /// prove it either way, and [`Self::anchor`] has to be read.
    pub fn is_unchanged(&self, newest: Option<&Row>) -> Option<bool> {
        // What had ended at (0) is listed by (2), too.
        if self.newest_has_ended && self.newest_listed < self.newest {
            return Some(false);
        }
        let Some(newest) = newest else { return self.anchor.is_none().then_some(true) };
        let has_come_back = Some(newest.id()) > self.newest
            && !self.is_known(newest.id())
            && newest.started_at().is_some_and(|started_at| started_at < self.complete_until);
        let first = self.first_listed.filter(|(id, _)| *id == newest.id());
        let is_another =
            first.and_then(|(_, at)| at).zip(newest.started_at()).is_some_and(|(before, now)| before != now);
        if has_come_back || is_another || self.same_as_known(newest) == Some(false) {
            return Some(false);
        }
        let Some((anchor, _)) = self.anchor else { return Some(true) };
        (newest.id() == anchor).then(|| self.is_anchor(newest))
    }

    /// Whether this is the anchor, unchanged.
    pub fn is_anchor(&self, row: &Row) -> bool {
        matches!(row, Row::Final(..)) && self.anchor == Some((row.id(), row.started_at()))
    }

    /// The next cursor, once everything was published. `published_through` includes this sweep's batches, `backlog` is
    /// what is left to read.
    pub fn finish(
        mut self,
        base_url: String,
        published_through: u64,
        latest_start: Option<Timestamp>,
        backlog: Option<Backlog>,
        kept: SaveSettings,
    ) -> Cursor {
        let floor = self.next_floor();
        let found = Found {
            fresh: self.fresh_holes(),
            settled: std::mem::take(&mut self.unseen),
            is_unsure: self.unseen_unsure,
            kept,
        };
        let unseen = std::mem::take(&mut self.before.unseen);
        let unseen = unseen.after(found, self.started_at, self.before.swept_at);
        let mut tracked = std::mem::take(&mut self.seen);
        for (id, known) in &self.before.tracked {
            let settled = !known.is_unsettled() || self.unsettled.contains(id);
            if settled && known.is_needed(*id, floor, self.complete_until, self.started_at) {
                tracked.entry(*id).or_insert(*known);
            }
        }
        Cursor {
            epochs: self.before.epochs,
            latest_start,
            unfinished: false,
            floor,
            swept_at: Some(self.started_at),
            backlog,
            complete_until: Some(self.complete_until),
            left_out_before: self.before.left_out_before,
            base_url: Some(base_url),
            published_through,
            stream: self.before.stream,
            tracked,
            unseen,
        }
    }

    /// Ids above the floor that nothing has shown, except those that are reported as a gap.
    fn fresh_holes(&mut self) -> IdRanges {
        let pruned = self.pruned();
        let mut holes = IdRanges::new(std::mem::take(&mut self.stepped_over));
        if let Some((first, last)) = pruned {
            holes.remove_all(first, last);
        }
        let known = self.seen.keys().chain(self.before.tracked.keys()).chain(&self.shown_apart);
        known.for_each(|id| holes.remove(*id));
        holes
    }

    fn show_apart(&mut self, id: RunId) {
        self.unseen.remove(id);
        self.shown_apart.insert(id);
    }

    /// Whether a hole is an id that was handed out since the last sweep. On a first contact, and when
    /// everything is read again, it is mostly a row that was pruned. A source that had no row at the first
    /// contact has begun since.
    fn holes_are_new(&self, lowest: RunId) -> bool {
        let had_no_row = self.before.swept_at.is_some() && self.before.epochs.current() == Epochs::FIRST;
        self.before.floor.is_some() || (had_no_row && lowest != RunId::LOWEST)
    }

    fn place(&mut self, row: Row, part: Part) -> Option<Execution> {
        let id = row.id();
        let was_restored = self.same_as_known(&row) == Some(false)
            || self.has_gone_back(self.newest_listed, id, row.started_at());
        if was_restored {
            self.contradiction = Some(Begin::Restored);
        }
        self.note_replaced(&row);
        if self.contradiction.is_some() {
            return None;
        }
        self.unsettled.remove(&id);
        match row {
            Row::Open(_, started_at) => {
                self.see(id, Tracked { state: State::Open, started_at, stopped_at: None });
                None
            }
            Row::Final(_, execution) => {
                let is_news = self.is_news(id, &execution, part);
                let (started_at, stopped_at) = (execution.started_at, Some(execution.stopped_at));
                self.see(id, Tracked { state: State::Final(execution.status), started_at, stopped_at });
                if is_news && born_at(&execution) >= self.complete_until {
                    self.held_back.push(execution);
                    return None;
                }
                is_news.then_some(execution)
            }
        }
    }

    fn is_news(&self, id: RunId, execution: &Execution, part: Part) -> bool {
        if self.before.left_out_before.is_some_and(|before| execution.stopped_at < before) {
            return false;
        }
        let seen_now = self.seen.get(&id).filter(|seen| seen.has_ended());
        if let Some(known) = seen_now.or_else(|| self.before.tracked.get(&id)) {
            let unchanged = known.state == State::Final(execution.status)
                && known.started_at == execution.started_at
                && known.stopped_at == Some(execution.stopped_at);
            return !unchanged;
        }
        // Below the overlap (a page does not end where that does) an untracked final row is one that an earlier
        // sweep has published, unless it stopped so late that it would be tracked then.
        // No sweep has published what is still in the backlog.
        part == Part::Backlog
            || self.before.backlog.is_some()
            || self.before.floor.is_none_or(|floor| id > floor.below(OVERLAP_IDS))
            || self.before.complete_until.is_none_or(|until| execution.stopped_at >= until)
    }

    /// An open execution with another start is another one. But old versions give one that wakes a new start,
    /// so its loss is reported only in the first sweep after a restore; otherwise it is a doubt.
    fn note_replaced(&mut self, row: &Row) {
        let known = self.before.tracked.get(&row.id()).filter(|known| known.state == State::Open);
        let starts = known.and_then(|known| known.started_at).zip(row.started_at());
        if starts.is_none_or(|(known, now)| known == now) {
            return;
        }
        if self.before.floor.is_none() {
            self.replaced.insert(row.id());
        } else {
            self.contradiction.get_or_insert(Begin::Doubtful);
        }
    }

    fn see(&mut self, id: RunId, tracked: Tracked) {
        if tracked.is_needed(id, self.next_floor(), self.complete_until, self.started_at) {
            self.seen.insert(id, tracked);
        } else {
            self.seen.remove(&id);
        }
    }

    /// Never lower within an epoch: if the newest rows are gone, the others have been seen all the same.
    fn next_floor(&self) -> Option<RunId> {
        self.before.floor.max(self.newest)
    }

    /// Whether the row shows the execution that is known under its id; `None` if none is known to have ended.
    /// What has ended stays ended (but a crash may be revised), and its start never changes.
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
            let from = self.before.floor.map_or(id.next(), |floor| id.next().max(floor.next())).number();
            let to = above.number().min(newest.next().number());
            if self.holes_are_new(id) {
                self.stepped_over.extend((from < to).then(|| (from, to - 1)));
            }
            let room = HOLES_MAX.saturating_sub(self.holes.len());
            self.holes.extend((from..to).rev().take(room).filter_map(RunId::new));
        }
    }
}

#[cfg(test)]
mod tests;
