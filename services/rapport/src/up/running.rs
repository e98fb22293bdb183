//! A note beside the data while it runs, for commands that need its database server.
use std::{
    fs,
    path::{Path, PathBuf},
};

use rapport_kernel::BoxError;
use rapport_local::Postgres;
use serde::{Deserialize, Serialize};

use super::secrets::write_private;

/// How to reach the server of a running installation.
#[derive(Serialize, Deserialize)]
pub(crate) struct Running {
    /// The process.
    pid: u32,
    /// The superuser's URL.
    pub(crate) postgres: String,
    /// The folder with pg_dump.
    pub(crate) programs: PathBuf,
}

/// Takes the note away when it ends.
pub(super) struct Note(PathBuf);

impl Drop for Note {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Running {
    /// Writes the note.
    pub(super) fn note(data: &Path, postgres: &Postgres) -> Result<Note, BoxError> {
        let path = data.join("running.json");
        let running = Self {
            pid: std::process::id(),
            postgres: postgres.url(),
            programs: postgres.programs().to_owned(),
        };
        write_private(&path, &serde_json::to_string(&running)?)?;
        Ok(Note(path))
    }

    /// The note of an installation that still runs; one whose process is gone was left by a crash.
    pub(crate) fn find(data: &Path) -> Option<Self> {
        let running: Self = serde_json::from_slice(&fs::read(data.join("running.json")).ok()?).ok()?;
        Path::new("/proc").join(running.pid.to_string()).exists().then_some(running)
    }
}
