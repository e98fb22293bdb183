//! Calling the services of this process as somebody, without a network: for demo data and for commands.
use std::collections::HashMap;

use rapport_kernel::BoxError;
use rapport_proto::identity::v1::{
    ExchangeCredentialRequest, exchange_credential_request::Credential,
    token_service_client::TokenServiceClient,
};
use rapport_runtime::stack::Upstream;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
};

use crate::suite::Suite;

/// The services, and what lets them trust each other.
#[derive(Clone)]
pub struct Access {
    services: HashMap<String, Upstream>,
    internal: String,
}

/// A service as it is called by somebody.
pub type Called = InterceptedService<Upstream, Bearer>;

impl Access {
    /// Calls the services of `suite`.
    pub fn new(suite: &Suite, internal: &str) -> Self {
        Self { services: suite.services.clone(), internal: internal.to_owned() }
    }

    /// A service, called by nobody in particular.
    pub fn anonymous(&self, service: &str) -> Result<Upstream, BoxError> {
        self.services
            .get(service)
            .cloned()
            .ok_or_else(|| format!("{service} does not run in this process").into())
    }

    /// A service, called with a token.
    pub fn with(&self, service: &str, bearer: &Bearer) -> Result<Called, BoxError> {
        Ok(InterceptedService::new(self.anonymous(service)?, bearer.clone()))
    }

    /// Exchanges a session's secret or an API key for a token.
    pub async fn exchange(&self, credential: Credential) -> Result<Bearer, BoxError> {
        let mut request = Request::new(ExchangeCredentialRequest {
            credential: Some(credential),
            ip_address: String::new(),
        });
        request.metadata_mut().insert("rapport-internal", self.internal.parse()?);
        let mut tokens = TokenServiceClient::new(self.anonymous("identity")?);
        let token = tokens.exchange_credential(request).await?.into_inner().token;
        Ok(Bearer(format!("Bearer {token}").parse()?))
    }
}

/// Puts a token on every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
