//! Surrounds every request: bounds on time, size and number, headers for browsers, a span and metrics. A
//! handler that panics is answered too.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::{Instrument, Span};

use super::{
    error::ApiError,
    extract::{BODY_BYTES_MAX, NUL},
    meters,
};

/// Concurrent requests. Most wait for one of few database connections, so more would only wait longer.
const REQUESTS_MAX: usize = 512;

/// An answer that has not begun by then is of no use to its caller. The body of a live stream may last
/// longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// For browsers: no content from other origins, no frames, no referrer.
const BROWSER_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Called by programs before each run, and mostly answered from memory: a span would cost more than the
/// answer, and headers for browsers would add to it. The ledger transactions have their own spans.
const ROUTES_OF_RUNS: [&str; 2] = ["/v1/admissions", "/v1/admissions/batch"];

/// Adds the guards to a router. One layer for all of them, because each costs every request a boxed future.
pub fn around<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(places, surround))
}

async fn surround(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let started_at = Instant::now();
    let method = known_method(request.method());
    // The route, not the path, to keep the number of labels small.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let mut response = if ROUTES_OF_RUNS.contains(&route) {
        bound(&places, request, next).await
    } else {
        let span = span(&request);
        let mut response = bound(&places, request, next).instrument(span).await;
        for (name, value) in BROWSER_HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    };
    meters::answered(method, route, response.status(), started_at.elapsed());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // By default answers are private and only current now.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn span(request: &Request) -> Span {
    // The path without its query, and no headers: a span must not contain credentials.
    let path = request.uri().path();
    let method = request.method();
    tracing::info_span!("request", otel.name = format!("{method} {path}"), %method, path)
}

async fn bound(places: &Semaphore, request: Request, next: Next) -> Response {
    // Refused at once rather than queued: the caller decides what to do about a full gateway.
    let Ok(_place) = places.try_acquire() else {
        return ApiError::Overloaded.into_response();
    };
    if names_nul(request.uri()) {
        return ApiError::InvalidRequest(NUL.to_owned()).into_response();
    }
    match timeout(ANSWER_TIMEOUT, chassis::catch_panic(next.run(request))).await {
        Ok(Some(response)) => response,
        Ok(None) => ApiError::Internal.into_response(),
        Err(_) => ApiError::Timeout.into_response(),
    }
}

/// Whether the path or the query contains a NUL, which can only be percent-encoded there.
fn names_nul(uri: &Uri) -> bool {
    [Some(uri.path()), uri.query()].into_iter().flatten().any(|part| part.contains("%00"))
}

/// Bounds the metric's labels: anybody can make a method up.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::{http::StatusCode, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    async fn break_down() -> StatusCode {
        panic!("no such state")
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_500_and_logged() {
        let router = around(Router::new().route("/broken", get(break_down)).route("/fine", get(|| async {})));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
        // Of this thread, which runs the server's tasks too.
        let _logging = tracing::subscriber::set_default(subscriber);
        let get = async |path: &str| {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let asking = async {
            let broken = get("/broken").await;
            assert!(
                broken.starts_with("HTTP/1.0 500") && broken.contains(r#""code":"internal""#),
                "{broken}"
            );
            assert!(!broken.contains("no such state"), "the reason is not for callers: {broken}");
            let fine = get("/fine").await;
            assert!(fine.starts_with("HTTP/1.0 200"), "{fine}");
        };
        tokio::select! {
            served = axum::serve(listener, router).into_future() => served.unwrap(),
            () = asking => {}
        }
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains("ERROR") && logged.contains("no such state"), "{logged}");
    }
}
