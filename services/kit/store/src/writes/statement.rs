//! The statement in the making: data-modifying parts, each with its rows bound column by column.
use std::{borrow::Cow, collections::BTreeMap};

use rapport_kernel::Error;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{Envelope, Rows, Side};
use crate::{
    columns::{Form, Tables},
    db::user,
};

/// Where a statement that enters the tenant reads from: one row, or none when this request was answered before.
const UNANSWERED: &str = "entered WHERE entered.first_answer IS NULL";

/// The values of a column, as texts.
struct Column<'r> {
    values: Vec<Option<Cow<'r, str>>>,
    /// Whether they are bound as an array; else there is one.
    many: bool,
}

/// The statement. `$1` is the tenant; the columns of the rows are bound from `$2` on.
pub(super) struct Statement<'r> {
    tables: &'r Tables,
    envelope: Envelope<'r>,
    parts: Vec<String>,
    columns: Vec<Column<'r>>,
    /// Parts that must write as many rows as were given.
    counted: Vec<(usize, i64)>,
}

impl<'r> Statement<'r> {
    pub(super) const fn new(tables: &'r Tables, envelope: Envelope<'r>) -> Self {
        Self { tables, envelope, parts: Vec::new(), columns: Vec::new(), counted: Vec::new() }
    }

    /// Binds the rows of the next part; says what they are read from: a table of their columns.
    fn source(&mut self, table: &str, rows: &'r Rows) -> Result<String, Error> {
        let first = self.columns.len();
        let many = rows.json.len() != 1;
        let types = self.tables.get(table);
        let (mut typed, mut forms) = (Vec::new(), Vec::new());
        for (n, column) in rows.columns.split(", ").enumerate() {
            let known = types.and_then(|types| types.get(column));
            let known =
                known.ok_or_else(|| Error::internal(format!("there is no column {table}.{column}")))?;
            let text = if many { format!("c{n}") } else { format!("${}::text", first + n + 2) };
            typed.push(format!("{text}::{} AS {column}", known.name));
            forms.push((column, known.form));
        }
        let column = || Column { values: Vec::with_capacity(rows.json.len()), many };
        self.columns.resize_with(first + forms.len(), column);
        for json in &rows.json {
            let mut row: BTreeMap<&str, &RawValue> = serde_json::from_str(json).map_err(Error::internal)?;
            for ((name, form), column) in forms.iter().zip(self.columns.iter_mut().skip(first)) {
                column.values.push(match row.remove(name) {
                    Some(value) => form.text(value.get())?,
                    None => None,
                });
            }
        }
        let typed = typed.join(", ");
        let source = if many {
            let list = |item: fn(usize, usize) -> String| {
                (0..forms.len()).map(|n| item(first, n)).collect::<Vec<_>>().join(", ")
            };
            let places = list(|first, n| format!("${}::text[]", first + n + 2));
            format!("(SELECT {typed} FROM unnest({places}) AS c ({})) AS r", list(|_, n| format!("c{n}")))
        } else {
            // The commonest by far, and half as much work to set up.
            format!("(SELECT {typed}) AS r")
        };
        Ok(source)
    }

    /// The same for rows that are inserted. In a statement that enters the tenant they are read through that: nothing is
    /// held against a policy before the policy knows the tenant, and nothing is written that was answered before.
    fn new_rows(&mut self, table: &str, rows: &'r Rows) -> Result<String, Error> {
        let source = self.source(table, rows)?;
        Ok(match self.envelope.entry {
            Some(_) => format!("{source}, {UNANSWERED}"),
            None => source,
        })
    }

    pub(super) fn insert(&mut self, table: &str, rows: &'r Rows) -> Result<(), Error> {
        let source = self.new_rows(table, rows)?;
        let columns = rows.columns;
        self.parts
            .push(format!("INSERT INTO {table} (tenant_id, {columns}) SELECT $1, {columns} FROM {source}"));
        Ok(())
    }

    pub(super) fn update(&mut self, table: &str, rows: &'r Rows) -> Result<(), Error> {
        let source = self.source(table, rows)?;
        let columns = rows.columns;
        let values = columns.split(", ").map(|column| format!("r.{column}")).collect::<Vec<_>>().join(", ");
        self.counted.push((self.parts.len(), rows.json.len() as i64));
        self.parts.push(format!(
            "UPDATE {table} t SET ({columns}) = ROW({values}) FROM {source} \
             WHERE t.tenant_id = $1 AND t.id = r.id AND t.version = r.version - 1 RETURNING 1"
        ));
        Ok(())
    }

    pub(super) fn side_insert(&mut self, side: Side, rows: &'r Rows) -> Result<(), Error> {
        let Side { table, columns, key, replaces } = side;
        let source = self.new_rows(table, rows)?;
        let rest: Vec<_> = columns
            .split(", ")
            .filter(|column| !key.split(", ").any(|k| k == *column))
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let on_conflict = if replaces {
            format!(" ON CONFLICT (tenant_id, {key}) DO UPDATE SET {}", rest.join(", "))
        } else {
            String::new()
        };
        self.parts.push(format!(
            "INSERT INTO {table} (tenant_id, {columns}) SELECT $1, {columns} FROM {source}{on_conflict}"
        ));
        Ok(())
    }

    pub(super) fn side_delete(&mut self, side: Side, rows: &'r Rows) -> Result<(), Error> {
        let Side { table, key, .. } = side;
        let source = self.source(table, rows)?;
        let same = key.split(", ").map(|k| format!("t.{k} = r.{k}")).collect::<Vec<_>>().join(" AND ");
        self.parts.push(format!("DELETE FROM {table} t USING {source} WHERE t.tenant_id = $1 AND {same}"));
        Ok(())
    }

    /// Runs it; says whether every update met the version that was read for it.
    ///
    /// # Errors
    /// `RowNotFound` when the statement enters the tenant, and this request was answered before: nothing was written.
    pub(super) async fn run(self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let Envelope { ctx, fields_version, outbox, ref answer, entry } = self.envelope;
        let kept = answer.as_ref().zip(ctx.request_id.as_ref());
        // Only tables, columns and numbers of our own are in the text; every value is bound.
        let mut query = sqlx::query(AssertSqlSafe(self.text(kept.is_some()))).bind(ctx.tenant);
        for Column { values, many } in &self.columns {
            query = if *many { query.bind(values) } else { query.bind(values.first().cloned().flatten()) };
        }
        let paths: Vec<String> =
            outbox.paths.iter().map(|paths| array(paths.iter().map(String::as_str))).collect();
        let principal = ctx.principal.to_string();
        query = query
            .bind(fields_version)
            .bind(&outbox.event_ids)
            .bind(&outbox.parts)
            .bind(&outbox.resources)
            .bind(&outbox.records)
            .bind(&outbox.versions)
            .bind(&outbox.subjects)
            .bind(&outbox.types)
            .bind(paths)
            .bind(&outbox.payloads)
            .bind(&principal)
            .bind(ctx.on_behalf_of)
            .bind(ctx.via.as_str())
            .bind(ctx.cause)
            .bind(ctx.trace.as_deref())
            .bind(ctx.now());
        if let Some((answer, request)) = kept {
            query =
                query.bind(request.method).bind(&request.key).bind(request.fingerprint.to_vec()).bind(answer);
        }
        if let Some(seen) = entry {
            query = query.bind(user(ctx)).bind(seen).bind(ctx.tenant_state.1);
        }
        // All of them, up to the word that the server is ready: a transaction of its own ends only there.
        let rows = query.fetch_all(conn).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let written: Vec<i64> = row.try_get("counts")?;
        Ok(written.iter().zip(&self.counted).all(|(written, (_, given))| written == given))
    }

    /// The text. The answer, and the entry, share values with the events: version, principal and time.
    fn text(&self, keeps_answer: bool) -> String {
        let next = self.columns.len() + 2;
        let place = |offset: usize| format!("${}", next + offset);
        let places = |range: std::ops::Range<usize>| range.map(place).collect::<Vec<_>>().join(", ");
        let request = format!("{}, {}", place(10), places(16..19));
        let mut with = Vec::with_capacity(self.parts.len() + 1);
        if self.envelope.entry.is_some() {
            let first = if keeps_answer { 20 } else { 16 };
            let caller = format!("$1, {}, {}", places(first..first + 3), place(0));
            let request = if keeps_answer { format!(", {request}, {}", place(15)) } else { String::new() };
            with.push(format!(
                "entered AS MATERIALIZED (SELECT rapport.enter({caller}{request}) AS first_answer)"
            ));
        }
        with.extend(self.parts.iter().enumerate().map(|(part, sql)| format!("w{part} AS ({sql})")));
        let counts: Vec<_> =
            self.counted.iter().map(|(part, _)| format!("(SELECT count(*) FROM w{part})")).collect();
        format!(
            "{}{} SELECT ARRAY[{}]::bigint[] AS counts, rapport.emit({}){}{}",
            if with.is_empty() { "" } else { "WITH " },
            with.join(", "),
            counts.join(", "),
            places(0..16),
            if keeps_answer {
                format!(", rapport.answer({request}, {}, {})", place(19), place(15))
            } else {
                String::new()
            },
            self.envelope.entry.map_or_else(String::new, |_| format!(" FROM {UNANSWERED}")),
        )
    }
}

impl Form {
    /// A JSON value as the text of a value of PostgreSQL; `None` is NULL.
    fn text(self, json: &str) -> Result<Option<Cow<'_, str>>, Error> {
        if json == "null" {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Plain if json.starts_with('"') => unquoted(json)?,
            Self::Array => {
                let elements: Vec<Cow<'_, str>> = serde_json::from_str(json).map_err(Error::internal)?;
                Cow::Owned(array(elements.iter().map(AsRef::as_ref)))
            }
            Self::Plain | Self::Json => Cow::Borrowed(json),
        }))
    }
}

/// The text that a JSON string stands for: most have nothing to be unescaped.
fn unquoted(json: &str) -> Result<Cow<'_, str>, Error> {
    match json.get(1..json.len() - 1) {
        Some(text) if !text.contains('\\') => Ok(Cow::Borrowed(text)),
        _ => serde_json::from_str(json).map(Cow::Owned).map_err(Error::internal),
    }
}

/// Texts as PostgreSQL writes an array of them: each quoted.
fn array<'e>(elements: impl IntoIterator<Item = &'e str>) -> String {
    let mut text = String::from("{");
    for element in elements {
        text.push_str(if text.len() == 1 { "\"" } else { ",\"" });
        for char in element.chars() {
            if matches!(char, '"' | '\\') {
                text.push('\\');
            }
            text.push(char);
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_the_text_of_a_value() {
        let text = |form: Form, json| form.text(json).unwrap().map(Cow::into_owned);
        for form in [Form::Json, Form::Array, Form::Plain] {
            assert_eq!(text(form, "null"), None);
        }
        assert_eq!(text(Form::Json, r#""a\"b""#).as_deref(), Some(r#""a\"b""#));
        assert_eq!(text(Form::Plain, r#""a\"b\n\u4e2d""#).as_deref(), Some("a\"b\n中"));
        assert_eq!(text(Form::Plain, "\"\"").as_deref(), Some(""));
        assert_eq!(text(Form::Plain, "-12.50").as_deref(), Some("-12.50"));
        assert_eq!(text(Form::Plain, "true").as_deref(), Some("true"));
        assert_eq!(text(Form::Array, "[]").as_deref(), Some("{}"));
        assert_eq!(
            text(Form::Array, r#"["", "a,b}", "\"\\", "NULL"]"#).as_deref(),
            Some(r#"{"","a,b}","\"\\","NULL"}"#)
        );
    }
}
