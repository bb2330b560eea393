//! The dashboard's files and the OpenAPI document: public, the same for everyone, built into the binary.

use axum::{
    Json, Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};
use utoipa::openapi::OpenApi;

use super::{
    App,
    error::{self, ApiError},
};

/// A file of the dashboard.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// Written by `build.rs`.
static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Revalidated on every visit, which the `ETag` makes cheap, so that a new version shows at once.
const CACHE: &str = "no-cache";

/// `/`, `/{file}` and `/openapi.json`.
pub fn routes(document: OpenApi) -> Router<App> {
    Router::new()
        .route("/openapi.json", get(move || async move { Json(document) }))
        .route("/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route(
            "/{file}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }),
        )
}

fn file(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Err(error::not_here());
    };
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(asset.bytes)[..16]));
    let about = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, CACHE.to_owned())];
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    Ok((about, [(header::CONTENT_TYPE, asset.media_type)], asset.bytes).into_response())
}
