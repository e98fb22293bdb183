//! Google's well-known types, which have JSON forms of their own.
use prost_reflect::MessageDescriptor;

/// A message of `google.protobuf` with a JSON form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// RFC 3339.
    Timestamp,
    /// `1.5s`.
    Duration,
    /// `displayName,attributes.city`.
    FieldMask,
    /// Any object.
    Struct,
    /// Any value.
    Value,
    /// Any list.
    ListValue,
    /// A message that names its type.
    Any,
    /// A plain value that may be missing.
    Wrapper,
}

impl Known {
    /// Which one a message is; `None` for all others.
    pub(crate) fn of(message: &MessageDescriptor) -> Option<Self> {
        let name = message.full_name().strip_prefix("google.protobuf.")?;
        Some(match name {
            "Timestamp" => Self::Timestamp,
            "Duration" => Self::Duration,
            "FieldMask" => Self::FieldMask,
            "Struct" => Self::Struct,
            "Value" => Self::Value,
            "ListValue" => Self::ListValue,
            "Any" => Self::Any,
            _ if name.ends_with("Value") => Self::Wrapper,
            _ => return None,
        })
    }
}
