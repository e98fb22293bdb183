//! One span and one line of metrics for each request at the edge. They name the face, the route, the tenant and the request,
//! never what was said or who said it: that is personal data. The span carries the caller's trace on (W3C trace context), and
//! the service's span becomes its child, so that one trace holds both.
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method as Verb, Request, Response};
use http_body::{Body, Frame, SizeHint};
use rapport_kernel::{Clock, code_name};
use rapport_runtime::{
    layers::{continue_trace, rename},
    telemetry::by_tenant::{self, Outcome},
};
use tonic::{Code, Status};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{caller::Caller, edge::Face};

/// What a request is called, in its answer and in its span.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What is not in the contract gets one name, so that callers cannot make up metrics.
const UNKNOWN: &str = "unknown";

/// What becomes known of a request on its way.
#[derive(Debug)]
pub(crate) struct Seen {
    span: Span,
    route: OnceLock<Arc<str>>,
    tenant: OnceLock<Arc<str>>,
}

impl Seen {
    /// Which route of the contract it is: a path's template, or a gRPC method.
    pub(crate) fn route(&self, verb: &Verb, route: &str) {
        let name = if route.starts_with("/rapport.") { route.to_owned() } else { format!("{verb} {route}") };
        rename(&self.span, name);
        self.span.record("http.route", route);
        let _ = self.route.set(route.into());
    }

    /// Who calls.
    pub(crate) fn caller(&self, caller: &Caller) {
        if let Some(tenant) = caller.token.as_ref().and_then(|token| token.tenant.clone()) {
            self.span.record("tenant.id", &*tenant);
            let _ = self.tenant.set(tenant);
        }
    }
}

/// Serves a request in a span of its own and counts it when its answer is through.
pub(crate) async fn observe<B, R, F>(
    face: Face,
    clock: &Clock,
    mut request: Request<B>,
    serve: impl FnOnce(Request<B>, Arc<Seen>) -> F,
) -> Response<Watched<R>>
where
    F: Future<Output = Response<R>>,
{
    let id = clock.new_uuid().to_string();
    let span = tracing::info_span!(
        "edge",
        otel.name = UNKNOWN,
        otel.kind = "server",
        otel.status_code = Empty,
        rapport.face = face.name(),
        http.request.method = request.method().as_str(),
        http.route = Empty,
        http.response.status_code = Empty,
        rpc.grpc.status_code = Empty,
        tenant.id = Empty,
        request.id = %id,
    );
    continue_trace(&span, request.headers_mut());
    let seen = Arc::new(Seen { span: span.clone(), route: OnceLock::new(), tenant: OnceLock::new() });
    let mut record = Record { face, started: Instant::now(), seen: seen.clone(), ended: Ended::Dropped };
    let mut response = serve(request, seen).instrument(span).await;
    record.ended = Ended::of(face, &response);
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.map(|body| Watched { body, record })
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// The caller went away before there was an answer.
    Dropped,
    /// With this HTTP status.
    Http(http::StatusCode),
    /// By gRPC; the code comes with the trailers, unless it stood in the headers.
    Grpc(Option<Code>),
}

impl Ended {
    fn of<B>(face: Face, response: &Response<B>) -> Self {
        match face {
            Face::Rest => Self::Http(response.status()),
            Face::Grpc | Face::Web => Self::Grpc(grpc_status(response.headers())),
        }
    }

    /// What metrics call it: the HTTP status, or the name of the gRPC code.
    fn status(self) -> String {
        match self {
            Self::Http(status) => status.as_str().to_owned(),
            Self::Grpc(code) => code_name(code.unwrap_or(Code::Cancelled)).to_owned(),
            Self::Dropped => code_name(Code::Cancelled).to_owned(),
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Http(status) if status.is_server_error() => Outcome::Failed,
            Self::Http(status) if status.is_client_error() => Outcome::Refused,
            Self::Http(_) | Self::Grpc(Some(Code::Ok)) => Outcome::Done,
            Self::Grpc(Some(
                Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss,
            )) => Outcome::Failed,
            Self::Grpc(_) | Self::Dropped => Outcome::Refused,
        }
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// What is recorded of a request when it is over.
#[derive(Debug)]
struct Record {
    face: Face,
    started: Instant,
    seen: Arc<Seen>,
    ended: Ended,
}

impl Drop for Record {
    fn drop(&mut self) {
        let (span, face, status) = (&self.seen.span, self.face.name(), self.ended.status());
        match self.ended {
            Ended::Http(status) => span.record("http.response.status_code", status.as_u16()),
            Ended::Grpc(code) => span.record("rpc.grpc.status_code", code.unwrap_or(Code::Cancelled) as i32),
            Ended::Dropped => span.record("rpc.grpc.status_code", Code::Cancelled as i32),
        };
        let outcome = self.ended.outcome();
        if outcome == Outcome::Failed {
            span.record("otel.status_code", "ERROR");
        }
        let route = self.seen.route.get().cloned().unwrap_or_else(|| UNKNOWN.into());
        let elapsed = self.started.elapsed();
        tracing::debug!(parent: span, status, ms = elapsed.as_millis(), "answered");
        metrics::counter!("rapport_edge_requests_total", "face" => face, "route" => route.clone(), "status" => status)
            .increment(1);
        metrics::histogram!("rapport_edge_request_duration_seconds", "face" => face, "route" => route)
            .record(elapsed.as_secs_f64());
        if let Some(tenant) = self.seen.tenant.get() {
            by_tenant::count(tenant, outcome);
        }
    }
}

/// The body of an answer, after which the request is over.
pub(crate) struct Watched<B> {
    body: B,
    record: Record,
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let (Some(trailers), Ended::Grpc(_)) = (frame.trailers_ref(), self.record.ended)
        {
            self.record.ended = Ended::Grpc(grpc_status(trailers));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
