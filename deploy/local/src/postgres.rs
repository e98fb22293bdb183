//! A private PostgreSQL: its cluster is made at the first start and kept; nothing else on the machine is touched.

mod cluster;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracing::warn;

use crate::account::Account;
use crate::command;
use crate::error::Error;
use crate::folder::Folder;
use crate::keeper::{self, Keeper, Server};
use crate::process::{Farewell, Process};
use cluster::Cluster;
pub use settings::Profile;

/// How often another port is tried when someone takes the chosen one just before PostgreSQL does.
const PORT_ATTEMPTS: usize = 5;

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that belongs to this PostgreSQL alone; made if need be.
    pub folder: PathBuf,
    /// Safe, or quick and forgetful.
    pub profile: Profile,
    /// Connections that PostgreSQL accepts; 200 unless set.
    pub max_connections: u16,
    /// The folder with `postgres` and `initdb`, if it should not be searched for.
    pub programs: Option<PathBuf>,
}

impl Options {
    /// A durable PostgreSQL in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), profile: Profile::Durable, max_connections: 200, programs: None }
    }

    /// The same for data that may be lost: several times quicker.
    #[must_use]
    pub fn fast(folder: impl Into<PathBuf>) -> Self {
        Self { profile: Profile::Fast, ..Self::new(folder) }
    }

    /// Whether there is a PostgreSQL that will do for the folder, before anything is made.
    ///
    /// # Errors
    /// There is none, or only one that is too old or of another version than the data; the text says what to install.
    pub fn check(&self) -> Result<(), Error> {
        cluster::programs(&self.folder.join("cluster"), self).map(drop)
    }
}

/// A running PostgreSQL. It is started again when it ends unasked, and stopped by [`Postgres::stop`]; if the value is
/// dropped or the process is killed, it is told to stop but not waited for.
pub struct Postgres {
    keeper: Keeper,
    port: u16,
    password: String,
    programs: PathBuf,
    socket_folder: Option<PathBuf>,
    folder: Folder,
}

impl Postgres {
    /// Starts PostgreSQL and waits until it accepts connections: about a second the first time, a tenth of one
    /// after that.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do: no server or an old one, a folder that is in use, out of
    /// reach, full or read-only.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let folder = Folder::open(&options.folder, 0o711)?;
        let Cluster { place, account, programs, password } = Cluster::open(&folder, &options).await?;
        let mut server = PostgresServer {
            data: place.join("data"),
            log: folder.join("postgres.log"),
            programs: programs.folder.clone(),
            port: 0,
            place,
            account,
        };
        let socket_folder = server.socket_folder();
        // Before a port is chosen: an orphan may still sit on the one that we had.
        keeper::clear(&server).await?;
        let mut attempt = 1;
        loop {
            server.port = folder.free_port("postgres")?;
            match Keeper::start(server.clone()).await {
                Err(Error::PortTaken { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(refused) => return Err(refused),
                Ok(keeper) => {
                    let port = server.port;
                    folder.remember(&BTreeMap::from([("postgres", port)]))?;
                    let programs = programs.folder;
                    return Ok(Self { keeper, port, password, programs, socket_folder, folder });
                }
            }
        }
    }

    /// The address of the database `postgres` for the superuser `postgres`, password included: not for logs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres:{}@{}:{}/postgres", self.password, Ipv4Addr::LOCALHOST, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket, unless its path would be too long for one.
    #[must_use]
    pub fn socket_folder(&self) -> Option<&Path> {
        self.socket_folder.as_deref()
    }

    /// The file that takes the server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    /// The folder with the programs of the same version: `pg_dump`, `pg_restore`, `pgbench` and so on.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The process id of the server; none while it is being started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.keeper.pid()
    }

    /// Resolves when PostgreSQL ends again and again and was given up. It need not be polled for PostgreSQL to be kept.
    pub async fn given_up(&self) -> Error {
        self.keeper.given_up().await
    }

    /// Stops PostgreSQL: open transactions are rolled back, everything is written. By force if that takes too long.
    pub async fn stop(self) {
        self.keeper.stop().await;
    }
}

/// Without the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("port", &self.port).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// What the keeper needs to know.
#[derive(Debug, Clone)]
struct PostgresServer {
    programs: PathBuf,
    account: Account,
    place: PathBuf,
    data: PathBuf,
    log: PathBuf,
    port: u16,
}

impl PostgresServer {
    /// A socket's path has at most 107 bytes; with a quote in it, it cannot be said in a setting.
    fn socket_folder(&self) -> Option<PathBuf> {
        let folder = self.place.join("run");
        let longest = folder.join(".s.PGSQL.65535.lock");
        let text = longest.to_str()?;
        (text.len() <= 107 && !text.contains(['"', '\''])).then_some(folder)
    }
}

impl Server for PostgresServer {
    const NAME: &'static str = "PostgreSQL";
    /// Fast shutdown (roll back, checkpoint, end), then immediate (end; recover at the next start).
    const FAREWELLS: &'static [Farewell] =
        &[(Signal::SIGINT, Duration::from_secs(45)), (Signal::SIGQUIT, Duration::from_secs(10))];

    fn command(&self) -> Command {
        let mut command = command::server(&self.programs.join("postgres"), &self.account, Signal::SIGINT);
        let sockets =
            self.socket_folder().map_or_else(String::new, |folder| format!("\"{}\"", folder.display()));
        command.current_dir(&self.data).arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]);
        for (name, value) in [
            ("config_file", self.place.join("postgresql.conf").display().to_string()),
            ("listen_addresses", Ipv4Addr::LOCALHOST.to_string()),
            ("unix_socket_directories", sockets),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
    }

    fn data(&self) -> &Path {
        &self.data
    }

    fn log(&self) -> &Path {
        &self.log
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn room_mb(&self) -> u64 {
        cluster::ROOM_FOR_START_MB
    }

    /// PostgreSQL writes its state to the last line of `postmaster.pid`, as `pg_ctl` reads it too; so nobody need sign in.
    async fn is_ready(&self, pid: Pid) -> bool {
        let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines();
        lines.next() == Some(pid.to_string().as_str())
            && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    /// PostgreSQL leaves `postmaster.pid` behind in a crash, and does not start if a process with that number exists, which
    /// by now may be any. We hold the folder's lock and no process works in it, so that such a file means nothing.
    fn clear_away(&self) -> Result<(), Error> {
        let path = self.data.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let number = text.lines().next().and_then(|line| line.trim().parse().ok());
        let recycled = number.is_some_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH));
        if recycled {
            warn!(path = %path.display(), "removing a lock file that names a process of someone else");
            fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
        }
        Ok(())
    }

    /// All processes of a PostgreSQL work in its data folder.
    fn owns(&self, process: &Process) -> bool {
        process.name == "postgres" && process.folder == self.data
    }
}
