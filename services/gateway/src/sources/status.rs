//! The sweep state of each source, in memory: the last `SourceSynced` and `SourceFailing`.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use jiff::Timestamp;
use metering::SourceId;
use proto::{InvalidMessage, instant, required_instant, v1};

/// A successful sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Every execution that stopped before this instant has been published.
    pub complete_until: Timestamp,
    /// Executions that were running then.
    pub open_executions: u32,
    /// When the sweep started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Final executions that it published.
    pub executions_published: u32,
    /// The epoch of the source's id sequence.
    pub epoch: u32,
    /// When the source is expected to prune executions that were not seen.
    pub loss_expected_at: Option<Timestamp>,
    /// Ids that it never showed; `None` before the first sweep that looks for them.
    pub unseen: Option<Unseen>,
    /// Checks of the source itself.
    pub checks: Checks,
}

/// Whether a source's clock is right, and whether its push token is used by only one n8n, which pushes only
/// for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// How far its clock is ahead, in milliseconds; negative where it is behind.
    pub clock_skew_ms: Option<i64>,
    /// When that was measured.
    pub clock_measured_at: Option<Timestamp>,
    /// Since when the clock is wrong.
    pub clock_wrong_since: Option<Timestamp>,
    /// Since when several n8n push with its token.
    pub token_shared_since: Option<Timestamp>,
    /// Their ids.
    pub instances: Vec<String>,
    /// Since when its n8n pushes for other sources too.
    pub counted_twice_since: Option<Timestamp>,
    /// Those sources.
    pub same_instance: Vec<String>,
}

impl Checks {
    fn read(wire: &v1::SourceSynced) -> Result<Self, InvalidMessage> {
        Ok(Self {
            clock_skew_ms: wire.clock_skew_ms,
            clock_measured_at: instant(wire.clock_measured_at.as_ref(), "clock_measured_at")?,
            clock_wrong_since: instant(wire.clock_wrong_since.as_ref(), "clock_wrong_since")?,
            token_shared_since: instant(wire.token_shared_since.as_ref(), "token_shared_since")?,
            instances: wire.instances.clone(),
            counted_twice_since: instant(wire.counted_twice_since.as_ref(), "counted_twice_since")?,
            same_instance: wire.same_instance_sources.clone(),
        })
    }
}

/// Executions that a source has numbered and never showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unseen {
    /// How many there are at most.
    pub executions_max: u64,
    /// Since when they are counted.
    pub since: Timestamp,
    /// Workflows whose settings say that some of their executions are not saved.
    pub unsaving_workflows: u32,
}

impl Unseen {
    /// Reads the fields of a message.
    pub fn read(
        executions_max: u64,
        since: Option<&prost_types::Timestamp>,
        unsaving_workflows: u32,
    ) -> Result<Option<Self>, InvalidMessage> {
        let since = instant(since, "unseen_since")?;
        Ok(since.map(|since| Self { executions_max, since, unsaving_workflows }))
    }
}

/// A source that could not be swept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The kind of failure.
    pub reason: v1::FailureReason,
    /// For a person.
    pub detail: String,
    /// The first of the consecutive failures.
    pub since: Timestamp,
    /// The last one.
    pub failed_at: Timestamp,
    /// How many consecutive failures there are.
    pub consecutive_failures: u32,
}

/// What is known of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceState {
    /// The last successful sweep.
    pub synced: Option<Synced>,
    /// The last failure.
    last_failure: Option<Failing>,
}

impl SourceState {
    /// When the source is expected to prune executions that were not seen; `None` if sweeps come often
    /// enough.
    pub fn loss_expected_at(&self) -> Option<Timestamp> {
        self.synced.as_ref().and_then(|synced| synced.loss_expected_at)
    }

    /// Ids that the source never showed.
    pub fn unseen(&self) -> Option<Unseen> {
        self.synced.as_ref().and_then(|synced| synced.unseen)
    }

    /// Checks of the source itself; `None` before the first sweep.
    pub fn checks(&self) -> Option<&Checks> {
        self.synced.as_ref().map(|synced| &synced.checks)
    }

    /// The current failure; a later successful sweep clears it.
    pub fn failing(&self) -> Option<&Failing> {
        let cleared_at = self.synced.as_ref().map(|synced| synced.ended_at);
        self.last_failure.as_ref().filter(|failure| cleared_at.is_none_or(|at| at < failure.failed_at))
    }
}

/// What is known of every source; empty after a start until the broker has replayed what it keeps.
#[derive(Default)]
pub struct SourceView {
    sources: RwLock<HashMap<SourceId, SourceState>>,
}

impl SourceView {
    /// What is known of a source.
    pub fn of(&self, source: &SourceId) -> SourceState {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned().unwrap_or_default()
    }

    /// Applies a sweep, unless a later one is known. Returns its source.
    pub fn apply_synced(&self, wire: &v1::SourceSynced) -> Result<SourceId, InvalidMessage> {
        let source = SourceId::parse(&wire.source_id)?;
        let synced = Synced {
            complete_until: required_instant(wire.complete_until.as_ref(), "complete_until")?,
            open_executions: wire.open_executions,
            started_at: instant(wire.sweep_started_at.as_ref(), "sweep_started_at")?,
            ended_at: required_instant(wire.sweep_ended_at.as_ref(), "sweep_ended_at")?,
            executions_published: wire.executions_published,
            epoch: wire.epoch,
            loss_expected_at: instant(wire.loss_expected_at.as_ref(), "loss_expected_at")?,
            unseen: Unseen::read(wire.unseen_ids_max, wire.unseen_since.as_ref(), wire.unsaving_workflows)?,
            checks: Checks::read(wire)?,
        };
        self.update(&source, |state| {
            if state.synced.as_ref().is_none_or(|known| known.ended_at <= synced.ended_at) {
                state.synced = Some(synced);
            }
        });
        Ok(source)
    }

    /// Applies a failure, unless a later one is known. Returns its source.
    pub fn apply_failing(&self, wire: v1::SourceFailing) -> Result<SourceId, InvalidMessage> {
        let source = SourceId::parse(&wire.source_id)?;
        let failed_at = required_instant(wire.failed_at.as_ref(), "failed_at")?;
        let failing = Failing {
            reason: wire.reason(),
            since: instant(wire.failing_since.as_ref(), "failing_since")?.unwrap_or(failed_at),
            detail: wire.detail,
            failed_at,
            consecutive_failures: wire.consecutive_failures,
        };
        self.update(&source, |state| {
            if state.last_failure.as_ref().is_none_or(|known| known.failed_at <= failing.failed_at) {
                state.last_failure = Some(failing);
            }
        });
        Ok(source)
    }

    fn update(&self, source: &SourceId, change: impl FnOnce(&mut SourceState)) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        change(sources.entry(source.clone()).or_default());
    }
}

#[cfg(test)]
mod tests {
    use proto::timestamp;

    use super::*;

    fn at(text: &str) -> Option<prost_types::Timestamp> {
        Some(timestamp(text.parse().unwrap()))
    }

    fn synced(ended_at: &str) -> v1::SourceSynced {
        v1::SourceSynced {
            source_id: "north-n8n".into(),
            complete_until: at("2026-11-24T12:00:00Z"),
            sweep_ended_at: at(ended_at),
            ..v1::SourceSynced::default()
        }
    }

    fn failing(failed_at: &str) -> v1::SourceFailing {
        v1::SourceFailing {
            source_id: "north-n8n".into(),
            reason: v1::FailureReason::Unauthorized.into(),
            failed_at: at(failed_at),
            ..v1::SourceFailing::default()
        }
    }

    #[test]
    fn a_successful_sweep_clears_a_failure_in_either_order_of_arrival() {
        for failure_first in [true, false] {
            let view = SourceView::default();
            if failure_first {
                view.apply_failing(failing("2026-11-24T12:00:00Z")).unwrap();
            }
            let source = view.apply_synced(&synced("2026-11-24T12:10:00Z")).unwrap();
            if !failure_first {
                view.apply_failing(failing("2026-11-24T12:00:00Z")).unwrap();
            }
            assert_eq!(view.of(&source).failing(), None);
            view.apply_failing(failing("2026-11-24T12:20:00Z")).unwrap();
            assert!(view.of(&source).failing().is_some());
        }
    }

    #[test]
    fn an_expected_loss_holds_until_the_next_successful_sweep() {
        let view = SourceView::default();
        let risk = v1::SourceSynced {
            loss_expected_at: at("2026-11-24T12:07:00Z"),
            ..synced("2026-11-24T12:00:00Z")
        };
        let source = view.apply_synced(&risk).unwrap();
        assert!(view.of(&source).loss_expected_at().is_some());
        view.apply_synced(&synced("2026-11-24T12:05:00Z")).unwrap();
        assert_eq!(view.of(&source).loss_expected_at(), None);
    }

    #[test]
    fn a_message_without_required_instants_is_refused() {
        let view = SourceView::default();
        assert!(
            view.apply_synced(&v1::SourceSynced { sweep_ended_at: None, ..synced("2026-11-24T12:00:00Z") })
                .is_err()
        );
        assert!(view.apply_failing(v1::SourceFailing::default()).is_err());
    }
}
