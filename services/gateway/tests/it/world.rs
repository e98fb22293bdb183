//! A gateway on a free port, with services behind it that remember what they were asked and answer what they were told.
use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Request, Response};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use rapport_gateway::{Gateway, Settings, Upstream};
use rapport_proto::identity::v1::{
    ExchangeCredentialRequest, ExchangeCredentialResponse, ListSigningKeysRequest, ListSigningKeysResponse,
    exchange_credential_request::Credential,
    token_service_server::{TokenService, TokenServiceServer},
};
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{DecodeBuf, Decoder, EncodeBody, EncodeBuf, Encoder, SingleMessageCompressionOverride},
};
use tower::ServiceExt as _;

pub(crate) const SECRET: &str = "between-ourselves";
pub(crate) const KEY: &str = "rap_acme_1_secret";
pub(crate) const SESSION: &str = "s3ss10n";
pub(crate) const ID: &str = "0190a3c4-0000-7000-8000-000000000001";

/// A running gateway.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) services: Services,
    pub(crate) identity: Arc<Identity>,
    pub(crate) client: reqwest::Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let services = Services::default();
        Self::before(services.upstream(), services, change).await
    }

    /// The customer service runs elsewhere.
    pub(crate) async fn apart() -> Self {
        let services = Services::default();
        let served = services.clone();
        let served = tower::service_fn(move |request: axum::extract::Request| {
            let services = served.clone();
            async move {
                Ok::<_, Infallible>(services.serve(request.map(Body::new)).await.map(axum::body::Body::new))
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(
            async move { axum::serve(listener, axum::Router::new().fallback_service(served)).await },
        );
        let channel = tonic::transport::Channel::from_shared(url).unwrap().connect_lazy();
        Self::before(rapport_gateway::upstream(channel), services, |_| {}).await
    }

    async fn before(customer: Upstream, services: Services, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(SECRET);
        settings.cookie_secure = false;
        (settings.tenant_rate, settings.key_rate) = (None, None);
        change(&mut settings);
        let identity = Arc::new(Identity::default());
        let upstreams =
            [("customer".into(), customer), ("identity".into(), identity.upstream(services.clone()))];
        let router = Gateway::new(settings, upstreams.into()).unwrap().into_router();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let client = reqwest::Client::builder().no_gzip().build().unwrap();
        Self { url: format!("http://{address}"), services, identity, client }
    }

    /// A request without credentials.
    pub(crate) fn anonymous(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    /// A request with an API key.
    pub(crate) fn call(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(KEY)
    }
}

/// Every service, known by the contract only.
#[derive(Clone, Default)]
pub(crate) struct Services(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    answers: HashMap<String, Reply>,
    broken: usize,
}

/// One call as a service saw it.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) metadata: HeaderMap,
    pub(crate) messages: Vec<DynamicMessage>,
}

/// What a service answers: messages, then a status.
#[derive(Clone)]
pub(crate) struct Reply {
    messages: Vec<DynamicMessage>,
    status: Option<Status>,
    delay: Duration,
    counts_only: bool,
}

impl Call {
    /// The only message, as canonical JSON with the contract's own names.
    pub(crate) fn json(&self) -> serde_json::Value {
        let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
        self.messages[0].serialize_with_options(serde_json::value::Serializer, &options).unwrap()
    }

    /// The only message as its type.
    pub(crate) fn message<M: prost::Message + Default>(&self) -> M {
        self.messages[0].transcode_to().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Services {
    /// `method` (`customer.v1.CustomerService/GetCustomer`) answers this message.
    pub(crate) fn answer(&self, method: &str, message: &impl prost::Message) {
        self.answer_all(method, [message.encode_to_vec()]);
    }

    /// It answers these messages, as a stream.
    pub(crate) fn answer_all(&self, method: &str, messages: impl IntoIterator<Item = Vec<u8>>) {
        let output = descriptor(method).output();
        let decode = |bytes: Vec<u8>| DynamicMessage::decode(output.clone(), bytes.as_slice()).unwrap();
        self.put(method, |reply| reply.messages = messages.into_iter().map(decode).collect());
    }

    /// It fails, after the messages it was told.
    pub(crate) fn fail(&self, method: &str, status: Status) {
        self.put(method, |reply| reply.status = Some(status));
    }

    /// It takes its time.
    pub(crate) fn delay(&self, method: &str, delay: Duration) {
        self.put(method, |reply| reply.delay = delay);
    }

    /// It forgets what the pieces of an upload held.
    pub(crate) fn count_only(&self, method: &str) {
        self.put(method, |reply| reply.counts_only = true);
    }

    fn put(&self, method: &str, change: impl FnOnce(&mut Reply)) {
        let mut state = self.0.lock().unwrap();
        change(state.answers.entry(format!("/rapport.{method}")).or_insert_with(Reply::nothing));
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.clone()
    }

    /// The last call.
    pub(crate) fn last(&self) -> Call {
        self.calls().pop().expect("no service was called")
    }

    pub(crate) fn upstream(&self) -> Upstream {
        let services = self.clone();
        let service = tower::service_fn(move |request| {
            let services = services.clone();
            async move { Ok::<_, Infallible>(services.serve(request).await) }
        });
        rapport_gateway::upstream(service)
    }

    /// How many requests broke off before they ended.
    pub(crate) fn broken(&self) -> usize {
        self.0.lock().unwrap().broken
    }

    /// Goes on also when the caller goes away, as handlers of services do.
    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let services = self.clone();
        tokio::spawn(async move { services.handle(request).await }).await.unwrap()
    }

    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if path.starts_with("/grpc.health.v1.") {
            let (_, health) = tonic_health::server::health_reporter();
            return health.oneshot(request).await.unwrap_or_else(|never| match never {});
        }
        let Some(method) = rapport_proto::method(&path) else {
            return Status::unimplemented("not of the contract").into_http();
        };
        let reply = self.0.lock().unwrap().answers.get(&path).cloned();
        let reply = reply.unwrap_or_else(|| Reply {
            messages: vec![DynamicMessage::new(method.output())],
            ..Reply::nothing()
        });
        let metadata = request.headers().clone();
        let mut stream = Streaming::new_request(Codec(method.input()), request.into_body(), None, None);
        let mut messages = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) if reply.counts_only => drop(message),
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(status) => {
                    self.0.lock().unwrap().broken += 1;
                    return status.into_http();
                }
            }
        }
        self.0.lock().unwrap().calls.push(Call { path, metadata, messages });
        tokio::time::sleep(reply.delay).await;
        let answers = reply.messages.into_iter().map(Ok).chain(reply.status.map(Err));
        let body = EncodeBody::new_server(
            Codec(method.output()),
            futures::stream::iter(answers),
            None,
            SingleMessageCompressionOverride::default(),
            None,
        );
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("rapport-repeated-bin", "c2VjcmV0".parse().unwrap());
        response
    }
}

impl Reply {
    fn nothing() -> Self {
        Self { messages: Vec::new(), status: None, delay: Duration::ZERO, counts_only: false }
    }
}

fn descriptor(method: &str) -> &'static rapport_proto::Method {
    rapport_proto::method(&format!("/rapport.{method}")).expect("a method of the contract")
}

/// Exchanges what it knows.
#[derive(Default)]
pub(crate) struct Identity {
    pub(crate) asked: AtomicU64,
    pub(crate) revoked: Mutex<HashSet<String>>,
    pub(crate) delay: Mutex<Duration>,
}

impl Identity {
    pub(crate) fn revoke(&self, credential: &str) {
        self.revoked.lock().unwrap().insert(credential.to_owned());
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn upstream(self: &Arc<Self>, others: Services) -> Upstream {
        let tokens = TokenServiceServer::from_arc(Arc::new(Tokens(self.clone())));
        let others = others.upstream();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (tokens, others) = (tokens.clone(), others.clone());
            async move {
                match request.uri().path().starts_with("/rapport.identity.v1.TokenService/") {
                    true => Ok(tokens.oneshot(request).await.unwrap_or_else(|never| match never {})),
                    false => others.oneshot(request).await,
                }
            }
        });
        rapport_gateway::upstream(service)
    }
}

struct Tokens(Arc<Identity>);

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn exchange_credential(
        &self,
        request: tonic::Request<ExchangeCredentialRequest>,
    ) -> Result<tonic::Response<ExchangeCredentialResponse>, Status> {
        assert_eq!(request.metadata().get("rapport-internal").unwrap(), SECRET);
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let delay = *self.0.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        let request = request.into_inner();
        assert_eq!(request.ip_address, "127.0.0.1");
        let credential = match request.credential.unwrap() {
            Credential::ApiKey(key) => key,
            Credential::SessionToken(secret) => secret,
        };
        let tenant = match credential.as_str() {
            KEY | "rap_acme_2_secret" | SESSION => "acme",
            "rap_other_1_secret" => "other",
            _ => return Err(Status::unauthenticated("unknown")),
        };
        if self.0.revoked.lock().unwrap().contains(&credential) {
            return Err(Status::unauthenticated("revoked"));
        }
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tid":"{tenant}","sub":"user:{credential}"}}"#));
        let now = rapport_kernel::Clock::system().now().as_seconds();
        Ok(tonic::Response::new(ExchangeCredentialResponse {
            token: format!("e30.{claims}.sig"),
            expire_time: Some(prost_types::Timestamp { seconds: now + 300, nanos: 0 }),
        }))
    }

    async fn list_signing_keys(
        &self,
        _: tonic::Request<ListSigningKeysRequest>,
    ) -> Result<tonic::Response<ListSigningKeysResponse>, Status> {
        Ok(tonic::Response::new(ListSigningKeysResponse { keys: Vec::new() }))
    }
}

/// The token that a service gets for a credential of acme.
pub(crate) fn token(credential: &str) -> String {
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tid":"acme","sub":"user:{credential}"}}"#));
    format!("Bearer e30.{claims}.sig")
}

struct Codec(MessageDescriptor);

impl Decoder for Codec {
    type Item = DynamicMessage;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Encoder for Codec {
    type Item = DynamicMessage;
    type Error = Status;
    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}
