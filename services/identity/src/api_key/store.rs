//! Statements about API keys.
use rapport_kernel::{Error, Id, Instant};
use rapport_store::{TenantTx, database};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::ApiKey;

/// Seconds after which the use of a key is told again.
const TOLD: i64 = 3600;

/// A key by its id, whatever its state.
pub(crate) async fn find(tx: &mut TenantTx, id: Uuid) -> Result<Option<ApiKey>, Error> {
    let tenant = tx.tenant();
    sqlx::query_as(
        "SELECT id, version, display_name, permissions, ceiling, user_id, prefix, digest, expire_time, revoke_time,
           last_use_time, create_time
         FROM api_keys WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(id)
    .fetch_optional(tx.conn().await?)
    .await
    .map_err(database)
}

/// Notes that a key is used now, where that may not be told; the outbox says nothing about it.
pub(crate) async fn touch(
    conn: &mut PgConnection,
    tenant: Uuid,
    id: Id<ApiKey>,
    now: Instant,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE api_keys SET last_use_time = greatest(last_use_time, $3) WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(id)
    .bind(now)
    .execute(conn)
    .await
    .map_err(database)?;
    Ok(())
}

/// What is to be told of the use of a key.
#[derive(Debug, FromRow)]
pub(crate) struct Use {
    /// Whether it is time.
    pub(crate) due: bool,
    /// When it was told last.
    pub(crate) told_time: Option<Instant>,
    /// From where the key was used since.
    pub(crate) addresses: Vec<String>,
}

/// Notes that a key is used now, from this address, and whether that is to be told: of several who ask at once, one is told so.
pub(crate) async fn use_now(
    conn: &mut PgConnection,
    tenant: Uuid,
    id: Id<ApiKey>,
    now: Instant,
    address: &str,
) -> Result<Use, Error> {
    sqlx::query_as(
        "WITH held AS (
           SELECT told_time, told_time IS NULL OR told_time <= $4 AS due, CASE
             WHEN $5 = '' OR $5 = ANY(use_addresses) OR cardinality(use_addresses) >= 20 THEN use_addresses
             ELSE use_addresses || $5 END AS addresses
           FROM api_keys WHERE tenant_id = $1 AND id = $2 FOR UPDATE)
         UPDATE api_keys k SET last_use_time = greatest(k.last_use_time, $3),
           told_time = CASE WHEN h.due THEN $3 ELSE k.told_time END,
           use_addresses = CASE WHEN h.due THEN '{}' ELSE h.addresses END
         FROM held h WHERE k.tenant_id = $1 AND k.id = $2 RETURNING h.due, h.told_time, h.addresses",
    )
    .bind(tenant)
    .bind(id)
    .bind(now)
    .bind(now.plus_seconds(-TOLD))
    .bind(address)
    .fetch_one(conn)
    .await
    .map_err(database)
}
