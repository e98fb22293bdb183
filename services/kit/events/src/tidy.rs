//! What is kept beside the log goes when the log goes: lines of the ledger, and parked items that nobody has to look at any more.
//! Of messages that were not believed the last ones are kept.
use std::{collections::BTreeMap, time::Duration};

use rapport_kernel::{Clock, Ctx, Date, Error, Id};
use rapport_store::{Db, database};
use sqlx::AssertSqlSafe;
use tokio::time::sleep;
use uuid::Uuid;

use crate::lead::cause;

/// How often it is looked whether days of the log were dropped.
const EVERY: Duration = Duration::from_hours(1);
/// Rows that are deleted in one transaction.
const AT_ONCE: i64 = 5_000;
/// So many messages that were not believed are kept.
const DOUBTED: i64 = 10_000;

/// What goes: tables, and the rows of them that are done with.
const DONE: [(&str, &str); 2] = [
    ("ledger_entries", "outcome IN ('done', 'skipped', 'failed')"),
    ("parked_items", "state IN ('done', 'discarded')"),
];

/// Deletes it, again and again.
pub(crate) async fn tidy(db: &Db, clock: &Clock) -> Result<(), Error> {
    let mut tidied = BTreeMap::new();
    loop {
        if let Err(error) = once(db, clock, &mut tidied).await {
            tracing::info!(error = cause(&error), "what is over beside the log is deleted later");
        }
        sleep(EVERY).await;
    }
}

/// `tidied` says of each retention class up to which day it was done.
async fn once(db: &Db, clock: &Clock, tidied: &mut BTreeMap<String, Date>) -> Result<(), Error> {
    let mut tx = db.platform().await?;
    let dropped: Vec<(String, Date)> = sqlx::query_as("SELECT retention, day FROM platform.log_dropped")
        .fetch_all(tx.conn()?)
        .await
        .map_err(database)?;
    let tenants: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, retention FROM platform.tenants")
        .fetch_all(tx.conn()?)
        .await
        .map_err(database)?;
    sqlx::query(
        "DELETE FROM platform.set_aside WHERE id IN (
           SELECT id FROM platform.set_aside ORDER BY create_time DESC OFFSET $1)",
    )
    .bind(DOUBTED)
    .execute(tx.conn()?)
    .await
    .map_err(database)?;
    tx.commit().await?;
    for (class, day) in dropped {
        if tidied.get(&class).is_some_and(|done| *done >= day) {
            continue;
        }
        for (tenant, _) in tenants.iter().filter(|(_, of)| *of == class) {
            for (table, done_with) in DONE {
                while delete(db, clock, *tenant, table, done_with, day).await? == AT_ONCE as u64 {}
            }
        }
        tidied.insert(class, day);
    }
    Ok(())
}

/// Deletes some rows of a tenant that are of this day or older; says how many.
async fn delete(
    db: &Db,
    clock: &Clock,
    tenant: Uuid,
    table: &str,
    done_with: &str,
    day: Date,
) -> Result<u64, Error> {
    let mut reaction = db.begin_reaction().await?;
    let mut tx = reaction.enter(Ctx::system(Id::new(tenant), clock.clone())).await?;
    let deleted = sqlx::query(AssertSqlSafe(format!(
        "DELETE FROM {table} WHERE tenant_id = $1 AND id IN (
           SELECT id FROM {table} WHERE tenant_id = $1 AND create_time < ($2 + 1)::timestamp AT TIME ZONE 'UTC' AND {done_with}
           ORDER BY create_time LIMIT $3)"
    )))
    .bind(tenant)
    .bind(day)
    .bind(AT_ONCE)
    .execute(tx.conn().await?)
    .await
    .map_err(database)?
    .rows_affected();
    reaction.leave(tx).await?;
    reaction.commit().await?;
    Ok(deleted)
}
