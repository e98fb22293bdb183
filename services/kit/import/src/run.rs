//! Working on one import: batch after batch, each one transaction that holds records, issues and progress.
//!
//! So a crash loses at most the batches in hand, and whoever goes on begins where the last committed one ended. The import's
//! row is the fence: before it commits, every batch locks it, finds it in the state and at the place that it expects, or
//! leaves.
mod apart;

use std::{
    collections::HashSet,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rapport_kernel::Error;
use rapport_store::TenantTx;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Import,
    ahead::{Ahead, Reader},
    bind::{Binding, Ready},
    collect::{self, Found},
    feed::Feed,
    import::Progress,
    importable::{Importable, Problem},
    issues::Issue,
    job::{End, Job, Step, TRIES, may_be_one},
    lanes::{Batch, Lanes, Writer, Written},
    pace::Pace,
    rows::{Place, Rows},
    state::{Phase, State},
    undo, work,
};

/// So many rows, one after the other, that fail by a fault of ours end the import: it is not the rows' fault then.
const FAULTS: u32 = 20;
/// Issues of a dry run that are listed; all are counted. A run lists every one.
const MOST_LISTED: usize = 10_000;
/// Seconds to wait for a tenant that is not served, or not written, for now.
const LATER: i64 = 60;

/// Why a batch failed.
pub(crate) enum Trouble {
    /// Every row would fail so.
    Whole(Error),
    /// A row may be at fault.
    Batch(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Batch(error)
    }
}

/// Works on an import until there is nothing more to do, waiting for what does not answer.
///
/// # Errors
/// Those that the import fails by.
pub(crate) async fn run<I: Importable>(importable: Arc<I>, job: Arc<Job>) -> Result<End, Error> {
    let mut pace = Pace::new(job.imports.options());
    loop {
        match pass(&importable, &job, &mut pace).await {
            Err(Error::Unavailable(cause)) if pace.has_patience() => {
                tracing::warn!(tenant.id = %job.ctx.tenant, import.id = %job.held.import, error = %cause, "an import waits");
                pace.wait(&job.stop).await;
            }
            Err(Error::Rule { reason: "TENANT_NOT_SERVED" | "TENANT_READ_ONLY", .. }) => {
                return Ok(End::Later(LATER));
            }
            other => return other,
        }
    }
}

/// Works on from where the database says that the import stands.
async fn pass<I: Importable>(importable: &Arc<I>, job: &Arc<Job>, pace: &mut Pace) -> Result<End, Error> {
    let mut tx = job.begin().await?;
    let import = tx.get::<Import>(job.held.import).await?;
    tx.finish().await?;
    match import.state.work() {
        None => Ok(End::Over),
        Some(Phase::Undo) => undo::undo(importable, job, import, pace).await,
        Some(phase) => rows(importable, job, import, phase, pace).await,
    }
}

async fn rows<I: Importable>(
    importable: &Arc<I>,
    job: &Arc<Job>,
    mut import: Import,
    phase: Phase,
    pace: &mut Pace,
) -> Result<End, Error> {
    if phase == Phase::Check && import.progress != Progress::default() {
        // A dry run writes nothing, so it begins again; then it knows of every row which others it has met.
        match begin_again(job).await? {
            Some(begun) => import = begun,
            None => return Ok(End::Over),
        }
    }
    let import = Arc::new(import);
    let file = import.file()?;
    let at = import.next()?;
    let binding = Arc::new(Binding::of(&import)?);
    let writer = Writer {
        importable: importable.clone(),
        job: job.clone(),
        import: import.clone(),
        reader: Reader::new(importable.clone(), binding.clone(), job.ctx.clone()),
        binding,
    };
    let feed = Feed::new(job.imports.blobs(), job.ctx.tenant, file, at);
    let reading = Some(writer.reader.ahead(feed, pace.rows()));
    let mut run = Run { writer, reading, pace, phase, at, seen: HashSet::new(), listed: 0, faults: 0 };
    let mut lanes = Lanes::new();
    loop {
        let step = if run.is_alone() {
            let Some(batch) = run.next(&mut lanes).await? else { return Ok(End::Over) };
            run.batch(&batch.rows, batch.ready).await?
        } else {
            while lanes.len() < run.lanes() {
                let Some(batch) = run.next(&mut lanes).await? else { break };
                lanes.launch(run.writer.clone(), batch);
            }
            let Some((rows, written)) = lanes.first().await else { return Ok(End::Over) };
            run.land(&mut lanes, &rows, written).await?
        };
        if step != Step::On {
            return Ok(End::Over);
        }
        run.pace.look(job.imports.begun_by_others());
        run.pace.rest().await;
        if job.stop.is_cancelled() {
            return Ok(End::Stopped);
        }
    }
}

/// Puts a dry run back to its beginning.
async fn begin_again(job: &Job) -> Result<Option<Import>, Error> {
    let mut tx = job.begin().await?;
    let Some(before) = job.fence(&mut tx, Phase::Check).await? else { return Ok(None) };
    let after = Import { progress: Progress::default(), ..before.moved_on(tx.now()) };
    Issue::forget(&mut tx, before.id).await?;
    tx.update(&before, &after)?;
    tx.finish().await?;
    Ok(Some(after))
}

/// The run, or the dry run, of an import.
struct Run<'r, I: Importable> {
    writer: Writer<I>,
    /// The next batch of the file, while there is one.
    reading: Option<AbortOnDropHandle<Result<Ahead<I::Row>, Error>>>,
    pace: &'r mut Pace,
    phase: Phase,
    /// Where the next row lies: what was committed.
    at: Place,
    /// External ids that a dry run would have made records of, by digest: the next row with one of them meets that record.
    seen: HashSet<u64>,
    /// Issues that a dry run has listed.
    listed: usize,
    /// Rows that failed by a fault of ours, one after the other.
    faults: u32,
}

impl<I: Importable> Run<'_, I> {
    /// Writes a batch: as a whole where that goes, else in ever smaller parts, down to the row at fault, which is refused.
    async fn batch(
        &mut self,
        rows: &Arc<Rows>,
        mut ready: Option<(i64, Ready<I::Row>)>,
    ) -> Result<Step, Error> {
        let (mut from, mut size, mut tries) = (0, rows.len(), 0);
        loop {
            let range = from..rows.len().min(from + size.max(1));
            let started = Instant::now();
            let step = match self.transact(rows, range.clone(), ready.take()).await {
                Ok(step) => {
                    self.faults = 0;
                    step
                }
                Err(Trouble::Whole(error)) => return Err(error),
                Err(Trouble::Batch(Error::Conflict | Error::Stale { .. })) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(5 << (2 * tries))).await;
                    continue;
                }
                Err(Trouble::Batch(error)) if !may_be_one(&error) => return Err(error),
                Err(Trouble::Batch(_)) if range.len() > 1 => {
                    (size, tries) = (range.len().div_ceil(8), 0);
                    continue;
                }
                Err(Trouble::Batch(error)) => self.refuse(rows, from, error).await?,
            };
            if step != Step::On {
                return Ok(step);
            }
            self.pace.measure(range.len(), started.elapsed());
            (from, size, tries) = (range.end, size.saturating_mul(2), 0);
            if from >= rows.len() {
                return Ok(Step::On);
            }
        }
    }

    /// Writes some rows of a batch in a transaction; a dry run drops that, and writes what it found in another.
    async fn transact(
        &mut self,
        rows: &Arc<Rows>,
        range: Range<usize>,
        ahead: Option<(i64, Ready<I::Row>)>,
    ) -> Result<Step, Trouble> {
        let mut tx = self.writer.job.begin().await?;
        let ready = self.writer.reader.values(&tx, rows, range.clone(), ahead).await?;
        let found = self.writer.collect(&mut tx, rows, ready, &self.seen).await?;
        if self.phase == Phase::Check {
            drop(tx);
            return Ok(self.record(rows, range.end, found).await?);
        }
        if self.is_apart() {
            return self.apart(tx, rows, range, found).await;
        }
        Ok(self.finish(tx, rows, range.end, found).await?)
    }

    /// The next batch to write: one that gave way, or the next of the file.
    async fn next(&mut self, lanes: &mut Lanes<I::Row>) -> Result<Option<Batch<I::Row>>, Error> {
        if let Some(batch) = lanes.again() {
            return Ok(Some(batch));
        }
        let Some(reading) = self.reading.take() else { return Ok(None) };
        let Ahead { feed, rows, ready } = reading.await.map_err(Error::internal)??;
        self.reading = (!rows.last).then(|| self.writer.reader.ahead(feed, self.pace.rows()));
        Ok(Some(Batch { rows, ready }))
    }

    /// Commits a batch that was written in a lane. What is wrong with its rows is found out alone and in parts.
    async fn land(
        &mut self,
        lanes: &mut Lanes<I::Row>,
        rows: &Arc<Rows>,
        written: Result<Written, Trouble>,
    ) -> Result<Step, Error> {
        let started = Instant::now();
        let landed = match written {
            Ok(Written { tx, found, took }) => {
                let step = self.finish(tx, rows, rows.len(), found).await;
                step.map(|step| (step, took)).map_err(Trouble::Batch)
            }
            Err(trouble) => Err(trouble),
        };
        match landed {
            Ok((step, took)) => {
                self.faults = 0;
                self.pace.measure(rows.len(), took + started.elapsed());
                Ok(step)
            }
            Err(Trouble::Whole(error)) => Err(error),
            // It may have been committed or not: that is looked up when the database answers again.
            Err(Trouble::Batch(error)) if !may_be_one(&error) => Err(error),
            Err(Trouble::Batch(_)) => {
                lanes.recall();
                self.batch(rows, None).await
            }
        }
    }

    /// Whether each batch is dealt with before the next is begun: a dry run has to know which records earlier rows would have
    /// made.
    fn is_alone(&self) -> bool {
        self.phase == Phase::Check || self.is_apart()
    }

    /// How many batches may be under way: one, while others are at work on the same database.
    fn lanes(&self) -> usize {
        if self.pace.is_crowded() { 1 } else { self.writer.job.imports.options().lanes.max(1) }
    }

    /// The import, locked, if it is still ours and where we left it.
    async fn fence(&self, tx: &mut TenantTx) -> Result<Option<Import>, Error> {
        let Some(import) = self.writer.job.fence(tx, self.phase).await? else { return Ok(None) };
        let ours = self.writer.job.is_unfenced() || import.next()? == self.at;
        Ok(ours.then_some(import))
    }

    /// Refuses a row that no transaction would take.
    async fn refuse(&mut self, rows: &Arc<Rows>, n: usize, error: Error) -> Result<Step, Error> {
        if let Error::Internal(cause) = &error {
            let line = rows.get(n).map_or(0, |row| row.start.line);
            tracing::error!(tenant.id = %self.writer.job.ctx.tenant, import.id = %self.writer.job.held.import, line, error = %cause,
                "a row could not be written");
            self.faults += 1;
            if self.faults >= FAULTS {
                return Err(error);
            }
        }
        let issues = self.writer.binding.issues_of(rows, n, &Problem::of(&error));
        self.record(rows, n + 1, Found::refused(1, issues)).await
    }

    /// Writes what was found, and nothing else.
    async fn record(&mut self, rows: &Rows, end: usize, found: Found) -> Result<Step, Error> {
        let tx = self.writer.job.begin().await?;
        self.finish(tx, rows, end, found).await
    }

    /// Adds issues and progress to the transaction, and commits it, if the import is still ours.
    async fn finish(
        &mut self,
        mut tx: TenantTx,
        rows: &Rows,
        end: usize,
        mut found: Found,
    ) -> Result<Step, Error> {
        let Some(before) = self.fence(&mut tx).await? else { return Ok(Step::Lost) };
        let place = end.checked_sub(1).and_then(|n| rows.after(n)).or(rows.end).unwrap_or(self.at);
        let last = rows.last && end >= rows.len();
        let mut after = before.moved_on(tx.now());
        found.count(&mut after.progress);
        after.progress.next = Some(place);
        if self.phase == Phase::Check {
            found.issues.truncate(MOST_LISTED.saturating_sub(self.listed));
        }
        let listed = found.issues.len();
        Issue::collect(&mut tx, before.id, std::mem::take(&mut found.issues))?;
        if last {
            after.state = if self.phase == Phase::Check { State::Checked } else { State::Done };
            if let Some(file) = &mut after.file {
                file.rows = Some(after.progress.rows_done);
            }
            Import::save(&mut tx, &before, &after)?;
            work::dequeue(&mut tx, before.id).await?;
        } else {
            tx.update(&before, &after)?;
        }
        if self.phase == Phase::Run {
            collect::remember(&mut tx, before.id, found.written).await?;
        } else {
            self.seen.extend(found.keys);
        }
        tx.finish().await?;
        self.at = place;
        self.listed += listed;
        Ok(if last { Step::Last } else { Step::On })
    }
}
