//! A world to test in: a service's database, and its log.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use rapport_events::{
    Term,
    sequencer::{Pace, Sabotage, drive},
};
use rapport_kernel::{Clock, Ctx, Error, Id, Principal, TenantState};
use rapport_store::{Db, Step};
use sqlx::{Connection as _, FromRow, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::note::{self, Note};

const STEPS: &[Step] = &[rapport_events::MIGRATION, (1000, "notes", note::MIGRATION)];

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

    /// Begins to sequence.
    pub(crate) fn sequence(&self, pace: Pace, sabotage: Sabotage) -> Running {
        let (db, clock, stop) = (self.db.clone(), self.clock.clone(), CancellationToken::new());
        let ended = stop.clone();
        let task = tokio::spawn(async move {
            let mut term = Term::begin(&db).await?;
            let end = drive(&db, &clock, &mut term, pace, sabotage, &Notify::new(), &ended).await;
            end.inspect_err(|error| println!("the sequencer ended: {error:?}"))
        });
        Running { stop, task }
    }
}

/// A sequencer at work.
pub(crate) struct Running {
    stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
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
