//! n8n's public API over HTTP.

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{self, ListRow, Single};
use super::execution::Status;
use super::fault::{BIG_PAGE_BYTES, N8nFault, message};
use super::instance::Version;
use super::query::{ListQuery, OffsetPage, QueryError};
use super::{N8n, Registry};

/// The body of n8n's editor, of which only the first bytes matter to a client that took a wrong path.
const EDITOR_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>n8n.io - Workflow Automation</title>\
    </head><body><div id=\"app\"></div></body></html>\n";

/// The routes of every instance, under `/{instance}`.
pub(crate) fn router(registry: Registry) -> Router {
    let guarded = Router::new()
        .route("/{instance}/api/v1/executions", get(list).fallback(wrong_method))
        .route("/{instance}/api/v1/executions/{id}", get(single).delete(delete).fallback(wrong_method))
        .route("/{instance}/api/v1/workflows", get(workflows).fallback(wrong_method))
        .route("/{instance}/api/v1/workflows/{id}", get(workflow).fallback(wrong_method))
        .route_layer(middleware::from_fn_with_state(registry.clone(), guard))
        .route_layer(middleware::from_fn_with_state(registry, date));
    Router::new()
        .merge(guarded)
        .route("/{instance}/api/v1/{*rest}", get(unknown_path).fallback(unknown_path))
        .route("/{instance}/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/{instance}/{*rest}", get(|| async { Html(EDITOR_PAGE) }))
}

/// The fault of a list call that its handler has to apply.
#[derive(Debug, Clone, Copy)]
struct ListFault(Option<N8nFault>);

#[derive(Debug, Deserialize)]
struct InstancePath {
    instance: String,
}

#[derive(Debug, Deserialize)]
struct ItemPath {
    id: String,
}

/// Sets the `Date` header from the sandbox's clock, where the server would use the machine's.
async fn date(
    State(registry): State<Registry>,
    Path(path): Path<InstancePath>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let said = registry.find(&path.instance).and_then(|n8n| n8n.http_date());
    if let Some(value) = said.and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, value);
    }
    response
}

/// Faults come first, as a proxy or a starting process would answer before n8n sees the key.
async fn guard(
    State(registry): State<Registry>,
    Path(path): Path<InstancePath>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(n8n) = registry.find(&path.instance) else {
        return (StatusCode::NOT_FOUND, "no such n8n in this sandbox").into_response();
    };
    let fault = n8n.take_fault(request.uri().path());
    if let Some(fault) = fault {
        if fault == N8nFault::Slow {
            tokio::time::sleep(n8n.slowness()).await;
        }
        if let Some(answer) = fault.answer() {
            return answer;
        }
    }
    let given = request.headers().get("x-n8n-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    if let Some(refusal) = refuse_key(&n8n, given.as_deref()) {
        return refusal;
    }
    request.extensions_mut().insert(ListFault(fault));
    request.extensions_mut().insert(n8n);
    next.run(request).await
}

fn refuse_key(n8n: &N8n, given: Option<&str>) -> Option<Response> {
    n8n.read(|instance| {
        let text = match (instance.config.version, given) {
            (_, Some(key)) if key == instance.config.key => return None,
            (Version::V2_40, _) => "Unauthorized",
            (Version::V1_123, None) => "'X-N8N-API-KEY' header required",
            (Version::V1_123, Some(_)) => "unauthorized",
        };
        Some(message(StatusCode::UNAUTHORIZED, text))
    })
}

#[derive(Debug, Serialize)]
struct List<T> {
    data: Vec<T>,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

async fn list(
    Extension(n8n): Extension<N8n>,
    Extension(ListFault(fault)): Extension<ListFault>,
    RawQuery(query): RawQuery,
) -> Response {
    n8n.settled(|instance| {
        let query = match ListQuery::parse(instance.config.version, &pairs(query.as_deref())) {
            Ok(query) => query,
            Err(error) => return refusal(&error),
        };
        let (page, more) = instance.page(&query);
        let next_cursor =
            page.last().filter(|_| more && query.limit > 0).map(|last| query.next_cursor(last.id));
        let mut rows: Vec<ListRow> =
            page.into_iter().map(|row| ListRow::of(instance, row, query.include_data)).collect();
        match fault {
            Some(N8nFault::UnknownStatus) if !rows.is_empty() => {
                let first = rows.remove(0).with_unknown_status();
                rows.insert(0, first);
            }
            Some(N8nFault::BigPage) => {
                let data = rows.into_iter().take(1).map(|row| row.inflated(BIG_PAGE_BYTES)).collect();
                return Json(List::<Value> { data, next_cursor: None }).into_response();
            }
            _ => {}
        }
        json_utf8(&List { data: rows, next_cursor })
    })
}

async fn single(
    Extension(n8n): Extension<N8n>,
    Path(path): Path<ItemPath>,
    RawQuery(query): RawQuery,
) -> Response {
    n8n.settled(|instance| {
        let id = match execution_id(instance.config.version, &path.id) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let include_data = pairs(query.as_deref()).contains(&("includeData".into(), "true".into()));
        match instance.rows.get(&id).filter(|row| row.is_shown()) {
            Some(row) => json_utf8(&Single::of(instance, row, include_data)),
            None => message(StatusCode::NOT_FOUND, "Not Found"),
        }
    })
}

async fn delete(Extension(n8n): Extension<N8n>, Path(path): Path<ItemPath>) -> Response {
    n8n.change(|instance, _| {
        let id = match execution_id(instance.config.version, &path.id) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        match instance.rows.get(&id).filter(|row| row.is_shown()).map(|row| row.status) {
            None => message(StatusCode::NOT_FOUND, "Not Found"),
            Some(Status::Running) => message(StatusCode::BAD_REQUEST, "Cannot delete a running execution"),
            Some(_) => match instance.delete(id) {
                Ok(deleted) => json_utf8(&Single::deleted(instance, &deleted)),
                Err(_) => message(StatusCode::NOT_FOUND, "Not Found"),
            },
        }
    })
}

async fn workflows(Extension(n8n): Extension<N8n>, RawQuery(query): RawQuery) -> Response {
    n8n.read(|instance| {
        let page = match OffsetPage::parse(instance.config.version, &pairs(query.as_deref())) {
            Ok(page) => page,
            Err(error) => return refusal(&error),
        };
        let data: Vec<Value> = instance
            .workflows
            .iter()
            .skip(page.offset)
            .take(page.limit)
            .map(|(id, workflow)| answer::workflow(instance.config.version, id, workflow))
            .collect();
        json_utf8(&List { data, next_cursor: page.next_cursor(instance.workflows.len()) })
    })
}

async fn workflow(Extension(n8n): Extension<N8n>, Path(path): Path<ItemPath>) -> Response {
    n8n.read(|instance| match instance.workflows.get(&path.id) {
        Some(workflow) => json_utf8(&answer::workflow(instance.config.version, &path.id, workflow)),
        None => message(StatusCode::NOT_FOUND, "Not Found"),
    })
}

async fn unknown_path() -> Response {
    message(StatusCode::NOT_FOUND, "not found")
}

async fn wrong_method(method: Method, _: Uri) -> Response {
    message(StatusCode::METHOD_NOT_ALLOWED, &format!("{method} method not allowed"))
}

/// Ids are positive decimal integers. The error is boxed because a response is large.
fn execution_id(version: Version, text: &str) -> Result<u64, Box<Response>> {
    let bad_request = |text| Box::new(message(StatusCode::BAD_REQUEST, text));
    match (text.parse::<u64>(), version) {
        (Ok(id), _) if id > 0 => Ok(id),
        (_, Version::V2_40) => Err(bad_request("request/params/executionId must be a positive integer")),
        (_, Version::V1_123) => Err(bad_request("request/params/id must be number")),
    }
}

fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

fn refusal(error: &QueryError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    message(status, &error.to_string())
}

fn json_utf8(body: &impl Serialize) -> Response {
    let mut answer = Json(body).into_response();
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}
