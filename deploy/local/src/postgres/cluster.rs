//! The files of PostgreSQL: where they lie, whose they are, and how they come to be.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Options;
use super::settings::{self, Profile};
use crate::account::Account;
use crate::command;
use crate::error::Error;
use crate::folder::{self, Folder};
use crate::keeper::last_lines;
use crate::program::{PostgresPrograms, find_postgres};

/// A new cluster takes about 60 MB.
const ROOM_FOR_NEW_MB: u64 = 160;

/// Enough to start and to say that the disk is filling up.
pub(super) const ROOM_FOR_START_MB: u64 = 32;

/// Where the files go when PostgreSQL's user may not pass to the folder that was asked for, as below `/root`.
const ELSEWHERE: &str = "/var/lib/rapport";

/// A cluster that is ready to be started.
pub(super) struct Cluster {
    /// The folder of the cluster: `data/` and `run/` belong to the account, the rest is ours.
    pub(super) place: PathBuf,
    pub(super) account: Account,
    pub(super) programs: PostgresPrograms,
    pub(super) password: String,
}

impl Cluster {
    /// Finds the cluster in `folder/cluster`, or makes one.
    pub(super) async fn open(folder: &Folder, options: &Options) -> Result<Self, Error> {
        let link = folder.join("cluster");
        let account = Account::for_cluster(&link.join("data"))?;
        let made = major_version(&link.join("data"));
        let programs = programs(&link, options)?;
        folder.needs_room(if made.is_some() { ROOM_FOR_START_MB } else { ROOM_FOR_NEW_MB })?;
        let place = place(&link, &account)?;
        let password_file = folder.join("password");
        if made.is_some() && !password_file.exists() {
            return Err(Error::PasswordLost { path: password_file });
        }
        let password = folder.secret("password")?;
        let cluster = Self { place, account, programs, password };
        if made.is_none() {
            cluster.create(options.profile).await?;
        }
        cluster.configure(options.profile, options.max_connections)?;
        Ok(cluster)
    }

    /// Writes the settings anew, so that they are those of this version of Rapport. `ALTER SYSTEM` stands above them.
    fn configure(&self, profile: Profile, max_connections: u16) -> Result<(), Error> {
        let path = self.place.join("postgresql.conf");
        fs::write(&path, settings::text(profile, max_connections, settings::memory_mb()))
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .map_err(|source| Error::io("write", &path, source))
    }

    /// Makes the cluster under another name and renames it when it is complete, so that a crash leaves none or a whole one.
    async fn create(&self, profile: Profile) -> Result<(), Error> {
        info!(folder = %self.place.display(), "making a new database cluster");
        let draft = self.place.join("data.new");
        let password_file = self.place.join("password.new");
        remove(&draft)?;
        folder::create(&draft, 0o700)?;
        self.account.own(&draft)?;
        let run = self.place.join("run");
        folder::create(&run, 0o755)?;
        self.account.own(&run)?;
        folder::write_private(&password_file, &self.password)?;
        self.account.own(&password_file)?;
        let made = self.initdb(&draft, &password_file, profile).await;
        remove(&password_file)?;
        if made.is_err() {
            remove(&draft)?;
        }
        made?;
        folder::rename(&draft, &self.place.join("data"))
    }

    async fn initdb(&self, draft: &Path, password_file: &Path, profile: Profile) -> Result<(), Error> {
        let mut command = command::brief(self.programs.folder.join("initdb"), &self.account);
        command
            .current_dir(draft)
            .stdin(Stdio::null())
            .arg("-D")
            .arg(draft)
            .arg("--pwfile")
            .arg(password_file)
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--data-checksums",
            ]);
        if profile == Profile::Fast {
            command.arg("--no-sync");
        }
        let output = spawn_blocking(move || command.output())
            .await
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|source| Error::io("run initdb in", draft, source))?;
        if output.status.success() {
            return Ok(());
        }
        let said = last_lines(&format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
        Err(Error::in_output(&self.place, &said)
            .unwrap_or(Error::Initdb { status: output.status, output: said }))
    }
}

/// The programs for the cluster that `link` names, if there is one.
pub(super) fn programs(link: &Path, options: &Options) -> Result<PostgresPrograms, Error> {
    find_postgres(options.programs.as_deref(), link, major_version(&link.join("data")))
}

/// The folder for the cluster: `link` itself, or where it points to since the first start.
fn place(link: &Path, account: &Account) -> Result<PathBuf, Error> {
    if link.symlink_metadata().is_err() {
        let above = link.parent().unwrap_or(link);
        if account.reaches(above) {
            folder::create(link, 0o711)?;
        } else {
            let elsewhere = Path::new(ELSEWHERE).join(format!("{:016x}", rand::random::<u64>()));
            folder::create(&elsewhere, 0o711)?;
            symlink(&elsewhere, link).map_err(|source| Error::io("create", link, source))?;
            warn!(
                folder = %elsewhere.display(),
                "PostgreSQL may not run as root and its user cannot pass to {}; the database is kept elsewhere",
                above.display()
            );
        }
    }
    let place = fs::canonicalize(link).map_err(|source| Error::io("find", link, source))?;
    match account {
        Account::Other { name, .. } if !account.reaches(&place) => {
            Err(Error::OutOfReach { path: place, user: name.clone() })
        }
        _ => Ok(place),
    }
}

/// The major version of the cluster in a data folder, if there is one.
fn major_version(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}
