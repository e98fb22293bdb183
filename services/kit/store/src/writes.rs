//! What a transaction collected, and the one statement that writes it.
//!
//! Records are collected as JSON, each field under its column's name, so that a column is named once, in `Resource::COLUMNS`;
//! they are bound column by column, so that two records and a thousand take the same statement.
mod statement;

use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::{Ctx, Error};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Resource, columns::Columns, error::database, outbox::Outbox};
use statement::Statement;

/// Rows for one table, each a JSON object.
#[derive(Debug)]
struct Rows {
    columns: &'static str,
    json: Vec<String>,
}

impl Rows {
    const fn of(columns: &'static str) -> Self {
        Self { columns, json: Vec::new() }
    }

    fn push(&mut self, row: &impl Serialize) -> Result<(), Error> {
        self.json.push(serde_json::to_string(row).map_err(Error::internal)?);
        Ok(())
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

/// What goes with the rows.
#[derive(Debug)]
pub(crate) struct Envelope<'e> {
    /// Who writes.
    pub(crate) ctx: &'e Ctx,
    /// As of when the writer knows the tenant's custom fields.
    pub(crate) fields_version: i64,
    /// The events.
    pub(crate) outbox: &'e Outbox,
    /// The answer, which is kept under the caller's request id.
    pub(crate) answer: Option<Vec<u8>>,
    /// What the caller sees all of, for a statement that enters the tenant itself and is a transaction of its own. Nothing can
    /// be in it that reads what is there.
    pub(crate) entry: Option<&'e str>,
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

    /// Whether only new rows were collected, which nothing has to be read for.
    pub(crate) fn only_new(&self) -> bool {
        !self.inserts.is_empty() && self.updates.is_empty() && self.side_deletes.is_empty()
    }

    /// # Errors
    /// `Internal` when the record was collected already: one statement cannot write it twice.
    pub(crate) fn insert<R: Resource>(&mut self, record: &R) -> Result<(), Error> {
        self.touch::<R>(record.id())?;
        self.inserted.insert(R::TABLE, R::NAME);
        self.inserts.entry(R::TABLE).or_insert_with(|| Rows::of(R::COLUMNS)).push(record)
    }

    /// # Errors
    /// As for `insert`.
    pub(crate) fn update<R: Resource>(&mut self, after: &R) -> Result<(), Error> {
        self.touch::<R>(after.id())?;
        self.updates.entry(R::TABLE).or_insert_with(|| Rows::of(R::COLUMNS)).push(after)
    }

    pub(crate) fn side_insert(&mut self, side: Side, row: &impl Serialize) -> Result<(), Error> {
        self.side_inserts.entry(side).or_insert_with(|| Rows::of(side.columns)).push(row)
    }

    /// Deletes the side row that has the key columns of `row`.
    pub(crate) fn side_delete(&mut self, side: Side, row: &impl Serialize) -> Result<(), Error> {
        self.side_deletes.entry(side).or_insert_with(|| Rows::of(side.key)).push(row)
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

    /// The tables that are written.
    fn tables(&self) -> Vec<&'static str> {
        let sides = self.side_deletes.keys().chain(self.side_inserts.keys()).map(|side| side.table);
        self.inserts.keys().chain(self.updates.keys()).copied().chain(sides).collect()
    }

    /// Writes everything in one statement.
    pub(crate) async fn execute(
        self,
        conn: &mut PgConnection,
        columns: &Columns,
        envelope: Envelope<'_>,
    ) -> Result<(), Error> {
        let tables = columns.of(conn, &self.tables()).await?;
        let mut statement = Statement::new(&tables, envelope);
        for (table, rows) in &self.inserts {
            statement.insert(table, rows)?;
        }
        for (table, rows) in &self.updates {
            statement.update(table, rows)?;
        }
        for (side, rows) in &self.side_deletes {
            statement.side_delete(*side, rows)?;
        }
        for (side, rows) in &self.side_inserts {
            statement.side_insert(*side, rows)?;
        }
        let written = match statement.run(conn).await {
            // A repetition: whoever begins properly gets the first answer.
            Err(sqlx::Error::RowNotFound) => return Err(Error::Conflict),
            written => written,
        };
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
