//! A database of one's own, and who calls.
use std::sync::Arc;

use rapport_kernel::{Clock, Ctx, Error, FieldRights, Id, Principal, RequestId, Scope, TenantState, Via};
use rapport_proto::customer::v1 as pb;
use rapport_store::{Db, Options, Resource as _, Step, TenantTx, migrate, provision};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::widget::{MIGRATION, Widget};

/// What a test's database has beside the kit's own.
pub(crate) const STEPS: &[&[Step]] = &[&[(1000, "widgets", MIGRATION)]];

/// What roles sign in with.
const PASSWORD: &str = "for-tests";

/// What keeps the processes of one test run from making the template twice.
const TEMPLATE_LOCK: i64 = 5_147_001;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// The URL of a superuser's connection.
pub(crate) fn superuser() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
    let url = std::env::var("RAPPORT_TEST_POSTGRES");
    url.expect("RAPPORT_TEST_POSTGRES must name a PostgreSQL, as `make test` does")
}

/// The URL of `database` for `role`.
pub(crate) fn url(role: &str, database: &str) -> String {
    let mut url = url::Url::parse(&superuser()).unwrap();
    if role != "postgres" {
        url.set_username(role).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
    }
    url.set_path(database);
    url.into()
}

/// A connection as it is.
pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// A database of one's own; it is dropped with this.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) name: String,
}

impl World {
    /// A migrated one.
    pub(crate) async fn new() -> Self {
        let template = TEMPLATE.get_or_init(template).await;
        let name = format!("store_test_{}", new_id().simple());
        let mut admin = PgConnection::connect(&superuser()).await.unwrap();
        for statement in [
            format!("CREATE DATABASE {name} TEMPLATE {template} OWNER rapport_owner"),
            format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {name} TO rapport_store"),
        ] {
            admin.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        Self { name }
    }

    /// An empty one, provisioned and not migrated.
    pub(crate) async fn empty() -> Self {
        let name = format!("store_test_{}", new_id().simple());
        provision(&superuser(), "store", &name, PASSWORD, PASSWORD).await.unwrap();
        Self { name }
    }

    /// The URL for a role.
    pub(crate) fn url(&self, role: &str) -> String {
        url(role, &self.name)
    }

    /// The database, as a service has it.
    pub(crate) async fn db(&self) -> Db {
        self.db_at(self.url("rapport_store"), 8).await
    }

    pub(crate) async fn db_at(&self, url: String, pool_size: u32) -> Db {
        Db::connect(&Options { url, pool_size }).await.unwrap().with::<Widget>()
    }

    /// A superuser's connection, for looking behind the store's back.
    pub(crate) async fn admin(&self) -> PgConnection {
        PgConnection::connect(&self.url("postgres")).await.unwrap()
    }

    /// The schema owner's connection.
    pub(crate) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.url("rapport_owner")).await.unwrap()
    }

    /// Ends every session of the service; says how many there were.
    pub(crate) async fn kill_sessions(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND usename = 'rapport_store'",
        )
        .fetch_one(&mut self.admin().await)
        .await
        .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // On a thread of its own: the test's runtime may be on its way out.
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut admin = PgConnection::connect(&superuser()).await.unwrap();
                admin.execute(AssertSqlSafe(drop)).await.map(std::mem::drop)
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            println!("a test's database stays: {error}");
        }
    }
}

/// Makes the template of this test run, or finds it made by another process of the same run. Those of older runs go.
async fn template() -> String {
    // nextest runs each test in a process of its own and says which run it is; cargo test has one process.
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
    let run: String = run.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let mut admin = PgConnection::connect(&superuser()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await.unwrap();
    let known: Vec<String> =
        sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE datname LIKE 'store_tpl_%'")
            .fetch_all(&mut admin)
            .await
            .unwrap();
    if let Some(ours) = known.iter().find(|name| name.ends_with(&format!("_{run}"))) {
        return ours.clone();
    }
    #[expect(clippy::disallowed_methods, reason = "this is about processes, not about tenants")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for old in known.iter().filter(|name| made_at(name) + 3600 < now) {
        admin.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {old} WITH (FORCE)"))).await.unwrap();
    }
    // Finished under another name first, so that a run that was broken off leaves nothing half-made to be taken for whole.
    let (draft, name) = (format!("store_tpx_{now}_{run}"), format!("store_tpl_{now}_{run}"));
    provision(&superuser(), "store", &draft, PASSWORD, PASSWORD).await.unwrap();
    migrate(&url("rapport_owner", &draft), STEPS).await.unwrap();
    admin.execute(AssertSqlSafe(format!("ALTER DATABASE {draft} RENAME TO {name}"))).await.unwrap();
    name
}

/// When a template was made, in seconds, from its name.
fn made_at(name: &str) -> u64 {
    name.split('_').nth(2).and_then(|made| made.parse().ok()).unwrap_or_default()
}

/// An id.
pub(crate) fn new_id() -> Uuid {
    Clock::system().new_uuid()
}

/// A tenant of one's own.
pub(crate) fn tenant() -> Uuid {
    new_id()
}

/// A user of the tenant with every permission on everything.
pub(crate) fn boss(tenant: Uuid) -> Ctx {
    Ctx {
        tenant_state: (TenantState::Active, 1),
        principal: Principal::User(new_id()),
        via: Via::Console,
        phone_region: "CN".into(),
        ..Ctx::system(Id::new(tenant), Clock::system())
    }
}

/// A user of the tenant who sees, and may change, what is their own.
pub(crate) fn seller(tenant: Uuid) -> Ctx {
    Ctx {
        scope: Scope::Own,
        grants: Arc::new([(Widget::READ, Scope::Own)].into_iter().collect()),
        ..boss(tenant)
    }
}

/// The same call under a request id.
pub(crate) fn asked(ctx: &Ctx, key: &str, body: u8) -> Ctx {
    let request =
        RequestId { key: key.into(), method: "/test.WidgetService/CreateWidget", fingerprint: [body; 32] };
    Ctx { request_id: Some(request), ..ctx.clone() }
}

/// The same caller without a right on these fields.
pub(crate) fn without(ctx: &Ctx, hidden: &[&str], locked: &[&str]) -> Ctx {
    let of = |names: &[&str]| {
        [(Widget::KIND.to_owned(), names.iter().map(ToString::to_string).collect())].into_iter().collect()
    };
    Ctx {
        field_rights: Arc::new(FieldRights {
            hidden: of(hidden),
            locked: of(locked),
            ..FieldRights::default()
        }),
        ..ctx.clone()
    }
}

/// An answer to give and an event to send: the contract has no widgets.
pub(crate) fn answer(name: &str) -> pb::Customer {
    pb::Customer { display_name: name.into(), ..pb::Customer::default() }
}

/// Writes widgets, with an event for each, and commits.
pub(crate) async fn create(db: &Db, ctx: &Ctx, widgets: &[Widget]) {
    let mut tx = db.begin(ctx).await.unwrap();
    for widget in widgets {
        insert(&mut tx, widget);
    }
    tx.finish().await.unwrap();
}

/// Writes a widget with its event, and answers with its name, as a handler does.
pub(crate) async fn create_at_once(
    db: &Db,
    ctx: &Ctx,
    name: &str,
) -> Result<tonic::Response<pb::Customer>, Error> {
    db.write(ctx, |tx| {
        let name = name.to_owned();
        Box::pin(async move {
            insert(tx, &Widget::new(tx.ctx(), &name));
            Ok(answer(&name))
        })
    })
    .await
}

/// Collects a widget and its event.
pub(crate) fn insert(tx: &mut TenantTx, widget: &Widget) {
    tx.insert(widget).unwrap();
    tx.emit(widget, &pb::CustomerCreated { customer: Some(answer(&widget.name)) }).unwrap();
}

/// Changes a widget and commits.
pub(crate) async fn change(db: &Db, ctx: &Ctx, id: Uuid, change: impl FnOnce(&mut Widget)) -> Widget {
    let mut tx = db.begin(ctx).await.unwrap();
    let before: Widget = tx.get_for_update_even_deleted(id).await.unwrap();
    let after = before.changed(change);
    tx.update(&before, &after).unwrap();
    tx.finish().await.unwrap();
    after
}
