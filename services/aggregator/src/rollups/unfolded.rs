//! Figures of workflows and hours that are logged but not folded yet. A period is published as the folded
//! figures plus these, read in one snapshot, so that its workflows and its complete count always match its
//! total.

use std::collections::{BTreeMap, HashMap};

use metering::Period;
use sqlx::PgConnection;

use crate::{
    figures::{
        rollup::{Changes, PeriodHour, WorkflowPeriod},
        totals::Totals,
    },
    rollups::fold::FoldError,
    store,
};

/// Pending changes, kept between rounds: a logged change is immutable, and read once.
#[derive(Debug, Default)]
pub(crate) struct Unfolded {
    changes: HashMap<i64, Waiting>,
}

/// What one logged change adds.
#[derive(Debug)]
struct Waiting {
    workflows: BTreeMap<WorkflowPeriod, Totals>,
    hours: BTreeMap<PeriodHour, i64>,
}

impl Unfolded {
    /// Reads the changes pending now. The caller reads one snapshot, or holds the folder's turn.
    pub(crate) async fn read(&mut self, connection: &mut PgConnection) -> Result<(), FoldError> {
        let known: Vec<i64> = self.changes.keys().copied().collect();
        let (numbers, news) = store::not_added(connection, &known).await?;
        self.changes.retain(|number, _| numbers.contains_key(number));
        for (number, waiting) in &mut self.changes {
            if numbers.get(number) == Some(&true) {
                waiting.workflows.clear();
            }
        }
        for row in news {
            let change = Changes::from_bytes(&row.change)
                .map_err(|source| FoldError::Damaged { number: row.number, source })?;
            let waiting = Waiting {
                workflows: if row.workflows_added { BTreeMap::new() } else { change.by_workflow() },
                hours: if row.hours_added { BTreeMap::new() } else { change.by_hour() },
            };
            self.changes.insert(row.number, waiting);
        }
        Ok(())
    }

    /// Pending totals of the workflows in these periods, one period per tenant.
    pub(crate) fn of(&self, periods: &BTreeMap<i32, Period>) -> BTreeMap<WorkflowPeriod, Totals> {
        let mut waiting: BTreeMap<WorkflowPeriod, Totals> = BTreeMap::new();
        let is_wanted = |key: &WorkflowPeriod| {
            periods.get(&key.tenant).is_some_and(|period| period.start == key.period_start)
        };
        let changes = self.changes.values().flat_map(|waiting| &waiting.workflows);
        for (key, totals) in changes.filter(|(key, _)| is_wanted(key)) {
            *waiting.entry(*key).or_default() += *totals;
        }
        waiting
    }

    /// Pending counts of these periods, by hour.
    pub(crate) fn by_hour(&self, periods: &BTreeMap<i32, Period>) -> BTreeMap<PeriodHour, i64> {
        let mut waiting: BTreeMap<PeriodHour, i64> = BTreeMap::new();
        let is_wanted = |key: &PeriodHour| {
            periods.get(&key.tenant).is_some_and(|period| period.start == key.period_start)
        };
        let changes = self.changes.values().flat_map(|waiting| &waiting.hours);
        for (key, counted) in changes.filter(|(key, _)| is_wanted(key)) {
            *waiting.entry(*key).or_default() += *counted;
        }
        waiting
    }
}
