//! Etags: the version of a record, as callers send it back to change only what they read.
use rapport_kernel::Error;

use crate::Resource;

/// The version that a caller read; `None` changes any version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag(Option<i64>);

impl Etag {
    /// Reads the etag that came in the field `field`; the empty text means any version.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        match text.trim_matches('"').parse() {
            Ok(version) => Ok(Self(Some(version))),
            Err(_) => Err(Error::invalid(field, "is not an etag; send back the one that was read")),
        }
    }

    /// # Errors
    /// `Stale` when the record is not at this version any more.
    pub fn matches<R: Resource>(self, current: &R) -> Result<(), Error> {
        match self.0 {
            Some(version) if version != current.version() => Err(Error::Stale { resource: R::NAME.into() }),
            _ => Ok(()),
        }
    }
}
