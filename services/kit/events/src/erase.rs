//! Erasing what the log, and whatever followed from it, keeps of a record. That something happened to it, when and by whom, stays;
//! what it was does not. The chains verify as before, since they are made of digests.
//!
//! It is for one service's database. Other services hear that a record was erased as of any other event, and call the same for what
//! they keep of it. The bus forgets by itself within a day.
use std::time::Duration;

use rapport_kernel::{Ctx, Error};
use rapport_store::{Db, Resource as _, TenantTx, database};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::ParkedItem;

/// How long events of the record are waited for that are on their way into the log,
const PATIENCE: Duration = Duration::from_secs(5);
/// looking so often.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until no event of the record is on its way into the log: what is not in there cannot be erased. Call it before the
/// transaction that erases.
///
/// # Errors
/// `Unavailable` when the log does not come on.
pub async fn settled(db: &Db, ctx: &Ctx, kind: &str, record: Uuid) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let mut tx = db.platform().await?;
        let waits: bool = sqlx::query_scalar("SELECT rapport.waits($1, $2, $3)")
            .bind(ctx.tenant)
            .bind(resource(kind))
            .bind(record)
            .fetch_one(tx.conn()?)
            .await
            .map_err(database)?;
        tx.commit().await?;
        if !waits {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::Unavailable("events of a record to erase do not come into the log".into()));
        }
        sleep(PAUSE).await;
    }
}

/// Erases what this database keeps of a record beside the record itself: payloads of its events, first answers that name it,
/// work about it, and the values in what is parked and in the ledger. `kind` is the record's, e.g. `customer.customer`. Collect the
/// event that tells of it afterwards, or that is erased too.
///
/// # Errors
/// `Conflict` when an event of the record is on its way into the log.
pub async fn erase(tx: &mut TenantTx, kind: &str, record: Uuid) -> Result<(), Error> {
    blank(tx, resource(kind), record).await?;
    let tenant = tx.tenant();
    sqlx::query("UPDATE ledger_entries SET problem = '', detail = '{}' WHERE tenant_id = $1 AND record = $2")
        .bind(tenant)
        .bind(format!("{kind}/{record}"))
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    let items: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE parked_items SET line = '', problem = '' WHERE tenant_id = $1 AND resource = $2 AND record_id = $3
         RETURNING id",
    )
    .bind(tenant)
    .bind(resource(kind))
    .bind(record)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)?;
    for item in &items {
        blank(tx, ParkedItem::NAME, *item).await?;
    }
    // Nobody can try them again.
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {} FROM parked_items WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id",
        ParkedItem::COLUMNS
    ));
    let items: Vec<ParkedItem> =
        sqlx::query_as(sql).bind(tenant).bind(items).fetch_all(tx.conn().await?).await.map_err(database)?;
    for item in items.iter().filter(|item| item.waits()) {
        item.change(tx, |item| {
            "discarded".clone_into(&mut item.state);
            "RECORD_ERASED".clone_into(&mut item.reason);
        })?;
    }
    Ok(())
}

async fn blank(tx: &mut TenantTx, resource: &str, record: Uuid) -> Result<(), Error> {
    let blanked: bool = sqlx::query_scalar("SELECT rapport.erase($1, $2)")
        .bind(resource)
        .bind(record)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)?;
    if blanked { Ok(()) } else { Err(Error::Conflict) }
}

/// The resource that records of a kind are.
fn resource(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}
