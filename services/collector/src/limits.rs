//! Which tenants are near their limit. Their sources are swept soon when they come near, and more often as long as
//! they stay: a limit that is noticed a sweep too late is passed by a whole sweep of executions.
//!
//! Soon is not at once. The limit check counts a run twice that it has allowed within seconds before a sweep, until the next
//! sweep, because it cannot know whether the sweep has seen it. A tenant comes near its limit by a burst most often;
//! a sweep in its middle would see its last runs twice, one after it does not. Where runs are refused while some may stand
//! twice, the gateway asks for a sweep ([`AnswerSweep`]): then those that are refused have ended the burst.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Source, store::CatalogError};
use messaging::{
    Delivery, Dispose, Disposition, Handler,
    ask::{Answerer, Refusal},
    consume::chain,
};
use metering::{Clock, InvalidId, TenantId};
use proto::v1::{SweepQuestion, UsageCounted};
use sqlx::{PgConnection, PgPool};

use crate::{
    pace::{LIMIT_PAUSE_MIN, later},
    store,
};

/// From this share of its limit on a tenant is near it: where most plans begin to warn.
const NEAR_FROM_PERCENT: u64 = 80;

/// And up to this one: whoever is far past a limit is not stopped by it, and no sweep comes too late any more.
const NEAR_UNTIL_PERCENT: u64 = 120;

/// Follows `UsageCounted`.
pub struct FollowUsage {
    /// Where it is kept who is near, and what is due.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What was counted cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It names no tenant.
    #[error(transparent)]
    Tenant(#[from] InvalidId),
    /// The sources cannot be read.
    #[error("cannot read the tenant's sources")]
    Sources(#[from] CatalogError),
    /// The database failed.
    #[error("cannot keep who is near a limit")]
    Store(#[from] sqlx::Error),
}

impl Dispose for FollowError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Tenant(_) => Disposition::DeadLetter,
            Self::Sources(error) => error.disposition(),
            Self::Store(error) => error.disposition(),
        }
    }
}

#[async_trait]
impl Handler for FollowUsage {
    type Message = UsageCounted;
    type Error = FollowError;

    async fn handle(&self, delivery: Delivery<UsageCounted>) -> Result<(), FollowError> {
        let usage = delivery.message;
        let tenant = TenantId::parse(&usage.tenant_id)?;
        let counted = usage.totals.unwrap_or_default().counted;
        if !usage.limit.is_some_and(|limit| is_near(counted, limit)) {
            return Ok(store::limits::is_far(&self.pool, &tenant).await?);
        }
        let mut transaction = self.pool.begin().await?;
        if store::limits::comes_near(&mut *transaction, &tenant).await? {
            sweep_soon(&mut transaction, &tenant, self.clock.as_ref()).await?;
        }
        Ok(transaction.commit().await?)
    }
}

/// Answers [`proto::subjects::Question::Sweep`].
pub struct AnswerSweep {
    /// Where it is kept what is due.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Answerer for AnswerSweep {
    type Question = SweepQuestion;
    type Answer = ();

    async fn answer(&self, question: SweepQuestion) -> Result<(), Refusal> {
        let tenant = TenantId::parse(&question.tenant_id).map_err(Refusal::invalid)?;
        let unavailable = |error: FollowError| Refusal::unavailable(chain(&error));
        let mut connection = self.pool.acquire().await.map_err(FollowError::from).map_err(unavailable)?;
        sweep_soon(&mut connection, &tenant, self.clock.as_ref()).await.map_err(unavailable)
    }
}

async fn sweep_soon(
    connection: &mut PgConnection,
    tenant: &TenantId,
    clock: &dyn Clock,
) -> Result<(), FollowError> {
    let sources: Vec<Source> = catalog::store::list(&mut *connection).await?;
    let concerned = sources.iter().filter(|source| source.tenants().contains(&tenant));
    let ids: Vec<&str> = concerned.map(|source| source.id.as_str()).collect();
    store::limits::sweep_at(connection, &ids, later(clock.now(), LIMIT_PAUSE_MIN)).await?;
    Ok(())
}

/// Whether this much of the limit is near it. A limit of nothing is passed, not near.
fn is_near(counted: u64, limit: u64) -> bool {
    let share = u128::from(counted) * 100;
    let percent = |percent: u64| u128::from(limit) * u128::from(percent);
    limit > 0 && (percent(NEAR_FROM_PERCENT)..percent(NEAR_UNTIL_PERCENT)).contains(&share)
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn near_is_from_80_percent_on_and_ends_at_120() {
        let near = |counted| is_near(counted, 10);
        assert_eq!([7, 8, 10, 11, 12].map(near), [false, true, true, true, false]);
        assert!(!is_near(0, 0) && !is_near(5, 0));
        assert!(is_near(u64::MAX, u64::MAX));
    }
}
