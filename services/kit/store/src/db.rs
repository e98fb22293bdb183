//! The only door to a service's database.
mod begin;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use rapport_kernel::Error;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgRow},
};
use uuid::Uuid;

use crate::{
    OpenTx, Resource, Sabotage,
    columns::Columns,
    directory::Units,
    emissions::{self, Announcer, Emissions},
    error::database,
    fields::TenantFields,
    pool::{self, Pool},
};

pub use begin::hex_text;
pub(crate) use begin::user;

/// A service's database. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    connect: PgConnectOptions,
    pool: Pool,
    /// The scoped resources of this service, with the permission that lets one see them.
    scoped: Vec<(&'static str, &'static str)>,
    /// Each tenant's custom fields, as of their version; the database says when they are old.
    fields: Cache<Uuid, Arc<TenantFields>>,
    columns: Columns,
    units: Units,
    /// Tenants' transactions begun.
    begun: Arc<AtomicU64>,
    /// Wakes whoever takes events out of the outbox.
    emitted: Announcer,
    /// For tests: a promise that is broken.
    sabotage: Sabotage,
}

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
        let pool = pool::pool(connect.clone(), options.pool_size).map_err(database)?;
        let fields = Cache::builder().max_capacity(10_000).time_to_idle(Duration::from_secs(3600)).build();
        Ok(Self(Arc::new(Inner {
            connect,
            pool,
            scoped: Vec::new(),
            fields,
            columns: Columns::default(),
            units: Units::default(),
            begun: Arc::default(),
            emitted: emissions::announcer(),
            sabotage: Sabotage::None,
        })))
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
    pub(crate) fn columns(&self) -> &Columns {
        &self.0.columns
    }

    /// Users' units that were looked up.
    pub(crate) fn units(&self) -> &Units {
        &self.0.units
    }

    /// How many transactions may be open at once.
    pub fn pool_size(&self) -> usize {
        self.0.pool.status().max_size
    }

    /// How many tenants' transactions began here since the process started: how busy it is.
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Begins a transaction on what spans tenants, as the role that may.
    ///
    /// For the kit's own work and for identity's directory, sessions and keys; nothing of a tenant's tables is seen in it.
    pub async fn platform(&self) -> Result<OpenTx, Error> {
        self.open("BEGIN; SET LOCAL ROLE rapport_platform").await
    }

    /// A session of one's own outside the pool, as the role that may touch what spans tenants: for a worker that holds on to
    /// something as long as it lives.
    pub async fn session(&self) -> Result<PgConnection, Error> {
        let mut session = self.0.connect.connect().await.map_err(database)?;
        session.execute(pool::SETTINGS).await.map_err(database)?;
        session.execute("SET ROLE rapport_platform").await.map_err(database)?;
        Ok(session)
    }

    /// Transactions of this process that write events from now on.
    pub fn emissions(&self) -> Emissions {
        Emissions::of(&self.0.emitted)
    }

    /// Says that events of a tenant were written.
    pub(crate) fn announce(&self, tenant: Uuid) {
        // Mostly nobody listens: another process leads the log.
        let _ = self.0.emitted.send(tenant);
    }

    /// Begins a transaction that has entered nothing yet.
    pub(crate) async fn open(&self, begin: &str) -> Result<OpenTx, Error> {
        self.open_with(begin.to_owned()).await.map(|(tx, _)| tx)
    }

    /// The same; gives the rows of what stands there, too.
    pub(crate) async fn open_with(&self, begin: String) -> Result<(OpenTx, Vec<PgRow>), Error> {
        OpenTx::begin(&self.0.pool, begin).await.map_err(database)
    }

    /// The tenant's custom fields, as far as they are known here.
    pub(crate) fn known_fields(&self, tenant: Uuid) -> Option<Arc<TenantFields>> {
        self.0.fields.get(&tenant)
    }

    /// Keeps what was read of them. Whoever uses it learns when they have another version by now.
    pub(crate) fn know_fields(&self, tenant: Uuid, fields: Arc<TenantFields>) {
        self.0.fields.insert(tenant, fields);
    }

    /// Whether the database answers. Connections that died in the pool do not speak against it: calls replace them, too.
    pub async fn ping(&self) -> Result<(), Error> {
        self.open("BEGIN").await?.commit().await
    }

    /// Counts anew what the planner knows of tables that doubled; says how many.
    pub async fn refresh_statistics(&self) -> Result<i32, Error> {
        let mut tx = self.open("BEGIN").await?;
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
        pool::close(&self.0.pool).await;
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("sabotage", &self.0.sabotage).finish_non_exhaustive()
    }
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
