//! What logs need after a backup was restored.
use rapport_kernel::Error;
use rapport_store::database;
use sqlx::{Connection as _, PgConnection};

/// So far above the epochs of a time that did not come to pass do leaders begin after it.
const FAR: i64 = 1_000_000;
/// So far above a tenant's numbers of that time do those after it begin.
const FURTHER: i64 = 1_000_000_000;

/// Aligns the logs of services whose databases were restored, each with the URL of a connection of its owner or of a superuser.
/// Their schemas are up to date.
///
/// The databases were dumped one after the other, so that a service may have heard more of another one than that one has now:
/// those numbers will be given again, to other events, and must be heard then. And a bus that was not restored along with them
/// may hold messages of a time that did not come to pass: leaders begin with epochs far above those, so that consumers ask the
/// logs, which do not know them. Those outside know a tenant's numbers of that time: these are never given again.
///
/// # Errors
/// When a database fails.
pub async fn align_restored(services: &[(impl AsRef<str>, String)]) -> Result<(), Error> {
    let mut heads = Vec::new();
    for (name, url) in services {
        let mut conn = PgConnection::connect(url).await.map_err(database)?;
        let parts: Vec<i64> = sqlx::query_scalar("SELECT part_numbers FROM platform.log_head")
            .fetch_one(&mut conn)
            .await
            .map_err(database)?;
        sqlx::query("UPDATE platform.leads SET epoch = epoch + $1")
            .bind(FAR)
            .execute(&mut conn)
            .await
            .map_err(database)?;
        for sql in [
            "UPDATE platform.log_head SET tenants_begin_after = tenants_begin_after + $1",
            "UPDATE platform.tenant_numbers SET number = number + $1, restored_after = number, restored_to = number + $1",
        ] {
            sqlx::query(sql).bind(FURTHER).execute(&mut conn).await.map_err(database)?;
        }
        heads.push((name.as_ref(), parts));
    }
    for (_, url) in services {
        let mut conn = PgConnection::connect(url).await.map_err(database)?;
        for (producer, parts) in &heads {
            sqlx::query(
                "UPDATE platform.watermarks SET number = least(number, ($2::bigint[])[part + 1]) WHERE producer = $1",
            )
            .bind(producer)
            .bind(parts)
            .execute(&mut conn)
            .await
            .map_err(database)?;
        }
        // What was copied may be newer than what its owner has now.
        sqlx::query("DELETE FROM platform.copies").execute(&mut conn).await.map_err(database)?;
    }
    Ok(())
}
