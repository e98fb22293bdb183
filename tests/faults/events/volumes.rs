//! Disks of a few hundred megabytes, in memory, which are filled up and emptied again. Nobody but the test sees them.
use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statvfs::statvfs,
};

/// Gives this thread, and all threads and processes that it starts, file systems that nobody else sees. False where this user
/// may not.
pub(super) fn own_file_systems() -> bool {
    let root = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(None::<&str>, "/", None::<&str>, root, None::<&str>).is_ok()
}

/// A disk.
pub(super) struct Volume(PathBuf);

impl Volume {
    /// One of so many megabytes, at a folder that is made.
    pub(super) fn new(at: &Path, megabytes: u32) -> Self {
        fs::create_dir(at).unwrap();
        let options = format!("size={megabytes}m,mode=0755");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self(at.to_owned())
    }

    /// Takes up all room that is left, however fast others take and give back some; says how many megabytes.
    pub(super) fn fill(&self) -> u64 {
        let filler = fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        loop {
            let disk = statvfs(&self.0).unwrap();
            let mut room = disk.blocks_available() * disk.fragment_size();
            if room == 0 {
                return filler.metadata().unwrap().len() >> 20;
            }
            let end = filler.metadata().unwrap().len();
            while room > 0
                && fallocate(&filler, FallocateFlags::empty(), end.cast_signed(), room.cast_signed()).is_err()
            {
                room /= 2;
            }
        }
    }

    /// Gives the room back.
    pub(super) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Servers that were told to end may still be at work there: it goes when they are gone.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}
