//! Every failure has the same shape: `{"error": {"code": "...", "message": "...", "field": "..."}}`.

use std::error::Error;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use catalog::InvalidEntry;
use messaging::{AskError, error_chain};
use metering::{InvalidCalendar, InvalidId};
use proto::v1::RefusalKind;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::access_tokens::AccountError, admission::verdict::AdmitError, directory::editor::ChangeError,
};

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorJson {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// The invalid field, if it is a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No token, or not a valid one.
    Unauthorized,
    /// The token does not allow that.
    Forbidden,
    /// A change with a cookie lacks `X-Flowmeter: 1`.
    CsrfHeaderMissing,
    /// There is nothing of this id or path.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
    /// The path or query cannot be read.
    InvalidRequest,
    /// The body is not JSON.
    InvalidJson,
    /// A value is not valid.
    InvalidValue,
    /// The body is too large.
    TooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// Something else needs it.
    InUse,
    /// It conflicts with another value.
    Taken,
    /// The id belonged to something that was removed.
    Removed,
    /// The present state does not allow it.
    Conflict,
    /// The maximum number is reached.
    TooMany,
    /// The caller has too many requests in progress.
    TooManyRequests,
    /// Too many requests are in progress.
    Overloaded,
    /// The answer took too long.
    Timeout,
    /// The database or another service does not answer.
    Unavailable,
    /// Something went wrong here.
    Internal,
}

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token, or not a valid one.
    #[error("a token is needed: send it as `Authorization: Bearer ...`, or sign in")]
    Unauthorized,
    /// The caller may not see or do this.
    #[error("this token does not allow that")]
    Forbidden,
    /// A change with only a cookie could come from a page of another origin.
    #[error("a change with a session cookie needs the header `X-Flowmeter: 1`")]
    CsrfHeaderMissing,
    /// There is nothing here.
    #[error("{0}")]
    NotFound(String),
    /// The path exists, but not with this method.
    #[error("this path does not support that method")]
    MethodNotAllowed,
    /// The path or query is invalid.
    #[error("{0}")]
    InvalidRequest(String),
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    InvalidJson(String),
    /// The body is JSON of the wrong shape, or contains an invalid value.
    #[error("{reason}")]
    InvalidValue {
        /// The invalid field, if it is a single one.
        field: Option<&'static str>,
        /// What is wrong, and what to use instead.
        reason: String,
    },
    /// The body is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The content type is not JSON.
    #[error("send the body as `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// Something else needs the value.
    #[error("{0}")]
    InUse(String),
    /// Conflicts with another value.
    #[error("{0}")]
    Taken(String),
    /// The id belonged to a value that was removed.
    #[error("{0}")]
    Removed(String),
    /// The present state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The maximum number of values is reached.
    #[error("{0}")]
    TooMany(String),
    /// This caller has too many requests in progress.
    #[error("you have too many requests in progress; wait for answers before you send more")]
    TooManyAtOnce,
    /// Too many requests are being answered.
    #[error("too many requests at once; try again in a moment")]
    Overloaded,
    /// The answer took too long.
    #[error("the answer took too long; try again")]
    Timeout,
    /// The database or another service failed. The cause is logged, not shown to the caller.
    #[error("the gateway cannot answer now; try again in a moment")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A handler has panicked. The log has the reason.
    #[error("something went wrong here; the operator's log says what")]
    Internal,
}

impl ApiError {
    /// An invalid field.
    pub fn field(field: &'static str, reason: impl ToString) -> Self {
        Self::InvalidValue { field: Some(field), reason: reason.to_string() }
    }

    /// An internal failure.
    pub fn unavailable(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Box::new(error))
    }

    /// There is no tenant with this id.
    pub fn no_tenant(id: impl std::fmt::Display) -> Self {
        Self::NotFound(format!("there is no tenant {id}"))
    }

    fn status_and_code(&self) -> (StatusCode, ErrorCode) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
            Self::Forbidden => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
            Self::CsrfHeaderMissing => (StatusCode::FORBIDDEN, ErrorCode::CsrfHeaderMissing),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed),
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest),
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, ErrorCode::InvalidJson),
            Self::InvalidValue { .. } => (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::InvalidValue),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::UnsupportedMediaType)
            }
            Self::InUse(_) => (StatusCode::CONFLICT, ErrorCode::InUse),
            Self::Taken(_) => (StatusCode::CONFLICT, ErrorCode::Taken),
            Self::Removed(_) => (StatusCode::CONFLICT, ErrorCode::Removed),
            Self::Conflict(_) => (StatusCode::CONFLICT, ErrorCode::Conflict),
            Self::TooMany(_) => (StatusCode::CONFLICT, ErrorCode::TooMany),
            Self::TooManyAtOnce => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Overloaded),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, ErrorCode::Timeout),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Unavailable(source) = &self {
            tracing::warn!(error = error_chain(source.as_ref()), "request failed with 503");
        }
        let (status, code) = self.status_and_code();
        let message = self.to_string();
        let field = match self {
            Self::InvalidValue { field, .. } => field.map(str::to_owned),
            _ => None,
        };
        let mut response =
            (status, Json(ErrorJson { error: ErrorDetail { code, message, field } })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<InvalidEntry> for ApiError {
    fn from(error: InvalidEntry) -> Self {
        let field = match &error {
            InvalidEntry::Field { field, reason } => return Self::field(field, reason),
            InvalidEntry::Calendar(InvalidCalendar::TimeZone(_)) => Some("time_zone"),
            InvalidEntry::Calendar(InvalidCalendar::AnchorDay(_)) => Some("anchor_day"),
            InvalidEntry::Threshold(_) => Some("thresholds_percent"),
            InvalidEntry::Currency(_) => Some("price.currency"),
            InvalidEntry::Id(_) => Some("id"),
            InvalidEntry::Undecodable { .. } => None,
        };
        Self::InvalidValue { field, reason: error.to_string() }
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self::field("id", error)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Invalid(error) => error.into(),
            ChangeError::NotFound { .. } => Self::NotFound(error.to_string()),
            ChangeError::InUse { .. } => Self::InUse(error.to_string()),
            ChangeError::SameInstance(_) | ChangeError::SameCustomer(_) => Self::Taken(error.to_string()),
            ChangeError::Removed { .. } => Self::Removed(error.to_string()),
            ChangeError::TooMany(_) => Self::TooMany(error.to_string()),
            ChangeError::Read(_) | ChangeError::Catalog(_) | ChangeError::Write(_) => {
                Self::unavailable(error)
            }
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::UnknownTenant(_) => Self::field("tenant", error),
            AccountError::TooMany => Self::TooMany(error.to_string()),
            AccountError::Authenticate(_)
            | AccountError::Create(_)
            | AccountError::Tenant(_)
            | AccountError::List(_)
            | AccountError::Revoke(_)
            | AccountError::Session(_) => Self::unavailable(error),
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused { kind: RefusalKind::NotFound, reason } => Self::NotFound(reason),
            AskError::Refused { kind: RefusalKind::Conflict, reason } => Self::Conflict(reason),
            AskError::Refused { kind: RefusalKind::Invalid, reason } => {
                Self::InvalidValue { field: None, reason }
            }
            AskError::Refused { .. }
            | AskError::Nobody(_)
            | AskError::TimedOut { .. }
            | AskError::Broker { .. }
            | AskError::Unreadable { .. } => Self::unavailable(error),
        }
    }
}

impl From<AdmitError> for ApiError {
    fn from(error: AdmitError) -> Self {
        Self::unavailable(error)
    }
}

/// The answer for an unknown path.
pub fn not_here() -> ApiError {
    ApiError::NotFound("no such path; /openapi.json lists all paths".to_owned())
}

/// The handler for unknown paths.
pub async fn no_route() -> ApiError {
    not_here()
}

/// The handler for methods that a path does not support.
pub async fn no_method() -> ApiError {
    ApiError::MethodNotAllowed
}
