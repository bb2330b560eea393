//! One tenant's state in a replica: the units it holds, the units spent but not tallied, and the requests
//! that wait for the ledger. `lease_size` explains why that is sound; `ledger` has the transaction.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use catalog::{Plan, Tenant};
use jiff::Timestamp;
use messaging::error_chain;
use metering::{Mode, TenantId, WorkflowId};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    admission::{
        decision::{Decision, Reason, decide},
        known::Known,
        lease_size::{REFRESH_INTERVAL, REFRESH_INTERVAL_FAR},
        ledger::settle,
        resources::Resources,
        run_key::RunKey,
        settlement::{Batch, LeaseTerms},
        tallies::{self, Tallies},
        verdict::{AdmitError, REPEAT_HORIZON, Request, Verdict, WRITE_DELAY},
    },
    directory::snapshot::Snapshot,
    store::{admissions::Exclusivity, write_behind::Entry},
};

/// Timeout of one ledger transaction; callers give up sooner.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that one transaction decides.
const BATCH_REQUESTS: usize = 512;

/// A request that waits for the ledger.
pub struct Waiting {
    /// The request.
    pub request: Request,
    /// Where its verdict goes.
    pub answer: oneshot::Sender<Result<Option<Verdict>, Arc<AdmitError>>>,
}

/// One tenant's state in a replica.
pub struct TenantLease {
    tenant: TenantId,
    state: Mutex<State>,
}

struct State {
    units: u64,
    footing: Option<LeaseTerms>,
    /// The last catalog that was found to match `footing`.
    catalog: Option<Arc<Snapshot>>,
    /// Units spent since `footing` was made.
    spent_since: u64,
    /// Units spent since the last transaction.
    fresh: Tallies,
    /// The latest instant at which a unit was spent. Units are never spent before it, so that a clock that is
    /// set back adds to no forgotten row.
    spent_at: Timestamp,
    /// Units spent before the last transaction that the ledger has tallied, or will.
    tallies: Tallies,
    /// Runs of each workflow that a failed transaction should have added to its rate.
    unobserved: BTreeMap<WorkflowId, u64>,
    queue: Vec<Waiting>,
    /// Runs that the ledger decides now or next: no leased unit is spent for them.
    pending: HashSet<RunKey>,
    settled_at: Instant,
    busy: bool,
    refresh: bool,
    sole: Option<Exclusivity>,
    /// The watermark for which a sweep was requested.
    doubted: Option<Timestamp>,
}

impl TenantLease {
    /// An empty lease: the first request goes to the ledger.
    pub fn new(tenant: TenantId) -> Self {
        let state = State {
            units: 0,
            footing: None,
            catalog: None,
            spent_since: 0,
            fresh: Tallies::default(),
            spent_at: Timestamp::UNIX_EPOCH,
            tallies: Tallies::default(),
            unobserved: BTreeMap::new(),
            queue: Vec::new(),
            pending: HashSet::new(),
            settled_at: Instant::now(),
            busy: false,
            refresh: false,
            sole: None,
            doubted: None,
        };
        Self { tenant, state: Mutex::new(state) }
    }

    /// The lease's tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Leased units that are not spent.
    pub fn unspent(&self) -> u64 {
        self.lock().units
    }

    /// Runs that count against the limit, as far as memory knows.
    pub fn reserved(&self, known: &Known) -> u64 {
        let state = self.lock();
        let footing = state.footing.as_ref().filter(|footing| footing.known.period == known.period);
        footing.map_or(0, |footing| footing.charged.saturating_add(state.spent_since))
    }

    /// Runs of the workflow that are not in its rate yet.
    pub fn unobserved(&self, workflow: &WorkflowId) -> u64 {
        let state = self.lock();
        let waiting = state.unobserved.get(workflow).copied().unwrap_or(0);
        waiting.saturating_add(state.fresh.of(workflow))
    }

    /// Whether the lease holds units.
    pub fn has_units(&self) -> bool {
        self.lock().units > 0
    }

    /// Whether an id that memory does not know must be new, if memory has forgotten runs before `forgot_at`.
    pub fn knows_all(&self, now: Timestamp, forgot_at: Option<Timestamp>) -> bool {
        let is_old = |instant: Timestamp| now.duration_since(instant) >= REPEAT_HORIZON;
        self.lock().sole.is_some_and(|sole| sole.is_long(now)) && forgot_at.is_none_or(is_old)
    }

    /// Notes that another replica decides for the tenant as well.
    pub fn share(&self, now: Timestamp) {
        let mut state = self.lock();
        if state.sole.is_some() {
            state.sole = Some(Exclusivity::Since(now));
        }
    }

    /// Spends a leased unit for the request, if there is one and its terms still hold.
    pub fn spend(
        lease: &Arc<Self>,
        resources: &Resources,
        request: &Request,
        (catalog, tenant, plan): (&Arc<Snapshot>, &Tenant, &Plan),
        now: Timestamp,
    ) -> Option<Verdict> {
        if resources.unwritten.is_full() {
            return None;
        }
        let mut state = lease.lock();
        if state.units == 0
            || state.pending.contains(&request.key)
            || resources.closing.load(Ordering::SeqCst)
        {
            return None;
        }
        let footing = state.footing.as_ref().filter(|footing| now < footing.expires_at)?;
        if !state.catalog.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, catalog)) {
            if footing.tenant != *tenant || footing.plan != *plan {
                return None;
            }
            state.catalog = Some(catalog.clone());
        }
        let footing = state.footing.as_ref()?;
        if !footing.allowances.permit(request.workflow.as_ref(), &state.fresh) {
            return None;
        }
        let mut known = footing.known;
        known.stale = known.is_stale(now, resources.stale_after);
        if let Some(counted) =
            resources.usage.of(&lease.tenant).filter(|counted| counted.period == known.period)
        {
            known.counted = known.counted.map(|before| before.max(counted.totals.counted));
        }
        let reserved = footing.charged.saturating_add(state.spent_since);
        let decision = match decide(&footing.terms, &known, reserved, now) {
            _ if request.mode == Some(Mode::Error) => Decision::allow(Reason::ErrorWorkflow),
            decision if decision.allowed => decision,
            _ => return None,
        };
        let spent_at = state.spent_at.max(now);
        let verdict = Verdict::new(&known, &footing.terms, reserved, decision).reserve(spent_at);
        let is_low = state.units - 1 <= footing.granted / 4;
        state.refresh |= is_low;
        state.units -= 1;
        state.spent_since += 1;
        state.spent_at = spent_at;
        let workflow = state.fresh.count(spent_at, request.workflow.as_ref());
        drop(state);
        // The lease's own texts: the request's would be allocated by one thread and freed by another each
        // time.
        let Request { key, mode, .. } = *request;
        resources.unwritten.add(Entry {
            tenant: lease.tenant.clone(),
            key,
            workflow,
            mode,
            admitted_at: spent_at,
            verdict,
        });
        Some(verdict)
    }

    /// Queues a request for the ledger.
    pub fn queue(&self, waiting: Waiting) {
        let mut state = self.lock();
        state.pending.insert(waiting.request.key);
        state.queue.push(waiting);
    }

    /// Whether the lease is due for a refresh: it was last settled long enough ago, or a refresh was
    /// requested.
    pub fn is_due(&self) -> bool {
        let state = self.lock();
        let elapsed = state.settled_at.elapsed();
        if state.busy || elapsed < REFRESH_INTERVAL || (state.units == 0 && !state.refresh) {
            return false;
        }
        // A lease in use and far from the limit may wait until half of it is spent.
        let may_wait = state.footing.as_ref().is_some_and(|footing| {
            !footing.is_near && state.spent_since > 0 && state.units > footing.granted / 2
        });
        state.refresh || !may_wait || elapsed >= REFRESH_INTERVAL_FAR
    }

    /// Refreshes the lease, unless a transaction is already running.
    pub async fn refresh(&self, resources: &Arc<Resources>) {
        {
            let mut state = self.lock();
            if mem::replace(&mut state.busy, true) {
                return;
            }
            state.refresh = true;
        }
        while self.next(resources).await {}
    }

    /// Another replica has decided this run as well, and tallies it: frees its unit here.
    pub fn was_known(&self, entry: &Entry) {
        let mut state = self.lock();
        let (allowed_at, workflow) = (entry.admitted_at, entry.workflow.as_ref());
        // If neither has its row any more, the run is counted twice until the watermark passes it.
        if !state.fresh.take_back(allowed_at, workflow) {
            state.refresh |= state.tallies.take_back(allowed_at, workflow);
        }
    }

    /// Starts pending work, unless it is already running.
    pub fn wake(lease: &Arc<Self>, resources: &Arc<Resources>) {
        let mut state = lease.lock();
        if state.busy || !state.has_work() {
            return;
        }
        state.busy = true;
        drop(state);
        let (lease, resources) = (lease.clone(), resources.clone());
        tokio::spawn(async move { while lease.next(&resources).await {} });
    }

    async fn next(&self, resources: &Arc<Resources>) -> bool {
        if self.settle(resources).await.is_err() {
            // Waiting requests got the error; spent units are tallied once the ledger answers.
            sleep(WRITE_DELAY * 10).await;
        }
        let mut state = self.lock();
        state.busy = state.has_work();
        state.busy
    }

    /// Tallies everything and returns every unit.
    pub async fn give_back(lease: &Arc<Self>, resources: &Arc<Resources>) -> Result<(), Arc<AdmitError>> {
        // A transaction that is running settles what it took; we wait for it and settle the rest.
        loop {
            let is_busy = { mem::replace(&mut lease.lock().busy, true) };
            if !is_busy {
                break;
            }
            sleep(WRITE_DELAY).await;
        }
        let outcome = lease.settle(resources).await;
        lease.lock().busy = false;
        TenantLease::wake(lease, resources);
        outcome
    }

    /// One ledger transaction: tallies, decides, grants and returns units. One at a time: `busy`.
    async fn settle(&self, resources: &Arc<Resources>) -> Result<(), Arc<AdmitError>> {
        // The semaphore is never closed.
        let _place = resources.settling.acquire().await;
        let (batch, answers) = self.take(resources);
        let outcome = match timeout(SETTLE_TIMEOUT, settle(resources, &self.tenant, &batch)).await {
            Ok(outcome) => outcome.map_err(Arc::new),
            Err(_) => Err(Arc::new(AdmitError::TimedOut)),
        };
        if let Ok(settled) = &outcome {
            let now = resources.clock.now();
            for (request, verdict) in batch.requests.iter().zip(&settled.verdicts) {
                if let Some(verdict) = verdict {
                    resources.remember(request, *verdict, now);
                }
            }
        }
        let mut state = self.lock();
        for request in &batch.requests {
            state.pending.remove(&request.key);
        }
        match outcome {
            Ok(settled) => {
                let granted = settled.granted;
                state.units += granted;
                state.sole = Some(settled.sole);
                state.tallies.forget_old(resources.clock.now());
                if settled.doubted.is_some() {
                    state.doubted = settled.doubted;
                    resources.resweeps.request(&self.tenant);
                }
                state.catalog = None;
                state.footing = settled.footing.map(|mut footing| {
                    footing.granted = state.units;
                    footing
                });
                for (answer, verdict) in answers.into_iter().zip(settled.verdicts) {
                    // The caller may be gone; the verdict is stored all the same.
                    let _ = answer.send(Ok(verdict));
                }
                Ok(())
            }
            Err(error) => {
                // Returned units stay outstanding in the ledger until its next transaction.
                for (workflow, runs) in batch.asked {
                    tallies::add(&mut state.unobserved, &workflow, runs);
                }
                state.refresh = true;
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
                tracing::warn!(tenant = %self.tenant, error = error_chain(&*error), "admission ledger unavailable, retrying");
                Err(error)
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "a batch and where its answers go")]
    fn take(
        &self,
        resources: &Resources,
    ) -> (Batch, Vec<oneshot::Sender<Result<Option<Verdict>, Arc<AdmitError>>>>) {
        let mut state = self.lock();
        let closing = resources.closing.load(Ordering::SeqCst);
        let size = state.queue.len().min(BATCH_REQUESTS);
        let (requests, answers): (Vec<_>, Vec<_>) =
            state.queue.drain(..size).map(|waiting| (waiting.request, waiting.answer)).unzip();
        // Units are kept only for a lease that is in use, so that its runs need not wait for this
        // transaction.
        let is_near = state.footing.as_ref().is_none_or(|footing| footing.is_near);
        if !requests.is_empty() || state.spent_since == 0 || is_near || closing {
            state.units = 0;
        }
        let spent_since = mem::take(&mut state.spent_since);
        let fresh = mem::take(&mut state.fresh);
        state.tallies.add(&fresh);
        let mut asked = mem::take(&mut state.unobserved);
        for (workflow, runs) in fresh.rows().flat_map(|(_, tally)| &tally.workflows) {
            tallies::add(&mut asked, workflow, *runs);
        }
        let batch = Batch {
            spent_count: spent_since.saturating_add(requests.len() as u64),
            asked,
            requests,
            tallies: state.tallies.clone(),
            held: state.units,
            elapsed: state.settled_at.elapsed(),
            closing,
            doubted: state.doubted,
        };
        state.refresh = false;
        state.settled_at = Instant::now();
        // Units spent during the transaction are charged on top of the old footing's figures.
        if let Some(footing) = &mut state.footing {
            footing.charged = footing.charged.saturating_add(spent_since);
            footing.allowances.take(&fresh);
        }
        (batch, answers)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the ledger has something to do besides tallying spent units.
    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.refresh
    }
}

#[cfg(test)]
mod tests {
    use catalog::Entry as _;
    use metering::SimulatedClock;
    use proto::{Namespace, v1};
    use sqlx::PgPool;

    use super::*;
    use crate::{
        admission::{
            admissions::Admissions,
            decision::{LimitState, Terms},
            loop_allowance::Allowances,
            resweep,
            unwritten::WAITING_MAX,
            verdict::tests::entry,
        },
        directory::snapshot::Directory,
        usage::live::{UsageView, tests::november},
    };

    const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

    /// A request of the tenant `north`.
    fn request(id: &str) -> Request {
        let tenant = TenantId::parse("north").unwrap();
        Request { key: RunKey::of(&tenant, id), tenant, workflow: None, mode: None }
    }

    #[tokio::test]
    async fn no_unit_is_spent_while_too_many_verdicts_wait_to_be_stored() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let pool = PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap();
        let clock = Arc::new(SimulatedClock::standing_at(now));
        let usage = Arc::new(UsageView::default());
        usage.apply(november(0, 1));
        let directory = Arc::new(Directory::new(pool.clone()));
        let (resweeps, _doubted) = resweep::channel();
        let admissions =
            Admissions::new(pool, clock, usage, directory, Namespace::default(), STALE_AFTER, resweeps);
        let resources = &admissions.resources;
        let (name, plan_id) = ("North".to_owned(), "pro".to_owned());
        let tenant = v1::Tenant { tenant_id: "north".to_owned(), name, plan_id, ..v1::Tenant::default() };
        let tenant = Tenant::from_wire(tenant).unwrap();
        let (name, plan_id) = ("Pro".to_owned(), "pro".to_owned());
        let plan = v1::Plan { plan_id, name, monthly_limit: Some(1_000), ..v1::Plan::default() };
        let plan = Plan::from_wire(plan).unwrap();
        let known = resources.known(&tenant, now);
        let lease = admissions.lease(&tenant.id);
        {
            let mut state = lease.lock();
            state.units = 10;
            state.footing = Some(LeaseTerms {
                terms: Terms::of(&tenant, &plan, &known, LimitState::default(), now),
                known,
                tenant: tenant.clone(),
                plan: plan.clone(),
                charged: 0,
                expires_at: known.period.end,
                granted: 10,
                is_near: false,
                allowances: Allowances::unlimited(),
            });
        }
        let catalog = Arc::new(Snapshot::default());
        let spend = |id| TenantLease::spend(&lease, resources, &request(id), (&catalog, &tenant, &plan), now);

        assert!(spend("before").is_some());
        for id in 1..WAITING_MAX {
            resources.unwritten.add(entry(id));
        }
        assert!(spend("meanwhile").is_none(), "the ledger decides");
        assert_eq!(lease.unspent(), 9);
        resources.unwritten.take();
        assert!(spend("after").is_some());
        assert_eq!(lease.unspent(), 8);
    }
}
