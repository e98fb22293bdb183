//! Operators: who runs the installation. They live on a plane of their own and belong to no tenant.
use rapport_kernel::{BoxError, Clock, Error};
use rapport_store::{Db, database};
use uuid::Uuid;

use crate::secret::{self, Presented, Purpose};

/// What an operator's key names in place of a tenant's slug, which is therefore reserved.
pub(crate) const PLACE: &str = "operator";

/// Makes the first operator and their key, if there is no key yet. It is told to `keep` in this moment only, which keeps it where
/// only operators read; if that fails there is no such operator.
///
/// # Errors
/// When the database does not answer, or it cannot be kept.
pub async fn ensure_operator(
    db: &Db,
    clock: &Clock,
    keep: impl FnOnce(&str) -> Result<(), BoxError> + Send,
) -> Result<(), BoxError> {
    let mut tx = db.platform().await?;
    // Two processes that start together make one key: the second waits, and finds it.
    sqlx::query("LOCK TABLE platform.operator_keys IN SHARE ROW EXCLUSIVE MODE")
        .execute(tx.conn()?)
        .await
        .map_err(database)?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM platform.operator_keys WHERE revoke_time IS NULL)")
            .fetch_one(tx.conn()?)
            .await
            .map_err(database)?;
    if exists {
        tx.commit().await?;
        return Ok(());
    }
    let (operator, key, now) = (clock.new_uuid(), clock.new_uuid(), clock.now());
    let issued = secret::issue(Purpose::ApiKey, PLACE, key);
    sqlx::query(
        "WITH operator AS (INSERT INTO platform.operators (id, display_name, create_time) VALUES ($1, 'first operator', $2))
         INSERT INTO platform.operator_keys (id, operator_id, digest, create_time) VALUES ($3, $1, $4, $2)",
    )
    .bind(operator)
    .bind(now)
    .bind(key)
    .bind(&issued.digest)
    .execute(tx.conn()?)
    .await
    .map_err(database)?;
    keep(&issued.text)?;
    Ok(tx.commit().await?)
}

/// The operator whose key this is; `None` when it is nobody's any more.
pub(crate) async fn of_key(db: &Db, presented: &Presented<'_>) -> Result<Option<Uuid>, Error> {
    let mut tx = db.platform().await?;
    let kept: Option<(Uuid, String)> = sqlx::query_as(
        "SELECT operator_id, digest FROM platform.operator_keys WHERE id = $1 AND revoke_time IS NULL",
    )
    .bind(presented.id)
    .fetch_optional(tx.conn()?)
    .await
    .map_err(database)?;
    tx.commit().await?;
    Ok(kept.filter(|(_, digest)| presented.matches(digest)).map(|(operator, _)| operator))
}
