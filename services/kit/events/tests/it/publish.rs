//! The relay on a real bus: everything in the log is there, in order, whatever happens to the bus.
use std::collections::BTreeMap;

use async_nats::jetstream::{self, stream::Stream};
use rapport_events::bus::{Message, stream_name};

use crate::{
    note::create,
    world::{Kept, World, nats},
};

/// What is on the bus, in its order.
async fn published(world: &World) -> Vec<Message> {
    let stream = stream(world).await;
    let info = stream.cached_info();
    let mut messages = Vec::new();
    for sequence in info.state.first_sequence..=info.state.last_sequence {
        if let Ok(message) = stream.get_raw_message(sequence).await {
            let read =
                Message::read(world.service(), &message.subject, Some(&message.headers), &message.payload);
            messages.push(read.unwrap());
        }
    }
    messages
}

async fn stream(world: &World) -> Stream {
    jetstream::new(nats().await).get_stream(stream_name("rapport", world.service())).await.unwrap()
}

fn numbers(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.line.number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_holds_the_log_in_its_order() {
    let world = World::new().await;
    let kept = Kept::keep(world.published_log().await);
    let (one, other) = (world.tenant(), world.tenant());
    for n in 0..20 {
        create(&world.db, if n % 3 == 0 { &one } else { &other }, &["a", "b", "c"]).await;
    }
    world.on_the_bus(60).await;
    let messages = published(&world).await;
    assert_eq!(numbers(&messages), (1..=60).collect::<Vec<_>>());
    let log = world.log().await;
    for (message, line) in messages.iter().zip(&log) {
        let said = &message.line;
        assert_eq!((said.tenant_id, said.part_number), (line.tenant_id, line.part_number));
        assert_eq!((said.tenant_number, said.record_id), (line.tenant_number, line.record_id));
        assert_eq!(message.epoch, 1);
    }
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_lost_is_published_again() {
    let world = World::new().await;
    let ctx = world.tenant();
    let kept = Kept::keep(world.published_log().await);
    create(&world.db, &ctx, &["a", "b", "c"]).await;
    world.on_the_bus(3).await;
    kept.end().await;
    // Its disk was lost.
    jetstream::new(nats().await).delete_stream(stream_name("rapport", world.service())).await.unwrap();
    let kept = Kept::keep(world.published_log().await);
    create(&world.db, &ctx, &["d"]).await;
    world.on_the_bus(4).await;
    kept.end().await;
    assert_eq!(numbers(&published(&world).await), [1, 2, 3, 4]);
    // It was emptied.
    let stream = stream(&world).await;
    stream.purge().await.unwrap();
    let kept = Kept::keep(world.published_log().await);
    create(&world.db, &ctx, &["e"]).await;
    world.on_the_bus(5).await;
    kept.end().await;
    assert_eq!(numbers(&published(&world).await), [5], "what was had by everyone may be let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_noted_is_published_in_its_place_whoever_else_publishes() {
    let world = World::new().await;
    let ctx = world.tenant();
    let kept = Kept::keep(world.published_log().await);
    create(&world.db, &ctx, &["a"; 40]).await;
    world.on_the_bus(40).await;
    kept.end().await;
    // Its leader was killed before it noted that; and somebody else published.
    let forget = "UPDATE platform.log_relay SET number = 10, stream_sequence = 10";
    sqlx::query(forget).execute(&mut world.admin().await).await.unwrap();
    let bus = jetstream::new(nats().await);
    let strange = format!("rapport.{}.07.hello.v1", world.service());
    bus.publish(strange.clone(), "hello".into()).await.unwrap().await.unwrap();
    let kept = Kept::keep(world.published_log().await);
    create(&world.db, &ctx, &["b"; 5]).await;
    world.on_the_bus(45).await;
    bus.publish(strange, "hello".into()).await.unwrap().await.unwrap();
    create(&world.db, &ctx, &["c"; 5]).await;
    world.on_the_bus(50).await;
    kept.end().await;
    let stream = stream(&world).await;
    let last = stream.cached_info().state.last_sequence;
    let mut places = BTreeMap::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        if let Some(number) = message.headers.get("ce-number") {
            places.insert(number.as_str().parse::<i64>().unwrap(), sequence);
        }
    }
    // Some of them stand there twice. The last of each stand in the order of the log.
    assert_eq!(places.keys().copied().collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    assert!(places.values().is_sorted(), "{places:?}");
    assert!(last <= 52 + 30 + 5, "{last}");
}
