//! What the parts of the limit check share: connections, the clock, the figures, the catalog, and what was decided.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use catalog::Tenant;
use jiff::Timestamp;
use metering::Clock;
use proto::Namespace;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    admission::{
        known::Known,
        resweep::Resweeps,
        unwritten::Unwritten,
        verdict::{Request, Verdict},
        verdict_cache::VerdictCache,
    },
    directory::snapshot::Directory,
    usage::live::{Counted, UsageView},
};

/// What the limit check works with.
pub(crate) struct Resources {
    pub pool: PgPool,
    pub clock: Arc<dyn Clock>,
    pub usage: Arc<UsageView>,
    pub directory: Arc<Directory>,
    pub namespace: Namespace,
    pub stale_after: Duration,
    /// Identifies this process in the ledger; a restart gets a new id.
    pub replica: Uuid,
    pub resweeps: Resweeps,
    pub closing: AtomicBool,
    pub unwritten: Unwritten,
    /// Places for concurrent ledger transactions.
    pub settling: Semaphore,
    pub cache: VerdictCache,
}

/// How many runs of each slot are counted, from one usage message.
pub(crate) struct Settling(Option<Arc<Counted>>);

impl Settling {
    /// Each slot with its counted executions.
    pub fn slots(&self) -> &[(i64, u64)] {
        self.0.as_ref().map_or(&[], |counted| &counted.settled)
    }
}

impl Resources {
    /// Remembers the verdict on a request.
    pub fn remember(&self, request: &Request, verdict: Verdict, now: Timestamp) {
        self.cache.place(request.key).keep(verdict, now);
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
}
