//! The passwords and secrets of this installation: made once, kept beside the data, readable by the owner alone.
use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use rand::RngExt as _;
use rapport_kernel::BoxError;
use serde::{Deserialize, Serialize};

/// Everything secret that the parts of one installation share.
#[derive(Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// The password of the tables' owner.
    pub(crate) owner: String,
    /// From what the services' passwords are made.
    services: String,
    /// How services know each other.
    pub(crate) internal: String,
}

impl Secrets {
    /// Reads them, or makes them.
    pub(crate) fn open(data: &Path) -> Result<Self, BoxError> {
        let path = data.join("secrets.json");
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| {
                format!("{} is damaged ({error}); restore it from a backup", path.display()).into()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = Self { owner: random(), services: random(), internal: random() };
                write_private(&path, &serde_json::to_string_pretty(&made)?)?;
                Ok(made)
            }
            Err(error) => Err(format!("{} cannot be read: {error}", path.display()).into()),
        }
    }

    /// Reads those of an installation that must be there.
    pub(crate) fn open_existing(data: &Path) -> Result<Self, BoxError> {
        if data.join("secrets.json").exists() {
            Self::open(data)
        } else {
            Err(format!("{} is no installation of `rapport up`: it has no secrets.json", data.display())
                .into())
        }
    }

    /// The password of a service's database role.
    pub(crate) fn database(&self, service: &str) -> String {
        format!("{}-{service}", self.services)
    }
}

/// 32 random bytes in hex.
fn random() -> String {
    rapport_kernel::hex(&rand::rng().random::<[u8; 32]>())
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), BoxError> {
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn secrets_are_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Secrets::open(folder.path()).unwrap();
        let again = Secrets::open(folder.path()).unwrap();
        assert_eq!((first.owner.len(), &first.owner), (64, &again.owner));
        assert_ne!(first.owner, first.internal);
        let mode = fs::metadata(folder.path().join("secrets.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
