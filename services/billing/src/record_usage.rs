//! Records the aggregator's totals in the books: running, final and late.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use messaging::{Delivery, Dispose, Disposition, Handler};
use metering::{Clock, InvalidId, Period, TenantId};
use proto::{
    InvalidMessage,
    v1::{PeriodEvent, Totals, UsageCounted, period_event::Event},
};
use sqlx::{PgConnection, PgPool};

use crate::{
    confirm_periods::CONFIRM_DELAY,
    ledger::{Ledger, Rules},
    owed::bind,
    store::{
        StoreError, destinations,
        ledgers::{self, Key},
        owed,
    },
};
use metering::later;

/// A message cannot be recorded in the books.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The message is invalid.
    #[error("the message is invalid")]
    Message(#[from] InvalidMessage),
    /// The tenant's id is malformed.
    #[error("the message has no valid tenant id")]
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

/// One total of a message.
struct Figure {
    tenant: TenantId,
    period: Period,
    revision: u64,
    billable_total: i64,
    /// When it was counted.
    counted_at: Timestamp,
}

impl Figure {
    fn read(
        tenant_id: &str,
        period: Option<proto::v1::Period>,
        revision: u64,
        totals: Option<Totals>,
        counted_at: Timestamp,
    ) -> Result<Self, RecordError> {
        let counted = totals.ok_or(InvalidMessage::Missing("totals"))?.counted;
        Ok(Self {
            tenant: TenantId::parse(tenant_id)?,
            period: period.ok_or(InvalidMessage::Missing("period"))?.try_into()?,
            revision,
            billable_total: i64::try_from(counted).map_err(|_| RecordError::TooMany(counted))?,
            counted_at,
        })
    }
}

/// Records totals in the books.
#[derive(Clone)]
pub struct Books {
    /// Where they are.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Decide until when a total is in time for its invoice.
    pub rules: Rules,
}

/// Handles `UsageCounted`: the current period, and those that have ended and are not closed.
pub struct RecordUsage(pub Books);

#[async_trait]
impl Handler for RecordUsage {
    type Message = UsageCounted;
    type Error = RecordError;

    async fn handle(&self, delivery: Delivery<UsageCounted>) -> Result<(), RecordError> {
        let UsageCounted { tenant_id, period, revision, totals, as_of, ended_periods, .. } = delivery.message;
        let now = self.0.clock.now();
        let as_of = proto::instant(as_of.as_ref(), "as_of").map_err(InvalidMessage::from)?;
        // Nothing is counted in the future, whatever the other machine's clock says.
        let counted_at = as_of.unwrap_or(now).min(now);
        let current = (period, totals);
        let ended = ended_periods.into_iter().map(|ended| (ended.period, ended.totals));
        let mut refused = None;
        for (period, totals) in ended.chain([current]) {
            // An unreadable period affects only itself: the others are recorded before the message becomes a
            // dead letter.
            match Figure::read(&tenant_id, period, revision, totals, counted_at) {
                Ok(figure) => self.0.record(&figure, None, now).await?,
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// Handles `PeriodEvent`.
pub struct RecordPeriod(pub Books);

#[async_trait]
impl Handler for RecordPeriod {
    type Message = PeriodEvent;
    type Error = RecordError;

    async fn handle(&self, delivery: Delivery<PeriodEvent>) -> Result<(), RecordError> {
        let now = self.0.clock.now();
        match delivery.message.event.ok_or(InvalidMessage::Missing("event"))? {
            Event::Opened(_) => Ok(()),
            Event::Closed(closed) => {
                let closed_at = proto::required_instant(closed.closed_at.as_ref(), "closed_at")
                    .map_err(InvalidMessage::from)?;
                let figure = Figure::read(
                    &closed.tenant_id,
                    closed.period,
                    closed.revision,
                    closed.totals,
                    closed_at.min(now),
                )?;
                self.0.record(&figure, Some(closed_at), now).await
            }
            Event::Late(late) => {
                let found_at =
                    proto::instant(late.found_at.as_ref(), "found_at").map_err(InvalidMessage::from)?;
                let found_at = found_at.unwrap_or(now).min(now);
                let figure =
                    Figure::read(&late.tenant_id, late.period, late.revision, late.totals, found_at)?;
                self.0.record(&figure, None, now).await
            }
        }
    }
}

impl Books {
    async fn record(
        &self,
        figure: &Figure,
        closed_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), RecordError> {
        let mut transaction = self.pool.begin().await?;
        destinations::hold(&mut transaction, &figure.tenant).await?;
        let mut ledger = ledgers::lock_or_open(&mut transaction, &figure.tenant, figure.period, now).await?;
        let Figure { period, revision, billable_total, counted_at, .. } = *figure;
        if ledger.observe(&self.rules, period, revision, billable_total, counted_at) {
            bind_to_former(&mut transaction, &ledger, counted_at, now).await?;
        }
        if let Some(closed_at) = closed_at {
            ledger.close(closed_at);
            let key = Key { tenant: figure.tenant.to_string(), period_start: period.start };
            ledgers::check_at(&mut transaction, &key, Some(later(now, CONFIRM_DELAY))).await?;
        }
        ledgers::save(&mut transaction, &ledger).await?;
        if ledger.closed_at.is_some() || now >= self.rules.counted_before(period) {
            // The invoice is about to be made: do not wait for the next interval.
            ledgers::seal_at(&mut transaction, &ledger, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// A total counted before a change of customer or meter may arrive after it: catalog and usage are separate
/// topics. It is owed to the destination in force when it was counted.
async fn bind_to_former(
    connection: &mut PgConnection,
    ledger: &Ledger,
    counted_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    if ledger.unreported() == 0 {
        return Ok(());
    }
    let former = destinations::in_force(connection, &ledger.tenant, ledger.period, counted_at).await?;
    let Some(former) = former else { return Ok(()) };
    let current = destinations::in_force(connection, &ledger.tenant, ledger.period, now).await?;
    if current.as_ref() != Some(&former) {
        let mut parts = owed::list(connection, ledger).await?;
        bind(&mut parts, ledger.billable_total, &former);
        owed::put(connection, ledger, &parts).await?;
    }
    Ok(())
}
