//! gRPC and gRPC-Web: calls go through as they are, message by message, once the caller was let in. Only methods of the
//! contract, and of those not the ones that Rapport's services keep for each other.
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header};
use rapport_kernel::Error;
use rapport_proto::{Method, SessionEffect};
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    caller::Caller,
    edge::{Edge, Face},
    headers,
    limits::Standing,
    route,
    telemetry::{Seen, observe},
    upstream::WHOSE,
};

/// Passes gRPC calls on.
#[derive(Clone)]
pub(crate) struct Proxy {
    edge: Arc<Edge>,
    face: Face,
}

impl Proxy {
    /// A proxy for calls that come by `face`.
    pub(crate) const fn new(edge: Arc<Edge>, face: Face) -> Self {
        Self { edge, face }
    }

    async fn pass(&self, request: Request<Body>) -> Response<Body> {
        let answered = |request, seen: Arc<Seen>| async move { self.answer(request, &seen).await };
        observe(self.face, &self.edge.clock, request, answered).await.map(Body::new)
    }

    async fn answer(&self, request: Request<Body>, seen: &Seen) -> Response<Body> {
        let mut standing = None;
        let passed = self.try_pass(request, &mut standing, seen).await;
        let mut response = passed.unwrap_or_else(Status::into_http);
        if let Some(standing) = standing {
            standing.tell(response.headers_mut());
        }
        response
    }

    async fn try_pass(
        &self,
        request: Request<Body>,
        standing: &mut Option<Standing>,
        seen: &Seen,
    ) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        let method = self.method(parts.uri.path())?;
        let service = self.whose(method, &parts.headers)?;
        seen.route(&parts.method, &method.path);
        let caller = self.edge.admit(method, &parts, self.face).await?;
        seen.caller(&caller);
        let (where_it_stands, verdict) = self.edge.limits.count(&caller);
        *standing = where_it_stands;
        verdict?;

        headers::inward(&mut parts.headers, &caller);
        if let Some(service) = HeaderValue::try_from(&service).ok().filter(|_| method.is_everywhere()) {
            parts.headers.insert(WHOSE, service);
        }
        let mut onward = Request::new(body);
        *onward.method_mut() = http::Method::POST;
        *onward.version_mut() = Version::HTTP_2;
        *onward.uri_mut() = Uri::from_static(method.path.as_str());
        *onward.headers_mut() = parts.headers;
        let mut response = self.edge.upstreams.send(&service, onward).await?;
        headers::drop_inside(response.headers_mut());
        self.after(method, &caller, &mut response).await;
        Ok(response)
    }

    fn method(&self, path: &str) -> Result<&'static Method, Status> {
        let method = rapport_proto::method(path).filter(|method| route::reachable(method));
        let served = method
            .filter(|method| method.is_everywhere() || self.edge.upstreams.get(method.service()).is_some());
        served.ok_or_else(|| Status::unimplemented("there is no such method"))
    }

    /// The service that is meant: of what every service has, a header says whose.
    fn whose(&self, method: &Method, headers: &HeaderMap) -> Result<String, Status> {
        if !method.is_everywhere() {
            return Ok(method.service().to_owned());
        }
        let named = headers.get(WHOSE).and_then(|name| name.to_str().ok()).unwrap_or_default();
        if self.edge.upstreams.get(named).is_some() {
            return Ok(named.to_owned());
        }
        let known = self.edge.upstreams.names().join("`, `");
        Err(Error::invalid(WHOSE, format!("must name the service that is meant, one of `{known}`")).into())
    }

    async fn after(&self, method: &Method, caller: &Caller, response: &mut Response<Body>) {
        self.edge.ended(method, caller).await;
        let ends = method.session == SessionEffect::Ends && self.face == Face::Web;
        if let Some(cookie) = ends.then(|| self.edge.cookie.end()).flatten() {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

impl Service<Request<Body>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async move { Ok(proxy.pass(request).await) })
    }
}

/// The refusal of a call that is neither gRPC nor gRPC-Web as it should be.
pub(crate) fn not_a_post() -> Response<Body> {
    Status::from(Error::invalid("", "gRPC calls are POST requests")).into_http()
}
