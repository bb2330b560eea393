//! Keeps a service's copy of the catalog up to date.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use messaging::{Delivery, Dispose, Disposition, Handler};
use prost::Message;
use proto::{
    subjects::CatalogKind,
    v1::{self, catalog_entry},
};
use sqlx::{PgConnection, PgPool};

use crate::{
    Entry, InvalidEntry, Plan, Source, Tenant,
    store::{self, CatalogError, Stored},
};

/// A value that has changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// A tenant is new or different.
    Tenant(Tenant),
    /// A plan is new or different.
    Plan(Plan),
    /// A source is new or different.
    Source(Source),
    /// A value was removed.
    Removed {
        /// Tenant, plan or source.
        kind: CatalogKind,
        /// Its id.
        id: String,
    },
}

/// What a service does, in the same transaction, when a value changes.
#[async_trait]
pub trait OnChange: Send + Sync + 'static {
    /// Called once per change, after the copy holds it.
    async fn changed(&self, connection: &mut PgConnection, change: &Change) -> Result<(), CatalogError>;

    /// The same, with the instant at which the value changed, if the message has it. For services that need
    /// to know since when a value applies.
    async fn changed_at(
        &self,
        connection: &mut PgConnection,
        change: &Change,
        _occurred_at: Option<Timestamp>,
    ) -> Result<(), CatalogError> {
        self.changed(connection, change).await
    }
}

/// For services that only read their copy.
#[async_trait]
impl OnChange for () {
    async fn changed(&self, _: &mut PgConnection, _: &Change) -> Result<(), CatalogError> {
        Ok(())
    }
}

/// Applies catalog messages to the copy.
pub struct Mirror<L> {
    pool: PgPool,
    listener: Arc<L>,
}

/// A catalog message cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The value is invalid.
    #[error("the value is invalid")]
    Invalid(#[from] InvalidEntry),
    /// The copy cannot be written.
    #[error("cannot store the value")]
    Catalog(#[from] CatalogError),
}

impl From<sqlx::Error> for MirrorError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Dispose for MirrorError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Invalid(_) => Disposition::DeadLetter,
            Self::Catalog(error) => error.disposition(),
        }
    }
}

impl<L: OnChange> Mirror<L> {
    /// A mirror into `pool`'s schema.
    pub fn new(pool: PgPool, listener: Arc<L>) -> Self {
        Self { pool, listener }
    }
}

#[async_trait]
impl<L: OnChange> Handler for Mirror<L> {
    type Message = v1::CatalogEntry;
    type Error = MirrorError;

    async fn handle(&self, delivery: Delivery<v1::CatalogEntry>) -> Result<(), MirrorError> {
        self.apply(delivery.message, delivery.occurred_at).await
    }
}

impl<L: OnChange> Mirror<L> {
    /// Applies a message: the copy and what follows from it, in one transaction. Changes of a service are applied one after
    /// the other by all its replicas, so that each sees those before it: if a tenant and its plan were applied at the same
    /// moment, neither would see the other, and what needs both would never happen.
    ///
    /// # Errors
    ///
    /// The value is invalid, or the copy cannot be written; then nothing has changed.
    pub async fn apply(
        &self,
        message: v1::CatalogEntry,
        occurred_at: Option<Timestamp>,
    ) -> Result<(), MirrorError> {
        let (stored, change) = read(message)?;
        let mut transaction = self.pool.begin().await?;
        store::hold_changes(&mut transaction).await?;
        if store::put(&mut *transaction, &stored).await? {
            self.listener.changed_at(&mut transaction, &change, occurred_at).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// A received value in the form in which it is stored; fails if it is invalid.
pub fn stored(message: &v1::CatalogEntry) -> Result<Stored, InvalidEntry> {
    read(message.clone()).map(|(stored, _)| stored)
}

fn read(message: v1::CatalogEntry) -> Result<(Stored, Change), InvalidEntry> {
    match message.entry.ok_or(InvalidEntry::field("entry", "is missing"))? {
        catalog_entry::Entry::Tenant(wire) => {
            let (id, revision, removed) = (wire.tenant_id.clone(), wire.revision, wire.removed);
            read_as(wire, id, revision, removed, Change::Tenant)
        }
        catalog_entry::Entry::Plan(wire) => {
            let (id, revision, removed) = (wire.plan_id.clone(), wire.revision, wire.removed);
            read_as(wire, id, revision, removed, Change::Plan)
        }
        catalog_entry::Entry::Source(wire) => {
            let (id, revision, removed) = (wire.source_id.clone(), wire.revision, wire.removed);
            read_as(wire, id, revision, removed, Change::Source)
        }
    }
}

fn read_as<E: Entry>(
    wire: E::Wire,
    id: String,
    revision: u64,
    removed: bool,
    change: impl FnOnce(E) -> Change,
) -> Result<(Stored, Change), InvalidEntry> {
    let stored = Stored { kind: E::KIND, id: id.clone(), revision, removed, value: wire.encode_to_vec() };
    let change = if removed { Change::Removed { kind: E::KIND, id } } else { change(E::from_wire(wire)?) };
    Ok((stored, change))
}
