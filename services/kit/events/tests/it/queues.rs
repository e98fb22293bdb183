//! Work that is queued, timers, and what becomes of both when workers die.
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rapport_events::queue::{Outcome, Patience, Queues, Sabotage, Work, cancel_timer};
use rapport_kernel::{Ctx, Error};
use rapport_store::database;
use serde_json::json;
use uuid::Uuid;

use crate::world::{Kept, World};

const QUICK: Patience = Patience {
    first: Duration::from_millis(50),
    longest: Duration::from_millis(200),
    most: Duration::from_secs(3),
};

async fn enqueue(world: &World, ctx: &Ctx, work: impl IntoIterator<Item = Work>) {
    let mut tx = world.db.begin(ctx).await.unwrap();
    for work in work {
        work.enqueue(&mut tx).await.unwrap();
    }
    tx.finish().await.unwrap();
}

fn queues(world: &World) -> Queues {
    Queues::new("test", world.db.clone(), world.clock.clone())
}

/// Waits until this holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} does not come about");
}

async fn is_empty(world: &World) -> bool {
    let left = "SELECT (SELECT count(*) FROM platform.work) + (SELECT count(*) FROM platform.timers)";
    world.count(left).await == 0
}

/// Writes down in its own transaction that it was done, and ends the job in it.
fn writing(world: &World) -> Queues {
    let db = world.db.clone();
    queues(world).on("write", QUICK, move |ctx, job| {
        let db = db.clone();
        Box::pin(async move {
            let mut tx = db.begin(ctx).await?;
            sqlx::query("INSERT INTO heard (tenant_id, note_id, version, text) VALUES ($1, $2, 0, $3)")
                .bind(ctx.tenant)
                .bind(job.id)
                .bind(&job.key)
                .execute(tx.conn().await?)
                .await
                .map_err(database)?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            job.finish(&mut tx).await?;
            tx.finish().await?;
            Ok(Outcome::Done)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_done_once_however_workers_die() {
    let world = World::new().await;
    let ctx = world.tenant();
    let works = || (0..300).map(|n| Work::new("write", format!("{n}")));
    // Asked for twice, it is the same work.
    enqueue(&world, &ctx, works()).await;
    enqueue(&world, &ctx, works()).await;
    let mut quick = writing(&world);
    quick.lease = Duration::from_millis(300);
    let steady = Kept::work(quick.clone());
    for _ in 0..12 {
        let killed = Kept::work(quick.clone());
        tokio::time::sleep(Duration::from_millis(60)).await;
        killed.kill().await;
    }
    until("all work done", async || is_empty(&world).await).await;
    steady.end().await;
    let done: Vec<(i64, i64)> = sqlx::query_as("SELECT count(*), count(DISTINCT text) FROM heard")
        .fetch_all(&mut world.admin().await)
        .await
        .unwrap();
    assert_eq!(done, [(300, 300)]);
}

/// Two who work on the same job, since one of them was silent for longer than its lease: one of them counts.
async fn two_at_once(sabotage: Sabotage) -> i64 {
    let world = World::new().await;
    let ctx = world.tenant();
    enqueue(&world, &ctx, [Work::new("slow", "a")]).await;
    let (db, begun) = (world.db.clone(), Arc::new(AtomicUsize::new(0)));
    let fenced = sabotage != Sabotage::NoFence;
    let slow = queues(&world).on("slow", QUICK, move |ctx, job| {
        let (db, begun) = (db.clone(), begun.clone());
        Box::pin(async move {
            let first = begun.fetch_add(1, Ordering::SeqCst) == 0;
            if first {
                // It is taken from the first one meanwhile.
                let mut platform = db.platform().await?;
                sqlx::query("UPDATE platform.work SET lease_until = '-infinity'")
                    .execute(platform.conn()?)
                    .await
                    .map_err(database)?;
                platform.commit().await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let mut tx = db.begin(ctx).await?;
            sqlx::query("INSERT INTO heard (tenant_id, note_id, version, text) VALUES ($1, $2, 0, '')")
                .bind(ctx.tenant)
                .bind(job.id)
                .execute(tx.conn().await?)
                .await
                .map_err(database)?;
            match job.finish(&mut tx).await {
                Err(Error::Conflict) if fenced => return Ok(Outcome::Done),
                _ => {}
            }
            tx.finish().await?;
            Ok(Outcome::Done)
        })
    });
    let mut other = slow.clone();
    other.sabotage = sabotage;
    let workers = [Kept::work(slow), Kept::work(other)];
    until("the work done", async || is_empty(&world).await).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    for worker in workers {
        worker.end().await;
    }
    world.count("SELECT count(*) FROM heard").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    assert_eq!(two_at_once(Sabotage::None).await, 1);
    assert_eq!(two_at_once(Sabotage::NoFence).await, 2, "without the fence it is seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_and_then_parked_with_the_reason() {
    let world = World::new().await;
    let ctx = world.tenant();
    let tries = Arc::new(AtomicUsize::new(0));
    let healed = Arc::new(AtomicBool::new(false));
    let (count, heal) = (tries.clone(), healed.clone());
    let failing = queues(&world)
        .on("fail", QUICK, move |_, job| {
            let (count, heal) = (count.clone(), heal.clone());
            Box::pin(async move {
                count.fetch_add(1, Ordering::SeqCst);
                if heal.load(Ordering::SeqCst) {
                    return Ok(Outcome::Done);
                }
                Ok(Outcome::Failed(format!("{} says no", job.payload["host"].as_str().unwrap())))
            })
        })
        .on("park", QUICK, |_, _| Box::pin(async { Ok(Outcome::Park("never".into())) }))
        .on("panic", Patience { most: Duration::ZERO, ..QUICK }, |_, _| {
            Box::pin(async { panic!("it panics") })
        });
    let work = Work::new("fail", "a").with(&json!({"host": "example.com"})).unwrap();
    enqueue(&world, &ctx, [work, Work::new("park", "b"), Work::new("panic", "c"), Work::new("nobody", "d")])
        .await;
    let worker = Kept::work(failing);
    let parked = "SELECT count(*) FROM parked_items WHERE kind = 'work' AND state = 'parked'";
    until("three parked", async || world.count(parked).await == 3).await;
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT handler, reason, problem FROM parked_items ORDER BY handler")
            .fetch_all(&mut world.admin().await)
            .await
            .unwrap();
    let row = |handler: &str, reason: &str, problem: &str| (handler.into(), reason.into(), problem.into());
    let expected = [
        row("fail", "FAILED", "example.com says no"),
        row("panic", "PANICKED", "it panicked"),
        row("park", "PARKED", "never"),
    ];
    assert_eq!(rows, expected);
    // First at once, then after 50, 100, 200, 200 … milliseconds, for three seconds.
    let tried = tries.load(Ordering::SeqCst);
    assert!((6..=25).contains(&tried), "{tried} tries");
    // What nobody here knows waits for somebody who does.
    assert_eq!(world.count("SELECT count(*) FROM platform.timers WHERE queue = 'nobody'").await, 1);
    healed.store(true, Ordering::SeqCst);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_once_within_a_second_also_with_two_workers_and_after_a_crash() {
    let world = World::new().await;
    let ctx = world.tenant();
    let fired = Arc::new(Mutex::new(Vec::<String>::new()));
    let told = fired.clone();
    let due = queues(&world).on("due", QUICK, move |_, job| {
        told.lock().unwrap().push(job.key.clone());
        Box::pin(async { Ok(Outcome::Done) })
    });
    let mut tx = world.db.begin(&ctx).await.unwrap();
    let now = tx.now();
    for n in 0..50 {
        Work::new("due", format!("{n}")).at(&mut tx, now.plus(Duration::from_millis(400))).await.unwrap();
    }
    Work::new("due", "moved").at(&mut tx, now).await.unwrap();
    Work::new("due", "moved").at(&mut tx, now.plus_seconds(3_600)).await.unwrap();
    Work::new("due", "cancelled").at(&mut tx, now).await.unwrap();
    assert!(cancel_timer(&mut tx, "due", "cancelled").await.unwrap());
    assert!(!cancel_timer(&mut tx, "due", "cancelled").await.unwrap());
    Work::new("due", "undone").at(&mut tx, now).await.unwrap();
    tx.finish().await.unwrap();
    // A transaction that did not come to pass sets none.
    let mut undone = world.db.begin(&ctx).await.unwrap();
    Work::new("due", "never").at(&mut undone, now).await.unwrap();
    drop(undone);

    let crashed = Kept::work(due.clone());
    tokio::time::sleep(Duration::from_millis(100)).await;
    crashed.kill().await;
    let workers = [Kept::work(due.clone()), Kept::work(due.clone())];
    until("the timers fired", async || fired.lock().unwrap().len() >= 51).await;
    let late = world.clock.now().as_micros() - now.plus(Duration::from_millis(400)).as_micros();
    assert!(late < 1_000_000, "{late} µs late");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut keys = fired.lock().unwrap().clone();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), fired.lock().unwrap().len()), (51, 51));
    world.later(3_600);
    until("the one that was moved", async || fired.lock().unwrap().contains(&"moved".to_owned())).await;
    for worker in workers {
        worker.end().await;
    }
    assert!(is_empty(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_it_is_done_is_done_again() {
    let world = Arc::new(World::new().await);
    let ctx = world.tenant();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let looking = queues(&world).on("look", QUICK, move |_, _| {
        let counted = counted.clone();
        Box::pin(async move {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(Outcome::Done)
        })
    });
    let worker = Kept::work(looking);
    enqueue(&world, &ctx, [Work::new("look", "a").again()]).await;
    until("it begun", async || runs.load(Ordering::SeqCst) == 1).await;
    for _ in 0..5 {
        enqueue(&world, &ctx, [Work::new("look", "a").again()]).await;
    }
    until("it done again", async || is_empty(&world).await).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    worker.end().await;
}

/// How many jobs of a tenant with much to do are done before the one of its neighbour, which came last.
async fn before_the_neighbour(sabotage: Sabotage) -> usize {
    let world = World::new().await;
    let (bulk, neighbour) = (world.tenant(), world.tenant());
    enqueue(&world, &bulk, (0..400).map(|n| Work::new("turn", format!("{n}")))).await;
    enqueue(&world, &neighbour, [Work::new("turn", "mine")]).await;
    let done = Arc::new(Mutex::new(Vec::<Uuid>::new()));
    let order = done.clone();
    let mut turns = queues(&world).on("turn", QUICK, move |_, job| {
        let order = order.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            order.lock().unwrap().push(job.tenant_id);
            Ok(Outcome::Done)
        })
    });
    turns.sabotage = sabotage;
    let worker = Kept::work(turns);
    until("all done", async || is_empty(&world).await).await;
    worker.end().await;
    let place = done.lock().unwrap().iter().position(|tenant| *tenant == neighbour.tenant.uuid());
    place.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_take_turns() {
    let waited = before_the_neighbour(Sabotage::None).await;
    assert!(waited <= 20, "{waited} jobs came first");
    let waited = before_the_neighbour(Sabotage::FirstInFirstOut).await;
    assert!(waited > 300, "by age only {waited} jobs came first");
}
