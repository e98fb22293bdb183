//! The command line.
use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use rapport::{
    backup,
    command::{audit, import, migrate, serve, status, tenant, why},
    up,
};
use rapport_kernel::BoxError;
use rapport_runtime::config::Config;

/// Customer relationship management for many companies on one installation.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration; `rapport.toml` where it lies, unless said
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A setting, e.g. `--set limits.body_bytes=1048576`; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything here, with private servers and demo data, and say where it is
    Up(up::Options),
    /// Start the chosen roles of a cluster
    Serve(serve::Options),
    /// Bring the schemas of the configured databases up to date
    Migrate(migrate::Options),
    /// Create and list tenants
    Tenant(tenant::Options),
    /// Say how events fare at every service: what waits, what is stuck, and what to do
    Status(status::Options),
    /// Explain what happened to a record, or what an event led to
    Why(why::Options),
    /// Bring customers in from a CSV file
    Import(import::Options),
    /// Look whether the log of events is as it was written
    Audit(audit::Options),
    /// Write the whole installation to one archive, running or not
    Backup(backup::BackupOptions),
    /// Make an installation out of an archive
    Restore(backup::RestoreOptions),
    /// Print every setting with its meaning and default
    Config,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[expect(clippy::print_stderr, reason = "this is how a command says what went wrong")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rapport: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rapport: {}", told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error as the operator reads it: what callers of the API do not see, the cause, is theirs to know.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.downcast_ref::<rapport_kernel::Error>().and_then(std::error::Error::source);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "main is where the environment is read")]
async fn run(arguments: Arguments) -> Result<(), BoxError> {
    let default = PathBuf::from("rapport.toml");
    let file = arguments.config.or_else(|| default.exists().then_some(default));
    let config = Config::load(file.as_deref(), std::env::vars(), arguments.settings)?;
    match arguments.command {
        Command::Up(options) => up::up(&options, config).await,
        Command::Serve(options) => serve::serve(&options, config).await,
        Command::Migrate(options) => migrate::migrate(&options, &config).await,
        Command::Tenant(options) => tenant::run(&options).await,
        Command::Status(options) => status::run(&options).await,
        Command::Why(options) => why::run(&options).await,
        Command::Import(options) => import::run(&options).await,
        Command::Audit(options) => audit::run(&options, &config).await,
        Command::Backup(options) => backup::backup(&options).await,
        Command::Restore(options) => backup::restore(&options).await,
        Command::Config => {
            use std::io::Write as _;
            Ok(write!(std::io::stdout(), "{}", Config::reference())?)
        }
    }
}
