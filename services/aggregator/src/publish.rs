//! Telling each tenant's usage: the whole current period, whenever there is news, at most once per interval.
//! Also the place where a change of plan or limit, or a new period, takes effect without a new execution.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use catalog::{Plan, Tenant};
use chassis::Rounds;
use messaging::{Bus, Outgoing, consume::chain, outbox};
use metering::{Clock, Period};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{progress::Acknowledged, store, thresholds, wire};

/// Tenants whose usage one round publishes; the others come next, after the same interval.
const TENANTS_PER_ROUND: i64 = 500;

/// Publishes usage.
pub(crate) struct Publisher {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    acknowledged: Acknowledged,
}

/// A tenant's usage, ready to be told.
struct News {
    revision: i64,
    period: Period,
    message: Outgoing,
}

impl Publisher {
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>) -> Self {
        Self { acknowledged: Acknowledged::new(bus.clone()), pool, bus, clock }
    }

    /// Publishes until shutdown.
    pub(crate) async fn run(mut self, every: Duration, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(every, shutdown);
        while rounds.next().await {
            if let Err(error) = self.round().await {
                tracing::warn!(error = chain(error.as_ref()), "usage is published later");
            }
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
        for (number, tenant) in store::tenants_with_news(&self.pool, TENANTS_PER_ROUND).await? {
            if let Err(error) = self.publish(number, &tenant).await {
                tracing::warn!(
                    tenant,
                    error = chain(error.as_ref()),
                    "this tenant's usage is published later"
                );
            }
        }
        turn.commit().await?;
        Ok(())
    }

    async fn publish(&self, number: i32, tenant_id: &str) -> anyhow::Result<()> {
        let Some(news) = self.read(number, tenant_id).await? else { return Ok(()) };
        self.bus.publish(news.message).await?;
        store::published(&self.pool, number, news.revision, Some(news.period.end)).await?;
        Ok(())
    }

    /// Reads a tenant's usage in one transaction, with thresholds looked at again.
    async fn read(&self, number: i32, tenant_id: &str) -> anyhow::Result<Option<News>> {
        let now = self.clock.now();
        let mut transaction = self.pool.begin().await?;
        let revision = store::lock_tenant(&mut transaction, number).await?;
        let tenant: Option<Tenant> = catalog::store::find(&mut *transaction, tenant_id).await?;
        let Some(tenant) = tenant else {
            // Removed: nothing is current any more.
            store::published(&mut *transaction, number, revision, None).await?;
            transaction.commit().await?;
            return Ok(None);
        };
        let period = tenant.calendar.period_of(now);
        let rows = store::ensure_periods(&mut transaction, number, &[period].into(), now).await?;
        let mut messages = Vec::new();
        if rows.iter().any(|row| row.opened) {
            messages.push(wire::period_opened(self.bus.namespace(), tenant_id, period, now));
        }
        let plan: Option<Plan> = catalog::store::find(&mut *transaction, tenant.plan.as_str()).await?;
        if let Some(plan) = &plan {
            let crossed = thresholds::evaluate(&mut transaction, number, &tenant, plan, period, now).await?;
            messages.extend(
                crossed.iter().map(|crossing| wire::threshold_crossed(self.bus.namespace(), crossing)),
            );
        }
        outbox::enqueue(&mut transaction, &messages).await?;
        let snapshot = store::snapshot(&mut transaction, number, period, wire::WORKFLOWS_MAX).await?;
        transaction.commit().await?;
        let limit = plan.as_ref().and_then(|plan| plan.limit_for(&tenant, now));
        let message =
            wire::usage_counted(self.bus.namespace(), &tenant, limit, period, revision, &snapshot, now);
        Ok(Some(News { revision, period, message }))
    }
}
