//! One process leads: others take over when it is gone, and one that was replaced changes nothing.
use std::time::{Duration, Instant};

use sqlx::Executor as _;

use crate::{
    note::create,
    sequence::faults,
    world::{Kept, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_by_takes_over_when_the_leader_is_gone() {
    let world = World::new().await;
    let ctx = world.tenant();
    let mut leaders = vec![Kept::keep(world.service_log())];
    tokio::time::sleep(Duration::from_millis(200)).await;
    for round in 0..4 {
        leaders.push(Kept::keep(world.service_log()));
        create(&world.db, &ctx, &["a", "b"]).await;
        tokio::time::sleep(Duration::from_millis(30 * round)).await;
        leaders.remove(0).kill().await;
        let begun = Instant::now();
        create(&world.db, &ctx, &["c"]).await;
        world.settled().await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    leaders.remove(0).end().await;
    assert_eq!(faults(&world.log().await, 12), Vec::<String>::new());
    assert!(world.count("SELECT epoch FROM platform.leads WHERE name = 'log'").await >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_silent_is_replaced_within_ten_seconds_and_changes_nothing_afterwards() {
    let world = World::new().await;
    let ctx = world.tenant();
    let old = Kept::keep(world.service_log());
    create(&world.db, &ctx, &["a"]).await;
    world.settled().await;
    // As a process that was stopped, or a machine that was cut off: it holds its lock and says nothing. Its lines wait.
    let mut admin = world.admin().await;
    admin.execute("BEGIN; LOCK TABLE platform.outbox IN ACCESS EXCLUSIVE MODE").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let new = Kept::keep(world.service_log());
    while world.count("SELECT epoch FROM platform.leads WHERE name = 'log'").await < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody takes over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    admin.execute("COMMIT").await.unwrap();
    create(&world.db, &ctx, &["b", "c"]).await;
    world.settled().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(faults(&world.log().await, 3), Vec::<String>::new());
    new.end().await;
    old.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_follow_the_clock_but_never_back() {
    let world = World::new().await;
    let ctx = world.tenant();
    let log = Kept::keep(world.published_log().await);
    let mut days = Vec::new();
    for seconds in [0, 86_400, -3 * 86_400, 4 * 86_400] {
        world.later(seconds);
        create(&world.db, &ctx, &["a", "b"]).await;
        world.settled().await;
        let day: String = sqlx::query_scalar("SELECT day::text FROM platform.log_head")
            .fetch_one(&mut world.admin().await)
            .await
            .unwrap();
        days.push(day);
    }
    assert!(days.is_sorted(), "{days:?}");
    assert_eq!(days[1], days[2], "the clock was set back");
    assert_ne!(days[0], days[1]);
    assert_ne!(days[2], days[3]);
    world.on_the_bus(8).await;
    log.end().await;
    assert_eq!(faults(&world.log().await, 8), Vec::<String>::new());
    // A relay that begins anew finds them over all days.
    let mut admin = world.admin().await;
    admin
        .execute("UPDATE platform.log_relay SET number = 0, stream_sequence = 0, attempt = attempt + 1")
        .await
        .unwrap();
    let log = Kept::keep(world.published_log().await);
    world.on_the_bus(8).await;
    log.end().await;
}
