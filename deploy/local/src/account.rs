//! The operating-system user that PostgreSQL runs as. PostgreSQL refuses to run as root, for good reasons, so that a start
//! by root uses the user `postgres` where the machine has one, else `nobody`. Once a cluster exists, its owner is the one,
//! whoever starts it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Stdio;

use nix::unistd::{Gid, Uid, User, geteuid};

use crate::command;
use crate::error::Error;

/// Who a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// As the user that we run as.
    Ours,
    /// As another one. Only root can do that.
    Other {
        /// For messages.
        name: String,
        /// The user.
        uid: Uid,
        /// Its primary group, the only one the server gets.
        gid: Gid,
    },
}

impl Account {
    /// Chooses the user for the cluster in `data`, which need not exist yet.
    pub(crate) fn for_cluster(data: &Path) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Ours);
        }
        let owner = match fs::metadata(data) {
            Ok(found) if found.uid() != 0 => User::from_uid(Uid::from_raw(found.uid())).ok().flatten(),
            _ => None,
        };
        let by_name = |name| User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root());
        let user =
            owner.or_else(|| by_name("postgres")).or_else(|| by_name("nobody")).ok_or(Error::NoUser)?;
        Ok(Self::Other { name: user.name, uid: user.uid, gid: user.gid })
    }

    /// Hands a file or folder of ours over to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Ours => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                .map_err(|source| Error::io("hand over", path, source)),
        }
    }

    /// Whether this user gets as far as `folder`. Asked of the system itself, because modes are not the whole truth.
    pub(crate) fn reaches(&self, folder: &Path) -> bool {
        match self {
            Self::Ours => true,
            Self::Other { .. } => command::brief("test", self)
                .args(["-x".as_ref(), folder.as_os_str()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// The name, else the number, of the user who owns `path` or the nearest folder above it that exists.
pub(crate) fn owner_of(path: &Path) -> String {
    let Some(found) = path.ancestors().find_map(|path| fs::symlink_metadata(path).ok()) else {
        return "nobody known".to_owned();
    };
    match User::from_uid(Uid::from_raw(found.uid())) {
        Ok(Some(user)) => user.name,
        _ => format!("user {}", found.uid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_never_run_as_root() {
        let account = Account::for_cluster(Path::new("/nowhere")).unwrap();
        match account {
            Account::Ours => assert!(!geteuid().is_root()),
            Account::Other { uid, .. } => assert!(!uid.is_root()),
        }
    }

    #[test]
    fn the_owner_of_a_missing_file_is_that_of_the_folder_above() {
        assert_eq!(owner_of(Path::new("/no/such/file")), "root");
    }
}
