//! `kill -9` of PostgreSQL under a suite that is importing, and that goes on by itself.
use std::{fs, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rapport::suite::Role;
use rapport_local::{Postgres, Scratch, postgres::Options};
use rapport_store::Sabotage;
use rapport_test_kit::{Databases, World};

use crate::{
    calls::Calls,
    chance::Chance,
    check::{Finding, findings},
    imports::{Scale, Watch, slowly, start},
    proof::{kept, noticed},
};

/// What befalls PostgreSQL.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// All of its processes are killed at once.
    All,
    /// The one that starts the others is killed; they see to their end themselves.
    Postmaster,
    /// One that serves the importing service is killed; then PostgreSQL ends the others, and recovers.
    Backend,
}

/// Dealt in random order. With two of each PostgreSQL is started again four times; at more than five a minute it is given up.
const FAULTS: [Fault; 3] = [Fault::All, Fault::Postmaster, Fault::Backend];

/// A fault comes within this time after the imports have got on.
const SOON: Duration = Duration::from_millis(500);

/// The children of a process, each with its command line.
pub(crate) fn children(parent: u32) -> Vec<(u32, String)> {
    let about =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    about
        .filter(|pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status
                .lines()
                .any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == parent.to_string()))
        })
        .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
        .collect()
}

/// Kills a process by force, if it is still there.
pub(crate) fn end(pid: u32) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
}

/// Says how many processes were killed: none while PostgreSQL is being started.
fn strike(postgres: &Postgres, fault: Fault, chance: &mut Chance) -> usize {
    let Some(postmaster) = postgres.pid() else { return 0 };
    let children = children(postmaster);
    let serving: Vec<u32> = children
        .iter()
        .filter(|(_, line)| line.contains("rapport_customer"))
        .map(|(child, _)| *child)
        .collect();
    let victims = match fault {
        Fault::All => [postmaster].into_iter().chain(children.into_iter().map(|(child, _)| child)).collect(),
        Fault::Postmaster => vec![postmaster],
        Fault::Backend if serving.is_empty() => Vec::new(),
        Fault::Backend => vec![chance.pick(&serving)],
    };
    victims.iter().for_each(|victim| end(*victim));
    victims.len()
}

/// A suite imports, and serves somebody who creates customers, while faults befall its PostgreSQL; then what is wrong.
async fn body(chance: &mut Chance, scale: Scale, sabotage: Sabotage) -> Vec<Finding> {
    let scratch = Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let postgres = Postgres::start(Options::new(scratch.path().join("postgres"))).await.unwrap();
    let databases = Databases::on(postgres.url());
    let world = World::on(databases.clone(), slowly(sabotage)).await;
    let mut expected = start(&world, scale.rows).await;
    let caller = Calls::begin(world.tenant("caller").await).await;
    let url = databases.superuser_url(Role::Customer);
    let mut watch = Watch::new(url.clone());
    let mut struck = 0;
    for fault in chance.deal(&FAULTS, scale.faults) {
        if !watch.get_on().await {
            break;
        }
        tokio::time::sleep(chance.time(SOON)).await;
        let killed = strike(&postgres, fault, chance);
        println!("fault {struck}: {fault:?}, {killed} killed");
        struck += usize::from(killed > 0);
    }
    watch.leave().await;
    expected.push(caller.end().await);
    if sabotage == Sabotage::None {
        assert!(struck > FAULTS.len(), "only {struck} faults struck: the file is too short");
    }
    let found = findings(&url, &expected).await;
    // The suite serves as before.
    let ready = reqwest::get(format!("{}/readyz", world.url())).await.unwrap();
    assert!(ready.status().is_success(), "{}", ready.text().await.unwrap());
    drop(world);
    postgres.stop().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_killed_loses_nothing_and_the_suite_goes_on() {
    kept(Scale { rows: 1_500, faults: 2 }, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_written_apart_from_their_changes_are_noticed() {
    noticed(Sabotage::EventsApart, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_is_saved_before_the_rows_is_noticed() {
    noticed(Sabotage::ProgressBefore, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_kept_apart_from_their_effects_are_noticed() {
    noticed(Sabotage::AnswersApart, body).await;
}
