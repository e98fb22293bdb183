//! The engine: what a service holds, forwards its `ImportService` to, and runs a worker of.
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use rapport_blobs::Blobs;
use rapport_kernel::{Clock, Error, cut};
use rapport_store::{Db, TenantTx};
use tokio::sync::Notify;

use crate::{
    importable::{Importable, Target},
    job::{End, Job},
    run,
};

/// How imports are worked on.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest file, in bytes.
    pub max_file_bytes: u64,
    /// How many imports this process works on at once, each of another tenant.
    pub parallel: usize,
    /// Seconds after which the import of a process that died is taken over.
    pub lease_seconds: i64,
    /// How often to look for work that another process was asked for.
    pub poll: Duration,
    /// How long a batch should take.
    pub batch_time: Duration,
    /// The same while others are at work on the same database: they wait behind a batch for their turn on the machine.
    pub busy_batch_time: Duration,
    /// The most rows of a batch.
    pub batch_rows: usize,
    /// How many batches of an import are written at once, while nobody else is at work on the database.
    pub lanes: usize,
    /// How long to rest after a batch, as a part of the time that it took: 0 not at all, 1 as long.
    pub pause_ratio: f64,
    /// The same while others are at work; at least `pause_ratio`.
    pub busy_pause_ratio: f64,
    /// How long to wait for a database or a store that does not answer, before an import fails.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_file_bytes: 2 << 30,
            parallel: 2,
            lease_seconds: 30,
            poll: Duration::from_secs(2),
            batch_time: Duration::from_millis(250),
            busy_batch_time: Duration::from_millis(10),
            batch_rows: 1_000,
            lanes: 2,
            pause_ratio: 0.0,
            busy_pause_ratio: 2.0,
            patience: Duration::from_secs(600),
        }
    }
}

/// The imports of a service. Cheap to clone.
#[derive(Clone)]
pub struct Imports(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    db: Db,
    blobs: Blobs,
    clock: Clock,
    options: Options,
    resources: Vec<Arc<dyn Joined>>,
    woken: Arc<Notify>,
    /// Transactions that imports began.
    begun: Arc<AtomicU64>,
}

/// A resource that joined, whatever its types.
pub(crate) trait Joined: Send + Sync {
    fn resource(&self) -> &'static str;
    fn targets(&self, tx: &TenantTx) -> Vec<Target>;
    /// Works on an import until there is nothing more to do now.
    fn run(self: Arc<Self>, job: Arc<Job>) -> BoxFuture<'static, Result<End, Error>>;
}

impl<I: Importable> Joined for I {
    fn resource(&self) -> &'static str {
        Importable::resource(self)
    }

    fn targets(&self, tx: &TenantTx) -> Vec<Target> {
        Importable::targets(self, tx)
    }

    fn run(self: Arc<Self>, job: Arc<Job>) -> BoxFuture<'static, Result<End, Error>> {
        Box::pin(run::run(self, job))
    }
}

impl Imports {
    /// The imports that lie in `db` with their files in `blobs`, of no resource yet.
    pub fn new(db: Db, blobs: Blobs, clock: Clock, options: Options) -> Self {
        let (resources, woken, begun) = (Vec::new(), Arc::default(), Arc::default());
        Self(Arc::new(Inner { db, blobs, clock, options, resources, woken, begun }))
    }

    /// Lets a resource join.
    #[must_use]
    pub fn join(mut self, importable: impl Importable) -> Self {
        Arc::make_mut(&mut self.0).resources.push(Arc::new(importable));
        self
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Counts a transaction that an import begins.
    pub(crate) fn count_begun(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// How many transactions of this process began that are not an import's: people and machines at work.
    pub(crate) fn begun_by_others(&self) -> u64 {
        self.0.db.begun().saturating_sub(self.0.begun.load(Ordering::Relaxed))
    }

    pub(crate) fn woken(&self) -> &Notify {
        &self.0.woken
    }

    /// The resource of this name.
    ///
    /// # Errors
    /// `Invalid` on `import.resource` when none of it joined; the text says which did.
    pub(crate) fn resource(&self, name: &str) -> Result<&Arc<dyn Joined>, Error> {
        self.0.resources.iter().find(|joined| joined.resource() == name).ok_or_else(|| {
            let known =
                self.0.resources.iter().map(|joined| format!("`{}`", joined.resource())).collect::<Vec<_>>();
            let problem = format!("`{}` cannot be imported here; there are {}", cut(name), known.join(", "));
            Error::invalid("import.resource", problem)
        })
    }
}

impl fmt::Debug for Imports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imports").field("options", &self.0.options).finish_non_exhaustive()
    }
}
