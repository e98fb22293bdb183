//! A resource to test with: a text that belongs to a tenant.
use rapport_events::{Event, Reactions, Verdict};
use rapport_filter::{Field, Kind};
use rapport_kernel::{Ctx, Error};
use rapport_proto::customer::v1 as pb;
use rapport_store::{Db, Resource, TenantTx, database, resource::column};
use serde::Serialize;
use sqlx::{Executor as _, FromRow};
use uuid::Uuid;

pub(crate) const MIGRATION: &str = "
CREATE TABLE notes (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  text text NOT NULL,
  CONSTRAINT notes_id PRIMARY KEY (tenant_id, id)
);
SELECT rapport.protect('notes');
-- What was heard of notes elsewhere, each time that it was.
CREATE TABLE heard (
  tenant_id uuid NOT NULL,
  n bigint GENERATED ALWAYS AS IDENTITY,
  note_id uuid NOT NULL,
  version bigint NOT NULL,
  text text NOT NULL,
  CONSTRAINT heard_n PRIMARY KEY (tenant_id, n)
);
SELECT rapport.protect('heard');
GRANT USAGE ON SEQUENCE heard_n_seq TO rapport_service;
-- Copies of notes elsewhere.
CREATE TABLE copied_notes (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  deleted boolean NOT NULL,
  text text NOT NULL,
  CONSTRAINT copied_notes_id PRIMARY KEY (tenant_id, id)
);
SELECT rapport.protect('copied_notes');
";

#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub(crate) struct Note {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) text: String,
}

impl Note {
    pub(crate) fn new(ctx: &Ctx, text: &str) -> Self {
        Self { id: ctx.clock.new_uuid(), version: 1, text: text.into() }
    }

    /// As events tell it: the contract has no notes.
    pub(crate) fn told(&self) -> pb::Customer {
        pb::Customer { id: self.id.to_string(), display_name: self.text.clone(), ..pb::Customer::default() }
    }

    /// The event of its last change.
    fn event(&self) -> pb::CustomerUpdated {
        pb::CustomerUpdated { customer: Some(self.told()), ..pb::CustomerUpdated::default() }
    }
}

impl Resource for Note {
    const NAME: &'static str = "note";
    const KIND: &'static str = "test.note";
    const TABLE: &'static str = "notes";
    const COLUMNS: &'static str = "id, version, text";
    const OWNER: Option<&'static str> = None;
    const READ: &'static str = "test.notes.read";

    fn fields() -> Vec<Field> {
        vec![column("id", Kind::Id).sortable()]
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
}

/// What another service does when it hears of notes: it writes down what it heard.
pub(crate) fn reactions(producer: &str) -> Reactions {
    Reactions::to(producer)
        .on::<pb::CustomerUpdated>("write-down", |tx, event| Box::pin(write_down(tx, event)))
        .on::<pb::CustomerDeleted>("write-down", |tx, event| Box::pin(write(tx, event, "deleted")))
}

async fn write_down(tx: &mut TenantTx, event: &Event<pb::CustomerUpdated>) -> Result<Verdict, Error> {
    let text = &event.customer.as_ref().unwrap().display_name;
    let healed = "SELECT EXISTS (SELECT FROM heard WHERE tenant_id = $1 AND text = 'healed')";
    let tenant = tx.tenant();
    let healed: bool =
        sqlx::query_scalar(healed).bind(tenant).fetch_one(tx.conn().await?).await.map_err(database)?;
    match text.as_str() {
        "park" if !healed => return Ok(Verdict::Park("this one is parked".into())),
        "ail" if !healed => return Err(Error::internal("this one ails")),
        "panic" => panic!("this one panics"),
        "slow" => {
            let slow = "SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(60)";
            tx.conn().await?.execute(slow).await.map_err(database)?;
        }
        _ => {}
    }
    write(tx, event, text).await
}

async fn write<E>(tx: &mut TenantTx, event: &Event<E>, text: &str) -> Result<Verdict, Error> {
    let tenant = tx.tenant();
    sqlx::query("INSERT INTO heard (tenant_id, note_id, version, text) VALUES ($1, $2, $3, $4)")
        .bind(tenant)
        .bind(event.line().record_id)
        .bind(event.line().version)
        .bind(text)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    if text == "fail" {
        return Err(Error::internal("this one fails after it wrote something"));
    }
    Ok(Verdict::Done)
}

/// Writes a note in a transaction, with its event.
pub(crate) fn insert(tx: &mut TenantTx, note: &Note) {
    tx.insert(note).unwrap();
    tx.emit(note, &note.event()).unwrap();
}

/// Makes notes and commits.
pub(crate) async fn create(db: &Db, ctx: &Ctx, texts: &[&str]) -> Vec<Note> {
    let mut tx = db.begin(ctx).await.unwrap();
    let notes: Vec<_> = texts.iter().map(|text| Note::new(ctx, text)).collect();
    notes.iter().for_each(|note| insert(&mut tx, note));
    tx.finish().await.unwrap();
    notes
}

/// Changes a note; the transaction stays open.
pub(crate) async fn change(tx: &mut TenantTx, id: Uuid, text: &str) -> Note {
    let before: Note = tx.get_for_update(id).await.unwrap();
    let after = Note { version: before.version + 1, text: text.into(), ..before.clone() };
    tx.update(&before, &after).unwrap();
    tx.emit(&after, &after.event()).unwrap();
    tx.flush().await.unwrap();
    after
}

/// Deletes a note and commits.
pub(crate) async fn delete(db: &Db, ctx: &Ctx, id: Uuid) {
    let mut tx = db.begin(ctx).await.unwrap();
    let before: Note = tx.get_for_update(id).await.unwrap();
    sqlx::query("DELETE FROM notes WHERE tenant_id = $1 AND id = $2")
        .bind(tx.tenant())
        .bind(id)
        .execute(tx.conn().await.unwrap())
        .await
        .unwrap();
    let gone = Note { version: before.version + 1, ..before };
    tx.emit(&gone, &pb::CustomerDeleted { customer: Some(gone.told()) }).unwrap();
    tx.finish().await.unwrap();
}
