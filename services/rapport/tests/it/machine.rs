//! Machines as a test wants them: with file systems and programs of their own, seen by one script and its children alone.
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rapport_local::Scratch;

use super::installation::{RAPPORT, scratch};

/// The number of the user `nobody`, as every Linux has it.
pub(crate) const NOBODY: u32 = 65_534;

/// Says why a test proves nothing here, where whoever reads its output sees it.
pub(crate) fn left_out(why: &str) {
    eprintln!("LEFT OUT: {why}");
}

/// A folder for one test, with the program under test beside it: there it finds no tools of a source tree, and every user
/// may run it.
pub(crate) struct Machine {
    scratch: Scratch,
}

/// What a script did.
#[derive(Debug)]
pub(crate) struct Said {
    /// Whether it succeeded.
    pub(crate) ok: bool,
    /// Its output.
    pub(crate) out: String,
    /// Its complaints, without lines of the log.
    pub(crate) complaints: Vec<String>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Self { scratch: scratch() };
        fs::copy(RAPPORT, machine.path("rapport")).unwrap();
        fs::set_permissions(machine.path("rapport"), fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A folder with programs that only say this version.
    pub(crate) fn programs(&self, name: &str, versions: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder(name);
        for (program, says) in versions {
            let path = folder.join(program);
            fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    /// A folder that everybody may look into.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    /// Hands a folder over to `nobody`.
    pub(crate) fn for_nobody(&self, folder: &Path) {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }

    /// Runs a script in bash. What it mounts is seen by nobody else and gone with it. `None` where this user may not mount.
    pub(crate) fn mounting(&self, script: &str) -> Option<Said> {
        let may = Command::new("unshare").args(["--mount", "true"]).output();
        if !may.is_ok_and(|tried| tried.status.success()) {
            left_out("this user may not mount file systems; run the tests as root");
            return None;
        }
        let mut bash = Command::new("unshare");
        bash.args(["--mount", "--propagation", "private", "bash", "-euc", script]);
        Some(self.run(bash))
    }

    /// Runs a command in this folder.
    pub(crate) fn run(&self, mut command: Command) -> Said {
        command.current_dir(self.scratch.path()).env("RAPPORT", self.path("rapport"));
        command.env_remove("RAPPORT_TELEMETRY_LOG_FILTER");
        let Output { status, stdout, stderr } = command.output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        // The log goes the same way; its lines begin with the time.
        let complaints = stderr.lines().filter(|line| !line.starts_with("20")).map(ToOwned::to_owned);
        Said {
            ok: status.success(),
            out: String::from_utf8(stdout).unwrap(),
            complaints: complaints.collect(),
        }
    }
}

impl Said {
    /// That it complained in one line, which says all of this.
    pub(crate) fn complained(&self, words: &[&str]) {
        let [line] = self.complaints.as_slice() else { panic!("not one line: {self:?}") };
        assert!(line.starts_with("rapport: ") && words.iter().all(|word| line.contains(word)), "{line}");
    }

    /// That it failed, with such a line.
    pub(crate) fn refused(&self, words: &[&str]) {
        assert!(!self.ok, "it succeeded: {self:?}");
        self.complained(words);
    }

    /// Whether any complaint is about this.
    pub(crate) fn complained_of(&self, word: &str) -> bool {
        self.complaints.iter().any(|line| line.contains(word))
    }
}
