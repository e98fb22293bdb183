//! Keeping one server running: start it and wait until it is ready, start it again when it ends unasked or says that it cannot
//! go on, stop it when told. A server whose disk is full is started when there is room.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::error::Error;
use crate::folder::has_room;
use crate::process::{Child, Farewell, Process, end_orphans};

/// A server that starts again more often than this within a minute is given up.
const RESTARTS_A_MINUTE: usize = 5;

/// How often a server is asked whether it is well.
const ASK: Duration = Duration::from_secs(2);

/// A server that says so often in a row that it cannot go on is started again.
const COMPLAINTS: usize = 3;

/// How often it is looked whether a full disk has room again.
const LOOK: Duration = Duration::from_secs(1);

/// A log that has grown past this is set aside at the next start; the one set aside before it goes.
const LOG_LIMIT: u64 = 8 << 20;

/// What the keeper must know of a server.
pub(crate) trait Server: Send + Sync + 'static {
    /// The name in messages.
    const NAME: &'static str;
    /// How it is asked to end, most gently first.
    const FAREWELLS: &'static [Farewell];

    /// The command that runs it in the foreground.
    fn command(&self) -> Command;
    /// The folder that holds its data, for messages.
    fn data(&self) -> &Path;
    /// The file that takes its output.
    fn log(&self) -> &Path;
    /// How long a start may take, recovery after a crash included.
    fn patience(&self) -> Duration;
    /// Whether the process serves by now.
    fn is_ready(&self, pid: Pid) -> impl Future<Output = bool> + Send;
    /// What the server says of itself that only a start can mend, if it does.
    fn complaint(&self) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }
    /// What must be free on the disk for a start, in MB.
    fn room_mb(&self) -> u64;
    /// Removes what a crash left behind and a start would stumble over. No process runs on the data at that moment.
    fn clear_away(&self) -> Result<(), Error>;
    /// Whether a process runs on this server's data.
    fn owns(&self, process: &Process) -> bool;
}

/// What the keeper's task reports.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running(Pid),
    Restarting,
    GaveUp { times: usize, last: String },
}

/// A server that is kept running until [`Keeper::stop`]. If it is dropped instead, the server is told to stop, but not
/// waited for.
#[derive(Debug)]
pub(crate) struct Keeper {
    name: &'static str,
    state: watch::Receiver<State>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts the server, waits until it is ready and keeps it from then on.
    pub(crate) async fn start<S: Server>(server: S) -> Result<Self, Error> {
        let child = launch(&server).await?;
        let (report, state) = watch::channel(State::Running(child.pid()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keep(server, child, stopped, report));
        Ok(Self { name: S::NAME, state, stop, task })
    }

    /// The process, while there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &*self.state.borrow() {
            State::Running(pid) => u32::try_from(pid.as_raw()).ok(),
            _ => None,
        }
    }

    /// Resolves when the server was given up; never, if all goes well.
    pub(crate) async fn given_up(&self) -> Error {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::GaveUp { .. })).await.as_deref() {
            Ok(State::GaveUp { times, last }) => {
                Error::GaveUp { server: self.name, times: *times, last: last.clone() }
            }
            _ => std::future::pending().await,
        }
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn keep<S: Server>(
    server: S,
    mut child: Child,
    mut stopped: oneshot::Receiver<()>,
    report: watch::Sender<State>,
) {
    let mut attempts = Vec::new();
    loop {
        let reason = tokio::select! {
            _ = &mut stopped => return child.end(S::FAREWELLS).await,
            status = child.ended() => format!("it ended with {status}"),
            complaint = complaints(&server) => format!("it says: {complaint}"),
        };
        warn!(reason, "{} is started again", S::NAME);
        report.send_replace(State::Restarting);
        child.end(S::FAREWELLS).await;
        let restarted = tokio::select! {
            _ = &mut stopped => {
                let _ = clear(&server).await;
                return;
            }
            restarted = restart(&server, &mut attempts, reason) => restarted,
        };
        match restarted {
            Ok(again) => {
                child = again;
                report.send_replace(State::Running(child.pid()));
            }
            Err(last) => {
                report.send_replace(State::GaveUp { times: attempts.len(), last });
                let _ = stopped.await;
                return;
            }
        }
    }
}

/// Resolves when the server has said several times in a row that it cannot go on.
async fn complaints<S: Server>(server: &S) -> String {
    let mut times = 0;
    loop {
        sleep(ASK).await;
        match server.complaint().await {
            Some(complaint) if times + 1 == COMPLAINTS => return complaint,
            Some(_) => times += 1,
            None => times = 0,
        }
    }
}

/// Waits until the disk has room for a start.
async fn room<S: Server>(server: &S) {
    let mut told = false;
    while let Err(full) = has_room(server.data(), server.room_mb()) {
        if !std::mem::replace(&mut told, true) {
            warn!(error = %full, "{} is started again when there is room", S::NAME);
        }
        sleep(LOOK).await;
    }
}

/// Tries again after growing pauses, and when there is room; gives up, and says why, when the attempts of the last minute are
/// used up, whether they failed or led to a server that ended soon.
async fn restart<S: Server>(
    server: &S,
    attempts: &mut Vec<Instant>,
    mut last: String,
) -> Result<Child, String> {
    loop {
        attempts.retain(|attempt| attempt.elapsed() < Duration::from_secs(60));
        if attempts.len() >= RESTARTS_A_MINUTE {
            return Err(last);
        }
        sleep(Duration::from_millis(100 << attempts.len())).await;
        room(server).await;
        attempts.push(Instant::now());
        match launch(server).await {
            Ok(child) => return Ok(child),
            Err(refused) => {
                last = refused.to_string();
                warn!(error = last, "{} could not be started again", S::NAME);
            }
        }
    }
}

/// Ends what an earlier crash left running on the server's data, and removes what it left lying about.
pub(crate) async fn clear<S: Server>(server: &S) -> Result<(), Error> {
    end_orphans(S::NAME, |process| server.owns(process), S::FAREWELLS).await?;
    server.clear_away()
}

/// Starts the server and waits until it is ready.
async fn launch<S: Server>(server: &S) -> Result<Child, Error> {
    clear(server).await?;
    let mut log = Log::open(server.log())?;
    let mut command = server.command();
    command.stdin(Stdio::null()).stdout(log.writer()?).stderr(log.writer()?);
    let farewell = S::FAREWELLS.first().map_or(Signal::SIGTERM, |(signal, _)| *signal);
    let mut child =
        Child::start(command, farewell).await.map_err(|source| Error::io("run", server.data(), source))?;

    let begun = Instant::now();
    let mut told = 0;
    while begun.elapsed() < server.patience() {
        if server.is_ready(child.pid()).await {
            return Ok(child);
        }
        if let Ok(status) = timeout(Duration::from_millis(20), child.ended()).await {
            return Err(explain::<S>(server, status, log.tail()));
        }
        if begun.elapsed().as_secs() / 10 > told {
            told = begun.elapsed().as_secs() / 10;
            info!(
                seconds = told * 10,
                "{} is not ready yet; after a crash it may have to recover first",
                S::NAME
            );
        }
    }
    child.end(S::FAREWELLS).await;
    Err(Error::NotReady { server: S::NAME, after: server.patience(), log: server.log().to_owned() })
}

/// Says why a server ended while starting, from what it wrote to its log.
fn explain<S: Server>(server: &S, status: ExitStatus, output: String) -> Error {
    if let Some(known) = Error::in_output(server.data(), &output) {
        return known;
    }
    if output.to_lowercase().contains("address already in use") {
        return Error::PortTaken { server: S::NAME, output };
    }
    Error::Ended { server: S::NAME, status, log: server.log().to_owned(), output }
}

/// The output of a server, from this start on.
struct Log<'a> {
    path: &'a Path,
    file: File,
    start: u64,
}

impl<'a> Log<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        if fs::metadata(path).is_ok_and(|log| log.len() > LOG_LIMIT) {
            fs::rename(path, path.with_extension("log.old"))
                .map_err(|source| Error::io("rename", path, source))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::io("open", path, source))?;
        let start = file.seek(SeekFrom::End(0)).map_err(|source| Error::io("open", path, source))?;
        Ok(Self { path, file, start })
    }

    fn writer(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(|source| Error::io("open", self.path, source))
    }

    fn tail(&mut self) -> String {
        let mut output = Vec::new();
        let _ = self.file.seek(SeekFrom::Start(self.start)).and_then(|_| self.file.read_to_end(&mut output));
        last_lines(&String::from_utf8_lossy(&output))
    }
}

/// The end of a program's output, indented, as a message shows it.
pub(crate) fn last_lines(output: &str) -> String {
    let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown: Vec<_> = lines
        .iter()
        .skip(lines.len().saturating_sub(12))
        .map(|line| format!("  {}", line.trim_end()))
        .collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_the_end_of_a_long_output() {
        let output: String = (1..=100).map(|line| format!("line {line}\n\n")).collect();
        let shown = last_lines(&output);
        assert_eq!(shown.lines().count(), 12);
        assert!(shown.ends_with("  line 100"));
    }

    #[test]
    fn a_log_that_has_grown_is_set_aside_and_the_tail_starts_with_this_start() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("server.log");
        fs::write(&path, "before\n").unwrap();
        let mut log = Log::open(&path).unwrap();
        std::io::Write::write_all(&mut log.writer().unwrap(), b"now\n").unwrap();
        assert_eq!(log.tail(), "  now");

        File::options().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        Log::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(place.path().join("server.log.old").exists());
    }
}
