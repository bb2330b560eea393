//! Decides between several observations ("words") of one execution. Pure.
//!
//! The poll is the authority (ADR 0014): the first time a poll shows an execution that was only pushed
//! before, it replaces everything that was pushed, and no push changes it from then on. Between observations
//! of equal weight only a crash is replaced. So for an execution that the poll shows, the outcome is that of
//! the poll alone, whatever is pushed in whatever order.

use jiff::{SignedDuration, Timestamp};
use metering::Mode;

use crate::{
    figures::tally::{Decided, Ended, Placed, replaces},
    store::Key,
};

/// How far the end in an honest push may be from the one in the source's list: the clocks of n8n's processes
/// may differ, and the hook reads its own if n8n does not report when a run stopped.
const STOP_TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// One observation of an execution, by a poll or a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// Whether it comes from a poll of the source's own list.
    pub(crate) polled: bool,
    pub(crate) workflow: i32,
    pub(crate) mode: Mode,
    pub(crate) ended: Ended,
    /// Where a new execution would be placed, and whether it would count, if this were the only observation.
    pub(crate) placed: Option<Placed>,
    pub(crate) counted: bool,
}

/// How a poll differs from the push before it; the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Correction {
    Workflow,
    Mode,
    Status,
    Stop,
    /// The start, or a slightly different end. Not suspicious: n8n's hook reads a different clock than its
    /// list, and n8n 1.x moves the start of a run that waited.
    Times,
}

impl Correction {
    /// The metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Mode => "mode",
            Self::Status => "status",
            Self::Stop => "stop",
            Self::Times => "times",
        }
    }

    /// Whether an honest push never differs in this way.
    pub(crate) fn is_contradiction(self) -> bool {
        self != Self::Times
    }

    /// What the poll corrected; `None` if there was no push to correct, or the poll confirms it.
    pub(crate) fn between(before: &Decided, after: &Decided) -> Option<Self> {
        if before.confirmed || !after.confirmed {
            return None;
        }
        let apart = after.ended.stopped_at.duration_since(before.ended.stopped_at).abs();
        let crash_resolved = replaces(before.ended.status, after.ended.status);
        if before.workflow != after.workflow {
            Some(Self::Workflow)
        } else if before.mode != after.mode {
            Some(Self::Mode)
        } else if crash_resolved {
            None
        } else if before.ended.status != after.ended.status {
            Some(Self::Status)
        } else if apart > STOP_TOLERANCE {
            Some(Self::Stop)
        } else {
            (before.ended != after.ended).then_some(Self::Times)
        }
    }
}

impl Word {
    /// The execution to store after this observation; `None` if it changes nothing.
    pub(crate) fn applied_to(&self, kept: &Decided) -> Option<Decided> {
        match (kept.confirmed, self.polled) {
            (true, false) => None,
            (false, true) => Some(self.confirming(kept)),
            (true, true) => replaces(kept.ended.status, self.ended.status)
                // Its period, and whether it counts, were decided when it was first seen.
                .then(|| Decided { ended: self.ended, ..kept.clone() }),
            // A claim that replaces a claim brings its own placement: the poll may confirm it exactly, and
            // must not find it in a period that only the earlier claim led to.
            (false, false) => replaces(kept.ended.status, self.ended.status).then(|| self.placing(kept)),
        }
    }

    fn placing(&self, kept: &Decided) -> Decided {
        let Self { workflow, mode, ended, .. } = *self;
        let claimed = Decided { workflow, mode, ended, ..kept.clone() };
        if kept.voided {
            return claimed;
        }
        Decided { placed: self.placed, counted: self.counted, late: false, ..claimed }
    }

    fn confirming(&self, kept: &Decided) -> Decided {
        let Self { workflow, mode, ended, .. } = *self;
        let shown = Decided { workflow, mode, ended, confirmed: true, ..kept.clone() };
        let is_same = (kept.workflow, kept.mode) == (workflow, mode)
            && (kept.ended.status, kept.ended.stopped_at) == (ended.status, ended.stopped_at);
        // Nothing that decides its placement differs; and a voided execution stays where it was voided.
        if kept.voided || (is_same && kept.placed.is_some()) {
            return shown;
        }
        Decided { placed: self.placed, counted: self.counted, late: false, ..shown }
    }
}

/// Pushed executions of one source that the poll contradicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contradicted {
    pub(crate) source_id: String,
    /// On this UTC day so far.
    pub(crate) executions: i64,
    /// The number of contradictions at which this report is due: each is reported once a day.
    pub(crate) step: i64,
    /// One of them.
    pub(crate) example: Key,
    pub(crate) found_at: Timestamp,
}

#[cfg(test)]
mod tests;
