//! Taking back what an import wrote, batch after batch like the run.
use std::{sync::Arc, time::Instant};

use rapport_kernel::Error;
use rapport_store::{TenantTx, database};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    Import,
    importable::{Importable, Undo, Written},
    job::{End, Job, Step, TRIES, cause, may_be_one},
    pace::Pace,
    state::{Phase, State},
    work,
};

/// Takes back what is left of what the import wrote.
pub(crate) async fn undo<I: Importable>(
    importable: &Arc<I>,
    job: &Job,
    import: Import,
    pace: &mut Pace,
) -> Result<End, Error> {
    let mut at = import.progress.undone_to;
    let (mut size, mut tries) = (pace.rows(), 0);
    loop {
        if job.stop.is_cancelled() {
            return Ok(End::Stopped);
        }
        let started = Instant::now();
        let done = match batch(importable, job, at, size).await {
            Err(Error::Conflict | Error::Stale { .. }) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(5 << (2 * tries))).await;
                continue;
            }
            Err(error) if !may_be_one(&error) => return Err(error),
            Err(_) if size > 1 => {
                (size, tries) = (size.div_ceil(8), 0);
                continue;
            }
            Err(error) => {
                tracing::error!(tenant.id = %job.ctx.tenant, import.id = %job.held.import, error = cause(&error),
                    "a record could not be taken back");
                leave(job, at).await?
            }
            Ok(done) => done,
        };
        match done {
            (Step::On, to) => at = to,
            (Step::Last | Step::Lost, _) => return Ok(End::Over),
        }
        pace.measure(size, started.elapsed());
        (size, tries) = (size.saturating_mul(2).min(pace.rows()), 0);
        pace.look(job.imports.begun_by_others());
        pace.rest().await;
    }
}

/// Takes back what was written to the next `size` records after `at`; says to which it came.
async fn batch<I: Importable>(
    importable: &Arc<I>,
    job: &Job,
    at: Option<Uuid>,
    size: usize,
) -> Result<(Step, Option<Uuid>), Error> {
    let mut tx = job.begin().await?;
    let Some(before) = fence(job, &mut tx, at).await? else { return Ok((Step::Lost, at)) };
    let entries = entries(&mut tx, before.id, at, size).await?;
    let count = entries.len();
    if count == 0 {
        return over(tx, before).await;
    }
    let to = entries.last().map(|entry| entry.id);
    let outcomes = importable.undo(&mut tx, entries).await?;
    if outcomes.len() != count {
        return Err(Error::internal(format!(
            "{count} entries were undone, but {} have an outcome",
            outcomes.len()
        )));
    }
    let kept = outcomes.iter().filter(|outcome| **outcome == Undo::Kept).count();
    move_on(tx, before, to, count - kept, kept).await
}

/// Leaves the next record as it is.
async fn leave(job: &Job, at: Option<Uuid>) -> Result<(Step, Option<Uuid>), Error> {
    let mut tx = job.begin().await?;
    let Some(before) = fence(job, &mut tx, at).await? else { return Ok((Step::Lost, at)) };
    let entries = entries(&mut tx, before.id, at, 1).await?;
    move_on(tx, before, entries.last().map(|entry| entry.id), 0, entries.len()).await
}

async fn fence(job: &Job, tx: &mut TenantTx, at: Option<Uuid>) -> Result<Option<Import>, Error> {
    let import = job.fence(tx, Phase::Undo).await?;
    Ok(import.filter(|import| import.progress.undone_to == at))
}

async fn entries(
    tx: &mut TenantTx,
    import: Uuid,
    at: Option<Uuid>,
    size: usize,
) -> Result<Vec<Written>, Error> {
    let tenant = tx.tenant();
    let rows: Vec<(Uuid, i64, Option<Json<Value>>)> = sqlx::query_as(
        "SELECT record_id, version, before FROM import_rows
         WHERE tenant_id = $1 AND import_id = $2 AND record_id > $3 ORDER BY record_id LIMIT $4",
    )
    .bind(tenant)
    .bind(import)
    .bind(at.unwrap_or(Uuid::nil()))
    .bind(i64::try_from(size).unwrap_or(i64::MAX))
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)?;
    Ok(rows
        .into_iter()
        .map(|(id, version, before)| Written { id, version, before: before.map(|Json(before)| before) })
        .collect())
}

/// Commits a batch: what was dealt with is not remembered any longer.
async fn move_on(
    mut tx: TenantTx,
    before: Import,
    to: Option<Uuid>,
    undone: usize,
    kept: usize,
) -> Result<(Step, Option<Uuid>), Error> {
    let mut after = before.moved_on(tx.now());
    after.progress.undone += i64::try_from(undone).unwrap_or(i64::MAX);
    after.progress.kept += i64::try_from(kept).unwrap_or(i64::MAX);
    after.progress.undone_to = to;
    tx.update(&before, &after)?;
    let tenant = tx.tenant();
    sqlx::query("DELETE FROM import_rows WHERE tenant_id = $1 AND import_id = $2 AND record_id <= $3")
        .bind(tenant)
        .bind(before.id)
        .bind(to)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    tx.finish().await?;
    Ok((Step::On, to))
}

async fn over(mut tx: TenantTx, before: Import) -> Result<(Step, Option<Uuid>), Error> {
    let after = Import { state: State::Undone, ..before.moved_on(tx.now()) };
    Import::save(&mut tx, &before, &after)?;
    work::dequeue(&mut tx, before.id).await?;
    tx.finish().await?;
    Ok((Step::Last, None))
}
