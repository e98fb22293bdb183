//! A world to test in: a database and a folder of its own, and callers of two tenants.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rapport_blobs::{Blobs, Settings};
use rapport_import::{Imports, Options};
use rapport_kernel::{Clock, Ctx, Error, Id, Principal, Scope, TenantState, Via};
use rapport_proto::{fields::v1 as fields_pb, google::api::HttpBody, imports::v1 as pb};
use rapport_store::{Db, Step, database, fields};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::gadget::{self, Gadget, Gadgets, Sabotage};

const STEPS: &[&[Step]] = &[rapport_import::MIGRATIONS, &[(1000, "gadgets", gadget::MIGRATION)]];

pub(crate) struct World {
    pub(crate) imports: Imports,
    pub(crate) db: Db,
    pub(crate) ctx: Ctx,
    pub(crate) folder: TempDir,
    pub(crate) clock: Clock,
    blobs: Blobs,
    ahead: Arc<AtomicI64>,
    admin: PgConnectOptions,
    name: String,
}

/// What a test wants of its world.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) options: Option<Options>,
    pub(crate) sabotage: Sabotage,
}

pub(crate) fn options() -> Options {
    // One batch at a time, so that tests know what is under way; `tests/faults` has two.
    Options { poll: Duration::from_millis(20), lanes: 1, ..Options::default() }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Wishes::default()).await
    }

    pub(crate) async fn with(wishes: Wishes) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        #[expect(clippy::disallowed_methods, reason = "where tests learn of their server")]
        let url = std::env::var("RAPPORT_TEST_POSTGRES").expect(
            "RAPPORT_TEST_POSTGRES must hold the address of a PostgreSQL superuser; `make test` sets it",
        );
        let admin: PgConnectOptions = url.parse().unwrap();
        let name = format!("import_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        rapport_store::provision(&url, "import_test", &name, "secret", "secret").await.unwrap();
        let (host, port) = (admin.get_host(), admin.get_port());
        let address = |user: &str| format!("postgres://{user}:secret@{host}:{port}/{name}");
        rapport_store::migrate(&address("rapport_owner"), STEPS).await.unwrap();
        let connect = rapport_store::Options { url: address("rapport_import_test"), pool_size: 8 };
        let db = Db::connect(&connect).await.unwrap().with::<Gadget>();

        let ahead = Arc::new(AtomicI64::new(0));
        let seconds = ahead.clone();
        let clock =
            Clock::chosen(move || Clock::system().now().plus_seconds(seconds.load(Ordering::Relaxed)));
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { url: format!("file://{}", folder.path().display()), ..Settings::default() };
        let blobs = Blobs::open(&settings, &clock).await.unwrap();
        let options = wishes.options.unwrap_or_else(options);
        let imports =
            Imports::new(db.clone(), blobs.clone(), clock.clone(), options).join(Gadgets(wishes.sabotage));
        let ctx = caller(1, &clock);
        Self { imports, db, ctx, folder, clock, blobs, ahead, admin, name }
    }

    /// The engine of another process, on the same database and folder.
    pub(crate) fn other_process(&self, options: Options, sabotage: Sabotage) -> Imports {
        Imports::new(self.db.clone(), self.blobs.clone(), self.clock.clone(), options).join(Gadgets(sabotage))
    }

    /// Lets time pass.
    pub(crate) fn later(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A connection that sees everything.
    pub(crate) async fn admin(&self) -> PgConnection {
        PgConnection::connect_with(&self.admin.clone().database(&self.name)).await.unwrap()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.admin().await).await.unwrap()
    }

    /// The names of all gadgets that are not deleted.
    pub(crate) async fn names(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT display_name FROM gadgets WHERE delete_time IS NULL ORDER BY display_name COLLATE \"C\"",
        )
        .fetch_all(&mut self.admin().await)
        .await
        .unwrap()
    }

    /// Defines a custom field.
    pub(crate) async fn field(&self, ctx: &Ctx, field: fields_pb::Field) {
        let mut tx = self.db.begin(ctx).await.unwrap();
        let field = fields_pb::Field { resource: "gadget".into(), ..field };
        fields::create(&mut tx, field, &[("gadget", "gadgets")]).await.unwrap();
        tx.finish().await.unwrap();
    }

    pub(crate) async fn create(&self) -> pb::Import {
        self.create_from(pb::Import {
            resource: "gadget".into(),
            source: "erp".into(),
            ..pb::Import::default()
        })
        .await
        .unwrap()
    }

    pub(crate) async fn create_from(&self, import: pb::Import) -> Result<pb::Import, Error> {
        let request = pb::CreateImportRequest { import: Some(import), request_id: String::new() };
        self.imports.create(&self.ctx, request).await.map(tonic::Response::into_inner)
    }

    /// Creates an import and uploads its file.
    pub(crate) async fn uploaded(&self, file: impl Into<Bytes>) -> pb::Import {
        let import = self.create().await;
        self.upload(&import.id, file).await.unwrap()
    }

    pub(crate) async fn upload(&self, id: &str, file: impl Into<Bytes>) -> Result<pb::Import, Error> {
        self.upload_as(&self.ctx, id, file).await
    }

    pub(crate) async fn upload_as(
        &self,
        ctx: &Ctx,
        id: &str,
        file: impl Into<Bytes>,
    ) -> Result<pb::Import, Error> {
        let file: Bytes = file.into();
        let pieces: Vec<_> = if file.is_empty() {
            vec![Bytes::new()]
        } else {
            (0..file.len())
                .step_by(1 << 16)
                .map(|at| file.slice(at..file.len().min(at + (1 << 16))))
                .collect()
        };
        let id = id.to_owned();
        let requests = stream::iter(pieces).enumerate().map(move |(n, data)| {
            let id = if n == 0 { id.clone() } else { String::new() };
            let file = Some(HttpBody { content_type: "text/csv".into(), data, extensions: Vec::new() });
            Ok(pb::UploadImportFileRequest { id, file })
        });
        self.imports.upload(ctx, requests).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn map(
        &self,
        import: &pb::Import,
        mappings: Vec<pb::Mapping>,
    ) -> Result<pb::Import, Error> {
        let import = pb::Import { id: import.id.clone(), mappings, ..pb::Import::default() };
        let request = pb::UpdateImportRequest { import: Some(import), ..pb::UpdateImportRequest::default() };
        self.imports.update(&self.ctx, request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn get(&self, id: &str) -> pb::Import {
        self.imports.get(&self.ctx, &pb::GetImportRequest { id: id.into() }).await.unwrap().into_inner()
    }

    pub(crate) async fn dry_run(&self, id: &str) -> Result<pb::Import, Error> {
        self.imports
            .dry_run(&self.ctx, &pb::DryRunImportRequest { id: id.into() })
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<pb::Import, Error> {
        self.imports
            .start(&self.ctx, &pb::StartImportRequest { id: id.into() })
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<pb::Import, Error> {
        self.imports
            .cancel(&self.ctx, &pb::CancelImportRequest { id: id.into() })
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn undo(&self, id: &str) -> Result<pb::Import, Error> {
        self.imports
            .undo(&self.ctx, &pb::UndoImportRequest { id: id.into() })
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn issues(&self, id: &str) -> Vec<pb::ImportIssue> {
        let request =
            pb::ListImportIssuesRequest { id: id.into(), page_size: 1000, page_token: String::new() };
        self.imports.list_issues(&self.ctx, &request).await.unwrap().into_inner().issues
    }

    pub(crate) async fn issues_csv(&self, id: &str) -> Vec<u8> {
        let request = pb::DownloadImportIssuesRequest { id: id.into() };
        let pieces: Vec<HttpBody> =
            self.imports.download_issues(&self.ctx, &request).await.unwrap().try_collect().await.unwrap();
        pieces.iter().flat_map(|piece| piece.data.to_vec()).collect()
    }

    /// Works on imports until this one is in none of the states of work.
    pub(crate) async fn work(&self, id: &str) -> pb::Import {
        let worker = Worker::start(&self.imports);
        let import = self.ended(id).await;
        worker.stop().await;
        import
    }

    /// Waits until nobody works on the import any more.
    pub(crate) async fn ended(&self, id: &str) -> pb::Import {
        let working =
            [pb::ImportState::Checking, pb::ImportState::Running, pb::ImportState::Undoing].map(i32::from);
        self.until(id, |import| !working.contains(&import.state)).await
    }

    /// Waits until an import is as it should be.
    pub(crate) async fn until(&self, id: &str, ready: impl Fn(&pb::Import) -> bool) -> pb::Import {
        for _ in 0..24_000 {
            let import = self.get(id).await;
            if ready(&import) {
                return import;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("an import does not get on: {:?}", self.get(id).await);
    }

    /// Imports a file: uploads it, runs it, and says how it ended.
    pub(crate) async fn import(&self, file: impl Into<Bytes>) -> pb::Import {
        let import = self.uploaded(file).await;
        self.start(&import.id).await.unwrap();
        self.work(&import.id).await
    }

    /// How many files there are, of any tenant.
    pub(crate) fn files(&self) -> usize {
        fn below(folder: &std::path::Path) -> usize {
            std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| if path.is_dir() { below(&path) } else { 1 })
                .sum()
        }
        below(self.folder.path())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = PgConnection::connect_with(&admin).await.map_err(database)?;
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                conn.execute(AssertSqlSafe(drop)).await.map(|_| ()).map_err(database)
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("{} is left behind: {error:?}", self.name);
        }
    }
}

/// A worker that runs until it is stopped, or killed.
pub(crate) struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(imports: &Imports) -> Self {
        let stop = CancellationToken::new();
        let (imports, token) = (imports.clone(), stop.clone());
        Self { stop, task: tokio::spawn(async move { imports.work(token).await }) }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A user of tenant `n`, who may do everything.
pub(crate) fn caller(n: u128, clock: &Clock) -> Ctx {
    Ctx {
        tenant_state: (TenantState::Active, 1),
        principal: Principal::User(Uuid::from_u128(n + 1000)),
        via: Via::Console,
        scope: Scope::All,
        phone_region: "CN".into(),
        ..Ctx::system(Id::new(Uuid::from_u128(n)), clock.clone())
    }
}

pub(crate) fn state(import: &pb::Import) -> pb::ImportState {
    import.state()
}

pub(crate) fn progress(import: &pb::Import) -> pb::ImportProgress {
    import.progress.unwrap()
}

/// Nothing was refused.
pub(crate) async fn issues_free(world: &World, id: &str) {
    assert_eq!(world.issues(id).await, []);
}

/// `created, updated, unchanged, rejected`.
pub(crate) fn figures(import: &pb::Import) -> [i64; 4] {
    let progress = progress(import);
    [progress.created, progress.updated, progress.unchanged, progress.rejected]
}

pub(crate) fn column(target: &str, column: &str) -> pb::Mapping {
    let value = Some(pb::mapping::Value::Column(column.into()));
    pb::Mapping { target: target.into(), value, ..pb::Mapping::default() }
}

/// The mappings as `target<column`.
pub(crate) fn pairs(import: &pb::Import) -> Vec<String> {
    let pair = |mapping: &pb::Mapping| match &mapping.value {
        Some(pb::mapping::Value::Column(name)) => format!("{}<{name}", mapping.target),
        Some(pb::mapping::Value::Constant(value)) => format!("{}={value}", mapping.target),
        None => mapping.target.clone(),
    };
    import.mappings.iter().map(pair).collect()
}

/// A file of `count` gadgets with the columns `Id` and `Name`.
pub(crate) fn gadgets(count: usize) -> String {
    let mut file = String::from("Id,Name\n");
    for n in 1..=count {
        file.push_str(&format!("g{n},gadget {n:07}\n"));
    }
    file
}

/// A custom field of gadgets.
pub(crate) fn text_field(key: &str, labels: &[(&str, &str)]) -> fields_pb::Field {
    fields_pb::Field {
        key: key.into(),
        kind: fields_pb::FieldKind::Text.into(),
        labels: labels.iter().map(|(locale, label)| ((*locale).into(), (*label).into())).collect(),
        ..fields_pb::Field::default()
    }
}
