//! `POST /v1/executions`: what sources push themselves. HTTP in, answers out; [`crate::push::receive`] does the work.
//!
//! Pushed executions are counted within a second, but only the sweep is complete: a source that cannot push
//! loses nothing. So every bound here may refuse, and none may lose what it has accepted.

mod answer;
mod body;
pub mod far_ids;
pub(crate) mod item;
pub mod receive;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use chassis::{PlaceBounds, Places};
use metering::SourceId;
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::push::receive::Receive;
use answer::{ReceivedJson, Refusal};
use item::Item;

/// A batch of 1,000 executions is about a third of it.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Executions in one request: four messages to the broker.
const EXECUTIONS_MAX: usize = 1_000;

/// Requests answered at once: with their bodies they take at most 64 MiB, and each needs a database
/// connection only briefly.
const REQUESTS_MAX: usize = 64;

/// Requests of one source at once: a quarter of all, so that a source that pushes too much, or too slowly,
/// does not keep the others out.
const SOURCE_REQUESTS: PlaceBounds =
    PlaceBounds { each_max: REQUESTS_MAX / 4, each_waiting_max: 0, all_max: REQUESTS_MAX };

/// Longer than the broker may take for one message, so that its silence is reported as such.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Serves until shutdown; requests under way are finished.
pub async fn serve(
    listener: TcpListener,
    receive: Receive,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening for pushed executions");
    }
    axum::serve(listener, router(receive)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(receive: Receive) -> Router {
    Router::new()
        .route("/v1/executions", post(executions))
        .fallback(|| async { Refusal::NotHere })
        .method_not_allowed_fallback(|| async { Refusal::Method })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(REQUESTS_MAX)), bound))
        .with_state(Arc::new(Pushed { receive, places: Places::new(SOURCE_REQUESTS) }))
}

/// The state of the endpoint.
struct Pushed {
    receive: Receive,
    places: Arc<Places<SourceId>>,
}

/// Bounds the number of requests and the time of each, its body included.
async fn bound(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // Refused at once rather than queued: the sender has a buffer and tries again.
    let response = match places.try_acquire() {
        Ok(_place) => match timeout(ANSWER_TIMEOUT, chassis::catch_panic(next.run(request))).await {
            Ok(Some(response)) => response,
            Ok(None) => Refusal::Internal.into_response(),
            Err(_) => Refusal::TooSlow.into_response(),
        },
        Err(_) => Refusal::Overloaded.into_response(),
    };
    let status = response.status().as_u16().to_string();
    metrics::counter!("flowmeter_pushes_total", "status" => status).increment(1);
    response
}

async fn executions(State(pushed): State<Arc<Pushed>>, request: Request) -> Response {
    // A root span: the trace of everything that follows from this push begins here.
    let span = tracing::info_span!(parent: None, "push", source = tracing::field::Empty);
    match handle(&pushed, request).instrument(span).await {
        Ok(answer) => (StatusCode::ACCEPTED, Json(answer)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn handle(pushed: &Pushed, request: Request) -> Result<ReceivedJson, Refusal> {
    let receive = &pushed.receive;
    let received_at = receive.clock.now();
    // Before the body is read: a sender that may not push costs nothing.
    let token = chassis::bearer(request.headers()).ok_or(Refusal::Unauthorized)?;
    let pusher = receive.admit(&token).await?;
    tracing::Span::current().record("source", pusher.source().as_str());
    let _place = pushed.places.enter(pusher.source().clone()).await?;
    let form = body::Form::of(request.headers())?;
    let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| {
        match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
            _ => Refusal::Cut,
        }
    })?;
    let now = receive.clock.now();
    let read = |item| item::read(item, now);
    let body = body::read(form, &bytes)?;
    let items: Vec<Item> = body.items.into_iter().map(read).collect();
    let mut answer = ReceivedJson::of(&items);
    let pushed = items.into_iter().filter_map(Item::into_pushed).collect();
    answer.leave(receive.publish(&pusher, pushed).await?);
    receive.note_sender(&pusher, body.sender, received_at).await;
    answer.count();
    Ok(answer)
}
