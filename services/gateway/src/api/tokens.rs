//! Tokens over HTTP. A token is shown once, when it is created.

use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use metering::TenantId;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    App,
    error::ApiError,
    extract::{JsonBody, PathId},
    responses::{Conflict, Invalid, NotFound},
    schema::TenantIdText,
};
use crate::access::token::{Principal, TokenRecord};

/// `POST /v1/tokens`
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenInput {
    /// A token for this tenant, which sees only its own usage; null for an operator's token.
    #[serde(default)]
    #[schema(value_type = Option<TenantIdText>)]
    pub tenant: Option<String>,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewTokenJson {
    /// Shown only now.
    pub token: String,
    /// Its details.
    #[serde(flatten)]
    pub details: TokenJson,
}

/// The details of a token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenJson {
    /// Identifies it, e.g. to revoke it: `DELETE /v1/tokens/{id}`.
    pub id: Uuid,
    /// An operator's or a tenant's.
    pub kind: TokenKindJson,
    /// The tenant's id; null for an operator's token.
    #[schema(value_type = Option<TenantIdText>)]
    pub tenant: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked; null while it is valid.
    pub revoked_at: Option<Timestamp>,
}

/// Valid tokens and the latest revoked ones, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenJson>,
}

/// The owner of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKindJson {
    /// Sees and changes everything.
    Operator,
    /// Sees its own usage and limit.
    Tenant,
}

impl From<&Principal> for TokenKindJson {
    fn from(principal: &Principal) -> Self {
        match principal {
            Principal::Operator => Self::Operator,
            Principal::Tenant(_) => Self::Tenant,
        }
    }
}

impl From<TokenRecord> for TokenJson {
    fn from(record: TokenRecord) -> Self {
        Self {
            id: record.id,
            kind: (&record.principal).into(),
            tenant: record.principal.tenant().map(ToString::to_string),
            created_at: record.created_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// All valid tokens, and the thousand that were revoked last, newest first. The configured operator token is
/// not among them.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "list_tokens", tag = "tokens", responses(
    (status = 200, body = TokenList),
))]
pub async fn list(State(app): State<App>) -> Result<Json<TokenList>, ApiError> {
    let tokens = app.access_tokens.list().await?;
    Ok(Json(TokenList { tokens: tokens.into_iter().map(TokenJson::from).collect() }))
}

/// Creates a token, and shows it only now.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "create_token", tag = "tokens", request_body = TokenInput, responses(
    (status = 201, body = NewTokenJson),
    Conflict, Invalid,
))]
pub async fn create(
    State(app): State<App>,
    JsonBody(input): JsonBody<TokenInput>,
) -> Result<(StatusCode, Json<NewTokenJson>), ApiError> {
    let tenant = input.tenant.as_deref().map(TenantId::parse).transpose();
    let tenant = tenant.map_err(|error| ApiError::field("tenant", error))?;
    let (token, record) = app.access_tokens.create(tenant).await?;
    let shown = NewTokenJson { token: token.expose_secret().to_owned(), details: record.into() };
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Revokes a token, and ends every session that was opened with it.
#[utoipa::path(delete, path = "/v1/tokens/{id}", operation_id = "revoke_token", tag = "tokens", params(("id" = Uuid, Path)), responses(
    (status = 204),
    NotFound,
))]
pub async fn revoke(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    let unknown = || ApiError::NotFound("there is no token with this id".to_owned());
    let id = Uuid::parse_str(&id).map_err(|_| unknown())?;
    if app.access_tokens.revoke(id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown()) }
}
