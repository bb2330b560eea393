//! Reconciles the catalog in the database with its stream on the broker, after either was restored or
//! recreated.
//!
//! Every other service acts on the catalog's stream, and takes a value only if its revision is larger than
//! the one it knows. The two can diverge in two ways:
//!
//! - The gateway's database was restored: its revisions have fallen back, so that all other services would
//!   ignore its next changes. A value with a larger revision in the stream was decided here after the backup,
//!   and is what the others act on: it is taken over, under a revision above that (ADR 0018).
//! - The broker was recreated or restored: the stream lacks values, or holds older ones. They are published
//!   again.
//!
//! Runs before the first change is accepted, and again whenever the stream was replaced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::jetstream;
use catalog::{CatalogKind, Entry, InvalidEntry, Tenant, store::Stored};
use futures_util::StreamExt;
use messaging::{Bus, LifeError, Outgoing, error_chain, outbox};
use metering::Clock;
use prost::Message;
use proto::{
    consumers,
    streams::Stream,
    v1::{self, CatalogEntry},
};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    directory::snapshot::Directory,
    store::{originals, tokens},
};

/// The topic with all values.
const TOPIC: &str = "catalog";

/// If an announced message does not arrive within this time, reading fails and starts again.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The database and the stream cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum RestateError {
    /// The stream does not exist, or the broker does not answer.
    #[error(transparent)]
    Stream(#[from] LifeError),
    /// The stream cannot be opened.
    #[error("cannot open the catalog's stream")]
    Open(#[source] jetstream::context::GetStreamError),
    /// The stream cannot be read.
    #[error("cannot read the catalog's stream")]
    Create(#[source] jetstream::stream::ConsumerError),
    /// The stream cannot be read.
    #[error("cannot read the catalog's stream")]
    Subscribe(#[source] jetstream::consumer::StreamError),
    /// The stream could not be read to its end.
    #[error("cannot read the catalog's stream to its end")]
    Broke,
    /// The database failed.
    #[error("cannot compare the catalog with its stream")]
    Database(#[from] sqlx::Error),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restated {
    /// Values that the database had lost.
    pub taken_over: u64,
    /// Values that the stream had lost, or held in an older state.
    pub published: u64,
}

/// Compares the two catalogs.
pub struct Restate {
    /// The originals.
    pub pool: PgPool,
    /// The copy that the others read.
    pub bus: Bus,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Invalidated after changes.
    pub directory: Arc<Directory>,
}

type Key = (CatalogKind, String);

impl Restate {
    /// Until `shutdown`, checks whether the stream was replaced.
    pub async fn run(self, shutdown: CancellationToken) {
        let failure = "cannot compare the catalog with its stream, retrying";
        chassis::on_replaced(&self.bus, Stream::Catalog, failure, shutdown, || self.once()).await;
    }

    /// Compares once and corrects all differences.
    pub async fn once(&self) -> Result<Restated, RestateError> {
        let held = self.read_stream().await?;
        let mut transaction = self.pool.begin().await?;
        originals::lock(&mut transaction).await?;
        let pending = outbox::pending_subjects(&mut transaction).await?;
        let stored = originals::all(&mut transaction).await?;
        let mut restated = Restated::default();
        let mut messages = Vec::new();
        for (key, (on_stream, entry)) in &held {
            let ours = stored.get(key);
            let lost = ours.is_none_or(|ours| ours.revision < on_stream.revision);
            // Two values with one revision: from before the database was restored, and from after.
            let clash = ours.is_some_and(|ours| {
                // Both as this version encodes them: another version may have written other bytes.
                let same = entry_of(key.0, &ours.value).and_then(stored_of);
                ours.revision == on_stream.revision
                    && same.is_ok_and(|(ours, _)| ours.value != on_stream.value)
            });
            if !lost && !clash {
                continue;
            }
            let revision = on_stream.revision + 1;
            let wanted = match ours.filter(|_| clash) {
                Some(ours) => entry_of(key.0, &ours.value),
                None => Ok(entry.clone()),
            };
            let Ok((stored, entry)) = wanted.and_then(|entry| stored_of(with_revision(entry, revision)))
            else {
                tracing::warn!(
                    kind = key.0.as_str(),
                    id = key.1,
                    "cannot read a catalog value, leaving it as it is"
                );
                continue;
            };
            catalog::store::put(&mut *transaction, &stored).await?;
            if lost && stored.removed && stored.kind == Tenant::KIND {
                tokens::revoke_all_of(&mut *transaction, &key.1, self.clock.now()).await?;
            }
            restated.taken_over += u64::from(lost);
            restated.published += u64::from(clash);
            messages.push(self.message(key, revision, &entry));
        }
        for (key, ours) in &stored {
            let behind = held.get(key).is_none_or(|(on_stream, _)| on_stream.revision < ours.revision);
            let subject = self.bus.namespace().catalog(key.0, &key.1);
            if !behind || pending.contains(&subject) {
                continue;
            }
            match entry_of(key.0, &ours.value) {
                Ok(entry) => messages.push(self.message(key, ours.revision, &entry)),
                Err(_) => tracing::warn!(
                    kind = key.0.as_str(),
                    id = key.1,
                    "cannot read a catalog value, not publishing it"
                ),
            }
            restated.published += 1;
        }
        outbox::enqueue(&mut transaction, &messages).await?;
        transaction.commit().await?;
        if restated != Restated::default() {
            self.directory.invalidate();
            let Restated { taken_over, published } = restated;
            tracing::warn!(
                taken_over,
                published,
                "the catalog and its stream had diverged and were reconciled"
            );
        }
        Ok(restated)
    }

    fn message(&self, (kind, id): &Key, revision: u64, entry: &CatalogEntry) -> Outgoing {
        let subject = self.bus.namespace().catalog(*kind, id);
        let message_id = format!("catalog:{}:{id}:{revision}", kind.as_str());
        Outgoing::new(subject, message_id, entry, self.clock.now())
    }

    /// The last value of each id in the stream.
    async fn read_stream(&self) -> Result<BTreeMap<Key, (Stored, CatalogEntry)>, RestateError> {
        let namespace = self.bus.namespace();
        let stream = self.bus.jetstream().get_stream_no_info(Stream::Catalog.name(namespace)).await;
        let stream = stream.map_err(RestateError::Open)?;
        let reader = stream.create_consumer(consumers::live(namespace, TOPIC)).await;
        let reader = reader.map_err(RestateError::Create)?;
        let mut left = reader.cached_info().num_pending;
        let mut messages = reader.messages().await.map_err(RestateError::Subscribe)?;
        let mut held = BTreeMap::new();
        while left > 0 {
            let next = timeout(READ_TIMEOUT, messages.next()).await.ok().flatten();
            let Some(Ok(message)) = next else { return Err(RestateError::Broke) };
            left = message.info().map(|info| info.pending).unwrap_or_default();
            let read = CatalogEntry::decode(message.payload.clone())
                .map_err(|_| InvalidEntry::field("entry", "is not a catalog entry"))
                .and_then(stored_of);
            match read {
                Ok((stored, entry)) => drop(held.insert((stored.kind, stored.id.clone()), (stored, entry))),
                Err(error) => {
                    tracing::warn!(subject = %message.subject, error = error_chain(&error), "skipped an unreadable message");
                }
            }
        }
        Ok(held)
    }
}

/// The stored form of a catalog message.
fn stored_of(entry: CatalogEntry) -> Result<(Stored, CatalogEntry), InvalidEntry> {
    catalog::stored(&entry).map(|stored| (stored, entry))
}

/// The catalog message of a stored value.
fn entry_of(kind: CatalogKind, value: &[u8]) -> Result<CatalogEntry, InvalidEntry> {
    use v1::catalog_entry::Entry as Of;
    let entry = match kind {
        CatalogKind::Tenant => v1::Tenant::decode(value).map(Of::Tenant),
        CatalogKind::Plan => v1::Plan::decode(value).map(Of::Plan),
        CatalogKind::Source => v1::Source::decode(value).map(Of::Source),
    };
    let entry = entry
        .map_err(|error| InvalidEntry::Undecodable { kind: kind.as_str(), reason: error.to_string() })?;
    Ok(CatalogEntry { entry: Some(entry) })
}

fn with_revision(mut entry: CatalogEntry, revision: u64) -> CatalogEntry {
    use v1::catalog_entry::Entry as Of;
    match &mut entry.entry {
        Some(Of::Tenant(tenant)) => tenant.revision = revision,
        Some(Of::Plan(plan)) => plan.revision = revision,
        Some(Of::Source(source)) => source.revision = revision,
        None => {}
    }
    entry
}
