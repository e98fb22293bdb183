//! What is wrong with the logs, the copies and the records of two services, seen from behind their backs.
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rapport::suite::Role;
use rapport_store::{Db, Options};
use rapport_test_kit::Databases;
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::load::Expected;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An answered write is not there, is there twice, or was answered wrongly.
    Written(String),
    /// Numbers of a log have a gap, are given twice, or are not those of its head.
    Numbers(String),
    /// A record's events are not one for each version, in order. (That somebody signed in is no change of theirs.)
    Order(String),
    /// An event was not moved, not published, or not heard.
    Left(String),
    /// What customer keeps of identity is not what identity has.
    Copy(String),
    /// The log is not as it was written.
    Chain(String),
    /// An event was parked, or a message not believed.
    Doubted(String),
    /// Nothing got on after a fault, or a process ended by itself.
    Process(String),
}

use Finding::{Chain, Copy, Doubted, Left, Numbers, Order, Written};

/// Makes a finding of a text.
type Kind = fn(String) -> Finding;

/// The services that are looked at, each with its name.
const SERVICES: [Role; 2] = [Role::Identity, Role::Customer];

/// What must give no line in any service's database.
const LOG: [(Kind, &str); 10] = [
    (Left, "SELECT concat('not moved: ', resource, ' ', record_id, ' ', version) FROM platform.outbox LIMIT 5"),
    (
        Left,
        "SELECT concat('published up to ', r.number, ' of ', h.number) FROM platform.log_relay r, platform.log_head h
         WHERE r.number <> h.number",
    ),
    (
        Numbers,
        "SELECT concat('number ', number, ' is the ', n, 'th') FROM (
           SELECT number, row_number() OVER (ORDER BY number) AS n FROM platform.event_log) AS e WHERE number <> n LIMIT 5",
    ),
    (
        Numbers,
        "SELECT concat('number ', part_number, ' of partition ', part, ' is its ', n, 'th') FROM (
           SELECT part, part_number, row_number() OVER (PARTITION BY part ORDER BY number) AS n FROM platform.event_log
         ) AS e WHERE part_number <> n LIMIT 5",
    ),
    (
        Numbers,
        "SELECT concat('number ', tenant_number, ' of tenant ', tenant_id, ' is its ', n, 'th') FROM (
           SELECT tenant_id, tenant_number, row_number() OVER (PARTITION BY tenant_id ORDER BY number) AS n
           FROM platform.event_log) AS e WHERE tenant_number <> n LIMIT 5",
    ),
    (
        Numbers,
        "SELECT concat('the head of ', what, ' is ', head, ', and there are ', lines) FROM (
           SELECT 'all' AS what, number AS head, (SELECT count(*) FROM platform.event_log) AS lines FROM platform.log_head
           UNION ALL
           SELECT 'partition ' || part, h.part_numbers[part + 1], (SELECT count(*) FROM platform.event_log l WHERE l.part = p.part)
           FROM platform.log_head h, generate_series(0, 31) AS p (part)
           UNION ALL
           SELECT tenant_id::text, number, (SELECT count(*) FROM platform.event_log l WHERE l.tenant_id = t.tenant_id)
           FROM platform.tenant_numbers t) AS heads
         WHERE head <> lines",
    ),
    (
        Numbers,
        "SELECT concat('event ', event_id, ' is there ', count(*), ' times') FROM platform.event_log
         GROUP BY event_id HAVING count(*) > 1 LIMIT 5",
    ),
    (
        Order,
        "SELECT concat('version ', version, ' of ', resource, ' ', record_id, ' is event ', n) FROM (
           SELECT resource, record_id, version,
             row_number() OVER (PARTITION BY tenant_id, resource, record_id ORDER BY part_number) AS n
           FROM platform.event_log WHERE resource IN ('unit', 'user', 'customer') AND type NOT LIKE '%.SignIn%') AS e
         WHERE version <> n LIMIT 5",
    ),
    (
        Doubted,
        // Poison that was cured is as it should be, with what was behind it; and so is that somebody whose clock was set back by a
        // day gave up trying by himself.
        "SELECT concat('parked: ', handler, ' ', resource, ' ', record_id, ' ', record_version, ': ', problem)
         FROM parked_items p
         WHERE state IN ('parked', 'behind') OR handler <> 'parked-event' AND NOT EXISTS (
           SELECT FROM parked_items q WHERE q.tenant_id = p.tenant_id AND q.record_id = p.record_id
             AND encode(q.line, 'escape') ~ '(unit|user)-[0-9]*[37]-[0-9]*[37]')
         UNION ALL SELECT concat('set aside: ', reason) FROM platform.set_aside LIMIT 5",
    ),
    (Copy, DIFFERED),
];

/// Copies that were not what their owner has.
const DIFFERED: &str = "
    SELECT concat(differences, ' of ', records, ' records of ', name, ' differed; compared ', compare_time)
    FROM platform.copies WHERE differences > 0";

/// What both sides say of the same, each in its own database: identity's lines, and customer's.
const COPIES: [(&str, &str, &str); 5] = [
    (
        "heard",
        "SELECT concat_ws(' ', part, h.part_numbers[part + 1]) FROM platform.log_head h, generate_series(0, 31) AS p (part)",
        "SELECT concat_ws(' ', part, number) FROM platform.watermarks WHERE producer = 'identity'",
    ),
    (
        "user",
        "SELECT concat_ws(' ', tenant_id, id, version, display_name, unit_id, state) FROM users",
        "SELECT concat_ws(' ', tenant_id, id, version, display_name, unit_id, state) FROM directory_users WHERE NOT deleted",
    ),
    (
        "unit",
        "SELECT concat_ws(' ', tenant_id, id, version, display_name, parent_id) FROM units",
        "SELECT concat_ws(' ', tenant_id, id, version, display_name, parent_id) FROM directory_units WHERE NOT deleted",
    ),
    (
        "deleted unit",
        "SELECT concat_ws(' ', tenant_id, record_id, version) FROM platform.event_log
         WHERE type = 'rapport.identity.v1.UnitDeleted'",
        "SELECT concat_ws(' ', tenant_id, id, version) FROM directory_units WHERE deleted",
    ),
    (
        "unit below",
        "WITH RECURSIVE above AS (
           SELECT tenant_id, id, id AS above_id, parent_id FROM units
           UNION SELECT a.tenant_id, a.id, u.id, u.parent_id FROM above a
           JOIN units u ON u.tenant_id = a.tenant_id AND u.id = a.parent_id)
         SELECT concat_ws(' ', tenant_id, above_id, id) FROM above",
        "SELECT concat_ws(' ', tenant_id, above_id, unit_id) FROM directory_units_below",
    ),
];

/// Records as the load says them, by service.
const RECORDS: [&str; 2] = [
    "SELECT concat_ws(' ', tenant_id, 'unit', id, version, display_name, coalesce(parent_id::text, '-')) FROM units
     UNION ALL
     SELECT concat_ws(' ', tenant_id, 'user', id, version, display_name, coalesce(unit_id::text, '-'), state) FROM users
     WHERE email_key NOT LIKE 'admin@%'",
    "SELECT concat_ws(' ', tenant_id, 'customer', id, version, display_name) FROM customers WHERE delete_time IS NULL",
];

/// The last version of each record in the log, likewise.
const VERSIONS: &str = "
    SELECT concat_ws(' ', tenant_id, resource, record_id, max(version)) FROM platform.event_log
    WHERE resource IN ('unit', 'user', 'customer') GROUP BY tenant_id, resource, record_id";

/// The people who were there before: each tenant's administrator.
const BEFORE: &str = "
    SELECT concat_ws(' ', tenant_id, 'user', id, version) FROM users WHERE email_key LIKE 'admin@%'";

/// How often the lead changed, and how often lines were published again.
const LEADS: &str = "
    SELECT concat(name, ' was led ', epoch, ' times') FROM platform.leads
    UNION ALL SELECT concat('lines were published again ', attempt, ' times') FROM platform.log_relay";

/// Waits until all is moved, published and heard, or for so long that it will not be.
pub(super) async fn quiet(databases: &Databases, patience: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < patience && !is_quiet(databases).await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("quiet after {:.1} s", begun.elapsed().as_secs_f64());
}

/// Has customer compare its copies when it looks the next time, if its database can be reached.
pub(super) async fn compare_soon(databases: &Databases) {
    if let Ok(mut customer) = PgConnection::connect(&databases.superuser_url(Role::Customer)).await {
        let _ = customer.execute("UPDATE platform.copies SET compare_time = 'epoch'").await;
    }
}

/// Has customer compare its copies with what identity has; says which of them were not compared in time.
pub(super) async fn compare(databases: &Databases, patience: Duration) -> Vec<Finding> {
    compare_soon(databases).await;
    let mut customer = databases.superuser(Role::Customer).await;
    let begun = Instant::now();
    loop {
        let waiting =
            "SELECT concat(name, ' was not compared') FROM platform.copies WHERE compare_time = 'epoch'";
        let waiting = lines(&mut customer, waiting).await.unwrap();
        if waiting.is_empty() || begun.elapsed() > patience {
            return waiting.into_iter().map(Finding::Process).collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn is_quiet(databases: &Databases) -> Result<bool, sqlx::Error> {
    let mut conns = Vec::new();
    for role in SERVICES {
        conns.push(PgConnection::connect(&databases.superuser_url(role)).await?);
    }
    let [identity, customer] = conns.as_mut_slice() else { return Ok(false) };
    for conn in [&mut *identity, &mut *customer] {
        for (finding, sql) in LOG {
            if matches!(finding(String::new()), Left(_)) && !lines(conn, sql).await?.is_empty() {
                return Ok(false);
            }
        }
    }
    let (_, heads, watermarks) = COPIES[0];
    Ok(set(lines(identity, heads).await?) == set(lines(customer, watermarks).await?))
}

/// Everything that is wrong; nothing, if the promises were kept.
pub(super) async fn findings(databases: &Databases, expected: &Expected) -> Vec<Finding> {
    let mut identity = databases.superuser(Role::Identity).await;
    let mut customer = databases.superuser(Role::Customer).await;
    let mut found = looked(&mut identity, &mut customer, expected).await.unwrap();
    for role in SERVICES {
        let url = databases.database(role).await.unwrap().url.expose_secret().to_owned();
        let db = Db::connect(&Options { url, pool_size: 1 }).await.unwrap();
        let verified = rapport_events::verify(&db).await.unwrap();
        let mut conn = databases.superuser(role).await;
        let leads = lines(&mut conn, LEADS).await.unwrap().join(", ");
        println!("{} lines of {}'s log were verified; {leads}", verified.lines, role.name());
        found.extend(verified.faults.into_iter().map(|fault| Chain(format!("{}: {fault}", role.name()))));
    }
    found
}

/// What is wrong as these two sessions see it.
pub(super) async fn looked(
    identity: &mut PgConnection,
    customer: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut found: Vec<Finding> = expected.wrong.iter().cloned().map(Written).collect();
    for (role, conn) in SERVICES.into_iter().zip([&mut *identity, &mut *customer]) {
        for (finding, sql) in LOG {
            let wrong = lines(conn, sql).await?;
            found.extend(wrong.into_iter().map(|line| finding(format!("{}: {line}", role.name()))));
        }
    }
    for (what, theirs, ours) in COPIES {
        let (has, copied) = (lines(identity, theirs).await?, lines(customer, ours).await?);
        let kind = if what == "heard" { Left } else { Copy };
        differ(what, &set(has), copied, kind, &mut found);
    }
    let (mut records, mut versions) = (Vec::new(), lines(identity, VERSIONS).await?);
    for (conn, sql) in [&mut *identity, &mut *customer].into_iter().zip(RECORDS) {
        records.extend(lines(conn, sql).await?);
    }
    versions.extend(lines(customer, VERSIONS).await?);
    differ("written", &expected.records, records, Written, &mut found);
    let before = set(lines(identity, BEFORE).await?);
    differ("events of", &expected.versions.union(&before).cloned().collect(), versions, Order, &mut found);
    Ok(found)
}

/// What breaks one thing in identity's database or in customer's, so that it must be found.
pub(super) const BROKEN: [(Role, &str, Kind); 15] = [
    (Role::Identity, "UPDATE platform.log_relay SET number = number - 1", Left),
    (Role::Identity, "UPDATE platform.event_log SET number = number + 1000 WHERE number = 5", Numbers),
    (Role::Identity, "UPDATE platform.event_log SET part_number = part_number + 1 WHERE number = 5", Numbers),
    (
        Role::Identity,
        "DELETE FROM platform.event_log WHERE number = (SELECT number FROM platform.log_head)",
        Numbers,
    ),
    (Role::Customer, "UPDATE platform.tenant_numbers SET number = number + 1", Numbers),
    (Role::Customer, "UPDATE platform.event_log SET version = 3 - version WHERE version < 3", Order),
    (Role::Customer, "UPDATE platform.watermarks SET number = number - 1 WHERE number > 0", Left),
    (Role::Customer, "UPDATE directory_users SET version = version - 1 WHERE version > 1", Copy),
    (Role::Customer, "UPDATE directory_units SET deleted = true WHERE version > 1", Copy),
    (Role::Customer, "UPDATE platform.copies SET differences = 1", Copy),
    (Role::Customer, "DELETE FROM directory_units_below WHERE above_id <> unit_id", Copy),
    (Role::Identity, "UPDATE users SET display_name = 'somebody' WHERE version > 1", Written),
    (Role::Customer, "UPDATE customers SET version = version + 1 WHERE version > 1", Written),
    (Role::Customer, "DELETE FROM customers WHERE version > 1", Written),
    (
        Role::Customer,
        "INSERT INTO platform.set_aside VALUES (gen_random_uuid(), 'identity', '', '{}', '', 'forged', now())",
        Doubted,
    ),
];

/// How two sides differ; what is there twice differs as well.
fn differ(what: &str, wanted: &BTreeSet<String>, has: Vec<String>, kind: Kind, found: &mut Vec<Finding>) {
    let mut there = BTreeSet::new();
    for line in has {
        if !wanted.contains(&line) {
            found.push(kind(format!("{what}: {line} should not be")));
        }
        if let Some(twice) = there.replace(line) {
            found.push(kind(format!("{what}: {twice} is there twice")));
        }
    }
    found.extend(wanted.difference(&there).map(|line| kind(format!("{what}: {line} is missing"))));
}

async fn lines(conn: &mut PgConnection, sql: &'static str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_all(conn).await
}

fn set(lines: Vec<String>) -> BTreeSet<String> {
    lines.into_iter().collect()
}
