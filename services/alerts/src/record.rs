//! Records who is to be notified when a crossing arrives: the marker and its effect in one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Plan, Tenant, store::CatalogError};
use jiff::Timestamp;
use messaging::{Delivery, Dispose, Disposition, Handler, trace};
use metering::{Clock, PlanId, TenantId};
use proto::v1;
use sqlx::PgPool;
use tokio::sync::Notify;
use url::Url;

use crate::{
    Alert, Crossing, InvalidCrossing,
    pace::{self, Pace, pace},
    smtp::Mailer,
    store,
};

/// Why nobody is notified of a crossing.
const NO_RECIPIENTS: &str = "the tenant has no alert recipients";

/// Handles `ThresholdCrossed`.
pub struct RecordCrossing {
    /// Where it is recorded.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Gives the mails their ids.
    pub mailer: Mailer,
    /// The dashboard that mails link to.
    pub dashboard_url: Url,
    /// How many mails are sent, and how soon.
    pub rules: pace::Rules,
    /// Notified when there is something to send.
    pub wake: Arc<Notify>,
}

/// A crossing cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The message is invalid.
    #[error("not a crossing")]
    Invalid(#[from] InvalidCrossing),
    /// The catalog topic may be behind the crossing.
    #[error("the tenant {0} is not in the catalog")]
    UnknownTenant(TenantId),
    /// The catalog topic may be behind the crossing.
    #[error("the plan {0} is not in the catalog")]
    UnknownPlan(PlanId),
    /// The catalog cannot be read.
    #[error("cannot read the catalog")]
    Catalog(#[from] CatalogError),
    /// The database failed.
    #[error("cannot record the crossing")]
    Store(#[from] sqlx::Error),
}

impl Dispose for RecordError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Invalid(_) => Disposition::DeadLetter,
            Self::UnknownTenant(_) | Self::UnknownPlan(_) => Disposition::Retry,
            Self::Catalog(error) => error.disposition(),
            Self::Store(error) => error.disposition(),
        }
    }
}

#[async_trait]
impl Handler for RecordCrossing {
    type Message = v1::ThresholdCrossed;
    type Error = RecordError;

    async fn handle(&self, delivery: Delivery<v1::ThresholdCrossed>) -> Result<(), RecordError> {
        let crossing = Crossing::try_from(delivery.message)?;
        // A recorded crossing stays as it is, even if its tenant was removed since.
        if store::is_recorded(&self.pool, &crossing.id).await? {
            count("repeated");
            return Ok(());
        }
        let tenant: Option<Tenant> = catalog::store::find(&self.pool, crossing.tenant.as_str()).await?;
        let Some(tenant) = tenant else {
            let archived = catalog::store::find_archived(&self.pool, crossing.tenant.as_str()).await?;
            return match archived {
                // Runs from before its removal were counted after it: there is nobody to warn.
                Some(_) => {
                    count("archived");
                    Ok(())
                }
                None => Err(RecordError::UnknownTenant(crossing.tenant)),
            };
        };
        let plan: Plan = catalog::store::find(&self.pool, crossing.plan.as_str())
            .await?
            .ok_or_else(|| RecordError::UnknownPlan(crossing.plan.clone()))?;
        let now = self.clock.now();
        let alert = Alert::new(crossing.clone(), &tenant, &plan, &self.dashboard_url, now);
        self.record(&crossing, alert, &tenant.alert_recipients).await
    }
}

impl RecordCrossing {
    async fn record(
        &self,
        crossing: &Crossing,
        mut alert: Alert,
        recipients: &[String],
    ) -> Result<(), RecordError> {
        let now = alert.recorded_at;
        let mut transaction = self.pool.begin().await?;
        store::paced::take_turn(&mut transaction, &alert.tenant).await?;
        // A mail is sent at most a day after it was recorded.
        let lately = now.saturating_sub(pace::DAY * 2).unwrap_or(Timestamp::MIN);
        let since = alert.period.start.min(lately);
        let earlier = store::paced::earlier(&mut transaction, &alert.tenant, since).await?;
        let mut superseded = Vec::new();
        let skipped_reason = if recipients.is_empty() {
            Some(NO_RECIPIENTS)
        } else {
            match pace(crossing, &earlier, self.rules, now) {
                Pace::Skip(reason) => Some(reason),
                Pace::Mail { release_at, supersedes, folded } => {
                    alert.leaves_at = release_at.unwrap_or(now);
                    alert.folded = folded;
                    superseded = supersedes;
                    None
                }
            }
        };
        let recipients = if skipped_reason.is_none() { recipients } else { &[] };
        let alert = &alert;
        let first =
            store::record_crossing(&mut transaction, alert, trace::current().as_deref(), skipped_reason)
                .await?;
        if !first {
            count("repeated");
            return Ok(());
        }
        for recipient in recipients {
            let message_id = self.mailer.message_id(&alert.crossing_id, recipient);
            store::add_notification(&mut transaction, alert, recipient, &message_id).await?;
        }
        store::paced::supersede(&mut transaction, &superseded, &alert.crossing_id).await?;
        transaction.commit().await?;
        match skipped_reason {
            None => count("recorded"),
            Some(reason) if reason != NO_RECIPIENTS => {
                tracing::info!(crossing = alert.crossing_id, tenant = %alert.tenant, reason, "crossing recorded, not mailed");
                count("skipped");
            }
            Some(reason) => {
                tracing::warn!(crossing = alert.crossing_id, tenant = %alert.tenant, reason, "a threshold was crossed and nobody is notified");
                count("skipped");
            }
        }
        self.wake.notify_one();
        Ok(())
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("flowmeter_crossings_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_that_is_behind_is_waited_for_and_an_invalid_message_is_not() {
        let unknown = RecordError::UnknownTenant(TenantId::parse("north").unwrap());
        assert_eq!(unknown.disposition(), Disposition::Retry);
        let unknown = RecordError::UnknownPlan(PlanId::parse("pro").unwrap());
        assert_eq!(unknown.disposition(), Disposition::Retry);
        assert_eq!(RecordError::Invalid(InvalidCrossing::CrossingId).disposition(), Disposition::DeadLetter);
        assert_eq!(RecordError::Store(sqlx::Error::PoolTimedOut).disposition(), Disposition::Wait);
    }
}
