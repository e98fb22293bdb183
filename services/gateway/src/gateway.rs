//! The gateway as one service: everything on one port, told apart by content type.
use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};
use tower_http::{
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate as _, SizeAbove},
    },
    cors::CorsLayer,
    decompression::RequestDecompressionLayer,
};

use crate::{
    Settings, Upstream,
    edge::{Edge, Face},
    grpc::{self, Proxy},
    headers, openapi,
    pages::Pages,
    problem::Problem,
    rest::{Rest, UnknownPacking},
};

/// Answers smaller than this are not worth packing, in bytes.
const PACKED_ABOVE: u64 = 1_024;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The contract's annotations of a method cannot be served.
    #[error("{0}: {1}")]
    Contract(String, String),
    /// Credentials are exchanged by identity.
    #[error("the gateway needs the service `identity`")]
    NoIdentity,
    /// The secret goes into a header.
    #[error("the internal secret must be plain ASCII text")]
    InternalSecret,
    /// An allowed origin is none.
    #[error("`{0}` is not an origin like `https://console.example.com`")]
    Origin(String),
}

/// The edge: REST, gRPC and gRPC-Web before the services.
pub struct Gateway {
    edge: Arc<Edge>,
    pages: Pages,
    cors: Option<CorsLayer>,
    secure: bool,
    extra: Router,
}

impl Gateway {
    /// Reads the contract and stands before `upstreams`, by their service words (`customer`, `identity`). Methods of
    /// services that are not among them do not exist here.
    ///
    /// # Errors
    /// The settings or the contract cannot be served.
    pub fn new(settings: Settings, upstreams: HashMap<String, Upstream>) -> Result<Self, SetupError> {
        let cors = cors(&settings.allowed_origins)?;
        let edge = Edge::new(&settings, upstreams)?;
        let document = openapi::document(&settings, &edge)?;
        Ok(Self {
            pages: Pages::new(&settings, &document, &edge),
            edge,
            cors,
            secure: settings.cookie_secure,
            extra: settings.extra,
        })
    }

    /// The service to listen with. The server puts `axum::extract::ConnectInfo<SocketAddr>` into each request, so that
    /// services learn where a call came from.
    pub fn into_router(self) -> Router {
        let secure = self.secure;
        let front = Front::new(&self.edge);
        let packed = SizeAbove::new(PACKED_ABOVE)
            .and(NotForContentType::GRPC)
            .and(NotForContentType::IMAGES)
            .and(NotForContentType::SSE);
        let mut router = Router::new()
            .fallback(Front::serve)
            .with_state(front)
            .merge(self.pages.router())
            .merge(self.extra)
            .layer(CompressionLayer::new().compress_when(packed));
        if let Some(cors) = self.cors {
            router = router.layer(cors);
        }
        router.layer(axum::middleware::map_response(move |mut response: Response| async move {
            headers::everywhere(response.headers_mut(), secure);
            response
        }))
    }
}

/// Tells requests apart.
#[derive(Clone)]
struct Front {
    rest: BoxCloneSyncService<Request, Response, Infallible>,
    web: GrpcWebService<Proxy>,
    grpc: Proxy,
}

impl Front {
    fn new(edge: &Arc<Edge>) -> Self {
        let rest = ServiceBuilder::new()
            .layer(RequestDecompressionLayer::new())
            .map_request(|request: http::Request<_>| request.map(Body::new))
            .service(Rest(edge.clone()))
            .map_response(|response: http::Response<_>| response.map(Body::new))
            .map_err(|error| match error {});
        Self {
            rest: BoxCloneSyncService::new(rest),
            web: GrpcWebLayer::new().layer(Proxy::new(edge.clone(), Face::Web)),
            grpc: Proxy::new(edge.clone(), Face::Grpc),
        }
    }

    async fn serve(State(mut front): State<Self>, request: Request) -> Response {
        match Kind::of(request.headers()) {
            Kind::GrpcWeb | Kind::Grpc if request.method() != Method::POST => {
                grpc::not_a_post().map(Body::new)
            }
            Kind::GrpcWeb => into_ok(front.web.call(request).await).map(Body::new),
            Kind::Grpc if request.version() < Version::HTTP_2 => refused(
                Problem::malformed("gRPC needs HTTP/2; by HTTP/1.1 there are gRPC-Web and REST"),
                &request,
            ),
            Kind::Grpc => into_ok(front.grpc.call(request.map(unbroken)).await).map(Body::new),
            Kind::Other => into_ok(front.rest.call(packing(request)).await),
        }
    }
}

/// What a request's content type says it is.
enum Kind {
    GrpcWeb,
    Grpc,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        match content_type.strip_prefix(b"application/grpc") {
            Some(rest) if rest.starts_with(b"-web") => Self::GrpcWeb,
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            _ => Self::Other,
        }
    }
}

/// A stream that its caller breaks off must not look as if it ended: servers take `CANCELLED` for the end.
fn unbroken(body: Body) -> tonic::body::Body {
    tonic::body::Body::new(body.map_err(|_| Status::aborted("the caller broke off")))
}

fn refused(problem: Problem, request: &Request) -> Response {
    let mut response = problem.at(request.uri().path()).into_response();
    headers::api(response.headers_mut());
    response
}

/// What cannot be unpacked is noted, to be refused when it is known who sent it.
fn packing(mut request: Request) -> Request {
    let coding = request.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !matches!(coding.as_bytes(), b"gzip" | b"identity")) {
        request.headers_mut().remove(header::CONTENT_ENCODING);
        request.extensions_mut().insert(UnknownPacking);
    }
    request
}

fn into_ok<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// Pages of these origins may call, with API keys: cookies are neither sent nor taken.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>, SetupError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let parse = |origin: &String| {
        let url = url::Url::parse(origin).ok().filter(|url| url.origin().is_tuple());
        let exact = url.is_some_and(|url| url.origin().ascii_serialization() == *origin);
        exact
            .then(|| HeaderValue::try_from(origin).ok())
            .flatten()
            .ok_or_else(|| SetupError::Origin(origin.clone()))
    };
    let origins = origins.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let named =
        |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(named(&[
            "authorization",
            "content-type",
            "content-encoding",
            "idempotency-key",
            "grpc-timeout",
            "x-grpc-web",
            "x-user-agent",
        ]))
        .expose_headers(named(&[
            "content-disposition",
            "grpc-message",
            "grpc-status",
            "grpc-status-details-bin",
            "ratelimit-limit",
            "ratelimit-remaining",
            "ratelimit-reset",
            "retry-after",
            "x-request-id",
        ]))
        .max_age(std::time::Duration::from_secs(3_600));
    Ok(Some(layer))
}
