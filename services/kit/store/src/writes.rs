//! What a transaction collected, and the one statement that writes it.
//!
//! Records go as JSON: PostgreSQL spreads them over the columns with `json_populate_recordset`, so one record and a thousand
//! take the same statement, and a new column is named once, in `Resource::COLUMNS`.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use rapport_kernel::{Ctx, Error};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::{Resource, error::database, outbox::Outbox};

/// Rows for one table.
#[derive(Debug, Default)]
struct Rows {
    columns: &'static str,
    json: Vec<u8>,
    count: i64,
}

impl Rows {
    fn push(&mut self, row: &impl Serialize) -> Result<(), Error> {
        self.json.push(if self.count == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.json, row).map_err(Error::internal)?;
        self.count += 1;
        Ok(())
    }

    fn text(mut self) -> Result<String, Error> {
        self.json.push(b']');
        String::from_utf8(self.json).map_err(Error::internal)
    }
}

/// A side table: rows that belong to records but lie beside them, written with them in the same statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// The table.
    pub table: &'static str,
    /// Its columns without `tenant_id`.
    pub columns: &'static str,
    /// The columns that tell rows apart.
    pub key: &'static str,
    /// Whether a new row takes the place of the one with its key; else a key that is taken is a conflict, which the named
    /// constraint reports.
    pub replaces: bool,
}

impl Side {
    /// The same for rows of a record: of a new one there is nothing to replace, and looking for it costs a third of the write.
    pub const fn of_record(self, is_new: bool) -> Self {
        Self { replaces: self.replaces && !is_new, ..self }
    }
}

/// Everything a transaction collected.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    inserts: BTreeMap<&'static str, Rows>,
    updates: BTreeMap<&'static str, Rows>,
    side_deletes: BTreeMap<Side, Rows>,
    side_inserts: BTreeMap<Side, Rows>,
    touched: BTreeSet<(&'static str, Uuid)>,
    /// Tables that records are inserted into, with the resource's name.
    inserted: BTreeMap<&'static str, &'static str>,
    /// Resources of which a caller of narrow scope hands a record over, so that it may leave the caller's sight.
    left: BTreeSet<&'static str>,
}

impl Writes {
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty()
            && self.updates.is_empty()
            && self.side_deletes.is_empty()
            && self.side_inserts.is_empty()
    }

    /// # Errors
    /// `Internal` when the record was collected already: one statement cannot write it twice.
    pub(crate) fn insert<R: Resource>(&mut self, record: &R) -> Result<(), Error> {
        self.touch::<R>(record.id())?;
        self.inserted.insert(R::TABLE, R::NAME);
        let rows = self.inserts.entry(R::TABLE).or_default();
        rows.columns = R::COLUMNS;
        rows.push(record)
    }

    /// # Errors
    /// As for `insert`.
    pub(crate) fn update<R: Resource>(&mut self, after: &R) -> Result<(), Error> {
        self.touch::<R>(after.id())?;
        let rows = self.updates.entry(R::TABLE).or_default();
        rows.columns = R::COLUMNS;
        rows.push(after)
    }

    pub(crate) fn side_insert(&mut self, side: Side, row: &impl Serialize) -> Result<(), Error> {
        self.side_inserts.entry(side).or_default().push(row)
    }

    /// Deletes the side row that has the key columns of `row`.
    pub(crate) fn side_delete(&mut self, side: Side, row: &impl Serialize) -> Result<(), Error> {
        self.side_deletes.entry(side).or_default().push(row)
    }

    fn touch<R: Resource>(&mut self, id: Uuid) -> Result<(), Error> {
        if self.touched.insert((R::TABLE, id)) {
            return Ok(());
        }
        Err(Error::internal("a record was written twice in one statement"))
    }

    /// Says that a record of this resource may leave the caller's sight.
    pub(crate) fn leaves_sight(&mut self, resource: &'static str) {
        self.left.insert(resource);
    }

    /// Whether one does. PostgreSQL holds the new row against the policy for reading, too. The old row was read under the
    /// caller's scope; where the new one goes is for the rules of the domain to say.
    pub(crate) fn leave_sight(&self) -> bool {
        !self.left.is_empty()
    }

    /// What the policies are told while this is written: `seen`, and what hands a record over.
    pub(crate) fn sight_for(&self, seen: &str) -> String {
        self.left.iter().fold(seen.to_owned(), |all, resource| format!("{all}{resource},"))
    }

    /// Writes everything in one statement; `answer` is kept under the caller's request id.
    pub(crate) async fn execute(
        self,
        conn: &mut PgConnection,
        ctx: &Ctx,
        fields_version: i64,
        outbox: &Outbox,
        answer: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut statement = Statement::new();
        for (table, rows) in self.inserts {
            statement.insert(table, rows)?;
        }
        for (table, rows) in self.updates {
            statement.update(table, rows)?;
        }
        for (side, rows) in self.side_deletes {
            statement.side_delete(side, rows)?;
        }
        for (side, rows) in self.side_inserts {
            statement.side_insert(side, rows)?;
        }
        let written = statement.run(conn, ctx, fields_version, outbox, answer).await;
        // Records are locked when they are read for update; of one that was not, somebody else may have been faster.
        if written.map_err(|error| taken_id(error, &self.inserted))? { Ok(()) } else { Err(Error::Conflict) }
    }
}

/// Tells an id that a client chose and that is taken from other conflicts: nobody was faster, and it stays taken.
fn taken_id(error: sqlx::Error, inserted: &BTreeMap<&'static str, &'static str>) -> Error {
    let pg = error.as_database_error();
    let constraint = pg.filter(|pg| pg.is_unique_violation()).and_then(|pg| pg.constraint());
    let table = constraint.and_then(|name| name.strip_suffix("_id").or_else(|| name.strip_suffix("_pkey")));
    match table.and_then(|table| inserted.get(table)) {
        Some(&resource) => {
            Error::AlreadyExists { resource: resource.into(), problem: "its id is taken".into() }
        }
        None => database(error),
    }
}

/// The statement in the making: data-modifying parts, whose texts are bound from `$2` on (`$1` is the tenant).
struct Statement {
    with: String,
    texts: Vec<String>,
    /// Parts that must write as many rows as were given.
    counted: Vec<(usize, i64)>,
}

impl Statement {
    const fn new() -> Self {
        Self { with: String::new(), texts: Vec::new(), counted: Vec::new() }
    }

    /// Opens the next part; says its number and the place of its text.
    fn part(&mut self, rows: Rows) -> Result<(usize, usize), Error> {
        let part = self.texts.len();
        self.with.push_str(if part == 0 { "WITH " } else { ", " });
        self.texts.push(rows.text()?);
        Ok((part, part + 2))
    }

    fn insert(&mut self, table: &str, rows: Rows) -> Result<(), Error> {
        let columns = rows.columns;
        let (part, text) = self.part(rows)?;
        let _ = write!(
            self.with,
            "w{part} AS (INSERT INTO {table} (tenant_id, {columns}) SELECT $1, {columns} \
             FROM json_populate_recordset(NULL::{table}, ${text}::json))"
        );
        Ok(())
    }

    fn update(&mut self, table: &str, rows: Rows) -> Result<(), Error> {
        let (columns, count) = (rows.columns, rows.count);
        let (part, text) = self.part(rows)?;
        let values = columns.split(", ").map(|column| format!("r.{column}")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            self.with,
            "w{part} AS (UPDATE {table} t SET ({columns}) = ROW({values}) \
             FROM json_populate_recordset(NULL::{table}, ${text}::json) r \
             WHERE t.tenant_id = $1 AND t.id = r.id AND t.version = r.version - 1 RETURNING 1)"
        );
        self.counted.push((part, count));
        Ok(())
    }

    fn side_insert(&mut self, side: Side, rows: Rows) -> Result<(), Error> {
        let Side { table, columns, key, replaces } = side;
        let (part, text) = self.part(rows)?;
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
        let _ = write!(
            self.with,
            "w{part} AS (INSERT INTO {table} (tenant_id, {columns}) SELECT $1, {columns} \
             FROM json_populate_recordset(NULL::{table}, ${text}::json){on_conflict})"
        );
        Ok(())
    }

    fn side_delete(&mut self, side: Side, rows: Rows) -> Result<(), Error> {
        let Side { table, key, .. } = side;
        let (part, text) = self.part(rows)?;
        let same = key.split(", ").map(|k| format!("t.{k} = r.{k}")).collect::<Vec<_>>().join(" AND ");
        let _ = write!(
            self.with,
            "w{part} AS (DELETE FROM {table} t USING json_populate_recordset(NULL::{table}, ${text}::json) r \
             WHERE t.tenant_id = $1 AND {same})"
        );
        Ok(())
    }

    /// Runs it; says whether every update met the version that was read for it.
    async fn run(
        mut self,
        conn: &mut PgConnection,
        ctx: &Ctx,
        fields_version: i64,
        outbox: &Outbox,
        answer: Option<Vec<u8>>,
    ) -> Result<bool, sqlx::Error> {
        let next = self.texts.len() + 2;
        let counts = if self.counted.is_empty() {
            "ARRAY[]::bigint[]".to_owned()
        } else {
            let counts: Vec<_> =
                self.counted.iter().map(|(part, _)| format!("(SELECT count(*) FROM w{part})")).collect();
            format!("ARRAY[{}]", counts.join(", "))
        };
        // The places of bound values: the answer shares principal and time with the events.
        let place = |offset: usize| format!("${}", next + offset);
        let places = |range: std::ops::Range<usize>| range.map(place).collect::<Vec<_>>().join(", ");
        let _ = write!(
            self.with,
            " SELECT {counts} AS counts, rapport.emit({}, NULL, {})",
            places(0..13),
            places(13..15)
        );
        let kept = answer.zip(ctx.request_id.as_ref());
        if kept.is_some() {
            let _ = write!(self.with, ", rapport.answer({}, {}, {})", place(10), places(15..19), place(14));
        }
        // Only tables, columns and numbers of our own are in the text; every value is bound.
        let mut query = sqlx::query(AssertSqlSafe(self.with)).bind(ctx.tenant);
        for text in self.texts {
            query = query.bind(text);
        }
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
            .bind(sqlx::types::Json(&outbox.paths))
            .bind(&outbox.payloads)
            .bind(&principal)
            .bind(ctx.on_behalf_of)
            .bind(ctx.via.as_str())
            .bind(ctx.trace.as_deref())
            .bind(ctx.now());
        if let Some((answer, request)) = kept {
            query =
                query.bind(request.method).bind(&request.key).bind(request.fingerprint.to_vec()).bind(answer);
        }
        let row = query.fetch_one(conn).await?;
        let written: Vec<i64> = row.try_get("counts")?;
        Ok(written.iter().zip(&self.counted).all(|(written, (_, given))| written == given))
    }
}
