//! Events wherever they are by now.

/// The events of a service's database as a table: those in the outbox, and those that were moved into the log since. Ordered
/// by `event_id` they come in the order of writing.
pub const EVENTS: &str = "(
    SELECT event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths, payload, principal, on_behalf_of,
      via, cause, trace, time FROM platform.outbox
    UNION ALL
    SELECT event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths, payload, principal, on_behalf_of,
      via, cause, trace, time FROM platform.event_log
  ) AS events";

/// The tables that the log and the bus keep going by themselves, whether or not anybody calls.
pub const LOG_TABLES: [&str; 10] = [
    "event_log",
    "leads",
    "log_chains",
    "log_days",
    "log_dropped",
    "log_head",
    "log_relay",
    "outbox",
    "tenant_numbers",
    "watermarks",
];
