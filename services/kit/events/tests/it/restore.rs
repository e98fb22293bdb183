//! After a restore: the numbers that a service gives again are heard, and the bus's memory of another time is not believed.
use rapport_events::align_restored;
use rapport_proto::events::v1::{
    GetEventPositionRequest, ReadEventsRequest, event_service_server::EventService as _,
};
use sqlx::Executor as _;

use crate::{
    feed::{all, feed, numbers, read},
    note::create,
    world::{Kept, World, by},
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_new_events_are_heard_and_those_that_never_happened_are_not() {
    let (one, other) = (World::new().await, World::new().await);
    let (log, ear) = (Kept::keep(one.published_log().await), Kept::hear(other.consumer(&one).await));
    let ctx = one.tenant();
    create(&one.db, &ctx, &["before"; 40]).await;
    other.hears(40).await;
    let kept: Vec<i64> = sqlx::query_scalar("SELECT part_numbers FROM platform.log_head")
        .fetch_one(&mut one.admin().await)
        .await
        .unwrap();
    // Twenty more: ten of them are heard before the consumer's database is dumped, the producer's was dumped by then.
    create(&one.db, &ctx, &["lost, heard"; 10]).await;
    other.hears(50).await;
    ear.end().await;
    create(&one.db, &ctx, &["lost, on the bus"; 10]).await;
    one.on_the_bus(60).await;
    log.end().await;

    let mut admin = one.admin().await;
    admin
        .execute(
            "DELETE FROM platform.event_log WHERE number > 40; DELETE FROM notes WHERE text LIKE 'lost%'",
        )
        .await
        .unwrap();
    sqlx::query("UPDATE platform.log_head SET number = 40, part_numbers = $1")
        .bind(kept)
        .execute(&mut admin)
        .await
        .unwrap();
    admin.execute("UPDATE platform.log_relay SET number = 40, stream_sequence = 40").await.unwrap();
    align_restored(&[(one.service(), one.owner_url()), (other.service(), other.owner_url())]).await.unwrap();

    let (log, ear) = (Kept::keep(one.published_log().await), Kept::hear(other.consumer(&one).await));
    create(&one.db, &ctx, &["after"; 40]).await;
    let heard = other.hears(90).await;
    assert_eq!(heard.len(), 90);
    let count = |text: &str| heard.iter().filter(|(.., heard)| heard == text).count();
    assert_eq!(
        (count("before"), count("lost, heard"), count("lost, on the bus"), count("after")),
        (40, 10, 0, 40)
    );
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_a_number_of_the_time_that_is_lost_is_never_given_again() {
    let world = World::new().await;
    let log = world.service_log();
    let fed = feed(&log);
    let kept = Kept::keep(log.clone());
    let (one, new) = (world.tenant(), world.tenant());
    create(&world.db, &one, &["before"; 5]).await;
    world.settled().await;
    create(&world.db, &one, &["lost"; 3]).await;
    create(&world.db, &new, &["lost"; 2]).await;
    world.settled().await;
    kept.end().await;
    let mut admin = world.admin().await;
    for sql in [
        "DELETE FROM platform.event_log WHERE number > 5",
        "DELETE FROM platform.tenant_numbers WHERE number = 2",
        "UPDATE platform.tenant_numbers SET number = 5",
        "UPDATE platform.log_head SET number = 5, part_numbers =
           (SELECT array_agg((SELECT count(*) FROM platform.event_log WHERE part = p) ORDER BY p) FROM generate_series(0, 31) AS p)",
    ] {
        admin.execute(sql).await.unwrap();
    }
    align_restored(&[(world.service(), world.owner_url())]).await.unwrap();

    let kept = Kept::keep(log);
    let (at_one, at_new) = (1_000_000_005, 1_000_000_000);
    let position = fed.feed.get_event_position(by(&new, GetEventPositionRequest::default())).await.unwrap();
    assert_eq!((position.get_ref().first_number, position.get_ref().last_number), (at_new + 1, at_new));
    // Whoever waits where the backup ended, or where nothing had happened, goes on from there.
    for (ctx, after) in [(&one, 5), (&one, at_one), (&new, 0), (&new, at_new)] {
        assert_eq!(all(&fed.feed, ctx, after).await, []);
    }
    create(&world.db, &one, &["after"; 4]).await;
    create(&world.db, &new, &["after"; 4]).await;
    world.settled().await;
    let after = |last: i64| (last + 1..=last + 4).collect::<Vec<_>>();
    assert_eq!(numbers(&all(&fed.feed, &one, 5).await), after(at_one));
    assert_eq!(numbers(&all(&fed.feed, &one, 3).await), [vec![4, 5], after(at_one)].concat());
    assert_eq!(numbers(&all(&fed.feed, &new, 0).await), after(at_new));
    // Whoever was told of what is lost has to begin anew, also now that there are more events than then.
    for (ctx, after) in [(&one, 6), (&one, 8), (&one, at_one - 1), (&new, 1), (&new, 2)] {
        let refused =
            read(&fed.feed, ctx, ReadEventsRequest { after, ..Default::default() }).await.unwrap_err();
        let begin_anew = format!("number {after} was given before the log was restored from a backup");
        assert!(refused.message().starts_with(&begin_anew), "{refused}");
    }
    kept.end().await;
}
