//! Logs, traces and metrics.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    log_lines::WithTrace,
    settings::{LogFormat, TelemetrySettings},
};

/// Bucket bounds of all histograms, in seconds.
const SECONDS_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is malformed.
    #[error("telemetry.filter is wrong; use e.g. `info` or `info,collector=debug`")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The span exporter cannot be built.
    #[error("cannot export spans")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The metrics recorder cannot be installed.
    #[error("cannot record metrics")]
    Metrics(#[source] metrics_exporter_prometheus::BuildError),
}

/// Running telemetry. Spans still in memory are exported by [`Telemetry::flush`].
pub struct Telemetry {
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    spans: SdkTracerProvider,
}

impl Telemetry {
    /// Starts logs, traces and metrics for `service`.
    pub fn start(service: &'static str, settings: &TelemetrySettings) -> Result<Self, TelemetryError> {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let spans = span_provider(service, settings)?;
        // One filter for logs and one for spans: quieter logs must not cut traces apart.
        let log_filter = EnvFilter::try_new(&settings.filter).map_err(TelemetryError::Filter)?;
        let span_filter = EnvFilter::try_new("info").map_err(TelemetryError::Filter)?;
        let logs = match settings.format {
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .event_format(WithTrace::json())
                .with_writer(std::io::stderr)
                .boxed(),
            LogFormat::Pretty => {
                tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr).boxed()
            }
        };
        let traces =
            tracing_opentelemetry::layer().with_tracer(spans.tracer(service)).with_filter(span_filter);
        tracing_subscriber::registry().with(logs.with_filter(log_filter)).with(traces).init();
        let metrics = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(TelemetryError::Metrics)?;
        crate::measures::describe();
        Ok(Self { metrics, spans })
    }

    /// Exports what is still in memory. Blocks on the network, so it belongs to the end of `main`.
    pub fn flush(&self) {
        if let Err(error) = self.spans.shutdown() {
            tracing::warn!(%error, "some spans were not exported");
        }
    }
}

fn span_provider(
    service: &'static str,
    settings: &TelemetrySettings,
) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.namespace", "flowmeter"))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &settings.otlp_endpoint else {
        // Without an exporter spans still exist, so that the context travels through.
        return Ok(builder.build());
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(reqwest::blocking::Client::new())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
        .build()
        .map_err(TelemetryError::Exporter)?;
    Ok(builder.with_batch_exporter(exporter).build())
}
