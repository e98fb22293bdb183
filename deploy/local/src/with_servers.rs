//! Running a command beside servers that live as long as it does: how the tests and the benchmarks get theirs.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::command;
use crate::error::Error;
use crate::nats::{self, Nats};
use crate::postgres::{self, Postgres, Profile};
use crate::process::Child;
use crate::scratch::Scratch;

/// Tests hold many small pools at once.
const CONNECTIONS: u16 = 500;

/// What to start beside the command.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Safe servers on disk instead of quick ones in memory: for benchmarks.
    pub durable: bool,
    /// Where the servers' folders are made, instead of where there is room in memory.
    pub within: Option<PathBuf>,
    /// Where they are made if memory is short; on disk.
    pub fallback: PathBuf,
}

/// Starts PostgreSQL and nats-server in a folder that is removed afterwards, and runs the command with their addresses in
/// `RAPPORT_TEST_POSTGRES` (superuser) and `RAPPORT_TEST_NATS`; PostgreSQL's programs are in the folder
/// `RAPPORT_TEST_POSTGRES_PROGRAMS`, its log is the file `RAPPORT_TEST_POSTGRES_LOG`. Signals go on to the command. The result is its exit code, as a shell would say it.
///
/// # Errors
/// When a server or the command cannot be started.
pub async fn with_servers(beside: &Beside, program: &OsString, arguments: &[OsString]) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let scratch = match (&beside.within, beside.durable) {
        (Some(folder), _) => Scratch::within(folder),
        (None, true) => Scratch::on_disk(&beside.fallback),
        (None, false) => Scratch::new(&beside.fallback),
    }?;
    let profile = if beside.durable { Profile::Durable } else { Profile::Fast };
    let options = postgres::Options {
        profile,
        max_connections: CONNECTIONS,
        ..postgres::Options::new(scratch.path().join("postgres"))
    };
    let nats_options = nats::Options::new(scratch.path().join("nats"));
    let mut starting = pin!(async { tokio::join!(Postgres::start(options), Nats::start(nats_options)) });
    let mut early = None;
    let servers = loop {
        tokio::select! {
            servers = &mut starting => break servers,
            signal = signals.next() => early = Some(signal),
        }
    };
    // What runs is stopped before an error is told, so that the folder can be removed.
    match servers {
        (Ok(postgres), Ok(nats)) => {
            let result = match early {
                Some(signal) => Ok(128 + signal as u8),
                None => run(&postgres, &nats, program, arguments, &mut signals).await,
            };
            tokio::join!(postgres.stop(), nats.stop());
            result
        }
        (Err(refused), Ok(nats)) => {
            nats.stop().await;
            Err(refused)
        }
        (Ok(postgres), Err(refused)) => {
            postgres.stop().await;
            Err(refused)
        }
        (Err(refused), Err(_)) => Err(refused),
    }
}

async fn run(
    postgres: &Postgres,
    nats: &Nats,
    program: &OsString,
    arguments: &[OsString],
    signals: &mut Signals,
) -> Result<u8, Error> {
    info!(postgres.port = postgres.port(), nats.port = nats.port(), "servers are ready");
    let mut command = command::attached(program);
    command
        .args(arguments)
        .env("RAPPORT_TEST_POSTGRES", postgres.url())
        .env("RAPPORT_TEST_POSTGRES_PROGRAMS", postgres.programs())
        .env("RAPPORT_TEST_POSTGRES_LOG", postgres.log())
        .env("RAPPORT_TEST_NATS", nats.url());
    let mut child = Child::start(command, Signal::SIGTERM)
        .await
        .map_err(|source| Error::io("run", program.as_ref(), source))?;
    // In a terminal, Ctrl-C reaches the command without us.
    let terminal = std::io::stdin().is_terminal();
    loop {
        tokio::select! {
            status = child.ended() => return Ok(exit_code(status)),
            signal = signals.next() => if !(terminal && signal == Signal::SIGINT) {
                child.signal(signal);
            },
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The signals by which people and machines ask a program to end.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|source| Error::io("listen for", "signals".as_ref(), source));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hang_up.recv() => Signal::SIGHUP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_one_a_shell_would_give() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
