//! The W3C trace context, carried from span to header, or to a stored row, and back.

use std::collections::HashMap;

use opentelemetry::{Context, global};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header that carries the trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The current span's context, as a `traceparent`; `None` if nothing is traced.
pub fn current() -> Option<String> {
    let mut carrier = HashMap::new();
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut carrier));
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of the context in `traceparent`.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context: Context = global::get_text_map_propagator(|propagator| propagator.extract(&carrier));
    // Fails only if no tracing layer is installed; then there is no trace to continue.
    let _ = span.set_parent(context);
}
