//! A tenant's transaction: it reads under the caller's scope, collects what changes, and writes it in one statement.
mod apart;

use std::{collections::HashMap, sync::Arc};

use prost::Message;
use rapport_filter::Catalogue;
use rapport_kernel::{Ctx, Error, Instant};
use rapport_proto::Event;
use serde::Serialize;
use sqlx::PgConnection;
use tonic::Response;
use uuid::Uuid;

use crate::{
    Db, ExternalId, OpenTx, Resource,
    error::database,
    fields::{Definition, TenantFields},
    outbox::Outbox,
    read::Sight,
    side,
    writes::{Envelope, Side, Writes},
};
use apart::Apart;

/// A transaction that only sees the rows of one tenant.
#[derive(Debug)]
pub struct TenantTx {
    db: Db,
    /// None before it began and after it ended.
    tx: Option<OpenTx>,
    ctx: Ctx,
    fields: Arc<TenantFields>,
    writes: Writes,
    outbox: Outbox,
    /// Keys in other systems that were looked up, by resource, with the record that had them.
    pub(crate) known_keys: HashMap<&'static str, HashMap<ExternalId, Option<Uuid>>>,
    /// The resources that the caller sees all of, as the policies read them.
    seen: String,
    /// Whether the policies were told more than that, for a record that leaves the caller's sight.
    widened: bool,
    /// Whether collected writes are on their way: when this stays, they were lost.
    writing: bool,
    /// Whether it wrote events.
    emitted: bool,
    /// For tests: what is written elsewhere, to break a promise.
    apart: Option<Apart>,
}

impl TenantTx {
    pub(crate) fn new(
        db: &Db,
        tx: Option<OpenTx>,
        ctx: Ctx,
        fields: Arc<TenantFields>,
        seen: String,
    ) -> Self {
        let fields = fields.seen_by(&ctx.field_rights).map_or(fields, Arc::new);
        let (writes, outbox) = (Writes::default(), Outbox::default());
        let apart = Apart::of(db);
        Self {
            db: db.clone(),
            tx,
            ctx,
            fields,
            writes,
            outbox,
            known_keys: HashMap::new(),
            seen,
            widened: false,
            writing: false,
            emitted: false,
            apart,
        }
    }

    /// The context of the call.
    pub const fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// The tenant, as statements name it.
    pub const fn tenant(&self) -> Uuid {
        self.ctx.tenant.uuid()
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.ctx.now()
    }

    /// The connection, for statements of the service's own, after everything collected so far was written.
    pub async fn conn(&mut self) -> Result<&mut PgConnection, Error> {
        self.flush().await?;
        if self.widened {
            self.tell_seen(&self.seen.clone()).await?;
            self.widened = false;
        }
        self.open().await
    }

    /// Goes on for another event of the same tenant: what was collected so far is written as following from the last one.
    pub async fn follow(&mut self, ctx: Ctx) -> Result<(), Error> {
        self.flush().await?;
        self.ctx = ctx;
        Ok(())
    }

    /// Whether it wrote events.
    pub(crate) const fn has_emitted(&self) -> bool {
        self.emitted
    }

    pub(crate) const fn db(&self) -> &Db {
        &self.db
    }

    /// What is left of it when it is part of another one.
    pub(crate) fn into_open(mut self) -> Option<OpenTx> {
        self.tx.take()
    }

    /// Whether it has begun in PostgreSQL, and has not ended.
    pub(crate) const fn has_begun(&self) -> bool {
        self.tx.is_some()
    }

    /// The connection; begins now what begins late.
    async fn open(&mut self) -> Result<&mut PgConnection, Error> {
        let tx = match self.tx.take() {
            Some(tx) => tx,
            None => {
                match self.db.enter(&self.ctx, &self.seen, self.fields.version).await.map_err(database)? {
                    (_, Some(first_answer)) => return Err(Error::Repeated(first_answer)),
                    (tx, None) => tx,
                }
            }
        };
        self.tx.insert(tx).conn()
    }

    /// The version of the tenant's custom fields, which grows with each change of them.
    pub fn fields_version(&self) -> i64 {
        self.fields.version
    }

    /// The custom fields of a resource that are in use, each with what this caller may do with it.
    pub fn custom_fields<R: Resource>(&self) -> &[Definition] {
        self.fields.of(R::NAME)
    }

    /// Says that this transaction changes custom fields: from here on it knows them by their new version.
    pub(crate) async fn change_fields(&mut self) -> Result<(), Error> {
        let version = sqlx::query_scalar("SELECT rapport.change_fields()")
            .fetch_one(self.open().await?)
            .await
            .map_err(database)?;
        self.fields = Arc::new(self.fields.at(version));
        Ok(())
    }

    /// The fields of a resource that this caller may use, compiled and custom.
    pub fn catalogue<R: Resource>(&self) -> Catalogue {
        crate::catalogue::of::<R>(&self.ctx, &self.fields)
    }

    /// Collects a new record. It is written with the next read, or at the commit.
    pub fn insert<R: Resource>(&mut self, record: &R) -> Result<(), Error> {
        self.writes.insert(record)?;
        self.forget_keys(record);
        side::follow(&mut self.writes, self.fields.of(R::NAME), None, record)
    }

    /// Collects the change of a record that was read for update in this transaction.
    pub fn update<R: Resource>(&mut self, before: &R, after: &R) -> Result<(), Error> {
        self.writes.update(after)?;
        self.forget_keys(before);
        self.forget_keys(after);
        let moves = (before.owner(), before.unit()) != (after.owner(), after.unit());
        if moves && self.sight::<R>()? != Sight::All {
            self.writes.leaves_sight(R::NAME);
        }
        side::follow(&mut self.writes, self.fields.of(R::NAME), Some(before), after)
    }

    /// What was known of a record's keys in other systems changes with it.
    fn forget_keys<R: Resource>(&mut self, record: &R) {
        if let Some(known) = self.known_keys.get_mut(R::NAME) {
            for id in record.external_ids() {
                known.remove(id);
            }
        }
    }

    /// Collects a row of a side table, written as JSON under its columns' names.
    pub fn side_insert(&mut self, side: Side, row: &impl Serialize) -> Result<(), Error> {
        self.writes.side_insert(side, row)
    }

    /// Collects the deletion of the side row that has the key columns of `row`.
    pub fn side_delete(&mut self, side: Side, row: &impl Serialize) -> Result<(), Error> {
        self.writes.side_delete(side, row)
    }

    /// Collects an event about `record`; it leaves the service only if this transaction commits.
    pub fn emit<R: Resource, E: Event>(&mut self, record: &R, event: &E) -> Result<(), Error> {
        self.emit_changed(record, event, &[])
    }

    /// The same, for a change: `paths` names the fields that changed.
    pub fn emit_changed<R: Resource, E: Event>(
        &mut self,
        record: &R,
        event: &E,
        paths: &[String],
    ) -> Result<(), Error> {
        self.outbox.push(&self.ctx, R::NAME, record.id(), record.version(), event, paths)
    }

    /// Writes what was collected, in one statement.
    pub async fn flush(&mut self) -> Result<(), Error> {
        if self.writes.is_empty() && self.outbox.is_empty() {
            return Ok(());
        }
        self.write(None).await
    }

    /// Writes what was collected, keeps `answer` under the caller's request id, commits, and gives the answer back.
    pub async fn commit<M: Message>(mut self, answer: M) -> Result<Response<M>, Error> {
        self.commit_in_place(&answer).await?;
        Ok(Response::new(answer))
    }

    /// The same; what only writes new records, and has not begun, is one statement.
    pub(crate) async fn commit_in_place<M: Message>(&mut self, answer: &M) -> Result<(), Error> {
        let answer = self.ctx.request_id.is_some().then(|| answer.encode_to_vec());
        if self.tx.is_none() && self.apart.is_none() && self.writes.only_new() {
            return self.write_at_once(answer).await;
        }
        match answer {
            Some(_) => self.write(answer).await?,
            None => self.flush().await?,
        }
        self.end().await
    }

    /// Writes what was collected and commits, where no one waits for an answer.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.flush().await?;
        self.end().await
    }

    async fn write(&mut self, mut answer: Option<Vec<u8>>) -> Result<(), Error> {
        self.refuse_lost()?;
        let writes = std::mem::take(&mut self.writes);
        let mut outbox = std::mem::take(&mut self.outbox);
        if let Some(apart) = &mut self.apart {
            apart.take(&mut outbox, &mut answer);
        }
        self.writing = true;
        if writes.leave_sight() {
            self.tell_seen(&writes.sight_for(&self.seen)).await?;
            self.widened = true;
        }
        self.open().await?;
        let begun = self.tx.as_mut().ok_or_else(|| Error::internal("the transaction is over"))?;
        let envelope = Envelope {
            ctx: &self.ctx,
            fields_version: self.fields.version,
            outbox: &outbox,
            answer,
            entry: None,
        };
        writes.execute(begun.conn()?, self.db.columns(), envelope).await?;
        (self.writing, self.emitted) = (false, self.emitted || !outbox.is_empty());
        Ok(())
    }

    /// Writes what was collected by a statement that is the whole transaction.
    async fn write_at_once(&mut self, answer: Option<Vec<u8>>) -> Result<(), Error> {
        self.refuse_lost()?;
        self.writing = true;
        let (writes, outbox) = (std::mem::take(&mut self.writes), std::mem::take(&mut self.outbox));
        let envelope = Envelope {
            ctx: &self.ctx,
            fields_version: self.fields.version,
            outbox: &outbox,
            answer,
            entry: Some(&self.seen),
        };
        let mut unbegun = self.db.unbegun().await?;
        let written = writes.execute(unbegun.conn()?, self.db.columns(), envelope).await;
        if written.is_ok() && !outbox.is_empty() {
            self.db.announce(self.ctx.tenant.uuid());
        }
        // Of the last two, who knows how they left the session.
        if !matches!(written, Err(Error::Unavailable(_) | Error::Internal(_))) {
            unbegun.release();
        }
        written
    }

    /// # Errors
    /// `Internal` when writes that were collected did not arrive: what is left may not be committed without them.
    fn refuse_lost(&self) -> Result<(), Error> {
        if self.writing {
            return Err(Error::internal(
                "a write of this transaction failed or was cut off, so nothing of it may stay",
            ));
        }
        Ok(())
    }

    /// Tells the policies which resources are seen whole.
    async fn tell_seen(&mut self, seen: &str) -> Result<(), Error> {
        sqlx::query("SELECT set_config('rapport.all', $1, true)")
            .bind(seen)
            .execute(self.open().await?)
            .await
            .map(drop)
            .map_err(database)
    }

    async fn end(&mut self) -> Result<(), Error> {
        self.end_here().await?;
        match self.apart.take() {
            Some(apart) => apart.write(&self.ctx).await,
            None => Ok(()),
        }
    }

    async fn end_here(&mut self) -> Result<(), Error> {
        self.refuse_lost()?;
        self.open().await?;
        if let Some(tx) = self.tx.take() {
            tx.commit().await?;
        }
        if std::mem::take(&mut self.emitted) {
            self.db.announce(self.ctx.tenant.uuid());
        }
        Ok(())
    }
}
