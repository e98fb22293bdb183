//! Making a service's roles and database: done once by whoever deploys, with a superuser's connection.
//!
//! - `rapport_owner` owns schema and tables and runs migrations;
//! - `rapport_service` is the group of what services may do; each service signs in as `rapport_<service>`;
//! - `rapport_platform` owns what spans tenants; `rapport_search` owns the search functions. Nobody signs in as these.
use rapport_kernel::Error;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::error::database;

/// The roles that every installation has, none of which signs in.
const GROUPS: [&str; 4] = ["rapport_owner", "rapport_service", "rapport_platform", "rapport_search"];

/// Makes the shared roles, the role of `service` with `password`, and the database `name`, where they are missing.
///
/// `superuser` is the URL of a superuser's connection; `owner_password` is what the owner signs in with.
pub async fn provision(
    superuser: &str,
    service: &str,
    name: &str,
    password: &str,
    owner_password: &str,
) -> Result<(), Error> {
    let mut conn = PgConnection::connect(superuser).await.map_err(database)?;
    // Several services may be provisioned at once: one after the other.
    conn.execute("SELECT pg_advisory_lock(7261706)").await.map_err(database)?;
    for role in GROUPS {
        ensure_role(&mut conn, role).await?;
    }
    let login = format!("rapport_{service}");
    ensure_role(&mut conn, &login).await?;
    for statement in [
        "ALTER ROLE rapport_owner LOGIN NOSUPERUSER NOBYPASSRLS".to_owned(),
        "GRANT rapport_service, rapport_platform, rapport_search TO rapport_owner".to_owned(),
        format!(
            "ALTER ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT",
            ident(&login)
        ),
        format!("ALTER ROLE {} PASSWORD {}", ident(&login), literal(password)),
        format!("ALTER ROLE rapport_owner PASSWORD {}", literal(owner_password)),
        // Without inheritance: what spans tenants is reached only by `Db::platform`, which steps into the role.
        format!("GRANT rapport_service, rapport_platform TO {}", ident(&login)),
        format!("ALTER ROLE {} SET idle_in_transaction_session_timeout = '15s'", ident(&login)),
    ] {
        conn.execute(AssertSqlSafe(statement)).await.map_err(database)?;
    }
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut conn)
        .await
        .map_err(database)?;
    if !exists {
        let create = format!(
            "CREATE DATABASE {} OWNER rapport_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0",
            ident(name)
        );
        conn.execute(AssertSqlSafe(create)).await.map_err(database)?;
    }
    for statement in [
        format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", ident(name)),
        format!("GRANT CONNECT ON DATABASE {} TO {}", ident(name), ident(&login)),
    ] {
        conn.execute(AssertSqlSafe(statement)).await.map_err(database)?;
    }
    conn.close().await.map_err(database)
}

async fn ensure_role(conn: &mut PgConnection, role: &str) -> Result<(), Error> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *conn)
        .await
        .map_err(database)?;
    if !exists {
        conn.execute(AssertSqlSafe(format!("CREATE ROLE {}", ident(role)))).await.map_err(database)?;
    }
    Ok(())
}

/// A quoted identifier.
fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
