//! After a restore: the numbers that a service gives again are heard, and the bus's memory of another time is not believed.
use rapport_events::align_restored;
use sqlx::Executor as _;

use crate::{
    note::create,
    world::{Kept, World},
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
    align_restored(&[(one.service(), one.admin_url()), (other.service(), other.admin_url())]).await.unwrap();

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
