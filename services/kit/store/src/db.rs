//! The only door to a service's database.
use std::{
    fmt,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use rapport_kernel::{Ctx, Error, Scope, hex};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use crate::{
    OpenTx, Resource, Sabotage, TenantTx,
    columns::Columns,
    error::{database, refusal},
    fields::TenantFields,
};

/// A service's database. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    pool: PgPool,
    /// The scoped resources of this service, with the permission that lets one see them.
    scoped: Vec<(&'static str, &'static str)>,
    /// Each tenant's custom fields, as of their version; the database says when they are old.
    fields: Cache<Uuid, Arc<TenantFields>>,
    columns: Columns,
    /// Tenants' transactions begun.
    begun: Arc<AtomicU64>,
    /// For tests: a promise that is broken.
    sabotage: Sabotage,
}

/// Every session: rights of the services' group (the login role inherits nothing by itself), bounded statements and
/// transactions, UTC.
const SESSION: &str = "SET ROLE rapport_service; SET statement_timeout = '30s'; \
                       SET idle_in_transaction_session_timeout = '15s'; SET TimeZone = 'UTC'; SET jit = off";

/// How to reach a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// The URL, signed in as the service's own role.
    pub url: String,
    /// At most this many connections.
    pub pool_size: u32,
}

impl Db {
    /// Connects, and refuses a role that could step over row-level security.
    ///
    /// # Errors
    /// `Rule` when the role is, or may become, a superuser, one with BYPASSRLS or the owner of tenants' tables, or when
    /// it was not provisioned; `Unavailable` when nothing answers.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let connect: PgConnectOptions = options.url.parse().map_err(database)?;
        let mut conn = connect.connect().await.map_err(database)?;
        refuse_powerful_role(&mut conn).await?;
        conn.close().await.map_err(database)?;
        let pool = PgPoolOptions::new()
            .max_connections(options.pool_size)
            .acquire_timeout(Duration::from_secs(5))
            .max_lifetime(Duration::from_secs(600))
            .test_before_acquire(false)
            .after_connect(|conn, _| {
                Box::pin(async move {
                    conn.execute(SESSION).await?;
                    Ok(())
                })
            })
            .connect_with(connect.application_name("rapport"))
            .await
            .map_err(database)?;
        let fields = Cache::builder().max_capacity(10_000).time_to_idle(Duration::from_secs(3600)).build();
        let (scoped, begun, columns) = (Vec::new(), Arc::default(), Columns::default());
        Ok(Self(Arc::new(Inner { pool, scoped, fields, columns, begun, sabotage: Sabotage::None })))
    }

    /// Declares a resource whose records have owners, so that the policies know who sees all of them.
    #[must_use]
    pub fn with<R: Resource>(mut self) -> Self {
        if R::OWNER.is_some() {
            Arc::make_mut(&mut self.0).scoped.push((R::NAME, R::READ));
        }
        self
    }

    /// The same database with a promise broken. Only for tests.
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Sabotage) -> Self {
        Arc::make_mut(&mut self.0).sabotage = sabotage;
        self
    }

    /// Which promise is broken here: none, but in tests.
    pub fn sabotage(&self) -> Sabotage {
        self.0.sabotage
    }

    /// What types the columns of its tables have.
    pub(crate) fn columns(&self) -> Columns {
        self.0.columns.clone()
    }

    /// How many tenants' transactions began here since the process started: how busy it is.
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Begins a transaction for the caller in the caller's tenant, in one round trip.
    ///
    /// # Errors
    /// `Repeated` when a write with this request id was answered before; `Rule` when the tenant is not served or the
    /// request id was used for something else.
    pub async fn begin(&self, ctx: &Ctx) -> Result<TenantTx, Error> {
        let tenant = ctx.tenant.uuid();
        if tenant.is_nil() {
            return Err(Error::Unauthenticated);
        }
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        let seen = self.all_seen(ctx);
        for _ in 0..4 {
            let fields = match self.0.fields.get(&tenant) {
                Some(fields) => fields,
                None => self.read_fields(ctx).await?,
            };
            let (tx, answer) = match OpenTx::begin(&self.0.pool, enter(ctx, &seen, fields.version)).await {
                Ok(begun) => begun,
                Err(error) => match refusal(&error) {
                    Some("RP002") => {
                        self.0.fields.invalidate(&tenant);
                        continue;
                    }
                    Some("RP008") => {
                        self.learn(ctx).await?;
                        continue;
                    }
                    _ => return Err(database(error)),
                },
            };
            if let (Some(_), Some(row)) = (&ctx.request_id, answer)
                && let Some(answer) = row.try_get(0).map_err(database)?
            {
                return Err(Error::Repeated(answer));
            }
            return Ok(TenantTx::new(self, tx, ctx.clone(), fields, seen));
        }
        Err(Error::Conflict)
    }

    /// The scoped resources that the caller sees all of, as the policies read them: `,customer,lead,`.
    fn all_seen(&self, ctx: &Ctx) -> String {
        let mut all = String::from(",");
        for (resource, permission) in &self.0.scoped {
            if ctx.grants.scope(permission) == Some(Scope::All) {
                all.push_str(resource);
                all.push(',');
            }
        }
        all
    }

    /// Takes the tenant's state from the token into the service's own copy.
    async fn learn(&self, ctx: &Ctx) -> Result<(), Error> {
        let (state, generation) = ctx.tenant_state;
        let begin =
            format!("BEGIN; SELECT rapport.learn('{}', '{}', {generation})", ctx.tenant, state.as_str());
        OpenTx::begin(&self.0.pool, begin).await.map_err(database)?.0.commit().await
    }

    /// Reads the tenant's custom fields, under the version that they have at that moment.
    async fn read_fields(&self, ctx: &Ctx) -> Result<Arc<TenantFields>, Error> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT set_config('rapport.tenant', '{}', true)",
            ctx.tenant
        );
        let (mut tx, _) = OpenTx::begin(&self.0.pool, begin).await.map_err(database)?;
        let fields = Arc::new(TenantFields::read(tx.conn()?, ctx.tenant.uuid()).await?);
        tx.commit().await?;
        self.0.fields.insert(ctx.tenant.uuid(), fields.clone());
        Ok(fields)
    }

    /// Begins a transaction on what spans tenants, as the role that may.
    ///
    /// For the kit's own work and for identity's directory, sessions and keys; nothing of a tenant's tables is seen in it.
    pub async fn platform(&self) -> Result<OpenTx, Error> {
        let begin = "BEGIN; SET LOCAL ROLE rapport_platform".to_owned();
        OpenTx::begin(&self.0.pool, begin).await.map(|(tx, _)| tx).map_err(database)
    }

    /// Whether the database answers. Connections that died in the pool do not speak against it: calls replace them, too.
    pub async fn ping(&self) -> Result<(), Error> {
        let (tx, _) = OpenTx::begin(&self.0.pool, "BEGIN".to_owned()).await.map_err(database)?;
        tx.commit().await
    }

    /// Counts anew what the planner knows of tables that doubled; says how many.
    pub async fn refresh_statistics(&self) -> Result<i32, Error> {
        let (mut tx, _) = OpenTx::begin(&self.0.pool, "BEGIN".to_owned()).await.map_err(database)?;
        let refreshed = sqlx::query_scalar("SELECT rapport.refresh_statistics()")
            .fetch_one(tx.conn()?)
            .await
            .map_err(database)?;
        tx.commit().await?;
        Ok(refreshed)
    }

    /// Removes answers whose 72 hours are over, in pieces; says how many.
    pub async fn forget_answers(&self, now: rapport_kernel::Instant) -> Result<u64, Error> {
        let mut removed = 0;
        loop {
            let mut tx = self.platform().await?;
            let piece = sqlx::query(
                "DELETE FROM platform.answers WHERE ctid = ANY(ARRAY(
                   SELECT ctid FROM platform.answers WHERE expire_time < $1 LIMIT 5000))",
            )
            .bind(now)
            .execute(tx.conn()?)
            .await
            .map_err(database)?
            .rows_affected();
            tx.commit().await?;
            removed += piece;
            if piece == 0 {
                return Ok(removed);
            }
        }
    }

    /// Closes every connection, after the transactions under way.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("sabotage", &self.0.sabotage).finish_non_exhaustive()
    }
}

/// BEGIN and the call that enters the tenant, in one simple query, which has no bound values: everything in it is a number, a
/// UUID, a word of our own or hex, except the request id, which is quoted as hex too.
fn enter(ctx: &Ctx, seen: &str, fields_version: i64) -> String {
    let mut sql = format!(
        "BEGIN; SELECT rapport.enter('{}', '{}', '{seen}', {}, {fields_version}",
        ctx.tenant,
        ctx.user().map(|user| user.to_string()).unwrap_or_default(),
        ctx.tenant_state.1,
    );
    if let Some(request) = &ctx.request_id {
        let _ = write!(
            sql,
            ", '{}', {}, {}, '\\x{}', '{}'",
            ctx.principal,
            hex_text(request.method),
            hex_text(&request.key),
            hex(&request.fingerprint),
            ctx.now(),
        );
    }
    sql.push(')');
    sql
}

/// Looks at the role that signed in and at every role that it may become.
async fn refuse_powerful_role(conn: &mut PgConnection) -> Result<(), Error> {
    let (role, provisioned, powerful, owner): (String, bool, bool, bool) = sqlx::query_as(
        "SELECT session_user::text, bool_or(rolname = 'rapport_service'), bool_or(rolsuper OR rolbypassrls),
           bool_or(EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relkind IN ('r', 'p')
             AND (c.relrowsecurity OR c.relnamespace = to_regnamespace('public'))))
         FROM pg_roles r WHERE pg_has_role(session_user, r.oid, 'MEMBER')",
    )
    .fetch_one(conn)
    .await
    .map_err(database)?;
    let why = match (powerful, owner, provisioned) {
        (true, ..) => "is or may become a superuser or a role with BYPASSRLS",
        (_, true, _) => "is or may become the owner of tenants' tables",
        (.., false) => {
            let message = format!(
                "the database role `{role}` is not a member of `rapport_service`; provision it first"
            );
            return Err(Error::rule("ROLE_NOT_PROVISIONED", message));
        }
        _ => return Ok(()),
    };
    let message = format!(
        "the database role `{role}` {why}, so row-level security would not bind it; sign in as the service's own role"
    );
    Err(Error::rule("ROLE_TOO_POWERFUL", message))
}

/// An SQL expression for `text` that has nothing of the text's characters in it.
fn hex_text(text: &str) -> String {
    format!("convert_from('\\x{}', 'UTF8')", hex(text.as_bytes()))
}
