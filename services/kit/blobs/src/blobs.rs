//! The place where files are kept, and reading from it.
use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use rapport_kernel::Error;

use crate::{Key, error::storage};

/// How much of a file a stream holds at a time.
const PIECE: u64 = 256 << 10;

/// The place where files are kept. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) store: Arc<dyn ObjectStore>,
    root: Path,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blobs({}/{})", self.store, self.root)
    }
}

impl Blobs {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root }
    }

    pub(crate) fn path(&self, key: Key) -> Path {
        key.below(&self.root)
    }

    /// How many bytes a file has.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn size(&self, key: Key) -> Result<u64, Error> {
        Ok(self.store.head(&self.path(key)).await.map_err(storage)?.size)
    }

    /// Reads the bytes of a range, cut to the file's end.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `Invalid` when the range begins at or after the file's end.
    pub async fn read(&self, key: Key, range: Range<u64>) -> Result<Bytes, Error> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        match self.store.get_range(&self.path(key), range.clone()).await {
            Ok(bytes) => Ok(bytes),
            // The stores tell a range behind the end in different ways, so it is looked up when one fails.
            Err(object_store::Error::Generic { .. }) if self.size(key).await? <= range.start => {
                Err(Error::invalid(
                    "range",
                    format!("begins at byte {}, which the file does not have", range.start),
                ))
            }
            Err(error) => Err(storage(error)),
        }
    }

    /// Everything from the byte `from` on, in pieces of at most 256 KiB; nothing when the file ends before.
    ///
    /// Each piece is read by itself, so that a slow reader holds no connection.
    pub fn stream(&self, key: Key, from: u64) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let blobs = self.clone();
        stream::try_unfold((blobs, from, None), move |(blobs, at, size)| async move {
            let size = match size {
                Some(size) => size,
                None => blobs.size(key).await?,
            };
            if at >= size {
                return Ok(None);
            }
            let piece = blobs.read(key, at..size.min(at + PIECE)).await?;
            let next = at + piece.len() as u64;
            Ok(Some((piece, (blobs, next, Some(size)))))
        })
    }

    /// Removes a file; nothing happens when there is none.
    pub async fn delete(&self, key: Key) -> Result<(), Error> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(storage(error)),
        }
    }
}
