//! Statements about API keys.
use rapport_kernel::{Error, Id, Instant};
use rapport_store::{TenantTx, database};
use sqlx::PgConnection;
use uuid::Uuid;

use super::ApiKey;

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

/// Notes that a key is used now; the outbox says nothing about it.
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
