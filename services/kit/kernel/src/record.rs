//! Names of records: `<service>.<resource>/<uuid>`, the way a record of any service is referred to from anywhere.
use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A type of record that has names.
pub trait Kind {
    /// What its names begin with, e.g. `customer.customer`.
    const KIND: &'static str;
}

/// The name of a record of any service, e.g. `sales.opportunity/0190a3c4-…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName {
    kind: String,
    id: Uuid,
}

impl RecordName {
    /// Names the record `id` of the kind `kind`.
    pub fn new(kind: impl Into<String>, id: Uuid) -> Self {
        Self { kind: kind.into(), id }
    }

    /// The kind, e.g. `customer.customer`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The id.
    pub const fn id(&self) -> Uuid {
        self.id
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// The text is not `<service>.<resource>/<uuid>`.
#[derive(Debug, thiserror::Error)]
#[error("is not a record name like `customer.customer/0190a3c4-…`")]
pub struct NotARecordName;

impl FromStr for RecordName {
    type Err = NotARecordName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once('/').ok_or(NotARecordName)?;
        let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let (service, resource) = kind.split_once('.').ok_or(NotARecordName)?;
        if !word(service) || !word(resource) {
            return Err(NotARecordName);
        }
        Ok(Self { kind: kind.to_owned(), id: id.parse().map_err(|_| NotARecordName)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let name = RecordName::new("sales.opportunity", Uuid::from_u128(1));
        assert_eq!(name.to_string().parse::<RecordName>().unwrap(), name);
        for wrong in ["", "customer/1", "customer.customer", "customer.customer/x", "A.b/0", "a.b.c/0"] {
            assert!(wrong.parse::<RecordName>().is_err(), "{wrong}");
        }
    }
}
