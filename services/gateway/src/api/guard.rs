//! What surrounds every request: bounds on time, size and number, headers for browsers, a span and metrics.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tower_http::{set_header::SetResponseHeaderLayer, trace::TraceLayer};

use super::{App, error::ApiError, extract::BODY_BYTES_MAX};

/// Requests answered at once. Most wait for one of few database connections, so more would only wait longer.
const REQUESTS_MAX: usize = 512;

/// An answer that has not begun by then will not help its caller. The body of a live stream may last longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// For browsers: nothing from elsewhere, in no frame, no guessing of types, no address passed on.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Puts the guards around a router.
pub fn around(router: Router<App>) -> Router<App> {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut router = router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(places, bound))
        .layer(middleware::from_fn(measure))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // The path without its query, and no headers: a span must not carry what opens anything.
            let path = request.uri().path();
            let method = request.method();
            tracing::info_span!("request", otel.name = format!("{method} {path}"), %method, path)
        }))
        // What an answer says is true now and belongs to its caller. A handler may say otherwise.
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ));
    for (name, value) in SECURITY_HEADERS {
        let value = HeaderValue::from_static(value);
        router = router.layer(SetResponseHeaderLayer::overriding(name, value));
    }
    router
}

async fn bound(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // Refused at once rather than queued: the caller knows better what to do with a full gateway.
    let Ok(_place) = places.try_acquire() else {
        return ApiError::Overloaded.into_response();
    };
    match timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout.into_response(),
    }
}

async fn measure(request: Request, next: Next) -> Response {
    let started_at = Instant::now();
    let method = request.method().to_string();
    // The route, not the path: labels must stay few.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |matched| matched.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    metrics::counter!("flowmeter_http_requests_total", "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("flowmeter_http_request_seconds", "route" => route)
        .record(started_at.elapsed().as_secs_f64());
    response
}
