//! Copies of another service's records: complete from the beginning, whatever changes meanwhile, and compared every day.
use std::{sync::Mutex, time::Duration};

use futures::future::BoxFuture;
use rapport_events::{
    Copies, Keep, Log, LogApi, Reactions, Table,
    consume::{Consumer, Sabotage},
};
use rapport_kernel::Ctx;
use rapport_proto::{
    customer::v1 as pb,
    events::v1::{
        GetLogHeadsRequest, GetLogHeadsResponse, ReadLogRequest, ReadLogResponse, ReadSnapshotRequest,
        ReadSnapshotResponse, log_service_server::LogService,
    },
};
use serde_json::json;
use sqlx::Executor as _;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    note::{change, create, delete},
    world::{Kept, World},
};

const DAY: i64 = 86_400;

const NOTES: Table =
    Table { name: "copy-notes", resource: "note", table: "copied_notes", columns: "text", afterwards: None };

fn copies(producer: &World, table: Table) -> Reactions {
    let notes = Copies::new(table, |note: &pb::Customer| json!({"text": note.display_name, "words": 7}))
        .told_by(|event: &pb::CustomerUpdated| event.customer.as_ref())
        .gone_by::<pb::CustomerDeleted>();
    Reactions::to(producer.service()).keep(notes)
}

/// Two services, of which the second one copies the notes of the first.
async fn consumer(one: &World, other: &World, log: impl LogService) -> Consumer {
    Consumer { reactions: copies(one, NOTES), ..other.consumer_of(one, log).await }
}

type Row = (Uuid, Uuid, i64, String);

/// What is copied and what there is.
async fn both(one: &World, other: &World) -> (Vec<Row>, Vec<Row>) {
    let copied = "SELECT tenant_id, id, version, text FROM copied_notes WHERE NOT deleted ORDER BY 1, 2";
    let notes = "SELECT tenant_id, id, version, text FROM notes ORDER BY 1, 2";
    let copied = sqlx::query_as(copied).fetch_all(&mut other.admin().await).await.unwrap();
    (copied, sqlx::query_as(notes).fetch_all(&mut one.admin().await).await.unwrap())
}

/// Waits until the copies were compared after this time, and everything is heard; says how many of them differed.
async fn compared(one: &World, other: &World, after: rapport_kernel::Instant) -> i64 {
    for _ in 0..1_500 {
        let done: Option<i64> =
            sqlx::query_scalar("SELECT last_differences FROM platform.copies WHERE compare_time >= $1")
                .bind(after)
                .fetch_optional(&mut other.admin().await)
                .await
                .unwrap();
        let heads = "SELECT sum(n)::bigint FROM platform.log_head, unnest(part_numbers) AS n";
        let heard = "SELECT coalesce(sum(number), 0)::bigint FROM platform.watermarks";
        if let Some(differences) = done
            && other.count(heard).await == one.count(heads).await
        {
            return differences;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the copies are not complete");
}

async fn same(one: &World, other: &World) {
    let (copied, notes) = both(one, other).await;
    assert_eq!(copied, notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_was_dropped_copies_begin_with_a_snapshot() {
    let (one, other) = (World::new().await, World::new().await);
    let keep = Keep { standard_days: 8, extended_days: 8 };
    let log = Kept::keep(Log { keep, ..one.published_log().await });
    // More than a page of records, and more than a page of bytes.
    let long = "长".repeat(1_000);
    let tenants = [one.tenant(), one.tenant(), one.tenant()];
    for ctx in &tenants {
        create(&one.db, ctx, &vec![long.as_str(); 700]).await;
    }
    for _ in 0..12 {
        one.settled().await;
        one.later(DAY);
        create(&one.db, &tenants[0], &["a note of the day"]).await;
    }
    one.settled().await;
    for _ in 0..500 {
        if one.count("SELECT count(*) FROM platform.event_log").await < 2_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = other.clock.now();
    let ear = Kept::hear(consumer(&one, &other, one.log_api()).await);
    assert_eq!(compared(&one, &other, begun).await, 0);
    assert_eq!(both(&one, &other).await.0.len(), 2_112);
    same(&one, &other).await;
    // Nobody has missed anything who was not there.
    let left_out = "SELECT sum(left_out)::bigint FROM platform.watermarks";
    assert_eq!(other.count(left_out).await, 0);

    // Who was away for longer than the log is kept misses events, is told so, and has complete copies again.
    ear.end().await;
    let mut tx = one.db.begin(&tenants[1]).await.unwrap();
    let id = both(&one, &other).await.1.iter().find(|row| row.0 == tenants[1].tenant.uuid()).unwrap().1;
    change(&mut tx, id, "changed meanwhile").await;
    tx.finish().await.unwrap();
    for _ in 0..12 {
        one.settled().await;
        one.later(DAY);
        create(&one.db, &tenants[0], &["another note of the day"]).await;
    }
    one.settled().await;
    for _ in 0..500 {
        if one.count("SELECT count(*) FROM platform.event_log").await == 9 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = other.clock.now();
    let ear = Kept::hear(consumer(&one, &other, one.log_api()).await);
    compared(&one, &other, begun).await;
    same(&one, &other).await;
    assert_eq!(other.count(left_out).await, 4, "the change, and twelve days less today and the eight before");
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_complete_while_everything_changes() {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let tenants = [one.tenant(), one.tenant()];
    for ctx in &tenants {
        create(&one.db, ctx, &["a"; 1_500]).await;
    }
    let ear = Kept::hear(consumer(&one, &other, one.log_api()).await);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (db, ctx) = (one.db.clone(), tenants[writer % 2].clone());
            tokio::spawn(async move {
                for round in 0..60 {
                    let notes = create(&db, &ctx, &["b", "c", "d"]).await;
                    let mut tx = db.begin(&ctx).await.unwrap();
                    change(&mut tx, notes[0].id, &format!("changed in round {round}")).await;
                    tx.finish().await.unwrap();
                    delete(&db, &ctx, notes[1].id).await;
                }
            })
        })
        .collect();
    // Again and again everything is copied anew.
    let mut admin = other.admin().await;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        admin.execute("DELETE FROM platform.copies").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    compared(&one, &other, one.clock.now().plus_seconds(-1)).await;
    same(&one, &other).await;
    // Compared while one more changes, nothing differs that will not be heard.
    other.later(DAY + 1);
    let begun = other.clock.now();
    let changing = tokio::spawn({
        let (db, ctx) = (one.db.clone(), tenants[0].clone());
        async move {
            for _ in 0..40 {
                let notes = create(&db, &ctx, &["e", "f"]).await;
                delete(&db, &ctx, notes[0].id).await;
            }
        }
    });
    assert_eq!(compared(&one, &other, begun).await, 0);
    changing.await.unwrap();
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_its_owner_has_it_is_found_and_mended() {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let ctx = one.tenant();
    let notes = create(&one.db, &ctx, &["a"; 40]).await;
    let begun = other.clock.now();
    let ear = Kept::hear(consumer(&one, &other, one.log_api()).await);
    assert_eq!(compared(&one, &other, begun).await, 0);
    let mut admin = other.admin().await;
    // Lost, changed, overlooked, invented, deleted, and newer than its owner knows.
    for (at, sql) in [
        (0, "DELETE FROM copied_notes WHERE id = $1"),
        (1, "UPDATE copied_notes SET text = 'another' WHERE id = $1"),
        (2, "UPDATE copied_notes SET version = 0, text = 'older' WHERE id = $1"),
        (
            3,
            "INSERT INTO copied_notes SELECT tenant_id, gen_random_uuid(), 1, false, 'b' FROM copied_notes WHERE id = $1",
        ),
        (4, "UPDATE copied_notes SET deleted = true WHERE id = $1"),
        (5, "UPDATE copied_notes SET version = 9, text = 'never happened' WHERE id = $1"),
    ] {
        sqlx::query(sql).bind(notes[at].id).execute(&mut admin).await.unwrap();
    }
    other.later(DAY + 1);
    let begun = other.clock.now();
    assert_eq!(compared(&one, &other, begun).await, 6);
    same(&one, &other).await;
    other.later(DAY + 1);
    let begun = other.clock.now();
    assert_eq!(compared(&one, &other, begun).await, 0);
    assert_eq!(other.count("SELECT differences FROM platform.copies").await, 6);

    // What is parked is no difference: it waits for somebody.
    let poison = "ALTER TABLE copied_notes ADD CONSTRAINT poison CHECK (text <> 'poison')";
    admin.execute(poison).await.unwrap();
    let mut tx = one.db.begin(&ctx).await.unwrap();
    change(&mut tx, notes[6].id, "poison").await;
    tx.finish().await.unwrap();
    create(&one.db, &ctx, &["poison"]).await;
    while other.count("SELECT count(*) FROM parked_items").await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.later(DAY + 1);
    let begun = other.clock.now();
    assert_eq!(compared(&one, &other, begun).await, 0);
    assert_eq!(both(&one, &other).await.0.len(), 40);
    admin.execute("ALTER TABLE copied_notes DROP CONSTRAINT poison; DELETE FROM parked_items").await.unwrap();
    other.later(DAY + 1);
    let begun = other.clock.now();
    assert_eq!(compared(&one, &other, begun).await, 2, "nobody will deal with them any more");
    same(&one, &other).await;

    // Another column wants all of it again, without being a fault.
    ear.end().await;
    admin.execute("ALTER TABLE copied_notes ADD words bigint").await.unwrap();
    let wider = copies(&one, Table { columns: "text, words", ..NOTES });
    let begun = other.clock.now();
    let ear = Kept::hear(Consumer { reactions: wider, ..consumer(&one, &other, one.log_api()).await });
    assert_eq!(compared(&one, &other, begun).await, 0);
    assert_eq!(other.count("SELECT sum(words)::bigint FROM copied_notes WHERE NOT deleted").await, 41 * 7);
    ear.end().await;
    log.end().await;
}

/// A log that lets something happen between reading a page of records and answering.
struct Slow {
    api: LogApi,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[tonic::async_trait]
impl LogService for Slow {
    async fn read_log(&self, request: Request<ReadLogRequest>) -> Result<Response<ReadLogResponse>, Status> {
        self.api.read_log(request).await
    }
    async fn get_log_heads(
        &self,
        request: Request<GetLogHeadsRequest>,
    ) -> Result<Response<GetLogHeadsResponse>, Status> {
        self.api.get_log_heads(request).await
    }
    async fn read_snapshot(
        &self,
        request: Request<ReadSnapshotRequest>,
    ) -> Result<Response<ReadSnapshotResponse>, Status> {
        let answer = self.api.read_snapshot(request).await;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        answer
    }
}

/// Deletes a note, and waits until `then` finds one row of the copies that says so.
fn deleted_and_heard(
    one: &World,
    other: &World,
    ctx: &Ctx,
    id: Uuid,
    then: &'static str,
) -> BoxFuture<'static, ()> {
    let (db, ctx, copies) = (one.db.clone(), ctx.clone(), other.admin_url());
    Box::pin(async move {
        delete(&db, &ctx, id).await;
        let copies = sqlx::PgPool::connect(&copies).await.unwrap();
        for _ in 0..500 {
            if copies.execute(then).await.unwrap().rows_affected() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the deletion is not heard");
    })
}

/// Copies three notes, of which one is deleted between the owner's answer and the writing; says how many are copied then.
async fn copied_of_three_less_one(sabotage: Sabotage) -> usize {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let ctx: Ctx = one.tenant();
    let notes = create(&one.db, &ctx, &["a", "b", "c"]).await;
    one.settled().await;
    // The note is copied by its events, deleted, and heard to be so. Then its row is lost, as if none had been there.
    let meanwhile =
        deleted_and_heard(&one, &other, &ctx, notes[1].id, "DELETE FROM copied_notes WHERE deleted");
    let slow = Slow { api: one.log_api(), meanwhile: Mutex::new(Some(meanwhile)) };
    let begun = other.clock.now();
    let ear = Kept::hear(Consumer { sabotage, ..consumer(&one, &other, slow).await });
    compared(&one, &other, begun).await;
    ear.end().await;
    log.end().await;
    both(&one, &other).await.0.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_before_its_copy_is_written_does_not_come_back() {
    assert_eq!(copied_of_three_less_one(Sabotage::None).await, 2);
    assert_eq!(copied_of_three_less_one(Sabotage::NoSecondLook).await, 3, "without the second look it does");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_it_is_compared_is_no_difference() {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let ctx: Ctx = one.tenant();
    let notes = create(&one.db, &ctx, &["a", "b", "c"]).await;
    let begun = other.clock.now();
    let ear = Kept::hear(consumer(&one, &other, one.log_api()).await);
    assert_eq!(compared(&one, &other, begun).await, 0);
    ear.end().await;
    let meanwhile =
        deleted_and_heard(&one, &other, &ctx, notes[1].id, "SELECT FROM copied_notes WHERE deleted");
    let slow = Slow { api: one.log_api(), meanwhile: Mutex::new(Some(meanwhile)) };
    other.later(DAY + 1);
    let begun = other.clock.now();
    let ear = Kept::hear(consumer(&one, &other, slow).await);
    assert_eq!(compared(&one, &other, begun).await, 0);
    assert_eq!(both(&one, &other).await.0.len(), 2);
    ear.end().await;
    log.end().await;
}
