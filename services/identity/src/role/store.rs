//! Statements about roles.
use rapport_kernel::{Error, Id};
use rapport_store::{Side, TenantTx, database};
use serde_json::json;
use sqlx::FromRow;
use uuid::Uuid;

use super::Role;
use crate::user::User;

const ROLES: Side = Side { table: "roles", columns: "id", key: "id", replaces: false };

pub(super) async fn name_is_taken(tx: &mut TenantTx, role: &Role) -> Result<bool, Error> {
    let tenant = tx.tenant();
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM roles WHERE tenant_id = $1 AND display_name = $2 AND id <> $3)",
    )
    .bind(tenant)
    .bind(&role.display_name)
    .bind(role.id)
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)
}

/// How many people have a role, whatever their state.
pub(super) async fn holders(tx: &mut TenantTx, id: Id<Role>) -> Result<i64, Error> {
    let tenant = tx.tenant();
    sqlx::query_scalar("SELECT count(*) FROM users WHERE tenant_id = $1 AND $2 = ANY(roles)")
        .bind(tenant)
        .bind(id)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)
}

/// These of the roles that exist; nobody changes or deletes them before the end of this transaction.
pub(super) async fn hold(tx: &mut TenantTx, ids: &[Uuid]) -> Result<Vec<Role>, Error> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "SELECT id, version, display_name, description, permissions, field_rights, built_in, create_time, update_time
         FROM roles WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR SHARE",
    )
    .bind(tenant)
    .bind(ids)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)
}

/// The roles of a user.
pub(crate) async fn of_user(tx: &mut TenantTx, user: Id<User>) -> Result<Vec<Role>, Error> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "SELECT r.id, r.version, r.display_name, r.description, r.permissions, r.field_rights, r.built_in,
           r.create_time, r.update_time
         FROM users u JOIN roles r ON r.tenant_id = u.tenant_id AND r.id = ANY(u.roles)
         WHERE u.tenant_id = $1 AND u.id = $2 ORDER BY r.id",
    )
    .bind(tenant)
    .bind(user)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)
}

/// A role, and whether somebody has it.
#[derive(FromRow)]
struct Around {
    #[sqlx(flatten)]
    role: Role,
    held: bool,
}

/// The roles of a user, and the others that limit fields.
pub(crate) async fn around_user(tx: &mut TenantTx, user: Id<User>) -> Result<(Vec<Role>, Vec<Role>), Error> {
    let tenant = tx.tenant();
    let roles: Vec<Around> = sqlx::query_as(
        "SELECT r.id, r.version, r.display_name, r.description, r.permissions, r.field_rights, r.built_in,
           r.create_time, r.update_time, r.id = ANY(u.roles) AS held
         FROM users u JOIN roles r ON r.tenant_id = u.tenant_id AND (r.id = ANY(u.roles) OR r.field_rights <> '[]')
         WHERE u.tenant_id = $1 AND u.id = $2 ORDER BY r.id",
    )
    .bind(tenant)
    .bind(user)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)?;
    let (held, others): (Vec<_>, Vec<_>) = roles.into_iter().partition(|around| around.held);
    let roles = |around: Vec<Around>| around.into_iter().map(|around| around.role).collect();
    Ok((roles(held), roles(others)))
}

/// The administrator's role.
pub(crate) async fn administrator(tx: &mut TenantTx) -> Result<Uuid, Error> {
    let tenant = tx.tenant();
    sqlx::query_scalar("SELECT id FROM roles WHERE tenant_id = $1 AND built_in = 'administrator'")
        .bind(tenant)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)
}

pub(super) fn delete(tx: &mut TenantTx, id: Id<Role>) -> Result<(), Error> {
    tx.side_delete(ROLES, &json!({"id": id}))
}
