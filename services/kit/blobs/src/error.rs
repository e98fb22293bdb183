//! What the store says, in the words of the kernel's error.
use std::io::{self, ErrorKind};

use rapport_kernel::Error;

/// Seconds after which it is worth trying again on a full disk: someone has to make room first.
const FULL_RETRY: u64 = 300;

/// Translates an error of the store. What an operator has to mend is logged here, with the path, which callers do not see.
pub(crate) fn storage(error: object_store::Error) -> Error {
    use object_store::Error as Store;
    match error {
        Store::NotFound { path, .. } => Error::not_found("file", path.rsplit('/').next().unwrap_or_default()),
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => read_only(&error),
        other => match io_kind(&other) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
                tracing::error!(error = %other, "no space is left where files are kept");
                let message = "no space is left where files are kept".to_owned();
                Error::Exhausted { message, retry_after: FULL_RETRY }
            }
            Some(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => read_only(&other),
            _ => Error::Unavailable(other.into()),
        },
    }
}

fn read_only(error: &object_store::Error) -> Error {
    tracing::error!(error = %error, "files cannot be written where they are kept");
    Error::rule(
        "STORAGE_READ_ONLY",
        "the place where files are kept does not take any: it is read-only, or closed to us",
    )
}

/// The kind of the I/O error at the bottom, if there is one.
fn io_kind(error: &object_store::Error) -> Option<ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of the system as LocalFileSystem wraps it: with one of its own around it.
    #[derive(Debug)]
    struct Wrapped(io::Error);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("unable to copy data to file")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn io(code: i32) -> object_store::Error {
        let source = Box::new(Wrapped(io::Error::from_raw_os_error(code)));
        object_store::Error::Generic { store: "LocalFileSystem", source }
    }

    #[test]
    fn a_full_and_a_read_only_disk_are_named() {
        let (enospc, erofs, edquot, eio) = (28, 30, 122, 5);
        assert_eq!(
            storage(io(enospc)).to_string(),
            "no space is left where files are kept; try again in 300 s"
        );
        assert_eq!(storage(io(edquot)).reason(), "EXHAUSTED");
        assert_eq!(storage(io(erofs)).reason(), "STORAGE_READ_ONLY");
        assert_eq!(storage(io(eio)).reason(), "UNAVAILABLE");
    }
}
