//! How errors and logs word what they name, once for all crates: values are cut short, bytes are in hex, codes have the
//! names that gRPC gives them.
use tonic::Code;

/// How long a value may be in an error text, in characters.
const LONGEST: usize = 60;

/// A caller's value for an error text: at most 60 characters; control characters, which would disturb a terminal or a log,
/// are replaced by U+FFFD.
pub fn cut(text: &str) -> String {
    shorten(text, LONGEST).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// At most `most` characters of a text, the last one `…` where some were left out.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The name of a gRPC code, as the specification writes it.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut() {
        assert_eq!(cut(&"客".repeat(100)).chars().count(), 60);
        assert_eq!(cut(&"客".repeat(60)), "客".repeat(60));
        assert_eq!(shorten(&"客".repeat(6), 5), "客客客客…");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(cut("a\nb\u{1b}[2J\0"), "a\u{fffd}b\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn bytes_are_in_hex() {
        assert_eq!(hex(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
    }
}
