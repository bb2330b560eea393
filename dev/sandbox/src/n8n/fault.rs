//! What can go wrong between a client and n8n.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

/// How long a slow answer takes by default: longer than a patient client waits.
pub const SLOW_DEFAULT: Duration = Duration::from_secs(30);
/// How much text one row of a big page carries.
pub const BIG_PAGE_BYTES: usize = 20 * 1024 * 1024;
/// The value of `Retry-After`, in seconds.
const RETRY_AFTER_S: &str = "1";

/// A fault of the n8n stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum N8nFault {
    /// 200 with HTML: "n8n is starting up".
    Html,
    /// 404 with HTML: the second phase of a start, when the API's routes do not exist yet.
    NotFoundHtml,
    /// 401, as for a revoked key.
    Unauthorized,
    /// A list with one row of 20 MB.
    BigPage,
    /// A list whose first row has a status that no n8n knows.
    UnknownStatus,
    /// The right answer, late.
    Slow,
    /// 500 with n8n's own body.
    #[serde(rename = "http_500")]
    Http500,
    /// 429 with `Retry-After`.
    RateLimit,
    /// 403 to the list of workflows, as for a key without that scope.
    WorkflowsForbidden,
    /// 500 to the list of workflows.
    WorkflowsBroken,
}

impl N8nFault {
    /// Whether it applies to a call to this path.
    pub(crate) fn concerns(self, path: &str) -> bool {
        match self {
            N8nFault::BigPage | N8nFault::UnknownStatus => path.ends_with("/executions"),
            N8nFault::WorkflowsForbidden | N8nFault::WorkflowsBroken => path.ends_with("/workflows"),
            _ => true,
        }
    }

    /// The answer that replaces the right one, for the faults that have one.
    pub(crate) fn answer(self) -> Option<Response> {
        match self {
            N8nFault::Html => Some(Html("n8n is starting up. Please wait").into_response()),
            N8nFault::NotFoundHtml => Some((StatusCode::NOT_FOUND, Html(NOT_FOUND_PAGE)).into_response()),
            N8nFault::Unauthorized => Some(message(StatusCode::UNAUTHORIZED, "Unauthorized")),
            N8nFault::WorkflowsForbidden => Some(message(StatusCode::FORBIDDEN, "Forbidden")),
            N8nFault::Http500 | N8nFault::WorkflowsBroken => {
                Some(message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"))
            }
            N8nFault::RateLimit => {
                let refusal = message(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
                Some(([(header::RETRY_AFTER, RETRY_AFTER_S)], refusal).into_response())
            }
            N8nFault::BigPage | N8nFault::UnknownStatus | N8nFault::Slow => None,
        }
    }
}

const NOT_FOUND_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <title>Error</title>\n</head>\n<body>\n<pre>Cannot GET</pre>\n</body>\n</html>\n";

/// n8n's body for everything but a successful answer.
pub(crate) fn message(status: StatusCode, text: &str) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, content_type, json!({ "message": text }).to_string()).into_response()
}
