//! `with-servers [--durable] [--within FOLDER] -- COMMAND …`: see [`rapport_local::with_servers()`].

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rapport_local::{Beside, with_servers};
use tracing_subscriber::EnvFilter;

/// Runs a command beside a PostgreSQL and a nats-server that live as long as it does.
#[derive(Debug, Parser)]
struct Arguments {
    /// Safe servers on disk instead of quick ones in memory, for benchmarks
    #[arg(long)]
    durable: bool,

    /// Where to make the servers' folders, instead of in memory or, if that is short, in target/
    #[arg(long, value_name = "FOLDER")]
    within: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn"))
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    let Some((program, rest)) = arguments.command.split_first() else {
        return ExitCode::FAILURE;
    };
    let beside =
        Beside { durable: arguments.durable, within: arguments.within, fallback: PathBuf::from("target") };
    match with_servers(&beside, program, rest).await {
        Ok(code) => ExitCode::from(code),
        Err(refused) => {
            let _ = writeln!(std::io::stderr(), "with-servers: {refused}");
            ExitCode::FAILURE
        }
    }
}
