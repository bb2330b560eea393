//! What metering knows of a tenant's period, in memory: the last `UsageCounted` of each tenant.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use metering::{Calendar, Period, TenantId};
use proto::{InvalidMessage, instant, required_instant, v1};
use tokio::sync::watch;

/// Slots that the aggregator sends at most.
const SETTLED_MAX: usize = 120;

/// The figures of one tenant's period, as last counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The tenant.
    pub tenant: TenantId,
    /// The period they belong to.
    pub period: Period,
    /// A larger revision is newer.
    pub revision: u64,
    /// Sums over all workflows.
    pub totals: v1::Totals,
    /// The workflows with the most counted executions.
    pub workflows: Vec<v1::WorkflowUsage>,
    /// Workflows that are not listed.
    pub workflows_omitted: u32,
    /// When the figures were read.
    pub as_of: Timestamp,
    /// All sources are counted up to here.
    pub complete_until: Option<Timestamp>,
    /// Counted executions that stopped before `complete_until`.
    pub counted_complete: u64,
    /// Executions that were running at `complete_until`.
    pub open_executions: u64,
    /// How complete each source is.
    pub sources: Vec<Freshness>,
    /// Counted executions, by the tally slot in which they were allowed.
    pub settled: Vec<(i64, u64)>,
    /// Of `open_executions`, those that have been counted since.
    pub open_and_counted: u64,
    /// The previous `complete_until`, if it is known which executions were running then.
    pub earlier_complete_until: Option<Timestamp>,
    /// Executions that were running then and are not counted.
    pub earlier_open: u64,
    /// The time zone that the period was cut in; `None` from an aggregator of the previous version.
    pub time_zone: Option<String>,
}

/// How complete one source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// The source's id.
    pub source: String,
    /// Counted up to here.
    pub complete_until: Option<Timestamp>,
    /// Executions that were running then.
    pub open_executions: u32,
}

impl TryFrom<v1::UsageCounted> for Counted {
    type Error = InvalidMessage;

    fn try_from(wire: v1::UsageCounted) -> Result<Self, InvalidMessage> {
        let sources = wire.sources.into_iter().map(Freshness::try_from).collect::<Result<_, _>>()?;
        Ok(Self {
            tenant: TenantId::parse(&wire.tenant_id)?,
            period: wire.period.ok_or(InvalidMessage::Missing("period"))?.try_into()?,
            revision: wire.revision,
            totals: wire.totals.unwrap_or_default(),
            workflows: wire.workflows,
            workflows_omitted: wire.workflows_omitted,
            as_of: required_instant(wire.as_of.as_ref(), "as_of")?,
            complete_until: instant(wire.complete_until.as_ref(), "complete_until")?,
            counted_complete: wire.counted_complete,
            open_executions: wire.open_executions,
            sources,
            settled: wire.settled.iter().take(SETTLED_MAX).map(|one| (one.slot, one.executions)).collect(),
            open_and_counted: wire.open_and_counted,
            earlier_complete_until: instant(wire.earlier_complete_until.as_ref(), "earlier_complete_until")?,
            earlier_open: wire.earlier_open,
            time_zone: (!wire.time_zone.is_empty()).then_some(wire.time_zone),
        })
    }
}

impl TryFrom<v1::SourceFreshness> for Freshness {
    type Error = InvalidMessage;

    fn try_from(wire: v1::SourceFreshness) -> Result<Self, InvalidMessage> {
        Ok(Self {
            source: wire.source_id,
            complete_until: instant(wire.complete_until.as_ref(), "sources.complete_until")?,
            open_executions: wire.open_executions,
        })
    }
}

impl Counted {
    /// Whether these figures replace `other`. Within a period the larger revision wins, and of equal ones the
    /// later read, because freshness may advance without a new count. Of two periods the later read wins: the
    /// later start would be wrong if a tenant's anchor day has moved.
    fn replaces(&self, other: &Self) -> bool {
        if self.period == other.period {
            (self.revision, self.as_of) >= (other.revision, other.as_of)
        } else {
            self.as_of > other.as_of
        }
    }

    /// Whether these are figures of the period that contains `now`. A period that has not begun by this
    /// machine's clock is current too: the aggregator's clock is then ahead.
    pub fn is_current(&self, now: Timestamp) -> bool {
        now < self.period.end
    }
}

/// The tenant's period at `now`: the last counted period until it ends; after that, the tenant's calendar
/// continues from its end, as in the aggregator. A period that the current calendar would have cut
/// differently keeps its bounds, and so the ledger of admissions keeps its key.
pub fn period_at(counted: Option<&Counted>, calendar: &Calendar, now: Timestamp) -> Period {
    match counted {
        Some(counted) if counted.is_current(now) => counted.period,
        Some(counted) => calendar.continue_from(counted.period.end, now),
        None => calendar.period_of(now),
    }
}

/// The last figures of every tenant, from a live subscription: after a start a tenant is unknown, not at
/// zero, until the broker has replayed what it keeps.
pub struct UsageView {
    tenants: RwLock<HashMap<TenantId, Arc<Counted>>>,
    caught_up: watch::Sender<bool>,
}

impl Default for UsageView {
    fn default() -> Self {
        Self { tenants: RwLock::default(), caught_up: watch::Sender::new(false) }
    }
}

impl UsageView {
    /// Applies figures, unless newer ones are known. Returns whether they were applied.
    pub fn apply(&self, counted: Counted) -> bool {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.get(&counted.tenant).is_some_and(|known| !counted.replaces(known)) {
            return false;
        }
        tenants.insert(counted.tenant.clone(), Arc::new(counted));
        true
    }

    /// Notes that all figures that the broker keeps have been received.
    pub fn caught_up(&self) {
        self.caught_up.send_if_modified(|caught_up| !mem::replace(caught_up, true));
    }

    /// Waits until all figures that the broker keeps have been received once.
    pub async fn wait_until_caught_up(&self) {
        // The sender is ours, so the channel cannot be closed.
        let _ = self.caught_up.subscribe().wait_for(|caught_up| *caught_up).await;
    }

    /// The last figures of a tenant; `None` if none have been received.
    pub fn of(&self, tenant: &TenantId) -> Option<Arc<Counted>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Figures of November 2026 for the tenant `north`.
    pub(crate) fn november(counted: u64, revision: u64) -> Counted {
        Counted {
            tenant: TenantId::parse("north").unwrap(),
            period: Period {
                start: "2026-11-01T00:00:00Z".parse().unwrap(),
                end: "2026-12-01T00:00:00Z".parse().unwrap(),
            },
            revision,
            totals: v1::Totals { counted, success: counted, ..v1::Totals::default() },
            workflows: Vec::new(),
            workflows_omitted: 0,
            as_of: "2026-11-24T12:00:00Z".parse().unwrap(),
            complete_until: Some("2026-11-24T11:59:00Z".parse().unwrap()),
            counted_complete: counted,
            open_executions: 0,
            sources: Vec::new(),
            settled: Vec::new(),
            open_and_counted: 0,
            earlier_complete_until: None,
            earlier_open: 0,
            time_zone: None,
        }
    }

    #[test]
    fn an_older_message_changes_nothing() {
        let view = UsageView::default();
        assert!(view.apply(november(20, 2)));
        assert!(!view.apply(november(10, 1)));
        let december = Counted {
            period: Period { start: november(0, 0).period.end, end: "2027-01-01T00:00:00Z".parse().unwrap() },
            as_of: "2026-12-01T00:00:10Z".parse().unwrap(),
            ..november(0, 3)
        };
        assert!(view.apply(december));
        assert!(!view.apply(november(30, 3)), "a closed period does not come back");
    }

    #[test]
    fn a_moved_anchor_day_may_begin_an_earlier_period() {
        let view = UsageView::default();
        view.apply(november(20, 2));
        let moved = Counted {
            period: Period {
                start: "2026-10-20T00:00:00Z".parse().unwrap(),
                end: "2026-12-20T00:00:00Z".parse().unwrap(),
            },
            as_of: "2026-11-24T12:00:01Z".parse().unwrap(),
            ..november(25, 3)
        };
        assert!(view.apply(moved));
    }

    #[test]
    fn a_changed_calendar_moves_no_period_and_continues_from_its_end() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let (counted, calendar) = (november(100, 1), Calendar::new("Europe/Madrid", 15).unwrap());
        let period = |now: &str| period_at(Some(&counted), &calendar, at(now));
        for now in ["2026-11-14T22:59:59Z", "2026-11-15T12:00:00Z", "2026-11-30T23:59:59.999Z"] {
            assert_eq!(period(now), counted.period, "{now}");
        }
        let first = Period { start: counted.period.end, end: at("2026-12-14T23:00:00Z") };
        assert_eq!(period("2026-12-01T00:00:00Z"), first);
        assert_eq!(period("2026-12-14T22:59:59Z"), first);
        assert_eq!(period("2026-12-14T23:00:00Z").start, first.end);
    }

    #[test]
    fn freshness_may_advance_without_a_new_count() {
        let view = UsageView::default();
        view.apply(november(20, 2));
        let later = Counted { as_of: "2026-11-24T12:10:00Z".parse().unwrap(), ..november(20, 2) };
        assert!(view.apply(later.clone()));
        assert_eq!(view.of(&later.tenant).unwrap().as_of, later.as_of);
    }
}
