//! Request rules, and the request id: a handler sees only what the contract allows. The bytes go on as they came.
use std::sync::Arc;

use prost_reflect::DynamicMessage;
use rapport_kernel::{Ctx, Error, RequestId, cut};
use rapport_proto::Method;

use super::{Next, Request, Response, Step, method, read::Unary, refuse};
use crate::validate::{Rules, fingerprint};

#[derive(Clone)]
pub(crate) struct Validate(pub(crate) Arc<Rules>);

impl Step for Validate {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        if let Some(method) = method(&request)
            && let Some(unary) = request.extensions().get::<Unary>()
        {
            match self.check(method, unary) {
                Ok(id) => {
                    if let Some(ctx) = request.extensions_mut().get_mut::<Ctx>() {
                        ctx.request_id = id;
                    }
                }
                Err(error) => return refuse(error),
            }
        }
        next.run(request).await
    }
}

impl Validate {
    /// Checks the request; the request id, if it is a write that has one.
    fn check(&self, method: &'static Method, unary: &Unary) -> Result<Option<RequestId>, Error> {
        let message = DynamicMessage::decode(method.input(), unary.message()).map_err(|e| {
            Error::invalid("request", format!("is not a {}: {}", method.input().name(), cut(&e.to_string())))
        })?;
        let violations = self.0.check(&message);
        if !violations.is_empty() {
            return Err(Error::Invalid(violations));
        }
        let key = message.get_field_by_name("request_id").and_then(|id| id.as_str().map(str::to_owned));
        Ok(key.filter(|key| !key.is_empty() && method.writes()).map(|key| RequestId {
            key,
            method: &method.path,
            fingerprint: fingerprint(&message),
        }))
    }
}
