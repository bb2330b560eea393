//! Live usage over HTTP: `GET /v1/events`, server-sent events. The event `usage` has the same JSON as one
//! element of `GET /v1/usage`. A listener first gets every tenant that it may see, then each change; one that
//! falls behind gets all of them again.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use messaging::{error_chain, follow::Listen};
use metering::{PlanId, SourceId, TenantId};
use proto::{InvalidMessage, v1, v1::catalog_entry};
use tokio::sync::{Notify, broadcast};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    usage::{UsageJson, element, visible},
};
use crate::directory::snapshot::Snapshot;

/// The event's name.
const EVENT: &str = "usage";

/// Makes nginx and similar proxies forward each event at once.
const UNBUFFERED: [(&str, &str); 1] = [("x-accel-buffering", "no")];

/// How many changes a slow listener may fall behind; then it gets all figures again instead of a longer
/// queue.
const BACKLOG_MAX: usize = 1_024;

/// Keeps proxies from closing a quiet stream, and detects listeners that are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A stream ends after this time and the browser opens another, which a revoked token cannot.
const STREAM_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// Changes of one tenant within this time are sent as one.
const COALESCE: Duration = Duration::from_millis(100);

/// One tenant's new element, serialised once for all listeners.
#[derive(Debug, Clone)]
struct Announcement {
    tenant: TenantId,
    for_operator: Arc<str>,
    for_tenant: Arc<str>,
}

/// What has changed since the last announcement. Sets are bounded by the catalog, however often something
/// changes.
#[derive(Debug, Default)]
struct Changed {
    tenants: BTreeSet<TenantId>,
    plans: BTreeSet<PlanId>,
    sources: BTreeSet<SourceId>,
}

impl Changed {
    /// The tenants whose elements have changed.
    fn resolve(self, catalog: &Snapshot) -> BTreeSet<TenantId> {
        let mut tenants = self.tenants;
        tenants.extend(self.sources.iter().flat_map(|source| catalog.tenants_of(source)).cloned());
        if !self.plans.is_empty() {
            let on_plan = catalog.tenants.values().filter(|tenant| self.plans.contains(&tenant.plan));
            tenants.extend(on_plan.map(|tenant| tenant.id.clone()));
        }
        tenants
    }
}

/// Notifies live listeners of tenants that have changed.
pub struct Announcer {
    changed: Mutex<Changed>,
    wake: Notify,
    sender: broadcast::Sender<Announcement>,
}

impl Default for Announcer {
    fn default() -> Self {
        Self { changed: Mutex::default(), wake: Notify::new(), sender: broadcast::Sender::new(BACKLOG_MAX) }
    }
}

impl Announcer {
    fn announce(&self, add: impl FnOnce(&mut Changed) -> bool) {
        if add(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.wake.notify_one();
        }
    }

    /// Notes that a source's shown state has changed.
    pub fn source_changed(&self, source: SourceId) {
        self.announce(|changed| changed.sources.insert(source));
    }

    fn put_back(&self, not_told: Changed) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.tenants.extend(not_told.tenants);
        changed.plans.extend(not_told.plans);
        changed.sources.extend(not_told.sources);
        self.wake.notify_one();
    }

    fn take(&self) -> Changed {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes announcements until shutdown.
pub async fn announce(app: App) {
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = app.announcer.wake.notified() => {}
        }
        if let Err(error) = announce_changed(&app).await {
            tracing::warn!(
                error = error_chain(&error),
                "cannot read the catalog for live listeners, retrying"
            );
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(COALESCE) => {}
        }
    }
}

async fn announce_changed(app: &App) -> Result<(), catalog::store::CatalogError> {
    // Taken before the catalog is read: a change in between is announced again, with the newer catalog.
    let changed = app.announcer.take();
    if app.announcer.sender.receiver_count() == 0 {
        return Ok(());
    }
    let catalog = match app.directory.current().await {
        Ok(catalog) => catalog,
        Err(error) => {
            app.announcer.put_back(changed);
            return Err(error);
        }
    };
    for tenant in changed.resolve(&catalog) {
        if let Some(usage) = element(app, &catalog, &tenant)
            && let Ok(for_operator) = serde_json::to_string(&usage)
            && let Ok(for_tenant) = serde_json::to_string(&usage.for_tenant())
        {
            let (for_operator, for_tenant) = (for_operator.into(), for_tenant.into());
            // Fails only if the last listener has just gone.
            let _ = app.announcer.sender.send(Announcement { tenant, for_operator, for_tenant });
        }
    }
    Ok(())
}

/// Usage as it changes.
#[utoipa::path(get, path = "/v1/events", operation_id = "stream_usage", tag = "usage", responses(
    (status = 200, content_type = "text/event-stream", body = UsageJson,
     description = "Events `usage`; the data of each is one tenant's usage."),
))]
pub async fn stream(State(app): State<App>, caller: Caller) -> Result<impl IntoResponse, ApiError> {
    let place = app.quotas.listeners.enter(caller.who.clone()).await?;
    // Subscribed before the first read: a change in between comes twice rather than never.
    let changes = BroadcastStream::new(app.announcer.sender.subscribe());
    let first = all(&app, &caller).await;
    let shutdown = app.shutdown.clone();
    let changes = changes.then(move |change| {
        let (app, caller) = (app.clone(), caller.clone());
        async move {
            match change {
                Ok(change) if caller.principal.tenant().is_none() => vec![usage_event(&change.for_operator)],
                Ok(change) if caller.principal.may_see(&change.tenant) => {
                    vec![usage_event(&change.for_tenant)]
                }
                Ok(_) => Vec::new(),
                Err(BroadcastStreamRecvError::Lagged(_)) => all(&app, &caller).await,
            }
        }
    });
    let end = async move {
        let _place = place;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(STREAM_AGE_MAX) => {}
        }
    };
    let events =
        stream::once(async move { first }).chain(changes).flat_map(stream::iter).map(Ok::<_, Infallible>);
    let events = Sse::new(events.take_until(Box::pin(end))).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok((UNBUFFERED, events))
}

async fn all(app: &App, caller: &Caller) -> Vec<Event> {
    match app.directory.current().await {
        Ok(catalog) => visible(app, &catalog, caller)
            .iter()
            .filter_map(|usage| serde_json::to_string(usage).ok())
            .map(|json| usage_event(&json))
            .collect(),
        Err(error) => {
            tracing::warn!(
                error = error_chain(&error),
                "cannot read the catalog, a live listener starts without figures"
            );
            Vec::new()
        }
    }
}

fn usage_event(json: &str) -> Event {
    Event::default().event(EVENT).data(json)
}

/// Applies `UsageCounted` to the view.
pub struct UsageListener(pub App);

impl Listen for UsageListener {
    type Message = v1::UsageCounted;

    fn apply_message(&self, message: v1::UsageCounted) -> Result<(), InvalidMessage> {
        let counted = crate::usage::live::Counted::try_from(message)?;
        let tenant = counted.tenant.clone();
        if self.0.usage.apply(counted) {
            self.0.announcer.announce(|changed| changed.tenants.insert(tenant));
        }
        Ok(())
    }

    fn caught_up(&self) {
        self.0.usage.caught_up();
    }
}

/// Applies `SourceSynced` to the view.
pub struct SyncedListener(pub App);

impl Listen for SyncedListener {
    type Message = v1::SourceSynced;

    fn apply_message(&self, message: v1::SourceSynced) -> Result<(), InvalidMessage> {
        let source = self.0.sources.apply_synced(&message)?;
        self.0.announcer.announce(|changed| changed.sources.insert(source));
        Ok(())
    }
}

/// Applies `SourceFailing` to the view.
pub struct FailingListener(pub App);

impl Listen for FailingListener {
    type Message = v1::SourceFailing;

    fn apply_message(&self, message: v1::SourceFailing) -> Result<(), InvalidMessage> {
        let source = self.0.sources.apply_failing(message)?;
        self.0.announcer.announce(|changed| changed.sources.insert(source));
        Ok(())
    }
}

/// Notes changes of the catalog by any replica.
pub struct CatalogListener(pub App);

impl Listen for CatalogListener {
    type Message = v1::CatalogEntry;

    fn apply_message(&self, message: v1::CatalogEntry) -> Result<(), InvalidMessage> {
        self.0.directory.invalidate();
        match message.entry.ok_or(InvalidMessage::Missing("entry"))? {
            catalog_entry::Entry::Tenant(tenant) => {
                let tenant = TenantId::parse(&tenant.tenant_id)?;
                self.0.announcer.announce(|changed| changed.tenants.insert(tenant));
            }
            catalog_entry::Entry::Plan(plan) => {
                let plan = PlanId::parse(&plan.plan_id)?;
                self.0.announcer.announce(|changed| changed.plans.insert(plan));
            }
            catalog_entry::Entry::Source(source) => {
                let source = SourceId::parse(&source.source_id)?;
                self.0.announcer.announce(|changed| changed.sources.insert(source));
            }
        }
        Ok(())
    }
}
