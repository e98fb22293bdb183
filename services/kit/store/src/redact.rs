//! Leaving out what the caller's roles may not read.
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MapKey, Value};
use rapport_kernel::Ctx;

use crate::mask::dynamic;

/// The message without the fields of `kind` that are hidden from the caller. Costs nothing where nothing is hidden. A message
/// that is not of the contract comes out empty: it cannot be known what is in it.
pub fn redact<M: Message + Name + Default>(ctx: &Ctx, kind: &str, message: M) -> M {
    let Some(hidden) = ctx.field_rights.hidden.get(kind) else { return message };
    let Some(mut open) = dynamic(&message) else { return M::default() };
    for field in hidden {
        match field.strip_prefix("attributes.") {
            Some(key) => clear_attribute(&mut open, key),
            None => open.clear_field_by_name(field),
        }
    }
    open.transcode_to().unwrap_or_default()
}

fn clear_attribute(message: &mut DynamicMessage, key: &str) {
    if !message.has_field_by_name("attributes") {
        return;
    }
    let attributes = message.get_field_by_name_mut("attributes").and_then(Value::as_message_mut);
    let fields = attributes.and_then(|attributes| attributes.get_field_by_name_mut("fields"));
    if let Some(Value::Map(map)) = fields {
        map.remove(&MapKey::String(key.to_owned()));
    }
}
