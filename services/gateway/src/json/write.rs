//! Message to JSON, straight into the serializer. Canonical: what has its default value is left out, except that a
//! message named `…Response` always shows its lists, so that an empty page is `[]` and not nothing.
use std::{collections::BTreeMap, sync::LazyLock};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};

use super::{Known, Names, mask_subject, rename};

/// The messages that details of errors are made of; the contract does not speak of them.
static DETAILS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap_or_default());

/// A message as JSON.
pub(crate) struct Json<'m>(pub(crate) &'m DynamicMessage);

/// One value as JSON: a field of a message.
pub(crate) struct ValueJson<'m> {
    /// The value.
    pub(crate) value: &'m Value,
    /// Its kind: that of the field.
    pub(crate) kind: &'m Kind,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let descriptor = message.descriptor();
        match Known::of(&descriptor) {
            Some(known) => well_known(message, known, serializer),
            None => {
                let mut object = serializer.serialize_map(None)?;
                fields(message, &mut object)?;
                object.end()
            }
        }
    }
}

fn fields<M: SerializeMap>(message: &DynamicMessage, object: &mut M) -> Result<(), M::Error> {
    let descriptor = message.descriptor();
    for (field, value) in message.fields() {
        let kind = field.kind();
        if let Kind::Message(of) = &kind
            && Known::of(of) == Some(Known::FieldMask)
        {
            object.serialize_entry(field.json_name(), &mask(value, message))?;
            continue;
        }
        object.serialize_entry(field.json_name(), &ValueJson { value, kind: &kind })?;
    }
    if descriptor.name().ends_with("Response") {
        for field in descriptor.fields().filter(|field| field.is_list() && !message.has_field(field)) {
            object.serialize_entry(field.json_name(), &[(); 0])?;
        }
    }
    Ok(())
}

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Value::F32(value) => serializer.serialize_str(not_finite(f64::from(*value))),
            Value::F64(value) => real(*value, serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.collect_str(&Base64Display::new(bytes, &STANDARD)),
            Value::EnumNumber(number) => {
                match self.kind.as_enum().and_then(|values| values.get_value(*number)) {
                    Some(value) => serializer.serialize_str(value.name()),
                    None => serializer.serialize_i32(*number),
                }
            }
            Value::Message(message) => Json(message).serialize(serializer),
            Value::List(items) => {
                serializer.collect_seq(items.iter().map(|value| Self { value, kind: self.kind }))
            }
            Value::Map(entries) => {
                let entry =
                    self.kind.as_message().ok_or_else(|| S::Error::custom("a map without entries"))?;
                let kind = entry.map_entry_value_field().kind();
                let sorted: BTreeMap<_, _> =
                    entries.iter().map(|(key, value)| (key_text(key), value)).collect();
                serializer
                    .collect_map(sorted.iter().map(|(key, value)| (key, ValueJson { value, kind: &kind })))
            }
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Whole numbers without a fraction: `3`, not `3.0`.
fn real<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        _ if !value.is_finite() => serializer.serialize_str(not_finite(value)),
        #[expect(clippy::cast_possible_truncation, reason = "the guard keeps it small and whole")]
        _ if value.fract() == 0.0 && value.abs() < 1e15 => serializer.serialize_i64(value as i64),
        _ => serializer.serialize_f64(value),
    }
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn well_known<S: Serializer>(
    message: &DynamicMessage,
    known: Known,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match known {
        Known::Timestamp => {
            let (seconds, nanos) = time(message);
            serializer.collect_str(&prost_types::Timestamp { seconds, nanos })
        }
        Known::Duration => {
            let (seconds, nanos) = time(message);
            serializer.collect_str(&prost_types::Duration { seconds, nanos })
        }
        Known::FieldMask => serializer.serialize_str(&paths(message, None)),
        Known::Any => any(message, serializer),
        Known::Value => match message.fields().next() {
            Some((_, Value::EnumNumber(_))) | None => serializer.serialize_unit(),
            Some((field, value)) => ValueJson { value, kind: &field.kind() }.serialize(serializer),
        },
        Known::Struct | Known::ListValue | Known::Wrapper => {
            let field =
                message.descriptor().get_field(1).ok_or_else(|| S::Error::custom("not a known type"))?;
            ValueJson { value: &message.get_field(&field), kind: &field.kind() }.serialize(serializer)
        }
    }
}

fn time(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message.get_field_by_number(1).and_then(|value| value.as_i64());
    let nanos = message.get_field_by_number(2).and_then(|value| value.as_i32());
    (seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// A field mask, in the names of the resource beside it.
fn mask(value: &Value, holder: &DynamicMessage) -> String {
    value.as_message().map(|mask| paths(mask, Some(holder))).unwrap_or_default()
}

fn paths(mask: &DynamicMessage, holder: Option<&DynamicMessage>) -> String {
    let subject = holder.and_then(|holder| mask_subject(&holder.descriptor()));
    let list = mask.get_field_by_number(1);
    let list = list.as_deref().and_then(Value::as_list).unwrap_or_default();
    let paths = list.iter().filter_map(Value::as_str).map(|path| rename(path, subject.as_ref(), Names::Json));
    paths.collect::<Vec<_>>().join(",")
}

/// `{"@type": …}` with the fields of the message inside, or with its bytes when the type is not known here.
fn any<S: Serializer>(message: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let url =
        message.get_field_by_number(1).and_then(|url| url.as_str().map(str::to_owned)).unwrap_or_default();
    let bytes =
        message.get_field_by_number(2).and_then(|bytes| bytes.as_bytes().cloned()).unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    let descriptor =
        rapport_proto::POOL.get_message_by_name(name).or_else(|| DETAILS.get_message_by_name(name));
    let inner = descriptor.and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.clone()).ok());
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("@type", &url)?;
    match inner {
        Some(inner) if Known::of(&inner.descriptor()).is_some() => {
            object.serialize_entry("value", &Json(&inner))?
        }
        Some(inner) => fields(&inner, &mut object)?,
        None => object.serialize_entry("value", &Base64Display::new(&bytes, &STANDARD).to_string())?,
    }
    object.end()
}
