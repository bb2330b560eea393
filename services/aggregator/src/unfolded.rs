//! Figures of workflows that are logged and not folded yet. What is told of a period is what is folded and these, in one
//! snapshot, so that its workflows add up to its total whenever it is told.

use std::collections::{BTreeMap, HashMap};

use metering::Period;
use sqlx::PgConnection;

use crate::{
    fold::FoldError,
    rollup::{Changes, WorkflowPeriod},
    store,
    totals::Totals,
};

/// What waits, kept between looks: a logged change never changes, and is read once.
#[derive(Debug, Default)]
pub(crate) struct Unfolded {
    changes: HashMap<i64, BTreeMap<WorkflowPeriod, Totals>>,
}

impl Unfolded {
    /// Reads what waits now. The caller sees one state of the database, or has the folder's turn.
    pub(crate) async fn read(&mut self, connection: &mut PgConnection) -> Result<(), FoldError> {
        let known: Vec<i64> = self.changes.keys().copied().collect();
        let (numbers, news) = store::waiting_for_workflows(connection, &known).await?;
        self.changes.retain(|number, _| numbers.contains(number));
        for row in news {
            let change = Changes::from_bytes(&row.change)
                .map_err(|source| FoldError::Damaged { number: row.number, source })?;
            self.changes.insert(row.number, change.by_workflow());
        }
        Ok(())
    }

    /// What waits of these periods, by tenant.
    pub(crate) fn of(&self, periods: &BTreeMap<i32, Period>) -> BTreeMap<WorkflowPeriod, Totals> {
        let mut waiting: BTreeMap<WorkflowPeriod, Totals> = BTreeMap::new();
        let is_wanted = |key: &WorkflowPeriod| {
            periods.get(&key.tenant).is_some_and(|period| period.start == key.period_start)
        };
        for (key, totals) in self.changes.values().flatten().filter(|(key, _)| is_wanted(key)) {
            *waiting.entry(*key).or_default() += *totals;
        }
        waiting
    }
}
