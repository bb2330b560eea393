//! What is heard of an execution that is recorded already, and which word holds. Pure.
//!
//! The poll is the authority (ADR 0014): the first time that a poll shows an execution of which only a push has spoken, its word
//! replaces whatever the push has said, and no push changes it from then on. Between words of equal weight only a crash gives way.
//! So whatever is pushed, in whatever order, the outcome for an execution that the poll shows is that of the poll alone.

use jiff::SignedDuration;
use metering::Mode;

use crate::tally::{Decided, Ended, Placed, replaces};

/// How far an honest push's end may lie from the one in the source's list: the clocks of n8n's processes may differ, and the
/// hook reads its own where n8n does not say when a run has stopped.
const STOP_TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// One word of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// Whether the source's own list shows it.
    pub(crate) polled: bool,
    pub(crate) workflow: i32,
    pub(crate) mode: Mode,
    pub(crate) ended: Ended,
    /// Where a new execution would be placed, and whether it would count, if this were all that is known.
    pub(crate) placed: Option<Placed>,
    pub(crate) counted: bool,
}

/// In what a poll's word differs from that of the push before it; the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Correction {
    Workflow,
    Mode,
    Status,
    Stop,
    /// The start, or an end that is a little off. Not suspicious: n8n's hook reads another clock than its list, and n8n 1.x moves
    /// the start of a run that has waited.
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

    /// Whether an honest push does not differ so.
    pub(crate) fn is_contradiction(self) -> bool {
        self != Self::Times
    }

    /// What the poll has corrected; nothing where it had no push to correct, or confirms it.
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
    /// The execution as it is to be kept after this word; nothing where the word changes nothing.
    pub(crate) fn applied_to(&self, kept: &Decided) -> Option<Decided> {
        match (kept.confirmed, self.polled) {
            (true, false) => None,
            (false, true) => Some(self.confirming(kept)),
            (true, true) => replaces(kept.ended.status, self.ended.status)
                // Its period, and whether it counts, were decided when it was first seen.
                .then(|| Decided { ended: self.ended, ..kept.clone() }),
            // A claim in the place of a claim brings its own place: the poll may confirm it word for word, and must not
            // find it in a period that only an earlier claim has named.
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
        // Nothing that its place follows from is different; and what an operator has voided stays where that was done.
        if kept.voided || (is_same && kept.placed.is_some()) {
            return shown;
        }
        Decided { placed: self.placed, counted: self.counted, late: false, ..shown }
    }
}

#[cfg(test)]
mod tests;
