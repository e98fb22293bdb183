//! A database of its own for a test, gone when the test ends.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tokio::runtime::Runtime;

/// A connection to a fresh database, and a runtime to use it on.
pub(crate) struct Database {
    pub(crate) runtime: Runtime,
    pub(crate) connection: PgConnection,
    server: PgConnectOptions,
    name: String,
}

impl Database {
    /// Creates a database with this schema on the server that the tests were given.
    pub(crate) fn create(schema: &'static str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
        let url = std::env::var("RAPPORT_TEST_POSTGRES").expect(
            "RAPPORT_TEST_POSTGRES must hold the address of a PostgreSQL superuser, such as \
             postgres://postgres@localhost/postgres; `make test` sets it",
        );
        let server: PgConnectOptions = url.parse().expect("RAPPORT_TEST_POSTGRES is an address");
        let name = format!("rapport_filter_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let mut admin = server.connect().await.expect("RAPPORT_TEST_POSTGRES answers");
            admin
                .execute(AssertSqlSafe(format!(
                    "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'"
                )))
                .await
                .unwrap();
            let mut connection = server.clone().database(&name).connect().await.unwrap();
            connection.execute(schema).await.unwrap();
            connection
        });
        Self { runtime, connection, server, name }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = self.runtime.block_on(async {
            let mut admin = self.server.connect().await?;
            admin.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).await?;
            admin.close().await
        });
        if let Err(error) = dropped {
            eprintln!("{} is left behind: {error}", self.name);
        }
    }
}
