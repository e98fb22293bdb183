//! What is parked is seen, tried again, and dropped.
use std::time::Duration;

use rapport_kernel::Ctx;
use rapport_proto::events::v1::{
    DiscardParkedItemRequest, GetParkedItemRequest, ListParkedItemsRequest, ParkedItem,
    ParkedItemState as State, ReplayParkedItemRequest, parked_item_service_client::ParkedItemServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};
use uuid::Uuid;

use crate::{
    note::{self, Note, change, create, delete},
    world::{Kept, World, by},
};

type Client = ParkedItemServiceClient<Routes>;

/// A service that hears `one`.
async fn service(other: &World, one: &World) -> (Client, CancellationToken) {
    let consumer = other.consumer(one).await;
    let (routes, stop) =
        other.serve(None, |events| events.hears(consumer.producer, note::reactions(one.service()))).await;
    (Client::new(routes), stop)
}

async fn list(client: &mut Client, ctx: &Ctx, filter: &str) -> Vec<ParkedItem> {
    let request = ListParkedItemsRequest { filter: filter.into(), ..Default::default() };
    client.list_parked_items(by(ctx, request)).await.unwrap().into_inner().parked_items
}

async fn replay(client: &mut Client, ctx: &Ctx, item: &ParkedItem) -> Result<ParkedItem, Status> {
    let request = ReplayParkedItemRequest { id: item.id.clone(), ..Default::default() };
    client.replay_parked_item(by(ctx, request)).await.map(tonic::Response::into_inner)
}

async fn discard(client: &mut Client, ctx: &Ctx, item: &ParkedItem) -> ParkedItem {
    let request = DiscardParkedItemRequest { id: item.id.clone(), ..Default::default() };
    client.discard_parked_item(by(ctx, request)).await.unwrap().into_inner()
}

/// Notes that park, each with three changes behind it; as the other service has them, the earliest first.
async fn parked(one: &World, client: &mut Client, ctx: &Ctx, texts: &[&str]) -> Vec<Vec<ParkedItem>> {
    let notes = create(&one.db, ctx, texts).await;
    for text in ["second", "third", "fourth"] {
        for note in &notes {
            let mut tx = one.db.begin(ctx).await.unwrap();
            change(&mut tx, note.id, text).await;
            tx.finish().await.unwrap();
        }
    }
    for _ in 0..500 {
        let items = list(client, ctx, "").await;
        if items.len() == 4 * notes.len() {
            let of = |note: &Note| {
                let mut of: Vec<_> =
                    items.iter().filter(|item| item.record_id == note.id.to_string()).cloned().collect();
                of.reverse();
                of
            };
            return notes.iter().map(of).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:#?} is parked", list(client, ctx, "").await);
}

async fn heal(other: &World, ctx: &Ctx) {
    let mut tx = other.db.begin(ctx).await.unwrap();
    sqlx::query("INSERT INTO heard (tenant_id, note_id, version, text) VALUES ($1, $1, 0, 'healed')")
        .bind(ctx.tenant)
        .execute(tx.conn().await.unwrap())
        .await
        .unwrap();
    tx.finish().await.unwrap();
}

/// What was heard of a note.
async fn heard(other: &World, id: &str) -> Vec<i64> {
    let id: Uuid = id.parse().unwrap();
    other.heard().await.into_iter().filter(|(note, ..)| *note == id).map(|(_, version, _)| version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_is_worked_off_as_its_own_type_wants_it() {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let (mut client, stop) = service(&other, &one).await;
    let ctx = one.tenant();
    let items = parked(&one, &mut client, &ctx, &["park"]).await.remove(0);
    let id: Uuid = items[0].record_id.parse().unwrap();
    delete(&one.db, &ctx, id).await;
    while list(&mut client, &ctx, "").await.len() < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heal(&other, &ctx).await;
    replay(&mut client, &ctx, &items[0]).await.unwrap();
    let heard = other.heard().await;
    let texts: Vec<_> =
        heard.iter().filter(|(note, ..)| *note == id).map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(texts, ["park", "second", "third", "fourth", "deleted"]);
    stop.cancel();
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_applies_once_and_in_order() {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let (mut client, stop) = service(&other, &one).await;
    let ctx = one.tenant();
    let items = parked(&one, &mut client, &ctx, &["park", "park"]).await;
    let (a, b) = (&items[0], &items[1]);
    assert_eq!(
        a.iter().map(ParkedItem::state).collect::<Vec<_>>(),
        [State::Parked, State::Behind, State::Behind, State::Behind]
    );
    assert_eq!((a[0].reason.as_str(), a[0].problem.as_str()), ("PARKED", "this one is parked"));
    assert_eq!(list(&mut client, &ctx, "state == \"parked\" && handler == \"write-down\"").await.len(), 2);

    // What is not mended fails again; what waits behind has to wait.
    let again = replay(&mut client, &ctx, &a[0]).await.unwrap();
    assert_eq!((again.state(), again.attempts), (State::Parked, 2));
    let early = replay(&mut client, &ctx, &a[1]).await.unwrap_err();
    assert!(early.code() == Code::FailedPrecondition && early.message().contains(&a[0].id), "{early}");
    assert!(heard(&other, &a[0].record_id).await.is_empty());

    // Mended, it takes effect with all behind it, however many ask at once.
    heal(&other, &ctx).await;
    let asked = (0..8).map(|_| {
        let (mut client, ctx, item) = (client.clone(), ctx.clone(), a[0].clone());
        tokio::spawn(async move { replay(&mut client, &ctx, &item).await })
    });
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap().unwrap().state(), State::Done);
    }
    assert_eq!(heard(&other, &a[0].record_id).await, [1, 2, 3, 4]);
    // And what comes later is not parked any more.
    let mut tx = one.db.begin(&ctx).await.unwrap();
    change(&mut tx, a[0].record_id.parse().unwrap(), "fifth").await;
    tx.finish().await.unwrap();
    other.hears(6).await;
    assert_eq!(heard(&other, &a[0].record_id).await, [1, 2, 3, 4, 5]);

    // What is dropped lets what is behind it go on.
    let dropped = discard(&mut client, &ctx, &b[0]).await;
    assert_eq!(dropped.state(), State::Discarded);
    assert_eq!(discard(&mut client, &ctx, &b[0]).await.state(), State::Discarded);
    assert_eq!(heard(&other, &b[0].record_id).await, [2, 3, 4]);
    assert_eq!(replay(&mut client, &ctx, &b[0]).await.unwrap().state(), State::Discarded);
    assert_eq!(list(&mut client, &ctx, "state == \"parked\" || state == \"behind\"").await, []);

    // Another tenant sees none of it.
    let stranger = one.tenant();
    let request = GetParkedItemRequest { id: a[0].id.clone(), ..Default::default() };
    assert_eq!(client.get_parked_item(by(&stranger, request)).await.unwrap_err().code(), Code::NotFound);
    stop.cancel();
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_by_itself_in_a_minute() {
    let (one, other) = (World::new().await, World::new().await);
    let log = Kept::keep(one.published_log().await);
    let (mut client, stop) = service(&other, &one).await;
    let ctx = one.tenant();
    let items = parked(&one, &mut client, &ctx, &["ail"]).await.remove(0);
    heal(&other, &ctx).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(heard(&other, &items[0].record_id).await.is_empty());
    other.later(61);
    for _ in 0..500 {
        if heard(&other, &items[0].record_id).await.len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(heard(&other, &items[0].record_id).await, [1, 2, 3, 4]);
    assert_eq!(list(&mut client, &ctx, "state == \"done\"").await.len(), 4);
    stop.cancel();
    log.end().await;
}
