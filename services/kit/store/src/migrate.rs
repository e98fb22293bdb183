//! Migrations: forward only, schema only, run by the owner of the schema.
use std::borrow::Cow;

use rapport_kernel::Error;
use sqlx::{
    Connection as _, Executor as _, PgConnection, SqlSafeStr as _,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use crate::error::database;

/// One step: its number (services begin at 1000), what it does, and its SQL.
pub type Step = (i64, &'static str, &'static str);

/// What every service's database has.
const KIT: &[Step] = &[
    (1, "kit", include_str!("../migrations/0001_kit.sql")),
    (2, "events", include_str!("../migrations/0002_events.sql")),
];

/// What holds one migrator up while another is at work, in `pg_advisory_lock`.
const ONE_AT_A_TIME: i64 = 7_261_707;

/// Brings the schema of the database at `owner_url` up to date: the kit's steps, those of the
/// libraries that the service is made with, and its own.
///
/// A step waits at most 2 s for a lock, so that it never holds up the running version for long; it fails instead, changes
/// nothing and can be tried again. Of several who migrate at once, one does and the others wait for it. The list of what was
/// done lies beside the kit's functions, out of the services' reach.
///
/// # Errors
/// `Unavailable` when a lock was not to be had in time, or the database does not answer.
pub async fn migrate(owner_url: &str, steps: &[&'static [Step]]) -> Result<(), Error> {
    let mut conn = PgConnection::connect(owner_url).await.map_err(database)?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(ONE_AT_A_TIME)
        .execute(&mut conn)
        .await
        .map_err(database)?;
    conn.execute("SET lock_timeout = '2s'").await.map_err(database)?;
    let migrations = KIT
        .iter()
        .chain(steps.iter().copied().flatten())
        .map(|&(version, description, sql)| {
            Migration::new(
                version,
                Cow::Borrowed(description),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.create_schema("rapport");
    migrator.dangerous_set_table_name("rapport.migrations");
    // `run`, for a connection: its own signature keeps the caller's future from being sent to another thread.
    migrator.run_direct(None, &mut conn, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database(error),
        other => Error::internal(other),
    })?;
    conn.close().await.map_err(database)
}
