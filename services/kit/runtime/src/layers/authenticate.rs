//! Who calls: from the token, or from the secret by which services know each other. Nothing else in a request says it.
use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};
use rapport_kernel::{Clock, Ctx, Error, Grants, Id, Principal, Scope, Via};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tracing::Span;
use uuid::Uuid;

use super::{Next, Request, Response, Step, refuse};
use crate::token::Verifier;

/// The header that carries the internal secret. The gateway takes it off whatever comes from outside.
pub const INTERNAL_HEADER: &str = "rapport-internal";

#[derive(Clone)]
pub(crate) struct Authenticate {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) internal_secret: Option<SecretString>,
    pub(crate) clock: Clock,
}

impl Step for Authenticate {
    async fn run(&self, request: Request, next: impl Next) -> Response {
        let (mut parts, body) = request.into_parts();
        let mut ctx = match self.who(&parts.headers).await {
            Ok(ctx) => ctx,
            Err(error) => return refuse(error),
        };
        ctx.trace = parts.headers.get("traceparent").and_then(|trace| trace.to_str().ok()).map(Arc::from);
        let span = Span::current();
        span.record("principal.kind", kind(ctx.principal));
        if !ctx.tenant.uuid().is_nil() {
            span.record("tenant.id", tracing::field::display(ctx.tenant));
        }
        parts.extensions.insert(ctx);
        next.run(Request::from_parts(parts, body)).await
    }
}

impl Authenticate {
    /// One credential at most: with two it would not be clear for whom the call is made.
    async fn who(&self, headers: &HeaderMap) -> Result<Ctx, Error> {
        match (one(headers, AUTHORIZATION.as_str())?, one(headers, INTERNAL_HEADER)?) {
            (None, None) => Ok(nobody(Principal::Anonymous, self.clock.clone())),
            (Some(bearer), None) => {
                let token = bearer.strip_prefix("Bearer ").ok_or(Error::Unauthenticated)?;
                self.verifier.verify(token).await
            }
            (None, Some(secret)) => {
                let expected = self.internal_secret.as_ref().ok_or(Error::Unauthenticated)?.expose_secret();
                // An empty secret would let everyone in.
                if expected.is_empty() || !bool::from(secret.as_bytes().ct_eq(expected.as_bytes())) {
                    return Err(Error::Unauthenticated);
                }
                Ok(nobody(Principal::Service, self.clock.clone()))
            }
            (Some(_), Some(_)) => Err(Error::Unauthenticated),
        }
    }
}

/// The header's only value.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Error::Unauthenticated),
        (Some(_), Some(_)) => Err(Error::Unauthenticated),
    }
}

/// A caller without a tenant, to whom nothing is granted.
fn nobody(principal: Principal, clock: Clock) -> Ctx {
    let via = if principal == Principal::Service { Via::System } else { Via::Console };
    Ctx {
        principal,
        via,
        scope: Scope::Own,
        grants: Arc::new(Grants::default()),
        ..Ctx::system(Id::new(Uuid::nil()), clock)
    }
}

const fn kind(principal: Principal) -> &'static str {
    match principal {
        Principal::User(_) => "user",
        Principal::ApiKey(_) => "api_key",
        Principal::Operator(_) => "operator",
        Principal::Service => "service",
        Principal::Anonymous => "anonymous",
    }
}
