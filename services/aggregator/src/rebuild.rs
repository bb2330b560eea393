//! Rebuilds all figures from the stored executions and corrections while recording continues.
//!
//! Tenant by tenant: the executions are read in one snapshot, without a lock, and summed. Then one
//! transaction takes the tenant's lock and adds the changes logged by transactions that the snapshot does not
//! see. Every change of the figures is in the log (`rollup_log`) with the transaction that wrote it, so
//! nothing is missed or added twice. The result is compared with the stored figures and replaces them if they
//! differ. During a rebuild the log keeps folded changes.
//!
//! Figures that begin before the oldest month whose executions are kept stay as they are. Days are cut by the
//! calendar in force at the time.

use std::{collections::BTreeMap, fmt, sync::Arc};

use catalog::{Tenant, store::CatalogError};
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, outbox};
use metering::{Clock, Period, Timeline};
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    figures::{
        rollup::{Cell, Changes, DamagedChange, Figures},
        totals::Totals,
    },
    periods::change,
    questions::subject::Asked,
    rollups::fold::{FoldError, fold_waiting},
    store,
};

/// Executions collected before they are added to the figures: bounds memory.
const EXECUTIONS_PER_STEP: usize = 100_000;

/// Rebuilds.
pub struct Rebuild {
    /// The aggregator's database.
    pub pool: PgPool,
    /// Publishes changes through the outbox.
    pub bus: Bus,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A figure that did not match the executions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The tenant's id.
    pub tenant: String,
    /// What kind of figure.
    pub figure: &'static str,
    /// Which one: its start, and for a workflow's figure the workflow's number.
    pub place: String,
    /// Counted executions before, without adjustments by hand.
    pub stored: i64,
    /// Counted executions now, without adjustments by hand.
    pub rebuilt: i64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, figure, place, stored, rebuilt } = self;
        write!(f, "{tenant}: {figure} {place}: ")?;
        if stored == rebuilt {
            write!(f, "{stored} counted, other figures differed")
        } else {
            write!(f, "{stored} counted, now {rebuilt}")
        }
    }
}

/// The rebuild failed. Tenants that were already rebuilt stay rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The database failed.
    #[error("cannot rebuild the figures")]
    Database(#[from] sqlx::Error),
    /// The catalog's copy is damaged, or cannot be read.
    #[error("cannot read the tenant's calendar")]
    Catalog(#[from] CatalogError),
    /// A logged change is damaged.
    #[error("a logged change cannot be read")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<DamagedChange> for RebuildError {
    fn from(error: DamagedChange) -> Self {
        Self::Log(Box::new(error))
    }
}

impl From<FoldError> for RebuildError {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::Database(error) => Self::Database(error),
            damaged @ FoldError::Damaged { .. } => Self::Log(Box::new(damaged)),
        }
    }
}

impl Rebuild {
    /// Rebuilds the figures of all tenants, and calls `tell` with each difference. One rebuild runs at a
    /// time; another waits.
    pub async fn run(&self, mut report: impl FnMut(&Difference) + Send) -> Result<(), RebuildError> {
        // Its own connection, used for everything: the lock ends when it closes, even by a crash.
        let mut own = PgConnection::connect_with(&self.pool.connect_options()).await?;
        store::hold_rebuild(&mut own).await?;
        for (number, id) in store::all_tenants(&mut own).await? {
            // A removed tenant no longer has a calendar; its past figures stay as they are.
            let tenant: Option<Tenant> = catalog::store::find(&mut own, &id).await?;
            let Some(tenant) = tenant else { continue };
            let timeline = store::timeline(&mut own, number).await?;
            let timeline = timeline.unwrap_or_else(|| Timeline::new(tenant.calendar.clone()));
            let mut asked = Asked { number, tenant, archived: false, timeline };
            let (snapshot, shadow) = add_up(&mut own, &asked).await?;
            self.swap(&mut own, &mut asked, &snapshot, shadow).await?.iter().for_each(&mut report);
        }
        own.close().await?;
        Ok(())
    }

    /// Compares the shadow with the stored figures, and replaces them with it if they differ.
    async fn swap(
        &self,
        connection: &mut PgConnection,
        asked: &mut Asked,
        snapshot: &str,
        mut shadow: Figures,
    ) -> Result<Vec<Difference>, RebuildError> {
        let mut transaction = connection.begin().await?;
        store::fold_turn(&mut transaction).await?;
        // Folds most changes before the tenant is locked.
        fold_waiting(&mut transaction).await?;
        store::lock_tenant(&mut transaction, asked.number).await?;
        asked.refresh(&mut transaction).await?;
        fold_waiting(&mut transaction).await?;
        for (_, change) in store::logged_since(&mut transaction, snapshot).await? {
            shadow.apply(&Changes::from_bytes(&change)?.of_tenant(asked.number));
        }
        let since = store::kept_since(&mut *transaction).await?;
        let hours_since = store::hours_since(&mut *transaction).await?.max(since);
        let mut stored = store::stored_figures(&mut transaction, asked.number).await?;
        let (open, hours) = store::hours_of_open_periods(&mut transaction, asked.number).await?;
        stored.period_hours = hours;
        for figures in [&mut stored, &mut shadow] {
            figures.period_hours.retain(|key, _| open.contains(&key.period_start));
            figures.keep_since(since, hours_since);
        }
        let differences = differences(asked.tenant.id.as_str(), &stored, &shadow);
        if stored != shadow {
            let changed = self.set_periods(&mut transaction, asked, &stored, &shadow).await?;
            store::replace_rollups(&mut transaction, asked.number, (since, hours_since), &shadow).await?;
            let now = self.clock.now();
            // Ended periods are compared by the publisher, which sees the new revision.
            let when = (now, SignedDuration::ZERO);
            let messages =
                change::messages(&mut transaction, &self.bus, asked.changed(), &changed, when).await?;
            outbox::enqueue(&mut transaction, &messages).await?;
        }
        transaction.commit().await?;
        Ok(differences)
    }

    async fn set_periods(
        &self,
        connection: &mut PgConnection,
        asked: &Asked,
        stored: &Figures,
        shadow: &Figures,
    ) -> Result<Vec<Period>, RebuildError> {
        let now = self.clock.now();
        let adjusted = store::adjustments(connection, asked.number).await?;
        let mut changed = Vec::new();
        for (start, (_, totals)) in changes_between(&stored.periods, &shadow.periods) {
            let start = start.1;
            let period = match store::period_at(connection, asked.number, start).await? {
                Some(period) => period,
                None => asked.timeline.period_of(start),
            };
            store::ensure_periods(connection, asked.number, &[period].into(), now).await?;
            let adjusted = adjusted.get(&start).copied().unwrap_or_default();
            let totals = Totals { counted: totals.counted + adjusted, adjusted, ..totals };
            store::set_period(connection, asked.number, period, totals).await?;
            changed.push(period);
        }
        Ok(changed)
    }
}

/// Adds up all executions of a tenant in one snapshot.
async fn add_up(reader: &mut PgConnection, asked: &Asked) -> Result<(String, Figures), RebuildError> {
    let mut transaction = reader.begin().await?;
    let snapshot = store::freeze(&mut transaction).await?;
    let mut figures = Figures::default();
    let mut changes = Changes::default();
    let mut count = 0;
    let mut shares = Box::pin(store::shares(&mut transaction, asked.number));
    while let Some(share) = shares.try_next().await? {
        changes.add(share, &asked.timeline);
        count += 1;
        if count % EXECUTIONS_PER_STEP == 0 {
            figures.apply(&changes);
            changes = Changes::default();
        }
    }
    drop(shares);
    figures.apply(&changes);
    transaction.commit().await?;
    Ok((snapshot, figures))
}

fn differences(tenant: &str, stored: &Figures, shadow: &Figures) -> Vec<Difference> {
    let difference = |figure, place: String, stored: i64, rebuilt: i64| Difference {
        tenant: tenant.to_owned(),
        figure,
        place,
        stored,
        rebuilt,
    };
    let mut found = Vec::new();
    let periods = changes_between(&stored.periods, &shadow.periods);
    found.extend(
        periods
            .into_iter()
            .map(|((_, start), (was, is))| difference("period", start.to_string(), was.counted, is.counted)),
    );
    for ((_, start), (was, is)) in changes_between(&stored.hours, &shadow.hours) {
        if was.totals != is.totals {
            found.push(difference("hour", start.to_string(), was.totals.counted, is.totals.counted));
        }
        if was.durations != is.durations {
            found.push(difference(
                "durations",
                start.to_string(),
                was.durations.count(),
                is.durations.count(),
            ));
        }
    }
    found.extend(changes_between(&stored.period_hours, &shadow.period_hours).into_iter().map(
        |(key, (was, is))| {
            difference("hour", format!("{} of period {}", key.hour_start, key.period_start), was, is)
        },
    ));
    found.extend(changes_between(&stored.days, &shadow.days).into_iter().map(|((_, start), (was, is))| {
        difference("day", start.to_string(), was.totals.counted, is.totals.counted)
    }));
    for (key, (was, is)) in changes_between(&stored.workflows, &shadow.workflows) {
        let place = format!("{} of workflow {}", key.period_start, key.workflow);
        if was.totals != is.totals {
            found.push(difference("period", place.clone(), was.totals.counted, is.totals.counted));
        }
        if was.durations != is.durations {
            found.push(difference("durations", place, was.durations.count(), is.durations.count()));
        }
    }
    for (key, (was, is)) in changes_between(&stored.workflow_days, &shadow.workflow_days) {
        let place = format!("{} of workflow {}", key.day_start, key.workflow);
        if was.totals != is.totals {
            found.push(difference("day", place.clone(), was.totals.counted, is.totals.counted));
        }
        if was.durations != is.durations {
            found.push(difference("durations", place, was.durations.count(), is.durations.count()));
        }
    }
    found
}

/// The values that differ, before and after. A missing value is the default.
fn changes_between<K: Ord + Clone, V: Default + Clone + PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> BTreeMap<K, (V, V)> {
    let value = |map: &BTreeMap<K, V>, key: &K| map.get(key).cloned().unwrap_or_default();
    before
        .keys()
        .chain(after.keys())
        .map(|key| (key.clone(), (value(before, key), value(after, key))))
        .filter(|(_, (before, after))| before != after)
        .collect()
}

impl Figures {
    /// Drops figures that begin before `since`, whose executions are no longer kept; hours and workflows'
    /// days before `hours_since`; and rows of zeros, which are equal to missing rows.
    fn keep_since(&mut self, since: Timestamp, hours_since: Timestamp) {
        self.periods.retain(|(_, start), totals| *start >= since && *totals != Totals::ZERO);
        self.workflows.retain(|key, cell| key.period_start >= since && !cell.is_empty());
        self.hours.retain(|(_, start), hour| *start >= hours_since && !hour.is_empty());
        self.days.retain(|(_, start), day: &mut Cell| *start >= since && !day.is_empty());
        self.workflow_days.retain(|key, day| key.day_start >= hours_since && !day.is_empty());
        self.period_hours.retain(|key, counted| key.period_start >= since && *counted != 0);
    }
}
