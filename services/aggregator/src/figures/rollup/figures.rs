//! The stored figures, each a sum of cells.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Cell, Changes};
use crate::figures::totals::Totals;

/// Everything that is derived from executions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// By tenant and the period's start. Without adjustments by hand.
    pub(crate) periods: BTreeMap<(i32, Timestamp), Totals>,
    pub(crate) workflows: BTreeMap<WorkflowPeriod, Cell>,
    /// By tenant and the start of the hour in its time zone.
    pub(crate) hours: BTreeMap<(i32, Timestamp), Cell>,
    /// By tenant and the day's start.
    pub(crate) days: BTreeMap<(i32, Timestamp), Cell>,
    pub(crate) workflow_days: BTreeMap<WorkflowDay, Cell>,
    /// Counted executions of periods by UTC hour, to count those since an instant.
    pub(crate) period_hours: BTreeMap<PeriodHour, i64>,
}

/// An hour in a period: the period's executions that stopped in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeriodHour {
    pub(crate) tenant: i32,
    pub(crate) period_start: Timestamp,
    pub(crate) hour_start: Timestamp,
}

/// A workflow in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkflowPeriod {
    pub(crate) tenant: i32,
    pub(crate) period_start: Timestamp,
    pub(crate) workflow: i32,
}

/// A workflow on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkflowDay {
    pub(crate) tenant: i32,
    pub(crate) workflow: i32,
    pub(crate) day_start: Timestamp,
}

impl Figures {
    /// Adds changes.
    pub(crate) fn apply(&mut self, changes: &Changes) {
        for (key, cell) in changes.cells() {
            let (tenant, workflow) = (key.tenant, key.workflow);
            let in_period = key.workflow_period();
            let on_day = WorkflowDay { tenant, workflow, day_start: key.day_start };
            *self.periods.entry((tenant, key.period_start)).or_default() += cell.totals;
            *self.hours.entry((tenant, key.own_hour_start)).or_default() += cell;
            *self.days.entry((tenant, key.day_start)).or_default() += cell;
            *self.workflow_days.entry(on_day).or_default() += cell;
            *self.period_hours.entry(key.period_hour()).or_default() += cell.totals.counted;
            *self.workflows.entry(in_period).or_default() += cell;
        }
    }
}
