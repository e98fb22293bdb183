//! A world to test in: a service's database, and its log.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use rapport_egress::Door;
use rapport_events::{
    Audience, Events, Keep, Log, LogApi, Settings, Snapshots,
    bus::{Bus, Options},
    consume::{self, Consumer, Producer},
    queue::Queues,
    sequencer::{Pace, Sabotage},
};
use rapport_kernel::{Clock, Ctx, Id, Principal, TenantState};
use rapport_proto::events::v1::{
    log_service_client::LogServiceClient,
    log_service_server::{LogService, LogServiceServer},
};
use rapport_runtime::parts::Parts;
use rapport_store::{Db, Step};
use sqlx::{ConnectOptions as _, Connection as _, FromRow, PgConnection, postgres::PgConnectOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    service::{Routes, RoutesBuilder},
};
use uuid::Uuid;

use crate::note::{self, Note};

const STEPS: &[&[Step]] = &[rapport_events::MIGRATIONS, &[(1000, "notes", note::MIGRATION)]];

pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    ahead: Arc<AtomicI64>,
    admin: PgConnectOptions,
    name: String,
}

/// A line of the log, as tests look at it.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Line {
    pub(crate) number: i64,
    pub(crate) part: i16,
    pub(crate) part_number: i64,
    pub(crate) tenant_id: Uuid,
    pub(crate) tenant_number: i64,
    pub(crate) record_id: Uuid,
    pub(crate) version: i64,
}

impl World {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // What a test says is shown when it fails.
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_env_filter("info,rapport_events=debug")
            .try_init();
        #[expect(clippy::disallowed_methods, reason = "where tests learn of their server")]
        let url = std::env::var("RAPPORT_TEST_POSTGRES").expect(
            "RAPPORT_TEST_POSTGRES must hold the address of a PostgreSQL superuser; `make test` sets it",
        );
        let admin: PgConnectOptions = url.parse().unwrap();
        let name = format!("events_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        rapport_store::provision(&url, "events_test", &name, "secret", "secret").await.unwrap();
        let (host, port) = (admin.get_host(), admin.get_port());
        let address = |user: &str| format!("postgres://{user}:secret@{host}:{port}/{name}");
        rapport_store::migrate(&address("rapport_owner"), STEPS).await.unwrap();
        let connect = rapport_store::Options { url: address("rapport_events_test"), pool_size: 20 };
        let db = Db::connect(&connect).await.unwrap().with::<Note>();
        let ahead = Arc::new(AtomicI64::new(0));
        let seconds = ahead.clone();
        let clock =
            Clock::chosen(move || Clock::system().now().plus_seconds(seconds.load(Ordering::Relaxed)));
        Self { db, clock, ahead, admin, name }
    }

    /// The name of the service, on the bus too.
    pub(crate) fn service(&self) -> &str {
        &self.name
    }

    /// Lets time pass; it goes back when this is negative.
    pub(crate) fn later(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A user of a new tenant, who may do everything.
    pub(crate) fn tenant(&self) -> Ctx {
        Ctx {
            tenant_state: (TenantState::Active, 1),
            principal: Principal::User(self.clock.new_uuid()),
            ..Ctx::system(Id::new(self.clock.new_uuid()), self.clock.clone())
        }
    }

    /// A connection that sees everything.
    pub(crate) async fn admin(&self) -> PgConnection {
        PgConnection::connect_with(&self.admin.clone().database(&self.name)).await.unwrap()
    }

    /// Where that connection leads.
    pub(crate) fn admin_url(&self) -> String {
        self.admin.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// Where the owner of its tables signs in.
    pub(crate) fn owner_url(&self) -> String {
        let (host, port) = (self.admin.get_host(), self.admin.get_port());
        format!("postgres://rapport_owner:secret@{host}:{port}/{}", self.name)
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.admin().await).await.unwrap()
    }

    /// The log.
    pub(crate) async fn log(&self) -> Vec<Line> {
        sqlx::query_as("SELECT * FROM platform.event_log ORDER BY number")
            .fetch_all(&mut self.admin().await)
            .await
            .unwrap()
    }

    /// Waits until the outbox is empty.
    pub(crate) async fn settled(&self) {
        let mut admin = self.admin().await;
        for _ in 0..1_000 {
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM platform.outbox")
                .fetch_one(&mut admin)
                .await
                .unwrap();
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the outbox is not emptied");
    }

    /// The service's log, without a bus.
    pub(crate) fn service_log(&self) -> Log {
        Log {
            service: self.name.clone(),
            db: self.db.clone(),
            bus: None,
            clock: self.clock.clone(),
            pace: Pace::default(),
            keep: Keep::default(),
            checkpoints: None,
            grown: Arc::default(),
            sabotage: Sabotage::None,
        }
    }

    /// The log and the notes, as peers ask for them.
    pub(crate) fn log_api(&self) -> LogApi {
        let snapshots = Snapshots::default().of::<Note, _>(|_, note| note.told());
        LogApi { db: self.db.clone(), clock: self.clock.clone(), snapshots }
    }

    /// The ear of this world for another one.
    pub(crate) async fn consumer(&self, producer: &Self) -> Consumer {
        self.consumer_of(producer, producer.log_api()).await
    }

    /// The same, where the other one's log is told by `log`.
    pub(crate) async fn consumer_of(&self, producer: &Self, log: impl LogService) -> Consumer {
        Consumer {
            service: self.name.clone(),
            reactions: note::reactions(&producer.name),
            db: self.db.clone(),
            bus: Some(bus().await),
            clock: self.clock.clone(),
            producer: Producer::new(LogServiceClient::new(LogServiceServer::new(log))),
            sabotage: consume::Sabotage::None,
        }
    }

    /// Waits until the bus holds the log up to this number.
    pub(crate) async fn on_the_bus(&self, number: i64) {
        for _ in 0..500 {
            if self.count("SELECT number FROM platform.log_relay").await >= number {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the bus does not get number {number}");
    }

    /// Everything that a service has of events, at work until the token is cancelled.
    pub(crate) async fn serve(
        &self,
        door: Option<Door>,
        more: impl FnOnce(Events) -> Events,
    ) -> (Routes, CancellationToken) {
        let settings = Settings { bus: Some(bus().await), door, ..Settings::default() };
        let events = Events::of("test", &self.db, &settings, &self.clock);
        let routes = RoutesBuilder::default().routes();
        let (workers, ready, ending) = (Vec::new(), Vec::new(), CancellationToken::new());
        let parts = more(events.told_to(Audience::of("test").seers_of::<Note>())).join(Parts {
            name: "test",
            routes,
            workers,
            ready,
            ending,
        });
        let stop = CancellationToken::new();
        for worker in parts.workers {
            let stop = stop.clone();
            tokio::spawn(async move { worker.run(stop).await });
        }
        (parts.routes.prepare(), stop)
    }

    /// What was heard here: note, version and text, in the order of hearing.
    pub(crate) async fn heard(&self) -> Vec<(Uuid, i64, String)> {
        sqlx::query_as("SELECT note_id, version, text FROM heard ORDER BY n")
            .fetch_all(&mut self.admin().await)
            .await
            .unwrap()
    }

    /// Waits until so many events were heard here, or some are parked.
    pub(crate) async fn hears(&self, count: usize) -> Vec<(Uuid, i64, String)> {
        for _ in 0..1_000 {
            let heard = self.heard().await;
            if heard.len() >= count {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} of {count} events are heard", self.heard().await.len());
    }

    /// The service's log on the bus.
    pub(crate) async fn published_log(&self) -> Log {
        Log { bus: Some(bus().await), ..self.service_log() }
    }
}

/// The bus of this test run.
pub(crate) async fn bus() -> Bus {
    Bus::connect(Options { url: nats_url(), root: "rapport".into(), replicas: 1, stream_bytes: 1 << 26 })
        .await
        .unwrap()
}

/// Its server, without our wrapping.
pub(crate) async fn nats() -> async_nats::Client {
    let server: async_nats::ServerAddr = nats_url().parse().unwrap();
    let (user, password) = (server.username().unwrap().to_owned(), server.password().unwrap().to_owned());
    async_nats::ConnectOptions::with_user_and_password(user, password).connect(server).await.unwrap()
}

fn nats_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "where tests learn of their server")]
    let url = std::env::var("RAPPORT_TEST_NATS");
    url.expect("RAPPORT_TEST_NATS must hold the address of a nats-server; `make test` sets it")
}

/// A worker that goes on until it is ended.
pub(crate) struct Kept {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Kept {
    /// Keeps a log.
    pub(crate) fn keep(log: Log) -> Self {
        Self::run(|stop| async move { log.keep(&stop).await })
    }

    /// Hears another service.
    pub(crate) fn hear(consumer: Consumer) -> Self {
        Self::run(|stop| async move { consumer.hear(&stop).await })
    }

    /// Works off queues.
    pub(crate) fn work(queues: Queues) -> Self {
        Self::run(|stop| async move { queues.work(&stop).await.unwrap() })
    }

    fn run<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(CancellationToken) -> F) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(work(stop.clone())), stop }
    }

    /// Ends in order.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends as a process does that is killed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        let drop = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut admin = PgConnection::connect_with(&admin).await.unwrap();
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await.map(std::mem::drop)
            })
        });
        if let Ok(Err(error)) = drop.join() {
            println!("a test's database stays: {error}");
        }
    }
}

/// A request by somebody.
pub(crate) fn by<T>(ctx: &Ctx, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(ctx.clone());
    request
}
