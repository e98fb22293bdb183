//! A tenant's events as those outside read and watch them.
use std::{sync::Arc, time::Duration};

use prost::Message as _;
use rapport_events::{Audience, Feed, Keep, Log};
use rapport_kernel::{Ctx, FieldRights, Grants, Scope};
use rapport_proto::{
    customer::v1::CustomerUpdated,
    events::v1::{
        Event, GetEventPositionRequest, ListRecordHistoryRequest, ReadEventsRequest, WatchEventsRequest,
        event_service_server::EventService as _,
    },
};
use rapport_runtime::parts::Parts;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};

use crate::{
    note::{Note, change, create},
    world::{Kept, World, by},
};

/// A feed whose worker runs.
pub(crate) struct Fed {
    pub(crate) feed: Feed,
    stop: CancellationToken,
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn feed(log: &Log) -> Fed {
    let feed = Feed::new(log, Audience::of("test").seers_of::<Note>());
    let (routes, ready) = (Routes::default(), Vec::new());
    let (workers, ending) = (Vec::new(), CancellationToken::new());
    let mut parts = Parts { name: "test", routes, workers, ready, ending };
    let feed = feed.of(&mut parts);
    let stop = CancellationToken::new();
    for worker in parts.workers {
        tokio::spawn({
            let stop = stop.clone();
            async move { worker.run(stop).await }
        });
    }
    Fed { feed, stop }
}

pub(crate) async fn read(
    feed: &Feed,
    ctx: &Ctx,
    request: ReadEventsRequest,
) -> Result<(Vec<Event>, i64), Status> {
    let page = feed.read_events(by(ctx, request)).await?.into_inner();
    Ok((page.events, page.next_after))
}

/// Everything after a number, in small pages.
pub(crate) async fn all(feed: &Feed, ctx: &Ctx, mut after: i64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let page = ReadEventsRequest { after, page_size: 7, ..Default::default() };
        let (page, next) = read(feed, ctx, page).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
        after = next;
    }
}

fn text(event: &Event) -> String {
    let any = event.data.as_ref().unwrap();
    assert_eq!(any.type_url, "type.googleapis.com/rapport.customer.v1.CustomerUpdated");
    CustomerUpdated::decode(any.value.as_slice()).unwrap().customer.unwrap().display_name
}

pub(crate) fn numbers(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_events_are_read_by_its_own_numbers() {
    let world = World::new().await;
    let (a, b) = (world.tenant(), world.tenant());
    let log = world.service_log();
    let fed = feed(&log);
    let kept = Kept::keep(log);
    let mut texts = Vec::new();
    for n in 0..20 {
        create(&world.db, &a, &[&format!("a{n}"), "x"]).await;
        create(&world.db, &b, &["b"]).await;
        texts.extend([format!("a{n}"), "x".to_owned()]);
        // Over several days.
        if n % 7 == 0 {
            world.settled().await;
            world.later(86_400);
        }
    }
    world.settled().await;
    let events = all(&fed.feed, &a, 0).await;
    assert_eq!(numbers(&events), (1..=40).collect::<Vec<_>>());
    assert_eq!(events.iter().map(text).collect::<Vec<_>>(), texts);
    assert!(events[0].record.starts_with("test.note/"), "{}", events[0].record);
    assert_eq!(numbers(&all(&fed.feed, &a, 33).await), (34..=40).collect::<Vec<_>>());
    assert_eq!(all(&fed.feed, &b, 0).await.len(), 20);
    let position = fed.feed.get_event_position(by(&a, GetEventPositionRequest::default())).await.unwrap();
    assert_eq!((position.get_ref().first_number, position.get_ref().last_number), (1, 40));
    let nobody = world.tenant();
    let position =
        fed.feed.get_event_position(by(&nobody, GetEventPositionRequest::default())).await.unwrap();
    assert_eq!((position.get_ref().first_number, position.get_ref().last_number), (1, 0));
    assert_eq!(all(&fed.feed, &nobody, 0).await, []);

    // By subject and by condition; what was passed over need not be passed over again.
    let some = ReadEventsRequest {
        filter: "number > 30 && record_version == 1".into(),
        subjects: vec!["note.>".into(), "customer.updated.*".into()],
        ..Default::default()
    };
    let (found, next) = read(&fed.feed, &a, some).await.unwrap();
    assert_eq!((numbers(&found), next), ((31..=40).collect(), 40));
    let none = ReadEventsRequest { subjects: vec!["note.>".into()], ..Default::default() };
    assert_eq!(read(&fed.feed, &a, none).await.unwrap(), (Vec::new(), 40));
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_with_what_can() {
    let world = World::new().await;
    let ctx = world.tenant();
    let log = Log { keep: Keep { standard_days: 8, extended_days: 8 }, ..world.service_log() };
    let fed = feed(&log);
    let kept = Kept::keep(log);
    for _ in 0..12 {
        create(&world.db, &ctx, &["a", "b"]).await;
        world.settled().await;
        world.later(86_400);
    }
    create(&world.db, &ctx, &["last"]).await;
    world.settled().await;
    for _ in 0..100 {
        if world.count("SELECT count(*) FROM platform.event_log").await == 17 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = async |request: ReadEventsRequest| {
        let status = read(&fed.feed, &ctx, request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, words) = refused(ReadEventsRequest { after: 3, ..Default::default() }).await;
    assert_eq!(code, Code::FailedPrecondition);
    let snapshot = "read the records anew, and then the events after 25, which was the last so far";
    assert_eq!(words, format!("events are kept from number 9 on, and 3 was read last: {snapshot}"));
    let (_, words) = refused(ReadEventsRequest { after: 30, ..Default::default() }).await;
    assert_eq!(words, format!("number 30 was not given yet, as after a restore: {snapshot}"));
    assert_eq!(numbers(&all(&fed.feed, &ctx, 8).await), (9..=25).collect::<Vec<_>>());
    // Who watches is told the same before anything else.
    let watch = WatchEventsRequest { after: Some(3), ..Default::default() };
    assert_eq!(fed.feed.watch_events(by(&ctx, watch)).await.unwrap_err().code(), Code::FailedPrecondition);

    for (subject, filter, expected) in [
        ("Customer.>", "", "subjects[0]"),
        ("customer.>.v1", "", "nor a last `>`"),
        ("", "subjct == \"x\"", "did you mean subject"),
        ("", "number == \"x\"", "filter"),
    ] {
        let subjects = if subject.is_empty() { vec![] } else { vec![subject.into()] };
        let (code, words) =
            refused(ReadEventsRequest { after: 9, subjects, filter: filter.into(), ..Default::default() })
                .await;
        assert!(code == Code::InvalidArgument && words.contains(expected), "{words}");
    }
    let other = ReadEventsRequest { service: "sales".into(), ..Default::default() };
    assert_eq!(refused(other).await.1, "service: is `test` here, not `sales`");
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_every_event_once_and_in_order() {
    let world = Arc::new(World::new().await);
    let (ctx, noise) = (world.tenant(), world.tenant());
    let log = world.service_log();
    let fed = feed(&log);
    let kept = Kept::keep(log);
    create(&world.db, &ctx, &["before", "before"]).await;
    world.settled().await;
    const WRITERS: i64 = 4;
    const EACH: i64 = 60;
    let last = 2 + WRITERS * EACH;
    let mut watchers = Vec::new();
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let (world, writer, noise) = (world.clone(), ctx.clone(), noise.clone());
        writers.push(tokio::spawn(async move {
            for _ in 0..EACH {
                create(&world.db, &writer, &["a"]).await;
                create(&world.db, &noise, &["b"]).await;
            }
        }));
        // Some begin at the beginning, some now; one reads too slowly to keep up.
        let after = (n % 2 == 0).then_some(0);
        let watch = WatchEventsRequest { after, ..Default::default() };
        let mut stream = fed.feed.watch_events(by(&ctx, watch)).await.unwrap().into_inner();
        watchers.push(tokio::spawn(async move {
            let begun = stream.next().await.unwrap().unwrap();
            assert_eq!(begun.event, None);
            let mut heard = Vec::new();
            while heard.last().is_none_or(|number| *number < last) {
                let told = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
                let told = told.expect("the next event").unwrap().unwrap();
                heard.extend(told.event.map(|event| event.number));
                if n == 2 && heard.len() == 20 {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            }
            (begun.number, heard)
        }));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for watcher in watchers {
        let (begun, heard) = watcher.await.unwrap();
        assert_eq!(heard, (begun + 1..=last).collect::<Vec<_>>());
    }
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hears_of_what_they_may_not_read() {
    let world = World::new().await;
    let boss = world.tenant();
    let log = world.service_log();
    let fed = feed(&log);
    let kept = Kept::keep(log);
    let note = create(&world.db, &boss, &["secret"]).await.remove(0);
    for text in ["new", "newer"] {
        let mut tx = world.db.begin(&boss).await.unwrap();
        change(&mut tx, note.id, text).await;
        tx.finish().await.unwrap();
    }
    world.settled().await;

    // Without the permission to read notes there are none, though their numbers pass.
    let grants: Grants = [("test.other", Scope::All)].into_iter().collect();
    let stranger = Ctx { grants: grants.into(), ..boss.clone() };
    assert_eq!(read(&fed.feed, &stranger, ReadEventsRequest::default()).await.unwrap(), (Vec::new(), 3));
    // Hidden fields are not there.
    let hidden = |kind: &str| (kind.to_owned(), ["display_name".to_owned()].into());
    let rights = FieldRights { hidden: [hidden("customer.customer")].into(), ..Default::default() };
    let limited = Ctx { field_rights: rights.into(), ..boss.clone() };
    let seen: Vec<_> = all(&fed.feed, &limited, 0).await.iter().map(text).collect();
    assert_eq!(seen, ["", "", ""]);
    assert_eq!(
        all(&fed.feed, &boss, 0).await.iter().map(text).collect::<Vec<_>>(),
        ["secret", "new", "newer"]
    );

    let history = async |ctx: &Ctx, resource: &str, id: &str, page_token: String| {
        let (resource, record_id) = (resource.to_owned(), id.to_owned());
        let request =
            ListRecordHistoryRequest { resource, record_id, page_size: 2, page_token, ..Default::default() };
        fed.feed.list_record_history(by(ctx, request)).await.map(tonic::Response::into_inner)
    };
    let id = note.id.to_string();
    let page = history(&boss, "note", &id, String::new()).await.unwrap();
    let number = |entry: &rapport_proto::events::v1::HistoryEntry| entry.event.as_ref().unwrap().number;
    assert_eq!(page.entries.iter().map(number).collect::<Vec<_>>(), [3, 2]);
    let page = history(&boss, "note", &id, page.next_page_token).await.unwrap();
    assert_eq!(page.entries.iter().map(number).collect::<Vec<_>>(), [1]);
    assert_eq!(page.next_page_token, "");
    let other = world.tenant();
    for (ctx, resource, code) in [
        (&stranger, "note", Code::NotFound),
        (&other, "note", Code::NotFound),
        (&boss, "nothing", Code::InvalidArgument),
    ] {
        assert_eq!(history(ctx, resource, &id, String::new()).await.unwrap_err().code(), code);
    }
    kept.end().await;
}
