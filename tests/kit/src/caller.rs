//! Somebody who is signed in, and how they call.
use rapport::access::{Access, Bearer, Called};
use rapport_proto::{
    customer::v1::{
        customer_service_client::CustomerServiceClient, field_service_client::FieldServiceClient,
        import_service_client::ImportServiceClient,
    },
    identity::v1::{User, exchange_credential_request::Credential},
};
use reqwest::{Method, Response};
use serde_json::Value;
use tonic::{service::interceptor::InterceptedService, transport::Channel};

/// Somebody who is signed in.
#[derive(Clone)]
pub struct Caller {
    /// Who.
    pub user: User,
    /// The secret of their session, as the browser's cookie has it.
    pub session_token: String,
    /// Their token, as services verify it.
    pub bearer: Bearer,
    access: Access,
    url: String,
    http: reqwest::Client,
}

impl Caller {
    pub(crate) async fn new(access: Access, url: String, user: User, session_token: String) -> Self {
        let bearer = access.exchange(Credential::SessionToken(session_token.clone())).await.unwrap();
        Self { user, session_token, bearer, access, url, http: reqwest::Client::new() }
    }

    /// The same with a new token, since tokens are short-lived; by REST the gateway sees to that.
    pub async fn renewed(&self) -> Self {
        let bearer =
            self.access.exchange(Credential::SessionToken(self.session_token.clone())).await.unwrap();
        Self { bearer, ..self.clone() }
    }

    /// Their name, as records refer to them.
    pub fn name(&self) -> String {
        format!("identity.user/{}", self.user.id)
    }

    /// A service of the suite, called by them without a network, through all its layers.
    pub fn direct(&self, service: &str) -> Called {
        self.access.with(service, &self.bearer).unwrap()
    }

    /// Customers by gRPC.
    pub fn customers(&self) -> CustomerServiceClient<Called> {
        CustomerServiceClient::new(self.direct("customer")).max_decoding_message_size(64 << 20)
    }

    /// Customers by gRPC over the network, straight at the services that listen at `url`.
    pub fn customers_at(&self, url: &str) -> CustomerServiceClient<InterceptedService<Channel, Bearer>> {
        let channel = Channel::from_shared(url.to_owned()).unwrap().tcp_nodelay(true).connect_lazy();
        CustomerServiceClient::with_interceptor(channel, self.bearer.clone())
    }

    /// Custom fields of customers by gRPC.
    pub fn fields(&self) -> FieldServiceClient<Called> {
        FieldServiceClient::new(self.direct("customer"))
    }

    /// Imports of customers by gRPC.
    pub fn imports(&self) -> ImportServiceClient<Called> {
        ImportServiceClient::new(self.direct("customer"))
    }

    /// A request by REST through the gateway, with the session's cookie, as the console sends it.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .header("cookie", format!("rapport={}", self.session_token))
            .header("sec-fetch-site", "same-origin")
    }

    /// GET by REST.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// POST by REST.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// PATCH by REST.
    pub async fn patch(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PATCH, path).json(body).send().await.unwrap()
    }

    /// The answer to GET as JSON, which must be a success.
    pub async fn read(&self, path: &str) -> Value {
        json(self.get(path).await).await
    }
}

/// The body of a success as JSON.
///
/// # Panics
/// When the answer is an error; the text says which.
pub async fn json(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}
