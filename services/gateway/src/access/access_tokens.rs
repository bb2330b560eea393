//! Issues, revokes and verifies tokens, and opens sessions for them.

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
    access::token::{self, Hash, Principal, TokenRecord},
    store,
};

/// How long a session lasts: a working day.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The most valid tokens, so that one answer can list them. As many revoked ones are kept for a while
/// (`purge.rs`).
pub const TOKENS_MAX: u64 = 10_000;

/// Revoked tokens in the list, the latest ones.
const REVOKED_LISTED_MAX: u64 = 1_000;

/// Open sessions of one token, which a tenant's people share. One more ends the oldest.
const SESSIONS_MAX: u64 = 1_000;

/// Tokens and sessions.
pub struct AccessTokens {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    /// The configured operator token: works before any token was created.
    operator: Hash,
    random: Mutex<StdRng>,
}

/// Tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A token cannot be looked up.
    #[error("cannot look up the token")]
    Authenticate(#[source] sqlx::Error),
    /// A token cannot be stored.
    #[error("cannot store the token")]
    Create(#[source] sqlx::Error),
    /// The catalog cannot be read.
    #[error("cannot look up the tenant")]
    Tenant(#[from] catalog::store::CatalogError),
    /// The tenant does not exist.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// There are too many tokens.
    #[error("there are {TOKENS_MAX} tokens; revoke those that nobody uses, then create more")]
    TooMany,
    /// The tokens cannot be listed.
    #[error("cannot list the tokens")]
    List(#[source] sqlx::Error),
    /// A token cannot be revoked.
    #[error("cannot revoke the token")]
    Revoke(#[source] sqlx::Error),
    /// A session cannot be opened or ended.
    #[error("cannot change the session")]
    Session(#[source] sqlx::Error),
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Who is signed in.
    pub principal: Principal,
    /// The token that it was opened with.
    pub token: Hash,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl AccessTokens {
    /// AccessTokens in `pool`. `operator_token` is the configured one.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, operator_token: &SecretString, random: StdRng) -> Self {
        Self { pool, clock, operator: Hash::of(operator_token), random: Mutex::new(random) }
    }

    /// The owner of a token; `None` if it is not valid.
    pub async fn authenticate(
        &self,
        token: &SecretString,
    ) -> Result<Option<(Principal, Hash)>, AccountError> {
        let hash = Hash::of(token);
        if hash.matches(&self.operator) {
            return Ok(Some((Principal::Operator, hash)));
        }
        if !token::is_well_formed(token) {
            return Ok(None);
        }
        // Boxed: requests that need no query do not carry its future.
        let principal = Box::pin(self.principal_of(&hash)).await?;
        Ok(principal.map(|principal| (principal, hash)))
    }

    /// The operator's name in the log, by the token's hash: the token's id, as `flowmeter token list` shows
    /// it.
    pub async fn name_of(&self, hash: &[u8; 32]) -> String {
        let Some(hash) = Hash::from_bytes(hash.to_vec()) else { return "unknown".to_owned() };
        if hash.matches(&self.operator) {
            return "the configured operator token".to_owned();
        }
        match store::tokens::id_of(&self.pool, &hash).await {
            Ok(Some(id)) => format!("token {id}"),
            // Even a token that this very change revoked still has its row; this one has none.
            Ok(None) | Err(_) => "a token that cannot be looked up".to_owned(),
        }
    }

    async fn principal_of(&self, token: &Hash) -> Result<Option<Principal>, AccountError> {
        if token.matches(&self.operator) {
            return Ok(Some(Principal::Operator));
        }
        store::tokens::find_principal(&self.pool, token).await.map_err(AccountError::Authenticate)
    }

    /// Creates a token for a tenant, or for an operator. The token itself is not stored.
    pub async fn create(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<(SecretString, TokenRecord), AccountError> {
        let mut transaction = self.pool.begin().await.map_err(AccountError::Create)?;
        // The lock orders us with a removal of the tenant, which then revokes this token too.
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

    /// A new push token for a source. The catalog stores its hash.
    pub fn push_token(&self, source: &SourceId) -> SecretString {
        token::generate_for_push(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner), source)
    }

    /// All valid tokens and the latest revoked ones, newest first.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, AccountError> {
        store::tokens::list(&self.pool, TOKENS_MAX, REVOKED_LISTED_MAX).await.map_err(AccountError::List)
    }

    /// Revokes a token, and with it every session opened with it. Returns whether there is one of this id.
    pub async fn revoke(&self, id: Uuid) -> Result<bool, AccountError> {
        store::tokens::revoke(&self.pool, id, self.clock.now()).await.map_err(AccountError::Revoke)
    }

    /// Opens a session for a valid token. Returns its secret id.
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

    /// The session with this secret id, while it lasts and its token is valid.
    pub async fn session(&self, secret: &SecretString) -> Result<Option<Session>, AccountError> {
        if !token::is_well_formed(secret) {
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
        token::generate(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn random_id(&self) -> Uuid {
        use rand::RngCore;
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
