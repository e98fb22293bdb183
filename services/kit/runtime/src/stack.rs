//! The layers of [`crate::layers`] around a service's routes.
use std::{convert::Infallible, sync::Arc, time::Duration};

use rapport_kernel::{BoxError, Clock};
use secrecy::SecretString;
use tonic::service::Routes;
use tower::{ServiceBuilder, util::BoxCloneSyncService};

use crate::{
    config::Limits,
    layers::{
        Authenticate, Deadline, Fair, OwnTask, Permit, Read, Request, Response, Shed, Trace, Validate, around,
    },
    token::Verifier,
    validate::Rules,
    witness::Witness,
};

/// A service to call, in this process or another. It can be cloned, called directly, and given to a generated client;
/// what goes wrong is a response with a gRPC status.
pub type Upstream = BoxCloneSyncService<Request, Response, Infallible>;

/// What all services of a process share in their layers.
#[derive(Clone, Debug)]
pub struct Stack {
    limits: Limits,
    verifier: Arc<Verifier>,
    internal_secret: Option<SecretString>,
    clock: Clock,
    rules: Arc<Rules>,
    witness: Option<Witness>,
}

impl Stack {
    /// Reads the request rules of the contract. `internal_secret` is how services know each other; without one, methods
    /// for services alone are refused to everybody.
    ///
    /// # Errors
    /// When the contract uses a rule that cannot be checked here.
    pub fn new(
        limits: Limits,
        verifier: Arc<Verifier>,
        internal_secret: Option<SecretString>,
        clock: Clock,
    ) -> Result<Self, BoxError> {
        let rules = Rules::compile(rapport_proto::methods().map(rapport_proto::Method::input))?;
        Ok(Self { limits, verifier, internal_secret, clock, rules: Arc::new(rules), witness: None })
    }

    /// Has this witness look at every call.
    #[must_use]
    pub fn witnessed(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Puts the layers around the routes of one service. `pool_size` is the number of its database connections: unless
    /// configured otherwise, twice as many calls are worked on at a time.
    pub fn wrap(&self, routes: Routes, pool_size: u32) -> Upstream {
        let limits = &self.limits;
        let running = limits.concurrency.unwrap_or(2 * pool_size as usize).max(1);
        let layers = ServiceBuilder::new()
            .layer(around(Trace))
            .layer(around(Deadline {
                default: Duration::from_secs(limits.request_timeout_seconds),
                most: Duration::from_secs(limits.max_timeout_seconds),
                stream: Duration::from_secs(limits.stream_timeout_seconds),
            }))
            .layer(around(Shed::new(limits.in_flight, limits.watches)))
            .layer(around(Authenticate {
                verifier: self.verifier.clone(),
                internal_secret: self.internal_secret.clone(),
                clock: self.clock.clone(),
            }))
            .layer(around(Permit { witness: self.witness.clone() }))
            .layer(around(Read::new(limits.body_bytes, limits.buffered_bytes)))
            .layer(around(Fair::new(
                running,
                limits.tenant_queue,
                Duration::from_millis(limits.queue_wait_ms),
                limits.tenant_streams,
                limits.tenant_watches,
            )))
            .layer(around(Validate(self.rules.clone())))
            .layer(around(OwnTask { clock: self.clock.clone() }));
        Upstream::new(layers.service(routes.prepare()))
    }
}
