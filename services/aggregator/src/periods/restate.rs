//! Reconciles the revisions of tenants with the usage that the broker holds, after either was restored or
//! created again.
//!
//! A reader of usage takes a message only if its revision is not below the one that it knows, and the broker
//! keeps the last message of each tenant. After the aggregator's database was restored, its next figures
//! would be ignored until their revisions have caught up: they are raised above what was published. After the
//! broker was restored or created again, it lacks figures that would not be published before the next
//! execution: they are published again.
//!
//! Done before anything is published, because a message with a lower revision would replace the last one; and
//! again whenever the stream has been replaced.

use futures_util::{StreamExt, TryStreamExt, stream};
use messaging::{Bus, LifeError};
use prost::Message;
use proto::{
    streams::Stream,
    v1::{self, period_event::Event},
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store;

/// Requests to the broker at once: with 10,000 tenants a start takes some seconds longer.
const IN_FLIGHT_MAX: usize = 64;

/// Tenants whose revisions one statement raises.
const TENANTS_PER_STATEMENT: usize = 1_000;

/// Database and broker cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestateError {
    #[error(transparent)]
    Stream(#[from] LifeError),
    #[error("cannot compare the tenants' revisions with what was published")]
    Database(#[from] sqlx::Error),
}

/// A tenant whose next revision must be larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raise {
    /// Its number.
    pub(crate) tenant: i32,
    /// The largest revision that was published, or that it has.
    pub(crate) above: i64,
}

/// Compares revisions.
pub(crate) struct Restate {
    pool: PgPool,
    bus: Bus,
}

impl Restate {
    pub(crate) fn new(pool: PgPool, bus: Bus) -> Self {
        Self { pool, bus }
    }

    /// Checks whether the stream was replaced, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let failure = "cannot compare revisions with the stream; trying again";
        chassis::on_replaced(&self.bus, Stream::UsageState, failure, shutdown, || self.once()).await;
    }

    /// Compares once. Returns how many tenants have a larger revision now, and so are published again.
    pub(crate) async fn once(&self) -> Result<usize, RestateError> {
        let tenants = store::published_tenants(&self.pool).await?;
        let raises: Vec<Option<Raise>> = stream::iter(tenants)
            .map(|tenant| self.compare(tenant))
            .buffer_unordered(IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        let raises: Vec<Raise> = raises.into_iter().flatten().collect();
        for raises in raises.chunks(TENANTS_PER_STATEMENT) {
            store::raise_revisions_above(&self.pool, raises).await?;
        }
        if !raises.is_empty() {
            tracing::warn!(
                tenants = raises.len(),
                "stored and published revisions differ; publishing the usage of these tenants again"
            );
        }
        Ok(raises.len())
    }

    async fn compare(&self, tenant: store::PublishedTenant) -> Result<Option<Raise>, RestateError> {
        let (id, namespace) = (&tenant.tenant_id, self.bus.namespace());
        let on_stream = self.bus.last_of(Stream::UsageState, &namespace.usage_counted(id)).await?;
        let on_stream = on_stream.and_then(|(_, payload)| v1::UsageCounted::decode(payload).ok());
        let on_stream = on_stream.map_or(0, |usage| usage.revision);
        let period = self.bus.last_of(Stream::Periods, &namespace.usage_period(id)).await?;
        let period = period.and_then(|(_, payload)| v1::PeriodEvent::decode(payload).ok());
        let period = match period.and_then(|period| period.event) {
            Some(Event::Closed(closed)) => closed.revision,
            Some(Event::Late(late)) => late.revision,
            _ => 0,
        };
        let column = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX - 1);
        Ok(raise(&tenant, column(on_stream), column(period)))
    }
}

/// How to raise the tenant's revision if it has fallen behind what was published, or if the published message
/// is gone.
fn raise(tenant: &store::PublishedTenant, on_stream: i64, period: i64) -> Option<Raise> {
    let known = on_stream.max(period);
    let is_behind = known > tenant.revision;
    let is_gone = on_stream < tenant.published_revision;
    (is_behind || is_gone).then(|| Raise { tenant: tenant.number, above: known.max(tenant.revision) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_raised_if_it_fell_behind_or_its_message_is_gone() {
        let tenant = |revision, published_revision| store::PublishedTenant {
            number: 7,
            tenant_id: "north".to_owned(),
            revision,
            published_revision,
        };
        let above = |tenant, on_stream, period| raise(&tenant, on_stream, period).map(|raise| raise.above);
        assert_eq!(above(tenant(5, 5), 5, 4), None, "as it should be");
        assert_eq!(above(tenant(6, 5), 5, 6), None, "news that is still to be published");
        assert_eq!(above(tenant(6, 5), 6, 0), None, "published, and not noted yet");
        assert_eq!(above(tenant(3, 3), 5, 4), Some(5), "the database was restored");
        assert_eq!(above(tenant(5, 5), 5, 8), Some(8), "a period was closed after the last figures");
        assert_eq!(above(tenant(5, 5), 0, 0), Some(5), "the broker was created anew");
        assert_eq!(above(tenant(5, 5), 2, 0), Some(5), "the broker was restored");
        assert_eq!(above(tenant(1, 0), 0, 0), None, "never published");
    }
}
