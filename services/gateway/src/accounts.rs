//! Gives tokens out, takes them back, recognises them, and opens sessions for them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use catalog::Tenant;
use jiff::Timestamp;
use metering::{Clock, SourceId, TenantId};
use rand::rngs::StdRng;
use secrecy::SecretString;
use sqlx::PgPool;
use uuid::{Builder, Uuid};

use crate::{
    store,
    tokens::{self, Hash, Principal, TokenRecord},
};

/// How long a session lasts: a working day.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Good tokens: the list of them stays one answer. As many that were taken back are kept for a while (`purge.rs`).
pub const TOKENS_MAX: u64 = 10_000;

/// Tokens in the list that were taken back, the last ones.
const REVOKED_LISTED_MAX: u64 = 1_000;

/// Open sessions of one token: a tenant's people share it. Beyond, the one that was opened first ends.
const SESSIONS_MAX: u64 = 1_000;

/// Tokens and sessions.
pub struct Accounts {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    /// The configured operator token: works before any token was made.
    operator: Hash,
    random: Mutex<StdRng>,
}

/// Tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A token cannot be looked up.
    #[error("cannot look up the token")]
    Authenticate(#[source] sqlx::Error),
    /// A token cannot be kept.
    #[error("cannot keep the token")]
    Create(#[source] sqlx::Error),
    /// The catalog cannot be read.
    #[error("cannot look up the tenant")]
    Tenant(#[from] catalog::store::CatalogError),
    /// The tenant does not exist.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// There are too many tokens.
    #[error("there are {TOKENS_MAX} tokens; take back those that nobody uses, then make more")]
    TooMany,
    /// The tokens cannot be listed.
    #[error("cannot list the tokens")]
    List(#[source] sqlx::Error),
    /// A token cannot be taken back.
    #[error("cannot take the token back")]
    Revoke(#[source] sqlx::Error),
    /// A session cannot be opened or ended.
    #[error("cannot change the session")]
    Session(#[source] sqlx::Error),
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Whose it is.
    pub principal: Principal,
    /// The token that it was opened with.
    pub token: Hash,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Accounts {
    /// Accounts in `pool`. `operator_token` is the configured one.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, operator_token: &SecretString, random: StdRng) -> Self {
        Self { pool, clock, operator: Hash::of(operator_token), random: Mutex::new(random) }
    }

    /// Whose token it is; nobody's where it is not a good one.
    pub async fn authenticate(
        &self,
        token: &SecretString,
    ) -> Result<Option<(Principal, Hash)>, AccountError> {
        let hash = Hash::of(token);
        if hash.matches(&self.operator) {
            return Ok(Some((Principal::Operator, hash)));
        }
        if !tokens::is_well_formed(token) {
            return Ok(None);
        }
        // Boxed: what a query takes is not carried by those who need none.
        let principal = Box::pin(self.principal_of(&hash)).await?;
        Ok(principal.map(|principal| (principal, hash)))
    }

    /// What a log calls the operator with the token of this hash: the token's id, as `flowmeter token list` shows it.
    pub async fn name_of(&self, hash: &[u8; 32]) -> String {
        let Some(hash) = Hash::from_bytes(hash.to_vec()) else { return "unknown".to_owned() };
        if hash.matches(&self.operator) {
            return "the configured operator token".to_owned();
        }
        match store::tokens::id_of(&self.pool, &hash).await {
            Ok(Some(id)) => format!("token {id}"),
            // A token that has been taken back by the very change still has its row; this one is in no table.
            Ok(None) | Err(_) => "a token that cannot be looked up".to_owned(),
        }
    }

    async fn principal_of(&self, token: &Hash) -> Result<Option<Principal>, AccountError> {
        if token.matches(&self.operator) {
            return Ok(Some(Principal::Operator));
        }
        store::tokens::find_principal(&self.pool, token).await.map_err(AccountError::Authenticate)
    }

    /// Makes a token: for a tenant, or for an operator. The token itself is not kept.
    pub async fn create(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<(SecretString, TokenRecord), AccountError> {
        let mut transaction = self.pool.begin().await.map_err(AccountError::Create)?;
        // A tenant that is removed meanwhile takes this token back too: its removal waits for us, or we for it.
        store::originals::lock(&mut transaction).await.map_err(AccountError::Create)?;
        if let Some(tenant) = &tenant
            && catalog::store::find::<Tenant>(&mut *transaction, tenant.as_str()).await?.is_none()
        {
            return Err(AccountError::UnknownTenant(tenant.clone()));
        }
        let kept = store::tokens::count(&mut *transaction).await.map_err(AccountError::Create)?;
        if u64::try_from(kept).unwrap_or(u64::MAX) >= TOKENS_MAX {
            return Err(AccountError::TooMany);
        }
        let token = self.generate();
        let record = TokenRecord {
            id: self.random_id(),
            principal: tenant.map_or(Principal::Operator, Principal::Tenant),
            created_at: self.clock.now(),
            revoked_at: None,
        };
        store::tokens::insert(&mut *transaction, &record, &Hash::of(&token))
            .await
            .map_err(AccountError::Create)?;
        transaction.commit().await.map_err(AccountError::Create)?;
        Ok((token, record))
    }

    /// A new token with which a source pushes. It is the catalog that keeps its hash.
    pub fn push_token(&self, source: &SourceId) -> SecretString {
        tokens::generate_for_push(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner), source)
    }

    /// All good tokens, and the last ones that were taken back, newest first.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, AccountError> {
        store::tokens::list(&self.pool, TOKENS_MAX, REVOKED_LISTED_MAX).await.map_err(AccountError::List)
    }

    /// Takes a token back, and with it every session opened with it. Tells whether there is one of this id.
    pub async fn revoke(&self, id: Uuid) -> Result<bool, AccountError> {
        store::tokens::revoke(&self.pool, id, self.clock.now()).await.map_err(AccountError::Revoke)
    }

    /// Opens a session for a good token. Returns its secret id.
    pub async fn sign_in(
        &self,
        token: &SecretString,
    ) -> Result<Option<(SecretString, Session)>, AccountError> {
        let Some((principal, token)) = self.authenticate(token).await? else { return Ok(None) };
        let now = self.clock.now();
        let expires_at = now.saturating_add(SESSION_LIFETIME).unwrap_or(now);
        let secret = self.generate();
        store::tokens::insert_session(&self.pool, &Hash::of(&secret), &token, expires_at)
            .await
            .map_err(AccountError::Session)?;
        store::tokens::end_sessions_beyond(&self.pool, &token, SESSIONS_MAX)
            .await
            .map_err(AccountError::Session)?;
        Ok(Some((secret, Session { principal, token, expires_at })))
    }

    /// The session with this secret id, while it lasts and while its token is good.
    pub async fn session(&self, secret: &SecretString) -> Result<Option<Session>, AccountError> {
        if !tokens::is_well_formed(secret) {
            return Ok(None);
        }
        let found = store::tokens::find_session(&self.pool, &Hash::of(secret), self.clock.now())
            .await
            .map_err(AccountError::Authenticate)?;
        let Some((token, expires_at)) = found else { return Ok(None) };
        let principal = self.principal_of(&token).await?;
        Ok(principal.map(|principal| Session { principal, token, expires_at }))
    }

    /// Ends a session.
    pub async fn sign_out(&self, secret: &SecretString) -> Result<(), AccountError> {
        store::tokens::delete_session(&self.pool, &Hash::of(secret)).await.map_err(AccountError::Session)
    }

    fn generate(&self) -> SecretString {
        tokens::generate(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn random_id(&self) -> Uuid {
        use rand::RngCore;
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
