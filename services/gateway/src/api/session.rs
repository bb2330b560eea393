//! Sessions of the dashboard: `POST /v1/session` changes a token for a cookie, `GET` tells who is signed in,
//! `DELETE` signs out. A request that changes something and carries the cookie instead of a token needs the
//! header `X-Flowmeter: 1`, which a page of another origin cannot send.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tokens::TokenKindJson;

/// `POST /v1/session`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionInput {
    /// An operator's or a tenant's token.
    #[schema(value_type = String)]
    pub token: SecretString,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionJson {
    /// Operator or tenant.
    pub kind: TokenKindJson,
    /// The tenant's id; null for an operator.
    pub tenant: Option<String>,
    /// When the session ends; null where the request carried a token.
    pub expires_at: Option<Timestamp>,
}
