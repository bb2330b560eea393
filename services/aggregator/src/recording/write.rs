//! Writes what was decided: figures, executions, roll-ups and outgoing messages, in the caller's transaction,
//! which holds the sources' locks.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, Outgoing, outbox};
use metering::{Calendar, Timeline};
use sqlx::PgConnection;

use crate::{
    events,
    figures::{
        rollup::{Changes, Share},
        tally::{Changed, Decided, PeriodKey, by_period},
        totals::Totals,
    },
    periods::thresholds::{self, Terms},
    recording::{
        contradictions,
        decide::{Decisions, month_of},
        error::RecordError,
        tenant_cache::{Directory, TenantTerms},
        word::Word,
    },
    store::{self, ChangedPeriod, Key},
};

/// What a transaction has written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Sources whose executions it has added or changed.
    pub(crate) sources: BTreeSet<i32>,
    pub(crate) fresh: u64,
    /// What the poll has corrected, by kind.
    pub(crate) corrected: BTreeMap<&'static str, u64>,
}

/// Writes executions, and adds them to the figures.
pub(crate) async fn write(
    connection: &mut PgConnection,
    bus: &Bus,
    directory: &mut Directory,
    mut decisions: Decisions,
    grace: SignedDuration,
    now: Timestamp,
) -> Result<Written, RecordError> {
    let observed = std::mem::take(&mut decisions.observed);
    let (confirmed, mut changed): (Vec<Changed>, Vec<Changed>) =
        changes(connection, &observed).await?.into_iter().partition(Changed::only_confirms);
    let fresh = &mut decisions.fresh;
    fresh.sort_unstable_by_key(Decided::key);
    let mut cards = std::mem::take(&mut decisions.cards);
    find_cards(connection, directory, &mut cards, &changed).await?;
    let (traces, settled) = (std::mem::take(&mut decisions.traces), std::mem::take(&mut decisions.settled));
    let figures = Figures { cards, traces, settled, grace };
    figures.add(connection, bus, fresh, &mut changed, now).await?;
    store::copy_executions(connection, fresh, now).await?;
    store::confirm(connection, &confirmed.iter().map(|changed| &changed.after).collect::<Vec<_>>()).await?;
    store::rewrite(connection, &changed.iter().map(|changed| &changed.after).collect::<Vec<_>>()).await?;
    let corrected = contradictions::note(connection, bus, &changed, now).await?;
    let of_changed = confirmed.iter().chain(&changed).map(|changed| changed.before.source);
    Ok(Written {
        sources: fresh.iter().map(|decided| decided.source).chain(of_changed).collect(),
        fresh: u64::try_from(fresh.len()).unwrap_or(0),
        corrected,
    })
}

/// The changes that new observations make to executions recorded before. The sources are locked.
async fn changes(
    connection: &mut PgConnection,
    observed: &BTreeMap<Key, Vec<Word>>,
) -> Result<Vec<Changed>, RecordError> {
    let likely_in = |words: &Vec<Word>| words.first().map(|word| month_of(word.ended.stopped_at));
    let wanted: Vec<_> = observed.iter().filter_map(|(key, words)| Some((*key, likely_in(words)?))).collect();
    let kept = store::changeable(connection, &wanted).await?;
    let changed = kept.into_iter().filter_map(|before| {
        let mut after = before.clone();
        for word in observed.get(&before.key())? {
            after = word.applied_to(&after).unwrap_or(after);
        }
        (before != after).then_some(Changed { before, after })
    });
    Ok(changed.collect())
}

/// Loads the tenants of changed executions: they may not be among the source's present ones.
async fn find_cards(
    connection: &mut PgConnection,
    directory: &mut Directory,
    cards: &mut BTreeMap<i32, std::sync::Arc<TenantTerms>>,
    changed: &[Changed],
) -> Result<(), RecordError> {
    let tenants: BTreeSet<i32> = changed
        .iter()
        .filter_map(|changed| changed.before.placed.map(|placed| placed.tenant))
        .filter(|tenant| !cards.contains_key(tenant))
        .collect();
    if tenants.is_empty() {
        return Ok(());
    }
    let ids = store::tenant_ids(connection, &tenants.into_iter().collect::<Vec<_>>()).await?;
    directory.load(connection, ids.clone()).await?;
    for terms_of_tenant in ids.iter().filter_map(|id| directory.terms_of_tenant(id)) {
        cards.insert(terms_of_tenant.number, terms_of_tenant.clone());
    }
    Ok(())
}

/// The tenants whose figures change, by number.
fn tenants_of(fresh: &[Decided], changed: &[Changed], settled: &[i32]) -> Vec<i32> {
    let changed = changed.iter().flat_map(|changed| [&changed.before, &changed.after]);
    let tenants: BTreeSet<i32> = fresh
        .iter()
        .chain(changed)
        .filter_map(|decided| Some(decided.placed?.tenant))
        .chain(settled.iter().copied())
        .collect();
    tenants.into_iter().collect()
}

/// Decides which of the changed executions are late. The tenants are locked.
async fn settle_late(connection: &mut PgConnection, changed: &mut [Changed]) -> Result<(), RecordError> {
    let key = |changed: &Changed| changed.after.placed.map(|placed| (placed.tenant, placed.period.start));
    let periods: BTreeSet<PeriodKey> = changed.iter().filter_map(key).collect();
    if periods.is_empty() {
        return Ok(());
    }
    let closed = store::closed_among(connection, &periods).await?;
    for changed in changed {
        changed.settle_late(key(changed).is_some_and(|key| closed.contains(&key)));
    }
    Ok(())
}

/// Adds executions to the figures of their tenants.
pub(crate) struct Figures {
    /// The tenants, as far as the catalog has them.
    pub(crate) cards: BTreeMap<i32, std::sync::Arc<TenantTerms>>,
    /// The trace of the message that first affected a tenant.
    pub(crate) traces: HashMap<i32, String>,
    /// Further tenants with news: the time of admission of a recorded execution became known.
    pub(crate) settled: Vec<i32>,
    /// How long an ended period waits for sources that are not complete.
    pub(crate) grace: SignedDuration,
}

impl Figures {
    /// Adds executions, decides which are late, logs them for the roll-ups, and enqueues the resulting
    /// messages. The caller holds the sources' locks; the tenants are locked from here on.
    pub(crate) async fn add(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        fresh: &mut [Decided],
        changed: &mut [Changed],
        now: Timestamp,
    ) -> Result<(), RecordError> {
        let tenants = tenants_of(fresh, changed, &self.settled);
        if tenants.is_empty() {
            return Ok(());
        }
        let raised = store::raise_revisions(connection, &tenants).await?;
        // Checked under the tenants' locks, so that no calendar can change from here on.
        let is_other = |terms_of_tenant: &TenantTerms| {
            raised
                .get(&terms_of_tenant.number)
                .is_some_and(|held| held.calendar_version != terms_of_tenant.calendar_version)
        };
        if self.cards.values().any(|terms_of_tenant| is_other(terms_of_tenant)) {
            return Err(RecordError::CalendarChanged);
        }
        settle_late(connection, changed).await?;
        let changes = by_period(fresh, changed);
        let periods = store::add_to_periods(connection, &changes, now).await?;
        let closed: BTreeSet<PeriodKey> = periods
            .iter()
            .filter(|changed| changed.closed)
            .map(|changed| (changed.tenant, changed.period.start))
            .collect();
        for decided in fresh.iter_mut() {
            decided.late =
                decided.placed.is_some_and(|placed| closed.contains(&(placed.tenant, placed.period.start)));
        }
        let by_hour = self.roll_up(fresh, changed);
        store::log_changes(connection, &by_hour, now).await?;
        let mut messages = Vec::new();
        for period in &periods {
            let delta = changes.get(&(period.tenant, period.period.start)).map(|change| change.totals);
            let revision = raised.get(&period.tenant).map_or(0, |held| held.revision);
            self.publish(connection, bus, period, delta.unwrap_or_default(), revision, now, &mut messages)
                .await?;
        }
        outbox::enqueue(connection, &messages).await?;
        Ok(())
    }

    /// The same changes hour by hour.
    fn roll_up(&self, fresh: &[Decided], changed: &[Changed]) -> Changes {
        let utc = Timeline::new(Calendar::utc());
        let mut changes = Changes::default();
        let mut add = |decided: &Decided, totals: Totals| {
            let Some(placed) = decided.placed else { return };
            let timeline =
                self.cards.get(&placed.tenant).map_or(&utc, |terms_of_tenant| &terms_of_tenant.timeline);
            let share = Share {
                tenant: placed.tenant,
                workflow: decided.workflow,
                period_start: placed.period.start,
                stopped_at: decided.ended.stopped_at,
                duration: decided.duration(),
                totals,
            };
            changes.add(share, timeline);
        };
        for decided in fresh {
            add(decided, decided.totals());
        }
        for Changed { before, after } in changed {
            add(before, before.totals().negated());
            add(after, after.totals());
        }
        changes
    }

    /// The messages that follow from a period's new figures: opened, late usage, crossed thresholds.
    #[expect(clippy::too_many_arguments, reason = "one period of one transaction, in all its parts")]
    async fn publish(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        changed: &ChangedPeriod,
        delta: Totals,
        revision: i64,
        now: Timestamp,
        messages: &mut Vec<Outgoing>,
    ) -> Result<(), RecordError> {
        let Some(terms_of_tenant) = self.cards.get(&changed.tenant) else { return Ok(()) };
        let (tenant, namespace) = (&terms_of_tenant.tenant, bus.namespace());
        let first = messages.len();
        if changed.opened {
            messages.extend(events::period_opened(namespace, tenant.id.as_str(), changed.period, now));
        }
        if changed.closed {
            let id = tenant.id.as_str();
            messages.extend(events::late_usage(
                namespace,
                id,
                changed.period,
                revision,
                &changed.totals,
                now,
            ));
        }
        let (kept, plan) = (changed.terms.clone(), terms_of_tenant.plan.as_ref());
        let terms = Terms::of_period(kept, plan, tenant, changed.period, now, self.grace);
        if let Some(terms) = terms.filter(|_| !changed.closed) {
            // A changed limit is news of its own, which the publisher handles.
            let counted = changed.totals.counted;
            if terms.reached(counted) != terms.reached(counted - delta.counted) {
                let (number, period) = (changed.tenant, changed.period);
                let crossed =
                    thresholds::evaluate(connection, number, &tenant.id, &terms, period, now).await?;
                messages.extend(
                    crossed.iter().flat_map(|crossing| events::threshold_crossed(namespace, crossing)),
                );
            }
        }
        if let Some(trace) = self.traces.get(&changed.tenant) {
            for message in messages.iter_mut().skip(first) {
                message.traceparent = Some(trace.clone());
            }
        }
        Ok(())
    }
}
