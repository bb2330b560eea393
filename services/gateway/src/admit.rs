//! The limit check: decides on a run and reserves it, in one transaction that holds the tenant's ledger.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use catalog::{Plan, Tenant, store::CatalogError};
use jiff::Timestamp;
use metering::{Clock, Mode, Status, TenantId, WorkflowId};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;

use crate::{
    admission::{Decision, Known, Reason, Terms, decide},
    store::{self, admissions::Entry},
    usage::UsageView,
    wording::{Figures, sentence},
};

/// Requests of one tenant wait for each other in memory, so that they hold one database connection together
/// instead of all of them. Tenants that share a lane wait a little longer, nothing else.
const LANES: usize = 64;

/// A run that wants to start.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose it is.
    pub tenant: TenantId,
    /// The caller's id of it.
    pub id: String,
    /// Which workflow.
    pub workflow: Option<WorkflowId>,
    /// What starts it; taken as a counted mode if missing.
    pub mode: Option<Mode>,
}

/// The verdict, with the figures behind it.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Whether the run may start.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Why, for a person.
    pub message: String,
    /// Executions that stand against the limit, this one included where it was reserved.
    pub used: Option<u64>,
    /// Runs allowed and not yet counted, this one included where it was reserved.
    pub reserved: u64,
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// The end of the period.
    pub resets_at: Timestamp,
    /// When the figures were read.
    pub as_of: Option<Timestamp>,
    /// All sources were counted up to here.
    pub complete_until: Option<Timestamp>,
}

/// The limit check cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The tenant or its plan cannot be read.
    #[error("cannot read the tenant and its plan")]
    Terms(#[from] CatalogError),
    /// The ledger cannot be read or written.
    #[error("cannot use the ledger of admissions")]
    Ledger(#[source] sqlx::Error),
    /// The ledger holds a reason that this version does not know.
    #[error("the ledger holds the unknown reason {0:?}")]
    UnknownReason(String),
}

/// Decides on runs.
pub struct Admissions {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    usage: Arc<UsageView>,
    stale_after: Duration,
    lanes: [Mutex<()>; LANES],
}

impl Admissions {
    /// A check against `usage` and the ledger in `pool`.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, usage: Arc<UsageView>, stale_after: Duration) -> Self {
        Self { pool, clock, usage, stale_after, lanes: std::array::from_fn(|_| Mutex::new(())) }
    }

    /// Decides on a run and reserves it where it is allowed. The same id gets the same answer. Nothing for an
    /// unknown tenant.
    pub async fn admit(&self, request: &Request) -> Result<Option<Verdict>, AdmitError> {
        let Some((tenant, plan)) = self.terms(&request.tenant).await? else { return Ok(None) };
        // Success stands for all that a run may become: what counts at best is reserved.
        if request.mode.is_some_and(|mode| !plan.counting.counts(mode, Status::Success)) {
            let mut verdict = self.look_at(&tenant, &plan).await?;
            verdict.decided(&tenant, Decision { allowed: true, reason: Reason::NotCounted });
            return Ok(Some(verdict));
        }
        let _turn = self.lane(&request.tenant).lock().await;
        let mut transaction = self.pool.begin().await.map_err(AdmitError::Ledger)?;
        store::admissions::lock(&mut transaction, &request.tenant).await.map_err(AdmitError::Ledger)?;
        // Read again under the lock: a limit that was changed meanwhile holds.
        let Some((tenant, plan)) = terms(&mut transaction, &request.tenant).await? else { return Ok(None) };
        let given = store::admissions::find(&mut *transaction, &request.tenant, &request.id)
            .await
            .map_err(AdmitError::Ledger)?;
        if let Some(entry) = given {
            return verdict_of(&tenant, entry).map(Some);
        }
        let now = self.clock.now();
        let mut verdict = self.decide(&mut transaction, now, &tenant, &plan).await?;
        if verdict.allowed {
            verdict.reserved += 1;
            verdict.used = verdict.used.map(|used| used.saturating_add(1));
            verdict.word(&tenant);
        }
        let mode = request.mode.map(Mode::as_str);
        let workflow = request.workflow.as_ref().map(WorkflowId::as_str);
        let entry = verdict.entry(&request.id, now);
        store::admissions::insert(&mut *transaction, &request.tenant, workflow, mode, &entry)
            .await
            .map_err(AdmitError::Ledger)?;
        transaction.commit().await.map_err(AdmitError::Ledger)?;
        Ok(Some(verdict))
    }

    /// What a run would be told now. Reserves nothing. Nothing for an unknown tenant.
    pub async fn look(&self, tenant: &TenantId) -> Result<Option<Verdict>, AdmitError> {
        match self.terms(tenant).await? {
            Some((tenant, plan)) => self.look_at(&tenant, &plan).await.map(Some),
            None => Ok(None),
        }
    }

    async fn look_at(&self, tenant: &Tenant, plan: &Plan) -> Result<Verdict, AdmitError> {
        let mut connection = self.pool.acquire().await.map_err(AdmitError::Ledger)?;
        self.decide(&mut connection, self.clock.now(), tenant, plan).await
    }

    async fn terms(&self, tenant: &TenantId) -> Result<Option<(Tenant, Plan)>, AdmitError> {
        let mut connection = self.pool.acquire().await.map_err(AdmitError::Ledger)?;
        terms(&mut connection, tenant).await
    }

    async fn decide(
        &self,
        connection: &mut PgConnection,
        now: Timestamp,
        tenant: &Tenant,
        plan: &Plan,
    ) -> Result<Verdict, AdmitError> {
        let counted = self.usage.of(&tenant.id);
        let known = Known::at(now, counted.as_deref(), &tenant.calendar, self.stale_after);
        let reserved = store::admissions::count_reserved(connection, &tenant.id, known.reserved_since)
            .await
            .map_err(AdmitError::Ledger)?;
        let limit = plan.limit_for(tenant, now);
        let terms = Terms { limit, kind: plan.limit_kind, outage_rule: plan.outage_rule };
        let mut verdict = Verdict {
            allowed: false,
            reason: Reason::MeteringStale,
            message: String::new(),
            used: known.used(reserved),
            reserved,
            limit,
            resets_at: known.period.end,
            as_of: known.as_of,
            complete_until: known.complete_until,
        };
        verdict.decided(tenant, decide(&terms, &known, reserved));
        Ok(verdict)
    }

    fn lane(&self, tenant: &TenantId) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        tenant.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        &self.lanes[lane]
    }
}

impl Verdict {
    fn decided(&mut self, tenant: &Tenant, decision: Decision) {
        self.allowed = decision.allowed;
        self.reason = decision.reason;
        self.word(tenant);
    }

    fn word(&mut self, tenant: &Tenant) {
        let figures =
            Figures { allowed: self.allowed, used: self.used, limit: self.limit, resets_at: self.resets_at };
        self.message = sentence(tenant.language, self.reason, figures);
    }

    fn entry(&self, id: &str, now: Timestamp) -> Entry {
        Entry {
            id: id.to_owned(),
            admitted_at: now,
            allowed: self.allowed,
            reason: self.reason.as_str().to_owned(),
            used: self.used,
            reserved: self.reserved,
            limit: self.limit,
            resets_at: self.resets_at,
            as_of: self.as_of,
            complete_until: self.complete_until,
        }
    }
}

fn verdict_of(tenant: &Tenant, entry: Entry) -> Result<Verdict, AdmitError> {
    let reason = Reason::parse(&entry.reason).ok_or(AdmitError::UnknownReason(entry.reason))?;
    let mut verdict = Verdict {
        allowed: entry.allowed,
        reason,
        message: String::new(),
        used: entry.used,
        reserved: entry.reserved,
        limit: entry.limit,
        resets_at: entry.resets_at,
        as_of: entry.as_of,
        complete_until: entry.complete_until,
    };
    verdict.word(tenant);
    Ok(verdict)
}

/// The tenant and its plan, from the database each time: a raised limit holds at once, on every replica.
async fn terms(
    connection: &mut PgConnection,
    tenant: &TenantId,
) -> Result<Option<(Tenant, Plan)>, AdmitError> {
    let Some(tenant) = catalog::store::find::<Tenant>(&mut *connection, tenant.as_str()).await? else {
        return Ok(None);
    };
    let plan = catalog::store::find::<Plan>(connection, tenant.plan.as_str()).await?;
    Ok(plan.map(|plan| (tenant, plan)))
}
