//! Digests of lines, and the chain that they make.
use sha2::{Digest as _, Sha256};

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
