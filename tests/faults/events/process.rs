//! A process with both services, which is killed, stands still and comes back: this test program, started again.
use std::{
    env,
    io::Read as _,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rapport_events::{Sabotage, consume, sequencer};
use rapport_kernel::Clock;
use rapport_test_kit::{Databases, Options, World};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{network::Link, servers::Servers};

/// What a process is told: the world, the sabotage, and by how many seconds its clock is ahead.
const WORLD: &str = "RAPPORT_FAULTS_WORLD";
const SABOTAGE: &str = "RAPPORT_FAULTS_SABOTAGE";
const CLOCK: &str = "RAPPORT_FAULTS_CLOCK";
/// What it says of where it serves.
const SERVES: &str = "it serves at ";

/// What a run may break, each with its name.
pub(super) const SABOTAGES: [(&str, Sabotage); 4] = [
    ("none", Sabotage { sequencer: sequencer::Sabotage::None, consumer: consume::Sabotage::None }),
    ("gaps", Sabotage { sequencer: sequencer::Sabotage::NoGaps, consumer: consume::Sabotage::None }),
    (
        "watermark",
        Sabotage { sequencer: sequencer::Sabotage::None, consumer: consume::Sabotage::NoWatermark },
    ),
    ("parking", Sabotage { sequencer: sequencer::Sabotage::None, consumer: consume::Sabotage::NoParking }),
];

/// Where a process serves, while it does.
pub(super) type Place = Arc<Mutex<Option<String>>>;

/// How a process is started, and its ways to PostgreSQL and to the bus.
struct Start {
    world: String,
    postgres: String,
    nats: String,
    links: [Link; 2],
    sabotage: Sabotage,
}

impl Start {
    async fn new(databases: &Databases, servers: &Servers, sabotage: Sabotage) -> Self {
        let world = databases.name().to_owned();
        let [postgres, nats] = servers.ports();
        let links = [Link::to(postgres).await, Link::to(nats).await];
        Self {
            world,
            postgres: links[0].way(&servers.postgres_url(), postgres),
            nats: links[1].way(&servers.nats_url(), nats),
            links,
            sabotage,
        }
    }

    fn child(&self, place: &Place, clock: i64) -> Child {
        let (name, _) = SABOTAGES.into_iter().find(|(_, known)| *known == self.sabotage).unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "events::process::a_process", "--ignored", "--nocapture"])
            // Where it ends for want of a database, that is no news.
            .env("RUST_BACKTRACE", "0")
            .env(WORLD, &self.world)
            .env(SABOTAGE, name)
            .env(CLOCK, clock.to_string())
            .env("RAPPORT_TEST_POSTGRES", &self.postgres)
            .env("RAPPORT_TEST_NATS", &self.nats)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let place = place.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, url)) = line.split_once(SERVES) {
                    *place.lock().unwrap() = Some(url.to_owned());
                }
            }
        });
        child
    }
}

/// A process.
pub(super) struct Process {
    start: Start,
    child: Child,
    place: Place,
    /// By how many seconds its clock is ahead.
    clock: i64,
    wakes: Option<Instant>,
}

impl Process {
    pub(super) async fn new(databases: &Databases, servers: &Servers, sabotage: Sabotage) -> Self {
        let (start, place) = (Start::new(databases, servers, sabotage).await, Place::default());
        let child = start.child(&place, 0);
        Self { start, child, place, clock: 0, wakes: None }
    }

    /// Where it serves.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Kills it and starts it again, with a clock that is so many seconds ahead.
    pub(super) async fn kill(&mut self, clock: i64) {
        self.child.kill().await.unwrap();
        self.clock = clock;
        self.again();
    }

    fn again(&mut self) {
        *self.place.lock().unwrap() = None;
        self.wakes = None;
        self.child = self.start.child(&self.place, self.clock);
    }

    /// Lets it stand still for so long.
    pub(super) fn stop(&mut self, time: Duration) {
        self.signal(Signal::SIGSTOP);
        self.wakes = Some(Instant::now() + time);
    }

    /// Its ways to PostgreSQL and to the bus.
    pub(super) const fn links(&self) -> &[Link; 2] {
        &self.start.links
    }

    /// Looks after it: wakes it when it is time, or in any case; and starts it again when it ended while it was starting, for
    /// want of a database. Says whether it ended while it served, as it must not.
    pub(super) fn look_after(&mut self, wake: bool) -> bool {
        if self.wakes.is_some_and(|at| wake || Instant::now() >= at) {
            self.signal(Signal::SIGCONT);
            self.wakes = None;
        }
        if wake {
            self.start.links.iter().for_each(|link| link.fall_silent(Duration::ZERO));
        }
        if self.child.try_wait().unwrap().is_none() {
            return false;
        }
        let served = self.place.lock().unwrap().is_some();
        self.again();
        served
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id() {
            kill(Pid::from_raw(id.cast_signed()), signal).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "not a test: a process that the others start and kill"]
#[expect(clippy::disallowed_methods, reason = "how the process is told what to be")]
async fn a_process() {
    let (Ok(world), Ok(name)) = (env::var(WORLD), env::var(SABOTAGE)) else { return };
    let (_, sabotage) = SABOTAGES.into_iter().find(|(known, _)| *known == name).unwrap();
    let ahead: i64 = env::var(CLOCK).unwrap().parse().unwrap();
    let clock = Clock::chosen(move || Clock::system().now().plus_seconds(ahead));
    let options = Options { clock, sabotage_of_events: sabotage, ..Options::default() };
    let world = World::on(Databases::of(&world), options).await;
    println!("{SERVES}{}", world.url());
    // Until it is killed, or whoever started it is gone.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
}
