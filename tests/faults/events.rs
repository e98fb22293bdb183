//! Faults of the log and the bus: two processes with both services, each the other's standby, a PostgreSQL and a nats-server
//! of their own, and six who write all the while. One thing after the other is killed, stands still, or loses what it had;
//! then everything must come to rest, with each effect there once.
mod check;
mod load;
mod network;
mod poison;
mod process;
mod servers;
mod volumes;

use std::time::{Duration, Instant};

use rapport::suite::Role;
use rapport_events::{Sabotage, bus::stream_name};
use rapport_test_kit::{Databases, Options, World};
use sqlx::Executor as _;
use tokio::time::timeout;

use self::{
    check::{BROKEN, Finding, compare, compare_soon, findings, looked, quiet},
    load::{Account, Expected, Load},
    process::{Process, SABOTAGES},
    servers::{Disks, Servers},
    volumes::own_file_systems,
};
use crate::chance::{Chance, rounds};

/// What befalls the two processes and their servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// One process is killed, now and then the other one with it; now and then one comes back with a clock that was set back.
    Process,
    /// One process stands still for longer than a leader may be silent, and then goes on: two believe that they lead.
    Pause,
    /// All processes of PostgreSQL are killed at once.
    Postgres,
    /// The one that starts the others is killed.
    Postmaster,
    /// One that serves a session of ours is killed; then PostgreSQL ends the others, and recovers.
    Backend,
    /// The bus is killed.
    Bus,
    /// The bus is killed, and comes back with nothing.
    Wipe,
    /// The bus is killed, and comes back with what it had some time ago.
    RollBack,
    /// A few messages are deleted on the bus.
    Delete,
    /// PostgreSQL's disk is full for a while.
    FullPostgres,
    /// The disk of the bus is full for a while.
    FullBus,
    /// The power of both servers is cut, now and then that of both processes as well.
    PowerCut,
    /// A process's connections to PostgreSQL or to the bus break.
    Break,
    /// Nothing that a process says to PostgreSQL or to the bus arrives, nor the answers, for longer than a leader may be silent;
    /// then all of it does.
    Silence,
    /// From now on some events are poison; or the cause of that is mended.
    Poison,
}

/// Dealt in random order, ten times: a hundred faults.
const FAULTS: [Fault; 10] = [
    Fault::Process,
    Fault::Process,
    Fault::Pause,
    Fault::Postgres,
    Fault::Postmaster,
    Fault::Backend,
    Fault::Bus,
    Fault::Wipe,
    Fault::RollBack,
    Fault::Delete,
];
const DEALS: usize = 10;
/// Strewn among them so many times, where this user may make disks.
const OF_DISKS: [Fault; 3] = [Fault::FullPostgres, Fault::FullBus, Fault::PowerCut];
const OF_DISKS_TIMES: usize = 3;
/// Strewn among them so many times.
const OF_NETWORKS: [Fault; 2] = [Fault::Break, Fault::Silence];
const OF_NETWORKS_TIMES: usize = 5;
/// The power is cut so many times in a run of its own.
const CUTS: usize = 20;
/// Strewn among them too: three times it begins, and the last time it goes on until the end.
const POISON: [Fault; 5] = [Fault::Poison; 5];

/// A fault comes within this time after a call was answered since the one before.
const SOON: Duration = Duration::from_millis(1_200);
/// Seconds by which a clock is ahead that was set back: by more than a day.
const BACK: i64 = -90_000;
/// How often a broken promise may go unnoticed.
const CHANCES: u64 = 10;
/// A leader that is silent for 5 s is replaced.
const LONGER: Duration = Duration::from_secs(6);
/// A disk is full for half to all of this time: after two or three seconds hardly anything can be written.
const FULL_FOR: Duration = Duration::from_secs(8);
/// For so long what went wrong may go on, once the faults are over: that of an idle machine many times over.
const PATIENCE: Duration = Duration::from_secs(90);

/// The two processes and their servers.
struct Stage {
    servers: Servers,
    databases: Databases,
    processes: [Process; 2],
    accounts: [Account; 2],
    /// Whether some events are poison now.
    poisoned: bool,
    found: Vec<Finding>,
}

impl Stage {
    /// Starts everything.
    async fn start(sabotage: Sabotage, disks: Disks) -> Self {
        let servers = Servers::start(disks).await;
        let databases = Databases::on(servers.postgres_url());
        let mut options = Options::default();
        options.config.nats.url = Some(servers.nats_url());
        options.config.nats.stream_bytes = 16 << 20;
        let world = World::on(databases.clone(), options).await;
        let [one, other] = [world.tenant("one").await, world.tenant("other").await];
        let accounts = [&one, &other]
            .map(|tenant| Account { tenant: tenant.id.clone(), session_token: tenant.session_token.clone() });
        drop(world);
        let processes = [
            Process::new(&databases, &servers, sabotage).await,
            Process::new(&databases, &servers, sabotage).await,
        ];
        Self { servers, databases, processes, accounts, poisoned: false, found: Vec::new() }
    }

    /// Those who write begin.
    fn load(&self, chance: &mut Chance) -> Load {
        Load::begin(&self.accounts, &[self.processes[0].place(), self.processes[1].place()], chance)
    }

    async fn strike(&mut self, fault: Fault, chance: &mut Chance) {
        let victim = chance.pick(&[0, 1]);
        match fault {
            Fault::Process => {
                let mut victims = vec![victim];
                if chance.pick(&[false, false, false, true]) {
                    victims.push(1 - victim);
                }
                for victim in victims {
                    self.processes[victim].kill(chance.pick(&[0, 0, 0, BACK])).await;
                }
            }
            Fault::Pause => self.processes[victim].stop(LONGER + chance.time(LONGER / 2)),
            Fault::Postgres => self.servers.kill_postgres(true, |_| {}).await,
            Fault::Postmaster => self.servers.kill_postgres(false, |_| {}).await,
            Fault::Backend => self.servers.kill_backend(chance),
            Fault::Bus => self.servers.kill_nats(|_| {}).await,
            Fault::Wipe => self.servers.wipe_bus().await,
            Fault::RollBack => self.servers.roll_back_bus(chance).await,
            Fault::Delete => {
                for service in ["identity", "customer"] {
                    self.servers.delete_messages(&stream_name(self.databases.name(), service), chance).await;
                }
            }
            Fault::FullPostgres | Fault::FullBus => {
                let disk = match fault {
                    Fault::FullBus => Servers::disk_of_nats,
                    _ => Servers::disk_of_postgres,
                };
                println!("  {} MB were free", disk(&self.servers).fill());
                self.pass(FULL_FOR / 2 + chance.time(FULL_FOR / 2)).await;
                disk(&self.servers).free();
            }
            Fault::Break => self.processes[victim].links()[chance.pick(&[0, 1])].break_off(),
            Fault::Silence => {
                let link = &self.processes[victim].links()[chance.pick(&[0, 0, 1])];
                link.fall_silent(LONGER + chance.time(LONGER / 2));
            }
            Fault::PowerCut => {
                if chance.pick(&[true, false]) {
                    for process in &mut self.processes {
                        process.kill(0).await;
                    }
                }
                self.servers.cut_power().await;
            }
            Fault::Poison => {
                let (databases, poisoned) = (self.databases.clone(), self.poisoned);
                self.during(poison::turn(&databases, poisoned)).await;
                self.poisoned = !poisoned;
            }
        }
    }

    /// Lets time pass.
    async fn pass(&mut self, time: Duration) {
        let begun = Instant::now();
        loop {
            self.look_after(false);
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(20))).await;
        }
    }

    /// Waits until calls are answered again; false when they are not.
    async fn gets_on(&mut self, load: &Load) -> bool {
        let (begun, before) = (Instant::now(), load.answered());
        while load.answered() < before + 3 {
            if begun.elapsed() > PATIENCE {
                return false;
            }
            self.pass(Duration::from_millis(10)).await;
        }
        true
    }

    fn look_after(&mut self, wake: bool) {
        for process in &mut self.processes {
            if process.look_after(wake) {
                self.found.push(Finding::Process("a process ended by itself".to_owned()));
            }
        }
    }

    /// Ends the load and waits until all is quiet, poison or not; then that is cured. Says what must be there, unless calls are
    /// not answered any more.
    async fn rest(&mut self, load: Load, patience: Duration) -> Option<Expected> {
        let (databases, accounts, place) =
            (self.databases.clone(), self.accounts.clone(), self.processes[0].place());
        let expected = self.during(timeout(PATIENCE, load.end())).await.ok()?;
        self.during(quiet(&databases, patience)).await;
        self.during(poison::cure(&databases, &accounts, &place, patience)).await;
        self.during(quiet(&databases, patience)).await;
        Some(expected)
    }

    /// Does something while both processes are looked after and nothing stands still.
    async fn during<T>(&mut self, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        loop {
            tokio::select! {
                done = &mut doing => return done,
                () = tokio::time::sleep(Duration::from_millis(50)) => self.look_after(true),
            }
        }
    }
}

/// Faults strike; then what is wrong.
async fn body(
    chance: &mut Chance,
    faults: &[Fault],
    patience: Duration,
    sabotage: Sabotage,
    disks: Disks,
) -> Vec<Finding> {
    let mut stage = Stage::start(sabotage, disks).await;
    let load = stage.load(chance);
    let begun = Instant::now();
    for (number, fault) in faults.iter().enumerate() {
        if !stage.gets_on(&load).await {
            stage.found.push(Finding::Process(format!("nothing was answered after fault {number}")));
            break;
        }
        stage.pass(chance.time(SOON)).await;
        if chance.pick(&[true, false, false]) {
            stage.servers.copy_bus();
        }
        println!(
            "{:6.1} s, {} answered, fault {number}: {fault:?}",
            begun.elapsed().as_secs_f64(),
            load.answered()
        );
        compare_soon(&stage.databases).await;
        let answered = load.answered();
        stage.strike(*fault, chance).await;
        if matches!(fault, Fault::FullPostgres | Fault::FullBus) {
            println!("  {} were answered while it was full", load.answered() - answered);
        }
        if matches!(fault, Fault::Pause | Fault::Silence) && number % 2 == 0 {
            // Nothing else comes between those who take over and the one who comes back.
            stage.pass(LONGER * 3 / 2).await;
        }
    }
    let Some(expected) = stage.rest(load, patience).await else {
        stage.found.push(Finding::Process("calls are not answered any more".to_owned()));
        return stage.found;
    };
    println!("{} records after {:.1} s", expected.records.len(), begun.elapsed().as_secs_f64());
    if faults.contains(&Fault::Poison) {
        println!("{} poison events", poison::parked(&stage.databases).await);
    }
    let databases = stage.databases.clone();
    let mut found = stage.during(compare(&databases, patience)).await;
    found.extend(findings(&databases, &expected).await);
    found.append(&mut stage.found);
    found.iter().for_each(|finding| println!("  {finding:?}"));
    found
}

/// Runs on disks that can be filled, if this user may make such.
fn run(test: impl AsyncFnOnce(Disks)) {
    // Before there are other threads, which would keep the file systems that everybody sees.
    let disks = if own_file_systems() { Disks::Own } else { Disks::Shared };
    if disks == Disks::Shared {
        eprintln!(
            "LEFT OUT: this user may not mount file systems, so no disk is filled and no power cut; run the tests as root"
        );
    }
    tokio::runtime::Runtime::new().unwrap().block_on(test(disks));
}

#[test]
fn a_hundred_faults_of_processes_and_servers_leave_every_effect_once_and_in_order() {
    run(async |disks| {
        let of_disks = if disks == Disks::Own { OF_DISKS.repeat(OF_DISKS_TIMES) } else { Vec::new() };
        for round in rounds() {
            let mut chance = Chance::of_round(round);
            let mut faults = chance.deal(&FAULTS, DEALS);
            chance.strew(&of_disks, &mut faults);
            chance.strew(&OF_NETWORKS.repeat(OF_NETWORKS_TIMES), &mut faults);
            chance.strew(&POISON, &mut faults);
            let found = body(&mut chance, &faults, PATIENCE, SABOTAGES[0].1, disks).await;
            assert!(found.is_empty(), "round {round}: {found:#?}");
        }
    });
}

#[test]
fn twenty_power_cuts_leave_what_was_answered_and_every_effect_once() {
    run(async |disks| {
        for round in rounds().filter(|_| disks == Disks::Own) {
            let mut chance = Chance::of_round(round);
            let found = body(&mut chance, &[Fault::PowerCut; CUTS], PATIENCE, SABOTAGES[0].1, disks).await;
            assert!(found.is_empty(), "round {round}: {found:#?}");
        }
    });
}

#[test]
fn answers_before_what_was_answered_is_on_disk_are_noticed() {
    run(async |disks| {
        if disks == Disks::Own {
            let (mut chance, patience) = (Chance::of_round(0), Duration::from_secs(15));
            let cuts = [Fault::PowerCut; 3];
            let found = body(&mut chance, &cuts, patience, SABOTAGES[0].1, Disks::Hasty).await;
            assert!(found.iter().any(|finding| matches!(finding, Finding::Written(_))), "{found:#?}");
        }
    });
}

#[test]
fn a_bus_that_could_not_write_and_is_left_as_it_is_is_noticed() {
    run(async |disks| {
        if disks == Disks::Own {
            let (mut chance, patience) = (Chance::of_round(0), Duration::from_secs(15));
            let found =
                body(&mut chance, &[Fault::FullBus], patience, SABOTAGES[0].1, Disks::LeftFrozen).await;
            assert!(found.iter().any(|finding| matches!(finding, Finding::Left(_))), "{found:#?}");
        }
    });
}

/// Runs with a promise broken: the same check must object, and to what was broken.
async fn noticed(name: &str, faults: &[Fault], shows: fn(&Finding) -> bool) {
    let (_, sabotage) = SABOTAGES.into_iter().find(|(known, _)| *known == name).unwrap();
    for round in 0..CHANCES {
        let mut chance = Chance::of_round(round);
        let found = body(&mut chance, faults, Duration::from_secs(8), sabotage, Disks::Shared).await;
        println!("{} findings: {:?}", found.len(), found.first());
        if let Some(finding) = found.iter().find(|finding| shows(finding)) {
            println!("among them {finding:?}");
            return;
        }
    }
    panic!("{name} went unnoticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_that_does_not_look_into_gaps_is_noticed() {
    // What it overlooks stays in the outbox, until another leader puts it behind what came after it.
    let shows = |finding: &Finding| matches!(finding, Finding::Left(_) | Finding::Order(_));
    noticed("gaps", &[Fault::Delete, Fault::Process, Fault::Delete, Fault::Process, Fault::Delete], shows)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_watermark_is_noticed() {
    // What is deleted while the hearer stands still is never heard. These pauses have odd numbers, so that nobody waits for their end.
    let mut faults = Vec::new();
    for _ in 0..3 {
        faults.extend([Fault::Delete, Fault::Pause]);
        faults.extend([Fault::Delete; 8]);
    }
    noticed("watermark", &faults, |finding| matches!(finding, Finding::Copy(_))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_leaves_out_what_it_cannot_work_off_is_noticed() {
    let mut faults = vec![Fault::Poison];
    faults.extend([Fault::Delete; 10]);
    noticed("parking", &faults, |finding| matches!(finding, Finding::Copy(_))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_broken_afterwards_is_found() {
    let mut chance = Chance::of_round(0);
    let mut stage = Stage::start(SABOTAGES[0].1, Disks::Shared).await;
    let load = stage.load(&mut chance);
    while load.answered() < 300 {
        stage.pass(Duration::from_millis(50)).await;
    }
    let expected = stage.rest(load, PATIENCE).await.unwrap();
    let mut identity = stage.databases.superuser(Role::Identity).await;
    let mut customer = stage.databases.superuser(Role::Customer).await;
    assert_eq!(looked(&mut identity, &mut customer, &expected).await.unwrap(), []);
    for (role, sql, kind) in BROKEN {
        for conn in [&mut identity, &mut customer] {
            conn.execute("BEGIN; SET LOCAL session_replication_role = replica").await.unwrap();
        }
        let broken = if role == Role::Identity { &mut identity } else { &mut customer };
        assert!(broken.execute(sql).await.unwrap().rows_affected() > 0, "{sql}");
        let found = looked(&mut identity, &mut customer, &expected).await.unwrap();
        let wanted = std::mem::discriminant(&kind(String::new()));
        assert!(found.iter().any(|finding| std::mem::discriminant(finding) == wanted), "{sql}: {found:?}");
        for conn in [&mut identity, &mut customer] {
            conn.execute("ROLLBACK").await.unwrap();
        }
    }
}
