//! Telling each tenant's usage: the whole current period, whenever there is news, at most once per interval.
//! Also the place where a change of plan or limit, or a new period, takes effect without a new execution.
//!
//! A round reads what many tenants are to be told in one snapshot of the database, so that its cost is that of a few
//! statements and no recorder waits for it. Only where something has to be decided first is a tenant held.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use catalog::{Entry, Plan, Tenant};
use chassis::Rounds;
use futures_util::{StreamExt, stream};
use messaging::{Bus, PublishError, consume::chain, outbox};
use metering::{Clock, Percent, Period};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    progress::Acknowledged,
    store::{self, News, Published, Snapshot},
    thresholds,
    unfolded::Unfolded,
    wire,
};

/// Tenants whose usage one round publishes; the others come next, after the same interval.
const TENANTS_PER_ROUND: i64 = 1_000;

/// While much is recorded, publishing takes one part in so many of the time: a tenant's next message replaces the last.
const ROUNDS_PART: u32 = 10;

/// Messages on their way to the broker at once.
const IN_FLIGHT_MAX: usize = 64;

/// Publishes usage.
pub(crate) struct Publisher {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    acknowledged: Acknowledged,
    unfolded: Unfolded,
    /// What was published and could not be noted yet, because its tenant was held: not to be published again.
    told: BTreeMap<i32, Published>,
}

/// A tenant with news, and everything that it may be told.
struct Bulletin {
    news: News,
    tenant: Tenant,
    plan: Option<Plan>,
    period: Period,
    snapshot: Snapshot,
    /// Thresholds that stand as crossed.
    standing: Vec<Percent>,
}

impl Publisher {
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>) -> Self {
        Self {
            acknowledged: Acknowledged::new(bus.clone()),
            unfolded: Unfolded::default(),
            pool,
            bus,
            clock,
            told: BTreeMap::new(),
        }
    }

    /// Publishes until shutdown.
    pub(crate) async fn run(mut self, every: Duration, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(every, shutdown);
        while rounds.next().await {
            let begun_at = Instant::now();
            if let Err(error) = self.round().await {
                tracing::warn!(error = chain(error.as_ref()), "usage is published later");
            }
            rounds.spare(begun_at.elapsed(), ROUNDS_PART);
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        // One publisher at a time among all replicas: the last message of a subject is what is kept, so an
        // older one must not come after a newer one.
        let mut turn = self.pool.begin().await?;
        if !store::take_publishing_turn(&mut turn).await? {
            return Ok(());
        }
        self.acknowledged.advance(&self.pool).await.context("cannot tell what is counted")?;
        store::touch_tenants_in_new_period(&self.pool, self.clock.now()).await?;
        let (bulletins, removed) = self.read().await.context("cannot read the usage")?;
        let told: Vec<Option<Published>> = stream::iter(bulletins)
            .map(|bulletin| self.tell(bulletin))
            .buffer_unordered(IN_FLIGHT_MAX)
            .collect()
            .await;
        let told = told.into_iter().flatten().chain(removed);
        self.told.extend(told.map(|published| (published.tenant, published)));
        self.note().await?;
        turn.commit().await?;
        Ok(())
    }

    /// Notes what was published, as far as nobody holds it.
    async fn note(&mut self) -> Result<(), sqlx::Error> {
        if self.told.is_empty() {
            return Ok(());
        }
        let told: Vec<Published> = self.told.values().copied().collect();
        for tenant in store::published(&self.pool, &told).await? {
            self.told.remove(&tenant);
        }
        Ok(())
    }

    /// Reads what tenants with news are to be told. Tenants that were removed need not be told anything: nothing of
    /// them is current any more.
    async fn read(&mut self) -> anyhow::Result<(Vec<Bulletin>, Vec<Published>)> {
        let now = self.clock.now();
        let mut snapshot = self.pool.begin().await?;
        store::read_one_snapshot(&mut snapshot).await?;
        let told: Vec<Published> = self.told.values().copied().collect();
        let news = store::tenants_with_news(&mut snapshot, &told, TENANTS_PER_ROUND).await?;
        if news.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let ids: Vec<&str> = news.iter().map(|news| news.tenant_id.as_str()).collect();
        let tenants: Vec<Tenant> = catalog::store::find_all(&mut *snapshot, &ids).await?;
        let plans: Vec<&str> = tenants.iter().map(|tenant| tenant.plan.as_str()).collect();
        let plans: Vec<Plan> = catalog::store::find_all(&mut *snapshot, &plans).await?;
        let plans: HashMap<&str, &Plan> = plans.iter().map(|plan| (plan.id(), plan)).collect();
        let mut tenants: HashMap<String, Tenant> =
            tenants.into_iter().map(|tenant| (tenant.id.to_string(), tenant)).collect();
        let numbers: Vec<i32> = news.iter().map(|news| news.number).collect();
        let timelines = store::timelines(&mut *snapshot, &numbers).await?;
        let (mut current, mut removed) = (Vec::new(), Vec::new());
        for news in news {
            match tenants.remove(&news.tenant_id) {
                Some(tenant) => {
                    let timeline = timelines.get(&news.number).map(|dated| &dated.timeline);
                    let period = timeline
                        .map_or_else(|| tenant.calendar.period_of(now), |timeline| timeline.period_of(now));
                    current.push((news, tenant, period));
                }
                None => {
                    removed.push(Published { tenant: news.number, revision: news.revision, period_end: None })
                }
            }
        }
        let periods: BTreeMap<i32, Period> =
            current.iter().map(|(news, _, period)| (news.number, *period)).collect();
        self.unfolded.read(&mut snapshot).await?;
        let unfolded = self.unfolded.of(&periods);
        let mut snapshots = store::snapshots(&mut snapshot, &periods, &unfolded, wire::WORKFLOWS_MAX).await?;
        let mut standing = store::standing(&mut snapshot, &periods, thresholds::MONTHLY_EXECUTIONS).await?;
        let bulletins = current.into_iter().filter_map(|(news, tenant, period)| {
            let snapshot = snapshots.remove(&news.number)?;
            let standing = standing.remove(&news.number).unwrap_or_default();
            let plan = plans.get(tenant.plan.as_str()).map(|plan| (*plan).clone());
            Some(Bulletin { news, tenant, plan, period, snapshot, standing })
        });
        Ok((bulletins.collect(), removed))
    }

    /// Tells one tenant's usage; nothing where that has failed, and it is tried again.
    async fn tell(&self, bulletin: Bulletin) -> Option<Published> {
        let outcome = async {
            if !self.is_settled(&bulletin) {
                self.settle(&bulletin).await?;
            }
            self.publish(&bulletin).await?;
            anyhow::Ok(())
        };
        match outcome.await {
            Ok(()) => Some(Published {
                tenant: bulletin.news.number,
                revision: bulletin.news.revision,
                period_end: Some(bulletin.period.end),
            }),
            Err(error) => {
                let (tenant, error) = (&bulletin.news.tenant_id, chain(error.as_ref()));
                tracing::warn!(tenant, error, "this tenant's usage is published later");
                None
            }
        }
    }

    async fn publish(&self, bulletin: &Bulletin) -> Result<(), PublishError> {
        let Bulletin { news, tenant, plan, period, snapshot, .. } = bulletin;
        let (namespace, now) = (self.bus.namespace(), self.clock.now());
        let limit = plan.as_ref().and_then(|plan| plan.limit_for(tenant, now));
        let message = wire::usage_counted(namespace, tenant, limit, *period, news.revision, snapshot, now);
        self.bus.publish(message).await.map(drop)
    }

    /// Whether the period has been opened, and exactly those thresholds stand as crossed that the limit of now makes so.
    fn is_settled(&self, bulletin: &Bulletin) -> bool {
        let Bulletin { tenant, plan, snapshot, standing, .. } = bulletin;
        let Some(plan) = plan else { return snapshot.is_open };
        let mut reached = thresholds::reached(plan, tenant, snapshot.totals.counted, self.clock.now());
        reached.sort_unstable();
        snapshot.is_open && reached == *standing
    }

    /// Opens the period and compares it with the limit, holding the tenant: what is decided is told by the outbox.
    async fn settle(&self, bulletin: &Bulletin) -> anyhow::Result<()> {
        let Bulletin { news, tenant, plan, period, .. } = bulletin;
        let (number, namespace, now) = (news.number, self.bus.namespace(), self.clock.now());
        let mut transaction = self.pool.begin().await?;
        store::lock_tenant(&mut transaction, number).await?;
        if let Some(timeline) = store::timeline(&mut *transaction, number).await? {
            let holds = timeline.period_of(period.start) == *period;
            anyhow::ensure!(holds, "the tenant's calendar has changed meanwhile");
        }
        let rows = store::ensure_periods(&mut transaction, number, &[*period].into(), now).await?;
        let mut messages = Vec::new();
        if rows.iter().any(|row| row.opened) {
            messages.push(wire::period_opened(namespace, tenant.id.as_str(), *period, now));
        }
        if let Some(plan) = plan {
            let crossed = thresholds::evaluate(&mut transaction, number, tenant, plan, *period, now).await?;
            messages.extend(crossed.iter().map(|crossing| wire::threshold_crossed(namespace, crossing)));
        }
        outbox::enqueue(&mut transaction, &messages).await?;
        transaction.commit().await?;
        Ok(())
    }
}
