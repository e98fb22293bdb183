//! A place for small files that are written once, each under a name, and never changed.
use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, path::Path};
use rapport_kernel::Error;

use crate::error::storage;

/// The place. Cheap to clone.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({}/{})", self.store, self.root)
    }
}

impl Archive {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root }
    }

    /// Writes a file, unless there is one of this name. Says whether it has this content now.
    ///
    /// # Errors
    /// When it can be neither written nor read.
    pub async fn put(&self, name: &str, content: &[u8]) -> Result<bool, Error> {
        let path = self.path(name);
        match self.store.put_opts(&path, content.to_vec().into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(self.read(name).await? == content),
            Err(error) => Err(storage(error)),
        }
    }

    /// A file.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn read(&self, name: &str) -> Result<Bytes, Error> {
        let found = self.store.get(&self.path(name)).await.map_err(storage)?;
        found.bytes().await.map_err(storage)
    }

    /// The names in a folder that are greater than `after`, in their order.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn names(&self, folder: &str, after: &str) -> Result<Vec<String>, Error> {
        let (folder, after) = (self.path(folder), self.path(after));
        let found = self.store.list_with_offset(Some(&folder), &after);
        let strip = |path: &Path| {
            let below = path.prefix_match(&self.root)?;
            Some(below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        let mut names: Vec<String> = found
            .try_filter_map(async |file| Ok(strip(&file.location)))
            .try_collect()
            .await
            .map_err(storage)?;
        names.sort_unstable();
        Ok(names)
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }
}
