//! Writing copies.
use std::{collections::BTreeMap, sync::Arc};

use rapport_kernel::Error;
use rapport_store::{TenantTx, database};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Facts, Table};
use crate::{log::Line, reactions::Verdict};

/// What a record is by a version.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) version: i64,
    pub(super) facts: Facts,
}

impl Table {
    /// Writes what events say. Of each record the last one counts.
    pub(super) async fn hear(
        &self,
        tx: &mut TenantTx,
        lines: &[Arc<Line>],
        facts: &(dyn Fn(&Line) -> Result<Option<Facts>, Error> + Send + Sync),
    ) -> Result<Verdict, Error> {
        let mut last = BTreeMap::new();
        for line in lines {
            last.insert(line.record_id, (line.version, facts(line)?));
        }
        let (mut rows, mut gone) = (Vec::new(), Vec::new());
        for (id, (version, facts)) in last {
            match facts {
                Some(facts) => rows.push(Row { id, version, facts }),
                None => gone.push((id, version)),
            }
        }
        let mut changed = self.put(tx, &rows, "t.version < excluded.version").await?;
        changed.extend(self.mark_gone(tx, &gone, "t.version < g.version").await?);
        self.follow(tx, &changed).await?;
        Ok(Verdict::Done)
    }

    /// Writes rows, where there are none or `where_old` holds of the one that is there; says which records changed.
    pub(super) async fn put(
        &self,
        tx: &mut TenantTx,
        rows: &[Row],
        where_old: &str,
    ) -> Result<Vec<Uuid>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (table, columns, excluded) = (self.table, self.columns, self.each("excluded"));
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| json!({"id": row.id, "version": row.version, "facts": row.facts}))
            .collect();
        sqlx::query_scalar(AssertSqlSafe(format!(
            "INSERT INTO {table} AS t (tenant_id, id, version, deleted, {columns})
             SELECT $1, (r ->> 'id')::uuid, (r ->> 'version')::bigint, false, f.*
             FROM unnest($2::jsonb[]) AS r,
               LATERAL (SELECT {columns} FROM jsonb_populate_record(NULL::{table}, r -> 'facts')) AS f
             ON CONFLICT (tenant_id, id) DO UPDATE SET (version, deleted, {columns}) =
               ROW(excluded.version, false, {excluded}) WHERE {where_old}
             RETURNING id"
        )))
        .bind(tx.tenant())
        .bind(rows)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)
    }

    /// For [`Self::put`]: what is older, or is of the same version and yet not what its owner has.
    pub(super) fn differs(&self) -> String {
        let (ours, theirs) = (self.each("t"), self.each("excluded"));
        format!(
            "t.version < excluded.version
             OR t.version = excluded.version AND (t.deleted, {ours}) IS DISTINCT FROM (false, {theirs})"
        )
    }

    fn each(&self, row: &str) -> String {
        self.columns.split(", ").map(|column| format!("{row}.{column}")).collect::<Vec<_>>().join(", ")
    }

    /// Marks records as gone by a version, where `when` holds; they keep the facts that they had. Says which changed.
    pub(super) async fn mark_gone(
        &self,
        tx: &mut TenantTx,
        gone: &[(Uuid, i64)],
        when: &str,
    ) -> Result<Vec<Uuid>, Error> {
        let set = "version = g.version, deleted = true";
        self.set(tx, set, gone, when).await
    }

    /// Lets anything be newer than these rows, if they still have these versions.
    pub(super) async fn set_back(&self, tx: &mut TenantTx, rows: &[(Uuid, i64)]) -> Result<(), Error> {
        self.set(tx, "version = 0", rows, "t.version = g.version").await.map(drop)
    }

    async fn set(
        &self,
        tx: &mut TenantTx,
        set: &str,
        rows: &[(Uuid, i64)],
        when: &str,
    ) -> Result<Vec<Uuid>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, versions): (Vec<Uuid>, Vec<i64>) = rows.iter().copied().unzip();
        sqlx::query_scalar(AssertSqlSafe(format!(
            "UPDATE {} t SET {set} FROM unnest($2::uuid[], $3::bigint[]) AS g (id, version)
             WHERE t.tenant_id = $1 AND t.id = g.id AND {when} RETURNING t.id",
            self.table
        )))
        .bind(tx.tenant())
        .bind(ids)
        .bind(versions)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)
    }

    /// Does what follows from changes of these records.
    pub(super) async fn follow(&self, tx: &mut TenantTx, changed: &[Uuid]) -> Result<(), Error> {
        let Some(function) = self.afterwards.filter(|_| !changed.is_empty()) else { return Ok(()) };
        sqlx::query(AssertSqlSafe(format!("SELECT {function}($1)")))
            .bind(changed)
            .execute(tx.conn().await?)
            .await
            .map(drop)
            .map_err(database)
    }
}
