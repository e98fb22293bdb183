//! Erasing: of what the log and its followers keep of a record no value is left, and the chains verify.
use rapport_events::{erase, settled, verify};
use rapport_kernel::Error;
use sqlx::AssertSqlSafe;

use crate::{
    note::{change, create},
    world::{Kept, World},
};

const CANARY: &str = "canary1234567";

#[tokio::test(flavor = "multi_thread")]
async fn of_an_erased_record_no_value_is_left_and_the_chains_verify() {
    let world = World::new().await;
    let log = Kept::keep(world.service_log());
    let ctx = world.tenant();
    let notes = create(&world.db, &ctx, &[CANARY, "another"]).await;
    let (id, another) = (notes[0].id, notes[1].id);
    let mut tx = world.db.begin(&ctx).await.unwrap();
    change(&mut tx, id, "canary1234567 again").await;
    tx.finish().await.unwrap();
    world.settled().await;

    // What may have followed: something parked, a line of the ledger, work and a timer, a first answer, a message set aside.
    let tenant = ctx.tenant;
    let mut admin = world.admin().await;
    let parked = format!(
        "INSERT INTO parked_items (tenant_id, id, version, producer, handler, event_id, type, resource, record_id, record_version,
           part, part_number, state, reason, problem, attempts, line, event_time, create_time, update_time)
         VALUES ('{tenant}', gen_random_uuid(), 1, 'notes', 'copy', gen_random_uuid(), 'T', 'note', '{id}', 1, 0, 1, 'parked',
           'REFUSED', '{CANARY}', 3, '{CANARY}', now(), now(), now())"
    );
    let ledger = format!(
        "INSERT INTO ledger_entries (tenant_id, id, version, event_id, trigger, step, outcome, reason, problem, attempts, detail,
           subject, record, event_time, create_time, update_time)
         VALUES ('{tenant}', gen_random_uuid(), 1, gen_random_uuid(), 't', '', 'failed', 'R', '{CANARY}', 1,
           '{{\"said\": \"{CANARY}\"}}', 's', 'test.note/{id}', now(), now(), now())"
    );
    let work = |table: &str, more: &str, value: &str| {
        format!(
            "INSERT INTO platform.{table} (queue, tenant_id, key, id, resource, record_id, payload, failures, problem, ready_time{more})
             VALUES ('q', '{tenant}', 'k', gen_random_uuid(), 'note', '{id}', '\"{CANARY}\"', 0, '', 'infinity'{value})"
        )
    };
    let answer = format!(
        "INSERT INTO platform.answers VALUES ('{tenant}', 'p', 'm', 'k', '', convert_to('{id} {CANARY}', 'UTF8'), 'infinity')"
    );
    let aside = format!(
        "INSERT INTO platform.set_aside VALUES (gen_random_uuid(), 'p', 's', '{{}}', convert_to('{id} {CANARY}', 'UTF8'), 'r', now())"
    );
    let (work, timer) = (work("work", "", ""), work("timers", ", due_time", ", 'infinity'"));
    for sql in [parked, ledger, work, timer, answer, aside] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }

    settled(&world.db, &ctx, "test.note", id).await.unwrap();
    let mut tx = world.db.begin(&ctx).await.unwrap();
    erase(&mut tx, "test.note", id).await.unwrap();
    tx.finish().await.unwrap();
    world.settled().await;
    log.end().await;

    for table in [
        "platform.event_log",
        "platform.outbox",
        "platform.answers",
        "platform.work",
        "platform.timers",
        "platform.set_aside",
        "parked_items",
        "ledger_entries",
    ] {
        let sql = format!(
            "SELECT count(*) FROM {table} t WHERE strpos(t::text, '{CANARY}') > 0
               OR strpos(t::text, encode('{CANARY}', 'hex')) > 0"
        );
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut admin).await.unwrap();
        assert_eq!(left, 0, "{table}");
    }
    let (state, reason): (String, String) =
        sqlx::query_as("SELECT state, reason FROM parked_items").fetch_one(&mut admin).await.unwrap();
    assert_eq!((state.as_str(), reason.as_str()), ("discarded", "RECORD_ERASED"));
    let kept: bool = sqlx::query_scalar(
        "SELECT bool_and(payload IS NOT NULL) FROM platform.event_log WHERE record_id = $1",
    )
    .bind(another)
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert!(kept, "what is told of others stays");
    let verified = verify(&world.db).await.unwrap();
    assert_eq!((verified.erased, verified.faults), (2, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_into_the_log_is_waited_for() {
    let world = World::new().await;
    let ctx = world.tenant();
    // Nobody leads the log.
    let id = create(&world.db, &ctx, &[CANARY]).await[0].id;
    let mut tx = world.db.begin(&ctx).await.unwrap();
    assert!(matches!(erase(&mut tx, "test.note", id).await, Err(Error::Conflict)));
    drop(tx);
    let waited = settled(&world.db, &ctx, "test.note", id).await;
    assert!(matches!(waited, Err(Error::Unavailable(_))));
    let log = Kept::keep(world.service_log());
    settled(&world.db, &ctx, "test.note", id).await.unwrap();
    log.end().await;
}
