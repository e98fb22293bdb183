//! Reading a file's rows from the store of files, batch by batch, in flat memory.
use bytes::Bytes;
use rapport_blobs::{Blobs, Key};
use rapport_kernel::{Error, Id, Tenant};

use crate::{
    import::FileInfo,
    rows::{Place, Rows, Splitter},
};

/// Where imports keep their files.
pub(crate) const AREA: &str = "imports";

/// How much of the file is read at once.
const CHUNK: u64 = 1 << 20;
/// A batch has no more text than this, give or take a row: rows may be long.
const BATCH_BYTES: usize = 2 << 20;

/// A file being read.
#[derive(Debug)]
pub(crate) struct Feed {
    blobs: Blobs,
    key: Key,
    size: u64,
    splitter: Splitter,
    /// What was read but not yet cut; it lies where the splitter is.
    chunk: Bytes,
}

impl Feed {
    /// Begins at the row that lies at `place`.
    pub(crate) fn new(blobs: &Blobs, tenant: Id<Tenant>, file: &FileInfo, place: Place) -> Self {
        Self {
            blobs: blobs.clone(),
            key: Key::new(tenant, AREA, file.id),
            size: file.size,
            splitter: Splitter::new(file.dialect.reader(), place),
            chunk: Bytes::new(),
        }
    }

    /// The next rows, at most `most`; none at the file's end.
    ///
    /// # Errors
    /// Those of the store. Begin another feed then, where this one began its batch.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Rows, Error> {
        let mut rows = Rows::default();
        while rows.len() < most && rows.size() < BATCH_BYTES {
            self.fill().await?;
            let at_end = self.chunk.is_empty();
            let (taken, complete) = self.splitter.feed(&self.chunk, &mut rows);
            self.pass(taken);
            if at_end && !complete {
                break;
            }
        }
        // A batch ends where the next row begins, not in the middle of a line break.
        if self.splitter.unsettled() {
            self.fill().await?;
        }
        let breaks = self.splitter.skip_breaks(&self.chunk);
        self.pass(breaks);
        let end = self.splitter.place();
        rows.end = Some(end);
        rows.last = end.offset >= self.size;
        Ok(rows)
    }

    fn pass(&mut self, bytes: usize) {
        let _ = self.chunk.split_to(bytes.min(self.chunk.len()));
    }

    /// Reads on when everything was cut.
    async fn fill(&mut self) -> Result<(), Error> {
        let at = self.splitter.place().offset;
        if self.chunk.is_empty() && at < self.size {
            self.chunk = self.blobs.read(self.key, at..self.size.min(at + CHUNK)).await?;
        }
        Ok(())
    }
}
