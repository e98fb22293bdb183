//! The services as they call each other, in this process or elsewhere.
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use axum::http::HeaderValue;
use rapport_events::consume::Producer;
use rapport_kernel::Error;
use rapport_proto::events::v1::log_service_client::LogServiceClient;
use rapport_runtime::{
    layers::{Request, refuse},
    stack::Upstream,
};
use tower::{ServiceExt as _, service_fn};

/// Who is reached how. They are found only after all services of this process were made, of which each may need another.
pub(crate) struct Peers {
    services: OnceLock<HashMap<String, Upstream>>,
    secret: Option<HeaderValue>,
}

impl Peers {
    /// Nobody yet. `secret` is how services know each other.
    pub(crate) fn new(secret: Option<String>) -> Self {
        let secret = secret.and_then(|secret| HeaderValue::try_from(secret).ok());
        Self { services: OnceLock::new(), secret }
    }

    /// These are all.
    pub(crate) fn found(&self, services: HashMap<String, Upstream>) {
        let _ = self.services.set(services);
    }

    /// A service, called by another one of ours.
    pub(crate) fn call(self: &Arc<Self>, name: &'static str) -> Upstream {
        let peers = self.clone();
        Upstream::new(service_fn(move |mut request: Request| {
            let service = peers.services.get().and_then(|services| services.get(name)).cloned();
            request.headers_mut().insert("rapport-service", HeaderValue::from_static(name));
            if let Some(secret) = &peers.secret {
                request.headers_mut().insert("rapport-internal", secret.clone());
            }
            async move {
                match service {
                    Some(service) => service.oneshot(request).await,
                    None => Ok(refuse(Error::Unavailable(format!("{name} is not there yet").into()))),
                }
            }
        }))
    }

    /// A service whose log another one hears.
    pub(crate) fn producer(self: &Arc<Self>, name: &'static str) -> Producer {
        Producer::new(LogServiceClient::new(self.call(name)))
    }
}
