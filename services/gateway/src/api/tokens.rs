//! Tokens over HTTP. A token is shown once, when it is made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `POST /v1/tokens`
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenInput {
    /// A token for this tenant, which sees only its own usage; null for an operator's token.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewTokenJson {
    /// Shown only now.
    pub token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub details: TokenJson,
}

/// What is known of a token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenJson {
    /// Names it, for taking it back: `DELETE /v1/tokens/{id}`.
    pub id: Uuid,
    /// Whose it is.
    pub kind: TokenKindJson,
    /// The tenant's id; null for an operator's token.
    pub tenant: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was taken back; null while it is good.
    pub revoked_at: Option<Timestamp>,
}

/// All tokens, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenJson>,
}

/// Whose a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKindJson {
    /// Sees and changes everything.
    Operator,
    /// Sees its own usage and limit.
    Tenant,
}
