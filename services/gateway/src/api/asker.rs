//! Who asks the limit check: anyone with a token, or a source with the token with which it pushes.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use metering::SourceId;
use secrecy::{ExposeSecret, SecretString};

use super::{
    App,
    authenticate::{self, Caller},
    error::ApiError,
};
use crate::tokens::{self, Hash};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Asker {
    /// Someone with a token or a session.
    Caller(Caller),
    /// A source, for its own runs.
    Source(SourceId),
}

/// There is no other way to have one than to authenticate. An extractor and not a layer around the routes: it is made
/// before each run, and a layer would cost it a boxed future and a copy of the routes within.
impl FromRequestParts<App> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match source(app, &parts.headers).await? {
            Some(source) => Ok(Self::Source(source)),
            None => Ok(Self::Caller(authenticate::caller_of(app, parts).await?)),
        }
    }
}

/// The source whose push token the request carries. Checked against the catalog in memory.
async fn source(app: &App, headers: &HeaderMap) -> Result<Option<SourceId>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some(token) = value.split_once(' ').map(|(_, token)| SecretString::from(token.trim())) else {
        return Ok(None);
    };
    let Some(named) = tokens::source_of_push_token(token.expose_secret()) else { return Ok(None) };
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
