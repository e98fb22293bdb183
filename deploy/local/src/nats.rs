//! A private nats-server with JetStream. Its streams are a transport that PostgreSQL can refill, so that one profile does
//! for work and tests.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::warn;

use crate::account::Account;
use crate::command;
use crate::error::Error;
use crate::folder::Folder;
use crate::keeper::{self, Keeper, Server};
use crate::process::{Farewell, Process};
use crate::program::find_nats;

/// How often other ports are tried when someone takes a chosen one just before nats-server does.
const PORT_ATTEMPTS: usize = 5;

/// A store that cannot take this much is not worth starting.
const ROOM_MB: u64 = 32;

/// The one user of this server.
const USER: &str = "rapport";

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that belongs to this nats-server alone; made if need be.
    pub folder: PathBuf,
    /// The largest message in bytes, headers included; 1 MiB unless set, at most 64 MiB.
    pub max_payload: u32,
    /// The program, if it should not be searched for.
    pub program: Option<PathBuf>,
    /// Only for tests: a nats-server that cannot write any more is left as it is.
    pub left_frozen: bool,
}

impl Options {
    /// A nats-server in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), max_payload: 1 << 20, program: None, left_frozen: false }
    }

    /// Whether there is a nats-server that will do, before anything is made.
    ///
    /// # Errors
    /// There is none, or only one that is too old; the text says what to install.
    pub fn check(&self) -> Result<(), Error> {
        find_nats(self.program.as_deref()).map(drop)
    }
}

/// A running nats-server. It is started again when it ends unasked, and stopped by [`Nats::stop`]; if the value is dropped
/// or the process is killed, it is told to stop but not waited for.
pub struct Nats {
    keeper: Keeper,
    port: u16,
    monitor: u16,
    token: String,
    _folder: Folder,
}

impl Nats {
    /// Starts nats-server and waits until JetStream serves.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do: no server or an old one, a folder that is in use, full or
    /// read-only.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let program = find_nats(options.program.as_deref())?;
        let folder = Folder::open(&options.folder, 0o700)?;
        folder.needs_room(ROOM_MB)?;
        let token = folder.secret("token")?;
        let mut server = NatsServer {
            program,
            folder: folder.path().to_owned(),
            config: folder.join("nats.conf"),
            log: folder.join("nats.log"),
            port: 0,
            monitor: 0,
            left_frozen: options.left_frozen,
        };
        // Before ports are chosen: an orphan may still sit on those that we had.
        keeper::clear(&server).await?;
        let mut attempt = 1;
        loop {
            let (port, monitor) = (folder.free_port("nats")?, folder.free_port("monitor")?);
            let config = config(&folder.join("jetstream"), port, monitor, options.max_payload, &token);
            folder.write("nats.conf", &config)?;
            (server.port, server.monitor) = (port, monitor);
            match Keeper::start(server.clone()).await {
                Err(Error::PortTaken { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(refused) => return Err(refused),
                Ok(keeper) => {
                    folder.remember(&BTreeMap::from([("nats", port), ("monitor", monitor)]))?;
                    return Ok(Self { keeper, port, monitor, token, _folder: folder });
                }
            }
        }
    }

    /// The address for clients, token included: not for logs. The token stands where a password does, which every client
    /// library takes from a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{USER}:{}@{}:{}", self.token, Ipv4Addr::LOCALHOST, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the monitoring pages (`/healthz`, `/jsz` and so on), which only this machine can reach.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.monitor)
    }

    /// The process id of the server; none while it is being started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.keeper.pid()
    }

    /// Resolves when nats-server ends again and again and was given up. It need not be polled for nats-server to be kept.
    pub async fn given_up(&self) -> Error {
        self.keeper.given_up().await
    }

    /// Stops nats-server, by force if it takes too long.
    pub async fn stop(self) {
        self.keeper.stop().await;
    }
}

/// Without the token.
impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("port", &self.port).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// The configuration. JSON is a subset of what nats-server reads, and spares us its quoting.
fn config(store: &Path, port: u16, monitor: u16, max_payload: u32, token: &str) -> String {
    let config = json!({
        "server_name": "rapport",
        "listen": format!("{}:{port}", Ipv4Addr::LOCALHOST),
        "http": format!("{}:{monitor}", Ipv4Addr::LOCALHOST),
        "max_payload": max_payload.min(64 << 20),
        "authorization": { "user": USER, "password": token },
        "jetstream": { "store_dir": store },
    });
    format!("{config:#}\n")
}

/// What the keeper needs to know.
#[derive(Debug, Clone)]
struct NatsServer {
    program: PathBuf,
    folder: PathBuf,
    config: PathBuf,
    log: PathBuf,
    port: u16,
    monitor: u16,
    left_frozen: bool,
}

impl NatsServer {
    /// What the health page answers, if it does.
    async fn health(&self) -> Option<String> {
        timeout(Duration::from_secs(2), self.ask_health()).await.ok()?.ok()
    }

    async fn ask_health(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.monitor)).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Server for NatsServer {
    const NAME: &'static str = "nats-server";
    const FAREWELLS: &'static [Farewell] = &[(Signal::SIGINT, Duration::from_secs(20))];

    fn command(&self) -> Command {
        let mut command = command::server(&self.program, &Account::Ours, Signal::SIGINT);
        command.current_dir(&self.folder).arg("-c").arg(&self.config);
        command
    }

    fn data(&self) -> &Path {
        &self.folder
    }

    fn log(&self) -> &Path {
        &self.log
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// The health page answers 200 when JetStream has read its store. A power cut may leave a stream that it cannot read: it then
    /// serves as if there were none, until the stream is made anew, but its health page complains for as long.
    async fn is_ready(&self, _: Pid) -> bool {
        let answer = self.health().await.unwrap_or_default();
        if answer.lines().next().is_some_and(|line| line.contains(" 200 ")) {
            return true;
        }
        let serves = answer.contains("could not be recovered")
            && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok();
        if serves {
            warn!("a stream of nats-server was damaged, as by a power cut; it will be made anew");
        }
        serves
    }

    /// A stream that could not be written stays frozen until nats-server starts again, also when the disk has room by then.
    async fn complaint(&self) -> Option<String> {
        let answer = self.health().await?;
        let frozen = |line: &&str| line.contains("write error") && !self.left_frozen;
        answer.lines().last().filter(frozen).map(str::to_owned)
    }

    fn room_mb(&self) -> u64 {
        ROOM_MB
    }

    /// nats-server minds nothing that a crash leaves behind.
    fn clear_away(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Ours was started with our configuration file.
    fn owns(&self, process: &Process) -> bool {
        process.name == "nats-server"
            && process.folder == self.folder
            && process.arguments.iter().any(|argument| Path::new(argument) == self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_quotes_and_spaces_is_written_as_it_is() {
        let store = Path::new("/tmp/a \"b\" 客户/jetstream");
        let text = config(store, 4222, 8222, 1024, "0123");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read.pointer("/jetstream/store_dir").unwrap(), store.to_str().unwrap());
        assert_eq!(read.pointer("/listen").unwrap(), "127.0.0.1:4222");
    }
}
