//! Hearing another service on a real bus and two real databases: each event has its effect once, in order.
use std::{collections::HashMap, time::Duration};

use async_nats::{HeaderMap, jetstream};
use rapport_events::{
    bus::{Header, Message, stream_name},
    consume::{Consumer, Sabotage},
};
use rapport_proto::events::v1::{GetStatusRequest, status_service_client::StatusServiceClient};
use sqlx::{Acquire as _, Executor as _};
use uuid::Uuid;

use crate::{
    note::{change, create},
    world::{Kept, World, by, nats},
};

/// What is wrong with what was heard: something twice, or out of order.
fn faults(heard: &[(Uuid, i64, String)]) -> Vec<String> {
    let mut versions = HashMap::new();
    let mut faults = Vec::new();
    for (note, version, text) in heard {
        let last = versions.insert(note, *version).unwrap_or(0);
        if *version != last + 1 {
            faults.push(format!("version {version} ({text}) of {note} came after {last}"));
        }
    }
    faults
}

/// The headers of a message, but not the place that it had.
fn elsewhere(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| name.to_string() != "Nats-Expected-Last-Sequence");
    kept.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone()))).collect()
}

async fn two() -> (World, World) {
    (World::new().await, World::new().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_service_commits_another_one_hears_once_and_in_order() {
    let (one, other) = two().await;
    let (log, ear) = (Kept::keep(one.published_log().await), Kept::hear(other.consumer(&one).await));
    let tenants = [one.tenant(), one.tenant(), one.tenant()];
    let mut count = 0;
    for round in 0..10 {
        for ctx in &tenants {
            let notes = create(&one.db, ctx, &["a", "b"]).await;
            let mut tx = one.db.begin(ctx).await.unwrap();
            change(&mut tx, notes[0].id, &format!("changed in round {round}")).await;
            change(&mut tx, notes[0].id, "again").await;
            tx.finish().await.unwrap();
            count += 4;
        }
    }
    let heard = other.hears(count).await;
    assert_eq!(faults(&heard), Vec::<String>::new());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(other.heard().await.len(), count);
    let marks = other.count("SELECT sum(number)::bigint FROM platform.watermarks").await;
    assert_eq!(marks, i64::try_from(count).unwrap());
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let (one, other) = two().await;
    let log = Kept::keep(one.published_log().await);
    let ctx = one.tenant();
    let mut count = 0;
    for round in 0..8 {
        let ear = Kept::hear(other.consumer(&one).await);
        for _ in 0..6 {
            create(&one.db, &ctx, &["a", "b", "c"]).await;
            count += 3;
            tokio::time::sleep(Duration::from_millis(3 * round)).await;
        }
        ear.kill().await;
    }
    let ear = Kept::hear(other.consumer(&one).await);
    let heard = other.hears(count).await;
    assert_eq!(faults(&heard), Vec::<String>::new());
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_loses_is_read_from_the_log() {
    let (one, other) = two().await;
    let log = Kept::keep(one.published_log().await);
    let ctx = one.tenant();
    create(&one.db, &ctx, &["a"; 30]).await;
    one.on_the_bus(30).await;
    let stream =
        jetstream::new(nats().await).get_stream(stream_name("rapport", one.service())).await.unwrap();
    // In the middle, and at the end, where no later message shows it.
    for sequence in [3, 11, 29, 30] {
        stream.delete_message(sequence).await.unwrap();
    }
    let ear = Kept::hear(other.consumer(&one).await);
    assert_eq!(faults(&other.hears(30).await), Vec::<String>::new());
    // All of it, while both are at work.
    jetstream::new(nats().await).delete_stream(stream_name("rapport", one.service())).await.unwrap();
    create(&one.db, &ctx, &["b"; 10]).await;
    assert_eq!(faults(&other.hears(40).await), Vec::<String>::new());
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bus_the_log_is_read() {
    let (one, other) = two().await;
    let log = Kept::keep(one.service_log());
    let ear = Kept::hear(Consumer { bus: None, ..other.consumer(&one).await });
    create(&one.db, &one.tenant(), &["a"; 40]).await;
    assert_eq!(faults(&other.hears(40).await), Vec::<String>::new());
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_passed_over() {
    let (one, other) = two().await;
    let log = Kept::keep(one.published_log().await);
    let ctx = one.tenant();
    create(&one.db, &ctx, &["a"; 10]).await;
    one.on_the_bus(10).await;
    log.end().await;
    // From the log of one partition, and from the bus, where a tombstone stands for it.
    let erase = "UPDATE platform.event_log SET payload = NULL WHERE number IN (3, 8)";
    sqlx::query(erase).execute(&mut one.admin().await).await.unwrap();
    jetstream::new(nats().await).delete_stream(stream_name("rapport", one.service())).await.unwrap();
    let (log, ear) = (Kept::keep(one.published_log().await), Kept::hear(other.consumer(&one).await));
    other.hears(8).await;
    while other.count("SELECT coalesce(sum(number), 0)::bigint FROM platform.watermarks").await < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(other.heard().await.len(), 8);
    assert_eq!(other.count("SELECT count(*) FROM parked_items").await, 0);
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_worked_off_is_parked_with_what_follows_of_its_record_and_holds_up_nobody_else() {
    let (one, other) = two().await;
    let (log, ear) = (Kept::keep(one.published_log().await), Kept::hear(other.consumer(&one).await));
    let ctx = one.tenant();
    let notes = create(&one.db, &ctx, &["park", "panic", "fail", "slow", "fine"]).await;
    for note in &notes {
        let mut tx = one.db.begin(&ctx).await.unwrap();
        change(&mut tx, note.id, "later").await;
        tx.finish().await.unwrap();
    }
    create(&one.db, &ctx, &["others"; 20]).await;
    let heard = other.hears(22).await;
    let of_fine: Vec<_> =
        heard.iter().filter(|(note, ..)| *note == notes[4].id).map(|(_, v, _)| *v).collect();
    assert_eq!(of_fine, [1, 2]);
    assert_eq!(heard.len(), 22);
    while other.count("SELECT count(*) FROM parked_items").await < 8 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let parked: Vec<(Uuid, i64, String, String, String, i64)> = sqlx::query_as(
        "SELECT record_id, record_version, state, reason, problem, attempts FROM parked_items ORDER BY record_id, part_number",
    )
    .fetch_all(&mut other.admin().await)
    .await
    .unwrap();
    let behind = "an earlier event of this record is parked";
    let expected = [
        (notes[0].id, "PARKED", "this one is parked", 1),
        (notes[1].id, "INTERNAL", "internal error", 3),
        (notes[2].id, "INTERNAL", "internal error", 3),
        (notes[3].id, "UNAVAILABLE", "temporarily unavailable; try again", 3),
    ];
    assert_eq!(parked.len(), 8, "{parked:?}");
    for (id, reason, problem, attempts) in expected {
        let of: Vec<_> = parked.iter().filter(|(record, ..)| *record == id).cloned().collect();
        assert_eq!(of[0], (id, 1, "parked".into(), reason.into(), problem.into(), attempts));
        assert_eq!(of[1], (id, 2, "behind".into(), "BEHIND".into(), behind.into(), 0));
    }
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_set_aside_with_a_reason_and_never_applied() {
    let (one, other) = two().await;
    let (log, ear) = (Kept::keep(one.published_log().await), Kept::hear(other.consumer(&one).await));
    let ctx = one.tenant();
    create(&one.db, &ctx, &["a"; 5]).await;
    other.hears(5).await;
    let bus = jetstream::new(nats().await);
    let stream = bus.get_stream(stream_name("rapport", one.service())).await.unwrap();
    let genuine = stream.get_raw_message(5).await.unwrap();
    let number: i64 = genuine.headers.get(Header::PartNumber.as_str()).unwrap().as_str().parse().unwrap();
    let forge = async |change: &dyn Fn(&mut HeaderMap)| {
        let mut headers = elsewhere(&genuine.headers);
        headers.insert("Nats-Msg-Id", Uuid::from_u128(rand::random()).to_string());
        change(&mut headers);
        bus.publish_with_headers(genuine.subject.clone(), headers, genuine.payload.clone())
            .await
            .unwrap()
            .await
            .unwrap();
    };
    let next = (number + 1).to_string();
    // Not ours at all; the next number by a leader that never was, and by one that was replaced; a number far ahead.
    bus.publish(format!("rapport.{}.07.hello.v1", one.service()), "hello".into())
        .await
        .unwrap()
        .await
        .unwrap();
    forge(&|headers| {
        headers.insert(Header::PartNumber.as_str(), next.clone());
        headers.insert(Header::Epoch.as_str(), "99");
    })
    .await;
    forge(&|headers| {
        headers.insert(Header::PartNumber.as_str(), next.clone());
        headers.insert(Header::Epoch.as_str(), "0");
    })
    .await;
    forge(&|headers| headers.insert(Header::PartNumber.as_str(), "1000")).await;
    forge(&|headers| headers.insert(Header::Tenant.as_str(), "nobody")).await;
    create(&one.db, &ctx, &["b"; 5]).await;
    assert_eq!(faults(&other.hears(10).await), Vec::<String>::new());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(other.heard().await.len(), 10);
    let reasons: Vec<String> = sqlx::query_scalar("SELECT reason FROM platform.set_aside ORDER BY reason")
        .fetch_all(&mut other.admin().await)
        .await
        .unwrap();
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    assert_eq!(reasons[0], "it has no headers");
    assert_eq!(reasons[1], "its header ce-tenant is `nobody`");
    assert!(reasons[2..].iter().all(|reason| reason.starts_with("the log has no such event")), "{reasons:?}");
    // An operator sees the last ones one by one, and what is older than ten thousand others is not kept.
    let many =
        "INSERT INTO platform.set_aside SELECT gen_random_uuid(), 'p', 's', '{}', '', 'r', to_timestamp(n)
                FROM generate_series(1, 10000) AS n";
    other.admin().await.execute(many).await.unwrap();
    let (routes, stop) = other.serve(None, |events| events).await;
    let request = by(&ctx, GetStatusRequest { service: "test".into() });
    let status = StatusServiceClient::new(routes).get_status(request).await.unwrap().into_inner();
    assert_eq!(status.set_aside_messages.len(), 10);
    let hello =
        status.set_aside_messages.iter().find(|message| message.reason == "it has no headers").unwrap();
    assert_eq!(hello.producer, one.service());
    assert!(hello.subject.ends_with(".07.hello.v1"), "{hello:?}");
    for _ in 0..500 {
        if other.count("SELECT count(*) FROM platform.set_aside").await == 10_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(other.count("SELECT count(*) FROM platform.set_aside").await, 10_000);
    assert_eq!(other.count("SELECT count(*) FROM platform.set_aside WHERE reason <> 'r'").await, 5);
    stop.cancel();
    ear.end().await;
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_watermark_is_found_out() {
    let (one, other) = two().await;
    let log = Kept::keep(one.published_log().await);
    let ear = Kept::hear(Consumer { sabotage: Sabotage::NoWatermark, ..other.consumer(&one).await });
    create(&one.db, &one.tenant(), &["a"; 10]).await;
    one.on_the_bus(10).await;
    other.hears(10).await;
    // The bus brings one again, as it does when an acknowledgement is lost.
    let bus = jetstream::new(nats().await);
    let stream = bus.get_stream(stream_name("rapport", one.service())).await.unwrap();
    let again = stream.get_raw_message(4).await.unwrap();
    let mut headers = elsewhere(&again.headers);
    headers.insert("Nats-Msg-Id", "again");
    Message::read(one.service(), &again.subject, Some(&headers), &again.payload).unwrap();
    bus.publish_with_headers(again.subject, headers, again.payload).await.unwrap().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_ne!(faults(&other.heard().await), Vec::<String>::new());
    ear.end().await;
    log.end().await;
}

/// Whether events are acknowledged while something holds up their effects.
async fn acknowledges_too_early(sabotage: Sabotage) -> bool {
    let (one, other) = two().await;
    let log = Kept::keep(one.published_log().await);
    let ear = Kept::hear(Consumer { sabotage, ..other.consumer(&one).await });
    let ctx = one.tenant();
    let note = create(&one.db, &ctx, &["a"]).await.remove(0);
    other.hears(1).await;
    let stream =
        jetstream::new(nats().await).get_stream(stream_name("rapport", one.service())).await.unwrap();
    let mut admin = other.admin().await;
    let mut held = admin.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE heard IN SHARE MODE").execute(&mut *held).await.unwrap();
    let mut tx = one.db.begin(&ctx).await.unwrap();
    change(&mut tx, note.id, "b").await;
    tx.finish().await.unwrap();
    one.on_the_bus(2).await;
    let mut too_early = false;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let info = stream.consumer_info(other.service()).await.unwrap();
        too_early |= info.ack_floor.stream_sequence > 1;
    }
    held.rollback().await.unwrap();
    other.hears(2).await;
    ear.kill().await;
    log.end().await;
    too_early
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_took_effect_is_acknowledged() {
    assert!(!acknowledges_too_early(Sabotage::None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_acknowledges_before_it_commits_is_found_out() {
    assert!(acknowledges_too_early(Sabotage::AckBeforeCommit).await);
}
