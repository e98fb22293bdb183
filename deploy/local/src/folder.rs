//! The folder of one server: locked while someone keeps a server in it, checked for room, and with a memory of the ports
//! that were used, so that addresses stay the same from one start to the next.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::error::Error;

/// A folder that is ours alone until this value is dropped or the process ends, in whatever way.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the folder if need be and locks it. `mode` is that of a new folder.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Self, Error> {
        create(path, mode)?;
        let path = fs::canonicalize(path).map_err(|source| Error::io("find", path, source))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The absolute path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path of something in the folder.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A port of 127.0.0.1 that is free at this moment: the one that served under this `name` the last time, if it can be.
    pub(crate) fn free_port(&self, name: &str) -> Result<u16, Error> {
        let remembered = self.ports().get(name).copied();
        let listener = remembered
            .and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok);
        listener
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
            .map_err(|source| Error::Io { doing: "find a free port of", path: "127.0.0.1".into(), source })
    }

    /// Remembers the ports for the next start.
    pub(crate) fn remember(&self, ports: &BTreeMap<&str, u16>) -> Result<(), Error> {
        let text = serde_json::to_string(ports).unwrap_or_default();
        self.write("ports.json", &text)
    }

    /// A secret of 128 random bits in hexadecimal, made at the first call and kept in a file that only we can read.
    pub(crate) fn secret(&self, name: &str) -> Result<String, Error> {
        let path = self.join(name);
        match fs::read_to_string(&path) {
            Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().to_owned()),
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("read", &path, source));
            }
            _ => {}
        }
        let secret = format!("{:032x}", rand::random::<u128>());
        self.write(name, &secret)?;
        Ok(secret)
    }

    /// Writes a file that only we can read; after a crash or a power cut it is there as a whole, as it was before or as it is now.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.join(name);
        let draft = self.join(&format!("{name}.new"));
        let _ = fs::remove_file(&draft);
        write_private(&draft, text)?;
        rename(&draft, &path)
    }

    /// Refuses to go on where the disk is nearly full: a server that stops half-way explains itself less well.
    pub(crate) fn needs_room(&self, needed_mb: u64) -> Result<(), Error> {
        has_room(&self.path, needed_mb)
    }

    /// A damaged file counts as none: then new ports are chosen.
    fn ports(&self) -> BTreeMap<String, u16> {
        fs::read_to_string(self.join("ports.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }
}

/// Whether the disk that holds `folder` has so much room.
pub(crate) fn has_room(folder: &Path, needed_mb: u64) -> Result<(), Error> {
    match free_mb(folder) {
        Some(free_mb) if free_mb < needed_mb => {
            Err(Error::NoRoom { folder: folder.to_owned(), free_mb, needed_mb })
        }
        _ => Ok(()),
    }
}

/// Creates a folder and what is missing above it. The mode holds for all of those, whatever the umask says.
pub(crate) fn create(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .and_then(|()| sync_name(path)),
    }
    .map_err(|source| Error::io("create", path, source))
}

/// Renames a file or a folder for good: a power cut does not undo it.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).and_then(|()| sync_name(to)).map_err(|source| Error::io("write", to, source))
}

/// Has the folder above written to disk, which holds the name.
fn sync_name(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Writes a new file that only we can read. One that is there already is in the way.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| Error::io("write", path, source))
}

/// What an unprivileged process may still write in the file system of `path`, in MB, if the system tells.
pub(crate) fn free_mb(path: &Path) -> Option<u64> {
    let system = statvfs(path).ok()?;
    Some(system.blocks_available().saturating_mul(system.fragment_size()) / (1 << 20))
}

/// Locks a folder through a file in it, which names us for those who come too late. The kernel releases the lock when we
/// end, however that happens; the file itself stays and means nothing.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&path)
        .map_err(|source| Error::io("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(Error::InUse { folder: folder.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path, source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|source| Error::io("write", &path, source))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_folder_is_refused_and_names_its_holder() {
        let place = tempfile::tempdir().unwrap();
        let held = Folder::open(place.path(), 0o700).unwrap();
        let refused = Folder::open(place.path(), 0o700).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
        drop(held);
        Folder::open(place.path(), 0o700).unwrap();
    }

    #[test]
    fn a_port_is_kept_while_it_is_free_and_given_up_when_it_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path(), 0o700).unwrap();
        let first = folder.free_port("main").unwrap();
        folder.remember(&BTreeMap::from([("main", first)])).unwrap();
        assert_eq!(folder.free_port("main").unwrap(), first);

        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert_ne!(folder.free_port("main").unwrap(), first);
    }

    #[test]
    fn a_secret_stays_the_same_and_is_ours_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path(), 0o700).unwrap();
        let secret = folder.secret("password").unwrap();
        assert_eq!(folder.secret("password").unwrap(), secret);
        assert_eq!(secret.len(), 32);
        let mode = fs::metadata(folder.join("password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damaged_memory_of_ports_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path(), 0o700).unwrap();
        fs::write(folder.join("ports.json"), "{\"main\": 5").unwrap();
        assert!(folder.free_port("main").is_ok());
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("data"), "").unwrap();
        let refused = Folder::open(&place.path().join("data/postgres"), 0o700).unwrap_err().to_string();
        assert!(refused.contains("data"), "{refused}");
    }
}
