//! What happened to a record: the log is the audit trail.
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use rapport_kernel::{Ctx, Error};
use rapport_proto::events::v1 as pb;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{
    Feed,
    encode::{encode, note_read},
    record::{Records, at, json},
};
use crate::log;

/// Fields that say which state a record is in, not what it is.
const BOOKKEEPING: [&str; 4] = ["id", "etag", "create_time", "update_time"];

impl Feed {
    /// A page of a record's history, the newest first.
    ///
    /// # Errors
    /// `NotFound` when there is no such record, or the caller may not see it.
    pub(super) async fn history(
        &self,
        ctx: &Ctx,
        r: &pb::ListRecordHistoryRequest,
        most: usize,
    ) -> Result<pb::ListRecordHistoryResponse, Error> {
        let record: Uuid = r.record_id.parse().map_err(|_| Error::invalid("record_id", "is not a UUID"))?;
        if self.audience.kind(&r.resource).is_none() {
            let known = self.audience.resources().join("`, `");
            return Err(Error::invalid("resource", format!("is none of this service's: `{known}`")));
        }
        let not_found = || Error::not_found(r.resource.clone(), record);
        let before = match r.page_token.as_str() {
            "" => i64::MAX,
            token => read_token(token, record).ok_or_else(|| {
                Error::invalid("page_token", "does not belong to this record; begin again without it")
            })?,
        };
        let mut tx = self.db.platform().await?;
        let which = (ctx.tenant.uuid(), r.resource.as_str(), record);
        let mut lines = log::read_record(tx.conn()?, which, before, most + 1).await?;
        tx.commit().await?;
        let Some(first) = lines.first() else {
            return if before < i64::MAX {
                Ok(pb::ListRecordHistoryResponse::default())
            } else {
                Err(not_found())
            };
        };
        if self.audience.is_scoped(ctx, first) {
            let mut tx = self.db.begin(ctx).await?;
            let visible = self.audience.visible(&mut tx, &r.resource, &[record]).await?;
            tx.finish().await?;
            if visible.is_some_and(|visible| !visible.contains(&record)) {
                return Err(not_found());
            }
        }
        let more = lines.len() > most;
        lines.truncate(most);
        let next_page_token = match lines.last() {
            Some(last) if more => write_token(last.tenant_number, record),
            _ => String::new(),
        };
        let mut entries = Vec::new();
        let mut any = false;
        for line in lines.iter().filter(|line| self.audience.hears(ctx, line)) {
            any = true;
            if let Some(event) = encode(&self.audience, ctx, line)? {
                note_read(&self.audience, ctx, line);
                let changes = changes(&event)?;
                entries.push(pb::HistoryEntry { event: Some(event), changes });
            }
        }
        if any { Ok(pb::ListRecordHistoryResponse { entries, next_page_token }) } else { Err(not_found()) }
    }
}

/// What changed, read off the event: the record that it holds, and what of it was before.
fn changes(event: &pb::Event) -> Result<Vec<pb::FieldChange>, Error> {
    let Records { before, after } = Records::of(event)?;
    let Some(after) = after else { return Ok(Vec::new()) };
    let (before, after) = (before.map(|before| json(&before, false)).transpose()?, json(&after, false)?);
    let is_new = event.record_version == 1 && before.is_none();
    let paths = if is_new { set_paths(&after) } else { event.changed_paths.clone() };
    let value = |record: Option<&Json>, path: &str| record.and_then(|record| at(record, path)).map(to_value);
    Ok(paths
        .into_iter()
        .map(|path| pb::FieldChange {
            before: value(before.as_ref(), &path),
            after: value(Some(&after), &path),
            path,
        })
        .collect())
}

/// The fields that a new record has; custom ones by their keys.
fn set_paths(record: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    for (name, value) in record.as_object().into_iter().flatten() {
        match value {
            Json::Object(attributes) if name == "attributes" => {
                paths.extend(attributes.keys().map(|key| format!("attributes.{key}")));
            }
            _ if BOOKKEEPING.contains(&name.as_str()) => {}
            _ => paths.push(name.clone()),
        }
    }
    paths
}

fn to_value(json: &Json) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(to_value).collect() })
        }
        Json::Object(object) => Kind::StructValue(to_struct(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// JSON as the contract gives it out.
pub(crate) fn to_struct(object: &Map<String, Json>) -> prost_types::Struct {
    prost_types::Struct {
        fields: object.iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
    }
}

/// Where a page ended: the number, and of which record.
fn write_token(number: i64, record: Uuid) -> String {
    B64.encode(format!("{number} {}", record.simple()))
}

fn read_token(token: &str, record: Uuid) -> Option<i64> {
    let text = String::from_utf8(B64.decode(token).ok()?).ok()?;
    let (number, of) = text.split_once(' ')?;
    (of == record.simple().to_string()).then(|| number.parse().ok()).flatten()
}
