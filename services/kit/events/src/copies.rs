//! Reference copies: what a service keeps of another one's records, so that it need not ask. They are declared: which table,
//! from which events, which facts. The events keep them; a record that was deleted leaves a row that says so, lest an older
//! event or a snapshot bring it back.
use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use rapport_kernel::Error;
use rapport_proto::Event as Message;
use rapport_store::{TenantTx, database};
use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    log::Line,
    reactions::{Handler, Reactions, Verdict},
};

/// A table of copies. It has `tenant_id`, `id`, `version` and `deleted`, and the columns that are declared.
#[derive(Clone, Copy, Debug)]
pub struct Copies {
    /// The handler's name, e.g. `copy-users`.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
    /// Its columns beside those that every such table has, separated by a comma and a blank.
    pub columns: &'static str,
    /// What follows from changes, if anything: a function of these records' ids.
    pub afterwards: Option<&'static str>,
}

/// The facts of a record, by column.
pub type Facts = Value;

impl Reactions {
    /// Keeps copies of records by events of this type: `facts` says what is kept of an event, `None` when its record is gone.
    #[must_use]
    pub fn keep<E>(self, copies: Copies, facts: fn(&E) -> Option<Facts>) -> Self
    where
        E: Message + Default + 'static,
    {
        let read = move |line: &Line| -> Result<Option<Facts>, Error> {
            Ok(facts(&E::decode(line.payload.as_deref().unwrap_or_default()).map_err(Error::internal)?))
        };
        self.add::<E>(Handler::of_many(
            copies.name,
            Arc::new(move |tx, lines| copies.handle(tx, lines, read)),
        ))
    }
}

impl Copies {
    fn handle<'a>(
        self,
        tx: &'a mut TenantTx,
        lines: &'a [Arc<Line>],
        read: impl Fn(&Line) -> Result<Option<Facts>, Error> + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<Verdict, Error>> {
        Box::pin(async move {
            // The last of each record counts.
            let mut rows = BTreeMap::<Uuid, Value>::new();
            for line in lines {
                rows.insert(line.record_id, self.row(line, read(line)?));
            }
            let ids: Vec<Uuid> = rows.keys().copied().collect();
            self.write(tx, rows.into_values().collect()).await?;
            if let Some(function) = self.afterwards {
                sqlx::query(AssertSqlSafe(format!("SELECT {function}($1)")))
                    .bind(ids)
                    .execute(tx.conn().await?)
                    .await
                    .map_err(database)?;
            }
            Ok(Verdict::Done)
        })
    }

    fn row(&self, line: &Line, facts: Option<Facts>) -> Value {
        let mut row = Map::new();
        row.insert("id".into(), json!(line.record_id));
        row.insert("version".into(), json!(line.version));
        row.insert("deleted".into(), json!(facts.is_none()));
        row.insert("facts".into(), facts.unwrap_or_default());
        Value::Object(row)
    }

    /// Writes rows, unless newer ones are there. What is gone keeps the facts that it had.
    async fn write(&self, tx: &mut TenantTx, rows: Vec<Value>) -> Result<(), Error> {
        let Self { table, columns, .. } = self;
        let excluded =
            columns.split(", ").map(|column| format!("excluded.{column}")).collect::<Vec<_>>().join(", ");
        let tenant = tx.tenant();
        for (deleted, sql) in [
            (
                false,
                format!(
                    "INSERT INTO {table} AS t (tenant_id, id, version, deleted, {columns})
                     SELECT $1, (r ->> 'id')::uuid, (r ->> 'version')::bigint, false, f.*
                     FROM unnest($2::jsonb[]) AS r,
                       LATERAL (SELECT {columns} FROM jsonb_populate_record(NULL::{table}, r -> 'facts')) AS f
                     ON CONFLICT (tenant_id, id) DO UPDATE SET (version, deleted, {columns}) =
                       ROW(excluded.version, false, {excluded}) WHERE t.version < excluded.version"
                ),
            ),
            (
                true,
                format!(
                    "UPDATE {table} t SET version = (r ->> 'version')::bigint, deleted = true
                     FROM unnest($2::jsonb[]) AS r
                     WHERE t.tenant_id = $1 AND t.id = (r ->> 'id')::uuid AND t.version < (r ->> 'version')::bigint"
                ),
            ),
        ] {
            let rows: Vec<&Value> = rows.iter().filter(|row| row["deleted"] == deleted).collect();
            if rows.is_empty() {
                continue;
            }
            sqlx::query(AssertSqlSafe(sql))
                .bind(tenant)
                .bind(rows)
                .execute(tx.conn().await?)
                .await
                .map_err(database)?;
        }
        Ok(())
    }
}
