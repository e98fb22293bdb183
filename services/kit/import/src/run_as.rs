//! Under whose rights an import is worked on: those of who started it, kept with it.
use rapport_kernel::Error;
use rapport_store::{RunAs, TenantTx, database};
use sqlx::types::Json;
use uuid::Uuid;

/// Keeps the rights of the transaction's caller with an import.
pub(crate) async fn keep(tx: &mut TenantTx, import: Uuid) -> Result<(), Error> {
    let run_as = RunAs::of(tx.ctx())?;
    let tenant = tx.tenant();
    sqlx::query("UPDATE imports SET run_as = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant)
        .bind(import)
        .bind(Json(run_as))
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(())
}

/// The rights that were kept with an import; `None` when there is no such import.
pub(crate) async fn read(tx: &mut TenantTx, import: Uuid) -> Result<Option<RunAs>, Error> {
    let tenant = tx.tenant();
    let kept: Option<Option<Json<RunAs>>> =
        sqlx::query_scalar("SELECT run_as FROM imports WHERE tenant_id = $1 AND id = $2")
            .bind(tenant)
            .bind(import)
            .fetch_optional(tx.conn().await?)
            .await
            .map_err(database)?;
    Ok(kept.flatten().map(|Json(run_as)| run_as))
}
