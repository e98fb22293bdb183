//! Digests of lines, and the chain that they make.
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::log::Line;

/// A SHA-256.
pub type Digest = [u8; 32];

/// What chains a line to the one before it in its chain: SHA-256 of that one's link, the line's three numbers (big endian,
/// 64 bits each) and its digest.
pub fn link(before: Digest, number: i64, part_number: i64, tenant_number: i64, line: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(before);
    for number in [number, part_number, tenant_number] {
        hash.update(number.to_be_bytes());
    }
    hash.update(line);
    hash.finalize().into()
}

/// The digest of a line: SHA-256 of its values as PostgreSQL sends a row of them (`record_send`), with the digest of the payload
/// in its place, so that the payload can be erased. `rapport.line_digest` computes the same.
pub fn line(line: &Line, payload_digest: &[u8]) -> Digest {
    let mut row = Row::default();
    row.uuid(Some(line.event_id));
    row.uuid(Some(line.tenant_id));
    row.value(INT2, Some(&line.part.to_be_bytes()));
    row.text(Some(&line.resource));
    row.uuid(Some(line.record_id));
    row.value(INT8, Some(&line.version.to_be_bytes()));
    row.text(Some(&line.subject));
    row.text(Some(&line.r#type));
    row.value(TEXT_ARRAY, Some(&array(&line.changed_paths)));
    row.value(BYTEA, Some(payload_digest));
    row.text(Some(&line.principal));
    row.uuid(line.on_behalf_of);
    row.text(Some(&line.via));
    row.uuid(line.cause);
    row.text(line.trace.as_deref());
    // Microseconds since 2000.
    row.value(TIMESTAMPTZ, Some(&(line.time.as_micros() - 946_684_800_000_000).to_be_bytes()));
    let mut hash = Sha256::new();
    hash.update(row.count.to_be_bytes());
    hash.update(row.bytes);
    hash.finalize().into()
}

/// PostgreSQL's numbers of its types, which never change.
const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT2: u32 = 21;
const TEXT: u32 = 25;
const TEXT_ARRAY: u32 = 1009;
const TIMESTAMPTZ: u32 = 1184;
const UUID: u32 = 2950;

/// A row as PostgreSQL sends it: for each value its type, its length (-1 where there is none) and itself.
#[derive(Default)]
struct Row {
    count: i32,
    bytes: Vec<u8>,
}

impl Row {
    fn value(&mut self, oid: u32, value: Option<&[u8]>) {
        self.count += 1;
        self.bytes.extend(oid.to_be_bytes());
        sized(&mut self.bytes, value);
    }

    fn text(&mut self, value: Option<&str>) {
        self.value(TEXT, value.map(str::as_bytes));
    }

    fn uuid(&mut self, value: Option<Uuid>) {
        self.value(UUID, value.as_ref().map(|id| id.as_bytes().as_slice()));
    }
}

fn sized(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
    bytes.extend(length.to_be_bytes());
    bytes.extend(value.unwrap_or_default());
}

/// An array of texts as PostgreSQL sends it: dimensions, whether there are NULLs, the type; the length, the first index; the
/// texts.
fn array(texts: &[String]) -> Vec<u8> {
    let dimensions = i32::from(!texts.is_empty());
    let mut bytes: Vec<u8> = [dimensions.to_be_bytes(), 0_i32.to_be_bytes(), TEXT.to_be_bytes()].concat();
    if dimensions > 0 {
        bytes.extend(i32::try_from(texts.len()).unwrap_or(i32::MAX).to_be_bytes());
        bytes.extend(1_i32.to_be_bytes());
    }
    for text in texts {
        sized(&mut bytes, Some(text.as_bytes()));
    }
    bytes
}
