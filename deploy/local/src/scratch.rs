//! Folders for servers that need not last: in memory where there is room, and gone when they are done with.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::account::Account;
use crate::error::Error;
use crate::folder::{free_mb, lock};
use crate::process::processes;

const PREFIX: &str = "rapport-scratch-";

/// Test databases are small, but there are many of them.
const ROOM_IN_MEMORY_MB: u64 = 4096;

/// A scratch folder that was made this short a time ago may not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A temporary folder that PostgreSQL's user can reach, removed when this value is dropped. What a crash leaves behind is
/// removed when the next one is made.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a folder in memory (`/dev/shm`) where that has room, else on disk in `fallback`, else in the system's
    /// temporary folder.
    ///
    /// # Errors
    /// When none of them will do.
    pub fn new(fallback: &Path) -> Result<Self, Error> {
        let memory = Path::new("/dev/shm");
        if room_in_memory_mb(memory) >= ROOM_IN_MEMORY_MB
            && reachable(memory)
            && let Ok(scratch) = Self::within(memory)
        {
            return Ok(scratch);
        }
        Self::on_disk(fallback)
    }

    /// Makes a folder on disk, for servers that should behave as in earnest.
    ///
    /// # Errors
    /// When neither `fallback` nor the system's temporary folder will do.
    pub fn on_disk(fallback: &Path) -> Result<Self, Error> {
        if fallback.is_dir()
            && reachable(fallback)
            && let Ok(scratch) = Self::within(fallback)
        {
            return Ok(scratch);
        }
        Self::within(&std::env::temp_dir())
    }

    /// Makes a folder in this one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn within(parent: &Path) -> Result<Self, Error> {
        sweep(parent);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o711))
            .tempdir_in(parent)
            .map_err(|source| Error::io("create a folder in", parent, source))?;
        // The umask may have taken away what PostgreSQL's user needs.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))
            .map_err(|source| Error::io("open up", folder.path(), source))?;
        let lock = lock(folder.path())?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn reachable(folder: &Path) -> bool {
    Account::for_cluster(Path::new("")).is_ok_and(|account| account.reaches(folder))
}

/// What is written to a memory file system takes memory, of which less may be free than the file system allows.
fn room_in_memory_mb(folder: &Path) -> u64 {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb / 1024 / 2)
    });
    free_mb(folder).unwrap_or(0).min(available.unwrap_or(0))
}

/// Removes scratch folders of ours whose owner was killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for folder in entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| abandoned(path)) {
        let _ = fs::remove_dir_all(folder);
    }
}

fn abandoned(folder: &Path) -> bool {
    let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        && fs::symlink_metadata(folder).is_ok_and(|found| {
            found.is_dir()
                && found.uid() == geteuid().as_raw()
                && found.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG))
        });
    ours && lock(folder).is_ok() && processes(|process| process.folder.starts_with(folder)).is_empty()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn made_long_ago(folder: &Path) {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::open(folder).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn a_scratch_folder_is_gone_when_it_is_done_with() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::within(parent.path()).unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "text").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_crash_left_is_swept_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let crashed = Scratch::within(parent.path()).unwrap();
        let Scratch { folder, _lock } = crashed;
        let crashed = folder.keep();
        drop(_lock);
        made_long_ago(&crashed);
        let used = Scratch::within(parent.path()).unwrap();
        made_long_ago(used.path());
        let foreign = parent.path().join("something-else");
        fs::create_dir(&foreign).unwrap();

        sweep(parent.path());
        assert!(used.path().exists() && foreign.exists());
        assert!(!crashed.exists());
    }
}
