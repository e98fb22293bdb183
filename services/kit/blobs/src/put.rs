//! Writing a file from a stream: as a whole or not at all, in bounded memory.
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use object_store::{ObjectStoreExt as _, WriteMultipart};
use rapport_kernel::Error;
use sha2::{Digest as _, Sha256};

use crate::{Blobs, Key, error::storage};

/// The size of a part: the least that S3 takes.
const PART: usize = 5 << 20;
/// Parts on their way at once.
const PARTS: usize = 2;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

impl Blobs {
    /// Writes a file from `pieces`, at most `limit` bytes. A file that was there is replaced at the end, in one step.
    ///
    /// When it fails, or the caller goes away, nothing stays.
    ///
    /// # Errors
    /// `Invalid` on the field `file` when there is more than `limit`; `Exhausted` when no space is left; the stream's own
    /// error, as it came.
    pub async fn put<S>(&self, key: Key, mut pieces: S, limit: u64) -> Result<Written, Error>
    where
        S: Stream<Item = Result<Bytes, Error>> + Unpin,
    {
        let upload = self.store.put_multipart(&self.path(key)).await.map_err(storage)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        match write(&mut writer, &mut pieces, limit).await {
            Ok(written) => {
                writer.finish().await.map_err(storage)?;
                Ok(written)
            }
            Err(error) => {
                if let Err(error) = writer.abort().await {
                    tracing::warn!(error = %error, file = ?key, "an unfinished file could not be removed");
                }
                Err(error)
            }
        }
    }
}

async fn write<S>(writer: &mut WriteMultipart, pieces: &mut S, limit: u64) -> Result<Written, Error>
where
    S: Stream<Item = Result<Bytes, Error>> + Unpin,
{
    let mut hash = Sha256::new();
    let mut size = 0_u64;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        size = size.saturating_add(piece.len() as u64);
        if size > limit {
            return Err(Error::invalid(
                "file",
                format!("is larger than {limit} bytes, which is the most allowed"),
            ));
        }
        hash.update(&piece);
        writer.wait_for_capacity(PARTS).await.map_err(storage)?;
        writer.put(piece);
    }
    Ok(Written { size, sha256: hash.finalize().into() })
}
