//! The ledger: one line for each event, trigger and step, also where nothing was done, so that everything can be explained.
mod api;

use rapport_filter::{Field, Kind};
use rapport_kernel::{Error, Instant};
use rapport_proto::events::v1 as pb;
use rapport_store::{Resource, TenantTx, database, resource::column, time::to_proto};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::FromRow;
use uuid::Uuid;

pub(crate) use api::Ledger;

/// What became of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerOutcome {
    /// It has not come to it yet.
    Waiting,
    /// It was done.
    Done,
    /// It did not have to be done.
    Skipped,
    /// It failed, and is tried again or was given up.
    Failed,
    /// It waits for somebody.
    Parked,
}

impl LedgerOutcome {
    const ALL: [Self; 5] = [Self::Waiting, Self::Done, Self::Skipped, Self::Failed, Self::Parked];

    /// The name in tables and filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Parked => "parked",
        }
    }
}

/// What is written about a trigger.
#[derive(Clone, Debug)]
pub struct Note<'n> {
    /// The event.
    pub event_id: Uuid,
    /// What was to start, e.g. `webhook/0190…`.
    pub trigger: &'n str,
    /// Which step of it; empty where there is but one.
    pub step: &'n str,
    /// What became of it.
    pub outcome: LedgerOutcome,
    /// Why it was not done, in a word.
    pub reason: &'n str,
    /// Why it was not done, in words.
    pub problem: &'n str,
    /// What else is known.
    pub detail: Map<String, Value>,
    /// The event's subject.
    pub subject: &'n str,
    /// The record, as it is named.
    pub record: &'n str,
    /// When the event happened.
    pub event_time: Instant,
}

impl Note<'_> {
    /// Writes it: the line of its event, trigger and step says this from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn write(&self, tx: &mut TenantTx) -> Result<(), Error> {
        let (tenant, now, id) = (tx.tenant(), tx.now(), tx.ctx().clock.new_uuid());
        metrics::counter!("rapport_ledger_total", "outcome" => self.outcome.as_str()).increment(1);
        sqlx::query(
            "INSERT INTO ledger_entries AS l (tenant_id, id, version, event_id, trigger, step, outcome, reason, problem, attempts,
               detail, subject, record, event_time, create_time, update_time)
             VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11, $12, $13, $13)
             ON CONFLICT (tenant_id, event_id, trigger, step) DO UPDATE SET version = l.version + 1, outcome = excluded.outcome,
               reason = excluded.reason, problem = excluded.problem, attempts = l.attempts + 1, detail = excluded.detail,
               update_time = excluded.update_time",
        )
        .bind(tenant)
        .bind(id)
        .bind(self.event_id)
        .bind(self.trigger)
        .bind(self.step)
        .bind(self.outcome.as_str())
        .bind(self.reason)
        .bind(self.problem)
        .bind(Value::Object(self.detail.clone()))
        .bind(self.subject)
        .bind(self.record)
        .bind(self.event_time)
        .bind(now)
        .execute(tx.conn().await?)
        .await
        .map(drop)
        .map_err(database)
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct LedgerEntry {
    id: Uuid,
    version: i64,
    event_id: Uuid,
    trigger: String,
    step: String,
    outcome: String,
    reason: String,
    problem: String,
    attempts: i64,
    detail: Value,
    subject: String,
    record: String,
    event_time: Instant,
    create_time: Instant,
    update_time: Instant,
}

impl Resource for LedgerEntry {
    const NAME: &'static str = "ledger_entry";
    const KIND: &'static str = "events.ledger_entry";
    const TABLE: &'static str = "ledger_entries";
    const COLUMNS: &'static str = "id, version, event_id, trigger, step, outcome, reason, problem, attempts, detail, subject, \
                                   record, event_time, create_time, update_time";
    const READ: &'static str = "events.ledger.read";

    fn fields() -> Vec<Field> {
        vec![
            column("id", Kind::Id).sortable(),
            column("event_id", Kind::Id),
            column("trigger", Kind::Text),
            column("step", Kind::Text),
            column("outcome", Kind::choice(LedgerOutcome::ALL.map(LedgerOutcome::as_str))),
            column("reason", Kind::Text),
            column("attempts", Kind::Number { scale: 0 }),
            column("subject", Kind::Text),
            column("record", Kind::Text),
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

impl From<LedgerEntry> for pb::LedgerEntry {
    fn from(entry: LedgerEntry) -> Self {
        let outcome = match entry.outcome.as_str() {
            "waiting" => pb::LedgerOutcome::Waiting,
            "done" => pb::LedgerOutcome::Done,
            "skipped" => pb::LedgerOutcome::Skipped,
            "parked" => pb::LedgerOutcome::Parked,
            _ => pb::LedgerOutcome::Failed,
        };
        let detail = entry.detail.as_object().map(crate::feed::to_struct);
        Self {
            id: entry.id.to_string(),
            event_id: entry.event_id.to_string(),
            trigger: entry.trigger,
            step: entry.step,
            outcome: outcome.into(),
            reason: entry.reason,
            problem: entry.problem,
            attempts: entry.attempts,
            detail,
            subject: entry.subject,
            record: entry.record,
            event_time: Some(to_proto(entry.event_time)),
            create_time: Some(to_proto(entry.create_time)),
            update_time: Some(to_proto(entry.update_time)),
        }
    }
}
