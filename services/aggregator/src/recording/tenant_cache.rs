//! A worker's cache of tenants and plans, valid until the catalog changes.

use std::sync::Arc;

use catalog::{Entry, Plan, Tenant, store::CatalogError};
use foldhash::HashMap;
use metering::{TenantId, Timeline};
use sqlx::PgConnection;

use crate::store::{self, Dated};

/// A tenant with its plan.
#[derive(Debug)]
pub(crate) struct TenantTerms {
    pub(crate) number: i32,
    pub(crate) tenant: Tenant,
    /// Which calendar applies to its periods from when.
    pub(crate) timeline: Timeline,
    /// The version of that timeline: a newer one may have been set since.
    pub(crate) calendar_version: i32,
    /// `None` if the catalog does not have it (yet).
    pub(crate) plan: Option<Plan>,
}

/// Tenants and plans.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    version: Option<i64>,
    cards: HashMap<TenantId, Option<Arc<TenantTerms>>>,
}

impl Directory {
    /// Loads these tenants, and drops everything cached before if the catalog has changed. The caller holds
    /// the locks of the sources that the tenants follow from, so a change of those has been seen or comes
    /// later.
    pub(crate) async fn load(
        &mut self,
        connection: &mut PgConnection,
        tenants: Vec<TenantId>,
    ) -> Result<(), CatalogError> {
        let version = store::catalog_version(connection).await?;
        if self.version != Some(version) {
            self.cards.clear();
            self.version = Some(version);
        }
        let missing: Vec<TenantId> =
            tenants.into_iter().filter(|tenant| !self.cards.contains_key(tenant)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let numbers = store::tenant_numbers(connection, &missing).await?;
        let ids: Vec<&str> = missing.iter().map(TenantId::as_str).collect();
        let mut found: Vec<Tenant> = catalog::store::find_all(&mut *connection, &ids).await?;
        // Executions from before an archived tenant's removal may still arrive, and count.
        let archived = catalog::store::find_all_archived(&mut *connection, &ids).await?;
        found.extend(archived.into_iter().map(|archived| archived.tenant));
        let plan_ids: Vec<&str> = found.iter().map(|tenant| tenant.plan.as_str()).collect();
        let plans: Vec<Plan> = catalog::store::find_all(&mut *connection, &plan_ids).await?;
        let of_found: Vec<i32> = numbers.values().copied().collect();
        let mut timelines = store::timelines(&mut *connection, &of_found).await?;
        let plans: HashMap<&str, &Plan> = plans.iter().map(|plan| (plan.id(), plan)).collect();
        self.cards.extend(missing.into_iter().map(|tenant| (tenant, None)));
        for tenant in found {
            let Some(number) = numbers.get(tenant.id.as_str()).copied() else { continue };
            let plan = plans.get(tenant.plan.as_str()).map(|plan| (*plan).clone());
            let Dated { version, timeline } = timelines
                .remove(&number)
                .unwrap_or_else(|| Dated { version: 0, timeline: Timeline::new(tenant.calendar.clone()) });
            let id = tenant.id.clone();
            let terms_of_tenant = TenantTerms { number, tenant, timeline, calendar_version: version, plan };
            self.cards.insert(id, Some(Arc::new(terms_of_tenant)));
        }
        Ok(())
    }

    /// The tenant, if the catalog has it. It must have been loaded.
    pub(crate) fn terms_of_tenant(&self, tenant: &TenantId) -> Option<&Arc<TenantTerms>> {
        self.cards.get(tenant)?.as_ref()
    }
}
