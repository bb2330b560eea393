//! Publishes each tenant's usage: the whole current period, whenever there is news, at most once per
//! interval. A change of plan or limit, or a new period, also takes effect here, without a new execution.
//!
//! A round reads the usage of many tenants in one snapshot of the database, so it costs a few statements and
//! no recorder waits for it. A tenant is locked only if something has to be decided first.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use catalog::{Entry, Plan, RunCaps, Tenant};
use chassis::Rounds;
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, PublishError, error_chain, outbox};
use metering::{Clock, Percent, Period};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    events,
    figures::tally::PeriodKey,
    periods::{
        progress::Progress,
        thresholds::{self, Terms},
    },
    recording::admitted,
    rollups::unfolded::Unfolded,
    store::{self, Ended, News, Published, Settled, Snapshot},
};

/// Tenants whose usage one round publishes; the others follow in the next, after the same interval.
const TENANTS_PER_ROUND: i64 = 1_000;

/// Under load, publishing takes one part in this many of the time: a tenant's next message replaces the last.
const ROUNDS_PART: u32 = 10;

/// Messages in flight to the broker.
const IN_FLIGHT_MAX: usize = 64;

/// Publishes usage.
pub(crate) struct Publisher {
    pool: PgPool,
    /// Only for the turn, which is held while `pool` is used.
    turn: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    grace: SignedDuration,
    progress: Progress,
    unfolded: Unfolded,
    /// Published but not noted yet, because the tenant was locked: not to be published again.
    published: BTreeMap<i32, Published>,
}

/// A tenant with news, and everything that may be published about it.
struct UsageSnapshot {
    news: News,
    tenant: Tenant,
    plan: Option<Plan>,
    period: Period,
    /// The time zone that its bounds follow.
    time_zone: String,
    /// Whether the tenant was removed: its usage is published, but no period opens and no threshold is
    /// compared.
    archived: bool,
    snapshot: Snapshot,
    settled: Settled,
    /// Periods that have ended and are not closed, the earliest first.
    ended: Vec<Ended>,
    /// Thresholds recorded as crossed, by the start of the period.
    standing: BTreeMap<Timestamp, Vec<Percent>>,
}

/// A tenant with news, and its period to publish.
struct Current {
    news: News,
    tenant: Tenant,
    period: Period,
    time_zone: String,
    archived: bool,
}

impl UsageSnapshot {
    /// The periods to compare with a limit at `now`, each with its terms and whether it is settled: it is
    /// open, these terms are stored, and exactly the thresholds that are reached are recorded as crossed.
    fn compared(&self, now: Timestamp, grace: SignedDuration) -> Vec<(Period, Option<Terms>, bool)> {
        let Self { tenant, plan, period, snapshot, ended, standing, .. } = self;
        let current = (*period, &snapshot.totals, &snapshot.terms, snapshot.is_open);
        let ended = ended.iter().map(|ended| (ended.period, &ended.totals, &ended.terms, true));
        let compared = ended.chain([current]).map(|(period, totals, kept, is_open)| {
            let terms = Terms::of_period(kept.clone(), plan.as_ref(), tenant, period, now, grace);
            let is_settled = is_open
                && terms.as_ref().is_none_or(|terms| {
                    let mut reached = terms.reached(totals.counted);
                    reached.sort_unstable();
                    let standing = standing.get(&period.start).map_or(&[][..], Vec::as_slice);
                    kept.as_ref() == Some(terms) && reached == standing
                });
            (period, terms, is_settled)
        });
        compared.collect()
    }
}

impl Publisher {
    /// `grace` is how long an ended period waits for incomplete sources.
    pub(crate) fn new(
        pool: PgPool,
        turn: PgPool,
        bus: Bus,
        clock: Arc<dyn Clock>,
        grace: SignedDuration,
    ) -> Self {
        Self {
            progress: Progress::new(bus.clone()),
            unfolded: Unfolded::default(),
            pool,
            turn,
            bus,
            clock,
            grace,
            published: BTreeMap::new(),
        }
    }

    /// Publishes until shutdown.
    pub(crate) async fn run(mut self, every: Duration, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(every, shutdown);
        while rounds.next().await {
            let begun_at = Instant::now();
            if let Err(error) = self.round().await {
                tracing::warn!(error = error_chain(error.as_ref()), "cannot publish usage; trying again");
            }
            rounds.spare(begun_at.elapsed(), ROUNDS_PART);
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        // One publisher at a time among all replicas: the broker keeps the last message of a subject, so an
        // older one must not follow a newer one.
        let mut turn = self.turn.begin().await?;
        if !store::take_publishing_turn(&mut turn).await? {
            return Ok(());
        }
        self.progress.advance(&self.pool).await.context("cannot read the sources' progress")?;
        store::touch_tenants_in_new_period(&self.pool, self.clock.now()).await?;
        let (snapshots, unknown) = self.read().await.context("cannot read the usage")?;
        let published: Vec<Option<Published>> = stream::iter(snapshots)
            .map(|snapshot| self.publish_one(snapshot))
            .buffer_unordered(IN_FLIGHT_MAX)
            .collect()
            .await;
        let published = published.into_iter().flatten().chain(unknown);
        self.published.extend(published.map(|published| (published.tenant, published)));
        self.note().await?;
        turn.commit().await?;
        Ok(())
    }

    /// Notes what was published, except of tenants that are locked.
    async fn note(&mut self) -> Result<(), sqlx::Error> {
        if self.published.is_empty() {
            return Ok(());
        }
        let published: Vec<Published> = self.published.values().copied().collect();
        for tenant in store::published(&self.pool, &published).await? {
            self.published.remove(&tenant);
        }
        Ok(())
    }

    /// Reads what to publish about tenants with news. An archived tenant is published until its last period
    /// is final: executions from before its removal may still arrive, and it is billed for them. A tenant
    /// that the catalog never had is skipped.
    async fn read(&mut self) -> anyhow::Result<(Vec<UsageSnapshot>, Vec<Published>)> {
        let now = self.clock.now();
        let mut snapshot = self.pool.begin().await?;
        store::read_one_snapshot(&mut snapshot).await?;
        let published: Vec<Published> = self.published.values().copied().collect();
        let news = store::tenants_with_news(&mut snapshot, &published, TENANTS_PER_ROUND).await?;
        if news.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let ids: Vec<&str> = news.iter().map(|news| news.tenant_id.as_str()).collect();
        let tenants: Vec<Tenant> = catalog::store::find_all(&mut *snapshot, &ids).await?;
        let archived = catalog::store::find_all_archived(&mut *snapshot, &ids).await?;
        let last_moments: HashMap<String, Option<Timestamp>> =
            archived.iter().map(|one| (one.tenant.id.to_string(), one.archived_at)).collect();
        let tenants: Vec<Tenant> =
            tenants.into_iter().chain(archived.into_iter().map(|one| one.tenant)).collect();
        let plans: Vec<&str> = tenants.iter().map(|tenant| tenant.plan.as_str()).collect();
        let plans: Vec<Plan> = catalog::store::find_all(&mut *snapshot, &plans).await?;
        let plans: HashMap<&str, &Plan> = plans.iter().map(|plan| (plan.id(), plan)).collect();
        let mut tenants: HashMap<String, Tenant> =
            tenants.into_iter().map(|tenant| (tenant.id.to_string(), tenant)).collect();
        let numbers: Vec<i32> = news.iter().map(|news| news.number).collect();
        let timelines = store::timelines(&mut *snapshot, &numbers).await?;
        let (mut current, mut unknown) = (Vec::new(), Vec::new());
        for news in news {
            match tenants.remove(&news.tenant_id) {
                Some(tenant) => {
                    let last_moment = last_moments.get(&news.tenant_id).copied();
                    let at = last_moment.flatten().unwrap_or(now).min(now);
                    let timeline = timelines.get(&news.number).map(|dated| &dated.timeline);
                    let period = timeline
                        .map_or_else(|| tenant.calendar.period_of(at), |timeline| timeline.period_of(at));
                    let calendar =
                        timeline.map_or(&tenant.calendar, |timeline| timeline.calendar_at(period.start));
                    let time_zone = calendar.time_zone_name().to_owned();
                    current.push(Current {
                        news,
                        tenant,
                        period,
                        time_zone,
                        archived: last_moment.is_some(),
                    });
                }
                None => {
                    unknown.push(Published { tenant: news.number, revision: news.revision, period_end: None })
                }
            }
        }
        let periods: BTreeMap<i32, Period> =
            current.iter().map(|current| (current.news.number, current.period)).collect();
        self.unfolded.read(&mut snapshot).await?;
        let unfolded = (&self.unfolded.of(&periods), &self.unfolded.by_hour(&periods));
        let mut snapshots =
            store::snapshots(&mut snapshot, &periods, unfolded, events::WORKFLOWS_MAX).await?;
        let is_asked: HashSet<i32> = current
            .iter()
            .filter(|Current { news, tenant, .. }| {
                let counted = snapshots.get(&news.number).map_or(0, |snapshot| snapshot.totals.counted);
                plans.get(tenant.plan.as_str()).is_some_and(|plan| needs_settling(plan, tenant, counted, now))
            })
            .map(|current| current.news.number)
            .collect();
        let settling: Vec<(i32, Period, i64)> = periods
            .iter()
            .filter(|(tenant, _)| is_asked.contains(tenant))
            .filter_map(|(tenant, period)| {
                let snapshot = snapshots.get(tenant)?;
                let complete_until = snapshot.complete_until()?;
                let since = snapshot.earlier_complete_until().unwrap_or(complete_until);
                Some((*tenant, *period, admitted::first_listed(since, now)))
            })
            .collect();
        let mut settled = store::settled(&mut snapshot, &settling).await?;
        for (tenant, ..) in &settling {
            let earlier_until = snapshots.get(tenant).and_then(Snapshot::earlier_complete_until);
            settled.entry(*tenant).or_default().earlier_until = earlier_until;
        }
        let numbers: Vec<i32> = periods.keys().copied().collect();
        let mut ended = store::ended_periods(&mut snapshot, &numbers, now, events::ENDED_MAX).await?;
        let of_ended = ended.iter().flat_map(|(tenant, ended)| {
            ended.iter().map(|ended| (*tenant, ended.period.start)).collect::<Vec<PeriodKey>>()
        });
        let keys: Vec<PeriodKey> =
            periods.iter().map(|(tenant, period)| (*tenant, period.start)).chain(of_ended).collect();
        let mut standing: HashMap<i32, BTreeMap<Timestamp, Vec<Percent>>> = HashMap::new();
        for ((tenant, start), thresholds) in
            store::standing(&mut snapshot, &keys, thresholds::MONTHLY_EXECUTIONS).await?
        {
            standing.entry(tenant).or_default().insert(start, thresholds);
        }
        let snapshots = current.into_iter().filter_map(|current| {
            let Current { news, tenant, period, time_zone, archived } = current;
            let snapshot = snapshots.remove(&news.number)?;
            let settled = settled.remove(&news.number).unwrap_or_default();
            let standing = standing.remove(&news.number).unwrap_or_default();
            let mut ended = ended.remove(&news.number).unwrap_or_default();
            // The last period of an archived tenant is published as its current one.
            ended.retain(|ended| ended.period != period);
            let plan = plans.get(tenant.plan.as_str()).map(|plan| (*plan).clone());
            Some(UsageSnapshot {
                news,
                tenant,
                plan,
                period,
                time_zone,
                archived,
                snapshot,
                settled,
                ended,
                standing,
            })
        });
        Ok((snapshots.collect(), unknown))
    }

    /// Publishes one tenant's usage. Returns `None` if that failed; the next round tries again.
    async fn publish_one(&self, snapshot: UsageSnapshot) -> Option<Published> {
        let outcome = async {
            let compared = snapshot.compared(self.clock.now(), self.grace);
            if !snapshot.archived && compared.iter().any(|(.., is_settled)| !is_settled) {
                self.settle(&snapshot, compared).await?;
            }
            self.publish(&snapshot).await?;
            anyhow::Ok(())
        };
        match outcome.await {
            Ok(()) => Some(Published {
                tenant: snapshot.news.number,
                revision: snapshot.news.revision,
                // An archived tenant has no next period.
                period_end: (!snapshot.archived).then_some(snapshot.period.end),
            }),
            Err(error) => {
                let (tenant, error) = (&snapshot.news.tenant_id, error_chain(error.as_ref()));
                tracing::warn!(tenant, error, "cannot publish this tenant's usage; trying again");
                None
            }
        }
    }

    async fn publish(&self, snapshot: &UsageSnapshot) -> Result<(), PublishError> {
        let UsageSnapshot { news, tenant, plan, period, time_zone, snapshot, settled, ended, .. } = snapshot;
        let (namespace, now) = (self.bus.namespace(), self.clock.now());
        let limit = plan.as_ref().and_then(|plan| plan.limit_for(tenant, now));
        let message = events::usage_counted(
            namespace,
            tenant,
            limit,
            (*period, time_zone),
            news.revision,
            (snapshot, settled),
            ended,
            now,
        );
        self.bus.publish(message).await.map(drop)
    }

    /// Locks the tenant, opens its current period, and compares the periods that are not settled with their
    /// terms. The resulting events go into the outbox.
    async fn settle(
        &self,
        snapshot: &UsageSnapshot,
        compared: Vec<(Period, Option<Terms>, bool)>,
    ) -> anyhow::Result<()> {
        let UsageSnapshot { news, tenant, period, .. } = snapshot;
        let (number, namespace, now) = (news.number, self.bus.namespace(), self.clock.now());
        let mut transaction = self.pool.begin().await?;
        store::lock_tenant(&mut transaction, number).await?;
        if let Some(timeline) = store::timeline(&mut *transaction, number).await? {
            let holds = timeline.period_of(period.start) == *period;
            anyhow::ensure!(holds, "the tenant's calendar changed in the meantime");
        }
        let mut messages = Vec::new();
        for (period, terms, is_settled) in compared {
            if is_settled {
                continue;
            }
            for row in store::ensure_periods(&mut transaction, number, &[period].into(), now).await? {
                if row.opened {
                    messages.extend(events::period_opened(namespace, tenant.id.as_str(), period, now));
                }
                // If it was closed in the meantime, its figures are final.
                let Some(terms) = terms.as_ref().filter(|_| !row.closed) else { continue };
                store::put_terms(&mut transaction, number, period, terms).await?;
                let crossed =
                    thresholds::evaluate(&mut transaction, number, &tenant.id, terms, period, now).await?;
                messages.extend(
                    crossed.iter().flat_map(|crossing| events::threshold_crossed(namespace, crossing)),
                );
            }
        }
        outbox::enqueue(&mut transaction, &messages).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Whether the limit check needs the settled reservations: half of the limit is used, or the plan limits
/// concurrent runs. Far from the limit nothing depends on them, and their cost grows with what ran since the
/// last sweep.
fn needs_settling(plan: &Plan, tenant: &Tenant, counted: i64, now: Timestamp) -> bool {
    let caps = [plan.admission.tenant_caps, plan.admission.workflow_caps];
    let is_near = |limit: u64| u64::try_from(counted).unwrap_or(0).saturating_mul(2) >= limit;
    plan.limit_for(tenant, now).is_some_and(is_near) || caps.iter().any(|caps| *caps != RunCaps::default())
}
