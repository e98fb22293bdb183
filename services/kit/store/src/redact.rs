//! Leaving out what the caller's roles may not read.
use std::{collections::BTreeMap, sync::LazyLock};

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use rapport_kernel::{Ctx, FieldRights};
use rapport_proto::POOL;

use crate::mask::{dynamic, may_read};

/// The kinds of records by the names of their messages: `rapport.customer.v1.Customer` is a `customer.customer`.
static KINDS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let Some(resource) = POOL.get_extension_by_name("rapport.options.v1.resource") else {
        return BTreeMap::new();
    };
    let kind = |message: MessageDescriptor| {
        let options = message.options();
        let resource = options.get_extension(&resource);
        let kind = resource.as_message()?.get_field_by_name("kind")?.as_str()?.to_owned();
        (!kind.is_empty()).then(|| (message.full_name().to_owned(), kind))
    };
    POOL.all_messages().filter_map(kind).collect()
});

/// The kind of record that a message is, if it is one.
pub fn kind_of(message: &DynamicMessage) -> Option<&'static str> {
    KINDS.get(message.descriptor().full_name()).map(String::as_str)
}

/// The message that records of this kind are told as. Every service has the kit's kinds (`*.field`) under its own name.
pub fn message_of(kind: &str) -> Option<MessageDescriptor> {
    let is_it = |known: &str| known == kind || known.strip_prefix("*.") == kind.strip_prefix("kit.");
    let (name, _) = KINDS.iter().find(|(_, known)| is_it(known))?;
    POOL.get_message_by_name(name)
}

/// The message without the fields of `kind` that are hidden from the caller, who is noted to have got what of the others is
/// private. Costs nothing where nothing is hidden from anybody. A message that is not of the contract comes out empty: it cannot
/// be known what is in it.
pub fn redact<M: Message + Name + Default>(ctx: &Ctx, kind: &str, message: M) -> M {
    ctx.note_read(kind);
    if !ctx.field_rights.hidden.contains_key(kind) {
        return message;
    }
    let Some(mut open) = dynamic(&message) else { return M::default() };
    clear(&ctx.field_rights, kind, &mut open);
    open.transcode_to().unwrap_or_default()
}

/// Whether messages of a type have records of this kind in them.
pub fn tells_of(r#type: &str, kind: &str) -> bool {
    let is_one = |field: prost_reflect::FieldDescriptor| match field.kind() {
        prost_reflect::Kind::Message(inner) => {
            KINDS.get(inner.full_name()).is_some_and(|known| known == kind)
        }
        _ => false,
    };
    POOL.get_message_by_name(r#type).is_some_and(|message| message.fields().any(is_one))
}

/// Leaves out the same of every record inside a message, and of the paths that it says have changed.
pub fn redact_inside(rights: &FieldRights, message: &mut DynamicMessage) {
    let mut kinds = Vec::new();
    let held: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in held {
        if let Value::Message(inner) = message.get_field_mut(&field) {
            match kind_of(inner) {
                Some(kind) => {
                    clear(rights, kind, inner);
                    kinds.push(kind);
                }
                None => redact_inside(rights, inner),
            }
        }
    }
    let paths = message.descriptor().get_field_by_name("changed_paths");
    if let Some(Value::List(paths)) = paths.as_ref().map(|paths| message.get_field_mut(paths)) {
        paths.retain(|path| {
            let path = path.as_str().unwrap_or_default();
            kinds.iter().all(|kind| may_read(rights, kind, path))
        });
    }
}

fn clear(rights: &FieldRights, kind: &str, message: &mut DynamicMessage) {
    for field in rights.hidden.get(kind).into_iter().flatten() {
        match field.strip_prefix("attributes.") {
            Some(key) => clear_attribute(message, key),
            None => message.clear_field_by_name(field),
        }
    }
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
