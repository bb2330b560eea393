//! The limit check: decides a run from a lease in memory if there is one, otherwise in the ledger.
//!
//! # Repeated ids
//!
//! A repeated id gets the same answer: from the same replica at once, from memory; from another one once the
//! verdict is stored, at most [`WRITE_DELAY`] and one or two transactions after the answer. A replica that
//! was not the only one to decide for the tenant in the last [`REPEAT_HORIZON`] looks ids up before it spends
//! a unit (`lookups`: many in one statement, without a lock); it learns within [`CONTACT_INTERVAL`] that
//! another one has started to decide. Near the limit, and for every refusal, the verdict is stored before the
//! answer. Two replicas that are asked at the same moment may both allow a run from their leases: the ledger
//! keeps one row for the id, and the other unit is freed. If a crash loses an answer before it reaches the
//! ledger, a repeat is decided again; its unit stays charged.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use catalog::{Plan, Tenant, store::CatalogError};
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use messaging::error_chain;
use metering::{Clock, Mode, Status, TenantId, WorkflowId};
use proto::Namespace;
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    admission::{
        decision::{Decision, Known, Marks, Reason, Terms},
        id_lookup::Lookups,
        lease_size::{CONTACT_AGE_MAX, CONTACT_INTERVAL},
        message::{Figures, hint, sentence},
        resweep::Doubts,
        run_key::RunKey,
        tenant_lease::{Desk, Waiting},
        verdict_cache::{Memory, Remembered},
        write_behind::{self, Unwritten},
    },
    directory::snapshot::{Directory, Snapshot},
    store::{self, admissions::Kept},
    usage::live::{Counted, UsageView},
};

/// Verdicts given from memory are stored within this time, or as soon as those before them are.
pub const WRITE_DELAY: Duration = Duration::from_millis(10);

/// A repeated id gets the same answer from every replica for at least this long.
pub const REPEAT_HORIZON: SignedDuration = SignedDuration::from_hours(1);

/// A replica that has just started waits this long for the usage updates that the broker keeps, rather than
/// deciding by the outage rule.
const FIGURES_WITHIN: Duration = Duration::from_secs(5);

/// Concurrent ledger transactions. The pool's other connections are left for lookups and reads of the
/// catalog, which all tenants wait for.
const SETTLES_MAX: usize = 4;

/// Interval for checking which leases are due.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Due leases for each concurrent refresh; there are at most [`SETTLES_MAX`] of those.
const LEASES_PER_LANE: usize = 16;

/// A run that wants to start.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tenant whose run it is.
    pub tenant: TenantId,
    /// The run's key.
    pub key: RunKey,
    /// Which workflow.
    pub workflow: Option<WorkflowId>,
    /// What starts it; a missing mode counts.
    pub mode: Option<Mode>,
}

/// The verdict, with the figures behind it.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// Whether the run may start.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Why it would have been refused, if the plan is in shadow mode.
    pub shadow: Option<Reason>,
    /// When a refusal may end.
    pub retry_at: Option<Timestamp>,
    /// Executions that count against the limit, this one included if it was reserved.
    pub used: Option<u64>,
    /// Runs allowed and not yet counted, this one included if it was reserved.
    pub reserved: u64,
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// The end of the period.
    pub resets_at: Timestamp,
    /// When the figures were read.
    pub as_of: Option<Timestamp>,
    /// All sources were counted up to here.
    pub complete_until: Option<Timestamp>,
    /// When the run's unit was taken; `None` if none was.
    pub admitted_at: Option<Timestamp>,
}

/// The limit check cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The tenant or its plan cannot be read.
    #[error("cannot read the tenant and its plan")]
    Terms(#[from] CatalogError),
    /// The ledger cannot be read or written.
    #[error("cannot use the ledger of admissions")]
    Ledger(#[from] sqlx::Error),
    /// The ledger holds a reason that this version does not know.
    #[error("the ledger holds the unknown reason {0:?}")]
    UnknownReason(String),
    /// The ledger did not answer in time.
    #[error("the ledger of admissions does not answer")]
    TimedOut,
    /// The request was in a batch that could not be decided.
    #[error("cannot decide the batch of requests")]
    Together(#[source] Arc<AdmitError>),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Stopping,
}

/// Decides runs.
#[derive(Clone)]
pub struct Admissions {
    pub(crate) parts: Arc<Parts>,
}

/// What the limit check works with.
pub(crate) struct Parts {
    pub pool: PgPool,
    pub clock: Arc<dyn Clock>,
    pub usage: Arc<UsageView>,
    pub directory: Arc<Directory>,
    pub namespace: Namespace,
    pub stale_after: Duration,
    /// Identifies this process in the ledger; a restart gets a new id.
    pub replica: Uuid,
    pub doubts: Doubts,
    pub closing: AtomicBool,
    pub unwritten: Unwritten,
    pub settling: Semaphore,
    lookups: Arc<Lookups>,
    remembered: Remembered,
    desks: RwLock<HashMap<TenantId, Arc<Desk>>>,
    started_at: Instant,
    /// When the catalog's version was last read, in milliseconds since `started_at`.
    contact_ms: AtomicU64,
    version: AtomicI64,
}

/// How many runs of each slot are counted, from one usage message.
pub(crate) struct Settling(Option<Arc<Counted>>);

impl Settling {
    /// Each slot with its counted executions.
    pub fn slots(&self) -> &[(i64, u64)] {
        self.0.as_ref().map_or(&[], |counted| &counted.settled)
    }
}

/// What memory can answer to a request.
enum Spending {
    /// This verdict.
    Given(Verdict),
    /// The desk holds units, but another replica may have decided this run.
    NotKnown,
    /// The ledger decides.
    NotHere,
}

impl Admissions {
    /// A check against `usage`, the catalog in `directory` and the ledger in `pool`.
    pub fn new(
        pool: PgPool,
        clock: Arc<dyn Clock>,
        usage: Arc<UsageView>,
        directory: Arc<Directory>,
        namespace: Namespace,
        stale_after: Duration,
        doubts: Doubts,
    ) -> Self {
        let parts = Parts {
            pool,
            clock,
            usage,
            directory,
            namespace,
            stale_after,
            replica: Uuid::new_v4(),
            doubts,
            closing: AtomicBool::new(false),
            unwritten: Unwritten::default(),
            settling: Semaphore::new(SETTLES_MAX),
            lookups: Arc::default(),
            remembered: Remembered::default(),
            desks: RwLock::default(),
            started_at: Instant::now(),
            contact_ms: AtomicU64::new(0),
            version: AtomicI64::new(0),
        };
        Self { parts: Arc::new(parts) }
    }

    /// Decides a run under the catalog's terms, and reserves it if it is allowed. The same id gets the same
    /// answer. `None` for an unknown tenant.
    pub async fn admit(
        &self,
        request: Request,
        catalog: &Arc<Snapshot>,
    ) -> Result<Option<Verdict>, AdmitError> {
        let Some((tenant, plan)) = catalog.terms(&request.tenant) else { return Ok(None) };
        self.hear_of(&request.tenant).await;
        // The run's outcome is not known yet: it is reserved if a success would count.
        if !is_counted(request.mode, plan) {
            return Ok(Some(self.not_counted(tenant, plan)));
        }
        self.decide(request, catalog, tenant, plan).await
    }

    /// Just after a start, waits for usage updates of the tenant that the broker keeps.
    pub(crate) async fn hear_of(&self, tenant: &TenantId) {
        if self.parts.usage.of(tenant).is_none() {
            let patience_ends_at = self.parts.started_at + FIGURES_WITHIN;
            // After a timeout too, the decision uses whatever has arrived.
            let _ = Box::pin(timeout_at(patience_ends_at, self.parts.usage.wait_until_caught_up())).await;
        }
    }

    async fn decide(
        &self,
        request: Request,
        catalog: &Arc<Snapshot>,
        tenant: &Tenant,
        plan: &Plan,
    ) -> Result<Option<Verdict>, AdmitError> {
        let parts = &self.parts;
        let desk = parts.desk(&request.tenant);
        let terms = (catalog, tenant, plan);
        match parts.spend(&desk, &request, terms, false) {
            Spending::Given(verdict) => return Ok(Some(verdict)),
            Spending::NotHere => {}
            Spending::NotKnown => {
                if let Some(verdict) = Lookups::find(&parts.lookups, &parts.pool, request.key).await? {
                    parts.remember(&request, verdict, parts.clock.now());
                    return Ok(Some(verdict));
                }
                if let Spending::Given(verdict) = parts.spend(&desk, &request, terms, true) {
                    return Ok(Some(verdict));
                }
            }
        }
        let (answer, answered) = oneshot::channel();
        desk.queue(Waiting { request, answer });
        Desk::wake(&desk, parts);
        let verdict = answered.await.map_err(|_| AdmitError::Stopping)?;
        verdict.map_err(AdmitError::Together)
    }

    /// A run that the plan does not count takes no unit; its verdict shows the figures in memory.
    pub(crate) fn not_counted(&self, tenant: &Tenant, plan: &Plan) -> Verdict {
        let parts = &self.parts;
        let now = parts.clock.now();
        let known = parts.known(tenant, now);
        let reserved = parts.desk(&tenant.id).reserved(&known);
        let terms = Terms::of(tenant, plan, &known, Marks::default(), now);
        Verdict::new(&known, &terms, reserved, Decision::allow(Reason::NotCounted))
    }

    /// Until `shutdown`, refreshes leases, keeps the catalog current and stores verdicts; then returns all
    /// units.
    pub async fn keep(self, shutdown: CancellationToken) {
        tokio::join!(
            self.keep_contact(&shutdown),
            self.keep_leases(&shutdown),
            write_behind::run(&self.parts, &shutdown)
        );
        // From here on nothing is spent from memory: every run is decided in the ledger.
        self.parts.closing.store(true, Ordering::SeqCst);
        if let Err(error) = write_behind::finish(&self.parts).await {
            tracing::warn!(
                error = error_chain(&error),
                "cannot store decisions on runs; a repeated request is decided again"
            );
        }
        for desk in self.parts.desks() {
            if let Err(error) = Desk::give_back(&desk, &self.parts).await {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot return leased units; they stay reserved until the lease expires"
                );
            }
        }
    }

    async fn keep_contact(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.parts.contact().await {
                tracing::warn!(
                    error = error_chain(&error),
                    "admission ledger unavailable; no leased units are spent until it answers"
                );
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(CONTACT_INTERVAL) => {}
            }
        }
    }

    /// Refreshes due leases, one after the other unless there are many: all at once they would take every
    /// core from incoming requests.
    async fn keep_leases(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let due: Vec<_> = self.parts.desks().into_iter().filter(|desk| desk.is_due()).collect();
            let lanes = due.len().div_ceil(LEASES_PER_LANE).clamp(1, SETTLES_MAX);
            stream::iter(due)
                .take_until(shutdown.cancelled())
                .for_each_concurrent(lanes, async |desk| desk.refresh(&self.parts).await)
                .await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

/// Whether the plan counts runs of the mode, assuming that they succeed.
pub(crate) fn is_counted(mode: Option<Mode>, plan: &Plan) -> bool {
    mode.is_none_or(|mode| plan.counting.counts(mode, Status::Success))
}

impl Parts {
    /// The tenant's desk.
    pub fn desk(&self, tenant: &TenantId) -> Arc<Desk> {
        if let Some(desk) = self.desks.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return desk.clone();
        }
        let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
        desks.entry(tenant.clone()).or_insert_with(|| Arc::new(Desk::new(tenant.clone()))).clone()
    }

    /// Answers a request from memory: with a verdict given before, or by spending a leased unit. `is_new`
    /// means that the ledger does not know its id.
    fn spend(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        request: &Request,
        terms: (&Arc<Snapshot>, &Tenant, &Plan),
        is_new: bool,
    ) -> Spending {
        let now = self.clock.now();
        let place = self.remembered.place(request.key);
        let forgot_at = match place.memory() {
            Memory::Given(verdict) => return Spending::Given(verdict),
            Memory::Perhaps => Some(now),
            Memory::NotSince(forgot_at) => forgot_at,
        };
        if !self.is_in_contact() || !desk.has_units() {
            return Spending::NotHere;
        }
        if !is_new && !desk.knows_all(now, forgot_at) {
            return Spending::NotKnown;
        }
        let Some(verdict) = Desk::spend(desk, self, request, terms, now) else { return Spending::NotHere };
        place.keep(verdict, now);
        Desk::wake(desk, self);
        Spending::Given(verdict)
    }

    fn desks(&self) -> Vec<Arc<Desk>> {
        self.desks.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Remembers the verdict on a request.
    pub fn remember(&self, request: &Request, verdict: Verdict, now: Timestamp) {
        self.remembered.place(request.key).keep(verdict, now);
    }

    /// What metering knows of the tenant.
    pub fn known(&self, tenant: &Tenant, now: Timestamp) -> Known {
        self.figures(tenant, now).0
    }

    /// The same, with the slots that settle reservations, both from one message.
    pub fn figures(&self, tenant: &Tenant, now: Timestamp) -> (Known, Settling) {
        let counted = self.usage.of(&tenant.id);
        let known = Known::at(now, counted.as_deref(), &tenant.calendar, self.stale_after);
        (known, Settling(counted.filter(|counted| counted.is_current(now))))
    }

    /// Whether the catalog in memory is known to be current enough to spend units.
    fn is_in_contact(&self) -> bool {
        let at = self.contact_ms.load(Ordering::Acquire);
        let age = self.started_at.elapsed().saturating_sub(Duration::from_millis(at));
        at > 0 && age < CONTACT_AGE_MAX
    }

    async fn contact(&self) -> Result<(), sqlx::Error> {
        let asked_at = self.started_at.elapsed();
        let tenants: Vec<String> = self.desks().iter().map(|desk| desk.tenant().to_string()).collect();
        let (version, shared) = store::admissions::contact(&self.pool, self.replica, &tenants).await?;
        if self.version.swap(version, Ordering::AcqRel) != version {
            self.directory.invalidate();
        }
        for desk in self.desks() {
            if shared.iter().any(|tenant| tenant == desk.tenant().as_str()) {
                desk.share(self.clock.now());
            }
        }
        let at = u64::try_from(asked_at.as_millis()).unwrap_or(u64::MAX).max(1);
        self.contact_ms.store(at, Ordering::Release);
        Ok(())
    }
}

impl Verdict {
    /// A verdict on a run that is not reserved, while `reserved` others are.
    pub fn new(known: &Known, terms: &Terms, reserved: u64, decision: Decision) -> Self {
        Self {
            allowed: decision.allowed,
            reason: decision.reason,
            shadow: None,
            retry_at: None,
            used: known.used(reserved),
            reserved: known.unsettled(reserved),
            limit: terms.limit,
            resets_at: known.period.end,
            as_of: known.as_of,
            complete_until: known.complete_until,
            admitted_at: None,
        }
    }

    /// The same with the run itself reserved. Its unit is tallied at `admitted_at`.
    pub fn reserve(mut self, admitted_at: Timestamp) -> Self {
        // In microseconds, like the ledger, so that a repeated id gets the same answer from every replica.
        self.admitted_at = Timestamp::from_microsecond(admitted_at.as_microsecond()).ok();
        self.reserved = self.reserved.saturating_add(1);
        self.used = self.used.map(|used| used.saturating_add(1));
        self
    }

    /// The sentence for a person, in the tenant's language.
    pub fn message(&self, tenant: &Tenant) -> String {
        sentence(tenant, self.reason, self.figures(self.allowed))
    }

    /// Why the run would have been refused, for a person.
    pub fn shadow_message(&self, tenant: &Tenant) -> Option<String> {
        self.shadow.map(|reason| sentence(tenant, reason, self.figures(false)))
    }

    /// When runs may start again, for a person.
    pub fn hint(&self, tenant: &Tenant) -> Option<String> {
        self.retry_at.filter(|_| !self.allowed).map(|retry_at| hint(tenant, retry_at))
    }

    fn figures(&self, allowed: bool) -> Figures {
        let Self { used, limit, resets_at, retry_at, .. } = *self;
        Figures { allowed, used, limit, resets_at, retry_at }
    }

    /// The verdict stored in a row.
    pub fn of(kept: &Kept) -> Result<Self, AdmitError> {
        let parse =
            |name: &str| Reason::parse(name).ok_or_else(|| AdmitError::UnknownReason(name.to_owned()));
        Ok(Self {
            allowed: kept.allowed,
            reason: parse(&kept.reason)?,
            shadow: kept.shadow_reason.as_deref().map(parse).transpose()?,
            retry_at: kept.retry_at,
            used: kept.used,
            reserved: kept.reserved,
            limit: kept.limit,
            resets_at: kept.resets_at,
            as_of: kept.as_of,
            complete_until: kept.complete_until,
            admitted_at: kept.admitted_at,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::write_behind::Entry;

    /// A run that was allowed.
    pub(crate) fn verdict() -> Verdict {
        Verdict {
            allowed: true,
            reason: Reason::WithinLimit,
            shadow: None,
            retry_at: None,
            used: Some(1),
            reserved: 1,
            limit: Some(100),
            resets_at: "2026-12-01T00:00:00Z".parse().unwrap(),
            as_of: None,
            complete_until: None,
            admitted_at: None,
        }
    }

    /// The same with its run.
    pub(crate) fn entry(id: usize) -> Entry {
        let tenant = TenantId::parse("north").unwrap();
        let key = RunKey::of(&tenant, &id.to_string());
        let request = Request { tenant, key, workflow: None, mode: None };
        Entry::of(&request, verdict(), "2026-11-24T12:00:00Z".parse().unwrap())
    }
}
