//! How far a source is known.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use metering::Status;

use crate::row::RunId;

/// Ids below the newest that the next sweep lists again: ids are handed out before their rows can be seen,
/// so a lower id may appear after a higher one. At 200 executions a second it spans one second, and a row
/// is written in milliseconds.
pub const OVERLAP_IDS: u64 = 200;

/// How long a crashed execution is looked at again: n8n's recovery turns it into an error within minutes,
/// with a new end. Also how long an unreadable row may become readable by itself.
pub const RECHECK_SPAN: SignedDuration = SignedDuration::from_hours(1);

/// What a sweep leaves for the next one. Committed after everything it speaks of was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// One life of the source's id sequence.
    pub epoch: u32,
    /// The newest id of the last sweep; missing before the first.
    pub floor: Option<RunId>,
    /// Every execution that stopped before it has been published.
    pub complete_until: Option<Timestamp>,
    /// Where it was read.
    pub base_url: Option<String>,
    /// The executions stream's sequence that holds this source's last batch.
    pub published_through: u64,
    /// What the next sweep must know of single executions.
    pub tracked: BTreeMap<RunId, Tracked>,
}

/// An execution that the next sweep must know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    /// As it was last seen.
    pub state: State,
    /// Never changes once an execution has ended, so it tells two executions with one id apart.
    pub started_at: Option<Timestamp>,
    /// When it stopped; for an unreadable row, when it was found.
    pub stopped_at: Option<Timestamp>,
}

/// What an execution was when it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not finished.
    Open,
    /// Its row could not be read, and has a dead letter.
    Unreadable,
    /// Finished and published.
    Final(Status),
    /// Finished and published under an earlier epoch: never told again.
    Former,
}

impl State {
    /// The state's name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Unreadable => "unreadable",
            Self::Final(status) => status.as_str(),
            Self::Former => "former",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let finals = Status::ALL.into_iter().map(Self::Final);
        [Self::Open, Self::Unreadable, Self::Former]
            .into_iter()
            .chain(finals)
            .find(|state| state.as_str() == name)
    }
}

impl Cursor {
    /// Before the first sweep, as the store has it.
    #[cfg(test)]
    pub fn start() -> Self {
        Self {
            epoch: 1,
            floor: None,
            complete_until: None,
            base_url: None,
            published_through: 0,
            tracked: BTreeMap::new(),
        }
    }

    /// Executions that were open at `complete_until`: those still open, and those that have ended since.
    pub fn open_executions(&self) -> u32 {
        let open = self.tracked.values().filter(|tracked| match (tracked.state, self.complete_until) {
            (State::Open, Some(until)) => tracked.started_at.is_none_or(|at| at < until),
            (State::Final(_), Some(until)) => {
                tracked.started_at.is_some_and(|at| at < until)
                    && tracked.stopped_at.is_some_and(|at| at >= until)
            }
            _ => false,
        });
        u32::try_from(open.count()).unwrap_or(u32::MAX)
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
            // Listed again by the overlap, or of an instant that a restored database may show again.
            State::Final(_) | State::Former => {
                floor.is_none_or(|floor| id > floor.below(OVERLAP_IDS))
                    || self.stopped_at.is_some_and(|at| at >= complete_until)
            }
        }
    }

    /// Whether it has ended, as far as is known.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Final(_) | State::Former)
    }

    /// Whether its id must be asked for where no list shows it.
    pub fn is_unsettled(&self) -> bool {
        matches!(self.state, State::Open | State::Unreadable | State::Final(Status::Crashed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_store() {
        for name in ["open", "unreadable", "former", "success", "error", "crashed", "canceled"] {
            assert_eq!(State::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(State::parse("new"), None);
    }

    #[test]
    fn what_was_open_at_the_mark_is_told_also_if_it_has_ended_since() {
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
        assert_eq!(cursor.open_executions(), 3);
    }
}
