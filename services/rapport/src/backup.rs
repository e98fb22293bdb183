//! `rapport backup` and `rapport restore`: the whole installation of `rapport up` as one archive, and back from it.
//!
//! Each database is dumped at one moment, while it serves; files that were uploaded and the installation's secrets go along.
//! The archive holds everything and is therefore as secret as the installation: only its owner can read it.
mod archive;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use rapport_kernel::BoxError;
use rapport_local::{Postgres, postgres};
use rapport_runtime::config::Config;
use rapport_store::provision;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::{
    command::migrate::{self, migrate},
    suite::Role,
    up::{self, Running, Secrets},
};

/// What to back up, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupOptions {
    /// The archive to write; must not exist
    pub file: PathBuf,
    /// The data folder of `rapport up`, running or not
    #[arg(long, value_name = "FOLDER", default_value = ".rapport")]
    pub data_dir: PathBuf,
}

/// What to restore, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreOptions {
    /// The archive to read
    pub file: PathBuf,
    /// The data folder to make; must be empty or missing
    #[arg(long, value_name = "FOLDER", default_value = ".rapport")]
    pub data_dir: PathBuf,
}

/// What the archive says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// The version that wrote it.
    version: String,
    /// The databases in it, by role.
    databases: Vec<String>,
}

/// Files and folders beside the databases that belong to an installation.
const KEPT: [&str; 5] =
    ["secrets.json", crate::up::OPERATOR_KEY, crate::up::CHECKPOINT_KEY, "demo.json", "blobs"];

/// Writes the archive.
///
/// # Errors
/// In words for whoever typed the command; nothing is left half-written.
pub async fn backup(options: &BackupOptions) -> Result<(), BoxError> {
    let data = fs::canonicalize(&options.data_dir)
        .map_err(|error| format!("{} cannot be read: {error}", options.data_dir.display()))?;
    Secrets::open_existing(&data)?;
    let work = tempdir_beside(&options.file)?;
    // A running installation lends its server; else one is started for as long as it takes.
    let (url, programs, started) = match Running::find(&data) {
        Some(running) => (running.postgres, running.programs, None),
        None => {
            let server = Postgres::start(postgres::Options::new(data.join("postgres"))).await?;
            (server.url(), server.programs().to_owned(), Some(server))
        }
    };
    let dumped = dump_all(&url, &programs, work.path()).await;
    if let Some(server) = started {
        server.stop().await;
    }
    let manifest = Manifest { version: env!("CARGO_PKG_VERSION").to_owned(), databases: dumped? };
    fs::write(work.path().join("manifest.json"), serde_json::to_vec_pretty(&manifest)?)?;
    archive::write(&options.file, work.path(), &data, &KEPT)
}

async fn dump_all(url: &str, programs: &Path, into: &Path) -> Result<Vec<String>, BoxError> {
    let mut dumped = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| role.migrations().is_some()) {
        let file = into.join(format!("{}.dump", role.name()));
        let mut dump = Command::new(programs.join("pg_dump"));
        dump.arg("--format=custom").arg("--file").arg(&file).arg(database_url(url, role));
        run(dump, "pg_dump").await?;
        dumped.push(role.name().to_owned());
    }
    Ok(dumped)
}

/// Makes an installation out of an archive. Start it with `rapport up`.
///
/// # Errors
/// In words for whoever typed the command; what was begun is removed.
pub async fn restore(options: &RestoreOptions) -> Result<(), BoxError> {
    let folder = &options.data_dir;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty; name a new folder with --data-dir", folder.display()).into());
    }
    fs::create_dir_all(folder)?;
    let data = fs::canonicalize(folder)?;
    let work = tempdir_beside(&data)?;
    let manifest: Manifest = archive::read(&options.file, work.path(), &data, &KEPT)?;
    let restored = restore_all(&data, work.path(), &manifest).await;
    if restored.is_err() {
        let _ = fs::remove_dir_all(&data);
    }
    restored
}

async fn restore_all(data: &Path, from: &Path, manifest: &Manifest) -> Result<(), BoxError> {
    let secrets = Secrets::open_existing(data)?;
    let server = Postgres::start(postgres::Options::new(data.join("postgres"))).await?;
    let mut outcome = Ok(());
    for name in &manifest.databases {
        outcome = restore_one(&server, &secrets, from, name).await;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        let restored =
            Role::ALL.into_iter().filter(|role| manifest.databases.iter().any(|name| name == role.name()));
        let databases =
            restored.map(|role| (role.name().to_owned(), up::place(role, &server.url(), &secrets)));
        let config = Config { databases: databases.collect(), ..Config::default() };
        outcome = migrate(&migrate::Options::restored(), &config).await;
    }
    server.stop().await;
    outcome
}

async fn restore_one(server: &Postgres, secrets: &Secrets, from: &Path, name: &str) -> Result<(), BoxError> {
    let role = Role::ALL
        .into_iter()
        .find(|role| role.name() == name && role.migrations().is_some())
        .ok_or_else(|| format!("the archive has a database of `{name}`, which this version does not know"))?;
    let database = format!("rapport_{name}");
    provision(&server.url(), name, &database, &secrets.database(name), &secrets.owner).await?;
    let mut restore = Command::new(server.programs().join("pg_restore"));
    restore
        .arg("--exit-on-error")
        .arg("--single-transaction")
        .arg("--dbname")
        .arg(database_url(&server.url(), role))
        .arg(from.join(format!("{name}.dump")));
    run(restore, "pg_restore").await
}

fn database_url(superuser: &str, role: Role) -> String {
    let (server, _) = superuser.rsplit_once('/').unwrap_or((superuser, ""));
    format!("{server}/rapport_{}", role.name())
}

/// Runs a program of PostgreSQL; what it complains about becomes the error.
async fn run(mut command: Command, name: &str) -> Result<(), BoxError> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} failed: {}", said.lines().next_back().unwrap_or("it does not say why")).into())
}

/// A folder for what is on the way, on the same disk, readable by the owner alone.
fn tempdir_beside(path: &Path) -> Result<tempfile::TempDir, BoxError> {
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".rapport-backup-")
        .tempdir_in(beside)
        .map_err(|error| format!("{} cannot be written to: {error}", beside.display()).into())
}
