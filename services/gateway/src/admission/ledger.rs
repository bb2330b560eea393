//! The transaction of the limit check: under the tenant's lock it tallies spent units, decides waiting
//! requests, and grants the next lease.

use std::collections::{BTreeSet, HashMap, hash_map::Entry as MapEntry};

use catalog::{Plan, Tenant, store::CatalogError};
use jiff::{SignedDuration, Timestamp};
use metering::{TenantId, WorkflowId};
use sqlx::PgConnection;

use crate::{
    admission::{
        decision::LimitState,
        refusals,
        resources::Resources,
        run_key::RunKey,
        settlement::{Batch, LeaseTerms, Settlement},
        stored::verdicts,
        verdict::{AdmitError, Request, Verdict},
    },
    store::{self, admissions::Exclusivity, write_behind::Entry},
};

/// If the watermark is older than this (a source that is broken for weeks, or was never swept), the runs
/// allowed since are kept as a stored sum. Otherwise there are only a few hundred slots, and the watermark
/// moves with each sweep.
const SUMMED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The outcome of one transaction.
pub struct Settled {
    /// For each request; `None` if there is no such tenant.
    pub verdicts: Vec<Option<Verdict>>,
    /// The terms of the leased units.
    pub footing: Option<LeaseTerms>,
    /// Units that were added.
    pub granted: u64,
    /// Whether other replicas decide as well.
    pub sole: Exclusivity,
    /// The watermark before which runs may be counted twice, if a run was refused for the limit.
    pub doubted: Option<Timestamp>,
}

/// Settles one batch of a tenant.
#[tracing::instrument(skip_all, fields(tenant = %tenant, requests = batch.requests.len()))]
pub async fn settle(resources: &Resources, tenant: &TenantId, batch: &Batch) -> Result<Settled, AdmitError> {
    let mut transaction = resources.pool.begin().await?;
    let ledger =
        store::admissions::open(&mut transaction, tenant, resources.replica, resources.clock.now()).await?;
    // After the wait for the lock: the margin before the watermark only covers what comes after the verdict.
    let now = resources.clock.now();
    if !batch.tallies.is_empty() {
        store::admissions::tally(&mut *transaction, tenant, resources.replica, &batch.tallies).await?;
    }
    // Read under the lock: a limit that was changed meanwhile holds.
    let Some((tenant, plan)) = terms(&mut transaction, tenant).await? else {
        store::admissions::lease(&mut *transaction, tenant, resources.replica, 0, now).await?;
        transaction.commit().await?;
        let verdicts = vec![None; batch.requests.len()];
        return Ok(Settled { verdicts, footing: None, granted: 0, sole: ledger.sole, doubted: None });
    };
    let mut given = find(&mut transaction, &batch.requests).await?;
    let mut settlement = prepare(&mut transaction, resources, tenant, plan, ledger.marks, now, batch).await?;
    let mut fresh = Vec::new();
    for request in &batch.requests {
        if let MapEntry::Vacant(place) = given.entry(request.key) {
            let verdict = *place.insert(settlement.decide(request));
            fresh.push(Entry::of(request, verdict, now));
        }
    }
    let verdicts = fresh.iter_mut().map(|entry| &mut entry.verdict);
    let doubted = settlement.doubt(&mut transaction, verdicts).await?;
    if !fresh.is_empty() {
        let written = store::write_behind::write_decided(&mut *transaction, &fresh).await?;
        let refusals = refusals::tally(&fresh, &written);
        if !refusals.is_empty() {
            store::refusals::add(&mut *transaction, &settlement.tenant.id, &refusals, now).await?;
        }
    }
    given.extend(fresh.iter().map(|entry| (entry.key, entry.verdict)));
    let verdicts = batch.requests.iter().map(|request| given.get(&request.key).copied()).collect();
    settlement.keep(&mut transaction, resources, ledger.marks).await?;
    let doubted = doubted.filter(|until| Some(*until) != batch.doubted);
    let (footing, granted) = settlement.hand_out(batch);
    let outstanding = batch.held.saturating_add(granted);
    store::admissions::lease(
        &mut *transaction,
        &settlement.tenant.id,
        resources.replica,
        outstanding,
        footing.expires_at,
    )
    .await?;
    transaction.commit().await?;
    Ok(Settled { verdicts, footing: Some(footing), granted, sole: ledger.sole, doubted })
}

async fn find(
    connection: &mut PgConnection,
    requests: &[Request],
) -> Result<HashMap<RunKey, Verdict>, AdmitError> {
    if requests.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<RunKey> = requests.iter().map(|request| request.key).collect();
    verdicts(store::admissions::find(connection, &keys).await?)
}

/// The tenant and its plan, from the database each time: a raised limit holds at once, on every replica.
pub async fn terms(
    connection: &mut PgConnection,
    tenant: &TenantId,
) -> Result<Option<(Tenant, Plan)>, CatalogError> {
    let Some(tenant) = catalog::store::find::<Tenant>(&mut *connection, tenant.as_str()).await? else {
        return Ok(None);
    };
    let plan = catalog::store::find::<Plan>(connection, tenant.plan.as_str()).await?;
    Ok(plan.map(|plan| (tenant, plan)))
}

async fn prepare(
    connection: &mut PgConnection,
    resources: &Resources,
    tenant: Tenant,
    plan: Plan,
    marks: LimitState,
    now: Timestamp,
    batch: &Batch,
) -> Result<Settlement, AdmitError> {
    let (mut known, settled) = resources.figures(&tenant, now);
    if now.duration_since(known.reserved_since) > SUMMED_AFTER {
        store::sums::keep_of_tenant(&mut *connection, &tenant.id, known.reserved_since).await?;
    }
    let since = known.since();
    let others = store::admissions::charged(
        &mut *connection,
        &tenant.id,
        since,
        Some(resources.replica),
        settled.slots(),
    )
    .await?;
    known.settle(others.settled, others.unsettled_between);
    let charged = others.units.saturating_add(batch.held);
    let mut settlement = Settlement::new(resources, tenant, plan, (known, settled), marks, charged, now);
    settlement.load(connection, &asked(batch), &batch.asked).await?;
    Ok(settlement)
}

/// Workflows whose runs asked to start, sorted by id, so that every replica locks in the same order.
fn asked(batch: &Batch) -> BTreeSet<WorkflowId> {
    let requested = batch.requests.iter().filter_map(|request| request.workflow.as_ref());
    batch.asked.keys().chain(requested).cloned().collect()
}
