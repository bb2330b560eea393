//! What questions have in common: whom they are about, and how fresh an answer from the roll-ups is.

use catalog::{Tenant, store::CatalogError};
use jiff::Timestamp;
use messaging::{ask::Refusal, consume::chain};
use metering::{TenantId, Timeline};
use proto::required_instant;
use sqlx::{PgConnection, PgPool};

use crate::store;

/// The tenant that a question is about.
pub(crate) struct Asked {
    pub(crate) number: i32,
    pub(crate) tenant: Tenant,
    /// Which calendar cuts its periods from when.
    pub(crate) timeline: Timeline,
}

impl Asked {
    /// Reads the timeline again, for what must hold until the transaction ends. The caller holds the tenant.
    pub(crate) async fn refresh(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Some(timeline) = store::timeline(connection, self.number).await? {
            self.timeline = timeline;
        }
        Ok(())
    }

    /// The start of the tenant's period that is asked about: the one that holds an instant, or begins at one.
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

/// Finds the tenant of a question.
pub(crate) async fn tenant(pool: &PgPool, id: &str) -> Result<Asked, Refusal> {
    let id = TenantId::parse(id).map_err(Refusal::invalid)?;
    let unknown = || Refusal::not_found(format!("there is no tenant {id}"));
    let number = store::tenant_number(pool, &id).await?.ok_or_else(unknown)?;
    let tenant: Option<Tenant> = catalog::store::find(pool, id.as_str()).await.map_err(no_catalog)?;
    let tenant = tenant.ok_or_else(unknown)?;
    let timeline = store::timeline(pool, number).await?;
    let timeline = timeline.unwrap_or_else(|| Timeline::new(tenant.calendar.clone()));
    Ok(Asked { number, tenant, timeline })
}

/// The number of the workflow that a question is about; nothing where it is about all of them.
pub(crate) async fn workflow(
    pool: &PgPool,
    source_id: &str,
    workflow_id: &str,
) -> Result<Option<i32>, Refusal> {
    if source_id.is_empty() && workflow_id.is_empty() {
        return Ok(None);
    }
    if source_id.is_empty() || workflow_id.is_empty() {
        return Err(Refusal::invalid("a workflow is named by its source and its id there: give both"));
    }
    match store::workflow_number(pool, source_id, workflow_id).await? {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::not_found(format!("no workflow {workflow_id} of source {source_id} has run"))),
    }
}

/// Until when the roll-ups have everything that was counted.
pub(crate) async fn as_of(pool: &PgPool, now: Timestamp) -> Result<Timestamp, Refusal> {
    Ok(store::waiting_since(pool).await?.map_or(now, |since| since.min(now)))
}

/// The catalog's copy cannot be read.
pub(crate) fn no_catalog(error: CatalogError) -> Refusal {
    tracing::warn!(error = chain(&error), "the catalog could not be read for a question");
    Refusal::unavailable("the catalog cannot be read; ask again")
}
