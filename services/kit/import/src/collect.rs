//! What became of the rows of a batch: counted, and remembered for taking it back.
use std::collections::HashMap;

use rapport_kernel::Error;
use rapport_store::{TenantTx, database};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    bind::Binding,
    import::Progress,
    importable::{ExistingPolicy, Outcome, Written},
    issues::Issue,
    rows::Rows,
};

/// What became of some rows.
#[derive(Debug, Default)]
pub(crate) struct Found {
    created: i64,
    updated: i64,
    unchanged: i64,
    rejected: i64,
    pub(crate) issues: Vec<Issue>,
    /// What was written, with its line.
    pub(crate) written: Vec<(i64, Written)>,
    /// Digests of the external ids of records that came into being.
    pub(crate) keys: Vec<u64>,
}

impl Found {
    /// Rows that were refused before anything was written.
    pub(crate) fn refused(rejected: i64, issues: Vec<Issue>) -> Self {
        Self { rejected, issues, ..Self::default() }
    }

    /// Adds what became of row `n`, whose external id has the digest `key`. `met` says that a dry run has had a row with it
    /// before, of which a run would have made a record by now.
    pub(crate) fn add(
        &mut self,
        binding: &Binding,
        rows: &Rows,
        (n, key): (usize, Option<u64>),
        outcome: Outcome,
        met: Option<ExistingPolicy>,
    ) {
        let line = rows.get(n).map_or(0, |row| row.start.line);
        match (outcome, met) {
            (Outcome::Created { .. }, Some(ExistingPolicy::Update)) => self.updated += 1,
            (Outcome::Created { .. }, Some(ExistingPolicy::Skip)) | (Outcome::Unchanged { .. }, _) => {
                self.unchanged += 1
            }
            (Outcome::Created { id, version }, None) => {
                self.created += 1;
                self.keys.extend(key);
                self.written.push((line, Written { id, version, before: None }));
            }
            (Outcome::Updated { id, version, before }, _) => {
                self.updated += 1;
                self.written.push((line, Written { id, version, before: Some(before) }));
            }
            (Outcome::Rejected(problems), _) => {
                self.rejected += 1;
                self.issues.extend(binding.issues_of(rows, n, &problems));
            }
        }
    }

    /// Adds the figures.
    pub(crate) fn count(&self, progress: &mut Progress) {
        progress.rows_done += self.created + self.updated + self.unchanged + self.rejected;
        progress.created += self.created;
        progress.updated += self.updated;
        progress.unchanged += self.unchanged;
        progress.rejected += self.rejected;
    }
}

/// Remembers what a batch wrote, one row for each record.
///
/// A record that the import writes again keeps what it was before the first time, unless somebody changed it in between:
/// then what they made of it is what an undo gives back.
pub(crate) async fn remember(
    tx: &mut TenantTx,
    import: Uuid,
    written: Vec<(i64, Written)>,
) -> Result<(), Error> {
    if written.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    for (line, written) in written {
        columns.push(line, written);
    }
    let tenant = tx.tenant();
    sqlx::query(
        "INSERT INTO import_rows AS r (tenant_id, import_id, record_id, line, version, before)
         SELECT $1, $2, n.record_id, n.line, n.version, n.before
         FROM unnest($3::uuid[], $4::bigint[], $5::bigint[], $6::jsonb[]) AS n (record_id, line, version, before)
         ON CONFLICT (tenant_id, import_id, record_id) DO UPDATE
         SET version = excluded.version,
           before = CASE WHEN r.version = excluded.version - 1 THEN r.before ELSE excluded.before END",
    )
    .bind(tenant)
    .bind(import)
    .bind(columns.records)
    .bind(columns.lines)
    .bind(columns.versions)
    .bind(columns.befores)
    .execute(tx.conn().await?)
    .await
    .map_err(database)?;
    Ok(())
}

#[derive(Debug, Default)]
struct Columns {
    places: HashMap<Uuid, usize>,
    records: Vec<Uuid>,
    lines: Vec<i64>,
    versions: Vec<i64>,
    befores: Vec<Option<Json<Value>>>,
}

impl Columns {
    fn push(&mut self, line: i64, written: Written) {
        if let Some(version) = self.places.get(&written.id).and_then(|place| self.versions.get_mut(*place)) {
            // Twice in one transaction: nobody came in between.
            *version = written.version;
            return;
        }
        self.places.insert(written.id, self.records.len());
        self.records.push(written.id);
        self.lines.push(line);
        self.versions.push(written.version);
        self.befores.push(written.before.map(Json));
    }
}
