//! Taking a file in: from the stream straight to the store of files, then a look at its header.
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use rapport_blobs::Key;
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::imports::v1 as pb;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::{
    Import, Imports, feed::AREA, header, import::FileInfo, issues::Issue, state::Action, suggest::suggest,
};

impl Imports {
    /// Takes the file in, reads its header and suggests mappings. A file that is refused leaves nothing, and the import as
    /// it was; until the start, another file takes the place of the one that is there.
    ///
    /// # Errors
    /// `Invalid` on `file` with what is wrong with it; `Rule` in a state that takes no file.
    pub async fn upload<S>(&self, ctx: &Ctx, mut pieces: S) -> Result<Response<pb::Import>, Error>
    where
        S: Stream<Item = Result<pb::UploadImportFileRequest, Status>> + Send + Unpin,
    {
        let first = pieces
            .next()
            .await
            .ok_or_else(|| Error::invalid("file", "is empty"))?
            .map_err(|_| broke_off())?;
        if first.id.is_empty() {
            return Err(Error::invalid("id", "must be given in the first piece"));
        }
        let id = Id::<Import>::parse("id", &first.id)?.uuid();
        self.expects_file(ctx, id).await?;

        let file = Key::new(ctx.tenant, AREA, ctx.clock.new_uuid());
        let pieces =
            stream::iter([Ok(first)]).chain(pieces).map(|piece: Result<pb::UploadImportFileRequest, _>| {
                piece
                    .map(|piece| piece.file.map(|body| body.data).unwrap_or_default())
                    .map_err(|_| broke_off())
            });
        let size = self.put(file, pieces).await?;
        match self.accept(ctx, id, file, size).await {
            Ok((answer, replaced)) => {
                if let Some(replaced) = replaced {
                    self.remove(Key::new(ctx.tenant, AREA, replaced)).await;
                }
                Ok(answer)
            }
            Err(error) => {
                // Where the database did not answer, the file may be the import's all the same.
                if !matches!(error, Error::Unavailable(_)) {
                    self.remove(file).await;
                }
                Err(error)
            }
        }
    }

    /// # Errors
    /// Those that the upload would end in: better said before the file was sent.
    async fn expects_file(&self, ctx: &Ctx, id: Uuid) -> Result<(), Error> {
        let mut tx = self.db().begin(ctx).await?;
        let import = tx.get::<Import>(id).await?;
        tx.finish().await?;
        Action::Upload.allow(import.state, import.phase)
    }

    async fn put(
        &self,
        file: Key,
        pieces: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin,
    ) -> Result<u64, Error> {
        Ok(self.blobs().put(file, pieces, self.options().max_file_bytes).await?.size)
    }

    /// Reads the header and moves the import on. Says which file this one replaces.
    async fn accept(
        &self,
        ctx: &Ctx,
        id: Uuid,
        file: Key,
        size: u64,
    ) -> Result<(Response<pb::Import>, Option<Uuid>), Error> {
        let start = self.blobs().read(file, 0..header::START.min(size)).await?;
        let header = header::read(&start, size)?;
        let mut tx = self.db().begin(ctx).await?;
        let before = tx.get_for_update::<Import>(id).await?;
        Action::Upload.allow(before.state, before.phase)?;
        let mut after = before.moved_on(tx.now());
        after.file = Some(FileInfo {
            id: file.id(),
            size,
            dialect: header.dialect,
            columns: header.columns,
            first: header.first,
            estimate: header.estimate,
            rows: None,
        });
        after.unchecked();
        Issue::forget(&mut tx, id).await?;
        if after.mappings.is_empty() || (before.file.is_some() && !fits(&after)) {
            let targets = self.resource(&after.resource)?.targets(&tx);
            after.mappings = suggest(&after.column_names().unwrap_or_default(), &targets);
        }
        Import::save(&mut tx, &before, &after)?;
        let answer = tx.commit(after.into()).await?;
        Ok((answer, before.file.map(|file| file.id)))
    }

    async fn remove(&self, file: Key) {
        if let Err(error) = self.blobs().delete(file).await {
            tracing::warn!(error = %error, file = ?file, "a file that nobody needs any more could not be removed");
        }
    }
}

/// Whether every column that is mapped is in the file.
fn fits(import: &Import) -> bool {
    let columns = import.column_names().unwrap_or_default();
    import.mappings.iter().filter_map(|mapping| mapping.column()).all(|name| columns.contains(&name))
}

fn broke_off() -> Error {
    Error::invalid("file", "broke off; send it again")
}
