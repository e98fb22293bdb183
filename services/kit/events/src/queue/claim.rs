//! The statements of the queue that span tenants.
use std::time::Duration;

use rapport_kernel::{Error, Instant};
use rapport_store::database;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Job;

/// Takes work, one piece of each tenant that has some, in the order of tenants after `after`. What is leased is somebody's.
/// Leases go by the database's clock, which is one for all.
const IN_TURNS: &str = "
WITH RECURSIVE turn (tenant_id, n) AS (
  (SELECT w.tenant_id, 1 FROM platform.work w
   WHERE w.tenant_id > $1 AND w.lease_until < clock_timestamp() AND w.tenant_id <> ALL($3) ORDER BY w.tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT w.tenant_id FROM platform.work w
    WHERE w.tenant_id > t.tenant_id AND w.lease_until < clock_timestamp() AND w.tenant_id <> ALL($3) ORDER BY w.tenant_id LIMIT 1),
    t.n + 1
  FROM turn t WHERE t.tenant_id IS NOT NULL AND t.n < $2
), picked AS (
  SELECT p.* FROM turn t CROSS JOIN LATERAL (
    SELECT w.tenant_id, w.queue, w.key FROM platform.work w
    WHERE w.tenant_id = t.tenant_id AND w.lease_until < clock_timestamp() ORDER BY w.number LIMIT 1 FOR UPDATE SKIP LOCKED) p
  WHERE t.tenant_id IS NOT NULL
)
UPDATE platform.work w SET holder = $4, lease_until = clock_timestamp() + make_interval(secs => $5)
FROM picked p WHERE w.tenant_id = p.tenant_id AND w.queue = p.queue AND w.key = p.key
RETURNING w.*";

/// The same by age alone, to show that a test of fairness can fail.
const BY_AGE: &str = "
WITH picked AS (
  SELECT w.tenant_id, w.queue, w.key FROM platform.work w WHERE $1::uuid IS NOT NULL AND $3::uuid[] IS NOT NULL
    AND w.lease_until < clock_timestamp() ORDER BY w.number LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE platform.work w SET holder = $4, lease_until = clock_timestamp() + make_interval(secs => $5)
FROM picked p WHERE w.tenant_id = p.tenant_id AND w.queue = p.queue AND w.key = p.key
RETURNING w.*";

/// Who takes how much.
pub(super) struct Claim<'c> {
    /// The tenant whose turn was last.
    pub(super) after: Uuid,
    /// How much at most.
    pub(super) most: usize,
    /// Tenants that have their share in hand.
    pub(super) busy: &'c [Uuid],
    /// Whose it is then.
    pub(super) holder: Uuid,
    /// For how long.
    pub(super) lease: Duration,
    /// Whether tenants take turns.
    pub(super) in_turns: bool,
}

/// Takes work.
pub(super) async fn claim(session: &mut PgConnection, claim: Claim<'_>) -> Result<Vec<Job>, Error> {
    sqlx::query_as(if claim.in_turns { IN_TURNS } else { BY_AGE })
        .bind(claim.after)
        .bind(claim.most as i64)
        .bind(claim.busy)
        .bind(claim.holder)
        .bind(claim.lease.as_secs_f64())
        .fetch_all(session)
        .await
        .map_err(database)
}

/// Keeps what this holder has.
pub(super) async fn renew(session: &mut PgConnection, holder: Uuid, lease: Duration) -> Result<(), Error> {
    sqlx::query("UPDATE platform.work SET lease_until = clock_timestamp() + make_interval(secs => $2) WHERE holder = $1")
        .bind(holder)
        .bind(lease.as_secs_f64())
        .execute(session)
        .await
        .map(drop)
        .map_err(database)
}

/// Makes timers that are due ready; says how many.
pub(super) async fn fire(session: &mut PgConnection, now: Instant, most: i64) -> Result<u64, Error> {
    // What is asked for again while it is worked on comes when that is over: the timer stays until then.
    let fired = sqlx::query(
        "WITH due AS (
           DELETE FROM platform.timers WHERE ctid = ANY(ARRAY(
             SELECT t.ctid FROM platform.timers t WHERE t.due_time <= $1 AND NOT EXISTS (
               SELECT FROM platform.work w WHERE w.tenant_id = t.tenant_id AND w.queue = t.queue AND w.key = t.key)
             ORDER BY t.due_time LIMIT $2 FOR UPDATE SKIP LOCKED))
           RETURNING *)
         INSERT INTO platform.work (queue, tenant_id, key, id, event_id, resource, record_id, payload, failures, problem, ready_time)
         SELECT queue, tenant_id, key, id, event_id, resource, record_id, payload, failures, problem, ready_time FROM due
         ORDER BY due_time",
    )
    .bind(now)
    .bind(most)
    .execute(session)
    .await
    .map_err(database)?;
    Ok(fired.rows_affected())
}

/// Ends a job, where that needs no transaction of its tenant; `fenced` by whoever holds it.
pub(super) async fn end(session: &mut PgConnection, job: &Job, fenced: bool) -> Result<(), Error> {
    sqlx::query(
        "WITH asked AS (
           UPDATE platform.work SET again = false, holder = NULL, lease_until = '-infinity', failures = 0, problem = ''
           WHERE tenant_id = $1 AND queue = $2 AND key = $3 AND (holder = $4 OR NOT $5) AND again RETURNING 1)
         DELETE FROM platform.work WHERE tenant_id = $1 AND queue = $2 AND key = $3 AND (holder = $4 OR NOT $5)
           AND NOT again AND NOT EXISTS (SELECT FROM asked)",
    )
    .bind(job.tenant_id)
    .bind(&job.queue)
    .bind(&job.key)
    .bind(job.holder)
    .bind(fenced)
    .execute(session)
    .await
    .map(drop)
    .map_err(database)
}

/// Puts a job off until a time.
pub(super) async fn put_off(
    session: &mut PgConnection,
    job: &Job,
    due: Instant,
    failures: i64,
    problem: &str,
) -> Result<(), Error> {
    sqlx::query(
        "WITH gone AS (
           DELETE FROM platform.work WHERE tenant_id = $1 AND queue = $2 AND key = $3 AND holder = $4 RETURNING *)
         INSERT INTO platform.timers
           (queue, tenant_id, key, id, event_id, resource, record_id, payload, failures, problem, ready_time, due_time)
         SELECT queue, tenant_id, key, id, event_id, resource, record_id, payload, $5, $6, ready_time, $7 FROM gone
         ON CONFLICT DO NOTHING",
    )
    .bind(job.tenant_id)
    .bind(&job.queue)
    .bind(&job.key)
    .bind(job.holder)
    .bind(failures)
    .bind(problem)
    .bind(due)
    .execute(session)
    .await
    .map(drop)
    .map_err(database)
}
