//! A server with the layers around two services of the contract, whose answers the test chooses, and its clients.
use std::{net::SocketAddr, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use rapport_kernel::{Clock, Ctx, Error, Grants, Id, Principal, Scope, TenantState, Via};
use rapport_proto::{
    customer::v1::{
        import_service_client::ImportServiceClient,
        import_service_server::{ImportService, ImportServiceServer},
    },
    google::api::HttpBody,
    identity::v1::{
        CreateUnitRequest, DeleteUnitRequest, GetUnitRequest, ListUnitsRequest, ListUnitsResponse, Unit,
        UpdateUnitRequest,
        unit_service_client::UnitServiceClient,
        unit_service_server::{UnitService, UnitServiceServer},
    },
    imports::v1::{
        CancelImportRequest, CreateImportRequest, DownloadImportIssuesRequest, DryRunImportRequest,
        GetImportRequest, Import, ListImportIssuesRequest, ListImportIssuesResponse, ListImportsRequest,
        ListImportsResponse, StartImportRequest, UndoImportRequest, UpdateImportRequest,
        UploadImportFileRequest,
    },
};
use rapport_runtime::{
    config::Limits,
    health::Health,
    server::serve_grpc,
    stack::{Stack, Upstream},
    token::{Claims, KeySource, PublicKey, SigningKeyPair, Verifier, sign},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::Channel};
use uuid::Uuid;

pub(crate) const SECRET: &str = "the-internal-secret-of-this-test-world";
pub(crate) const ID: &str = "0190a3c4-0000-7000-8000-000000000007";

type Handler<Q, A> = Arc<dyn Fn(Ctx, Q) -> BoxFuture<'static, Result<A, Error>> + Send + Sync>;
pub(crate) type Pieces = BoxStream<'static, Result<HttpBody, Status>>;

/// What the handlers answer; what a test does not choose is unimplemented.
#[derive(Clone)]
pub(crate) struct Answers {
    get: Handler<GetUnitRequest, Unit>,
    create: Handler<CreateUnitRequest, Unit>,
    download: Handler<DownloadImportIssuesRequest, Pieces>,
    upload: Handler<Streaming<UploadImportFileRequest>, Import>,
}

fn handler<Q: Send + 'static, A: 'static, F>(f: impl Fn(Ctx, Q) -> F + Send + Sync + 'static) -> Handler<Q, A>
where
    F: Future<Output = Result<A, Error>> + Send + 'static,
{
    Arc::new(move |ctx, request| f(ctx, request).boxed())
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            get: handler(async |_, r: GetUnitRequest| Ok(Unit { id: r.id, ..Unit::default() })),
            create: handler(async |_, r: CreateUnitRequest| Ok(r.unit.unwrap_or_default())),
            download: handler(async |_, _| Ok(futures::stream::empty().boxed())),
            upload: handler(async |_, _| Ok(Import::default())),
        }
    }
}

impl Answers {
    pub(crate) fn get<F>(f: impl Fn(Ctx, GetUnitRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Unit, Error>> + Send + 'static,
    {
        Self { get: handler(f), ..Self::default() }
    }

    pub(crate) fn create<F>(f: impl Fn(Ctx, CreateUnitRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Unit, Error>> + Send + 'static,
    {
        Self { create: handler(f), ..Self::default() }
    }

    pub(crate) fn download<F>(
        f: impl Fn(Ctx, DownloadImportIssuesRequest) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Pieces, Error>> + Send + 'static,
    {
        Self { download: handler(f), ..Self::default() }
    }

    pub(crate) fn upload<F>(
        f: impl Fn(Ctx, Streaming<UploadImportFileRequest>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Import, Error>> + Send + 'static,
    {
        Self { upload: handler(f), ..Self::default() }
    }
}

/// A running server.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) upstream: Upstream,
    pub(crate) health: Health,
    pub(crate) key: SigningKeyPair,
    pub(crate) stop: CancellationToken,
    pub(crate) server: AbortOnDropHandle<()>,
}

impl World {
    pub(crate) async fn start(answers: Answers) -> Self {
        Self::limited(answers, Limits::default()).await
    }

    pub(crate) async fn limited(answers: Answers, limits: Limits) -> Self {
        let key = SigningKeyPair::generate("k1");
        let public = PublicKey { kid: key.kid().into(), key: key.public(), expires_at: None };
        let source: KeySource = Arc::new(move || futures::future::ready(Ok(vec![public.clone()])).boxed());
        let verifier = Arc::new(Verifier::new(source, Clock::system()));
        let stack = Stack::new(limits, verifier, Some(SECRET.into()), Clock::system()).unwrap();
        let answers = Arc::new(answers);
        let routes = Routes::new(UnitServiceServer::from_arc(answers.clone()))
            .add_service(ImportServiceServer::from_arc(answers));
        let upstream = stack.wrap(routes, 8);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop, health) =
            (listener.local_addr().unwrap(), CancellationToken::new(), Health::new(vec![]));
        let server = tokio::spawn({
            let (upstream, health, stop) = (upstream.clone(), health.clone(), stop.clone());
            async move {
                serve_grpc(listener, upstream, axum::Router::new(), &health, stop.cancelled_owned()).await;
            }
        });
        Self { address, upstream, health, key, stop, server: AbortOnDropHandle::new(server) }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn units(&self) -> UnitServiceClient<Channel> {
        UnitServiceClient::new(self.channel().await)
    }

    pub(crate) async fn imports(&self) -> ImportServiceClient<Channel> {
        ImportServiceClient::new(self.channel().await)
    }

    pub(crate) fn claims(&self) -> Claims {
        let now = Clock::system().now();
        Claims {
            principal: Principal::User(Uuid::from_u128(7)),
            tenant: Id::new(Uuid::from_u128(1)),
            tenant_state: (TenantState::Active, 1),
            on_behalf_of: None,
            via: Via::Console,
            grants: [("*", Scope::All)].into_iter().collect::<Grants>(),
            field_rights: Default::default(),
            locale: "zh-CN".into(),
            time_zone: "Asia/Shanghai".into(),
            phone_region: "CN".into(),
            session: Some(Uuid::from_u128(9)),
            issued_at: now,
            expires_at: now.plus_seconds(300),
            id: Uuid::from_u128(now.as_micros().unsigned_abs().into()),
        }
    }

    /// A request by a user of tenant 1 who may do everything.
    pub(crate) fn signed<T>(&self, message: T) -> Request<T> {
        self.signed_as(self.claims(), message)
    }

    /// A request by a user of another tenant.
    pub(crate) fn of_tenant<T>(&self, tenant: u128, message: T) -> Request<T> {
        self.signed_as(Claims { tenant: Id::new(Uuid::from_u128(tenant)), ..self.claims() }, message)
    }

    pub(crate) fn signed_as<T>(&self, claims: Claims, message: T) -> Request<T> {
        let token = sign(&self.key, &claims).unwrap();
        with(message, "authorization", &format!("Bearer {token}"))
    }
}

/// A request with a header.
pub(crate) fn with<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

pub(crate) fn get() -> GetUnitRequest {
    GetUnitRequest { id: ID.into() }
}

pub(crate) fn create(name: &str, request_id: &str) -> CreateUnitRequest {
    let unit = Unit { display_name: name.into(), ..Unit::default() };
    CreateUnitRequest { unit: Some(unit), request_id: request_id.into() }
}

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl UnitService for Answers {
    async fn get_unit(&self, request: Request<GetUnitRequest>) -> Result<Response<Unit>, Status> {
        let (ctx, request) = Ctx::open(request)?;
        Ok(Response::new((self.get)(ctx, request).await?))
    }
    async fn create_unit(&self, request: Request<CreateUnitRequest>) -> Result<Response<Unit>, Status> {
        let (ctx, request) = Ctx::open(request)?;
        Ok(Response::new((self.create)(ctx, request).await?))
    }
    async fn list_units(&self, _: Request<ListUnitsRequest>) -> Result<Response<ListUnitsResponse>, Status> {
        no()
    }
    async fn update_unit(&self, _: Request<UpdateUnitRequest>) -> Result<Response<Unit>, Status> {
        no()
    }
    async fn delete_unit(&self, _: Request<DeleteUnitRequest>) -> Result<Response<Unit>, Status> {
        no()
    }
}

#[tonic::async_trait]
impl ImportService for Answers {
    async fn upload_import_file(
        &self,
        request: Request<Streaming<UploadImportFileRequest>>,
    ) -> Result<Response<Import>, Status> {
        let (ctx, pieces) = Ctx::open(request)?;
        Ok(Response::new((self.upload)(ctx, pieces).await?))
    }

    type DownloadImportIssuesStream = Pieces;
    async fn download_import_issues(
        &self,
        request: Request<DownloadImportIssuesRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let (ctx, request) = Ctx::open(request)?;
        Ok(Response::new((self.download)(ctx, request).await?))
    }

    async fn list_imports(
        &self,
        _: Request<ListImportsRequest>,
    ) -> Result<Response<ListImportsResponse>, Status> {
        no()
    }
    async fn get_import(&self, _: Request<GetImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn create_import(&self, _: Request<CreateImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn update_import(&self, _: Request<UpdateImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn dry_run_import(&self, _: Request<DryRunImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn start_import(&self, _: Request<StartImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn cancel_import(&self, _: Request<CancelImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn undo_import(&self, _: Request<UndoImportRequest>) -> Result<Response<Import>, Status> {
        no()
    }
    async fn list_import_issues(
        &self,
        _: Request<ListImportIssuesRequest>,
    ) -> Result<Response<ListImportIssuesResponse>, Status> {
        no()
    }
}
