//! Events wherever they are by now, and what of them is stuck.
use rapport::suite::Role;
use sqlx::{Connection as _, PgConnection};

use crate::Databases;

/// The events of a service's database as a table: those in the outbox, and those that were moved into the log since. Ordered
/// by `event_id` they come in the order of writing.
pub const EVENTS: &str = "(
    SELECT event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths, payload, principal, on_behalf_of,
      via, cause, trace, time FROM platform.outbox
    UNION ALL
    SELECT event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths, payload, principal, on_behalf_of,
      via, cause, trace, time FROM platform.event_log
  ) AS events";

/// The tables that the log, the bus and the queues keep going by themselves, whether or not anybody calls.
pub const LOG_TABLES: [&str; 15] = [
    "event_log",
    "leads",
    "ledger_entries",
    "log_chains",
    "log_days",
    "log_dropped",
    "log_head",
    "log_relay",
    "outbox",
    "tenant_numbers",
    "timers",
    "watermarks",
    "webhook_head",
    "webhook_lanes",
    "work",
];

/// Parks work of a tenant at the service of customers; says the id of what is parked.
pub async fn park(databases: &Databases, tenant: &str, word: &str) -> String {
    let mut conn: PgConnection = databases.superuser(Role::Customer).await;
    let id: uuid::Uuid = sqlx::query_scalar(
        "INSERT INTO parked_items (tenant_id, id, version, kind, producer, handler, event_id, type, resource, record_id,
           record_version, part, part_number, state, reason, problem, attempts, line, event_time, create_time, update_time)
         VALUES ($1::uuid, gen_random_uuid(), 1, 'work', '', 'nobody', gen_random_uuid(), $2, '',
           '00000000-0000-0000-0000-000000000000', 0, 0, 0, 'parked', 'FAILED', $2, 1, 'null', now(), now(), now())
         RETURNING id",
    )
    .bind(tenant)
    .bind(word)
    .fetch_one(&mut conn)
    .await
    .unwrap();
    conn.close().await.unwrap();
    id.to_string()
}
