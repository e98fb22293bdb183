//! What every call goes through before its handler, from outside in:
//!
//! 1. `trace`: the span, the metrics, W3C trace context.
//! 2. `deadline`: the caller's time or the configured one, whichever is shorter.
//! 3. `shed`: more calls than the service can hold are refused at once.
//! 4. `authenticate`: token → `Ctx`.
//! 5. `permit`: may this caller call this method, by the contract; what it does not name is refused.
//! 6. `read`: the request of a unary call is taken in, within its size.
//! 7. `fair`: calls wait for their turn, tenant by tenant.
//! 8. `validate`: request rules, and the request id.
//! 9. `own_task`: the handler runs in a task of its own.
//!
//! The fair queue comes after `authenticate`, because only the token says which tenant calls, and after `read`, because a
//! caller who sends slowly would otherwise sit on one of the few places; `permit` needs nothing but the token, so who is
//! refused costs neither memory nor a place.
//!
//! A step is an async function around the rest; `around` makes a tower layer of it. Failures are responses with a gRPC
//! status, so the error type of the whole is `Infallible`.
mod authenticate;
mod deadline;
mod fair;
mod fair_queue;
mod own_task;
mod permit;
mod read;
mod shed;
mod streams;
mod trace;
mod validate;

use std::{
    any::Any,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use rapport_proto::Method;
use tonic::{Status, body::Body};
use tower::{Service, layer::layer_fn};

pub(crate) use authenticate::Authenticate;
pub use authenticate::INTERNAL_HEADER;
pub(crate) use deadline::Deadline;
pub(crate) use fair::Fair;
pub(crate) use own_task::OwnTask;
pub(crate) use permit::Permit;
pub(crate) use read::Read;
pub(crate) use shed::Shed;
pub(crate) use trace::Trace;
pub use trace::{continue_trace, propagate, rename};
pub(crate) use validate::Validate;

/// A gRPC request on its way.
pub type Request = http::Request<Body>;
/// A gRPC response on its way.
pub type Response = http::Response<Body>;

/// One step of a call: does something before and after the rest.
pub(crate) trait Step: Clone + Send + Sync + 'static {
    fn run(&self, request: Request, next: impl Next) -> impl Future<Output = Response> + Send;
}

/// The rest of a call.
pub(crate) trait Next: Clone + Send + 'static {
    fn run(self, request: Request) -> impl Future<Output = Response> + Send;
}

impl<S> Next for S
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    async fn run(mut self, request: Request) -> Response {
        let Ok(()) = std::future::poll_fn(|cx| self.poll_ready(cx)).await;
        let Ok(response) = self.call(request).await;
        response
    }
}

/// The tower layer of a step.
pub(crate) fn around<T: Step, S>(step: T) -> impl tower::Layer<S, Service = Around<T, S>> + Clone {
    layer_fn(move |next| Around { step: step.clone(), next })
}

/// A service with a step around it.
#[derive(Clone)]
pub(crate) struct Around<T, S> {
    step: T,
    next: S,
}

impl<T: Step, S: Next> Service<Request> for Around<T, S> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { step, next } = self.clone();
        Box::pin(async move { Ok(step.run(request, next).await) })
    }
}

/// The response that refuses a call.
/// The answer that says this.
pub fn refuse(status: impl Into<Status>) -> Response {
    status.into().into_http()
}

/// The method that is called; `None` when the contract has none of that name. The first step looked it up.
pub(crate) fn method(request: &http::Request<Body>) -> Option<&'static Method> {
    request.extensions().get::<Called>().map(|called| called.0)
}

/// The method that is called.
#[derive(Clone, Copy)]
struct Called(&'static Method);

/// What a call occupies, places and memory, until its handler is through: also when the caller is gone by then.
#[derive(Clone, Default)]
pub(crate) struct Held(Vec<Arc<dyn Any + Send + Sync>>);

/// Keeps `guard` as long as the call is worked on.
pub(crate) fn hold(request: &mut Request, guard: impl Send + Sync + 'static) {
    request.extensions_mut().get_or_insert_default::<Held>().0.push(Arc::new(guard));
}
