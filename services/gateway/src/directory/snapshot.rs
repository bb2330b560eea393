//! The catalog in memory, for answers that need all of it. Reloaded from the database on the first read after
//! a change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use catalog::{Plan, Source, Tenant, store::CatalogError};
use metering::{PlanId, SourceId, TenantId};
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::{directory::pairs, store::originals};

/// A consistent state of the catalog.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By id.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// By id.
    pub plans: HashMap<PlanId, Plan>,
    /// Each tenant's sources, by id.
    pub sources: HashMap<TenantId, Vec<Source>>,
    /// Each source, by its own id.
    pub sources_by_id: HashMap<SourceId, Source>,
    /// Sources that collect the same n8n, each with the others.
    pub same_address: HashMap<SourceId, Vec<String>>,
    /// Tenants that share a Stripe customer without `shared_customer`, each with the others.
    pub same_customer: HashMap<TenantId, Vec<String>>,
}

impl Snapshot {
    /// A tenant and its plan.
    pub fn terms(&self, tenant: &TenantId) -> Option<(&Tenant, &Plan)> {
        let tenant = self.tenants.get(tenant)?;
        Some((tenant, self.plans.get(&tenant.plan)?))
    }

    /// A tenant's sources.
    pub fn sources_of(&self, tenant: &TenantId) -> &[Source] {
        self.sources.get(tenant).map(Vec::as_slice).unwrap_or_default()
    }

    /// The tenants whose executions a source may run.
    pub fn tenants_of(&self, source: &SourceId) -> impl Iterator<Item = &TenantId> {
        let owners =
            self.sources.iter().filter(|(_, sources)| sources.iter().any(|known| known.id == *source));
        owners.map(|(tenant, _)| tenant)
    }
}

/// The catalog in memory.
pub struct Directory {
    pool: PgPool,
    /// How many changes were announced.
    changes: AtomicU64,
    /// How many of them `current` includes for certain.
    loaded: AtomicU64,
    current: RwLock<Arc<Snapshot>>,
    /// Held while the catalog is read: concurrent readers wait for it.
    loading: Mutex<()>,
}

impl Directory {
    /// A directory of `pool`'s catalog, not loaded yet.
    pub fn new(pool: PgPool) -> Self {
        let (changes, loaded) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { pool, changes, loaded, current: RwLock::default(), loading: Mutex::default() }
    }

    /// The catalog has changed: the next read reloads it.
    pub fn invalidate(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The catalog, no older than the last [`Self::invalidate`].
    pub async fn current(&self) -> Result<Arc<Snapshot>, CatalogError> {
        if !self.is_current() {
            // Boxed: it is rare, and otherwise every request would carry its future.
            Box::pin(self.reload()).await?;
        }
        Ok(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn reload(&self) -> Result<(), CatalogError> {
        let _loading = self.loading.lock().await;
        if !self.is_current() {
            // Loaded before reading: a change that comes meanwhile makes the next read reload.
            let changes = self.changes.load(Ordering::Acquire);
            let snapshot = Arc::new(load(&self.pool).await?);
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
            self.loaded.store(changes, Ordering::Release);
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        self.loaded.load(Ordering::Acquire) == self.changes.load(Ordering::Acquire)
    }
}

async fn load(pool: &PgPool) -> Result<Snapshot, CatalogError> {
    let mut transaction = pool.begin().await?;
    originals::snapshot(&mut transaction).await?;
    let tenants = catalog::store::list::<Tenant>(&mut *transaction).await?;
    let plans = catalog::store::list::<Plan>(&mut *transaction).await?;
    let sources = catalog::store::list::<Source>(&mut *transaction).await?;
    transaction.commit().await?;
    let mut by_tenant: HashMap<TenantId, Vec<Source>> = HashMap::new();
    for source in &sources {
        for tenant in source.tenants() {
            by_tenant.entry(tenant.clone()).or_default().push(source.clone());
        }
    }
    let tenants = tenants.into_iter().map(|tenant| (tenant.id.clone(), tenant)).collect();
    Ok(Snapshot {
        same_address: pairs::same_address(&sources),
        same_customer: pairs::same_customer(&tenants),
        tenants,
        plans: plans.into_iter().map(|plan| (plan.id.clone(), plan)).collect(),
        sources: by_tenant,
        sources_by_id: sources.into_iter().map(|source| (source.id.clone(), source)).collect(),
    })
}
