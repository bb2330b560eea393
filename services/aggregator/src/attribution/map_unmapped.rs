//! Maps executions to tenants that no attribution matched when they were recorded.
//!
//! A change of the source's attributions or of a workflow's tags or project, or a tenant that becomes known,
//! marks the source (`map_again`). Its workflows that have unmapped executions and match something now are
//! then processed page by page, each page in a transaction that locks the source as recording does. Only
//! executions without a tenant are mapped, and their figures change in the same transaction, so each is
//! mapped once. A crash leaves the source marked (`mapping`), and it is processed again from the start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catalog::Placement;
use chassis::Rounds;
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, error_chain};
use metering::{Clock, TenantId, WorkflowId};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    figures::tally::{Decided, Placed},
    recording::{
        error::RecordError,
        known_workflow::Workflow,
        ownership::Ownership,
        tenant_cache::{Directory, TenantTerms},
        write::Figures,
    },
    store::{self, Place},
};

/// Interval for checking for marked sources.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Sources of one round; the rest follow in the next.
const SOURCES_PER_LOOK: i64 = 100;

/// Executions of one transaction: bounds how long recording waits for the source.
const EXECUTIONS_PER_PAGE: i64 = 2_000;

/// Maps.
pub(crate) struct Mapper {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    grace: SignedDuration,
}

impl Mapper {
    /// `grace` is how long an ended period waits for incomplete sources.
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>, grace: SignedDuration) -> Self {
        Self { pool, bus, clock, grace }
    }

    /// Maps until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(LOOK_INTERVAL, shutdown.clone());
        while rounds.next().await {
            if let Err(error) = self.map_marked(&shutdown).await {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot check for unmapped executions; trying again"
                );
            }
        }
    }

    async fn map_marked(&self, shutdown: &CancellationToken) -> Result<(), RecordError> {
        let sources = store::sources_to_map(&self.pool, SOURCES_PER_LOOK).await?;
        if sources.is_empty() {
            return Ok(());
        }
        // One connection of its own for all of it: the turn ends when it closes, even by a crash, and no
        // connection of the pool is held while another is needed.
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        if store::take_mapping_turn(&mut connection).await? {
            self.map_sources(&mut connection, sources, shutdown).await;
        }
        Ok(connection.close().await?)
    }

    async fn map_sources(
        &self,
        connection: &mut PgConnection,
        sources: Vec<i32>,
        shutdown: &CancellationToken,
    ) {
        for source in sources {
            if shutdown.is_cancelled() {
                break;
            }
            // One that cannot be mapped must not hold up those after it.
            if let Err(error) = self.map_source(connection, source, shutdown).await {
                tracing::warn!(
                    source,
                    error = error_chain(&error),
                    "cannot map unmapped executions; trying again"
                );
            }
        }
    }

    async fn map_source(
        &self,
        connection: &mut PgConnection,
        source: i32,
        shutdown: &CancellationToken,
    ) -> Result<(), RecordError> {
        store::begin_mapping(connection, source).await?;
        for (workflow, since) in matching(connection, source).await? {
            let mut from = Place::since(since);
            while let Some(next) = self.map_page(connection, source, &workflow, from).await? {
                if shutdown.is_cancelled() {
                    return Ok(());
                }
                from = next;
            }
        }
        Ok(store::end_mapping(connection, source).await?)
    }

    /// Maps what it can of one page of a workflow. Returns where the next page begins; `None` at the end.
    async fn map_page(
        &self,
        connection: &mut PgConnection,
        source: i32,
        workflow: &WorkflowId,
        from: Place,
    ) -> Result<Option<Place>, RecordError> {
        let now = self.clock.now();
        let mut transaction = connection.begin().await?;
        store::lock_sources(&mut transaction, &[source]).await?;
        let wanted = [(source, workflow.clone())];
        let Some((.., known)) = store::workflows(&mut transaction, &wanted).await?.pop() else {
            return Ok(None);
        };
        let Some((_, ownership)) = store::ownerships(&mut transaction, &[source]).await?.pop() else {
            return Ok(None);
        };
        let confirmed_only = ownership.is_shared();
        let number = known.number;
        let page =
            store::unmapped(&mut transaction, source, number, from, confirmed_only, EXECUTIONS_PER_PAGE)
                .await?;
        let Some(next) = page.last().map(Place::after) else { return Ok(None) };
        let mut directory = Directory::default();
        let tenants: Vec<TenantId> = ownership.tenants().into_iter().cloned().collect();
        directory.load(&mut transaction, tenants).await?;
        let mut cards: BTreeMap<i32, Arc<TenantTerms>> = BTreeMap::new();
        let mut mapped: Vec<Decided> = page
            .into_iter()
            .filter_map(|unmapped| {
                let terms_of_tenant = card_of(&ownership, &directory, workflow, &known, &unmapped)?;
                cards.entry(terms_of_tenant.number).or_insert_with(|| terms_of_tenant.clone());
                Some(given_to(terms_of_tenant, unmapped))
            })
            .collect();
        let figures = Figures { cards, traces: Default::default(), settled: Vec::new(), grace: self.grace };
        figures.add(&mut transaction, &self.bus, &mut mapped, &mut [], now).await?;
        store::map(&mut transaction, &mapped).await?;
        transaction.commit().await?;
        metrics::counter!("flowmeter_executions_mapped_total")
            .increment(u64::try_from(mapped.len()).unwrap_or(0));
        Ok(Some(next))
    }
}

/// The workflows whose unmapped executions may match, each with the instant since which they do. A later
/// change marks the source again.
async fn matching(
    connection: &mut PgConnection,
    source: i32,
) -> Result<Vec<(WorkflowId, Timestamp)>, RecordError> {
    let unmapped = store::workflows_unmapped(connection, source).await?;
    if unmapped.is_empty() {
        return Ok(Vec::new());
    }
    let Some((_, ownership)) = store::ownerships(connection, &[source]).await?.pop() else {
        return Ok(Vec::new());
    };
    let wanted: Vec<(i32, WorkflowId)> = unmapped.into_iter().map(|id| (source, id)).collect();
    let known = store::workflows(connection, &wanted).await?;
    let since = |(_, id, workflow): (i32, WorkflowId, Workflow)| {
        attributed_since(&ownership, &id, &workflow).map(|since| (id, since))
    };
    Ok(known.into_iter().filter_map(since).collect())
}

/// Since when executions of a workflow have a tenant; `None` if none has.
fn attributed_since(ownership: &Ownership, id: &WorkflowId, known: &Workflow) -> Option<Timestamp> {
    match ownership {
        Ownership::Tenant(tenant) => tenant.as_ref().map(|_| Timestamp::MIN),
        Ownership::Catalog(source) => {
            let project = known.project.as_deref();
            source.attributed_since(Placement { workflow: id, tags: &known.tags, project })
        }
    }
}

/// The tenant of an unmapped execution; `None` while no attribution matches, or the catalog lacks the tenant
/// or its plan.
fn card_of<'a>(
    ownership: &Ownership,
    directory: &'a Directory,
    workflow: &WorkflowId,
    known: &Workflow,
    unmapped: &Decided,
) -> Option<&'a Arc<TenantTerms>> {
    let tenant = ownership.tenant_of(workflow, Some(known), unmapped.ended.stopped_at)?;
    directory.terms_of_tenant(tenant).filter(|terms_of_tenant| terms_of_tenant.plan.is_some())
}

fn given_to(terms_of_tenant: &TenantTerms, unmapped: Decided) -> Decided {
    let period = terms_of_tenant.timeline.period_of(unmapped.ended.stopped_at);
    let counts = |plan: &catalog::Plan| plan.counting.counts(unmapped.mode, unmapped.ended.status);
    let counted = terms_of_tenant.plan.as_ref().is_some_and(counts);
    Decided { placed: Some(Placed { tenant: terms_of_tenant.number, period }), counted, ..unmapped }
}
