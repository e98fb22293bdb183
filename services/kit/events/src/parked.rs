//! What is stuck: events that a handler could not work off, those of the same record that wait behind them, and work that
//! failed too often. People see them with the reason, have them tried again, or drop them.
mod api;
mod replay;

use rapport_filter::{Field, Kind};
use rapport_kernel::{Ctx, Error, Instant};
use rapport_proto::events::v1 as pb;
use rapport_store::{
    Db, Reaction, Resource, TenantTx, database, diff, hex_text, resource::column, time::to_proto,
};
use serde::{Serialize, Serializer};
use sqlx::FromRow;
use uuid::Uuid;

pub(crate) use replay::{RETRY, Replays, try_later};

/// A handler with something parked of a tenant's record: later events of it wait behind that.
pub(crate) type Blocked = (String, Uuid, Uuid);

/// A transaction that begins with what is parked of these tenants' records, and keeps others from parking more behind it.
/// `enters` says where its first effects are written.
pub(crate) async fn begin_with_blocked<C: FromIterator<Blocked>>(
    db: &Db,
    producer: &str,
    records: &[(Uuid, Uuid)],
    enters: Option<&Ctx>,
) -> Result<(Reaction, C), Error> {
    let ids = |id: fn(&(Uuid, Uuid)) -> Uuid| {
        let ids: Vec<_> = records.iter().map(|record| id(record).to_string()).collect();
        ids.join(",")
    };
    let look = format!(
        "SELECT handler, tenant_id, record_id FROM rapport.parked({}, '{{{}}}', '{{{}}}')",
        hex_text(producer),
        ids(|(tenant, _)| *tenant),
        ids(|(_, record)| *record),
    );
    let (reaction, rows) = db.begin_reaction_with(&look, enters).await?;
    let blocked = rows.iter().map(Blocked::from_row).collect::<Result<_, _>>().map_err(database)?;
    Ok((reaction, blocked))
}

/// An event that a handler could not work off, or work that failed too often.
#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub struct ParkedItem {
    /// Its id.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
    /// What it is: `event` or `work`.
    pub kind: String,
    /// The service whose event it is; empty for work.
    pub producer: String,
    /// The handler of the event, or the queue of the work.
    pub handler: String,
    /// The event, or the one that the work follows from.
    pub event_id: Uuid,
    /// The type of the event, or the key of the work.
    pub r#type: String,
    /// The resource of the record that it is about.
    pub resource: String,
    /// The record that it is about.
    pub record_id: Uuid,
    /// The record's version after the event.
    pub record_version: i64,
    /// The event's partition.
    pub part: i16,
    /// The event's number in its partition.
    pub part_number: i64,
    /// Where it stands: `parked`, `behind`, `done`, `replayed` or `discarded`.
    pub state: String,
    /// Why it is parked, in a word.
    pub reason: String,
    /// Why it is parked, in words.
    pub problem: String,
    /// How often it was tried.
    pub attempts: i64,
    /// The event as the log had it, or what the work takes.
    #[serde(serialize_with = "hex")]
    pub(crate) line: Vec<u8>,
    /// When the event happened, or the work was first to be done.
    pub event_time: Instant,
    /// When it was parked.
    pub create_time: Instant,
    /// When it last changed.
    pub update_time: Instant,
}

/// Bytes as PostgreSQL reads them from a text.
fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    serializer.serialize_str(&text)
}

impl Resource for ParkedItem {
    const NAME: &'static str = "parked_item";
    const KIND: &'static str = "events.parked_item";
    const TABLE: &'static str = "parked_items";
    const COLUMNS: &'static str = "id, version, kind, producer, handler, event_id, type, resource, record_id, record_version, \
                                   part, part_number, state, reason, problem, attempts, line, event_time, create_time, update_time";
    const READ: &'static str = "events.parked_items.read";

    fn fields() -> Vec<Field> {
        vec![
            column("id", Kind::Id).sortable(),
            column("kind", Kind::choice(["event", "work"])),
            column("producer", Kind::Text),
            column("handler", Kind::Text),
            column("event_id", Kind::Id),
            column("type", Kind::Text),
            column("resource", Kind::Text),
            column("record_id", Kind::Id),
            column("state", Kind::choice(["parked", "behind", "done", "replayed", "discarded"])),
            column("reason", Kind::Text),
            column("event_time", Kind::Instant),
            column("create_time", Kind::Instant).sortable(),
        ]
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
}

impl ParkedItem {
    /// Parks it, and tells so.
    pub(crate) fn create(self, tx: &mut TenantTx) -> Result<(), Error> {
        tx.insert(&self)?;
        tx.emit(&self, &pb::ParkedItemCreated { parked_item: Some(self.clone().into()) })
    }

    /// Changes it, and tells so.
    pub(crate) fn change(&self, tx: &mut TenantTx, change: impl FnOnce(&mut Self)) -> Result<Self, Error> {
        let mut after = Self { version: self.version + 1, update_time: tx.now(), ..self.clone() };
        change(&mut after);
        tx.update(self, &after)?;
        let (before, now) = (pb::ParkedItem::from(self.clone()), pb::ParkedItem::from(after.clone()));
        let changed = diff(&before, &now);
        let event = pb::ParkedItemUpdated {
            parked_item: Some(now),
            before: Some(changed.before),
            changed_paths: changed.paths.clone(),
        };
        tx.emit_changed(&after, &event, &changed.paths)?;
        Ok(after)
    }

    /// Whether it still waits for something.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.state.as_str(), "parked" | "behind")
    }
}

impl From<ParkedItem> for pb::ParkedItem {
    fn from(item: ParkedItem) -> Self {
        let kind = match item.kind.as_str() {
            "work" => pb::ParkedItemKind::Work,
            _ => pb::ParkedItemKind::Event,
        };
        let state = match item.state.as_str() {
            "behind" => pb::ParkedItemState::Behind,
            "done" => pb::ParkedItemState::Done,
            "replayed" => pb::ParkedItemState::Replayed,
            "discarded" => pb::ParkedItemState::Discarded,
            _ => pb::ParkedItemState::Parked,
        };
        Self {
            id: item.id.to_string(),
            etag: item.version.to_string(),
            kind: kind.into(),
            state: state.into(),
            handler: item.handler,
            producer: item.producer,
            r#type: item.r#type,
            event_id: item.event_id.to_string(),
            resource: item.resource,
            record_id: item.record_id.to_string(),
            reason: item.reason,
            problem: item.problem,
            attempts: item.attempts,
            event_time: Some(to_proto(item.event_time)),
            create_time: Some(to_proto(item.create_time)),
            update_time: Some(to_proto(item.update_time)),
        }
    }
}
