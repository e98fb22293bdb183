//! Batches under way: while one is being committed, the next are being written, each in a transaction of its own, so that
//! reading, writing and committing overlap. They are committed in the order of the file, with the progress, which only the
//! commit touches: what is under way when something fails, or when the import is not ours any more, leaves nothing behind.
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rapport_kernel::Error;
use rapport_store::TenantTx;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Import,
    ahead::Reader,
    bind::{Binding, Read, Ready},
    collect::{self, Found},
    importable::Importable,
    job::Job,
    rows::Rows,
    run::Trouble,
};

/// A batch may wait for one behind it, which holds a record that both change, while that one waits for its turn to be
/// committed. After this time those behind give way. It is longer than batches take, and shorter than a transaction may idle.
const STUCK: Duration = Duration::from_secs(3);

/// Rows of a batch, and their values where they were read already.
pub(crate) struct Batch<R> {
    pub(crate) rows: Arc<Rows>,
    pub(crate) ready: Option<(i64, Ready<R>)>,
}

/// A batch that is written, but not committed.
pub(crate) struct Written {
    pub(crate) tx: TenantTx,
    pub(crate) found: Found,
    /// How long that took.
    pub(crate) took: Duration,
}

/// What writing a batch needs to know.
pub(crate) struct Writer<I: Importable> {
    pub(crate) importable: Arc<I>,
    pub(crate) job: Arc<Job>,
    pub(crate) import: Arc<Import>,
    pub(crate) reader: Reader<I>,
    pub(crate) binding: Arc<Binding>,
}

impl<I: Importable> Clone for Writer<I> {
    fn clone(&self) -> Self {
        Self {
            importable: self.importable.clone(),
            job: self.job.clone(),
            import: self.import.clone(),
            reader: self.reader.clone(),
            binding: self.binding.clone(),
        }
    }
}

impl<I: Importable> Writer<I> {
    /// Writes a batch in a transaction of its own.
    async fn write(self, batch: Batch<I::Row>) -> Result<Written, Trouble> {
        let started = Instant::now();
        let mut tx = self.job.begin().await?;
        let rows = &batch.rows;
        let ready = self.reader.values(&tx, rows, 0..rows.len(), batch.ready).await?;
        let mut found = self.collect(&mut tx, rows, ready, &HashSet::new()).await?;
        collect::remember(&mut tx, self.import.id, std::mem::take(&mut found.written)).await?;
        tx.flush().await?;
        Ok(Written { tx, found, took: started.elapsed() })
    }

    /// Lets the resource collect what was read. `seen` are external ids of which a run would have made records by now.
    pub(crate) async fn collect(
        &self,
        tx: &mut TenantTx,
        rows: &Rows,
        ready: Ready<I::Row>,
        seen: &HashSet<u64>,
    ) -> Result<Found, Trouble> {
        let mut found = Found::refused(ready.rejected, ready.issues);
        for group in ready.groups {
            let (marks, values): (Vec<_>, Vec<_>) =
                group.into_iter().map(|Read { n, key, row }| ((n, key), row)).unzip();
            if marks.is_empty() {
                continue;
            }
            let policy = self.import.policy();
            let outcomes = self.importable.write(tx, &self.import.source, policy, values).await?;
            if outcomes.len() != marks.len() {
                let fault =
                    format!("{} rows were written, but {} have an outcome", marks.len(), outcomes.len());
                return Err(Trouble::Whole(Error::internal(fault)));
            }
            for ((n, key), outcome) in marks.into_iter().zip(outcomes) {
                let met = key.is_some_and(|key| seen.contains(&key));
                found.add(&self.binding, rows, (n, key), outcome, met.then_some(policy));
            }
        }
        Ok(found)
    }
}

/// A batch that is being written.
struct Flight {
    rows: Arc<Rows>,
    writing: AbortOnDropHandle<Result<Written, Trouble>>,
}

/// The batches under way, in the order of the file.
pub(crate) struct Lanes<R> {
    flying: VecDeque<Flight>,
    /// Batches that gave way, to be written again.
    waiting: VecDeque<Batch<R>>,
}

impl<R: Send + 'static> Lanes<R> {
    pub(crate) const fn new() -> Self {
        Self { flying: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// How many are being written.
    pub(crate) fn len(&self) -> usize {
        self.flying.len()
    }

    /// The next one that gave way.
    pub(crate) fn again(&mut self) -> Option<Batch<R>> {
        self.waiting.pop_front()
    }

    /// Begins to write a batch.
    pub(crate) fn launch<I: Importable<Row = R>>(&mut self, writer: Writer<I>, batch: Batch<R>) {
        let rows = batch.rows.clone();
        let writing = AbortOnDropHandle::new(tokio::spawn(writer.write(batch)));
        self.flying.push_back(Flight { rows, writing });
    }

    /// The first batch, when it is written; `None` where none is under way.
    pub(crate) async fn first(&mut self) -> Option<(Arc<Rows>, Result<Written, Trouble>)> {
        let Flight { rows, mut writing } = self.flying.pop_front()?;
        let written = match tokio::time::timeout(STUCK, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                self.recall();
                writing.await
            }
        };
        let fault = |error| Err(Trouble::Batch(Error::internal(error)));
        Some((rows, written.unwrap_or_else(|error| fault(error.to_string()))))
    }

    /// Lets all that are under way give way: they are rolled back, and written again after the one before them.
    pub(crate) fn recall(&mut self) {
        for Flight { rows, .. } in self.flying.drain(..).rev() {
            self.waiting.push_front(Batch { rows, ready: None });
        }
    }
}
