//! Statements about users.
use rapport_kernel::{Error, Id};
use rapport_store::{TenantTx, database};
use sqlx::PgConnection;
use uuid::Uuid;

use super::User;

/// A user whom the caller knows otherwise, whatever the caller may read: themselves, or the one of a link or a sign-in.
///
/// # Errors
/// `Unauthenticated` when there is none any more.
pub(crate) async fn get(conn: &mut PgConnection, tenant: Uuid, id: Id<User>) -> Result<User, Error> {
    let user: Option<User> = sqlx::query_as(
        "SELECT id, version, email, email_key, display_name, unit_id, roles, state, locale, time_zone, last_sign_in_time,
           create_time, update_time
         FROM users WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(id)
    .fetch_optional(conn)
    .await
    .map_err(database)?;
    user.ok_or(Error::Unauthenticated)
}

/// The user with this address.
pub(crate) async fn by_email(tx: &mut TenantTx, email_key: &str) -> Result<Option<User>, Error> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "SELECT id, version, email, email_key, display_name, unit_id, roles, state, locale, time_zone, last_sign_in_time,
           create_time, update_time
         FROM users WHERE tenant_id = $1 AND email_key = $2",
    )
    .bind(tenant)
    .bind(email_key)
    .fetch_optional(tx.conn().await?)
    .await
    .map_err(database)
}

pub(super) async fn email_is_taken(tx: &mut TenantTx, email_key: &str) -> Result<bool, Error> {
    Ok(by_email(tx, email_key).await?.is_some())
}

/// How many other active people have the administrator's role. Who asks waits for whoever asked before: two administrators
/// who end each other's access at the same time would otherwise both succeed.
pub(super) async fn hold_other_administrators(
    tx: &mut TenantTx,
    role: Uuid,
    but: Id<User>,
) -> Result<i64, Error> {
    let tenant = tx.tenant();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 1001))")
        .bind(tenant)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    sqlx::query_scalar(
        "SELECT count(*) FROM users WHERE tenant_id = $1 AND state = 'active' AND $2 = ANY(roles) AND id <> $3",
    )
    .bind(tenant)
    .bind(role)
    .bind(but)
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)
}

/// Whether the user's open invitation is this one.
pub(super) async fn is_invited(tx: &mut TenantTx, id: Id<User>, invitation: Uuid) -> Result<bool, Error> {
    let tenant = tx.tenant();
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM invitations WHERE tenant_id = $1 AND user_id = $2 AND id = $3)",
    )
    .bind(tenant)
    .bind(id)
    .bind(invitation)
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)
}
