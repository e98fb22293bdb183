//! How long the log is kept: days are dropped whole, by retention class, and the chains of what is left still verify.
use rapport_kernel::{Date, Error};
use rapport_store::database;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

/// How many days the log is kept, by retention class. What is kept as `permanent` is never dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Of tenants whose plan says nothing, at least 7.
    pub standard_days: u32,
    /// Of tenants whose plan keeps more, at least 7.
    pub extended_days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { standard_days: 30, extended_days: 400 }
    }
}

/// So many of the newest days that have lines stay, whatever the clock says: one that is a year ahead must not empty the log.
const HOT: i64 = 7;

/// Drops the days that are over by `today`; says how many.
///
/// # Errors
/// `Unavailable` when somebody reads such a day for longer than a second: it is tried again later.
pub(crate) async fn drop_old(session: &mut PgConnection, today: Date, keep: Keep) -> Result<usize, Error> {
    let mut dropped = 0;
    let hot: Option<Date> =
        sqlx::query_scalar("SELECT day FROM platform.log_days ORDER BY day DESC OFFSET $1 LIMIT 1")
            .bind(HOT - 1)
            .fetch_optional(&mut *session)
            .await
            .map_err(database)?;
    let Some(hot) = hot else { return Ok(0) };
    for (class, days) in [("standard", keep.standard_days), ("extended", keep.extended_days)] {
        let parent = format!("event_log_{class}");
        let filed: Vec<Date> = sqlx::query_scalar(
            "SELECT to_date(right(c.relname, 8), 'YYYYMMDD') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = ('platform.' || $1)::regclass ORDER BY 1",
        )
        .bind(&parent)
        .fetch_all(&mut *session)
        .await
        .map_err(database)?;
        let oldest = today.plus_days(-i64::from(days)).min(hot);
        for day in filed.into_iter().take_while(|day| *day < oldest) {
            drop_day(session, class, &parent, day).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Drops a day of a class, or leaves it as it is.
async fn drop_day(session: &mut PgConnection, class: &str, parent: &str, day: Date) -> Result<(), Error> {
    if let Err(error) = try_drop(session, class, parent, day).await {
        session.execute("ROLLBACK").await.map_err(database)?;
        return Err(database(error));
    }
    tracing::info!(retention = class, %day, "a day of the log was dropped");
    Ok(())
}

/// Notes with which links the chains of a class go on after this day, and drops it.
async fn try_drop(
    session: &mut PgConnection,
    class: &str,
    parent: &str,
    day: Date,
) -> Result<(), sqlx::Error> {
    let table = format!("platform.{parent}_{}", day.to_string().replace('-', ""));
    session.execute("BEGIN; SET LOCAL lock_timeout = '1s'").await?;
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO platform.log_dropped (retention, day, links)
         SELECT $1, $2, array_agg(coalesce(last.link, d.links[p + 1], decode(repeat('00', 32), 'hex')) ORDER BY p)
         FROM generate_series(0, 31) AS p
         LEFT JOIN platform.log_dropped d ON d.retention = $1
         LEFT JOIN LATERAL (SELECT link FROM {table} WHERE part = p ORDER BY part_number DESC LIMIT 1) AS last ON true
         ON CONFLICT (retention) DO UPDATE SET day = excluded.day, links = excluded.links"
    )))
    .bind(class)
    .bind(day)
    .execute(&mut *session)
    .await?;
    let drop = format!("ALTER TABLE platform.{parent} DETACH PARTITION {table}; DROP TABLE {table}; COMMIT");
    session.execute(AssertSqlSafe(drop)).await.map(|_| ())
}
