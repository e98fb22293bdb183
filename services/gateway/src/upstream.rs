//! Calling the services: gRPC with messages that are only known by their descriptors. A service may run in this process
//! or on another machine; both are the same to the gateway.
use std::{
    collections::HashMap,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, Stream, TryFutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, Response, Version, header, uri::PathAndQuery};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use rapport_kernel::{BoxError, Error};
use rapport_proto::Method;
use rapport_runtime::layers::propagate;
use tonic::{
    Code, Status, Streaming,
    body::Body,
    codec::{DecodeBuf, Decoder, EncodeBody, EncodeBuf, Encoder},
};
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

/// A service that the gateway stands before: a gRPC service in this process, or a channel to one elsewhere.
pub type Upstream = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Takes any gRPC service as an upstream.
pub fn upstream<S>(service: S) -> Upstream
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(service.map_err(Into::into))
}

/// The header that says whose method is meant, where every service has it.
pub(crate) const WHOSE: &str = "rapport-service";

/// An answer larger than this is a fault: pages are limited by the contract, and files are streamed.
const LARGEST_ANSWER: usize = 64 << 20;

/// The services by their words: `customer`, `identity`.
#[derive(Clone, Default)]
pub(crate) struct Upstreams(HashMap<String, Upstream>);

impl Upstreams {
    pub(crate) fn new(services: HashMap<String, Upstream>) -> Self {
        Self(services)
    }

    /// Their words, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The service with this word.
    pub(crate) fn get(&self, service: &str) -> Option<Upstream> {
        self.0.get(service).cloned()
    }

    /// Sends a gRPC request as it is to the service of `method`.
    pub(crate) async fn send(&self, service: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let upstream = self.0.get(service).ok_or_else(|| Status::unimplemented("unknown service"))?;
        let mut upstream = upstream.clone();
        let ready = upstream.ready().await.map_err(unavailable)?;
        ready.call(request).await.map_err(unavailable)
    }

    /// Calls `method` of `service` with `messages`; an error among them breaks the call off, so that a part is never taken for all.
    pub(crate) async fn call(
        &self,
        service: &str,
        method: &'static Method,
        metadata: HeaderMap,
        messages: impl Stream<Item = Result<DynamicMessage, Status>> + Send + 'static,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let body = EncodeBody::new_client(Messages, messages, None, None);
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = PathAndQuery::from_static(method.path.as_str()).into();
        *request.headers_mut() = metadata;
        if let Some(service) = HeaderValue::try_from(service).ok().filter(|_| method.is_everywhere()) {
            request.headers_mut().insert(WHOSE, service);
        }
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

        let response = self.send(service, request).await?;
        let status = Status::from_header_map(response.headers());
        let (parts, body) = response.into_parts();
        let decoder = MessagesOf(method.output());
        match status {
            Some(status) if status.code() == Code::Ok => Ok(Streaming::new_empty(decoder, body)),
            Some(status) => Err(status),
            None => Ok(Streaming::new_response(decoder, body, parts.status, None, Some(LARGEST_ANSWER))),
        }
    }

    /// Calls a method that takes one message and answers with one, within `deadline`.
    pub(crate) async fn call_once(
        &self,
        service: &str,
        method: &'static Method,
        mut metadata: HeaderMap,
        message: DynamicMessage,
        deadline: Duration,
    ) -> Result<DynamicMessage, Status> {
        if let Ok(timeout) = HeaderValue::try_from(format!("{}m", deadline.as_millis())) {
            metadata.insert("grpc-timeout", timeout);
        }
        let messages = futures::stream::once(std::future::ready(Ok(message)));
        let answered = async { only(self.call(service, method, metadata, messages).await?).await };
        tokio::time::timeout(deadline, answered)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("the service did not answer in time")))
    }
}

/// The one message of an answer, after its end was read: a status may follow it.
pub(crate) async fn only(mut answer: Streaming<DynamicMessage>) -> Result<DynamicMessage, Status> {
    let message = answer.message().await?;
    answer.trailers().await?;
    message.ok_or_else(|| Error::internal("a service answered without a message").into())
}

/// A service for a generated client; one that does not answer fails with `UNAVAILABLE`.
#[derive(Clone)]
pub(crate) struct Answering(pub(crate) Upstream);

impl Service<Request<Body>> for Answering {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(context).map_err(unavailable)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        propagate(request.headers_mut());
        self.0.call(request).map_err(unavailable).boxed()
    }
}

fn unavailable(error: BoxError) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => Error::Unavailable(error).into(),
    }
}

/// Writes messages.
struct Messages;

impl Encoder for Messages {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Error::internal(error).into())
    }
}

/// Reads messages of one type.
struct MessagesOf(MessageDescriptor);

impl Decoder for MessagesOf {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Error::internal(error).into())
    }
}
