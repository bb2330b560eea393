//! Who is calling: a bearer token, or the session cookie of the dashboard.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::Response,
};
use axum_extra::extract::cookie::Cookie;
use jiff::Timestamp;
use metering::TenantId;
use secrecy::SecretString;

use super::{App, error::ApiError, quotas::Who};
use crate::access::token::Principal;

/// The cookie that carries the session's secret id.
pub const SESSION_COOKIE: &str = "flowmeter_session";

/// A page of another origin cannot send this header without a preflight request.
const CSRF_HEADER: &str = "x-flowmeter";

/// Who is calling. Only [`authenticate`] adds it to a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its identity.
    pub principal: Principal,
    /// The caller for its quotas.
    pub who: Who,
    /// The end of its session; `None` if it sent a token.
    pub session_ends_at: Option<Timestamp>,
}

impl Caller {
    /// Refuses what the caller may not see. Called before anything is looked up, so that an answer does not
    /// reveal which tenants exist.
    pub fn check_may_see(&self, tenant: &TenantId) -> Result<(), ApiError> {
        if self.principal.may_see(tenant) { Ok(()) } else { Err(ApiError::Forbidden) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or(ApiError::Unauthorized)
    }
}

/// Lets authenticated requests through.
pub async fn authenticate(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = caller_of(&app, &parts).await?;
    let _in_hand = app.quotas.request(&caller.who)?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Who makes the request. A failure is logged.
pub async fn caller_of(app: &App, parts: &Parts) -> Result<Caller, ApiError> {
    let caller = caller(app, &parts.method, &parts.headers).await;
    if matches!(caller, Err(ApiError::Unauthorized)) {
        refused(parts.method.as_str(), parts.uri.path());
    }
    caller
}

/// Lets the operator through, and logs each change of plans, tenants, sources, tokens and figures.
pub async fn require_operator(
    State(app): State<App>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Principal::Operator = caller.principal else { return Err(ApiError::Forbidden) };
    let method = request.method().clone();
    if matches!(method, Method::GET | Method::HEAD) {
        return Ok(next.run(request).await);
    }
    // Without the query and the body, which may contain a key.
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if response.status().is_success() {
        let by = match &caller.who {
            Who::Operator(token) => app.access_tokens.name_of(token).await,
            Who::Tenant(_) | Who::Source(_) | Who::Address(_) => return Ok(response),
        };
        let through = if caller.session_ends_at.is_some() { "the dashboard" } else { "the API" };
        let (tenant, source) = subject_of(&path);
        tracing::info!(
            tenant, source, by, through, %method, path, status = response.status().as_u16(), "changed by an operator"
        );
    }
    Ok(response)
}

/// Logs and counts a failed authentication, without the credentials.
pub fn refused(method: &str, path: &str) {
    metrics::counter!("flowmeter_authentication_failures_total").increment(1);
    tracing::warn!(method, path, "refused a request without a valid token");
}

async fn caller(app: &App, method: &Method, headers: &HeaderMap) -> Result<Caller, ApiError> {
    if headers.contains_key(header::AUTHORIZATION) {
        let token = chassis::bearer(headers).ok_or(ApiError::Unauthorized)?;
        let (principal, token) =
            app.access_tokens.authenticate(&token).await?.ok_or(ApiError::Unauthorized)?;
        let who = Who::of(&principal, token);
        return Ok(Caller { principal, who, session_ends_at: None });
    }
    let secret = session_secret(headers).ok_or(ApiError::Unauthorized)?;
    let session = Box::pin(app.access_tokens.session(&secret)).await?.ok_or(ApiError::Unauthorized)?;
    let is_safe = matches!(*method, Method::GET | Method::HEAD);
    if !is_safe && headers.get(CSRF_HEADER).is_none_or(|value| value != "1") {
        return Err(ApiError::CsrfHeaderMissing);
    }
    let who = Who::of(&session.principal, session.token);
    Ok(Caller { principal: session.principal, who, session_ends_at: Some(session.expires_at) })
}

/// The session's secret id, if the request carries one. Browsers send the cookie of the longest path first:
/// ours, if another Flowmeter is served from the same host above our path.
pub fn session_secret(headers: &HeaderMap) -> Option<SecretString> {
    let sent = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = sent.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == SESSION_COOKIE).map(|cookie| cookie.value().into())
}

/// The tenant or the source that a path is about, for a log line: `/v1/tenants/{id}/...`, `/v1/sources/{id}/...`.
fn subject_of(path: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = path.trim_start_matches('/').split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("tenants" | "usage"), id) => (id, None),
        (Some("sources"), id) => (None, id),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn of_two_session_cookies_of_one_host_the_one_of_our_path_is_used() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            "other=1; flowmeter_session=ours; flowmeter_session=theirs".parse().unwrap(),
        );
        assert_eq!(session_secret(&headers).unwrap().expose_secret(), "ours");
        assert!(session_secret(&HeaderMap::new()).is_none());
    }
}
