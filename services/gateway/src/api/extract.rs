//! Extractors whose failures have the API's own shape.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::IntoResponse,
};
use serde::de::DeserializeOwned;

use super::{error::ApiError, objects};

/// The largest body: a plan or tenant is a few kilobytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The database cannot store text with a NUL, so a request with one would fail as an internal error.
pub const NUL: &str = "the request holds a NUL character, which no text may hold";

/// Whether a string in this JSON contains a NUL.
fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(place) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(place + 1..).unwrap_or_default();
        if rest.starts_with(b"u0000") {
            return true;
        }
        // Skip the escaped character, which may be a backslash.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// A JSON body of the shape `T`.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, ApiError> {
        // Also blocks forms of other pages: a browser sends JSON to another origin only after a preflight
        // request.
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(BODY_BYTES_MAX),
                _ => ApiError::InvalidRequest("the body could not be read to its end".to_owned()),
            }
        })?;
        if holds_nul(&bytes) {
            return Err(ApiError::InvalidRequest(NUL.to_owned()));
        }
        objects::read(&bytes).map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                ApiError::InvalidValue { field: None, reason: error.to_string() }
            }
            _ => ApiError::InvalidJson(error.to_string()),
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .is_some_and(|media_type| media_type == "application/json")
}

/// The path's one parameter.
pub struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::InvalidRequest(rejection.body_text()))?;
        Ok(Self(id))
    }
}

/// The query of the shape `T`.
pub struct QueryOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::InvalidRequest(rejection.body_text()))?;
        Ok(Self(query))
    }
}

#[cfg(test)]
mod tests {
    use super::holds_nul;

    #[test]
    fn an_escaped_nul_is_found() {
        for (json, expected) in [
            (r#"{"name": "a\u0000b"}"#, true),
            (r#"{"name": "\\\u0000"}"#, true),
            (r#"{"name": "a\\u0000b"}"#, false),
            (r#"{"name": "\u0001\n"}"#, false),
            ("\\", false),
        ] {
            assert_eq!(holds_nul(json.as_bytes()), expected, "{json}");
        }
    }
}
