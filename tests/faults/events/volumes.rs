//! Disks of a few hundred megabytes that are filled up and emptied again, or lose their power: file systems in image files.
//! Nobody but the test sees them.
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        stat::{major, minor},
        statvfs::statvfs,
    },
};

/// The least that a file system with a journal takes, in MB.
const SMALL_MB: u64 = 16;

/// Gives this thread, and all threads and processes that it starts, file systems that nobody else sees. False where this user
/// may not.
pub(super) fn own_file_systems() -> bool {
    let root = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(None::<&str>, "/", None::<&str>, root, None::<&str>).is_ok()
        && tempfile::tempdir()
            .is_ok_and(|folder| Volume::try_new(&folder.path().join("disk"), SMALL_MB).is_ok())
}

/// A disk.
pub(super) struct Volume {
    at: PathBuf,
    image: PathBuf,
    /// How often its power was cut.
    cuts: u32,
}

impl Volume {
    /// One of so many megabytes, at a folder that is made.
    pub(super) fn new(at: &Path, megabytes: u64) -> Self {
        Self::try_new(at, megabytes).unwrap()
    }

    fn try_new(at: &Path, megabytes: u64) -> io::Result<Self> {
        fs::create_dir(at)?;
        let image = at.with_extension("image");
        fs::File::create(&image)?.set_len(megabytes << 20)?;
        run("mkfs.ext4", &["-q", "-m", "0"], &[&image])?;
        run("mount", &["-o", "loop"], &[&image, at])?;
        Ok(Self { at: at.to_owned(), image, cuts: 0 })
    }

    /// Takes up all room that is left, however fast others take and give back some; says how many megabytes.
    pub(super) fn fill(&self) -> u64 {
        let filler = fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        loop {
            let disk = statvfs(&self.at).unwrap();
            let mut room = disk.blocks_available() * disk.fragment_size();
            let end = filler.metadata().unwrap().len();
            while room > 0
                && fallocate(&filler, FallocateFlags::empty(), end.cast_signed(), room.cast_signed()).is_err()
            {
                room /= 2;
            }
            if room == 0 {
                return end >> 20;
            }
        }
    }

    /// Gives the room back, for good: a power cut does not take it again.
    pub(super) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
        fs::File::open(&self.at).and_then(|folder| folder.sync_all()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// What has reached the disk by now, and nothing else: a copy of the image. Of files there is what was flushed, and whatever
    /// the kernel has written besides. Those who write there stand still.
    pub(super) fn copy(&self) -> PathBuf {
        let copy = self.image.with_extension(format!("cut-{}", self.cuts));
        // The kernel may be writing by itself; what it writes during the copy would be half there, as no disk has it.
        loop {
            let before = self.written();
            run("cp", &["--sparse=always"], &[&self.image, &copy]).unwrap();
            if before.is_some() && self.written() == before {
                return copy;
            }
        }
    }

    /// How many writes the disk has done, unless it is at one.
    fn written(&self) -> Option<u64> {
        let device = fs::metadata(&self.at).unwrap().dev();
        let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
        let numbers: Vec<u64> = fs::read_to_string(path)
            .unwrap()
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        let (writes, in_flight) = (numbers[4], numbers[8]);
        (in_flight == 0).then_some(writes)
    }

    /// Puts a copy in the place of the disk, as after a power cut. Nobody is at work there any more.
    pub(super) fn put(&mut self, copy: PathBuf) {
        self.cuts += 1;
        umount2(&self.at, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&self.image).unwrap();
        run("mount", &["-o", "loop"], &[&copy, &self.at]).unwrap();
        self.image = copy;
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Servers that were told to end may still be at work there: it goes when they are gone.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.at);
        let _ = fs::remove_file(&self.image);
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> io::Result<()> {
    let output = Command::new(program).args(options).args(paths).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(io::Error::other(format!("{program}: {said}"))) }
}
