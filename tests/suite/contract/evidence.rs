//! What calls leave behind, seen past all services by a superuser: digests of every table, versions of records, events.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rapport::suite::Role;
use rapport_test_kit::{EVENTS, LOG_TABLES, World};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

/// An event, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) subject: String,
    pub(super) record: String,
    pub(super) version: i64,
    pub(super) changed_paths: Vec<String>,
}

/// The databases of a world, in which evidence is looked for.
pub(super) struct Evidence {
    databases: Vec<Database>,
    /// What the last look saw.
    seen: BTreeMap<String, String>,
}

/// A service's database, with its tables and their columns.
struct Database {
    role: Role,
    conn: PgConnection,
    tables: Vec<Table>,
}

/// A table with its columns, and where its rows are read from.
struct Table {
    name: String,
    columns: Vec<String>,
    rows: String,
}

impl Table {
    fn new((name, columns): (String, Vec<String>)) -> Self {
        Self { rows: name.clone(), name, columns }
    }
}

/// The tables of tenants and of the platform, but those that go on by themselves.
const TABLES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname::text)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'platform') AND a.attnum > 0 AND NOT a.attisdropped
      AND NOT c.relispartition AND c.relname <> ALL($1)
    GROUP BY 1 ORDER BY 1";

impl Database {
    /// The tables that have all of these columns.
    fn tables(&self, columns: &[&str]) -> Vec<&Table> {
        let has = |own: &[String]| columns.iter().all(|column| own.iter().any(|one| one == column));
        self.tables.iter().filter(|table| has(&table.columns)).collect()
    }

    /// A digest of those rows of each table that have `columns` and satisfy `condition`, in which `$1` is `value`.
    async fn digests(&mut self, columns: &[&str], condition: &str, value: &str) -> Vec<(String, String)> {
        let branches: Vec<_> = self
            .tables(columns)
            .into_iter()
            .map(|Table { name, rows, .. }| {
                format!(
                    "SELECT '{} {name}', coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '')
                     FROM (SELECT * FROM {rows}) t WHERE {condition}",
                    self.role.name()
                )
            })
            .collect();
        let sql = AssertSqlSafe(branches.join(" UNION ALL "));
        sqlx::query_as(sql).bind(value).fetch_all(&mut self.conn).await.unwrap()
    }
}

impl Evidence {
    pub(super) async fn of(world: &World) -> Self {
        let mut databases = Vec::new();
        for role in Role::ALL.into_iter().filter(|role| role.migrations().is_some()) {
            let mut conn = world.databases.superuser(role).await;
            let tables: Vec<(String, Vec<String>)> =
                sqlx::query_as(TABLES).bind(LOG_TABLES).fetch_all(&mut conn).await.unwrap();
            let mut tables: Vec<_> = tables.into_iter().map(Table::new).collect();
            tables.push(Table {
                name: "events".into(),
                columns: vec!["tenant_id".into()],
                rows: EVENTS.into(),
            });
            databases.push(Database { role, conn, tables });
        }
        Self { databases, seen: BTreeMap::new() }
    }

    /// The tables that differ from what the last look saw.
    pub(super) async fn look(&mut self) -> Vec<String> {
        let seen = std::mem::take(&mut self.seen);
        self.seen = self.digests().await;
        differing(&seen, &self.seen)
    }

    /// A connection to each service's database.
    pub(super) fn conns(&mut self) -> impl Iterator<Item = &mut PgConnection> {
        self.databases.iter_mut().map(|database| &mut database.conn)
    }

    /// A digest of each table of each service.
    pub(super) async fn digests(&mut self) -> BTreeMap<String, String> {
        self.digests_where(&[], "$1 = ''", "").await
    }

    /// The same of what one tenant has.
    pub(super) async fn digests_of(&mut self, tenant: &str) -> BTreeMap<String, String> {
        self.digests_where(&["tenant_id"], "tenant_id::text = $1", tenant).await
    }

    /// The same of the rows that mention a record.
    pub(super) async fn digests_about(&mut self, id: &str) -> BTreeMap<String, String> {
        self.digests_where(&[], "strpos(t::text, $1) > 0", id).await
    }

    /// Waits until every event that was written has had its effects in the other services.
    async fn settle(&mut self) {
        let begun = Instant::now();
        loop {
            let (mut waiting, mut written, mut heard) = (0, BTreeMap::new(), Vec::<(String, i64)>::new());
            for database in &mut self.databases {
                let sql = "SELECT (SELECT count(*) FROM platform.outbox), (SELECT sum(n)::bigint FROM unnest(part_numbers) AS n)
                           FROM platform.log_head";
                let (left, number): (i64, i64) =
                    sqlx::query_as(sql).fetch_one(&mut database.conn).await.unwrap();
                waiting += left;
                written.insert(database.role.name().to_owned(), number);
                if database.tables.iter().any(|table| table.name == "public.parked_items") {
                    let sql = "SELECT producer, sum(number)::bigint FROM platform.watermarks GROUP BY 1";
                    heard.extend(
                        sqlx::query_as::<_, (String, i64)>(sql).fetch_all(&mut database.conn).await.unwrap(),
                    );
                }
            }
            let behind =
                heard.is_empty() || heard.iter().any(|(producer, number)| written[producer] != *number);
            if waiting == 0 && !behind {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{waiting} wait; {heard:?} of {written:?} are heard"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn digests_where(
        &mut self,
        columns: &[&str],
        condition: &str,
        value: &str,
    ) -> BTreeMap<String, String> {
        self.settle().await;
        let all = self.databases.iter_mut().map(|database| database.digests(columns, condition, value));
        futures::future::join_all(all).await.into_iter().flatten().collect()
    }

    /// The version of each record that has one.
    pub(super) async fn versions(&mut self) -> BTreeMap<String, i64> {
        self.settle().await;
        let mut all = BTreeMap::new();
        for database in &mut self.databases {
            let tables = database.tables(&["tenant_id", "id", "version"]);
            let branches: Vec<_> = tables
                .iter()
                .filter(|table| table.name.starts_with("public."))
                .map(|table| format!("SELECT id::text, version FROM {}", table.name))
                .collect();
            let sql = AssertSqlSafe(branches.join(" UNION ALL "));
            let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&mut database.conn).await.unwrap();
            all.extend(rows);
        }
        all
    }

    /// The last event of each service so far.
    pub(super) async fn mark(&mut self) -> Vec<Uuid> {
        let mut marks = Vec::new();
        for conn in self.conns() {
            let last = format!("SELECT event_id FROM {EVENTS} ORDER BY event_id DESC LIMIT 1");
            let last = sqlx::query_scalar(AssertSqlSafe(last)).fetch_optional(conn).await.unwrap();
            marks.push(last.unwrap_or_default());
        }
        marks
    }

    /// The events since then that callers caused, in their order; what workers do afterwards is not among them.
    pub(super) async fn since(&mut self, mark: &[Uuid]) -> Vec<Event> {
        let mut events = Vec::new();
        for (conn, mark) in self.conns().zip(mark) {
            let rows = sqlx::query(AssertSqlSafe(format!(
                "SELECT subject, record_id::text, version, changed_paths FROM {EVENTS}
                 WHERE event_id > $1 AND via NOT IN ('import', 'system') ORDER BY event_id",
            )))
            .bind(mark)
            .fetch_all(conn)
            .await
            .unwrap();
            events.extend(rows.iter().map(|row| Event {
                subject: row.get("subject"),
                record: row.get("record_id"),
                version: row.get("version"),
                changed_paths: row.get("changed_paths"),
            }));
        }
        events
    }
}

/// The tables that differ.
pub(super) fn differing(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let tables: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    tables.into_iter().filter(|table| before.get(*table) != after.get(*table)).cloned().collect()
}

/// What does not fit between the records that changed and the events that tell of them: each new version of a record has
/// one event, and no event is told twice.
pub(super) fn mismatches(
    before: &BTreeMap<String, i64>,
    after: &BTreeMap<String, i64>,
    events: &[Event],
) -> Vec<String> {
    let mut faults = Vec::new();
    let records: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for record in records {
        let (old, new) = (before.get(record), after.get(record));
        if old == new {
            continue;
        }
        let its: Vec<_> = events.iter().filter(|event| event.record == *record).collect();
        let told = match (new, its.as_slice()) {
            // The event of what is gone has the version that follows.
            (None, [event]) => Some(event.version) == old.map(|old| old + 1),
            (Some(new), [event]) => event.version == *new,
            _ => false,
        };
        if !told {
            faults.push(format!("record {record} went from version {old:?} to {new:?}, told by {its:?}"));
        }
    }
    let distinct: BTreeSet<_> = events.iter().map(|e| (&e.record, e.version, &e.subject)).collect();
    if distinct.len() != events.len() {
        faults.push(format!("something is told twice: {events:?}"));
    }
    faults
}

#[test]
fn a_change_that_is_not_told_or_told_twice_is_found() {
    let versions = |n: i64| BTreeMap::from([("r".to_owned(), n)]);
    let event = |version| Event {
        subject: "thing.updated.v1".into(),
        record: "r".into(),
        version,
        changed_paths: Vec::new(),
    };
    assert_eq!(mismatches(&versions(1), &versions(2), &[event(2)]), Vec::<String>::new());
    assert_eq!(mismatches(&versions(1), &BTreeMap::new(), &[event(2)]), Vec::<String>::new());
    assert_eq!(mismatches(&versions(1), &versions(2), &[]).len(), 1);
    assert_eq!(mismatches(&versions(1), &versions(2), &[event(1)]).len(), 1);
    assert_eq!(mismatches(&versions(1), &versions(2), &[event(2), event(2)]).len(), 2);
    assert_eq!(mismatches(&versions(1), &versions(1), &[event(1), event(1)]).len(), 1);
}
