//! `kill -9` of processes that import, and processes that stand still for longer than their lease.
//!
//! The processes are this test program, started again for one test that is ignored otherwise: a suite like any other, on the
//! databases of the test that started it, with the sabotage that this one asks for.
use std::{collections::BTreeSet, env, io::Read as _, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rapport::suite::Role;
use rapport_store::Sabotage;
use rapport_test_kit::{Databases, World};
use tokio::process::{Child, Command};

use crate::{
    chance::Chance,
    check::{Finding, findings},
    imports::{LEASE, Scale, Watch, slowly, start},
    proof::{kept, noticed},
};

/// What befalls processes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One is killed.
    One,
    /// All are killed at once, as when the machine fails.
    All,
    /// One stands still for so long that others take over its work, and then goes on.
    Pause,
}

/// Dealt in random order.
const FAULTS: [Fault; 4] = [Fault::One, Fault::One, Fault::All, Fault::Pause];

/// What a process is told: the world and the sabotage.
const WORLD: &str = "RAPPORT_FAULTS_WORLD";
const SABOTAGE: &str = "RAPPORT_FAULTS_SABOTAGE";

/// A fault comes within this time after the imports have got on.
const SOON: Duration = Duration::from_millis(300);

fn process(world: &str, sabotage: Sabotage) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "processes::a_process", "--ignored", "--nocapture"])
        .env(WORLD, world)
        .env(SABOTAGE, format!("{sabotage:?}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "not a test: a process that the others start and kill"]
#[expect(clippy::disallowed_methods, reason = "how the process is told what to be")]
async fn a_process() {
    let (Ok(world), Ok(name)) = (env::var(WORLD), env::var(SABOTAGE)) else { return };
    let known = [
        Sabotage::None,
        Sabotage::EventsApart,
        Sabotage::ProgressBefore,
        Sabotage::ProgressAfter,
        Sabotage::NoFence,
    ];
    let sabotage = known.into_iter().find(|known| format!("{known:?}") == name).unwrap();
    let mut options = slowly(sabotage);
    // Nobody calls it, so that it needs nobody else.
    options.roles = BTreeSet::from([Role::Customer]);
    options.config.services.insert("identity".into(), "http://127.0.0.1:1".into());
    let _world = World::on(Databases::of(&world), options).await;
    // Until it is killed, or whoever started it is gone.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
}

/// Two processes import while faults befall them; then what is wrong.
async fn body(chance: &mut Chance, scale: Scale, sabotage: Sabotage) -> Vec<Finding> {
    let databases = Databases::new();
    let world = World::on(databases.clone(), slowly(Sabotage::None)).await;
    let expected = start(&world, scale.rows).await;
    // What it has in hand is dropped: the first fault.
    drop(world);
    let url = databases.superuser_url(Role::Customer);
    let mut watch = Watch::new(url.clone());
    let again = || process(databases.name(), sabotage);
    let mut processes = [again(), again()];
    let mut struck = 0;
    for fault in chance.deal(&FAULTS, scale.faults) {
        if !watch.get_on().await {
            break;
        }
        tokio::time::sleep(chance.time(SOON)).await;
        let victim = chance.pick(&[0, 1]);
        println!("fault {struck}: {fault:?} of {victim}");
        match fault {
            Fault::One => {
                processes[victim].kill().await.unwrap();
                processes[victim] = again();
            }
            Fault::All => {
                for process in &mut processes {
                    process.kill().await.unwrap();
                    *process = again();
                }
            }
            Fault::Pause => pause(&processes[victim], chance).await,
        }
        struck += 1;
    }
    watch.leave().await;
    if sabotage == Sabotage::None {
        assert!(struck >= 2 * FAULTS.len(), "only {struck} faults struck: the file is too short");
    }
    findings(&url, &expected).await
}

async fn pause(process: &Child, chance: &mut Chance) {
    let Some(id) = process.id() else { return };
    let pid = Pid::from_raw(id.cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    let lease = Duration::from_secs(LEASE.unsigned_abs());
    tokio::time::sleep(lease + chance.time(lease)).await;
    kill(pid, Signal::SIGCONT).unwrap();
}

#[tokio::test]
async fn processes_that_die_or_stand_still_lose_nothing_and_repeat_nothing() {
    kept(Scale { rows: 3_600, faults: 3 }, body).await;
}

#[tokio::test]
async fn events_that_are_written_apart_from_their_changes_are_noticed() {
    noticed(Sabotage::EventsApart, body).await;
}

#[tokio::test]
async fn progress_that_is_saved_before_the_rows_is_noticed() {
    noticed(Sabotage::ProgressBefore, body).await;
}

#[tokio::test]
async fn progress_that_is_saved_after_the_rows_is_noticed() {
    noticed(Sabotage::ProgressAfter, body).await;
}

#[tokio::test]
async fn two_who_work_on_one_import_are_noticed() {
    noticed(Sabotage::NoFence, body).await;
}
