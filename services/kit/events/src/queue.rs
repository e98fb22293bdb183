//! Work that is slow or leaves the house, and what is to happen at a time.
//!
//! A lane does its own database's work and nothing slow. Whatever else follows from an event is queued in the lane's
//! transaction, once under its key, and done by workers: in turns of tenants, under a lease, tried again with growing pauses, and
//! parked with the reason when that does not help. A timer is work that becomes ready at a time; it lies in a table of its own,
//! so that a million of them cost the workers nothing until they are due.
//!
//! What a job does to this database happens once: it is done in the transaction that ends the job ([`Job::finish`]), or not at
//! all. What it does elsewhere may happen again after a crash, under the same [`Job::id`].
mod claim;
mod run;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use rapport_kernel::{Clock, Ctx, Error, Instant};
use rapport_store::{Db, TenantTx, database};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::log::Line;

/// A piece of work to queue, or to set a timer for.
#[derive(Clone, Debug)]
pub struct Work {
    queue: &'static str,
    key: String,
    payload: Value,
    event_id: Option<Uuid>,
    resource: String,
    record_id: Option<Uuid>,
    again: bool,
}

impl Work {
    /// Work for a queue. While it waits, other work with its key is the same work.
    pub fn new(queue: &'static str, key: impl Into<String>) -> Self {
        let (key, payload) = (key.into(), Value::Null);
        Self { queue, key, payload, event_id: None, resource: String::new(), record_id: None, again: false }
    }

    /// With what it takes to do it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn with(mut self, payload: &impl Serialize) -> Result<Self, Error> {
        self.payload = serde_json::to_value(payload).map_err(Error::internal)?;
        Ok(self)
    }

    /// Because of an event.
    #[must_use]
    pub fn because_of(mut self, line: &Line) -> Self {
        self.event_id = Some(line.event_id);
        self.resource.clone_from(&line.resource);
        self.record_id = Some(line.record_id);
        self
    }

    /// Asked for while it is being worked on, it is worked on again: for work that looks at how things stand.
    #[must_use]
    pub const fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// Queues it in the tenant's transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn enqueue(self, tx: &mut TenantTx) -> Result<(), Error> {
        let (id, now) = (tx.ctx().clock.new_uuid(), tx.now());
        sqlx::query("SELECT rapport.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(self.queue)
            .bind(&self.key)
            .bind(id)
            .bind(self.event_id)
            .bind(&self.resource)
            .bind(self.record_id)
            .bind(&self.payload)
            .bind(now)
            .bind(self.again)
            .execute(tx.conn().await?)
            .await
            .map(drop)
            .map_err(database)
    }

    /// Has it queued at a time, at most a second later. A timer that was set under this key before is set anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn at(self, tx: &mut TenantTx, due: Instant) -> Result<(), Error> {
        let id = tx.ctx().clock.new_uuid();
        sqlx::query("SELECT rapport.set_timer($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(self.queue)
            .bind(&self.key)
            .bind(id)
            .bind(self.event_id)
            .bind(&self.resource)
            .bind(self.record_id)
            .bind(&self.payload)
            .bind(due)
            .execute(tx.conn().await?)
            .await
            .map(drop)
            .map_err(database)
    }
}

/// Takes a timer back; false when it has fired or was never set.
///
/// # Errors
/// When the database fails.
pub async fn cancel_timer(tx: &mut TenantTx, queue: &str, key: &str) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT rapport.cancel_timer($1, $2)")
        .bind(queue)
        .bind(key)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)
}

/// A piece of work in hand.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Job {
    /// The queue.
    pub queue: String,
    /// The tenant.
    pub tenant_id: Uuid,
    /// What it is the same work by.
    pub key: String,
    /// What its effects elsewhere are known by, however often it is tried.
    pub id: Uuid,
    /// The event that it follows from.
    pub event_id: Option<Uuid>,
    /// The resource of the record that it is about; may be empty.
    pub resource: String,
    /// The record that it is about.
    pub record_id: Option<Uuid>,
    /// What it takes to do it.
    pub payload: Value,
    /// How often it failed before.
    pub failures: i64,
    /// How it failed last.
    pub problem: String,
    /// When it was first to be done.
    pub ready_time: Instant,
    holder: Uuid,
}

impl Job {
    /// What it takes to do it.
    ///
    /// # Errors
    /// When another version queued something else.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_value(self.payload.clone()).map_err(Error::internal)
    }

    /// Ends it in the transaction of its effects.
    ///
    /// # Errors
    /// `Conflict` when somebody else works on it by now: then nothing of this transaction may stay.
    pub async fn finish(&self, tx: &mut TenantTx) -> Result<(), Error> {
        let ours: bool = sqlx::query_scalar("SELECT rapport.finish_work($1, $2, $3)")
            .bind(&self.queue)
            .bind(&self.key)
            .bind(self.holder)
            .fetch_one(tx.conn().await?)
            .await
            .map_err(database)?;
        if ours { Ok(()) } else { Err(Error::Conflict) }
    }
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is not time yet: it is looked at again then, and has not failed.
    Later(Instant),
    /// It failed, and another time it may not: it is tried again after a pause.
    Failed(String),
    /// It will fail each time: it is parked, and a person will see this text.
    Park(String),
}

/// How often and for how long work is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// The pause after the first failure; it doubles with each that follows,
    pub first: Duration,
    /// up to this, give or take a fifth by chance.
    pub longest: Duration,
    /// Work that still fails so long after it was first to be done is parked.
    pub most: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(600),
            most: Duration::from_hours(24),
        }
    }
}

pub(crate) type Do = dyn for<'a> Fn(&'a Ctx, &'a Job) -> BoxFuture<'a, Result<Outcome, Error>> + Send + Sync;

#[derive(Clone)]
struct Handler {
    patience: Patience,
    handle: Arc<Do>,
}

/// The queues of a service, and who does their work.
#[derive(Clone)]
pub struct Queues {
    service: String,
    db: Db,
    clock: Clock,
    handlers: BTreeMap<&'static str, Handler>,
    /// Jobs that this process works on at a time.
    pub workers: usize,
    /// Those of one tenant among them.
    pub workers_of_one: usize,
    /// How long a job is its worker's without a sign of life.
    pub lease: Duration,
    /// Wakes a worker of this process: there is something to do.
    pub ready: Arc<Notify>,
    /// For tests: a promise to break.
    pub sabotage: Sabotage,
}

/// A promise of queues to break. Only for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// The oldest work comes first, whoever's it is.
    FirstInFirstOut,
    /// Nobody looks whether a job is still theirs when they end it.
    NoFence,
}

impl Queues {
    /// Those of `service`, which has none yet.
    pub fn new(service: &str, db: Db, clock: Clock) -> Self {
        Self {
            service: service.to_owned(),
            db,
            clock,
            handlers: BTreeMap::new(),
            workers: 16,
            workers_of_one: 8,
            lease: Duration::from_secs(30),
            ready: Arc::default(),
            sabotage: Sabotage::None,
        }
    }

    /// Work of this queue is done so.
    #[must_use]
    pub fn on(
        mut self,
        queue: &'static str,
        patience: Patience,
        handle: impl for<'a> Fn(&'a Ctx, &'a Job) -> BoxFuture<'a, Result<Outcome, Error>> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(queue, Handler { patience, handle: Arc::new(handle) });
        self
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues")
            .field("service", &self.service)
            .field("queues", &self.handlers.keys())
            .finish()
    }
}
