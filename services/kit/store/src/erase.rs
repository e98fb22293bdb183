//! Erasing what identifies a person: which custom fields do, and what lies beside a record.
use std::collections::BTreeSet;

use rapport_kernel::Error;
use uuid::Uuid;

use crate::{Resource, TenantTx, error::database};

impl TenantTx {
    /// The keys of the custom fields of `R` that are not marked personal, archived ones too. What else a record has under some
    /// key is not known to be harmless.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn impersonal_keys<R: Resource>(&mut self) -> Result<BTreeSet<String>, Error> {
        let tenant = self.tenant();
        let keys: Vec<String> = sqlx::query_scalar(
            "SELECT key FROM custom_fields WHERE tenant_id = $1 AND resource = $2 AND NOT personal",
        )
        .bind(tenant)
        .bind(R::NAME)
        .fetch_all(self.conn().await?)
        .await
        .map_err(database)?;
        Ok(keys.into_iter().collect())
    }

    /// Erases what lies beside a record that was itself erased: to whom it was shared, its keys in other systems, and the
    /// values of archived fields, which follow no change any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erase_beside<R: Resource>(&mut self, record: Uuid) -> Result<(), Error> {
        let tenant = self.tenant();
        for table in ["record_shares", "external_ids"] {
            let sql =
                format!("DELETE FROM {table} WHERE tenant_id = $1 AND resource = $2 AND record_id = $3");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(tenant)
                .bind(R::NAME)
                .bind(record)
                .execute(self.conn().await?)
                .await
                .map_err(database)?;
        }
        for table in [
            "attribute_texts",
            "attribute_numbers",
            "attribute_dates",
            "attribute_instants",
            "attribute_keys",
        ] {
            let sql = format!(
                "DELETE FROM {table} t USING custom_fields f
                 WHERE f.tenant_id = $1 AND f.resource = $2 AND f.personal AND f.state = 'archived'
                   AND t.tenant_id = $1 AND t.field_id = f.id AND t.record_id = $3"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(tenant)
                .bind(R::NAME)
                .bind(record)
                .execute(self.conn().await?)
                .await
                .map_err(database)?;
        }
        Ok(())
    }
}
