//! `rapport migrate`: schemas first, then the new version.
use std::{fs, path::PathBuf};

use percent_encoding::percent_decode_str;
use rapport_kernel::BoxError;
use rapport_runtime::config::{Config, Database};
use rapport_store::provision;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::suite::Role;

/// How to migrate.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Make the databases first, and the roles that the configuration signs in as, where they are missing: a file that holds
    /// the URL of a superuser's connection, `postgres://postgres:…@host:5432/postgres`
    #[arg(long, value_name = "FILE")]
    superuser_file: Option<PathBuf>,
    /// The databases were restored from backups, while no process runs: have their logs go on from there
    #[arg(long)]
    restored: bool,
}

impl Options {
    /// Those for databases that were restored.
    pub(crate) const fn restored() -> Self {
        Self { superuser_file: None, restored: true }
    }
}

/// Brings the schema of every configured database up to date.
///
/// # Errors
/// When a database is not of a known service, its owner's URL is missing, or a step fails; steps before it stay.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
pub async fn migrate(options: &Options, config: &Config) -> Result<(), BoxError> {
    if config.databases.is_empty() {
        return Err("the configuration names no databases: set databases.<service>.owner_url".into());
    }
    let superuser = options.superuser_file.as_ref().map(|file| {
        fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
    });
    let superuser = superuser.transpose()?;
    for (name, database) in &config.databases {
        let role = Role::ALL.into_iter().find(|role| role.name() == name);
        let steps = role.and_then(Role::migrations).ok_or_else(|| format!("there is no service `{name}`"))?;
        let owner = database.owner_url.expose_secret();
        if owner.is_empty() {
            return Err(
                format!("set databases.{name}.owner_url: migrations run as the owner of the tables").into()
            );
        }
        if let Some(superuser) = &superuser {
            make(name, database, superuser.trim()).await?;
        }
        rapport_store::migrate(owner, steps).await?;
        println!("{name}: up to date");
    }
    if options.restored {
        let owner = |(name, database): (&String, &Database)| {
            (name.clone(), database.owner_url.expose_secret().to_owned())
        };
        rapport_events::align_restored(&config.databases.iter().map(owner).collect::<Vec<_>>()).await?;
        println!("their logs go on from where the backups were made");
    }
    Ok(())
}

/// Makes the database of a service and the roles that its URLs sign in as.
async fn make(service: &str, database: &Database, superuser: &str) -> Result<(), BoxError> {
    let url = |key: &str, url: &str, role: &str| {
        let wrong = |problem: String| format!("databases.{service}.{key} {problem}");
        let url = Url::parse(url).map_err(|error| wrong(format!("is no URL: {error}")))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = url.password().map(decoded).unwrap_or_default();
        if decoded(url.username()) != role || password.is_empty() {
            return Err(wrong(format!("must sign in as `{role}`, with a password")));
        }
        Ok((decoded(url.path().trim_start_matches('/')), password))
    };
    let (name, password) = url("url", database.url.expose_secret(), &format!("rapport_{service}"))?;
    let (owned, owner_password) = url("owner_url", database.owner_url.expose_secret(), "rapport_owner")?;
    if name != owned || name.is_empty() {
        return Err(format!(
            "databases.{service}.url is of the database `{name}`, and owner_url of `{owned}`: they must be the same"
        )
        .into());
    }
    Ok(provision(superuser, service, &name, &password, &owner_password).await?)
}
