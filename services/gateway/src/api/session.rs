//! Sessions of the dashboard: `POST /v1/session` exchanges a token for a cookie, `GET` returns who is signed
//! in, `DELETE` signs out. A request that changes something and carries the cookie instead of a token needs
//! the header `X-Flowmeter: 1`, which a page of another origin cannot send.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    authenticate::{Caller, SESSION_COOKIE, refused, session_secret},
    error::ApiError,
    extract::JsonBody,
    responses::Invalid,
    schema::PlainText,
    tokens::TokenKindJson,
};
use crate::access::{access_tokens::SESSION_LIFETIME, token::Principal};

/// `POST /v1/session`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionInput {
    /// An operator's or a tenant's token.
    #[schema(value_type = PlainText, write_only)]
    pub token: SecretString,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionJson {
    /// Operator or tenant.
    pub kind: TokenKindJson,
    /// The tenant's id; null for an operator.
    pub tenant: Option<String>,
    /// When the session ends; null if the request carried a token.
    pub expires_at: Option<Timestamp>,
}

impl SessionJson {
    fn new(principal: &Principal, expires_at: Option<Timestamp>) -> Self {
        Self { kind: principal.into(), tenant: principal.tenant().map(ToString::to_string), expires_at }
    }
}

/// Scripts cannot read it, and it is not sent with requests from other sites.
fn cookie(app: &App, value: String) -> Cookie<'static> {
    Cookie::build((SESSION_COOKIE, value))
        .path(app.base_path.cookie_path().to_owned())
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(app.secure_cookies)
        .build()
}

/// Signs in: exchanges a token for a session cookie.
#[utoipa::path(post, path = "/v1/session", operation_id = "sign_in", tag = "session", request_body = SessionInput,
    security(()), responses(
    (status = 200, body = SessionJson, headers(("Set-Cookie" = String, description = "The session's cookie."))),
    Invalid,
))]
pub async fn sign_in(
    State(app): State<App>,
    JsonBody(input): JsonBody<SessionInput>,
) -> Result<impl IntoResponse, ApiError> {
    let Some((secret, session)) = app.access_tokens.sign_in(&input.token).await? else {
        refused("POST", "/v1/session");
        return Err(ApiError::Unauthorized);
    };
    let mut cookie = cookie(&app, secret.expose_secret().to_owned());
    if let Ok(lifetime) = SESSION_LIFETIME.try_into() {
        cookie.set_max_age(Some(lifetime));
    }
    let shown = SessionJson::new(&session.principal, Some(session.expires_at));
    Ok((CookieJar::new().add(cookie), Json(shown)))
}

/// Who is calling.
#[utoipa::path(get, path = "/v1/session", operation_id = "show_session", tag = "session", responses(
    (status = 200, body = SessionJson),
))]
pub async fn show(caller: Caller) -> Json<SessionJson> {
    Json(SessionJson::new(&caller.principal, caller.session_ends_at))
}

/// Signs out.
#[utoipa::path(delete, path = "/v1/session", operation_id = "sign_out", tag = "session", responses(
    (status = 204),
))]
pub async fn sign_out(
    State(app): State<App>,
    _caller: Caller,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    if let Some(secret) = session_secret(&headers) {
        app.access_tokens.sign_out(&secret).await?;
    }
    let mut jar = CookieJar::new();
    jar = jar.add({
        let mut ended = cookie(&app, String::new());
        ended.make_removal();
        ended
    });
    Ok((StatusCode::NO_CONTENT, jar))
}
