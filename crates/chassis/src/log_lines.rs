//! Log lines carry the id of the trace that they belong to, so that a line leads to its spans and to the other services' lines.

use std::fmt;

use opentelemetry::trace::{TraceContextExt as _, TraceId};
use tracing::{Event, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
    },
    registry::LookupSpan,
};

/// JSON lines: `trace_id` first, then what happened, then the span with its tenant or source.
pub struct WithTrace {
    json: Format<Json>,
}

impl WithTrace {
    /// Lines with the fields of the event and of its spans.
    pub fn json() -> Self {
        let json = Format::default().json().flatten_event(true).with_span_list(false);
        Self { json }
    }
}

impl<S, N> FormatEvent<S, N> for WithTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace) = trace_id() else { return self.json.format_event(context, writer, event) };
        let mut line = String::new();
        self.json.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, "{{\"trace_id\":\"{trace}\",{rest}"),
            None => writer.write_str(&line),
        }
    }
}

/// The trace of the current span.
fn trace_id() -> Option<TraceId> {
    let span = Span::current();
    if span.is_none() {
        return None;
    }
    let id = span.context().span().span_context().trace_id();
    (id != TraceId::INVALID).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use serde_json::Value;
    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_names_its_trace_and_its_source() {
        let lines = Lines::default();
        let writer = lines.clone();
        let provider = SdkTracerProvider::builder().build();
        let logs = tracing_subscriber::fmt::layer()
            .json()
            .event_format(WithTrace::json())
            .with_writer(move || writer.clone());
        let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(logs.boxed()).with(traces);
        // Global, as in a service: with a scoped subscriber the formatter would not see the current span.
        tracing::subscriber::set_global_default(subscriber).unwrap();
        tracing::info!("outside");
        tracing::info_span!("sweep", source = "north-n8n").in_scope(|| tracing::warn!("sweep failed"));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let parsed: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [outside, inside] = parsed.as_slice() else { panic!("two lines: {text}") };
        assert!(outside.get("trace_id").is_none());
        assert_eq!(inside["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(inside["message"], "sweep failed");
        assert_eq!(inside["span"]["source"], "north-n8n");
    }
}
