//! The limit check: decides a run from a lease in memory if there is one, otherwise in the ledger.
//!
//! # Repeated ids
//!
//! A repeated id gets the same answer: from the same replica at once, from memory; from another one once the
//! verdict is stored, at most [`WRITE_DELAY`](super::verdict::WRITE_DELAY) and one or two transactions after the answer. A replica that
//! was not the only one to decide for the tenant in the last [`REPEAT_HORIZON`](super::verdict::REPEAT_HORIZON) looks ids up before it spends
//! a unit (`id_lookup`: many in one statement, without a lock); it learns within [`CONTACT_INTERVAL`] that
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

use catalog::{Plan, Tenant};
use chassis::Rounds;
use futures_util::{StreamExt, stream};
use messaging::error_chain;
use metering::{Clock, Mode, Status, TenantId};
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
        decision::{Decision, LimitState, Reason, Terms},
        id_lookup::Lookups,
        lease_size::{CONTACT_AGE_MAX, CONTACT_INTERVAL},
        resources::Resources,
        resweep::Resweeps,
        tenant_lease::{TenantLease, Waiting},
        unwritten::Unwritten,
        verdict::{AdmitError, Request, Verdict},
        verdict_cache::{Memory, VerdictCache},
        write_behind,
    },
    directory::snapshot::{Directory, Snapshot},
    store::{self, write_behind::Entry},
    usage::live::UsageView,
};

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

/// Decides runs.
#[derive(Clone)]
pub struct Admissions {
    pub(crate) resources: Arc<Resources>,
    lookups: Arc<Lookups>,
    leases: Arc<Leases>,
    contact: Arc<Contact>,
}

/// The leases of all tenants that were asked for.
#[derive(Default)]
struct Leases(RwLock<HashMap<TenantId, Arc<TenantLease>>>);

/// Whether this replica has heard from the ledger lately.
struct Contact {
    started_at: Instant,
    /// When the catalog's version was last read, in milliseconds since `started_at`.
    at_ms: AtomicU64,
    version: AtomicI64,
}

/// What memory can answer to a request.
enum Spending {
    /// This verdict.
    Given(Verdict),
    /// The lease holds units, but another replica may have decided this run.
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
        resweeps: Resweeps,
    ) -> Self {
        let resources = Resources {
            pool,
            clock,
            usage,
            directory,
            namespace,
            stale_after,
            replica: Uuid::new_v4(),
            resweeps,
            closing: AtomicBool::new(false),
            unwritten: Unwritten::default(),
            settling: Semaphore::new(SETTLES_MAX),
            cache: VerdictCache::default(),
        };
        let contact =
            Contact { started_at: Instant::now(), at_ms: AtomicU64::new(0), version: AtomicI64::new(0) };
        Self {
            resources: Arc::new(resources),
            lookups: Arc::default(),
            leases: Arc::default(),
            contact: Arc::new(contact),
        }
    }

    /// The tenant's lease in this replica.
    pub(crate) fn lease(&self, tenant: &TenantId) -> Arc<TenantLease> {
        self.leases.of(tenant)
    }

    /// Decides a run under the catalog's terms, and reserves it if it is allowed. The same id gets the same
    /// answer. `None` for an unknown tenant.
    pub async fn admit(
        &self,
        request: Request,
        catalog: &Arc<Snapshot>,
    ) -> Result<Option<Verdict>, AdmitError> {
        let Some((tenant, plan)) = catalog.terms(&request.tenant) else { return Ok(None) };
        self.await_figures(&request.tenant).await;
        // The run's outcome is not known yet: it is reserved if a success would count.
        if !is_counted(request.mode, plan) {
            return Ok(Some(self.not_counted(tenant, plan)));
        }
        self.decide(request, catalog, tenant, plan).await
    }

    /// Just after a start, waits for usage updates of the tenant that the broker keeps.
    pub(crate) async fn await_figures(&self, tenant: &TenantId) {
        let usage = &self.resources.usage;
        if usage.of(tenant).is_none() {
            let patience_ends_at = self.contact.started_at + FIGURES_WITHIN;
            // After a timeout too, the decision uses whatever has arrived.
            let _ = Box::pin(timeout_at(patience_ends_at, usage.wait_until_caught_up())).await;
        }
    }

    async fn decide(
        &self,
        request: Request,
        catalog: &Arc<Snapshot>,
        tenant: &Tenant,
        plan: &Plan,
    ) -> Result<Option<Verdict>, AdmitError> {
        let resources = &self.resources;
        let lease = self.leases.of(&request.tenant);
        let terms = (catalog, tenant, plan);
        match self.spend(&lease, &request, terms, false) {
            Spending::Given(verdict) => return Ok(Some(verdict)),
            Spending::NotHere => {}
            Spending::NotKnown => {
                if let Some(verdict) = Lookups::find(&self.lookups, &resources.pool, request.key).await? {
                    resources.remember(&request, verdict, resources.clock.now());
                    return Ok(Some(verdict));
                }
                if let Spending::Given(verdict) = self.spend(&lease, &request, terms, true) {
                    return Ok(Some(verdict));
                }
            }
        }
        let (answer, answered) = oneshot::channel();
        lease.queue(Waiting { request, answer });
        TenantLease::wake(&lease, resources);
        let verdict = answered.await.map_err(|_| AdmitError::Stopping)?;
        verdict.map_err(AdmitError::Together)
    }

    /// A run that the plan does not count takes no unit; its verdict shows the figures in memory.
    pub(crate) fn not_counted(&self, tenant: &Tenant, plan: &Plan) -> Verdict {
        let now = self.resources.clock.now();
        let known = self.resources.known(tenant, now);
        let reserved = self.leases.of(&tenant.id).reserved(&known);
        let terms = Terms::of(tenant, plan, &known, LimitState::default(), now);
        Verdict::new(&known, &terms, reserved, Decision::allow(Reason::NotCounted))
    }

    /// Until `shutdown`, refreshes leases, keeps the catalog current and stores verdicts; then returns all
    /// units.
    pub async fn keep(self, shutdown: CancellationToken) {
        tokio::join!(
            self.keep_contact(&shutdown),
            self.keep_leases(&shutdown),
            write_behind::run(&self.resources, &shutdown, {
                let leases = self.leases.clone();
                move |entry| leases.of(&entry.tenant).was_known(entry)
            })
        );
        // From here on nothing is spent from memory: every run is decided in the ledger.
        self.resources.closing.store(true, Ordering::SeqCst);
        let was_known = |entry: &Entry| self.leases.of(&entry.tenant).was_known(entry);
        if let Err(error) = write_behind::finish(&self.resources, was_known).await {
            tracing::warn!(
                error = error_chain(&error),
                "cannot store decisions on runs; a repeated request is decided again"
            );
        }
        for lease in self.leases.all() {
            if let Err(error) = TenantLease::give_back(&lease, &self.resources).await {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot return leased units; they stay reserved until the lease expires"
                );
            }
        }
    }

    async fn keep_contact(&self, shutdown: &CancellationToken) {
        let mut rounds = Rounds::new(CONTACT_INTERVAL, shutdown.clone());
        while rounds.next().await {
            if let Err(error) = self.contact().await {
                tracing::warn!(
                    error = error_chain(&error),
                    "admission ledger unavailable; no leased units are spent until it answers"
                );
            }
        }
    }

    /// Refreshes due leases, one after the other unless there are many: all at once they would take every
    /// core from incoming requests.
    async fn keep_leases(&self, shutdown: &CancellationToken) {
        let mut rounds = Rounds::new(LOOK_INTERVAL, shutdown.clone());
        while rounds.next().await {
            let due: Vec<_> = self.leases.all().into_iter().filter(|lease| lease.is_due()).collect();
            let lanes = due.len().div_ceil(LEASES_PER_LANE).clamp(1, SETTLES_MAX);
            stream::iter(due)
                .take_until(shutdown.cancelled())
                .for_each_concurrent(lanes, async |lease| lease.refresh(&self.resources).await)
                .await;
        }
    }

    /// Answers a request from memory: with a verdict given before, or by spending a leased unit. `is_new`
    /// means that the ledger does not know its id.
    fn spend(
        &self,
        lease: &Arc<TenantLease>,
        request: &Request,
        terms: (&Arc<Snapshot>, &Tenant, &Plan),
        is_new: bool,
    ) -> Spending {
        let now = self.resources.clock.now();
        let place = self.resources.cache.place(request.key);
        let forgot_at = match place.memory() {
            Memory::Given(verdict) => return Spending::Given(verdict),
            Memory::Perhaps => Some(now),
            Memory::NotSince(forgot_at) => forgot_at,
        };
        if !self.contact.is_recent() || !lease.has_units() {
            return Spending::NotHere;
        }
        if !is_new && !lease.knows_all(now, forgot_at) {
            return Spending::NotKnown;
        }
        let Some(verdict) = TenantLease::spend(lease, &self.resources, request, terms, now) else {
            return Spending::NotHere;
        };
        place.keep(verdict, now);
        TenantLease::wake(lease, &self.resources);
        Spending::Given(verdict)
    }

    /// Reads the version of the catalog, and which tenants other replicas decide for too.
    async fn contact(&self) -> Result<(), sqlx::Error> {
        let resources = &self.resources;
        let asked_at = self.contact.started_at.elapsed();
        let tenants: Vec<String> = self.leases.all().iter().map(|lease| lease.tenant().to_string()).collect();
        let (version, shared) =
            store::admissions::contact(&resources.pool, resources.replica, &tenants).await?;
        if self.contact.version.swap(version, Ordering::AcqRel) != version {
            resources.directory.invalidate();
        }
        for lease in self.leases.all() {
            if shared.iter().any(|tenant| tenant == lease.tenant().as_str()) {
                lease.share(resources.clock.now());
            }
        }
        let at = u64::try_from(asked_at.as_millis()).unwrap_or(u64::MAX).max(1);
        self.contact.at_ms.store(at, Ordering::Release);
        Ok(())
    }
}

impl Leases {
    /// The tenant's lease.
    fn of(&self, tenant: &TenantId) -> Arc<TenantLease> {
        if let Some(lease) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return lease.clone();
        }
        let mut leases = self.0.write().unwrap_or_else(PoisonError::into_inner);
        leases.entry(tenant.clone()).or_insert_with(|| Arc::new(TenantLease::new(tenant.clone()))).clone()
    }

    fn all(&self) -> Vec<Arc<TenantLease>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Contact {
    /// Whether the catalog in memory is known to be current enough to spend units.
    fn is_recent(&self) -> bool {
        let at = self.at_ms.load(Ordering::Acquire);
        let age = self.started_at.elapsed().saturating_sub(Duration::from_millis(at));
        at > 0 && age < CONTACT_AGE_MAX
    }
}

/// Whether the plan counts runs of the mode, assuming that they succeed.
pub(crate) fn is_counted(mode: Option<Mode>, plan: &Plan) -> bool {
    mode.is_none_or(|mode| plan.counting.counts(mode, Status::Success))
}
