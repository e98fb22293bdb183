//! What can go wrong on the way to a running server, in words that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why a server could not be started or kept running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is nowhere on this machine.
    #[error("no {program} was found; {advice}")]
    Missing {
        /// The program that was looked for.
        program: &'static str,
        /// What to install.
        advice: &'static str,
    },

    /// The program is there, but cannot be asked for its version.
    #[error("{} does not say its version: {problem}", path.display())]
    Unusable {
        /// The program.
        path: PathBuf,
        /// What happened instead.
        problem: String,
    },

    /// Only a version that is known to lose data or to lack what we need is there.
    #[error("found {program} {found} at {}; {needed} or later is needed; {advice}", path.display())]
    TooOld {
        /// The program.
        program: &'static str,
        /// The newest version that was found.
        found: String,
        /// The oldest version that will do.
        needed: &'static str,
        /// Where it was found.
        path: PathBuf,
        /// What to install.
        advice: &'static str,
    },

    /// The data belong to a major version of PostgreSQL that is not installed.
    #[error("{} holds data of PostgreSQL {made_by}, which is not installed (found: {found}); install PostgreSQL {made_by} to use them", folder.display())]
    OtherVersion {
        /// The database folder.
        folder: PathBuf,
        /// The major version that made it.
        made_by: u32,
        /// The major versions that are there.
        found: String,
    },

    /// Another process keeps a server in this folder.
    #[error("{} is in use by process {pid}; stop it first or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it, or `unknown`.
        pid: String,
    },

    /// Too little room is left to start.
    #[error("the disk that holds {} has {free_mb} MB free; at least {needed_mb} MB are needed", folder.display())]
    NoRoom {
        /// The folder whose file system is nearly full.
        folder: PathBuf,
        /// What is free, in MB.
        free_mb: u64,
        /// What is needed, in MB.
        needed_mb: u64,
    },

    /// The disk is full.
    #[error("the disk that holds {} is full", path.display())]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
    },

    /// The file system is mounted read-only.
    #[error("{} cannot be written: its file system is read-only", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },

    /// The files belong to someone else.
    #[error("{} cannot be used: permission denied for this user; it belongs to {owner}", path.display())]
    NotAllowed {
        /// What was to be opened.
        path: PathBuf,
        /// The name or number of the owner of the nearest thing that exists.
        owner: String,
    },

    /// We are root, PostgreSQL refuses to be, and there is no one else.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody"
    )]
    NoUser,

    /// PostgreSQL's user may not pass one of the folders above the database.
    #[error("{} cannot be reached by the user {user}, as which PostgreSQL runs; open the folders above it with `chmod o+x` or move it", path.display())]
    OutOfReach {
        /// The database folder.
        path: PathBuf,
        /// The user.
        user: String,
    },

    /// The cluster is there, its password is not.
    #[error("{} is missing, and without it the database beside it cannot be opened; restore the file", path.display())]
    PasswordLost {
        /// The file that should hold the password.
        path: PathBuf,
    },

    /// `initdb` failed.
    #[error("initdb failed ({status}):\n{output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },

    /// The server ended before it was ready.
    #[error("{server} ended while starting ({status}); {} says:\n{output}", log.display())]
    Ended {
        /// The server.
        server: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The end of its log.
        output: String,
    },

    /// The chosen port was taken by someone between choosing and listening.
    #[error("{server} could not listen on a port of 127.0.0.1: {output}")]
    PortTaken {
        /// The server.
        server: &'static str,
        /// The end of its log.
        output: String,
    },

    /// The server runs, but did not become ready.
    #[error("{server} was not ready after {} s; see {}", after.as_secs(), log.display())]
    NotReady {
        /// The server.
        server: &'static str,
        /// How long we waited.
        after: Duration,
        /// Its log file.
        log: PathBuf,
    },

    /// The server keeps ending, however often it is started again.
    #[error("{server} ended {times} times within a minute and was given up; the last time: {last}")]
    GaveUp {
        /// The server.
        server: &'static str,
        /// How often it was started again.
        times: usize,
        /// Why the last attempt failed.
        last: String,
    },

    /// A process that is left over from a crash does not end.
    #[error("{server} process {pid} is left over from a crash and does not end, not even by force")]
    Orphan {
        /// The server.
        server: &'static str,
        /// The process.
        pid: i32,
    },

    /// Anything else that the operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `create`, `read`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl Error {
    /// The error for a failed operation on a file or folder. Three causes that a person can mend have words of their own.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => {
                Self::NotAllowed { owner: crate::account::owner_of(&path), path }
            }
            _ => Self::Io { doing, path, source },
        }
    }

    /// The same three causes where a program reported them in its own words.
    pub(crate) fn in_output(path: &Path, output: &str) -> Option<Self> {
        let path = path.to_owned();
        let output = output.to_lowercase();
        if output.contains("no space left on device") || output.contains("disk quota exceeded") {
            Some(Self::DiskFull { path })
        } else if output.contains("read-only file system") {
            Some(Self::ReadOnly { path })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_whoever_reports_it() {
        let path = Path::new("/data");
        let ours = Error::io("write", path, io::Error::from(io::ErrorKind::StorageFull));
        let theirs = Error::in_output(path, "FATAL: could not write: No space left on device").unwrap();
        assert_eq!(ours.to_string(), "the disk that holds /data is full");
        assert_eq!(theirs.to_string(), ours.to_string());
    }

    #[test]
    fn other_output_is_left_to_speak_for_itself() {
        assert!(Error::in_output(Path::new("/data"), "FATAL: out of memory").is_none());
    }
}
