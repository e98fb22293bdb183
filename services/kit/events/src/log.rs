//! Reading the log.
use rapport_kernel::{Date, Error, Instant};
use rapport_store::database;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

/// A line of the log: an event with its numbers.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Line {
    /// The number among all events of the service, from 1 on without gaps.
    pub number: i64,
    /// The partition, 0 to 31.
    pub part: i16,
    /// The number among those of the partition, from 1 on without gaps.
    pub part_number: i64,
    /// The number among those of the tenant, from 1 on without gaps.
    pub tenant_number: i64,
    /// The event.
    pub event_id: Uuid,
    /// The tenant.
    pub tenant_id: Uuid,
    /// The resource, e.g. `customer`.
    pub resource: String,
    /// The record.
    pub record_id: Uuid,
    /// The record's version after the change.
    pub version: i64,
    /// The subject, e.g. `customer.created.v1`.
    pub subject: String,
    /// The full name of the message, e.g. `rapport.customer.v1.CustomerCreated`.
    pub r#type: String,
    /// Which fields changed; empty for what is not a change.
    pub changed_paths: Vec<String>,
    /// The message; `None` once it was erased.
    pub payload: Option<Vec<u8>>,
    /// Who did it.
    pub principal: String,
    /// On whose behalf.
    pub on_behalf_of: Option<Uuid>,
    /// Through what.
    pub via: String,
    /// The event that this one follows from.
    pub cause: Option<Uuid>,
    /// The trace that it is part of, as a W3C `traceparent`.
    pub trace: Option<String>,
    /// When it happened.
    pub time: Instant,
}

impl AsRef<Self> for Line {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// The columns of a [`Line`].
pub(crate) const COLUMNS: &str =
    "number, part, part_number, tenant_number, event_id, tenant_id, resource, record_id, version, subject,
    type, changed_paths, payload, principal, on_behalf_of, via, cause, trace, time";

/// Of which lines a reader wants the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All, by [`Line::number`].
    All,
    /// Those of a partition, by [`Line::part_number`].
    Part(i16),
}

/// The lines whose number is above `after`, in order, at most `most`.
///
/// # Errors
/// When the database fails.
pub async fn read(
    session: &mut PgConnection,
    which: Which,
    after: i64,
    most: usize,
) -> Result<Vec<Line>, Error> {
    let (before, number, part) = match which {
        Which::All => ("number_before", "number", None),
        Which::Part(part) => ("part_numbers_before[$2 + 1]", "part_number", Some(part)),
    };
    // The days from the one that has the first of them.
    let days: Vec<Date> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT day FROM platform.log_days, (SELECT $2::int) AS none
         WHERE day >= (SELECT max(day) FROM platform.log_days WHERE {before} <= $1) ORDER BY day"
    )))
    .bind(after)
    .bind(part.map(i32::from))
    .fetch_all(&mut *session)
    .await
    .map_err(database)?;
    let mut lines = Vec::new();
    for day in days {
        let left = most - lines.len();
        if left == 0 {
            break;
        }
        let found: Vec<Line> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM platform.event_log WHERE day = $1 AND {number} > $2 AND ($4::smallint IS NULL OR part = $4)
             ORDER BY {number} LIMIT $3"
        )))
        // Planned for its own day and for what it looks for, it touches that day's tables alone.
        .persistent(false)
        .bind(day)
        .bind(after)
        .bind(left as i64)
        .bind(part)
        .fetch_all(&mut *session)
        .await
        .map_err(database)?;
        lines.extend(found);
    }
    Ok(lines)
}

/// Where a tenant's log ends, and where it goes on after it was restored from a backup.
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct Ends {
    /// The last number; before the first event, the one that it will come after.
    pub(crate) last: i64,
    /// The last number that the backup had.
    pub(crate) restored_after: i64,
    /// The one after which it went on; the same where nothing was ever restored. Those between are of a time that is lost.
    pub(crate) restored_to: i64,
}

/// Where a tenant's log ends.
pub(crate) async fn ends_of_tenant(session: &mut PgConnection, tenant: Uuid) -> Result<Ends, Error> {
    sqlx::query_as(
        "SELECT coalesce(n.number, h.tenants_begin_after) AS last, coalesce(n.restored_after, 0) AS restored_after,
           coalesce(n.restored_to, h.tenants_begin_after) AS restored_to
         FROM platform.log_head h LEFT JOIN platform.tenant_numbers n ON n.tenant_id = $1",
    )
    .bind(tenant)
    .fetch_one(session)
    .await
    .map_err(database)
}

/// The first number of a tenant that is kept; `None` when none is.
pub(crate) async fn first_of_tenant(session: &mut PgConnection, tenant: Uuid) -> Result<Option<i64>, Error> {
    for day in days(session).await? {
        if let Some(first) = first_of_day(session, tenant, day).await? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// A tenant's lines whose number is above `after`, in order, at most `most`. Where the first of them is not the next
/// number, what was between was dropped.
pub(crate) async fn read_tenant(
    session: &mut PgConnection,
    tenant: Uuid,
    after: i64,
    most: usize,
) -> Result<Vec<Line>, Error> {
    // Whoever reads is mostly near the end: from there back to the day that has the next number.
    let mut days = days(session).await?;
    let mut from = days.len();
    for (at, day) in days.iter().enumerate().rev() {
        from = at;
        if first_of_day(session, tenant, *day).await?.is_some_and(|first| first <= after + 1) {
            break;
        }
    }
    let mut lines = Vec::new();
    for day in days.drain(from..) {
        let left = most - lines.len();
        if left == 0 {
            break;
        }
        let found: Vec<Line> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM platform.event_log WHERE day = $1 AND tenant_id = $2 AND tenant_number > $3
             ORDER BY tenant_number LIMIT $4"
        )))
        .persistent(false)
        .bind(day)
        .bind(tenant)
        .bind(after)
        .bind(left as i64)
        .fetch_all(&mut *session)
        .await
        .map_err(database)?;
        lines.extend(found);
    }
    Ok(lines)
}

/// What happened to a record before one of the tenant's numbers, the newest first.
pub(crate) async fn read_record(
    session: &mut PgConnection,
    (tenant, resource, record): (Uuid, &str, Uuid),
    before: i64,
    most: usize,
) -> Result<Vec<Line>, Error> {
    sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM platform.event_log
         WHERE tenant_id = $1 AND resource = $2 AND record_id = $3 AND tenant_number < $4
         ORDER BY tenant_number DESC LIMIT $5"
    )))
    .persistent(false)
    .bind(tenant)
    .bind(resource)
    .bind(record)
    .bind(before)
    .bind(most as i64)
    .fetch_all(session)
    .await
    .map_err(database)
}

/// The days that have lines, the oldest first.
async fn days(session: &mut PgConnection) -> Result<Vec<Date>, Error> {
    let days = sqlx::query_scalar("SELECT day FROM platform.log_days ORDER BY day");
    days.fetch_all(session).await.map_err(database)
}

async fn first_of_day(session: &mut PgConnection, tenant: Uuid, day: Date) -> Result<Option<i64>, Error> {
    sqlx::query_scalar("SELECT min(tenant_number) FROM platform.event_log WHERE day = $1 AND tenant_id = $2")
        .persistent(false)
        .bind(day)
        .bind(tenant)
        .fetch_one(session)
        .await
        .map_err(database)
}

/// An event of a tenant. Its id says about when it happened, hence in which days to look.
pub(crate) async fn find(
    session: &mut PgConnection,
    tenant: Uuid,
    event: Uuid,
) -> Result<Option<Line>, Error> {
    of_days(session, "event_id = $2", tenant, event, 1).await.map(|lines| lines.into_iter().next())
}

/// The events that followed from one, the earliest first.
pub(crate) async fn followers(
    session: &mut PgConnection,
    tenant: Uuid,
    event: Uuid,
    most: usize,
) -> Result<Vec<Line>, Error> {
    of_days(session, "cause = $2", tenant, event, most).await
}

/// Lines from the day on that an event's id speaks of (UUIDv7 begins with a time; clocks may differ by a day).
async fn of_days(
    session: &mut PgConnection,
    condition: &str,
    tenant: Uuid,
    event: Uuid,
    most: usize,
) -> Result<Vec<Line>, Error> {
    let Some((seconds, _)) = event.get_timestamp().map(|time| time.to_unix()) else { return Ok(Vec::new()) };
    let seconds = i64::try_from(seconds).unwrap_or_default();
    let Some(day) = Instant::from_parts(seconds, 0).map(|time| time.utc_date().plus_days(-1)) else {
        return Ok(Vec::new());
    };
    sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM platform.event_log WHERE day >= $3 AND day <= $4 AND tenant_id = $1 AND {condition}
         ORDER BY tenant_number LIMIT $5"
    )))
    .persistent(false)
    .bind(tenant)
    .bind(event)
    .bind(day)
    .bind(day.plus_days(DAYS))
    .bind(most as i64)
    .fetch_all(session)
    .await
    .map_err(database)
}

/// For so many days after an event it is looked for what followed from it.
const DAYS: i64 = 8;
