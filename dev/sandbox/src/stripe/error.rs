//! Stripe's refusals.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// Why Stripe refused a call. The text is the error's `message`.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum StripeError {
    #[error(
        "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth \
         (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
    )]
    NoKey,
    #[error("Invalid API Key provided: {0}")]
    InvalidKey(String),
    #[error("Unrecognized request URL ({method}: {path}).")]
    UnknownUrl { method: String, path: String },
    #[error("Missing required param: {0}.")]
    MissingParam(String),
    #[error("Received unknown parameter: {0}")]
    UnknownParam(String),
    #[error("Invalid string: must be at most {max} characters")]
    TooLong { param: String, max: usize },
    #[error("Invalid integer: {given}")]
    NotAnInteger { param: String, given: String },
    #[error("Invalid {param}: must be one of {allowed}")]
    NotAllowed { param: String, allowed: &'static str },
    #[error("The timestamp must be within the past 35 calendar days.")]
    TimestampTooOld,
    #[error("The timestamp must not be more than 5 minutes in the future.")]
    TimestampInFuture,
    #[error("An event already exists with identifier {0}.")]
    DuplicateIdentifier(String),
    #[error("A meter already exists with the event name {0}.")]
    EventNameTaken(String),
    #[error("No such {object}: '{id}'")]
    NoSuch { object: &'static str, id: String, param: &'static str },
    #[error("The {param} must be aligned with {unit} boundaries.")]
    NotAligned { param: &'static str, unit: &'static str },
    #[error("The end_time must be after the start_time.")]
    EmptyRange,
    #[error("Events can only be canceled within 24 hours of Stripe receiving them.")]
    TooLateToCancel,
    #[error(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using \
         a key other than '{0}' if you meant to execute a different request."
    )]
    IdempotencyMismatch(String),
    #[error("There is currently another in-progress request using this Idempotent Key: {0}.")]
    IdempotencyInUse(String),
    #[error(
        "This object cannot be accessed right now because another API request or Stripe process is currently \
         accessing it."
    )]
    LockTimeout,
    #[error("Request rate limit exceeded.")]
    RateLimited,
    #[error("An unknown error occurred.")]
    Api,
    #[error("The sandbox holds at most {0}.")]
    Full(&'static str),
}

impl StripeError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            StripeError::NoKey | StripeError::InvalidKey(_) => StatusCode::UNAUTHORIZED,
            StripeError::UnknownUrl { .. } => StatusCode::NOT_FOUND,
            StripeError::NoSuch { param: "id", .. } => StatusCode::NOT_FOUND,
            StripeError::IdempotencyInUse(_) => StatusCode::CONFLICT,
            StripeError::LockTimeout | StripeError::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            StripeError::Api => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The `stripe-should-retry` header, where Stripe sends one.
    pub(crate) fn should_retry(&self) -> Option<bool> {
        match self {
            StripeError::DuplicateIdentifier(_) | StripeError::IdempotencyMismatch(_) => Some(false),
            StripeError::IdempotencyInUse(_) | StripeError::LockTimeout | StripeError::Api => Some(true),
            _ => None,
        }
    }

    /// Whether the endpoint had begun its work, so that the answer is kept for the idempotency key.
    pub(crate) fn is_saved(&self) -> bool {
        matches!(self, StripeError::Api | StripeError::DuplicateIdentifier(_))
    }

    pub(crate) fn body(&self) -> Value {
        let mut error = json!({ "message": self.to_string(), "type": self.kind() });
        if let Some(fields) = error.as_object_mut() {
            if let Some(code) = self.code() {
                fields.insert("code".into(), json!(code));
                fields.insert(
                    "doc_url".into(),
                    json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"))),
                );
            }
            if let Some(param) = self.param() {
                fields.insert("param".into(), json!(param));
            }
        }
        json!({ "error": error })
    }

    fn kind(&self) -> &'static str {
        match self {
            StripeError::IdempotencyMismatch(_) | StripeError::IdempotencyInUse(_) => "idempotency_error",
            StripeError::Api => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// Many of Stripe's refusals have no code: a duplicate identifier is one of them.
    fn code(&self) -> Option<&'static str> {
        match self {
            StripeError::MissingParam(_) => Some("parameter_missing"),
            StripeError::UnknownParam(_) => Some("parameter_unknown"),
            StripeError::NotAnInteger { .. } => Some("parameter_invalid_integer"),
            StripeError::NoSuch { .. } => Some("resource_missing"),
            StripeError::IdempotencyInUse(_) => Some("idempotency_key_in_use"),
            StripeError::LockTimeout => Some("lock_timeout"),
            StripeError::RateLimited => Some("rate_limit"),
            _ => None,
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            StripeError::MissingParam(param) | StripeError::UnknownParam(param) => Some(param),
            StripeError::TooLong { param, .. }
            | StripeError::NotAnInteger { param, .. }
            | StripeError::NotAllowed { param, .. } => Some(param),
            StripeError::TimestampTooOld | StripeError::TimestampInFuture => Some("timestamp"),
            StripeError::EventNameTaken(_) => Some("event_name"),
            StripeError::NoSuch { param, .. } | StripeError::NotAligned { param, .. } => Some(param),
            StripeError::EmptyRange => Some("end_time"),
            _ => None,
        }
    }
}
