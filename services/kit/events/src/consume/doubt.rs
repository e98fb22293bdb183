//! Messages of the bus that are not believed: they are set aside, where an operator finds them with the reason.
use async_nats::HeaderMap;
use rapport_kernel::Error;
use rapport_store::database;
use serde_json::json;

use super::drive::Consumer;
use crate::bus::Message;

/// Bytes of a message that are kept, for people to look at.
const KEPT: usize = 64 << 10;

/// A message that is not believed.
pub(super) struct Doubtful {
    subject: String,
    headers: serde_json::Value,
    payload: Vec<u8>,
    reason: String,
}

impl Doubtful {
    pub(super) fn of(message: &async_nats::Message, reason: String) -> Self {
        let headers = message.headers.iter().flat_map(HeaderMap::iter).map(|(name, values)| {
            (name.to_string(), values.iter().map(ToString::to_string).collect::<Vec<_>>().into())
        });
        Self {
            subject: message.subject.to_string(),
            headers: serde_json::Value::Object(headers.collect()),
            payload: message.payload.iter().take(KEPT).copied().collect(),
            reason,
        }
    }

    pub(super) fn read(producer: &str, message: &Message, reason: String) -> Self {
        let line = &message.line;
        Self {
            subject: format!("{producer}.{:02}.{}", line.part, line.subject),
            headers: json!({
                "epoch": message.epoch, "event_id": line.event_id, "tenant_id": line.tenant_id, "type": line.r#type,
                "part_number": line.part_number, "record_id": line.record_id
            }),
            payload: line.payload.iter().flatten().take(KEPT).copied().collect(),
            reason,
        }
    }
}

impl Consumer {
    /// Sets a message aside.
    pub(super) async fn set_aside(&self, doubtful: &Doubtful) -> Result<(), Error> {
        let producer = self.reactions.producer();
        tracing::warn!(
            service = self.service,
            producer,
            reason = doubtful.reason,
            "a message of the bus is set aside"
        );
        let mut tx = self.db.platform().await?;
        sqlx::query(
            "INSERT INTO platform.set_aside (id, producer, subject, headers, payload, reason, create_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(self.clock.new_uuid())
        .bind(producer)
        .bind(&doubtful.subject)
        .bind(&doubtful.headers)
        .bind(&doubtful.payload)
        .bind(&doubtful.reason)
        .bind(self.clock.now())
        .execute(tx.conn()?)
        .await
        .map_err(database)?;
        tx.commit().await
    }
}
