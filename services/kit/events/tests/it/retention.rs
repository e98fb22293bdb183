//! The log is dropped by class and day; what is left verifies, and who missed what was dropped is told.
use rapport_events::{Keep, Log, verify};
use sqlx::Executor as _;

use crate::{
    note::create,
    world::{Kept, World},
};

const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_over_are_dropped_by_class_and_the_rest_verifies() {
    let world = World::new().await;
    let (standard, extended) = (world.tenant(), world.tenant());
    let keep = Keep { standard_days: 8, extended_days: 400 };
    let log = Kept::keep(Log { keep, ..world.service_log() });
    create(&world.db, &extended, &["a"]).await;
    let mut admin = world.admin().await;
    admin.execute("UPDATE platform.tenants SET retention = 'extended'").await.unwrap();
    for _ in 0..12 {
        create(&world.db, &standard, &["a", "b", "c"]).await;
        create(&world.db, &extended, &["a", "b"]).await;
        world.settled().await;
        world.later(DAY);
    }
    create(&world.db, &standard, &["last"]).await;
    world.settled().await;
    let kept = "SELECT count(*) FROM platform.event_log WHERE retention = 'standard'";
    for _ in 0..100 {
        if world.count(kept).await == 8 * 3 + 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    log.end().await;
    assert_eq!(world.count(kept).await, 8 * 3 + 1, "today and the eight days before");
    what_is_beside_it_goes_too(&world).await;
    assert_eq!(
        world.count("SELECT count(*) FROM platform.event_log WHERE retention = 'extended'").await,
        12 * 2
    );
    assert_eq!(verify(&world.db).await.unwrap().faults, Vec::<String>::new());
    admin
        .execute("DELETE FROM platform.event_log WHERE retention = 'extended' AND tenant_number = 9")
        .await
        .unwrap();
    assert_ne!(verify(&world.db).await.unwrap().faults, Vec::<String>::new());

    // Somebody new, to whom the beginning is missing, hears of that instead of hearing a part.
    let other = World::new().await;
    let ear = Kept::hear(other.consumer(&world).await);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    ear.end().await;
    assert!(other.heard().await.len() < 12 * 5);
    let gaps = "SELECT count(*) FROM platform.watermarks WHERE number > 0";
    assert!(other.count(gaps).await < 32);
}

/// Lines of the ledger and parked items of dropped days go, if they are done with.
async fn what_is_beside_it_goes_too(world: &World) {
    let mut admin = world.admin().await;
    for (outcome, state) in [("done", "done"), ("waiting", "parked")] {
        let sql = format!(
            "INSERT INTO ledger_entries (tenant_id, id, version, event_id, trigger, step, outcome, reason, problem, attempts, detail,
               subject, record, event_time, create_time, update_time)
             SELECT tenant_id, gen_random_uuid(), 1, gen_random_uuid(), 'webhook', '', '{outcome}', '', '', 1, '{{}}', '', '', t, t, t
             FROM platform.tenant_numbers, generate_series(now(), now() + interval '12 days', interval '1 day') AS t;
             INSERT INTO parked_items (tenant_id, id, version, producer, handler, event_id, type, resource, record_id, record_version,
               part, part_number, state, reason, problem, attempts, line, event_time, create_time, update_time)
             SELECT tenant_id, gen_random_uuid(), 1, 'test', 'test', gen_random_uuid(), '', '', gen_random_uuid(), 1, 0, 1, '{state}',
               '', '', 1, '', t, t, t
             FROM platform.tenant_numbers, generate_series(now(), now() + interval '12 days', interval '1 day') AS t"
        );
        admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    let log = Kept::keep(world.service_log());
    for (table, left) in [
        ("SELECT count(*) FROM ledger_entries", 13 + 9 + 2 * 13),
        ("SELECT count(*) FROM parked_items", 13 + 9 + 2 * 13),
    ] {
        let mut there = 0;
        for _ in 0..200 {
            there = world.count(table).await;
            if there == left {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(
            there, left,
            "the one tenant's of all days, the other one's of today and eight days before, and what is open"
        );
    }
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_years_ahead_does_not_empty_the_log() {
    let world = World::new().await;
    let ctx = world.tenant();
    let log = Kept::keep(Log { keep: Keep { standard_days: 8, extended_days: 8 }, ..world.service_log() });
    for _ in 0..6 {
        create(&world.db, &ctx, &["a"]).await;
        world.settled().await;
        world.later(DAY);
    }
    world.later(3_000 * DAY);
    create(&world.db, &ctx, &["a"]).await;
    world.settled().await;
    log.end().await;
    assert_eq!(world.count("SELECT count(*) FROM platform.event_log").await, 7);
}
