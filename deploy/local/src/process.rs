//! Processes: children that we start and wait for, and orphans that an earlier crash left behind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use crate::error::Error;

/// One way to end a process, and how long to wait for it before the next one.
pub(crate) type Farewell = (Signal, Duration);

/// A running child. One that is dropped is told to end, but not waited for.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    reaped: Arc<Mutex<bool>>,
    status: watch::Receiver<Option<ExitStatus>>,
    on_drop: Signal,
}

impl Child {
    /// Starts a command. A thread of its own starts the child and waits for it: the kernel sends the "parent is gone" signal
    /// when the *thread* that started a process ends, so that threads of a pool, which come and go, will not do.
    pub(crate) async fn start(mut command: Command, on_drop: Signal) -> std::io::Result<Self> {
        let (tell_start, started) = oneshot::channel();
        let (tell_end, status) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let reaped_by_thread = Arc::clone(&reaped);
        std::thread::Builder::new().name("child".to_owned()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(refused) => {
                    let _ = tell_start.send(Err(refused));
                    return;
                }
            };
            let pid = Pid::from_raw(child.id().cast_signed());
            if tell_start.send(Ok(pid)).is_err() {
                // Whoever wanted it does not wait any more, so that nobody would ever end it.
                let _ = child.kill();
            }
            // Wait without reaping, then reap under the lock: a signal can never go to a process that got the number next.
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
                == Err(nix::errno::Errno::EINTR)
            {}
            let mut reaped = reaped_by_thread.lock().unwrap_or_else(PoisonError::into_inner);
            *reaped = true;
            let _ = tell_end.send(child.wait().ok());
        })?;
        let pid =
            started.await.unwrap_or_else(|_| Err(std::io::Error::other("the starting thread ended")))?;
        Ok(Self { pid, reaped, status, on_drop })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal, if the process is still there.
    pub(crate) fn signal(&self, signal: Signal) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for the end. Dropping the future loses nothing.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        match self.status.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            Err(_) => ExitStatus::default(),
        }
    }

    /// Ends the process: each way in turn, then by force.
    pub(crate) async fn end(mut self, farewells: &[Farewell]) {
        for (signal, patience) in farewells {
            self.signal(*signal);
            if timeout(*patience, self.ended()).await.is_ok() {
                return;
            }
            warn!(process.id = self.pid.as_raw(), signal = signal.as_str(), "process did not end in time");
        }
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(self.on_drop);
    }
}

/// A process as the system describes it. What we may not see of other users' processes is empty.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// The name of the program, cut to 15 bytes by the kernel.
    pub(crate) name: String,
    /// The working folder.
    pub(crate) folder: PathBuf,
    /// The command line.
    pub(crate) arguments: Vec<String>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let about = PathBuf::from(format!("/proc/{pid}"));
        let arguments = fs::read(about.join("cmdline")).ok()?;
        Some(Self {
            pid: Pid::from_raw(pid),
            name: fs::read_to_string(about.join("comm")).ok()?.trim_end().to_owned(),
            folder: fs::read_link(about.join("cwd")).unwrap_or_default(),
            arguments: arguments
                .split(|byte| *byte == 0)
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect(),
        })
    }
}

/// The processes of this machine for which `ours` holds.
pub(crate) fn processes(ours: impl Fn(&Process) -> bool) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .filter(ours)
        .collect()
}

/// Stops what an earlier crash left running. `ours` must hold for nothing but that: it should look at the data folder.
pub(crate) async fn end_orphans(
    server: &'static str,
    ours: impl Fn(&Process) -> bool,
    farewells: &[Farewell],
) -> Result<(), Error> {
    let by_force = (Signal::SIGKILL, Duration::from_secs(5));
    for (signal, patience) in farewells.iter().chain([&by_force]) {
        let found = processes(&ours);
        if found.is_empty() {
            return Ok(());
        }
        for orphan in &found {
            warn!(
                process.id = orphan.pid.as_raw(),
                signal = signal.as_str(),
                "stopping a {server} process that a crash left behind"
            );
            let _ = kill(orphan.pid, *signal);
        }
        let deadline = Instant::now() + *patience;
        while !processes(&ours).is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
    }
    match processes(&ours).first() {
        Some(left) => Err(Error::Orphan { server, pid: left.pid.as_raw() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[tokio::test]
    async fn a_child_that_ignores_a_signal_is_ended_by_force() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' INT; while :; do sleep 0.05; done"]);
        let child = Child::start(command, Signal::SIGKILL).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        child.end(&[(Signal::SIGINT, Duration::from_millis(200))]).await;
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_dropped_child_ends() {
        let child = Child::start(sleeper(), Signal::SIGTERM).await.unwrap();
        let mut status = child.status.clone();
        drop(child);
        timeout(Duration::from_secs(5), status.wait_for(Option::is_some)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_cannot_start() {
        assert!(Child::start(Command::new("/no/such/program"), Signal::SIGTERM).await.is_err());
    }

    #[tokio::test]
    async fn only_orphans_that_are_ours_are_ended() {
        let mark = format!("{}", 700_000 + std::process::id());
        let mut marked = Command::new("sleep");
        marked.arg(&mark);
        let mut ours = Child::start(marked, Signal::SIGKILL).await.unwrap();
        let other = Child::start(sleeper(), Signal::SIGKILL).await.unwrap();

        let is_ours = |process: &Process| process.name == "sleep" && process.arguments.contains(&mark);
        end_orphans("test", is_ours, &[(Signal::SIGTERM, Duration::from_secs(5))]).await.unwrap();

        timeout(Duration::from_secs(5), ours.ended()).await.unwrap();
        assert!(other.status.borrow().is_none());
    }
}
