//! Stores the final figures of closed periods.

use async_trait::async_trait;
use jiff::Timestamp;
use messaging::{Delivery, Dispose, Disposition, Handler};
use metering::{Period, TenantId};
use prost::Message;
use proto::{
    InvalidMessage, required_instant,
    v1::{self, period_event::Event},
};
use sqlx::PgPool;

use crate::store::history::{self, ClosedRow};

/// Handles `PeriodEvent`.
pub struct KeepPeriods {
    pool: PgPool,
}

/// A period event cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum KeepPeriodError {
    /// The message is invalid.
    #[error("invalid period event")]
    Invalid(#[from] InvalidMessage),
    /// A stored period cannot be read.
    #[error("the stored period of {0} is damaged")]
    Damaged(TenantId, #[source] prost::DecodeError),
    /// The database failed.
    #[error("cannot store the period")]
    Database(#[from] sqlx::Error),
}

impl Dispose for KeepPeriodError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Invalid(_) => Disposition::DeadLetter,
            Self::Damaged(..) => Disposition::Retry,
            Self::Database(error) => error.disposition(),
        }
    }
}

impl KeepPeriods {
    /// Stores periods in `pool`.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    async fn close(&self, mut closed: v1::PeriodClosed) -> Result<(), KeepPeriodError> {
        let (tenant, period) = key(&closed.tenant_id, closed.period.take())?;
        required_instant(closed.closed_at.as_ref(), "closed_at").map_err(InvalidMessage::from)?;
        closed.period = Some(period.into());
        let row = ClosedRow {
            period,
            revision: closed.revision,
            late_found_at: None,
            value: closed.encode_to_vec(),
        };
        history::put_closed(&self.pool, &tenant, &row).await?;
        Ok(())
    }

    async fn correct(&self, late: v1::LateUsage) -> Result<(), KeepPeriodError> {
        let (tenant, period) = key(&late.tenant_id, late.period)?;
        let found_at: Timestamp =
            required_instant(late.found_at.as_ref(), "found_at").map_err(InvalidMessage::from)?;
        let mut transaction = self.pool.begin().await?;
        let kept = history::find_closed_for_update(&mut transaction, &tenant, period.start).await?;
        // A period that closed before this service existed is known only from its late usage.
        let closed = match kept {
            Some(row) => v1::PeriodClosed::decode(row.value.as_slice())
                .map_err(|error| KeepPeriodError::Damaged(tenant.clone(), error))?,
            None => v1::PeriodClosed { closed_at: late.found_at, ..v1::PeriodClosed::default() },
        };
        let corrected = v1::PeriodClosed {
            tenant_id: tenant.to_string(),
            period: Some(period.into()),
            revision: late.revision,
            totals: late.totals,
            ..closed
        };
        let row = ClosedRow {
            period,
            revision: late.revision,
            late_found_at: Some(found_at),
            value: corrected.encode_to_vec(),
        };
        history::put_closed(&mut *transaction, &tenant, &row).await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn key(tenant: &str, period: Option<v1::Period>) -> Result<(TenantId, Period), InvalidMessage> {
    Ok((TenantId::parse(tenant)?, period.ok_or(InvalidMessage::Missing("period"))?.try_into()?))
}

#[async_trait]
impl Handler for KeepPeriods {
    type Message = v1::PeriodEvent;
    type Error = KeepPeriodError;

    async fn handle(&self, delivery: Delivery<v1::PeriodEvent>) -> Result<(), KeepPeriodError> {
        match delivery.message.event.ok_or(InvalidMessage::Missing("event"))? {
            Event::Opened(_) => Ok(()),
            Event::Closed(closed) => self.close(closed).await,
            Event::Late(late) => self.correct(late).await,
        }
    }
}
