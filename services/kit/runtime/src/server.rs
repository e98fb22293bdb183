//! Between processes: serving HTTP/1.1 and HTTP/2, calling a service that runs elsewhere, and choosing among several.
use std::{collections::HashMap, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rapport_kernel::{BoxError, Error};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, transport::Endpoint};
use tower::{ServiceExt as _, service_fn};

use crate::{
    health::Health,
    layers::{Request, propagate, refuse},
    stack::Upstream,
};

/// Calls on one connection at a time.
const MAX_STREAMS: u32 = 128;
/// Bytes of a call's headers; a token has at most 12 KiB.
const MAX_HEADERS: u32 = 16 << 10;
/// Bytes of the head of an HTTP/1.1 request.
const MAX_HEAD: usize = 64 << 10;
/// Streams that a peer may reset before we took them up: more look like an attack by resets.
const MAX_PENDING_RESETS: usize = 20;
/// A peer that says nothing for so long after connecting, or does not finish the head of its request, is let go.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// A connection that does not answer a ping, sent after this time of silence,
const PING: Duration = Duration::from_secs(20);
/// within this time is closed.
const PONG: Duration = Duration::from_secs(10);
/// A process that cannot be reached in this time is not there.
const CONNECT: Duration = Duration::from_secs(3);
/// The pause after a connection could not be accepted, most likely for want of file handles.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves `router` over HTTP/1.1 and HTTP/2 (told apart by the first bytes) until `shutdown`, then lets the calls that run
/// finish. Requests carry the peer's address as `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let (builder, connections, mut shutdown) = (builder(), GracefulShutdown::new(), pin!(shutdown));
    let ending = CancellationToken::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let service = router.clone().map_request(move |mut request: http::Request<_>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let (builder, watcher, ending) = (builder.clone(), connections.watcher(), ending.clone());
        tokio::spawn(async move {
            match ending.run_until_cancelled(first_words(&stream)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => return tracing::debug!(%error, "a connection was never used"),
                None => return,
            }
            let connection =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    drop(listener);
    ending.cancel();
    connections.shutdown().await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(FIRST_WORDS).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

/// Waits until the peer has said something.
async fn first_words(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    timeout(FIRST_WORDS, stream.readable()).await?
}

/// Serves `upstream` by gRPC until `shutdown`. On the same port are gRPC health, `/healthz`, `/readyz` and whatever is in
/// `plain` (`/metrics`), so this port is not for the public.
pub async fn serve_grpc(
    listener: TcpListener,
    upstream: Upstream,
    plain: Router,
    health: &Health,
    shutdown: impl Future<Output = ()>,
) {
    let calls = upstream.map_request(|request: http::Request<axum::body::Body>| request.map(Body::new));
    let router = health.router().merge(plain).fallback_service(calls);
    serve(listener, router, shutdown).await;
}

/// A service that another process serves at `url`. It is connected to when it is first called, and again when it was
/// lost; while it cannot be reached calls are UNAVAILABLE.
///
/// # Errors
/// When `url` is not an address.
pub fn remote(url: &str) -> Result<Upstream, BoxError> {
    let channel = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(Upstream::new(service_fn(move |mut request: Request| {
        let channel = channel.clone();
        async move {
            propagate(request.headers_mut());
            Ok(channel.oneshot(request).await.unwrap_or_else(|error| refuse(unreachable(error.into()))))
        }
    })))
}

fn unreachable(error: BoxError) -> Status {
    match Status::try_from_error(error) {
        // The channel calls it so when the request's own time is over.
        Ok(status) if status.code() == Code::Cancelled => Status::deadline_exceeded("not done in time"),
        Ok(status) => Error::Unavailable(status.into()).into(),
        Err(error) => Error::Unavailable(error).into(),
    }
}

/// A service of this process with gRPC health beside it, as it is when another process serves it: whoever calls services
/// asks all of them in the same way whether they are ready.
pub fn with_health(service: Upstream, health: &Health) -> Upstream {
    let health = health.grpc();
    Upstream::new(service_fn(move |request: Request| {
        let (service, health) = (service.clone(), health.clone());
        async move {
            match request.uri().path().starts_with("/grpc.health.v1.Health/") {
                true => health.oneshot(request).await,
                false => service.oneshot(request).await,
            }
        }
    }))
}

/// Several services as one: a call goes to the one whose name its method has (`customer` of
/// `/rapport.customer.v1.CustomerService/GetCustomer`), or, where every service has such a method, to the one that the header
/// `rapport-service` names.
pub fn dispatch(services: impl IntoIterator<Item = (String, Upstream)>) -> Upstream {
    let services: Arc<HashMap<String, Upstream>> = Arc::new(services.into_iter().collect());
    Upstream::new(service_fn(move |request: Request| {
        let said = || services.get(request.headers().get("rapport-service")?.to_str().ok()?);
        let named = service(request.uri().path()).and_then(|name| services.get(name));
        let service = named.or_else(said).cloned();
        async move {
            match service {
                Some(service) => service.oneshot(request).await,
                None => Ok(refuse(Status::unimplemented("no service here has such a method"))),
            }
        }
    }))
}

fn service(path: &str) -> Option<&str> {
    path.strip_prefix("/rapport.")?.split('.').next()
}
