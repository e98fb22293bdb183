//! What types the columns of tables have, as the database says: by them the texts that are bound become values.
use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use rapport_kernel::Error;
use sqlx::PgConnection;

use crate::error::database;

/// The types of the columns of the service's tables. They are read once, and again for a table that is not known
/// yet: a migration that gives a column another type wants the service started again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(Arc<ArcSwap<Tables>>);

/// The type of each column, by table and column.
pub(crate) type Tables = HashMap<String, HashMap<String, ColumnType>>;

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnType {
    /// Its name, as a cast has it.
    pub(crate) name: Arc<str>,
    /// How a JSON value is written as a text of this type.
    pub(crate) form: Form,
}

/// How a JSON value is written as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is: a column of JSON.
    Json,
    /// As an array of PostgreSQL.
    Array,
    /// A string without its quotes, else as it is.
    Plain,
}

impl Columns {
    /// The types of the columns of these tables.
    pub(crate) async fn of(&self, conn: &mut PgConnection, tables: &[&str]) -> Result<Arc<Tables>, Error> {
        let known = self.0.load_full();
        if tables.iter().all(|table| known.contains_key(*table)) {
            return Ok(known);
        }
        let read = Arc::new(read(conn).await?);
        self.0.store(read.clone());
        Ok(read)
    }
}

/// Reads the types of all columns of tables and views, by their names as statements have them.
async fn read(conn: &mut PgConnection) -> Result<Tables, Error> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.oid::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace IN ('public'::regnamespace, 'rapport'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
           AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .fetch_all(conn)
    .await
    .map_err(database)?;
    let mut tables = Tables::new();
    for (table, column, name) in rows {
        let form = match name.as_str() {
            "json" | "jsonb" => Form::Json,
            array if array.ends_with("[]") => Form::Array,
            _ => Form::Plain,
        };
        tables.entry(table).or_default().insert(column, ColumnType { name: name.into(), form });
    }
    Ok(tables)
}
