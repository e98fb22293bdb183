//! Logs, traces and metrics of the process, set up once, in `main`.
//!
//! Spans get OpenTelemetry ids also when nothing is exported, so that events, log lines and other services name the same
//! trace. Metrics are pulled: `/metrics` renders what was counted.
pub mod by_tenant;

use std::{fs, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use rapport_kernel::BoxError;
use tokio_util::task::AbortOnDropHandle;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::config::{self, LogFormat};

/// Upper bounds of the buckets in which durations are counted, in seconds.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How often counted durations are moved into their buckets; else they would pile up until someone asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Keeps telemetry going; flushed at the end.
#[derive(Debug)]
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: Option<Metrics>,
}

#[derive(Debug)]
struct Metrics {
    prometheus: PrometheusHandle,
    _upkeep: AbortOnDropHandle<()>,
}

/// Sets up logs, traces and metrics for the whole process, inside a tokio runtime. `service` names the process in traces,
/// e.g. `rapport-gateway`.
///
/// # Errors
/// When a setting is wrong, or it was set up before.
pub fn init(config: &config::Telemetry, service: &str) -> Result<Telemetry, BoxError> {
    let traces = traces(config.otlp_endpoint.as_deref(), service)?;
    let filter: EnvFilter = config.log_filter.parse().map_err(|e| format!("telemetry.log_filter: {e}"))?;
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(logs(config.log_format, std::io::stderr))
        .with(tracing_opentelemetry::layer().with_tracer(traces.tracer("rapport")));
    subscriber.try_init().map_err(|e: TryInitError| e)?;
    let metrics = if config.metrics { Some(metrics()?) } else { None };
    Ok(Telemetry { traces, metrics })
}

fn logs<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

fn traces(endpoint: Option<&str>, service: &str) -> Result<SdkTracerProvider, BoxError> {
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let traces = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = endpoint else {
        return Ok(traces.build());
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|e| format!("telemetry.otlp_endpoint: {e}"))?;
    Ok(traces.with_batch_exporter(exporter).build())
}

fn metrics() -> Result<Metrics, BoxError> {
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?
        .install_recorder()?;
    metrics::describe_counter!("rapport_requests_total", "Calls answered, by method and gRPC code");
    metrics::describe_histogram!("rapport_request_duration_seconds", "Seconds until a call was answered");
    metrics::describe_counter!(
        "rapport_edge_requests_total",
        "Requests answered at the edge, by face, route and HTTP status or gRPC code"
    );
    metrics::describe_histogram!(
        "rapport_edge_request_duration_seconds",
        "Seconds until an answer of the edge was through"
    );
    metrics::describe_counter!("rapport_worker_failures_total", "Workers that failed and were started again");
    metrics::describe_gauge!("process_resident_memory_bytes", "Memory of this process");
    let handle = prometheus.clone();
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    });
    Ok(Metrics { prometheus, _upkeep: AbortOnDropHandle::new(upkeep) })
}

impl Telemetry {
    /// `/metrics`; nothing when metrics are turned off.
    pub fn router(&self) -> Router {
        let Some(metrics) = &self.metrics else {
            return Router::new();
        };
        let prometheus = metrics.prometheus.clone();
        let render = move || {
            if let Some(bytes) = resident_memory() {
                metrics::gauge!("process_resident_memory_bytes").set(bytes);
            }
            let text = prometheus.render() + &by_tenant::render();
            async { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
        };
        Router::new().route("/metrics", get(render))
    }

    /// Sends what was not sent yet. Blocks for a few seconds at most.
    pub fn flush(&self) {
        if let Err(error) = self.traces.shutdown_with_timeout(Duration::from_secs(5)) {
            tracing::warn!(%error, "not all traces were sent");
        }
    }
}

/// From the kernel's account; `None` where there is none.
fn resident_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests;
