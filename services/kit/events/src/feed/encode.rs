//! Lines as those outside get them: without what the caller may not read.
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_types::Any;
use rapport_kernel::{Ctx, Error};
use rapport_proto::{POOL, events::v1 as pb};
use rapport_store::{mask::may_read, redact_inside, tells_of, time};

use super::Audience;
use crate::log::Line;

/// A line as this caller may know it; `None` when it says nothing but what is hidden from them.
pub(super) fn encode(audience: &Audience, ctx: &Ctx, line: &Line) -> Result<Option<pb::Event>, Error> {
    let mut changed_paths = line.changed_paths.clone();
    if let Some(kind) = audience.kind(&line.resource) {
        changed_paths.retain(|path| may_read(&ctx.field_rights, kind, path));
    }
    if changed_paths.is_empty() && !line.changed_paths.is_empty() {
        return Ok(None);
    }
    let data = line.payload.as_ref().map(|payload| seen(ctx, &line.r#type, payload)).transpose()?;
    Ok(Some(pb::Event {
        number: line.tenant_number,
        id: line.event_id.to_string(),
        subject: line.subject.clone(),
        record: audience.record(line),
        record_version: line.version,
        changed_paths,
        data: data.map(|value| Any { type_url: format!("type.googleapis.com/{}", line.r#type), value }),
        principal: line.principal.clone(),
        on_behalf_of: line.on_behalf_of.map(|id| format!("identity.user/{id}")).unwrap_or_default(),
        via: line.via.clone(),
        cause: line.cause.map(|id| id.to_string()).unwrap_or_default(),
        time: Some(time::to_proto(line.time)),
        trace: line.trace.clone().unwrap_or_default(),
    }))
}

/// Notes that this caller got a line, with whatever of its record is private.
pub(super) fn note_read(audience: &Audience, ctx: &Ctx, line: &Line) {
    if let Some(kind) = audience.kind(&line.resource)
        && line.payload.is_some()
        && tells_of(&line.r#type, kind)
    {
        ctx.note_read(kind);
    }
}

/// A payload without hidden fields. It stays as it was written where nothing is hidden, whatever later versions put in.
fn seen(ctx: &Ctx, r#type: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
    if ctx.field_rights.hidden.is_empty() {
        return Ok(payload.to_vec());
    }
    let mut message = open(r#type, payload)?;
    redact_inside(&ctx.field_rights, &mut message);
    Ok(message.encode_to_vec())
}

/// A payload by its descriptor.
pub(super) fn open(r#type: &str, payload: &[u8]) -> Result<DynamicMessage, Error> {
    let descriptor = POOL.get_message_by_name(r#type);
    let descriptor =
        descriptor.ok_or_else(|| Error::internal(format!("an event of the unknown type {}", r#type)))?;
    DynamicMessage::decode(descriptor, payload).map_err(Error::internal)
}
