//! What questions have in common: the tenant and workflow they are about, and how fresh the roll-ups are.

use catalog::{ArchivedTenant, Tenant, store::CatalogError};
use jiff::Timestamp;
use messaging::{ask::Refusal, error_chain};
use metering::{TenantId, Timeline};
use proto::required_instant;
use sqlx::{PgConnection, PgPool};

use crate::store;

/// The tenant that a question is about.
pub(crate) struct Asked {
    pub(crate) number: i32,
    pub(crate) tenant: Tenant,
    /// Whether the tenant was removed: its figures can be read and corrected, but no period can be ended.
    pub(crate) archived: bool,
    /// Which calendar applies to its periods from when.
    pub(crate) timeline: Timeline,
}

impl Asked {
    /// The tenant whose figures have changed: its number, the catalog's tenant, and whether it is archived.
    pub(crate) fn changed(&self) -> (i32, &Tenant, bool) {
        (self.number, &self.tenant, self.archived)
    }
}

impl Asked {
    /// Reads the timeline again, so that it stays valid until the transaction ends. The caller holds the
    /// tenant's lock.
    pub(crate) async fn refresh(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Some(timeline) = store::timeline(connection, self.number).await? {
            self.timeline = timeline;
        }
        Ok(())
    }

    /// The name of the time zone of the period that begins at this instant.
    pub(crate) fn zone_at(&self, start: Timestamp) -> String {
        self.timeline.calendar_at(start).time_zone_name().to_owned()
    }

    /// The start of the tenant's period that is asked about: the one that contains `at`, or begins at
    /// `start`.
    pub(crate) fn period_start(
        &self,
        start: Option<&prost_types::Timestamp>,
        at: Option<&prost_types::Timestamp>,
    ) -> Result<Timestamp, Refusal> {
        match at {
            None => required_instant(start, "period_start").map_err(Refusal::invalid),
            Some(_) => {
                let at = required_instant(at, "period_at").map_err(Refusal::invalid)?;
                Ok(self.timeline.period_of(at).start)
            }
        }
    }
}

/// Finds the tenant of a question. An archived one keeps its figures.
pub(crate) async fn tenant(pool: &PgPool, id: &str) -> Result<Asked, Refusal> {
    let id = TenantId::parse(id).map_err(Refusal::invalid)?;
    let unknown = || Refusal::not_found(format!("there is no tenant {id}"));
    let number = store::tenant_number(pool, &id).await?.ok_or_else(unknown)?;
    let tenant: Option<Tenant> = catalog::store::find(pool, id.as_str()).await.map_err(no_catalog)?;
    let (tenant, archived) = match tenant {
        Some(tenant) => (tenant, false),
        None => {
            let archived = catalog::store::find_archived(pool, id.as_str()).await.map_err(no_catalog)?;
            let ArchivedTenant { tenant, .. } = archived.ok_or_else(unknown)?;
            (tenant, true)
        }
    };
    let timeline = store::timeline(pool, number).await?;
    let timeline = timeline.unwrap_or_else(|| Timeline::new(tenant.calendar.clone()));
    Ok(Asked { number, tenant, archived, timeline })
}

/// The number of the workflow that a question is about; `None` if it is about all of them. One that only
/// other tenants have run is as unknown as one that does not exist: an answer must not reveal other tenants'
/// workflows.
pub(crate) async fn workflow(
    pool: &PgPool,
    asked: &Asked,
    source_id: &str,
    workflow_id: &str,
) -> Result<Option<i32>, Refusal> {
    if source_id.is_empty() && workflow_id.is_empty() {
        return Ok(None);
    }
    if source_id.is_empty() || workflow_id.is_empty() {
        return Err(Refusal::invalid("a workflow is named by its source and its id: give both"));
    }
    match store::workflow_number(pool, asked.number, source_id, workflow_id).await? {
        Some(number) => Ok(Some(number)),
        None => {
            let tenant = &asked.tenant.id;
            let reason = format!(
                "no run of workflow {workflow_id} of source {source_id} is known for tenant {tenant}"
            );
            Err(Refusal::not_found(reason))
        }
    }
}

/// The instant up to which the roll-ups have everything that was counted.
pub(crate) async fn as_of(pool: &PgPool, now: Timestamp) -> Result<Timestamp, Refusal> {
    Ok(store::waiting_since(pool).await?.map_or(now, |since| since.min(now)))
}

/// The catalog's copy cannot be read.
pub(crate) fn no_catalog(error: CatalogError) -> Refusal {
    tracing::warn!(error = error_chain(&error), "cannot read the catalog for a question");
    Refusal::unavailable("the catalog cannot be read; ask again")
}
