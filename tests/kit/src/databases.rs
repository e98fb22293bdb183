//! Databases for one world: each service's own, cloned from a template that is migrated once for each state of the schema.
use rapport::suite::Role;
use rapport_runtime::config::Database;
use rapport_store::{migrate, provision};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// What the roles sign in with; the server is gone after the tests.
const PASSWORD: &str = "for-tests-only";

/// The databases of one world.
#[derive(Clone, Debug)]
pub struct Databases {
    superuser: String,
    world: String,
}

impl Databases {
    /// Databases on the server that `make test` started.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::disallowed_methods, reason = "where tests learn of their server")]
    pub fn new() -> Self {
        let superuser = std::env::var("RAPPORT_TEST_POSTGRES")
            .expect("RAPPORT_TEST_POSTGRES is not set: run tests by `make test`, which starts the servers");
        Self::on(superuser)
    }

    /// Databases on another server, by its superuser's URL.
    #[expect(clippy::disallowed_methods, reason = "a name that nobody else has, not an id")]
    pub fn on(superuser: String) -> Self {
        Self { superuser, world: format!("w{}", Uuid::now_v7().simple()) }
    }

    /// The databases of a world that another process has made on the server that `make test` started, by its name.
    pub fn of(world: &str) -> Self {
        Self { world: world.to_owned(), ..Self::new() }
    }

    /// The name of this world, unique among all.
    pub fn name(&self) -> &str {
        &self.world
    }

    /// The database of a role, with its schema; made, unless it is there already.
    pub async fn database(&self, role: Role) -> Option<Database> {
        let migrations = role.migrations()?;
        let digest = migrations
            .iter()
            .copied()
            .flatten()
            .fold(Sha256::new(), |digest, (_, _, sql)| digest.chain_update(sql))
            .finalize();
        let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let template = format!("template_{}_{hash}", role.name());
        self.make_template(role, &template).await;

        let name = format!("{}_{}", self.world, role.name());
        let mut conn = PgConnection::connect(&self.superuser).await.unwrap();
        let statements = [
            format!("CREATE DATABASE {name} TEMPLATE {template} OWNER rapport_owner"),
            format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {name} TO rapport_{}", role.name()),
        ];
        if !exists(&mut conn, &name).await {
            for statement in statements {
                conn.execute(AssertSqlSafe(statement)).await.unwrap();
            }
        }
        conn.close().await.unwrap();
        Some(Database {
            url: self.url(&name, &format!("rapport_{}", role.name())).into(),
            owner_url: self.url(&name, "rapport_owner").into(),
            ..Database::default()
        })
    }

    /// Makes the template once; whoever comes meanwhile waits.
    async fn make_template(&self, role: Role, template: &str) {
        let mut conn = PgConnection::connect(&self.superuser).await.unwrap();
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(template).execute(&mut conn).await.unwrap();
        if !exists(&mut conn, template).await {
            let making = format!("{template}_making");
            conn.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {making}"))).await.unwrap();
            provision(&self.superuser, role.name(), &making, PASSWORD, PASSWORD).await.unwrap();
            migrate(&self.url(&making, "rapport_owner"), role.migrations().unwrap()).await.unwrap();
            let rename = format!("ALTER DATABASE {making} RENAME TO {template}");
            conn.execute(AssertSqlSafe(rename)).await.unwrap();
        }
        conn.close().await.unwrap();
    }

    /// A connection to a role's database that nothing binds, to look behind the services' backs.
    pub async fn superuser(&self, role: Role) -> PgConnection {
        PgConnection::connect(&self.superuser_url(role)).await.unwrap()
    }

    /// Where that connection leads, for other programs; password included.
    pub fn superuser_url(&self, role: Role) -> String {
        at(&self.superuser, &format!("{}_{}", self.world, role.name()), None)
    }

    fn url(&self, database: &str, user: &str) -> String {
        at(&self.superuser, database, Some(user))
    }
}

impl Default for Databases {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the server has a database of this name.
async fn exists(conn: &mut PgConnection, name: &str) -> bool {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(conn)
        .await
        .unwrap()
}

/// `url` with another database and, if given, another user.
fn at(url: &str, database: &str, user: Option<&str>) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (credentials, place) = rest.split_once('@').expect("a URL with a user");
    let (host, _) = place.split_once('/').expect("a URL with a database");
    let credentials = user.map_or_else(|| credentials.to_owned(), |user| format!("{user}:{PASSWORD}"));
    format!("{scheme}://{credentials}@{host}/{database}")
}
