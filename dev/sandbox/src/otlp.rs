//! An OTLP collector: accepts spans over HTTP as protobuf and shows them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use prost::Message as _;
use serde::Serialize;

/// Most spans kept; the oldest are dropped.
pub const SPANS_MAX: usize = 50_000;
/// Largest export: several full batches of the exporter.
const EXPORT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A reference to another span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpanLink {
    /// The other span's trace, in hex.
    pub trace_id: String,
    /// The other span, in hex.
    pub span_id: String,
}

/// A span as it was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The trace, in hex.
    pub trace_id: String,
    /// The span, in hex.
    pub span_id: String,
    /// Its parent span, in hex; empty for a root span.
    pub parent_span_id: String,
    /// Its name.
    pub name: String,
    /// The resource's `service.name`.
    pub service: String,
    /// Other spans it links to.
    pub links: Vec<SpanLink>,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// When it began, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end_unix_ns: u64,
}

/// The collector. Cloning it gives another handle to the same collector.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    spans: Arc<Mutex<VecDeque<Span>>>,
}

impl Spans {
    /// Every span accepted, oldest first.
    pub fn all(&self) -> Vec<Span> {
        self.lock().iter().cloned().collect()
    }

    /// Forgets every span.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn take(&self, export: ExportTraceServiceRequest) {
        let mut spans = self.lock();
        for resource_spans in export.resource_spans {
            let attributes = resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = texts(&attributes).remove("service.name").unwrap_or_default();
            for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                if spans.len() == SPANS_MAX {
                    spans.pop_front();
                }
                spans.push_back(shown(span, &service));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn router(spans: Spans) -> Router {
    Router::new()
        .route("/v1/traces", post(take_traces))
        .layer(DefaultBodyLimit::max(EXPORT_BYTES_MAX))
        .with_state(spans)
}

async fn take_traces(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> Response {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it uncompressed").into_response();
    }
    match ExportTraceServiceRequest::decode(body) {
        Ok(export) => {
            spans.take(export);
            let taken = ExportTraceServiceResponse::default().encode_to_vec();
            ([(header::CONTENT_TYPE, "application/x-protobuf")], taken).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn shown(span: WireSpan, service: &str) -> Span {
    Span {
        trace_id: hex::encode(span.trace_id),
        span_id: hex::encode(span.span_id),
        parent_span_id: hex::encode(span.parent_span_id),
        name: span.name,
        service: service.to_owned(),
        links: span
            .links
            .into_iter()
            .map(|link| SpanLink { trace_id: hex::encode(link.trace_id), span_id: hex::encode(link.span_id) })
            .collect(),
        attributes: texts(&span.attributes),
        start_unix_ns: span.start_time_unix_nano,
        end_unix_ns: span.end_time_unix_nano,
    }
}

/// Scalar attributes as text; lists and maps are not worth showing here.
fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| match value {
        AnyValue::StringValue(text) => Some(text.clone()),
        AnyValue::BoolValue(truth) => Some(truth.to_string()),
        AnyValue::IntValue(number) => Some(number.to_string()),
        AnyValue::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    };
    attributes
        .iter()
        .filter_map(|attribute| {
            let value = attribute.value.as_ref()?.value.as_ref()?;
            Some((attribute.key.clone(), text(value)?))
        })
        .collect()
}
