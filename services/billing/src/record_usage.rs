//! Takes what the aggregator says onto the books: running totals, final figures, late usage.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use messaging::{Delivery, Dispose, Disposition, Handler};
use metering::{Clock, InvalidId, Period, TenantId};
use proto::{
    InvalidMessage,
    v1::{PeriodEvent, Totals, UsageCounted, period_event::Event},
};
use sqlx::PgPool;

use crate::{
    account::later,
    confirm_periods::CONFIRM_DELAY,
    store::{
        StoreError,
        accounts::{self, Key},
    },
};

/// A message cannot be taken onto the books.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The message makes no sense.
    #[error("the message makes no sense")]
    Message(#[from] InvalidMessage),
    /// The tenant's id is malformed.
    #[error("the message names no tenant")]
    Tenant(#[from] InvalidId),
    /// More executions than can be billed.
    #[error("{0} executions are more than can be billed")]
    TooMany(u64),
    /// The books cannot be written.
    #[error("cannot write the books")]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RecordError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Dispose for RecordError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Message(_) | Self::Tenant(_) | Self::TooMany(_) => Disposition::DeadLetter,
            Self::Store(error) => error.disposition(),
        }
    }
}

/// The figure of one message.
struct Figure {
    tenant: TenantId,
    period: Period,
    revision: u64,
    billable_total: i64,
}

impl Figure {
    fn read(
        tenant_id: &str,
        period: Option<proto::v1::Period>,
        revision: u64,
        totals: Option<Totals>,
    ) -> Result<Self, RecordError> {
        let counted = totals.ok_or(InvalidMessage::Missing("totals"))?.counted;
        Ok(Self {
            tenant: TenantId::parse(tenant_id)?,
            period: period.ok_or(InvalidMessage::Missing("period"))?.try_into()?,
            revision,
            billable_total: i64::try_from(counted).map_err(|_| RecordError::TooMany(counted))?,
        })
    }
}

/// Takes `UsageCounted`.
pub struct RecordUsage {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Handler for RecordUsage {
    type Message = UsageCounted;
    type Error = RecordError;

    async fn handle(&self, delivery: Delivery<UsageCounted>) -> Result<(), RecordError> {
        let message = delivery.message;
        let figure = Figure::read(&message.tenant_id, message.period, message.revision, message.totals)?;
        record(&self.pool, &figure, None, self.clock.now()).await
    }
}

/// Takes `PeriodEvent`.
pub struct RecordPeriod {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Handler for RecordPeriod {
    type Message = PeriodEvent;
    type Error = RecordError;

    async fn handle(&self, delivery: Delivery<PeriodEvent>) -> Result<(), RecordError> {
        let now = self.clock.now();
        match delivery.message.event.ok_or(InvalidMessage::Missing("event"))? {
            Event::Opened(_) => Ok(()),
            Event::Closed(closed) => {
                let figure = Figure::read(&closed.tenant_id, closed.period, closed.revision, closed.totals)?;
                let closed_at = proto::required_instant(closed.closed_at.as_ref(), "closed_at")
                    .map_err(InvalidMessage::from)?;
                record(&self.pool, &figure, Some(closed_at), now).await
            }
            Event::Late(late) => {
                let figure = Figure::read(&late.tenant_id, late.period, late.revision, late.totals)?;
                record(&self.pool, &figure, None, now).await
            }
        }
    }
}

async fn record(
    pool: &PgPool,
    figure: &Figure,
    closed_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), RecordError> {
    let mut transaction = pool.begin().await?;
    let mut account = accounts::lock_or_open(&mut transaction, &figure.tenant, figure.period, now).await?;
    account.observe(figure.period, figure.revision, figure.billable_total);
    if let Some(closed_at) = closed_at {
        account.close(closed_at);
        let key = Key { tenant: figure.tenant.to_string(), period_start: figure.period.start };
        accounts::check_at(&mut transaction, &key, Some(later(now, CONFIRM_DELAY))).await?;
    }
    accounts::save(&mut transaction, &account).await?;
    if account.closed_at.is_some() {
        // The invoice is about to be made: nothing waits for the next interval.
        accounts::seal_at(&mut transaction, &account, now).await?;
    }
    transaction.commit().await?;
    Ok(())
}
