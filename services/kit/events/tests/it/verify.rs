//! The chain: whatever is changed in the log shows, and what is erased leaves it whole.
use rapport_events::verify;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{
    note::{change, create},
    world::{Kept, World},
};

/// Ways of rewriting a log of 19 lines, each with what is told then.
pub(crate) const REWRITINGS: [(&str, &str); 9] = [
    ("UPDATE platform.event_log SET payload = 'forged' WHERE number = 5", "the payload of number 5"),
    ("UPDATE platform.event_log SET principal = 'nobody' WHERE number = 5", "number 5 is not what it was"),
    (
        "UPDATE platform.event_log SET changed_paths = '{salary}' WHERE number = 5",
        "number 5 is not what it was",
    ),
    (
        "UPDATE platform.event_log SET time = time + interval '1 us' WHERE number = 5",
        "number 5 is not what it was",
    ),
    (
        "UPDATE platform.event_log SET payload_digest = sha256('forged'), payload = 'forged' WHERE number = 5",
        "number 5 is not",
    ),
    ("UPDATE platform.event_log SET version = 9 WHERE number = 5", "number 5 is not what it was"),
    ("DELETE FROM platform.event_log WHERE number = 5", "number 5 is missing before 6"),
    ("DELETE FROM platform.event_log WHERE number = 19", "the last lines of partition"),
    ("UPDATE platform.event_log SET link = sha256('forged') WHERE number = 5", "number 5 is not what it was"),
];

/// Rewrites the log; it can be undone.
pub(crate) async fn rewrite(admin: &mut PgConnection, sql: &'static str) {
    let kept = "CREATE TABLE kept AS SELECT * FROM platform.event_log; CREATE TABLE chains AS SELECT * FROM platform.log_chains";
    admin.execute(kept).await.unwrap();
    admin.execute(sql).await.unwrap();
}

/// Undoes it.
pub(crate) async fn undo(admin: &mut PgConnection) {
    let mut tx = admin.begin().await.unwrap();
    tx.execute(
        "DELETE FROM platform.event_log; INSERT INTO platform.event_log SELECT * FROM kept; DROP TABLE kept;
         UPDATE platform.log_chains c SET links = k.links FROM chains k WHERE k.retention = c.retention; DROP TABLE chains",
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

/// A log of 19 lines on two days, with nobody at work on it.
pub(crate) async fn nineteen_lines() -> World {
    let world = World::new().await;
    let log = Kept::keep(world.service_log());
    let ctx = world.tenant();
    for text in ["杭州", "b", "c"] {
        let notes = create(&world.db, &ctx, &[text; 5]).await;
        let mut tx = world.db.begin(&ctx).await.unwrap();
        change(&mut tx, notes[0].id, "changed").await;
        tx.finish().await.unwrap();
    }
    world.later(86_400);
    create(&world.db, &ctx, &["the day after"]).await;
    world.settled().await;
    log.end().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn any_change_of_the_log_shows_and_erasing_leaves_it_whole() {
    let world = nineteen_lines().await;
    let verified = verify(&world.db).await.unwrap();
    assert_eq!((verified.lines, verified.erased, verified.faults.as_slice()), (19, 0, [].as_slice()));

    let mut admin = world.admin().await;
    admin.execute("UPDATE platform.event_log SET payload = NULL WHERE number = 7").await.unwrap();
    let verified = verify(&world.db).await.unwrap();
    assert_eq!((verified.lines, verified.erased, verified.faults.as_slice()), (19, 1, [].as_slice()));

    for (sabotage, fault) in REWRITINGS {
        rewrite(&mut admin, sabotage).await;
        let faults = verify(&world.db).await.unwrap().faults;
        assert!(faults.iter().any(|told| told.starts_with(fault)), "{sabotage}: {faults:?}");
        undo(&mut admin).await;
    }
    assert_eq!(verify(&world.db).await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grows_is_verified_as_it_was_at_one_moment() {
    let world = World::new().await;
    let log = Kept::keep(world.service_log());
    let ctx = world.tenant();
    for _ in 0..30 {
        let (_, verified) = tokio::join!(create(&world.db, &ctx, &["a", "b", "c"]), verify(&world.db));
        assert_eq!(verified.unwrap().faults, Vec::<String>::new());
    }
    world.settled().await;
    log.end().await;
}
