//! The servers of a run: a PostgreSQL and a nats-server of its own, which are killed and started again at their addresses.
use std::{
    collections::VecDeque,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::jetstream::{self, Context};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rapport_local::{Nats, Postgres, Scratch, nats, postgres};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::volumes::Volume;
use crate::{
    chance::Chance,
    postgres::{children, end},
};

/// So many copies of the bus are kept to go back to.
const COPIES: usize = 8;
/// Room for what a run writes, in MB.
const POSTGRES_MB: u64 = 1_500;
const NATS_MB: u64 = 128;

/// On which disks they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disks {
    /// Where everything else is, too.
    Shared,
    /// Each on one of its own, which can be filled, and whose power can be cut.
    Own,
    /// The same, and PostgreSQL answers before it has written.
    Hasty,
    /// The same, and nobody starts a bus again that could not write.
    LeftFrozen,
}

/// The servers.
pub(super) struct Servers {
    disks: Disks,
    /// Disks of their own: that of PostgreSQL and that of the bus.
    volumes: Option<[Volume; 2]>,
    scratch: Scratch,
    postgres: Option<Postgres>,
    nats: Option<Nats>,
    /// Of the bus as it was before; the oldest first.
    copies: VecDeque<PathBuf>,
    copied: usize,
}

impl Servers {
    /// Starts them.
    pub(super) async fn start(disks: Disks) -> Self {
        let scratch = Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        let volumes = (disks != Disks::Shared).then(|| {
            [("postgres", POSTGRES_MB), ("nats", NATS_MB)]
                .map(|(name, megabytes)| Volume::new(&scratch.path().join(name), megabytes))
        });
        let mut servers =
            Self { disks, volumes, scratch, postgres: None, nats: None, copies: VecDeque::new(), copied: 0 };
        servers.start_postgres().await;
        servers.start_nats().await;
        servers
    }

    async fn start_postgres(&mut self) {
        let options = postgres::Options::new(self.scratch.path().join("postgres/server"));
        self.postgres = Some(Postgres::start(options).await.unwrap());
        if self.disks == Disks::Hasty {
            let mut superuser = PgConnection::connect(&self.postgres_url()).await.unwrap();
            superuser.execute("ALTER SYSTEM SET synchronous_commit = off").await.unwrap();
            superuser.execute("SELECT pg_reload_conf()").await.unwrap();
        }
    }

    async fn start_nats(&mut self) {
        let mut options = nats::Options::new(self.scratch.path().join("nats/server"));
        options.left_frozen = self.disks == Disks::LeftFrozen;
        self.nats = Some(Nats::start(options).await.unwrap());
    }

    /// Where PostgreSQL serves its superuser.
    pub(super) fn postgres_url(&self) -> String {
        self.postgres.as_ref().unwrap().url()
    }

    /// Where the bus is.
    pub(super) fn nats_url(&self) -> String {
        self.nats.as_ref().unwrap().url()
    }

    /// Where both listen.
    pub(super) fn ports(&self) -> [u16; 2] {
        [self.postgres.as_ref().unwrap().port(), self.nats.as_ref().unwrap().port()]
    }

    /// The disk of PostgreSQL.
    pub(super) fn disk_of_postgres(&self) -> &Volume {
        &self.volumes.as_ref().unwrap()[0]
    }

    /// The disk of the bus.
    pub(super) fn disk_of_nats(&self) -> &Volume {
        &self.volumes.as_ref().unwrap()[1]
    }

    /// Kills PostgreSQL, all of its processes at once or only the one that starts the others, and starts it again after
    /// something befell its disk.
    pub(super) async fn kill_postgres(&mut self, all: bool, meanwhile: impl FnOnce(&mut Self)) {
        let postgres = self.postgres.take().unwrap();
        let port = postgres.port();
        if let Some(postmaster) = postgres.pid() {
            let others = if all { children(postmaster) } else { Vec::new() };
            end(postmaster);
            others.into_iter().for_each(|(pid, _)| end(pid));
        }
        // By itself it is not started again as often as here.
        postgres.stop().await;
        meanwhile(self);
        free(port).await;
        self.start_postgres().await;
        assert_eq!(self.postgres.as_ref().unwrap().port(), port);
    }

    /// The power of both is cut: they are gone at once, and of what they wrote there is what had reached the disk.
    pub(super) async fn cut_power(&mut self) {
        // Who starts others first: nobody comes after those who are found.
        for starts in
            [self.postgres.as_ref().unwrap().pid(), self.nats.as_ref().unwrap().pid()].into_iter().flatten()
        {
            stand_still(starts);
            children(starts).into_iter().for_each(|(pid, _)| stand_still(pid));
        }
        let [of_postgres, of_nats] = self.volumes.as_ref().unwrap().each_ref().map(Volume::copy);
        self.kill_nats(|servers| servers.volumes.as_mut().unwrap()[1].put(of_nats)).await;
        self.kill_postgres(true, |servers| servers.volumes.as_mut().unwrap()[0].put(of_postgres)).await;
    }

    /// Kills a process that serves a session of ours; PostgreSQL ends the others then, and recovers.
    pub(super) fn kill_backend(&self, chance: &mut Chance) {
        let Some(postmaster) = self.postgres.as_ref().unwrap().pid() else { return };
        let serving: Vec<u32> = children(postmaster)
            .into_iter()
            .filter(|(_, line)| line.contains("rapport_"))
            .map(|(pid, _)| pid)
            .collect();
        if !serving.is_empty() {
            end(chance.pick(&serving));
        }
    }

    /// Kills the bus and starts it again, after something befell its folder.
    pub(super) async fn kill_nats(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let nats = self.nats.take().unwrap();
        let (port, monitor) = (nats.port(), nats.monitor_url());
        if let Some(pid) = nats.pid() {
            end(pid);
        }
        nats.stop().await;
        meanwhile(self);
        free(port).await;
        let monitor = monitor.rsplit(':').next().unwrap().parse().unwrap();
        free(monitor).await;
        self.start_nats().await;
        assert_eq!(self.nats.as_ref().unwrap().port(), port);
    }

    /// The bus loses all that it has.
    pub(super) async fn wipe_bus(&mut self) {
        self.kill_nats(|servers| fs::remove_dir_all(servers.store()).unwrap()).await;
    }

    fn store(&self) -> PathBuf {
        self.scratch.path().join("nats/server/jetstream")
    }

    /// Copies what the bus has on disk at one moment, as a snapshot of the disk does: it stands still meanwhile.
    pub(super) fn copy_bus(&mut self) {
        let Some(pid) = self.nats.as_ref().unwrap().pid() else { return };
        let copy = self.scratch.path().join(format!("copy-{}", self.copied));
        self.copied += 1;
        stand_still(pid);
        copy_folder(&self.store(), &copy);
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGCONT).unwrap();
        self.copies.push_back(copy);
        if self.copies.len() > COPIES
            && let Some(oldest) = self.copies.pop_front()
        {
            fs::remove_dir_all(oldest).unwrap();
        }
    }

    /// Puts one of the copies in the place of what the bus has by now.
    pub(super) async fn roll_back_bus(&mut self, chance: &mut Chance) {
        if self.copies.is_empty() {
            self.copy_bus();
        }
        let at = chance.pick(&(0..self.copies.len()).collect::<Vec<_>>());
        let copy = self.copies[at].clone();
        self.kill_nats(|servers| {
            fs::remove_dir_all(servers.store()).unwrap();
            copy_folder(&copy, &servers.store());
        })
        .await;
    }

    /// The bus, as somebody sees it who may do everything.
    pub(super) async fn jetstream(&self) -> Option<Context> {
        let server: async_nats::ServerAddr = self.nats_url().parse().unwrap();
        let (user, password) = (server.username().unwrap().to_owned(), server.password().unwrap().to_owned());
        let client = async_nats::ConnectOptions::with_user_and_password(user, password);
        Some(jetstream::new(client.connect(server).await.ok()?))
    }

    /// Deletes messages of a stream: some of the last, and any.
    pub(super) async fn delete_messages(&self, stream: &str, chance: &mut Chance) {
        let Some(context) = self.jetstream().await else { return };
        let Ok(stream) = context.get_stream(stream).await else { return };
        let state = &stream.cached_info().state;
        if state.messages == 0 {
            return;
        }
        let (first, last) = (state.first_sequence, state.last_sequence);
        for least in [first, last.saturating_sub(5), last.saturating_sub(5)] {
            // One that is gone already is as good.
            let _ = stream.delete_message(chance.among(least.max(first), last)).await;
        }
    }
}

/// Waits until nobody has this port; what connects to somewhere may have been given it for a moment.
async fn free(port: u16) {
    for _ in 0..600 {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("somebody took port {port}");
}

/// Stops a process, and waits until all of its threads stand still; or it is gone.
fn stand_still(pid: u32) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP);
    while !stands_still(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether it is stopped, or over.
fn stands_still(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default();
    state.is_empty() || state.trim_start().starts_with(['T', 'Z', 'X'])
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &there);
        } else {
            fs::copy(entry.path(), there).unwrap();
        }
    }
}
