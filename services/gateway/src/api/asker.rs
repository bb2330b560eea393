//! Who calls the limit check: anyone with a token, or a source with its push token.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use metering::SourceId;
use secrecy::ExposeSecret;

use super::{
    App,
    authenticate::{self, Caller},
    error::ApiError,
    quotas::{InHand, Who},
};
use crate::access::token::{self, Hash, Principal};

/// Who calls the limit check.
#[derive(Debug, Clone)]
pub enum Asker {
    /// Someone with a token or a session.
    Caller(Caller),
    /// A source, for its own runs.
    Source(SourceId),
}

impl Asker {
    /// Whether it may see everything.
    pub fn is_operator(&self) -> bool {
        matches!(self, Self::Caller(caller) if caller.principal == Principal::Operator)
    }
}

/// An asker whose request counts as in progress until this is dropped.
pub struct Asking {
    /// Who calls.
    pub asker: Asker,
    _in_hand: InHand,
}

/// The only way to get one is to authenticate. An extractor and not a layer around the routes: this request
/// is made before each run, and a layer would cost a boxed future and a copy of the inner routes.
impl FromRequestParts<App> for Asking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let (asker, who) = match source(app, &parts.headers).await? {
            Some(source) => (Asker::Source(source.clone()), Who::Source(source)),
            None => {
                let caller = authenticate::caller_of(app, parts).await?;
                let who = caller.who.clone();
                (Asker::Caller(caller), who)
            }
        };
        Ok(Self { asker, _in_hand: app.quotas.request(&who)? })
    }
}

/// The source whose push token the request carries. Checked against the catalog in memory.
async fn source(app: &App, headers: &HeaderMap) -> Result<Option<SourceId>, ApiError> {
    let Some(token) = chassis::bearer(headers) else { return Ok(None) };
    let Some(named) = token::source_of_push_token(token.expose_secret()) else { return Ok(None) };
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let kept = catalog.sources_by_id.get(&named).and_then(|source| source.push_token_sha256);
    let is_good = kept
        .and_then(|hash| Hash::from_bytes(hash.to_vec()))
        .is_some_and(|hash| Hash::of(&token).matches(&hash));
    if is_good {
        return Ok(Some(named));
    }
    authenticate::refused("POST", "/v1/admissions");
    Err(ApiError::Unauthorized)
}
