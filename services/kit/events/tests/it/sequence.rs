//! The sequencer on a real database: nothing is lost, order holds, numbers have no gap.
use std::{collections::HashMap, time::Duration};

use rand::{RngExt as _, distr::uniform::SampleUniform};
use rapport_events::{
    Log,
    sequencer::{Pace, Sabotage},
};
use rapport_kernel::Ctx;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    note::{self, change, create},
    world::{Kept, Line, World},
};

fn random<T: SampleUniform + PartialOrd>(range: std::ops::Range<T>) -> T {
    rand::rng().random_range(range)
}

/// Writers who hold their transactions open for a while, change the same few records, and give up now and then; says how
/// many events they wrote.
async fn write(world: &World, tenants: &[Ctx], writers: usize, rounds: usize) -> usize {
    let mut hot: Vec<(Ctx, Uuid)> = Vec::new();
    for ctx in tenants {
        hot.extend(create(&world.db, ctx, &["a", "b", "c"]).await.iter().map(|note| (ctx.clone(), note.id)));
    }
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (db, hot) = (world.db.clone(), hot.clone());
        tasks.spawn(async move {
            let mut written = 0;
            for _ in 0..rounds {
                let (ctx, id) = hot[random(0..hot.len())].clone();
                let mut tx = db.begin(&ctx).await.unwrap();
                // A number is taken before the lock is waited for, as where a transaction changes several records.
                note::insert(&mut tx, &note::Note::new(&ctx, "new"));
                tx.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(random(0..20))).await;
                change(&mut tx, id, "changed").await;
                tokio::time::sleep(Duration::from_millis(random(0..5))).await;
                if random(0..20_u32) > 0 {
                    tx.finish().await.unwrap();
                    written += 2;
                }
            }
            written
        });
    }
    tasks.join_all().await.into_iter().sum::<usize>() + hot.len()
}

/// What is wrong with a log that should hold so many events.
pub(crate) fn faults(log: &[Line], written: usize) -> Vec<String> {
    let mut faults = Vec::new();
    if log.len() != written {
        faults.push(format!("{} lines of {written} events", log.len()));
    }
    let (mut parts, mut tenants, mut records) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (line, number) in log.iter().zip(1..) {
        let part = parts.entry(line.part).or_insert(0);
        let tenant = tenants.entry(line.tenant_id).or_insert(0);
        let version = records.entry(line.record_id).or_insert(0);
        (*part, *tenant) = (*part + 1, *tenant + 1);
        if (line.number, line.part_number, line.tenant_number) != (number, *part, *tenant) {
            faults.push(format!(
                "{line:?} is not number {number}, {part} of its partition, {tenant} of its tenant"
            ));
        }
        if line.version != *version + 1 {
            faults.push(format!("{line:?} comes after version {version}"));
        }
        *version = line.version;
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_and_rollbacks_lose_nothing_and_keep_the_order_of_each_record() {
    let world = World::new().await;
    let tenants = [world.tenant(), world.tenant()];
    let log = Log { pace: Pace { batch: 7, ..Pace::default() }, ..world.service_log() };
    let running = Kept::keep(log);
    let written = write(&world, &tenants, 12, 25).await;
    world.settled().await;
    running.end().await;
    assert_eq!(faults(&world.log().await, written), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_that_does_not_look_into_gaps_is_found_out() {
    let world = World::new().await;
    let running = Kept::keep(Log { sabotage: Sabotage::NoGaps, ..world.service_log() });
    let written = write(&world, &[world.tenant()], 12, 10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.end().await;
    let log = world.log().await;
    assert!(log.len() < written, "{} of {written} events got through", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_outbox_when_a_leader_begins_is_taken_first() {
    let world = World::new().await;
    let ctx = world.tenant();
    let first = create(&world.db, &ctx, &["one", "two"]).await;
    let mut open = world.db.begin(&ctx).await.unwrap();
    change(&mut open, first[0].id, "open").await;
    create(&world.db, &ctx, &["three"]).await;
    let running = Kept::keep(world.service_log());
    world.settled().await;
    running.end().await;
    assert_eq!(world.log().await.len(), 3);
    let running = Kept::keep(world.service_log());
    tokio::time::sleep(Duration::from_millis(50)).await;
    open.finish().await.unwrap();
    world.settled().await;
    running.end().await;
    assert_eq!(faults(&world.log().await, 4), Vec::<String>::new());
}
