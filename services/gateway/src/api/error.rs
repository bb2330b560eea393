//! Every failure has one shape: `{"error": {"code": "...", "message": "...", "field": "..."}}`.

use serde::Serialize;
use utoipa::ToSchema;

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorJson {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs: `unauthorized`, `forbidden`, `csrf_header_missing`, `not_found`, `method_not_allowed`,
    /// `invalid_json`, `invalid_value`, `too_large`, `unsupported_media_type`, `in_use`, `too_many`,
    /// `overloaded`, `timeout`, `unavailable`.
    pub code: &'static str,
    /// For people: what happened and what to do.
    pub message: String,
    /// The field that is not acceptable, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
