//! Recording a batch: each execution is claimed by its key, and what is new is added to its period, in one
//! transaction with what the world is told. A repeat, in whatever order and however often, changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use catalog::{Plan, Tenant, store::CatalogError};
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, Delivery, Dispose, Disposition, Handler, PublishError, dead, outbox};
use metering::{Clock, Execution, InvalidId, Period, SourceId, Status, WorkflowId};
use prost::Message;
use proto::v1;
use sqlx::{PgConnection, PgPool};

use crate::{
    rollup::{Changes, Share},
    store::{self, PeriodRow, SourceRow},
    tally::{Changed, Decided, Tally, replaces, tally, unique},
    thresholds,
    totals::Totals,
    wire,
};

/// A source whose clock is further ahead than this is wrong, and would open periods that have not begun.
const CLOCK_AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Handles `ExecutionBatch`.
pub(crate) struct Recorder {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
}

/// A batch cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the batch names no source")]
    Source(#[from] InvalidId),
    #[error("epoch {0} is out of range")]
    Epoch(u32),
    #[error("source {0} is not in the catalog; add it, then replay")]
    UnknownSource(SourceId),
    #[error("tenant {0} is not in the catalog; add it, then replay")]
    UnknownTenant(String),
    #[error("plan {0} is not in the catalog; add it, then replay")]
    UnknownPlan(String),
    #[error("cannot read the catalog")]
    Catalog(#[from] CatalogError),
    #[error("cannot write the executions")]
    Database(#[from] sqlx::Error),
    #[error("cannot put unreadable executions aside")]
    DeadLetter(#[from] PublishError),
}

impl Dispose for RecordError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Source(_) | Self::Epoch(_) => Disposition::DeadLetter,
            // The catalog may be on its way.
            Self::UnknownSource(_) | Self::UnknownTenant(_) | Self::UnknownPlan(_) => Disposition::Retry,
            Self::Catalog(error) => error.disposition(),
            Self::Database(error) => error.disposition(),
            Self::DeadLetter(error) => error.disposition(),
        }
    }
}

/// Whose executions a batch holds, and by which rules they count.
struct Attributed {
    source: SourceRow,
    epoch: i32,
    tenant: Tenant,
    plan: Plan,
}

impl Recorder {
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>) -> Self {
        Self { pool, bus, clock }
    }

    async fn attribute(&self, batch: &v1::ExecutionBatch) -> Result<Attributed, RecordError> {
        let source_id = SourceId::parse(&batch.source_id)?;
        let epoch = i32::try_from(batch.epoch).map_err(|_| RecordError::Epoch(batch.epoch))?;
        let source =
            store::source(&self.pool, &source_id).await?.ok_or(RecordError::UnknownSource(source_id))?;
        let tenant: Tenant = catalog::store::find(&self.pool, &source.tenant_id)
            .await?
            .ok_or_else(|| RecordError::UnknownTenant(source.tenant_id.clone()))?;
        let plan: Plan = catalog::store::find(&self.pool, tenant.plan.as_str())
            .await?
            .ok_or_else(|| RecordError::UnknownPlan(tenant.plan.to_string()))?;
        Ok(Attributed { source, epoch, tenant, plan })
    }

    /// Puts executions that make no sense into one dead letter of their own; the rest of the batch goes on.
    async fn put_aside(
        &self,
        delivery: &Delivery<v1::ExecutionBatch>,
        unreadable: Vec<Unreadable>,
    ) -> Result<(), PublishError> {
        let Some((_, first_reason)) = unreadable.first() else { return Ok(()) };
        let reason = format!(
            "{} of {} executions: {first_reason}",
            unreadable.len(),
            delivery.message.executions.len()
        );
        let executions = unreadable.into_iter().map(|(execution, _)| execution).collect();
        let rest = v1::ExecutionBatch { executions, ..delivery.message.clone() };
        let letter = dead::Dead {
            letter_id: format!("dead:aggregator-unreadable:{}", delivery.stream_sequence),
            original_subject: delivery.subject.clone(),
            original_payload: rest.encode_to_vec().into(),
            original_headers: Vec::new(),
            reason,
            failed_at: self.clock.now(),
            deliveries: delivery.deliveries,
        };
        dead::publish(&self.bus, letter).await
    }
}

#[async_trait]
impl Handler for Recorder {
    type Message = v1::ExecutionBatch;
    type Error = RecordError;

    async fn handle(&self, delivery: Delivery<v1::ExecutionBatch>) -> Result<(), RecordError> {
        let attributed = self.attribute(&delivery.message).await?;
        let now = self.clock.now();
        let (readable, unreadable) = read(&delivery.message.executions, now);
        self.put_aside(&delivery, unreadable).await?;
        let mut transaction = self.pool.begin().await?;
        record(&mut transaction, &self.bus, now, &attributed, readable).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// An execution with its id as a number.
type Numbered = (i64, Execution);

/// A row that is no execution, with the reason.
type Unreadable = (v1::Execution, String);

fn read(rows: &[v1::Execution], now: Timestamp) -> (Vec<Numbered>, Vec<Unreadable>) {
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        match read_one(row, now) {
            Ok(execution) => readable.push(execution),
            Err(reason) => unreadable.push((row.clone(), reason)),
        }
    }
    (readable, unreadable)
}

fn read_one(row: &v1::Execution, now: Timestamp) -> Result<Numbered, String> {
    let execution = Execution::try_from(row.clone()).map_err(|error| error.to_string())?;
    let id = execution.id.as_str();
    let number: i64 = id.parse().map_err(|_| format!("execution id {id:?} is not a number"))?;
    if execution.stopped_at.duration_since(now) > CLOCK_AHEAD_MAX {
        return Err(format!("execution {id} stopped at {}, more than a day ahead", execution.stopped_at));
    }
    Ok((number, execution))
}

async fn record(
    connection: &mut PgConnection,
    bus: &Bus,
    now: Timestamp,
    attributed: &Attributed,
    executions: Vec<Numbered>,
) -> Result<(), RecordError> {
    let Attributed { source, epoch, tenant, plan } = attributed;
    // Everything about one tenant happens one after the other: no deadlock, and one order of revisions.
    store::lock_tenant(connection, source.tenant_number).await?;
    let executions = unique(executions);
    let periods: BTreeSet<Period> =
        executions.values().map(|execution| tenant.calendar.period_of(execution.stopped_at)).collect();
    let periods = store::ensure_periods(connection, source.tenant_number, &periods, now).await?;
    let decided = decide(executions, tenant, plan, &periods);
    let claimed = store::claim(connection, source, *epoch, &decided, now).await?;
    let (fresh, repeated): (Vec<Decided>, Vec<Decided>) =
        decided.into_iter().partition(|decided| claimed.contains(&decided.number));
    let changed = change(connection, source, *epoch, repeated).await?;
    let tally = tally(&fresh, &changed);
    metrics::counter!("flowmeter_executions_recorded_total")
        .increment(u64::try_from(fresh.len()).unwrap_or(0));
    if tally.periods.is_empty() {
        return Ok(());
    }
    let revision = store::next_revision(connection, source.tenant_number).await?;
    let names = tally.names();
    let workflows = store::workflow_numbers(connection, source, &names).await?;
    store::add(connection, source, &tally, &workflows).await?;
    let changes = changes_of(attributed, &fresh, &changed, &workflows);
    store::log_changes(connection, &changes, now).await?;
    tell(connection, bus, now, attributed, &periods, &tally, revision).await
}

/// The same as the tally, hour by hour, for the roll-ups.
fn changes_of(
    attributed: &Attributed,
    fresh: &[Decided],
    changed: &[Changed],
    workflows: &BTreeMap<WorkflowId, i32>,
) -> Changes {
    let Attributed { source, tenant, .. } = attributed;
    let share = |decided: &Decided, execution: &Execution, totals: Totals| Share {
        tenant: source.tenant_number,
        workflow: workflows.get(&decided.execution.workflow).copied().unwrap_or_default(),
        period_start: decided.period.start,
        stopped_at: execution.stopped_at,
        duration: execution.duration(),
        totals,
    };
    let mut changes = Changes::default();
    for decided in fresh {
        changes.add(share(decided, &decided.execution, decided.totals(&decided.execution)), &tenant.calendar);
    }
    for Changed { before, after } in changed {
        let taken = before.totals(&before.execution).negated();
        changes.add(share(before, &before.execution, taken), &tenant.calendar);
        changes.add(share(before, after, before.totals(after)), &tenant.calendar);
    }
    changes
}

/// Period, counted, late: decided once, when the execution is first seen.
fn decide(
    executions: BTreeMap<i64, Execution>,
    tenant: &Tenant,
    plan: &Plan,
    periods: &[PeriodRow],
) -> Vec<Decided> {
    let is_closed = |period: &Period| periods.iter().any(|row| row.period == *period && row.closed);
    executions
        .into_iter()
        .map(|(number, execution)| {
            let period = tenant.calendar.period_of(execution.stopped_at);
            let counted = plan.counting.counts(execution.mode, execution.status);
            Decided { number, counted, late: is_closed(&period), voided: false, period, execution }
        })
        .collect()
}

/// Rewrites executions that were counted as crashed and are known better now.
async fn change(
    connection: &mut PgConnection,
    source: &SourceRow,
    epoch: i32,
    repeated: Vec<Decided>,
) -> Result<Vec<Changed>, sqlx::Error> {
    let candidates: Vec<Decided> =
        repeated.into_iter().filter(|decided| replaces(Status::Crashed, decided.execution.status)).collect();
    let numbers: Vec<i64> = candidates.iter().map(|decided| decided.number).collect();
    let crashed = store::crashed(connection, source, epoch, &numbers).await?;
    let mut changed = Vec::new();
    for candidate in candidates {
        let Some(before) = crashed.iter().find(|before| before.number == candidate.number) else { continue };
        store::rewrite(connection, source, epoch, candidate.number, &candidate.execution).await?;
        changed.push(Changed { before: before.clone(), after: candidate.execution });
    }
    Ok(changed)
}

/// Writes to the outbox what follows: opened periods, crossed thresholds, late usage.
async fn tell(
    connection: &mut PgConnection,
    bus: &Bus,
    now: Timestamp,
    attributed: &Attributed,
    periods: &[PeriodRow],
    tally: &Tally,
    revision: i64,
) -> Result<(), RecordError> {
    let Attributed { source, tenant, plan, .. } = attributed;
    let mut messages = Vec::new();
    for row in periods {
        if row.opened {
            messages.push(wire::period_opened(bus.namespace(), tenant.id.as_str(), row.period, now));
        }
        if row.closed && tally.periods.contains_key(&row.period.start) {
            let totals = store::totals(connection, source.tenant_number, row.period).await?;
            messages.push(wire::late_usage(
                bus.namespace(),
                tenant.id.as_str(),
                row.period,
                revision,
                &totals,
                now,
            ));
        }
        if row.period.contains(now) {
            let crossed =
                thresholds::evaluate(connection, source.tenant_number, tenant, plan, row.period, now).await?;
            messages
                .extend(crossed.iter().map(|crossing| wire::threshold_crossed(bus.namespace(), crossing)));
        }
    }
    outbox::enqueue(connection, &messages).await?;
    Ok(())
}
