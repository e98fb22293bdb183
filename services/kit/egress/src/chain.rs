//! What lies below an error.
use std::{error::Error, io};

/// `error` and its causes, outermost first. An I/O error that wraps another one skips it when asked for its source, and TLS
/// hands its errors over that way, so it is opened here.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The first cause of a type.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_io_errors_wrap_is_found() {
        let inner = io::Error::other(std::fmt::Error);
        let outer = io::Error::other(io::Error::other(inner));
        assert!(find::<std::fmt::Error>(&outer).is_some());
        assert!(find::<std::num::ParseIntError>(&outer).is_none());
    }
}
