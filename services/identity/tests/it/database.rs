//! A database of one's own, cloned from a template that is migrated once for each state of the schema.
use rapport_identity::MIGRATIONS;
use rapport_store::{migrate, provision};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// What roles sign in with.
const PASSWORD: &str = "for-tests-only";

/// What the kit puts before identity's own steps.
const KIT: &str = include_str!("../../../kit/store/migrations/0001_kit.sql");

/// A database; it is dropped with this.
#[derive(Debug)]
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let template = template().await;
        let name = format!("identity_it_{}", rapport_kernel::Clock::system().new_uuid().simple());
        let mut admin = PgConnection::connect(&superuser()).await.unwrap();
        for statement in [
            format!("CREATE DATABASE {name} TEMPLATE {template} OWNER rapport_owner"),
            format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
            format!("GRANT CONNECT ON DATABASE {name} TO rapport_identity"),
        ] {
            admin.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        admin.close().await.unwrap();
        Self { name }
    }

    /// As identity reaches it.
    pub(crate) fn url(&self) -> String {
        url(&self.name, "rapport_identity")
    }

    /// As the owner of the schema.
    pub(crate) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&url(&self.name, "rapport_owner")).await.unwrap()
    }

    /// A connection that nothing binds, to look behind the service's back.
    pub(crate) async fn admin(&self) -> PgConnection {
        let (server, _) = superuser().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        PgConnection::connect(&format!("{server}/{}", self.name)).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // On a thread of its own: the test's runtime may be on its way out.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut admin = PgConnection::connect(&superuser()).await?;
                admin.execute(AssertSqlSafe(statement)).await.map(drop)
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            println!("a test's database stays: {error}");
        }
    }
}

/// The migrated template; whoever comes while it is made waits.
async fn template() -> String {
    let digest = MIGRATIONS
        .iter()
        .copied()
        .flatten()
        .fold(Sha256::new_with_prefix(KIT), |digest, (_, _, sql)| digest.chain_update(sql));
    let hash: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let template = format!("identity_it_template_{hash}");
    let mut admin = PgConnection::connect(&superuser()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&template).execute(&mut admin).await.unwrap();
    let ready: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&template)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    if !ready {
        let making = format!("{template}_making");
        let clear = format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)");
        admin.execute(AssertSqlSafe(clear)).await.unwrap();
        provision(&superuser(), "identity", &making, PASSWORD, PASSWORD).await.unwrap();
        migrate(&url(&making, "rapport_owner"), MIGRATIONS).await.unwrap();
        let finish = format!("ALTER DATABASE {making} RENAME TO {template}");
        admin.execute(AssertSqlSafe(finish)).await.unwrap();
    }
    admin.close().await.unwrap();
    template
}

fn superuser() -> String {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    let url = std::env::var("RAPPORT_TEST_POSTGRES");
    url.expect("RAPPORT_TEST_POSTGRES must name a PostgreSQL, as `make test` does")
}

/// The superuser's URL for another database and role.
fn url(database: &str, role: &str) -> String {
    let superuser = superuser();
    let (scheme, rest) = superuser.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    format!("{scheme}://{role}:{PASSWORD}@{host}/{database}")
}
