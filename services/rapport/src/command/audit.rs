//! `rapport audit verify`: whether the logs of events, which are the audit trail, are as they were written.
//!
//! It asks the databases, not the services: it is for whoever does not want to believe those.
use std::{fs, path::PathBuf, time::Duration};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use rapport_events::{Checkpoints, Verified};
use rapport_kernel::BoxError;
use rapport_local::{Postgres, postgres};
use rapport_runtime::config::Config;
use rapport_store::Db;

use crate::{
    suite::{self, Role},
    up::{self, Running, Secrets},
};

/// What to do with the audit trail.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compute every digest and every chain of the logs anew, and compare them with the checkpoints that were signed; fails when
    /// anything is not as it was written
    Verify {
        /// Only the log of this service; may be repeated
        #[arg(long = "service", value_name = "NAME", value_parser = with_log)]
        services: Vec<Role>,
        /// The data folder of `rapport up`, running or not, where the configuration names no databases
        #[arg(long, value_name = "FOLDER", default_value = ".rapport")]
        data_dir: PathBuf,
    },
}

/// The services that have a log.
fn logs() -> impl Iterator<Item = Role> {
    Role::ALL.into_iter().filter(|role| role.migrations().is_some())
}

fn with_log(name: &str) -> Result<Role, String> {
    let names = logs().map(Role::name).collect::<Vec<_>>().join(", ");
    logs().find(|role| role.name() == name).ok_or(format!("there are {names}"))
}

/// Does it.
///
/// # Errors
/// When a log is not as it was written, after everything that is wrong was said; when a database does not answer.
pub async fn run(options: &Options, config: &Config) -> Result<(), BoxError> {
    let Action::Verify { services, data_dir } = &options.action;
    if !config.databases.is_empty() {
        return verify(services, config).await;
    }
    let data = fs::canonicalize(data_dir).map_err(|error| {
        format!("the configuration names no databases, and {} cannot be read: {error}", data_dir.display())
    })?;
    let secrets = Secrets::open_existing(&data)?;
    // A running installation lends its server; else one is started for as long as it takes.
    let (url, started) = match Running::find(&data) {
        Some(running) => (running.postgres, None),
        None => {
            let server = Postgres::start(postgres::Options::new(data.join("postgres"))).await?;
            (server.url(), Some(server))
        }
    };
    let mut config = config.clone();
    up::keep_checkpoints(&mut config, &data);
    let databases = logs().map(|role| (role.name().to_owned(), up::place(role, &url, &secrets))).collect();
    let verified = verify(services, &Config { databases, ..config }).await;
    if let Some(server) = started {
        server.stop().await;
    }
    verified
}

/// Verifies the logs of these services; of every service that has a database when none is named.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
async fn verify(services: &[Role], config: &Config) -> Result<(), BoxError> {
    let named = |role: &Role| {
        services.contains(role) || (services.is_empty() && config.databases.contains_key(role.name()))
    };
    let checkpoints = checkpoints(config).await?;
    if let Some(checkpoints) = &checkpoints {
        println!("checkpoints are signed by {}", checkpoints.verifier());
    }
    let mut faults = 0;
    for role in logs().filter(named) {
        let db = Db::connect(&suite::options(role, config)?).await?;
        let verified = with_progress(&db, role, checkpoints.as_ref()).await?;
        let Verified { lines, erased, checkpoints, faults: found } = verified;
        db.close().await;
        println!(
            "{}: {lines} lines, {erased} payloads erased, {checkpoints} checkpoints, {} faults",
            role.name(),
            found.len()
        );
        for fault in &found {
            println!("  {fault}");
        }
        faults += found.len();
    }
    if faults == 0 {
        Ok(())
    } else {
        Err(format!("the log is not as it was written: {faults} faults").into())
    }
}

/// The checkpoints to compare with. Where there is no key, none was ever signed with it: none is made for this.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
async fn checkpoints(config: &Config) -> Result<Option<Checkpoints>, BoxError> {
    match &config.log.checkpoint_key_file {
        Some(key) if !key.exists() => {
            println!("not compared with checkpoints: their key, {}, is missing", key.display());
            Ok(None)
        }
        _ => suite::checkpoints(config).await,
    }
}

/// Verifies a log; who looks on sees how far it is.
async fn with_progress(db: &Db, role: Role, checkpoints: Option<&Checkpoints>) -> Result<Verified, BoxError> {
    let bar = ProgressBar::new_spinner().with_message(role.name());
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}: {human_pos} lines, {per_sec}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let tell = |lines| bar.set_position(lines);
    let verified = rapport_events::verify_against(db, role.name(), checkpoints, tell).await;
    bar.finish_and_clear();
    Ok(verified?)
}
