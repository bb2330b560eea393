//! Tokens with which sources push their executions to the collector. The catalog distributes their hashes.

use axum::{Json, extract::State, http::StatusCode};
use catalog::Source;
use metering::SourceId;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    error::ApiError,
    extract::PathId,
    responses::{Conflict, Invalid, NotFound},
    schema::SourceIdText,
};
use crate::access::token::Hash;

/// A new push token.
#[derive(Debug, Serialize, ToSchema)]
pub struct PushTokenJson {
    /// Shown only now.
    pub token: String,
}

/// Creates the token with which a source pushes its executions, and shows it only now. The previous token is
/// no longer accepted.
#[utoipa::path(post, path = "/v1/sources/{id}/push-token", operation_id = "create_push_token", tag = "catalog",
    params(("id" = SourceIdText, Path)), responses(
    (status = 201, body = PushTokenJson),
    NotFound, Conflict, Invalid,
))]
pub async fn create(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<(StatusCode, Json<PushTokenJson>), ApiError> {
    let id = SourceId::parse(&id)?;
    let token = app.access_tokens.push_token(&id);
    let push_token_sha256 = Some(Hash::of(&token).into_bytes());
    let with_token = |source: &Source| Source { push_token_sha256, ..source.clone() };
    app.editor.change(id.as_str(), with_token).await?;
    Ok((StatusCode::CREATED, Json(PushTokenJson { token: token.expose_secret().to_owned() })))
}

/// Revokes a source's push token. Its executions are still polled.
#[utoipa::path(delete, path = "/v1/sources/{id}/push-token", operation_id = "revoke_push_token", tag = "catalog",
    params(("id" = SourceIdText, Path)), responses(
    (status = 204),
    NotFound, Conflict, Invalid,
))]
pub async fn revoke(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    let id = SourceId::parse(&id)?;
    let without_token = |source: &Source| Source { push_token_sha256: None, ..source.clone() };
    app.editor.change(id.as_str(), without_token).await?;
    Ok(StatusCode::NO_CONTENT)
}
