//! Which tenants are near their limit. Their sources are swept soon when they come near, and more often as
//! long as they stay: a limit that is noticed one sweep too late is exceeded by a whole sweep of executions.
//!
//! Soon is not at once. A run that the limit check has allowed within seconds before a sweep is counted twice
//! until the next sweep, because the check cannot know whether the sweep has seen it. A tenant mostly comes
//! near its limit in a burst: after a sweep in the middle of it the last runs are counted twice, after a
//! sweep at its end they are not. If runs are refused while some may be counted twice, the gateway asks for a
//! sweep ([`AnswerSweep`]): by then the refusals have ended the burst.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Source, store::CatalogError};
use messaging::{
    Delivery, Dispose, Disposition, Handler,
    ask::{Answerer, Refusal},
    error_chain,
};
use metering::{Clock, InvalidId, TenantId};
use proto::v1::{SweepQuestion, UsageCounted};
use sqlx::{PgConnection, PgPool};

use crate::{schedule::pace::LIMIT_PAUSE_MIN, store};
use metering::later;

/// A tenant is near its limit from this share on: where most plans begin to warn.
const NEAR_FROM_PERCENT: u64 = 80;

/// And up to this share: a tenant far past its limit is not stopped by it, and no sweep comes too late any
/// more.
const NEAR_UNTIL_PERCENT: u64 = 120;

/// Follows `UsageCounted`.
pub struct FollowUsage {
    /// Stores which tenants are near, and which sources are due.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A usage update cannot be processed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Its tenant id is malformed.
    #[error(transparent)]
    Tenant(#[from] InvalidId),
    /// The sources cannot be read.
    #[error("cannot read the tenant's sources")]
    Sources(#[from] CatalogError),
    /// The database failed.
    #[error("cannot store which tenants are near their limit")]
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
    /// Stores which sources are due.
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
        let unavailable = |error: FollowError| Refusal::unavailable(error_chain(&error));
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

/// Whether `counted` is near the limit. A limit of zero is exceeded, not near.
fn is_near(counted: u64, limit: u64) -> bool {
    let share = u128::from(counted) * 100;
    let percent = |percent: u64| u128::from(limit) * u128::from(percent);
    limit > 0 && (percent(NEAR_FROM_PERCENT)..percent(NEAR_UNTIL_PERCENT)).contains(&share)
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn a_tenant_is_near_its_limit_from_80_to_below_120_percent() {
        let near = |counted| is_near(counted, 10);
        assert_eq!([7, 8, 10, 11, 12].map(near), [false, true, true, true, false]);
        assert!(!is_near(0, 0) && !is_near(5, 0));
        assert!(is_near(u64::MAX, u64::MAX));
    }
}
