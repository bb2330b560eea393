//! How far a source has been read.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use metering::Status;

use crate::{
    n8n::row::RunId,
    sweep::{epochs::Epochs, stream_life::StreamMark, unseen::Unseen},
};

/// Ids below the newest that the next sweep lists again: ids are handed out before their rows can be seen,
/// so a lower id may appear after a higher one. At 200 executions a second it spans one second, and a row
/// is written in milliseconds.
pub const OVERLAP_IDS: u64 = 200;

/// Ids of open executions that are published.
const OPEN_IDS_MAX: usize = 1_000;

/// How long a crashed execution is checked again: n8n's recovery turns it into an error within minutes,
/// with a new end. Also how long an unreadable row is checked again.
pub const RECHECK_SPAN: SignedDuration = SignedDuration::from_hours(1);

/// What a sweep leaves for the next one. Committed after everything it refers to was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Which epoch an execution is published under.
    pub epochs: Epochs,
    /// The latest start that was ever published.
    pub latest_start: Option<Timestamp>,
    /// A sweep since then has published and was not committed: which ids it published is not known.
    pub unfinished: bool,
    /// The newest id of the last sweep; missing before the first sweep of an epoch that a restore has begun.
    pub floor: Option<RunId>,
    /// When the last sweep began.
    pub swept_at: Option<Timestamp>,
    /// Where reading everything continues; missing once that is done.
    pub backlog: Option<Backlog>,
    /// Every execution that stopped before it, and that is not in the backlog, has been published.
    pub complete_until: Option<Timestamp>,
    /// Executions that stopped earlier belong to another address and are not published.
    pub left_out_before: Option<Timestamp>,
    /// The address it was read from.
    pub base_url: Option<String>,
    /// The executions stream's sequence that holds this source's last batch.
    pub published_through: u64,
    /// Which life of that stream the sequence belongs to.
    pub stream: StreamMark,
    /// What the next sweep must know about single executions.
    pub tracked: BTreeMap<RunId, Tracked>,
    /// Ids that were never shown.
    pub unseen: Unseen,
}

/// Why a new epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Ids may have been handed out again unnoticed: a sweep was not committed, so what it published is not
    /// known, or an open execution has another start. Nothing else changes.
    Doubtful,
    /// The database was restored: everything is read again.
    Restored,
    /// Another address, where nothing known was found: everything is read, and what stopped earlier is left
    /// out.
    Moved,
}

/// What is still to be read of a source that is read for the first time, or again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The source's own cursor; empty for the first page.
    pub next_page: String,
    /// Rows read so far.
    pub rows_read: u64,
}

/// An execution that the next sweep must know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    /// As it was last seen.
    pub state: State,
    /// Never changes once an execution has ended, so it distinguishes two executions with the same id.
    pub started_at: Option<Timestamp>,
    /// When it stopped; for an unreadable row, when it was found.
    pub stopped_at: Option<Timestamp>,
}

/// The state of an execution when it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not finished.
    Open,
    /// Its row could not be read, and has a dead letter.
    Unreadable,
    /// Finished and published.
    Final(Status),
}

impl State {
    /// The state's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unreadable => "unreadable",
            Self::Final(status) => status.as_str(),
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let finals = Status::ALL.into_iter().map(Self::Final);
        [Self::Open, Self::Unreadable].into_iter().chain(finals).find(|state| state.as_str() == name)
    }
}

impl Cursor {
    /// Before the first sweep, as the store has it.
    #[cfg(test)]
    pub fn start() -> Self {
        Self {
            epochs: Epochs::new(Vec::new()),
            latest_start: None,
            unfinished: false,
            floor: None,
            swept_at: None,
            backlog: None,
            complete_until: None,
            left_out_before: None,
            base_url: None,
            published_through: 0,
            stream: StreamMark::default(),
            tracked: BTreeMap::new(),
            unseen: Unseen::default(),
        }
    }

    /// As the store leaves it when a new epoch begins; see [`Begin`].
    #[cfg(test)]
    pub fn begin_epoch(&mut self, begin: Begin) {
        self.epochs.begin(self.latest_start.unwrap_or_default());
        self.unfinished = false;
        if begin == Begin::Doubtful {
            let open = self.tracked.values_mut().filter(|tracked| tracked.state == State::Open);
            open.for_each(|tracked| tracked.started_at = None);
        } else {
            self.floor = None;
            self.backlog = None;
            self.unseen.pending = crate::sweep::unseen::IdRanges::default();
            self.tracked.retain(|_, tracked| tracked.state == State::Open);
        }
        if begin == Begin::Moved {
            self.left_out_before = self.complete_until;
        }
    }

    /// What was published may be lost, because the stream is another one: everything that the source shows is
    /// read again. Open executions are followed as before.
    pub fn read_again(&mut self) {
        self.published_through = 0;
        self.tracked.retain(|_, tracked| tracked.state == State::Open);
        if self.floor.is_some() {
            self.backlog = Some(Backlog::from_the_newest());
        }
    }

    /// Executions that were open at `complete_until`: those still open, and those that have ended since.
    pub fn open_executions(&self) -> u32 {
        u32::try_from(self.open().count()).unwrap_or(u32::MAX)
    }

    /// Their ids; none if there are more than [`OPEN_IDS_MAX`].
    pub fn open_ids(&self) -> Vec<u64> {
        let ids: Vec<u64> = self.open().map(RunId::number).take(OPEN_IDS_MAX + 1).collect();
        if ids.len() > OPEN_IDS_MAX { Vec::new() } else { ids }
    }

    fn open(&self) -> impl Iterator<Item = RunId> + '_ {
        let is_open = |tracked: &Tracked| match (tracked.state, self.complete_until) {
            (State::Open, Some(until)) => tracked.started_at.is_none_or(|at| at < until),
            (State::Final(_), Some(until)) => {
                tracked.started_at.is_some_and(|at| at < until)
                    && tracked.stopped_at.is_some_and(|at| at >= until)
            }
            _ => false,
        };
        self.tracked.iter().filter(move |(_, tracked)| is_open(tracked)).map(|(id, _)| *id)
    }
}

impl Backlog {
    /// Everything, from the first page on.
    fn from_the_newest() -> Self {
        Self { next_page: String::new(), rows_read: 0 }
    }
}

impl Tracked {
    /// Whether the next sweep, whose floor is `floor`, must know of it. `now` is the start of this sweep.
    pub fn is_needed(
        &self,
        id: RunId,
        floor: Option<RunId>,
        complete_until: Timestamp,
        now: Timestamp,
    ) -> bool {
        let recent = self.stopped_at.is_some_and(|at| now.duration_since(at) < RECHECK_SPAN);
        match self.state {
            State::Open => true,
            State::Unreadable => recent,
            State::Final(Status::Crashed) if recent => true,
            // Listed again by the overlap, or so late that the next sweep would take it for new.
            State::Final(_) => {
                floor.is_none_or(|floor| id > floor.below(OVERLAP_IDS))
                    || self.stopped_at.is_some_and(|at| at >= complete_until)
            }
        }
    }

    /// Whether it has ended, as far as is known.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Final(_))
    }

    /// Whether it must be read by its id if no list shows it.
    pub fn is_unsettled(&self) -> bool {
        matches!(self.state, State::Open | State::Unreadable | State::Final(Status::Crashed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_store() {
        for name in ["open", "unreadable", "success", "error", "crashed", "canceled"] {
            assert_eq!(State::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(State::parse("new"), None);
    }

    #[test]
    fn executions_open_at_the_watermark_count_as_open_even_if_ended_since() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let (before, mark, after) =
            (at("2026-11-24T11:00:00Z"), at("2026-11-24T12:00:00Z"), at("2026-11-24T12:00:03Z"));
        let success = State::Final(Status::Success);
        let tracked = [
            (State::Open, before, None),
            (State::Open, None, None),
            (State::Open, after, None),
            (success, before, after),
            (success, before, before),
            (success, after, after),
        ];
        let tracked = (1_u64..).zip(tracked).map(|(id, (state, started_at, stopped_at))| {
            (RunId::new(id).unwrap(), Tracked { state, started_at, stopped_at })
        });
        let cursor = Cursor { complete_until: mark, tracked: tracked.collect(), ..Cursor::start() };
        assert_eq!((cursor.open_executions(), cursor.open_ids()), (3, vec![1, 2, 4]));
        let open = Tracked { state: State::Open, started_at: None, stopped_at: None };
        let many = (1..=1_001).map(|id| (RunId::new(id).unwrap(), open));
        let cursor = Cursor { complete_until: mark, tracked: many.collect(), ..Cursor::start() };
        assert_eq!((cursor.open_executions(), cursor.open_ids()), (1_001, vec![]));
    }
}
