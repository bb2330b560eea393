//! From the crossing to the mail is one trace.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::{
    Context, global,
    trace::{TraceContextExt, TraceId, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use testkit::eventually;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use crate::harness::{Harness, tenant};

/// Keeps the name and trace of each span that has ended.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<Vec<(String, TraceId)>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push((span.name.into_owned(), span.span_context.trace_id()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[tokio::test]
async fn the_mail_continues_the_trace_of_its_crossing() {
    let ended = Ended::default();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().with_span_processor(ended.clone()).build();
    tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("it")))
        .init();

    let desk = Harness::open(&[tenant("north", "en", &["ops@north.example"])]).await;
    let poll = tracing::info_span!("poll");
    let trace_id = poll.context().span().span_context().trace_id();
    desk.cross("north", 80).instrument(poll).await;
    eventually("a delivery in the trace", || async {
        let spans = ended.0.lock().unwrap();
        spans.contains(&("alerts deliver".to_owned(), trace_id)).then_some(())
    })
    .await;
    desk.close().await;
}
