//! What a change changed, read off the messages before and after, so that no resource spells out its fields again.
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage as _, Value};

use crate::mask::dynamic;

/// What changed between two states of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff<M> {
    /// The fields that differ, in the order of the message; custom ones as `attributes.<key>`.
    pub paths: Vec<String>,
    /// The fields that differ, as they were before; nothing else is set.
    pub before: M,
}

/// Fields that say which state it is, not what it is.
const BOOKKEEPING: [&str; 3] = ["id", "etag", "update_time"];

/// Compares two states of a record.
pub fn diff<M: Message + Name + Default>(before: &M, after: &M) -> Diff<M> {
    let (Some(old), Some(new)) = (dynamic(before), dynamic(after)) else {
        return Diff { paths: Vec::new(), before: M::default() };
    };
    let mut paths = Vec::new();
    let mut kept = DynamicMessage::new(old.descriptor());
    for field in old.descriptor().fields() {
        // A number that is not known is another thing than 0, though both read as 0.
        let same =
            old.has_field(&field) == new.has_field(&field) && old.get_field(&field) == new.get_field(&field);
        if BOOKKEEPING.contains(&field.name()) || same {
            continue;
        }
        if field.name() != "attributes" {
            paths.push(field.name().to_owned());
            if old.has_field(&field) {
                kept.set_field(&field, old.get_field(&field).into_owned());
            }
            continue;
        }
        let (old, new) = (attributes(&old), attributes(&new));
        let keys: std::collections::BTreeSet<_> =
            old.keys().chain(new.keys()).filter_map(MapKey::as_str).collect();
        let mut changed = std::collections::HashMap::new();
        for key in keys {
            let map_key = MapKey::String(key.to_owned());
            if old.get(&map_key) != new.get(&map_key) {
                paths.push(format!("attributes.{key}"));
                if let Some(value) = old.get(&map_key) {
                    changed.insert(map_key, value.clone());
                }
            }
        }
        if changed.is_empty() {
            continue;
        }
        if let Value::Message(kept) = kept.get_field_mut(&field) {
            kept.set_field_by_name("fields", Value::Map(changed));
        }
    }
    Diff { paths, before: kept.transcode_to().unwrap_or_default() }
}

/// The values of the custom fields of a record.
fn attributes(message: &DynamicMessage) -> std::collections::HashMap<MapKey, Value> {
    let attributes = message.get_field_by_name("attributes");
    let fields =
        attributes.as_deref().and_then(Value::as_message).and_then(|a| a.get_field_by_name("fields"));
    fields.as_deref().and_then(Value::as_map).cloned().unwrap_or_default()
}
