//! One span and one line of metrics for each call. They name the method, the tenant and the kind of caller, never what
//! was said: that is personal data.
use std::{pin::Pin, task::Poll, time::Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rapport_kernel::code_name;
use tonic::{Code, body::Body};
use tracing::{Instrument as _, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Called, Next, Request, Response, Step};

/// W3C trace context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

#[derive(Clone)]
pub(crate) struct Trace;

impl Step for Trace {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        let method = rapport_proto::method(request.uri().path());
        // What is not in the contract gets one name, so that callers cannot make up metrics.
        let name = method.map_or("unknown", |method| method.path.as_str());
        let span = tracing::info_span!(
            "request",
            otel.name = name,
            otel.kind = "server",
            rpc.system = "grpc",
            rpc.method = name,
            rpc.grpc.status_code = Empty,
            tenant.id = Empty,
            principal.kind = Empty,
        );
        continue_trace(&span, request.headers_mut());
        if let Some(method) = method {
            request.extensions_mut().insert(Called(method));
        }
        let mut record = Record { name, started: Instant::now(), span: span.clone(), code: None };
        let response = next.run(request).instrument(span).await;
        record.code = status(response.headers());
        if record.code.is_none() && method.is_some_and(|method| method.descriptor.is_server_streaming()) {
            return response.map(|body| Body::new(Watched { body, record }));
        }
        record.code.get_or_insert(Code::Ok);
        response
    }
}

/// Makes the span a part of the caller's trace, and the header the span's own: so `Ctx` and the events of this call name
/// the trace, and a header that is no trace context goes no further.
pub fn continue_trace(span: &Span, headers: &mut HeaderMap) {
    let given = TraceContextPropagator::new().extract(&Headers(headers));
    let valid = given.span().span_context().is_valid();
    if valid {
        // It fails when spans do not go to OpenTelemetry; the header then passes through as it is.
        let _ = span.set_parent(given);
    }
    if !inject(&span.context(), headers) && !valid {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

/// Names a span in traces when it is known only later what it is: recording `otel.name` comes too late for a span whose
/// context was asked for.
pub fn rename(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Puts the current span into the headers of an outgoing request, so that the callee's spans become its children.
/// Without OpenTelemetry the headers stay as they are.
pub fn propagate(headers: &mut HeaderMap) {
    inject(&Span::current().context(), headers);
}

fn inject(context: &Context, headers: &mut HeaderMap) -> bool {
    let valid = context.span().span_context().is_valid();
    if valid {
        TraceContextPropagator::new().inject_context(context, &mut HeadersMut(headers));
    }
    valid
}

struct Headers<'h>(&'h HeaderMap);
impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct HeadersMut<'h>(&'h mut HeaderMap);
impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

/// The status: an error that comes instead of an answer stands in the headers, the rest in the trailers.
fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get(tonic::Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// What is recorded of a call when it is over.
struct Record {
    name: &'static str,
    started: Instant,
    span: Span,
    /// How it ended; a call that was dropped was cancelled.
    code: Option<Code>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let (elapsed, code) = (self.started.elapsed(), self.code.unwrap_or(Code::Cancelled));
        self.span.record("rpc.grpc.status_code", code as i32);
        let labels = [("method", self.name), ("code", code_name(code))];
        tracing::debug!(parent: &self.span, code = code_name(code), ms = elapsed.as_millis(), "answered");
        metrics::counter!("rapport_requests_total", &labels).increment(1);
        metrics::histogram!("rapport_request_duration_seconds", &labels).record(elapsed.as_secs_f64());
    }
}

/// A stream of answers, which is over when its trailers have passed.
struct Watched {
    body: Body,
    record: Record,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.record.code = status(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
