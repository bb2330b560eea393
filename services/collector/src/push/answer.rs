//! Answers to pushes.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chassis::NoPlace;
use messaging::error_chain;
use serde::Serialize;

use super::{BODY_BYTES_MAX, EXECUTIONS_MAX, item::Item};
use crate::push::receive::ReceiveError;

/// When to try again: a database or broker that restarts is back within seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

/// The request was received: the result for its executions.
#[derive(Debug, Default, Serialize)]
pub struct ReceivedJson {
    /// Executions that are durable now.
    accepted: usize,
    /// Executions that have not ended, and those that are left to the poll: they come again without being
    /// resent.
    ignored: usize,
    /// Executions that cannot be read; sending them again does not help.
    rejected: Vec<RejectedJson>,
}

/// One execution that cannot be read.
#[derive(Debug, Serialize)]
struct RejectedJson {
    /// Its place in the request, from 0.
    index: usize,
    /// Why.
    reason: String,
}

impl ReceivedJson {
    /// The answer once the executions among the items are durable.
    pub fn of(items: &[Item]) -> Self {
        let mut answer = Self::default();
        for (index, item) in items.iter().enumerate() {
            match item {
                Item::Final(_) => answer.accepted += 1,
                Item::Open => answer.ignored += 1,
                Item::Unreadable(reason) => {
                    answer.rejected.push(RejectedJson { index, reason: reason.clone() });
                }
            }
        }
        answer
    }

    /// Counts this many of the accepted ones as left to the poll.
    pub fn leave(&mut self, left: usize) {
        self.accepted -= left;
        self.ignored += left;
    }

    /// Adds it to the metrics.
    pub fn count(&self) {
        for (outcome, count) in
            [("accepted", self.accepted), ("ignored", self.ignored), ("rejected", self.rejected.len())]
        {
            metrics::counter!("flowmeter_pushed_executions_total", "outcome" => outcome)
                .increment(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

/// Why a request is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No token, or not a source's. Does not reveal whether the source that it names exists.
    #[error("send the source's push token as `Authorization: Bearer ...`")]
    Unauthorized,
    /// The source is not metered now. Answered only to a holder of its token.
    #[error("this source is paused")]
    Forbidden,
    /// An unknown content type.
    #[error(
        "send `application/json`, `application/cloudevents+json` or `application/cloudevents-batch+json`"
    )]
    MediaType,
    /// A compressed body.
    #[error("send the body as it is, without Content-Encoding")]
    Encoding,
    /// The body is not JSON, or not of the form that its type says.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
    /// The body did not arrive completely.
    #[error("the body ended early")]
    Cut,
    /// Too many bytes.
    #[error("the body is larger than {BODY_BYTES_MAX} bytes; send less at once")]
    TooLarge,
    /// Too many executions.
    #[error("there are more than {EXECUTIONS_MAX} executions; send fewer at once")]
    TooMany,
    /// There is no such path.
    #[error("there is nothing here; executions go to POST /v1/executions")]
    NotHere,
    /// The path takes only POST.
    #[error("executions are sent by POST")]
    Method,
    /// Too many requests at once.
    #[error("too many requests at once; try again in a moment")]
    Overloaded,
    /// Too many requests of one source at once.
    #[error("too many requests of this source at once; wait for answers before you send more")]
    TooManyAtOnce,
    /// No answer in time.
    #[error("this took too long; try again")]
    TooSlow,
    /// A fault of this program. The cause goes to the log.
    #[error("this went wrong here; send the executions again")]
    Internal,
    /// The broker or the database is unavailable. The cause goes to the log.
    #[error("executions cannot be accepted now; try again in a moment")]
    Unavailable(#[source] ReceiveError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MediaType | Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Malformed(_) | Self::Cut => StatusCode::BAD_REQUEST,
            Self::TooLarge | Self::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotHere => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyAtOnce => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded | Self::TooSlow | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<ReceiveError> for Refusal {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::UnknownToken => Self::Unauthorized,
            ReceiveError::Resting => Self::Forbidden,
            other => Self::Unavailable(other),
        }
    }
}

impl From<NoPlace> for Refusal {
    fn from(full: NoPlace) -> Self {
        match full {
            NoPlace::Own => Self::TooManyAtOnce,
            NoPlace::Common => Self::Overloaded,
        }
    }
}

/// The body of an answer that is not a success.
#[derive(Serialize)]
struct RefusalJson {
    error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Unavailable(error) = &self {
            tracing::warn!(
                error = error_chain(error),
                "cannot accept pushed executions; the hook sends them again"
            );
        }
        let status = self.status();
        let mut response = (status, Json(RefusalJson { error: self.to_string() })).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        if matches!(self, Self::Encoding) {
            // RFC 9110: which encodings are read.
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
