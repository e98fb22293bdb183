//! Statements about the tree of units.
use rapport_kernel::{Error, Id};
use rapport_store::{Side, TenantTx, database};
use serde_json::json;
use uuid::Uuid;

use super::Unit;

const UNITS: Side = Side { table: "units", columns: "id", key: "id", replaces: false };

/// Lets one transaction at a time change the tenant's tree: two moves, each good by itself, can make a cycle together.
pub(super) async fn hold_tree(tx: &mut TenantTx) -> Result<(), Error> {
    let tenant = tx.tenant();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 1000))")
        .bind(tenant)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(())
}

/// Whether there is such a unit; nobody deletes it before the end of this transaction.
pub(super) async fn hold(tx: &mut TenantTx, id: Id<Unit>) -> Result<bool, Error> {
    let tenant = tx.tenant();
    let found: Option<Uuid> =
        sqlx::query_scalar("SELECT id FROM units WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE")
            .bind(tenant)
            .bind(id)
            .fetch_optional(tx.conn().await?)
            .await
            .map_err(database)?;
    Ok(found.is_some())
}

/// The unit and those above it, up to the root; nothing when there is none.
pub(super) async fn above(tx: &mut TenantTx, id: Id<Unit>) -> Result<Vec<Uuid>, Error> {
    let tenant = tx.tenant();
    sqlx::query_scalar(
        "WITH RECURSIVE up AS (
           SELECT id, parent_id, 1 AS level FROM units WHERE tenant_id = $1 AND id = $2
           UNION ALL
           SELECT u.id, u.parent_id, level + 1 FROM units u JOIN up ON u.id = up.parent_id WHERE u.tenant_id = $1)
         SELECT id FROM up ORDER BY level",
    )
    .bind(tenant)
    .bind(id)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)
}

/// How many levels the unit and those below it have.
pub(super) async fn height(tx: &mut TenantTx, id: Id<Unit>) -> Result<usize, Error> {
    let tenant = tx.tenant();
    let levels: i32 = sqlx::query_scalar(
        "WITH RECURSIVE down AS (
           SELECT id, 1 AS level FROM units WHERE tenant_id = $1 AND id = $2
           UNION ALL
           SELECT u.id, level + 1 FROM units u JOIN down ON u.parent_id = down.id WHERE u.tenant_id = $1)
         SELECT coalesce(max(level), 0) FROM down",
    )
    .bind(tenant)
    .bind(id)
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)?;
    usize::try_from(levels).map_err(Error::internal)
}

pub(super) async fn name_is_taken(tx: &mut TenantTx, unit: &Unit) -> Result<bool, Error> {
    let tenant = tx.tenant();
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM units WHERE tenant_id = $1 AND parent_id IS NOT DISTINCT FROM $2
           AND display_name = $3 AND id <> $4)",
    )
    .bind(tenant)
    .bind(unit.parent_id)
    .bind(&unit.display_name)
    .bind(unit.id)
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)
}

/// How many units are right below a unit, and how many people in it.
pub(super) async fn occupants(tx: &mut TenantTx, id: Id<Unit>) -> Result<(i64, i64), Error> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM units WHERE tenant_id = $1 AND parent_id = $2),
           (SELECT count(*) FROM users WHERE tenant_id = $1 AND unit_id = $2)",
    )
    .bind(tenant)
    .bind(id)
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)
}

pub(super) fn delete(tx: &mut TenantTx, id: Id<Unit>) -> Result<(), Error> {
    tx.side_delete(UNITS, &json!({"id": id}))
}
