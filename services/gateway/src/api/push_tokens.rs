//! Tokens with which sources push their executions to the collector. The catalog carries their hashes there.

use axum::{Json, extract::State, http::StatusCode};
use catalog::Source;
use metering::SourceId;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    error::{ApiError, ErrorJson},
    extract::PathId,
};
use crate::tokens::Hash;

/// A new push token.
#[derive(Debug, Serialize, ToSchema)]
pub struct PushTokenJson {
    /// Shown only now.
    pub token: String,
}

/// Makes the token with which a source pushes its executions, and shows it this once. An earlier one is refused
/// from then on.
#[utoipa::path(post, path = "/v1/sources/{id}/push-token", operation_id = "create_push_token", tag = "catalog",
    params(("id" = String, Path)), responses(
    (status = 201, body = PushTokenJson),
    (status = "default", body = ErrorJson),
))]
pub async fn create(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<(StatusCode, Json<PushTokenJson>), ApiError> {
    let id = SourceId::parse(&id)?;
    let token = app.accounts.push_token(&id);
    let push_token_sha256 = Some(Hash::of(&token).into_bytes());
    let with_token = |source: &Source| Source { push_token_sha256, ..source.clone() };
    app.editor.change(id.as_str(), with_token).await?;
    Ok((StatusCode::CREATED, Json(PushTokenJson { token: token.expose_secret().to_owned() })))
}

/// Takes a source's push token back. Its executions are still polled.
#[utoipa::path(delete, path = "/v1/sources/{id}/push-token", operation_id = "revoke_push_token", tag = "catalog",
    params(("id" = String, Path)), responses(
    (status = 204),
    (status = "default", body = ErrorJson),
))]
pub async fn revoke(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    let id = SourceId::parse(&id)?;
    let without_token = |source: &Source| Source { push_token_sha256: None, ..source.clone() };
    app.editor.change(id.as_str(), without_token).await?;
    Ok(StatusCode::NO_CONTENT)
}
