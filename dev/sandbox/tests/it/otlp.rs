//! The OTLP collector.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Wrapped, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use crate::harness::{Harness, send};

fn export() -> ExportTraceServiceRequest {
    let text = |text: &str| Some(Wrapped { value: Some(AnyValue::StringValue(text.into())) });
    let attribute =
        |key: &str, value: &str| KeyValue { key: key.into(), value: text(value), ..KeyValue::default() };
    let span = Span {
        trace_id: vec![0xAB; 16],
        span_id: vec![1; 8],
        parent_span_id: vec![2; 8],
        name: "record batch".into(),
        attributes: vec![attribute("source", "s1")],
        links: vec![Link { trace_id: vec![0xCD; 16], span_id: vec![3; 8], ..Link::default() }],
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", "aggregator")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

#[tokio::test]
async fn spans_are_accepted_and_shown() {
    let bench = Harness::new().await;
    let url = format!("{}/v1/traces", bench.sandbox.otlp_url());
    let post = bench.post(url).header("content-type", "application/x-protobuf");
    let answer = send(post.body(export().encode_to_vec())).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/x-protobuf"));

    let shown = bench.control_get("/spans").await;
    assert_eq!(shown[0]["service"], "aggregator");
    assert_eq!(shown[0]["name"], "record batch");
    assert_eq!(shown[0]["trace_id"], "ab".repeat(16));
    assert_eq!(shown[0]["parent_span_id"], "02".repeat(8));
    assert_eq!(shown[0]["links"][0]["trace_id"], "cd".repeat(16));
    assert_eq!(shown[0]["attributes"]["source"], "s1");
    bench.sandbox.spans().clear();
    assert!(bench.sandbox.spans().all().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_protobuf_is_refused() {
    let bench = Harness::new().await;
    let url = format!("{}/v1/traces", bench.sandbox.otlp_url());
    assert_eq!(send(bench.post(url).body("not protobuf")).await.status, 400);
}
