//! What a request says, as a digest: a repetition with the same request id must say the same.
use prost_reflect::{DynamicMessage, MapKey, Value};
use sha2::{Digest as _, Sha256};

use super::check::sorted;

/// SHA-256 over the fields of `message` but `request_id`, in the order of their numbers, maps in the order of their keys.
///
/// It is not taken of the bytes as sent: maps have no order there, and a client in another language, or the same client
/// after a restart, may write the same request differently. Fields that this version does not know are left out, as the
/// handler does not see them either.
pub fn fingerprint(message: &DynamicMessage) -> [u8; 32] {
    let mut digest = Sha256::new();
    fields(&mut digest, message, "request_id");
    digest.finalize().into()
}

fn fields(digest: &mut Sha256, message: &DynamicMessage, without: &str) {
    for (field, value) in message.fields().filter(|(field, _)| field.name() != without) {
        digest.update(field.number().to_le_bytes());
        add(digest, value);
    }
    // No field has this number: the end of a message cannot be taken for one.
    digest.update(0_u32.to_le_bytes());
}

fn add(digest: &mut Sha256, value: &Value) {
    match value {
        Value::Bool(yes) => digest.update([u8::from(*yes)]),
        Value::I32(n) | Value::EnumNumber(n) => digest.update(n.to_le_bytes()),
        Value::I64(n) => digest.update(n.to_le_bytes()),
        Value::U32(n) => digest.update(n.to_le_bytes()),
        Value::U64(n) => digest.update(n.to_le_bytes()),
        Value::F32(n) => digest.update(n.to_bits().to_le_bytes()),
        Value::F64(n) => digest.update(n.to_bits().to_le_bytes()),
        Value::String(text) => bytes(digest, text.as_bytes()),
        Value::Bytes(content) => bytes(digest, content),
        Value::Message(message) => fields(digest, message, ""),
        Value::List(list) => {
            count(digest, list.len());
            list.iter().for_each(|item| add(digest, item));
        }
        Value::Map(map) => {
            count(digest, map.len());
            for (key, value) in sorted(map) {
                add_key(digest, key);
                add(digest, value);
            }
        }
    }
}

fn add_key(digest: &mut Sha256, key: &MapKey) {
    match key {
        MapKey::Bool(yes) => digest.update([u8::from(*yes)]),
        MapKey::I32(n) => digest.update(n.to_le_bytes()),
        MapKey::I64(n) => digest.update(n.to_le_bytes()),
        MapKey::U32(n) => digest.update(n.to_le_bytes()),
        MapKey::U64(n) => digest.update(n.to_le_bytes()),
        MapKey::String(text) => bytes(digest, text.as_bytes()),
    }
}

fn bytes(digest: &mut Sha256, content: &[u8]) {
    count(digest, content.len());
    digest.update(content);
}

fn count(digest: &mut Sha256, count: usize) {
    digest.update((count as u64).to_le_bytes());
}
