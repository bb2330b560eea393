//! Changes the catalog: the value, its revision and the message that publishes it, in one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{
    ArchivedTenant, Entry, InvalidEntry, Plan, Source, Tenant, is_same_instance,
    store::{CatalogError, Stored},
};
use jiff::Timestamp;
use messaging::{Outgoing, error_chain, outbox};
use metering::{Clock, SourceId, TenantId};
use prost::Message;
use proto::{
    Namespace,
    v1::{self, CatalogEntry, catalog_entry},
};
use sqlx::{PgConnection, PgPool};

use crate::{
    directory::snapshot::Directory,
    store::{self, originals},
};

/// The most values of one kind, so that one answer can list them.
pub const VALUES_MAX: u64 = 10_000;

/// Names listed in a refusal; the rest is given as a number.
const USERS_SHOWN_MAX: usize = 10;

/// A kind of value, with the constraints between it and the others.
#[async_trait]
pub trait Original: Entry + PartialEq + Sync {
    /// Whether the id of a removed value is never reused: what every service stored under it still belongs to
    /// the former value.
    const ID_IS_GIVEN_ONCE: bool = false;

    /// What comes back when a removed value is restored.
    const COMES_BACK: &'static str = "one";

    /// The tombstone in both forms. `former` is the removed value; `None` if it cannot be read.
    fn tombstone(id: &str, revision: u64, former: Option<Self>, now: Timestamp)
    -> (Self::Wire, CatalogEntry);

    /// Fails if the value refers to something that does not exist.
    async fn check_references(&self, connection: &mut PgConnection) -> Result<(), ChangeError>;

    /// Fails if the value conflicts with another of its kind. A conflict that its `present` form already has
    /// is accepted.
    async fn check_others(
        &self,
        _connection: &mut PgConnection,
        _present: Option<&Self>,
    ) -> Result<(), ChangeError> {
        Ok(())
    }

    /// What refers to the value `id`: kind and id of each.
    async fn users(connection: &mut PgConnection, id: &str) -> Result<Vec<String>, ChangeError>;
}

/// A value with its revision.
#[derive(Debug, Clone)]
pub struct Revised<E> {
    /// The value.
    pub value: E,
    /// Its revision.
    pub revision: u64,
}

/// All values of a kind.
#[derive(Debug)]
pub struct Listing<E> {
    /// Those that can be read, by id.
    pub values: Vec<Revised<E>>,
    /// Those that cannot.
    pub damaged: Vec<Damaged>,
}

/// A stored value that cannot be read.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Why the catalog cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The value is not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
    /// Another source collects the same n8n: every execution would count twice.
    #[error(
        "source {0} collects this n8n already, and each execution would count twice; share that source instead: give it \
         attributions by workflow, tag or project"
    )]
    SameInstance(SourceId),
    /// Another tenant has the same customer at Stripe.
    #[error(
        "tenant {0} has this Stripe customer already; to put both on one invoice, set shared_customer on both tenants"
    )]
    SameCustomer(TenantId),
    /// There is no value with this id.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// The kind of value.
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// Something else needs the value.
    #[error("{kind} {id} is used by {users}; change or remove these first")]
    InUse {
        /// The kind of value.
        kind: &'static str,
        /// Its id.
        id: String,
        /// What needs it.
        users: String,
    },
    /// The id belonged to a value that was removed.
    #[error(
        "{kind} {id} was removed, and what was metered under this id stays: use another id, or say that it is the same \
         {same} (`restore=true`, `flowmeter apply --restore {id}`)"
    )]
    Removed {
        /// The kind of value.
        kind: &'static str,
        /// What comes back when it is restored.
        same: &'static str,
        /// Its id.
        id: String,
    },
    /// There are too many values of the kind.
    #[error("there are {VALUES_MAX} values of kind {0}; no more can be added")]
    TooMany(&'static str),
    /// The database cannot be read.
    #[error("cannot read the catalog")]
    Read(#[source] sqlx::Error),
    /// A stored value cannot be used.
    #[error("cannot read the catalog")]
    Catalog(#[from] CatalogError),
    /// The change cannot be written.
    #[error("cannot write the catalog")]
    Write(#[source] sqlx::Error),
}

/// Changes the catalog.
pub struct Editor {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    namespace: Namespace,
    directory: Arc<Directory>,
}

impl Editor {
    /// An editor of the catalog in `pool`; every change invalidates `directory`.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, namespace: Namespace, directory: Arc<Directory>) -> Self {
        Self { pool, clock, namespace, directory }
    }

    /// The value with this id.
    pub async fn find<E: Original>(&self, id: &str) -> Result<Revised<E>, ChangeError> {
        let found = originals::find::<E>(&self.pool, id).await.map_err(ChangeError::Read)?;
        let found = found.filter(|original| !original.removed);
        found.map_or_else(|| Err(not_found::<E>(id)), |original| decode(&original, id))
    }

    /// All values of a kind, by id; damaged ones are listed separately and do not hide the others.
    pub async fn list<E: Original>(&self) -> Result<Listing<E>, ChangeError> {
        let all = originals::list::<E>(&self.pool).await.map_err(ChangeError::Read)?;
        let mut listing = Listing { values: Vec::with_capacity(all.len()), damaged: Vec::new() };
        for (id, original) in all {
            match decode(&original, &id) {
                Ok(value) => listing.values.push(value),
                Err(error) => listing.damaged.push(Damaged { id, reason: error_chain(&error) }),
            }
        }
        Ok(listing)
    }

    /// Archived tenants, by id, at most [`VALUES_MAX`].
    pub async fn list_archived(&self) -> Result<(Vec<ArchivedTenant>, Vec<Damaged>), ChangeError> {
        let limit = u32::try_from(VALUES_MAX).unwrap_or(u32::MAX);
        let all = catalog::store::list_archived(&self.pool, limit).await.map_err(ChangeError::Read)?;
        let (mut archived, mut damaged) = (Vec::new(), Vec::new());
        for one in all {
            match one {
                Ok(tenant) => archived.push(tenant),
                Err(CatalogError::Damaged { id, source, .. }) => {
                    damaged.push(Damaged { id, reason: error_chain(&source) });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((archived, damaged))
    }

    /// Stores the value that `make` returns for the present one. An equal value changes nothing.
    pub async fn put<E: Original>(
        &self,
        id: &str,
        make: impl FnOnce(Option<&E>) -> Result<E, InvalidEntry> + Send,
    ) -> Result<Revised<E>, ChangeError> {
        self.put_with(id, false, |present| make(present).map_err(ChangeError::from)).await
    }

    /// The same, but a removed value of this id may come back: its figures are its own.
    pub async fn put_or_restore<E: Original>(
        &self,
        id: &str,
        make: impl FnOnce(Option<&E>) -> Result<E, InvalidEntry> + Send,
    ) -> Result<Revised<E>, ChangeError> {
        self.put_with(id, true, |present| make(present).map_err(ChangeError::from)).await
    }

    async fn put_with<E: Original>(
        &self,
        id: &str,
        may_restore: bool,
        make: impl FnOnce(Option<&E>) -> Result<E, ChangeError> + Send,
    ) -> Result<Revised<E>, ChangeError> {
        let mut transaction = self.pool.begin().await.map_err(ChangeError::Write)?;
        originals::lock(&mut transaction).await.map_err(ChangeError::Write)?;
        let original = originals::find::<E>(&mut *transaction, id).await.map_err(ChangeError::Read)?;
        let revision = original.as_ref().map_or(0, |original| original.revision);
        if E::ID_IS_GIVEN_ONCE && !may_restore && original.as_ref().is_some_and(|original| original.removed) {
            return Err(ChangeError::Removed {
                kind: E::KIND.as_str(),
                same: E::COMES_BACK,
                id: id.to_owned(),
            });
        }
        let is_there = original.as_ref().is_some_and(|original| !original.removed);
        // A damaged value is repaired by putting it again, as if it were new.
        let present =
            original.filter(|original| !original.removed).and_then(|original| readable::<E>(&original, id));
        let value = make(present.as_ref().map(|present| &present.value))?;
        match &present {
            Some(known) if known.value == value => return Ok(Revised { value, revision: known.revision }),
            Some(_) => {}
            None if is_there => {}
            None => check_room::<E>(&mut transaction).await?,
        }
        value.check_references(&mut transaction).await?;
        value.check_others(&mut transaction, present.as_ref().map(|present| &present.value)).await?;
        let revision = revision + 1;
        let wire = value.to_wire(revision);
        let message = value.to_message(revision);
        self.write::<E>(&mut transaction, id, revision, false, &wire, &message).await?;
        transaction.commit().await.map_err(ChangeError::Write)?;
        self.directory.invalidate();
        Ok(Revised { value, revision })
    }

    /// Changes an existing value. An equal value changes nothing.
    pub async fn change<E: Original>(
        &self,
        id: &str,
        change: impl FnOnce(&E) -> E + Send,
    ) -> Result<Revised<E>, ChangeError> {
        self.put_with(id, false, |present| present.map(change).ok_or_else(|| not_found::<E>(id))).await
    }

    /// Removes a value that nothing refers to. Its tombstone keeps the revision, so that a restored value
    /// continues it.
    pub async fn remove<E: Original>(&self, id: &str) -> Result<(), ChangeError> {
        let mut transaction = self.pool.begin().await.map_err(ChangeError::Write)?;
        originals::lock(&mut transaction).await.map_err(ChangeError::Write)?;
        let original = originals::find::<E>(&mut *transaction, id).await.map_err(ChangeError::Read)?;
        let Some(original) = original.filter(|original| !original.removed) else {
            return Err(not_found::<E>(id));
        };
        let users = E::users(&mut transaction, id).await?;
        if !users.is_empty() {
            return Err(ChangeError::InUse {
                kind: E::KIND.as_str(),
                id: id.to_owned(),
                users: shown(&users),
            });
        }
        let revision = original.revision + 1;
        let former = readable::<E>(&original, id).map(|former| former.value);
        let (wire, message) = E::tombstone(id, revision, former, self.clock.now());
        self.write::<E>(&mut transaction, id, revision, true, &wire, &message).await?;
        if E::KIND == Tenant::KIND {
            // The tenant may be restored one day, but its old tokens must not work again. Tokens are created
            // under the same lock, so none is created meanwhile.
            store::tokens::revoke_all_of(&mut *transaction, id, self.clock.now())
                .await
                .map_err(ChangeError::Write)?;
        }
        transaction.commit().await.map_err(ChangeError::Write)?;
        self.directory.invalidate();
        Ok(())
    }

    async fn write<E: Original>(
        &self,
        connection: &mut PgConnection,
        id: &str,
        revision: u64,
        removed: bool,
        wire: &E::Wire,
        message: &CatalogEntry,
    ) -> Result<(), ChangeError> {
        let kind = E::KIND;
        let stored = Stored { kind, id: id.to_owned(), revision, removed, value: wire.encode_to_vec() };
        catalog::store::put(&mut *connection, &stored).await.map_err(ChangeError::Write)?;
        let message_id = format!("catalog:{}:{id}:{revision}", kind.as_str());
        let outgoing = Outgoing::new(self.namespace.catalog(kind, id), message_id, message, self.clock.now());
        outbox::enqueue(connection, &[outgoing]).await.map_err(ChangeError::Write)
    }
}

fn not_found<E: Entry>(id: &str) -> ChangeError {
    ChangeError::NotFound { kind: E::KIND.as_str(), id: id.to_owned() }
}

/// The value, unless it is damaged.
fn readable<E: Entry>(original: &originals::Original, id: &str) -> Option<Revised<E>> {
    decode(original, id)
        .inspect_err(|error| {
            tracing::warn!(
                kind = E::KIND.as_str(),
                id,
                error = error_chain(error),
                "ignoring a damaged catalog value"
            );
        })
        .ok()
}

fn decode<E: Entry>(original: &originals::Original, id: &str) -> Result<Revised<E>, ChangeError> {
    let kind = E::KIND.as_str();
    let value = E::Wire::decode(original.value.as_slice())
        .map_err(|error| InvalidEntry::Undecodable { kind, reason: error.to_string() })
        .and_then(E::from_wire)
        // Not the caller's mistake: a stored value was valid when it was written.
        .map_err(|source| CatalogError::Damaged { kind, id: id.to_owned(), source })?;
    Ok(Revised { value, revision: original.revision })
}

async fn check_room<E: Original>(connection: &mut PgConnection) -> Result<(), ChangeError> {
    let count = originals::count::<E>(connection).await.map_err(ChangeError::Read)?;
    if count < VALUES_MAX { Ok(()) } else { Err(ChangeError::TooMany(E::KIND.as_str())) }
}

fn shown(users: &[String]) -> String {
    let named = users.iter().take(USERS_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match users.len().saturating_sub(USERS_SHOWN_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[async_trait]
impl Original for Plan {
    fn tombstone(id: &str, revision: u64, _: Option<Self>, _: Timestamp) -> (v1::Plan, CatalogEntry) {
        let wire = v1::Plan { plan_id: id.to_owned(), revision, removed: true, ..v1::Plan::default() };
        (wire.clone(), CatalogEntry { entry: Some(catalog_entry::Entry::Plan(wire)) })
    }

    async fn check_references(&self, _: &mut PgConnection) -> Result<(), ChangeError> {
        Ok(())
    }

    async fn users(connection: &mut PgConnection, id: &str) -> Result<Vec<String>, ChangeError> {
        let tenants = catalog::store::list::<Tenant>(connection).await.map_err(ChangeError::Read)?;
        let users = tenants.iter().filter(|tenant| tenant.plan.as_str() == id);
        Ok(users.map(|tenant| format!("tenant {}", tenant.id)).collect())
    }
}

#[async_trait]
impl Original for Tenant {
    const ID_IS_GIVEN_ONCE: bool = true;

    const COMES_BACK: &'static str = "customer";

    fn tombstone(
        id: &str,
        revision: u64,
        former: Option<Self>,
        now: Timestamp,
    ) -> (v1::Tenant, CatalogEntry) {
        let only_id =
            v1::Tenant { tenant_id: id.to_owned(), revision, removed: true, ..v1::Tenant::default() };
        let wire = former.map_or(only_id, |tenant| ArchivedTenant::new(tenant, revision, now).to_wire());
        (wire.clone(), CatalogEntry { entry: Some(catalog_entry::Entry::Tenant(wire)) })
    }

    async fn check_references(&self, connection: &mut PgConnection) -> Result<(), ChangeError> {
        match catalog::store::find::<Plan>(connection, self.plan.as_str()).await? {
            Some(_) => Ok(()),
            None => Err(InvalidEntry::field("plan", format!("there is no plan {}", self.plan)).into()),
        }
    }

    async fn check_others(
        &self,
        connection: &mut PgConnection,
        present: Option<&Self>,
    ) -> Result<(), ChangeError> {
        let Some(customer) = &self.stripe_customer else { return Ok(()) };
        let says = |tenant: &Self| (tenant.stripe_customer.clone(), tenant.shared_customer);
        if present.is_some_and(|present| says(present) == says(self)) {
            return Ok(());
        }
        let tenants = catalog::store::list::<Self>(connection).await.map_err(ChangeError::Read)?;
        let other = tenants.into_iter().find(|other| {
            other.id != self.id
                && other.stripe_customer.as_ref() == Some(customer)
                && !(self.shared_customer && other.shared_customer)
        });
        other.map_or(Ok(()), |other| Err(ChangeError::SameCustomer(other.id)))
    }

    async fn users(connection: &mut PgConnection, id: &str) -> Result<Vec<String>, ChangeError> {
        let sources = catalog::store::list::<Source>(connection).await.map_err(ChangeError::Read)?;
        let users =
            sources.iter().filter(|source| source.tenants().iter().any(|tenant| tenant.as_str() == id));
        Ok(users.map(|source| format!("source {}", source.id)).collect())
    }
}

#[async_trait]
impl Original for Source {
    const ID_IS_GIVEN_ONCE: bool = true;

    const COMES_BACK: &'static str = "n8n";

    fn tombstone(id: &str, revision: u64, _: Option<Self>, _: Timestamp) -> (v1::Source, CatalogEntry) {
        let wire = v1::Source { source_id: id.to_owned(), revision, removed: true, ..v1::Source::default() };
        (wire.clone(), CatalogEntry { entry: Some(catalog_entry::Entry::Source(wire)) })
    }

    async fn check_references(&self, connection: &mut PgConnection) -> Result<(), ChangeError> {
        for tenant in self.tenants() {
            if catalog::store::find::<Tenant>(&mut *connection, tenant.as_str()).await?.is_none() {
                let field = if self.tenant.as_ref() == Some(tenant) { "tenant" } else { "attributions" };
                return Err(InvalidEntry::field(field, format!("there is no tenant {tenant}")).into());
            }
        }
        Ok(())
    }

    async fn check_others(
        &self,
        connection: &mut PgConnection,
        present: Option<&Self>,
    ) -> Result<(), ChangeError> {
        if present.is_some_and(|present| is_same_instance(&present.base_url, &self.base_url)) {
            return Ok(());
        }
        let sources = catalog::store::list::<Self>(connection).await.map_err(ChangeError::Read)?;
        let other = sources
            .into_iter()
            .find(|other| other.id != self.id && is_same_instance(&other.base_url, &self.base_url));
        other.map_or(Ok(()), |other| Err(ChangeError::SameInstance(other.id)))
    }

    async fn users(_: &mut PgConnection, _: &str) -> Result<Vec<String>, ChangeError> {
        Ok(Vec::new())
    }
}
