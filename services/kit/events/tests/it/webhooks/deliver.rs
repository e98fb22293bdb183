//! What is sent arrives: signed, in order, complete, and tried again.
use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use rapport_proto::events::v1::{LedgerOutcome, UpdateWebhookRequest, Webhook, WebhookState, WhyRequest};

use super::{hooked::Hooked, receiver::by_record};
use crate::{note::create, world::by};

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_signed_complete_and_in_order() {
    let mut hooked = Hooked::new().await;
    create(&hooked.world.db, &hooked.ctx, &["before"]).await;
    hooked.world.settled().await;
    let (webhook, secret) = hooked.hook().await;
    // Its own making is an event, which it does not ask for.
    let notes = create(&hooked.world.db, &hooked.ctx, &["a", "b", "c", "d"]).await;
    for text in ["second", "third", "fourth"] {
        for note in &notes {
            hooked.change(note.id, text).await;
        }
    }
    let came = hooked.receiver.gets(3..=18).await;
    assert_eq!(came.len(), 16);
    for numbers in by_record(&came).values() {
        assert!(numbers.len() == 4 && numbers.is_sorted(), "{numbers:?}");
    }
    let first = &came.iter().find(|message| message.number() == 3).unwrap();
    assert!(came.iter().all(|message| message.is_signed_with(&secret)));
    assert_eq!((first.data["type"].as_str(), first.text()), (Some("customer.updated.v1"), Some("a")));
    assert_eq!(first.data["timestamp"], first.data["data"]["time"]);
    assert_eq!(first.id, first.data["data"]["id"].as_str().unwrap());

    // The ledger says so when the receiver's answer is there.
    let arrived = format!("trigger == \"webhook/{}\" && outcome == \"done\"", webhook.id);
    let mut entries = hooked.ledger(&arrived).await;
    for _ in 0..500 {
        if entries.len() == 16 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        entries = hooked.ledger(&arrived).await;
    }
    assert_eq!(entries.len(), 16);
    assert!(entries.iter().all(|entry| entry.attempts == 1 && entry.outcome() == LedgerOutcome::Done));
    let status = entries[0].detail.as_ref().unwrap().fields["status"].kind.clone();
    assert_eq!(status, Some(prost_types::value::Kind::NumberValue(200.0)));

    // Why: of the event, and of its record.
    for request in [
        WhyRequest { event_id: first.id.clone(), ..Default::default() },
        WhyRequest { record: first.record(), ..Default::default() },
    ] {
        let why = hooked.ledger.why(by(&hooked.ctx, request)).await.unwrap().into_inner().explanations;
        let of = why.iter().find(|of| of.event_id == first.id).unwrap();
        assert_eq!(of.event.as_ref().unwrap().number, 3);
        assert_eq!(of.ledger_entries.len(), 1);
    }
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_arrive_is_tried_again_and_workers_may_die() {
    let mut hooked = Hooked::new().await;
    let (webhook, _) = hooked.hook().await;
    hooked.world.settled().await;
    hooked.receiver.status.store(503, Ordering::SeqCst);
    let notes = create(&hooked.world.db, &hooked.ctx, &["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    for note in &notes {
        hooked.change(note.id, "second").await;
    }
    while hooked.receiver.refusals.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failed = hooked.ledger("outcome == \"failed\"").await;
    assert!(!failed.is_empty());
    assert_eq!(
        (failed[0].reason.as_str(), failed[0].problem.as_str()),
        ("WEBHOOK_REFUSED", "the receiver answered 503 Service Unavailable")
    );
    hooked.restart().await;
    hooked.receiver.status.store(200, Ordering::SeqCst);
    // The pause after the first failure is over.
    hooked.world.later(10);
    let came = hooked.receiver.gets(2..=17).await;
    for numbers in by_record(&came).values() {
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    for _ in 0..6 {
        create(&hooked.world.db, &hooked.ctx, &["more", "and more"]).await;
        hooked.restart().await;
    }
    let came = hooked.receiver.gets(2..=29).await;
    // What came twice came under the same id.
    let ids: BTreeSet<_> = came.iter().map(|message| (message.number(), message.id.clone())).collect();
    assert_eq!(ids.len(), 28);
    assert_eq!(hooked.get(&webhook).await.state(), WebhookState::On);
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_is_refused_holds_up_its_lane_for_a_day_and_nothing_at_all_switches_off() {
    let mut hooked = Hooked::new().await;
    let (webhook, _) = hooked.hook().await;
    let bad = create(&hooked.world.db, &hooked.ctx, &["bad"]).await.remove(0);
    hooked.receiver.refused.lock().unwrap().insert(format!("test.note/{}", bad.id));
    create(&hooked.world.db, &hooked.ctx, &["a"; 24]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Seven lanes of eight go on.
    assert!(hooked.receiver.came().len() >= 12, "{} came", hooked.receiver.came().len());
    while hooked.receiver.refusals.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hooked.world.later(12 * 3_600);
    create(&hooked.world.db, &hooked.ctx, &["a"; 16]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    hooked.world.later(13 * 3_600);
    let expected = (2..=42).filter(|number| *number != 2);
    hooked.receiver.gets(expected).await;
    assert_eq!(hooked.get(&webhook).await.state(), WebhookState::On);

    // Now nothing arrives any more.
    hooked.receiver.status.store(500, Ordering::SeqCst);
    let before = hooked.receiver.refusals.load(Ordering::SeqCst);
    create(&hooked.world.db, &hooked.ctx, &["late"; 4]).await;
    while hooked.receiver.refusals.load(Ordering::SeqCst) == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..200 {
        hooked.world.later(1_800);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if hooked.get(&webhook).await.state() == WebhookState::Off {
            break;
        }
    }
    let off = hooked.get(&webhook).await;
    assert_eq!(off.state(), WebhookState::Off);
    assert_eq!(
        off.off_reason,
        "nothing arrived for 24 hours; at last the receiver answered 500 Internal Server Error"
    );
    // What other lanes had begun to send by then comes to its end.
    let mut refused = 0;
    while refused != hooked.receiver.refusals.load(Ordering::SeqCst) {
        refused = hooked.receiver.refusals.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    create(&hooked.world.db, &hooked.ctx, &["later"; 2]).await;
    hooked.receiver.status.store(200, Ordering::SeqCst);
    hooked.world.later(3_600);
    let came = hooked.receiver.came().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(hooked.receiver.came().len(), came, "what is off sends nothing");

    // Switched on again, it goes on where it stopped.
    let on = Webhook { id: webhook.id.clone(), state: WebhookState::On.into(), ..off };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["state".into()] });
    let request = UpdateWebhookRequest { webhook: Some(on), update_mask, ..Default::default() };
    let on = hooked.webhooks.update_webhook(by(&hooked.ctx, request)).await.unwrap().into_inner();
    assert_eq!((on.state(), on.off_reason.as_str()), (WebhookState::On, ""));
    let texts: Vec<_> = {
        let last = hooked.world.count("SELECT max(tenant_number) FROM platform.event_log").await;
        // Two changes of the webhook lie between them.
        let wanted: Vec<i64> = (43..=last).collect();
        for _ in 0..500 {
            let came = hooked.receiver.came();
            if came.iter().filter(|m| wanted.contains(&m.number())).count() >= 6 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hooked.receiver.came().iter().filter_map(|m| m.text().map(str::to_owned)).collect()
    };
    assert_eq!(texts.iter().filter(|text| *text == "late").count(), 4);
    assert_eq!(texts.iter().filter(|text| *text == "later").count(), 2);

    // 410 is heard at once.
    hooked.receiver.status.store(410, Ordering::SeqCst);
    create(&hooked.world.db, &hooked.ctx, &["gone"]).await;
    for _ in 0..500 {
        if hooked.get(&webhook).await.state() == WebhookState::Off {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(hooked.get(&webhook).await.off_reason, "the receiver answered 410 Gone");
    hooked.stop.cancel();
}
