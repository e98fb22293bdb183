//! Checkpoints: where the chains of a log stood at a number, signed, and kept where whoever can change the database cannot. A chain
//! alone does not show that all of it was written anew.
//!
//! Each is a file in the form of transparency logs: a [checkpoint](https://c2sp.org/tlog-checkpoint) as a
//! [signed note](https://c2sp.org/signed-note). Its root hash is no Merkle tree's: it is the SHA-256 of the roots of the
//! retention classes, which follow, each the SHA-256 of the last links of its 32 chains.
use std::{collections::BTreeMap, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rapport_blobs::Archive;
use rapport_kernel::{BoxError, Date, Error};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

mod seal;
mod sign;

pub use self::seal::Seal;
pub(crate) use self::seal::seal;
use self::sign::Signer;

/// So many are read at a time.
const READS: usize = 16;

/// Where the chains of a log stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The last number.
    pub(crate) number: i64,
    /// What stands for the chains, by retention class.
    pub(crate) roots: BTreeMap<String, Digest>,
}

/// The place where the checkpoints of an installation's services are kept, and the key that signs them.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    archive: Archive,
    signer: Arc<Signer>,
}

impl Checkpoints {
    /// Opens the place, and reads the key's file; makes that where it is missing. `name` is that of the installation.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn open(
        place: &rapport_blobs::Settings,
        key_file: &Path,
        name: &str,
    ) -> Result<Self, BoxError> {
        let archive = Archive::open(place).await?;
        Ok(Self { archive, signer: Arc::new(Signer::open(key_file, name)?) })
    }

    /// What verifies the signatures, as signed notes write it: for auditors.
    pub fn verifier(&self) -> String {
        self.signer.verifier()
    }

    /// Keeps one; says whether it is there, and not another one of this number.
    pub(crate) async fn write(
        &self,
        service: &str,
        day: Date,
        checkpoint: &Checkpoint,
    ) -> Result<bool, Error> {
        let note = self.signer.sign(&checkpoint.text(&self.origin(service)));
        self.archive.put(&format!("{service}/{day}/{:020}", checkpoint.number), note.as_bytes()).await
    }

    /// The last one of a service: mostly of this day, which is looked at first.
    ///
    /// # Errors
    /// When the place cannot be read, or it is not one of ours.
    pub(crate) async fn last(&self, service: &str, day: Date) -> Result<Option<Checkpoint>, Error> {
        let mut names = self.archive.names(service, &format!("{service}/{day}")).await?;
        if names.is_empty() {
            names = self.archive.names(service, service).await?;
        }
        let Some(name) = names.last() else { return Ok(None) };
        self.one(service, name).await?.map(Some).map_err(Error::internal)
    }

    /// Those of a service since a day, in the order of their numbers; and in words, what is there and is none of ours.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub(crate) async fn read(
        &self,
        service: &str,
        since: Date,
    ) -> Result<(Vec<Checkpoint>, Vec<String>), Error> {
        let names = self.archive.names(service, &format!("{service}/{since}")).await?;
        let found: Vec<_> =
            stream::iter(&names).map(|name| self.one(service, name)).buffered(READS).try_collect().await?;
        let (mut ours, mut wrong) = (Vec::new(), Vec::new());
        for one in found {
            one.map_or_else(|fault| wrong.push(fault), |checkpoint| ours.push(checkpoint));
        }
        ours.sort_unstable_by_key(|checkpoint| checkpoint.number);
        Ok((ours, wrong))
    }

    async fn one(&self, service: &str, name: &str) -> Result<Result<Checkpoint, String>, Error> {
        let note = self.archive.read(name).await?;
        let text = std::str::from_utf8(&note).ok().and_then(|note| self.signer.read(note));
        let checkpoint = text.and_then(|text| Checkpoint::parse(text, &self.origin(service)));
        Ok(checkpoint.ok_or_else(|| format!("checkpoint {name} is not signed with our key")))
    }

    fn origin(&self, service: &str) -> String {
        format!("{}/{service}", self.signer.name())
    }
}

impl Checkpoint {
    fn text(&self, origin: &str) -> String {
        let roots =
            self.roots.iter().map(|(retention, root)| format!("{retention} {}\n", BASE64.encode(root)));
        format!("{origin}\n{}\n{}\n{}", self.number, BASE64.encode(self.root()), roots.collect::<String>())
    }

    fn root(&self) -> Digest {
        self.roots.values().fold(Sha256::new(), |hash, root| hash.chain_update(root)).finalize().into()
    }

    fn parse(text: &str, origin: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (said, number, _) = (lines.next()?, lines.next()?.parse().ok()?, lines.next()?);
        let root = |line: &str| {
            let (retention, root) = line.split_once(' ')?;
            Some((retention.to_owned(), BASE64.decode(root).ok()?.try_into().ok()?))
        };
        let checkpoint = Self { number, roots: lines.map(root).collect::<Option<_>>()? };
        // Whatever is not said in exactly this way is not what we signed.
        (said == origin && checkpoint.text(origin) == text).then_some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let roots = [("permanent", [1; 32]), ("standard", [2; 32])];
        let roots = roots.map(|(retention, root)| (retention.to_owned(), root)).into_iter().collect();
        Checkpoint { number: 4711, roots }
    }

    #[test]
    fn what_is_signed_reads_the_same_and_whatever_is_changed_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open(&folder.path().join("key"), "rapport/main").unwrap();
        let note = signer.sign(&checkpoint().text("rapport/main/customer"));
        let read = |note: &str, origin: &str| Checkpoint::parse(signer.read(note)?, origin);
        assert_eq!(read(&note, "rapport/main/customer"), Some(checkpoint()));
        assert_eq!(read(&note, "rapport/main/identity"), None);
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8_lossy(&changed);
            assert_eq!(read(&changed, "rapport/main/customer"), None, "{changed}");
        }
        let other = Signer::open(&folder.path().join("other"), "rapport/main").unwrap();
        assert_eq!(other.read(&note), None);
    }
}
