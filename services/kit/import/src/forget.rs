//! Forgetting a record that was erased.
use rapport_kernel::Error;
use rapport_store::{TenantTx, database};
use uuid::Uuid;

/// Forgets what imports wrote over in a record: whoever undoes them leaves it as it is.
///
/// # Errors
/// When the database fails.
pub async fn forget_record(tx: &mut TenantTx, record: Uuid) -> Result<(), Error> {
    let tenant = tx.tenant();
    sqlx::query("DELETE FROM import_rows WHERE tenant_id = $1 AND record_id = $2")
        .bind(tenant)
        .bind(record)
        .execute(tx.conn().await?)
        .await
        .map(drop)
        .map_err(database)
}
