//! Sending one event: signed, through the egress door; and what the ledger says of it.
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use rapport_egress::{Failure, Request};
use rapport_kernel::{Ctx, Error, Instant};
use rapport_proto::{POOL, events::v1 as pb};
use rapport_store::TenantTx;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Webhook, Webhooks, sign};
use crate::{
    feed::Wanted,
    ledger::{LedgerOutcome, Note},
    log::Line,
};

/// Bytes of an answer that are noted.
const NOTED: usize = 1_000;

/// A webhook, ready to send.
pub(super) struct Sender {
    pub(super) webhook: Webhook,
    /// Under the rights of whoever made it.
    pub(super) ctx: Ctx,
    pub(super) wanted: Wanted,
    pub(super) secrets: Vec<Vec<u8>>,
}

/// What came of sending an event.
pub(super) enum Sent {
    Arrived(Map<String, Value>),
    Not { reason: &'static str, problem: String, detail: Map<String, Value>, gone: bool },
}

impl Webhooks {
    /// Sends an event once.
    pub(super) async fn send(&self, sender: &Sender, line: &Line, event: &pb::Event) -> Result<Sent, Error> {
        let Some(door) = &self.door else {
            return Ok(Sent::not("EGRESS_OFF", "webhooks are switched off in this installation".into()));
        };
        let (id, now) = (line.event_id.to_string(), self.clock.now().as_seconds());
        let body = body(event)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", sign::signatures(&sender.secrets, &id, now, &body)),
        ] {
            let value = HeaderValue::try_from(value).map_err(Error::internal)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let url = sender.webhook.url.clone();
        let answer = door.send(line.tenant_id, Request { method: Method::POST, url, headers, body }).await;
        Ok(match answer {
            Ok(answer) => {
                let text: String = String::from_utf8_lossy(&answer.body).chars().take(NOTED).collect();
                let mut detail = Map::new();
                detail.insert("status".into(), json!(answer.status.as_u16()));
                detail.insert("took_ms".into(), json!(answer.took.as_millis() as u64));
                detail.insert("answer".into(), json!(text));
                if answer.status.is_success() {
                    Sent::Arrived(detail)
                } else {
                    Sent::Not {
                        reason: "WEBHOOK_REFUSED",
                        problem: format!("the receiver answered {}", answer.status),
                        detail,
                        gone: answer.status == StatusCode::GONE,
                    }
                }
            }
            Err(Failure::Refused(refusal)) => Sent::not(refusal.rule().name(), refusal.to_string()),
            Err(failure) => Sent::not("WEBHOOK_UNREACHABLE", failure.to_string()),
        })
    }
}

impl Sent {
    fn not(reason: &'static str, problem: String) -> Self {
        Self::Not { reason, problem, detail: Map::new(), gone: false }
    }
}

/// What the ledger says of it.
pub(super) struct Noted {
    note: (Uuid, String, &'static str, LedgerOutcome),
    reason: &'static str,
    problem: String,
    detail: Map<String, Value>,
    subject: String,
    record: String,
    time: Instant,
}

impl Noted {
    pub(super) async fn write(&self, tx: &mut TenantTx) -> Result<(), Error> {
        let (event_id, trigger, step, outcome) = &self.note;
        Note {
            event_id: *event_id,
            trigger,
            step,
            outcome: *outcome,
            reason: self.reason,
            problem: &self.problem,
            detail: self.detail.clone(),
            subject: &self.subject,
            record: &self.record,
            event_time: self.time,
        }
        .write(tx)
        .await
    }
}

/// What the ledger says of an event that was sent.
pub(super) fn note(
    sender: &Sender,
    line: &Line,
    event: &pb::Event,
    step: &'static str,
    sent: &Sent,
) -> Noted {
    let (outcome, reason, problem, detail) = match sent {
        Sent::Arrived(detail) => (LedgerOutcome::Done, "", String::new(), detail.clone()),
        Sent::Not { reason, problem, detail, .. } => {
            (LedgerOutcome::Failed, *reason, problem.clone(), detail.clone())
        }
    };
    Noted {
        note: (line.event_id, sender.webhook.trigger(), step, outcome),
        reason,
        problem,
        detail,
        subject: line.subject.clone(),
        record: event.record.clone(),
        time: line.time,
    }
}

/// The body: what happened, when, and the event as REST shows it.
fn body(event: &pb::Event) -> Result<Bytes, Error> {
    let descriptor = POOL.get_message_by_name("rapport.events.v1.Event");
    let descriptor = descriptor.ok_or_else(|| Error::internal("the contract lacks events"))?;
    let open =
        DynamicMessage::decode(descriptor, event.encode_to_vec().as_slice()).map_err(Error::internal)?;
    let data = serde_json::to_value(&open).map_err(Error::internal)?;
    let body = json!({"type": event.subject, "timestamp": data.get("time"), "data": data});
    serde_json::to_vec(&body).map(Bytes::from).map_err(Error::internal)
}
