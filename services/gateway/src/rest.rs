//! REST: finds the method for a request, lets the caller in, turns JSON into the method's message and its answer into
//! JSON. Which method, which fields and which form are all read from the contract.
mod answer;
mod files;
mod request;
mod watch;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, response::IntoResponse as _};
use futures::future::BoxFuture;
use http::{HeaderValue, Method as Verb, Request, Response, StatusCode, header, request::Parts};
use prost_reflect::DynamicMessage;
use rapport_kernel::Error;
use tower::Service;

use crate::{
    caller::Caller,
    edge::{Edge, Face},
    headers,
    problem::{Problem, allow},
    route::{Found, Route, Shape},
    telemetry::{Seen, observe},
};

/// Marks a request whose body is packed in a way that is not taken.
#[derive(Clone, Copy)]
pub(crate) struct UnknownPacking;

/// Serves REST.
#[derive(Clone)]
pub(crate) struct Rest(pub(crate) Arc<Edge>);

impl Rest {
    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let answered = |request, seen: Arc<Seen>| async move { self.find(request, &seen).await };
        observe(Face::Rest, &self.0.clock, request, answered).await.map(Body::new)
    }

    async fn find(&self, request: Request<Body>, seen: &Seen) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let verb = if parts.method == Verb::HEAD { &Verb::GET } else { &parts.method };
        let path = parts.uri.path();
        let mut response = match self.0.table.find(verb, path) {
            Found::Route(route, values) => {
                seen.route(&route.verb, route.template.text());
                self.call(route, &values, &parts, body, seen).await
            }
            Found::OtherMethods(methods) if *verb == Verb::OPTIONS => options(&methods),
            Found::OtherMethods(methods) => Problem::wrong_method(verb, &methods).at(path).into_response(),
            Found::Nothing => Problem::unknown_path(path, &self.0.table.near(path)).at(path).into_response(),
        };
        headers::api(response.headers_mut());
        response
    }

    async fn call(
        &self,
        route: &Route,
        values: &[String],
        parts: &Parts,
        body: Body,
        seen: &Seen,
    ) -> Response<Body> {
        let refused = |problem: Problem| problem.at(parts.uri.path()).into_response();
        let caller = match self.0.admit(route.method, parts, Face::Rest).await {
            Ok(caller) => caller,
            Err(status) => return refused(Problem::of(&status, None)),
        };
        seen.caller(&caller);
        let (standing, verdict) = self.0.limits.count(&caller);
        let answered = match verdict {
            Ok(()) => self.answer(route, values, parts, body, &caller).await,
            Err(error) => Err(error.into()),
        };
        let mut response = answered.unwrap_or_else(refused);
        if let Some(standing) = standing {
            standing.tell(response.headers_mut());
        }
        response
    }

    async fn answer(
        &self,
        route: &Route,
        values: &[String],
        parts: &Parts,
        body: Body,
        caller: &Caller,
    ) -> Result<Response<Body>, Problem> {
        let edge = &*self.0;
        if parts.extensions.get::<UnknownPacking>().is_some() {
            return Err(Problem::unsupported("of content encodings only `gzip` is taken"));
        }
        let metadata = headers::metadata(&parts.headers, caller);
        let told = |status| Problem::of(&status, Some(&route.method.input()));
        match &route.shape {
            Shape::Json => {
                let message = request::read(edge, route, values, parts, body).await?;
                let service = whose(edge, route, &message)?;
                let answer =
                    edge.upstreams.call_once(&service, route.method, metadata, message, edge.deadline).await;
                edge.ended(route.method, caller).await;
                answer::write(edge, route, answer.map_err(told)?)
            }
            Shape::Upload(field) => {
                let first = request::without_body(route, values, parts)?;
                let answer = files::upload(edge, route, field, metadata, parts, first, body).await?;
                answer::write(edge, route, answer)
            }
            Shape::Download => {
                let message = request::read(edge, route, values, parts, body).await?;
                files::download(edge, route, metadata, message).await
            }
            Shape::Watch => {
                let message = request::read(edge, route, values, parts, body).await?;
                watch::watch(edge, route, metadata, message, &parts.headers).await
            }
        }
    }
}

/// The service that is meant.
fn whose(edge: &Edge, route: &Route, message: &DynamicMessage) -> Result<String, Problem> {
    let Some(field) = &route.service else { return Ok(route.method.service().to_owned()) };
    let name = message.get_field(field).as_str().unwrap_or_default().to_owned();
    if edge.upstreams.get(&name).is_some() {
        return Ok(name);
    }
    let problem = format!("is none of the services: `{}`", edge.upstreams.names().join("`, `"));
    Err(Problem::of(&Error::invalid("service", problem).into(), None))
}

fn options(methods: &[Verb]) -> Response<Body> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(allowed) = HeaderValue::try_from(allow(methods)) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

impl Service<Request<Body>> for Rest {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let rest = self.clone();
        Box::pin(async move { Ok(rest.serve(request).await) })
    }
}
