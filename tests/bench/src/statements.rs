//! The statements of a call, as PostgreSQL saw them, and a `pgbench` script that sends the same ones. They are taken from the
//! server's log, so that the reference cannot fall behind what the services really send.
use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use regex::Regex;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::pgbench::Script;

/// The key of a script's next turn. Keys grow, as the ids of the service do.
pub(crate) const NEXT_KEY: &str = "\\set turn :turn + 1\n\\set key :client_id * 100000000 + :turn\n";

/// The text of the turn's `nth` id.
pub(crate) fn fresh_id(nth: usize) -> String {
    format!("'01900000-0000-7000-{:04x}-' || lpad(to_hex(:key::bigint), 12, '0')", 0x8000 + nth)
}

/// A statement and the texts of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<String>,
    /// Whether it was sent as a simple query, in which several may stand.
    pub(crate) simple: bool,
}

/// The statements that the server receives while `work` is done, in sessions that enter a tenant.
#[expect(clippy::disallowed_methods, reason = "`with-servers` says where the server's log is")]
pub(crate) async fn record(superuser: &mut PgConnection, work: impl Future<Output = ()>) -> Vec<Statement> {
    let log = std::env::var("RAPPORT_TEST_POSTGRES_LOG").unwrap();
    log_all(superuser, true).await;
    let before = std::fs::read_to_string(&log).unwrap().len();
    work.await;
    let after = std::fs::read_to_string(&log).unwrap();
    log_all(superuser, false).await;
    read(&after[before..])
}

/// Logs each statement with its values, or as little as before.
async fn log_all(superuser: &mut PgConnection, all: bool) {
    for (setting, value) in
        [("log_statement", "all"), ("log_parameter_max_length", "-1"), ("log_error_verbosity", "default")]
    {
        let change = if all { format!("SET {setting} = '{value}'") } else { format!("RESET {setting}") };
        superuser.execute(AssertSqlSafe(format!("ALTER SYSTEM {change}"))).await.unwrap();
    }
    superuser.execute("SELECT pg_reload_conf()").await.unwrap();
    // Sessions hear of it before their next statement; the signal to them takes a moment.
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn read(log: &str) -> Vec<Statement> {
    // A text over several lines goes on after a tab.
    let log = log.replace("\n\t", "\n\u{1}");
    let entry = Regex::new(r"^.*?\[(\d+)\].*? LOG:  (statement|execute [^:]+): (.*)$").unwrap();
    let detail = Regex::new(r"^.*? DETAIL:  [Pp]arameters: (.*)$").unwrap();
    let parameter = Regex::new(r"\$\d+ = (?:'((?:[^']|'')*)'|NULL)").unwrap();
    let (mut statements, mut sessions) = (Vec::<Statement>::new(), Vec::new());
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines() {
        match (line.strip_prefix('\u{1}'), lines.last_mut()) {
            (Some(more), Some(last)) => {
                last.push('\n');
                last.push_str(more);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    for line in lines {
        let line = line.replace('\n', " ");
        if let Some(found) = entry.captures(&line) {
            let simple = &found[2] == "statement";
            statements.push(Statement { sql: found[3].to_owned(), parameters: Vec::new(), simple });
            sessions.push(found[1].to_owned());
        } else if let (Some(found), Some(last)) = (detail.captures(&line), statements.last_mut()) {
            let texts = parameter.captures_iter(&found[1]);
            last.parameters = texts
                .map(|text| text.get(1).map_or("NULL".into(), |t| t.as_str().replace("''", "'")))
                .collect();
        }
    }
    // The log goes on meanwhile, in sessions of its own.
    let callers: BTreeSet<_> = statements
        .iter()
        .zip(&sessions)
        .filter(|(statement, _)| statement.sql.contains("rapport.enter"))
        .map(|(_, session)| session.clone())
        .collect();
    let of_callers = statements.into_iter().zip(sessions).filter(|(_, session)| callers.contains(session));
    of_callers.map(|(statement, _)| statement).collect()
}

/// A script that does again what one call did, with new ids each time. `first` and `second` are two such calls: the ids in
/// which they differ are those that are new each time.
pub(crate) async fn script(conn: &mut PgConnection, first: &[Statement], second: &[Statement]) -> Script {
    assert_eq!(first.len(), second.len(), "two calls sent other statements: {first:?} {second:?}");
    let fresh: Vec<String> = ids(first).difference(&ids(second)).cloned().collect();
    let mut script = Script { text: NEXT_KEY.to_owned(), variables: vec![("turn".into(), "0".into())] };
    for (at, statement) in first.iter().enumerate() {
        if statement.simple {
            // Several statements in one message, as they were sent.
            let sql = statement.sql.trim().trim_end_matches(';').replace("; ", ";\n");
            let _ = writeln!(script.text, "\\startpipeline\n{sql};\n\\endpipeline");
        } else {
            let sql = with_variables(conn, at, statement, &fresh, &mut script.variables).await;
            let _ = writeln!(script.text, "{sql};");
        }
    }
    script
}

/// The ids among the values.
fn ids(statements: &[Statement]) -> BTreeSet<String> {
    let id = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let values = statements.iter().flat_map(|statement| &statement.parameters);
    values.flat_map(|value| id.find_iter(value)).map(|found| found.as_str().to_owned()).collect()
}

/// The statement with a variable for each parameter, in which new ids take the place of those that were recorded.
async fn with_variables(
    conn: &mut PgConnection,
    at: usize,
    statement: &Statement,
    fresh: &[String],
    variables: &mut Vec<(String, String)>,
) -> String {
    let prepare = format!("PREPARE recorded AS {}", statement.sql);
    conn.execute(AssertSqlSafe(prepare)).await.unwrap();
    let types: Vec<String> = sqlx::query_scalar(
        "SELECT unnest(parameter_types)::text FROM pg_prepared_statements WHERE name = 'recorded'",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    conn.execute("DEALLOCATE recorded").await.unwrap();
    conn.clear_cached_statements().await.unwrap();
    let place = Regex::new(r"\$(\d+)").unwrap();
    // What is a colon to PostgreSQL must not be the beginning of a variable to pgbench: casts are, by luck, no such beginning.
    place
        .replace_all(&statement.sql, |found: &regex::Captures<'_>| {
            let number: usize = found[1].parse().unwrap();
            let (value, kind) = (&statement.parameters[number - 1], &types[number - 1]);
            if value == "NULL" {
                return format!("NULL::{kind}");
            }
            let name = format!("s{at}p{number}");
            if !variables.iter().any(|(known, _)| *known == name) {
                variables.push((name.clone(), value.clone()));
            }
            let used = fresh.iter().enumerate().filter(|(_, id)| value.contains(*id));
            let text = used.fold(format!(":{name}::text"), |text, (nth, id)| {
                format!("replace({text}, '{id}', {})", fresh_id(nth))
            });
            format!("({text})::{kind}")
        })
        .into_owned()
}
