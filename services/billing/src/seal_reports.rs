//! Seals billable usage that is not reported yet: the report's row and the account's new state, in one
//! transaction.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use jiff::Timestamp;
use messaging::{error_chain, outbox};
use metering::Clock;
use proto::Namespace;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    decide::Decision,
    events,
    identifier::{Destination, Identifier},
    ledger::{Ledger, Rules},
    minutes,
    owed::{Part, Route},
    report::{Report, State},
    store::{
        StoreError, destinations,
        ledgers::{self, Key},
        owed, reports,
    },
};
use metering::later;

/// Interval for checking due accounts, by the machine's clock.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// If all minutes are taken, the next one is free after this.
const NEXT_MINUTE: Duration = Duration::from_secs(60);

/// Pause before an account that could not be sealed is tried again: short, so that it does not miss the
/// deadline.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

const LATE_REASON: &str = "usage was counted too late for the period's invoice";

/// The usage waited for an earlier report, a refused customer or a service that was stopped.
const NOT_SEALED_REASON: &str = "usage could not be reported in time for the period's invoice";

/// Seals reports.
pub struct Sealer {
    /// The books.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names the subjects of events.
    pub namespace: Namespace,
    /// When reports are sealed and sent.
    pub rules: Rules,
    /// Part of every identifier.
    pub environment: String,
}

impl Sealer {
    /// Seals until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(LOOK_INTERVAL, shutdown);
        while rounds.next().await {
            if let Err(error) = self.look().await {
                tracing::warn!(error = error_chain(&error), "cannot look for usage to report, retrying");
            }
        }
    }

    /// Seals what is due now.
    pub async fn look(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for key in ledgers::to_seal(&self.pool, now).await? {
            if let Err(error) = self.seal(&key, now).await {
                tracing::warn!(
                    tenant = key.tenant,
                    error = error_chain(&error),
                    "cannot seal a report, retrying in a minute"
                );
                // So that it does not hold up the others.
                ledgers::put_aside(&self.pool, &key, later(now, FAILURE_PAUSE)).await?;
            }
        }
        Ok(())
    }

    async fn seal(&self, key: &Key, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let Some(mut ledger) = ledgers::lock(&mut transaction, key).await? else { return Ok(()) };
        let route = route(&mut transaction, &ledger, now).await?;
        let next_look = match ledger.decide(&self.rules, &route, now) {
            Decision::Seal(part, latest) => {
                self.seal_part(&mut transaction, &mut ledger, &route, &part, latest, now).await?
            }
            Decision::Late(part, event_at) => {
                self.give_up(&mut transaction, &mut ledger, &route, &part, event_at, now).await?;
                now
            }
            Decision::Waive => {
                ledger.waived = true;
                tracing::info!(tenant = %ledger.tenant, period_start = %ledger.period.start,
                               unreported = ledger.unreported(), "the tenant was not billed in this period");
                now
            }
            Decision::Wait(until) => until,
            Decision::Nothing => now,
        };
        ledgers::save(&mut transaction, &ledger).await?;
        ledgers::seal_at(&mut transaction, &ledger, next_look).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Seals a part in a minute that no other report of its customer and meter has. Returns when to look
    /// again.
    async fn seal_part(
        &self,
        connection: &mut PgConnection,
        ledger: &mut Ledger,
        route: &Route,
        part: &Part,
        latest: Timestamp,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let Some(destination) = part.destination.clone() else { return Ok(now) };
        destinations::lock_minutes(connection, &destination).await?;
        let event_at = free_instant(connection, &destination, ledger.period.start, latest).await?;
        let Some(event_at) = event_at else { return Ok(later(now, NEXT_MINUTE)) };
        let sharing = destinations::sharing(connection, &destination).await?;
        let report = self.report(ledger, part.up_to, destination, event_at, State::Sealed);
        reports::insert(connection, &report, None, now).await?;
        settle_owed(connection, ledger, route, part).await?;
        tracing::info!(tenant = %report.tenant, identifier = %report.identifier, quantity = report.quantity, "report sealed");
        if ledger.unreported() == 0 {
            Ok(minutes::next_look(&self.rules, ledger.period, sharing, now))
        } else {
            // The rest goes elsewhere, as soon as this one is settled.
            Ok(now)
        }
    }

    /// Hands a part to the operator: it is too late for the invoice.
    async fn give_up(
        &self,
        connection: &mut PgConnection,
        ledger: &mut Ledger,
        route: &Route,
        part: &Part,
        event_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(destination) = part.destination.clone() else { return Ok(()) };
        let was_in_time = part.up_to <= ledger.in_time_total;
        let reason = if was_in_time { NOT_SEALED_REASON } else { LATE_REASON };
        let report = self.report(ledger, part.up_to, destination, event_at, State::Late);
        reports::insert(connection, &report, Some(reason), now).await?;
        settle_owed(connection, ledger, route, part).await?;
        let event = events::failed(&self.namespace, &report, State::Late, reason, now);
        outbox::enqueue(connection, &[event]).await?;
        tracing::error!(tenant = %report.tenant, identifier = %report.identifier, quantity = report.quantity, reason, "usage is too late for its invoice: see flowmeter billing");
        Ok(())
    }

    fn report(
        &self,
        ledger: &mut Ledger,
        up_to: i64,
        destination: Destination,
        event_at: Timestamp,
        state: State,
    ) -> Report {
        let (quantity, version) = ledger.seal(up_to);
        let identifier = Identifier::of(
            &self.environment,
            &destination.event_name,
            &ledger.tenant,
            ledger.period,
            version,
        );
        Report {
            identifier,
            tenant: ledger.tenant.clone(),
            period: ledger.period,
            version,
            destination,
            quantity,
            event_at,
            send_before: self.rules.send_before(ledger.period),
            state,
            first_attempt_at: None,
            attempts: 0,
            key_generation: 1,
            absent_since: None,
        }
    }
}

/// Where the parts of a locked account go now.
async fn route(connection: &mut PgConnection, ledger: &Ledger, now: Timestamp) -> Result<Route, StoreError> {
    Ok(Route {
        owed: owed::list(connection, ledger).await?,
        rest: destinations::in_force(connection, &ledger.tenant, ledger.period, now).await?,
        last: destinations::last(connection, &ledger.tenant).await?,
    })
}

/// Removes the owed parts that a report covers.
async fn settle_owed(
    connection: &mut PgConnection,
    ledger: &Ledger,
    route: &Route,
    part: &Part,
) -> Result<(), StoreError> {
    if part.covers == 0 {
        return Ok(());
    }
    owed::put(connection, ledger, route.owed.get(part.covers..).unwrap_or_default()).await
}

/// The latest free instant of the period.
async fn free_instant(
    connection: &mut PgConnection,
    destination: &Destination,
    start: Timestamp,
    latest: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    for searched in minutes::searches(start, latest) {
        let taken = reports::taken_minutes(connection, destination, latest, searched).await?;
        let found = minutes::free_instant(latest, start, searched, &taken);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
