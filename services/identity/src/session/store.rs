//! Statements about sessions: plain rows, which the outbox says nothing about.
use rapport_kernel::{Error, Id, Instant};
use rapport_store::{TenantTx, database};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AGE, IDLE, Session};
use crate::user::User;

/// Keeps a new session, and forgets those of the same user that are over.
pub(super) async fn begin(conn: &mut PgConnection, tenant: Uuid, session: &Session) -> Result<(), Error> {
    sqlx::query(
        "WITH over AS (
           DELETE FROM sessions WHERE tenant_id = $1 AND user_id = $3 AND (create_time <= $8 OR last_use_time <= $9)),
         signed_in AS (UPDATE users SET last_sign_in_time = $7 WHERE tenant_id = $1 AND id = $3)
         INSERT INTO sessions (tenant_id, id, user_id, digest, user_agent, ip_address, create_time, last_use_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
    )
    .bind(tenant)
    .bind(session.id)
    .bind(session.user_id)
    .bind(&session.digest)
    .bind(&session.user_agent)
    .bind(&session.ip_address)
    .bind(session.create_time)
    .bind(session.create_time.plus_seconds(-AGE))
    .bind(session.create_time.plus_seconds(-IDLE))
    .execute(conn)
    .await
    .map_err(database)?;
    Ok(())
}

/// A session by its id, open or over.
pub(crate) async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<Session>, Error> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "SELECT id, user_id, digest, user_agent, ip_address, create_time, last_use_time FROM sessions
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(id)
    .fetch_optional(tx.conn().await?)
    .await
    .map_err(database)
}

/// The open sessions of a user, the latest used first.
pub(super) async fn list(tx: &mut TenantTx, user: Id<User>) -> Result<Vec<Session>, Error> {
    let (tenant, now) = (tx.tenant(), tx.now());
    sqlx::query_as(
        "SELECT id, user_id, digest, user_agent, ip_address, create_time, last_use_time FROM sessions
         WHERE tenant_id = $1 AND user_id = $2 AND create_time > $3 AND last_use_time > $4
         ORDER BY last_use_time DESC, id DESC LIMIT 1000",
    )
    .bind(tenant)
    .bind(user)
    .bind(now.plus_seconds(-AGE))
    .bind(now.plus_seconds(-IDLE))
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)
}

/// Notes that a session is used now, from that address.
pub(crate) async fn touch(
    conn: &mut PgConnection,
    tenant: Uuid,
    id: Id<Session>,
    ip_address: &str,
    now: Instant,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE sessions SET last_use_time = greatest(last_use_time, $3), ip_address = coalesce(nullif($4, ''), ip_address)
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(id)
    .bind(now)
    .bind(ip_address)
    .execute(conn)
    .await
    .map_err(database)?;
    Ok(())
}

/// Ends one of a user's sessions; says whether there was such a one.
pub(super) async fn end(tx: &mut TenantTx, user: Id<User>, id: Uuid) -> Result<bool, Error> {
    let tenant = tx.tenant();
    let ended = sqlx::query("DELETE FROM sessions WHERE tenant_id = $1 AND user_id = $2 AND id = $3")
        .bind(tenant)
        .bind(user)
        .bind(id)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(ended.rows_affected() > 0)
}

/// Ends all sessions of a user, but for this one.
pub(crate) async fn end_all(tx: &mut TenantTx, user: Id<User>, but: Option<Uuid>) -> Result<(), Error> {
    let tenant = tx.tenant();
    sqlx::query("DELETE FROM sessions WHERE tenant_id = $1 AND user_id = $2 AND id IS DISTINCT FROM $3")
        .bind(tenant)
        .bind(user)
        .bind(but)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(())
}
