//! Seals what is billable and not reported yet: the report's row and the account's new state, in one transaction.

use std::{sync::Arc, time::Duration};

use catalog::{Plan, Tenant, store::CatalogError};
use jiff::Timestamp;
use messaging::{consume::chain, outbox};
use metering::Clock;
use proto::Namespace;
use sqlx::{PgConnection, PgPool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Account, Decision, Rules, free_instant, later},
    announce,
    identifier::{Destination, Identifier},
    report::{Report, State},
    store::{
        StoreError,
        accounts::{self, Key},
        reports,
    },
};

/// Accounts are looked through this often, by the machine's clock.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Where all minutes are taken, the next one is free after this.
const NEXT_MINUTE: Duration = Duration::from_secs(60);

const LATE_REASON: &str = "usage was found after the period's invoice may be final";

/// A report cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The books cannot be read or written.
    #[error("cannot write the books")]
    Store(#[from] StoreError),
    /// The tenant or its plan cannot be read.
    #[error("cannot tell where the tenant's usage goes")]
    Catalog(#[from] CatalogError),
}

impl From<sqlx::Error> for SealError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Seals reports.
pub struct Sealer {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where events go.
    pub namespace: Namespace,
    /// How reports are cut.
    pub rules: Rules,
    /// Part of every identifier.
    pub environment: String,
}

impl Sealer {
    /// Seals until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.look().await {
                tracing::warn!(error = chain(&error), "cannot look for usage to report");
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), SealError> {
        let now = self.clock.now();
        for key in accounts::to_seal(&self.pool, now).await? {
            if let Err(error) = self.seal(&key, now).await {
                tracing::warn!(tenant = key.tenant, error = chain(&error), "cannot seal a report");
                self.put_aside(&key, now).await?;
            }
        }
        Ok(())
    }

    /// An account that fails gives way to the others until the next interval.
    async fn put_aside(&self, key: &Key, now: Timestamp) -> Result<(), SealError> {
        let mut transaction = self.pool.begin().await?;
        if let Some(account) = accounts::lock(&mut transaction, key).await? {
            accounts::seal_at(&mut transaction, &account, later(now, self.rules.report_interval)).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn seal(&self, key: &Key, now: Timestamp) -> Result<(), SealError> {
        let mut transaction = self.pool.begin().await?;
        let Some(mut account) = accounts::lock(&mut transaction, key).await? else { return Ok(()) };
        let destination = destination_of(&mut transaction, &account).await?;
        let decision = account.decide(&self.rules, destination.is_some(), now);
        let next_look = match (decision, destination) {
            (Decision::Seal(latest), Some(destination)) => {
                let taken = reports::taken_minutes(&mut transaction, &destination, latest).await?;
                match free_instant(latest, account.period.start, &taken) {
                    Some(event_at) => {
                        let report = self.report(&mut account, destination, event_at, State::Sealed);
                        reports::insert(&mut transaction, &report, None, now).await?;
                        tracing::info!(identifier = %report.identifier, quantity = report.quantity, "sealed");
                        later(now, self.rules.report_interval)
                    }
                    None => later(now, NEXT_MINUTE),
                }
            }
            (Decision::Late(event_at), Some(destination)) => {
                let report = self.report(&mut account, destination, event_at, State::Late);
                reports::insert(&mut transaction, &report, Some(LATE_REASON), now).await?;
                let event = announce::failed(&self.namespace, &report, State::Late, LATE_REASON, now);
                outbox::enqueue(&mut transaction, &[event]).await?;
                tracing::warn!(identifier = %report.identifier, quantity = report.quantity, "late usage");
                now
            }
            (Decision::Waive, _) => {
                account.waived = true;
                tracing::warn!(tenant = %account.tenant, unreported = account.unreported(),
                               "the period is over and the tenant was not billed for it");
                now
            }
            (Decision::Wait(until), _) => until,
            (Decision::Nothing | Decision::Seal(_) | Decision::Late(_), _) => now,
        };
        accounts::save(&mut transaction, &account).await?;
        accounts::seal_at(&mut transaction, &account, next_look).await?;
        transaction.commit().await?;
        Ok(())
    }

    fn report(
        &self,
        account: &mut Account,
        destination: Destination,
        event_at: Timestamp,
        state: State,
    ) -> Report {
        let (quantity, version) = account.seal();
        let identifier = Identifier::of(
            &self.environment,
            &destination.event_name,
            &account.tenant,
            account.period,
            version,
        );
        Report {
            identifier,
            tenant: account.tenant.clone(),
            period: account.period,
            version,
            destination,
            quantity,
            event_at,
            send_before: self.rules.send_before(account.period),
            state,
            first_attempt_at: None,
            attempts: 0,
            key_generation: 1,
            absent_since: None,
        }
    }
}

/// Where the tenant's usage goes now; nowhere for a tenant without a customer or on a plan without a meter.
async fn destination_of(
    connection: &mut PgConnection,
    account: &Account,
) -> Result<Option<Destination>, CatalogError> {
    let tenant: Option<Tenant> = catalog::store::find(&mut *connection, account.tenant.as_str()).await?;
    let Some(tenant) = tenant else { return Ok(None) };
    let plan: Option<Plan> = catalog::store::find(&mut *connection, tenant.plan.as_str()).await?;
    let event_name = plan.and_then(|plan| plan.meter_event_name);
    Ok(tenant
        .stripe_customer
        .zip(event_name)
        .map(|(customer, event_name)| Destination { customer, event_name }))
}
