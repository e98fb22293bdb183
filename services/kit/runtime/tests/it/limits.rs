//! Limits: deadlines, places, turns.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use rapport_kernel::Ctx;
use rapport_proto::{
    google::api::HttpBody,
    identity::v1::{GetUnitRequest, Unit, unit_service_client::UnitServiceClient},
    imports::v1::{DownloadImportIssuesRequest, Import, UploadImportFileRequest},
};
use rapport_runtime::config::Limits;
use tokio::{sync::Semaphore, time::sleep};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::world::{Answers, ID, World, get};

/// Handlers that wait until the test lets them go.
fn held() -> (Answers, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let answers = Answers::get(move |_, _| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(Unit::default())
        }
    });
    (answers, gate)
}

#[tokio::test]
async fn the_shorter_of_the_callers_time_and_the_configured_one_counts() {
    let limits = Limits { request_timeout_seconds: 1, max_timeout_seconds: 2, ..Limits::default() };
    let (answers, _gate) = held();
    let world = World::limited(answers, limits).await;
    // In process: the usual client counts the time as well, and may be first.
    let mut units = UnitServiceClient::new(world.upstream.clone());
    for (asked, expected) in [(None, 1000..1900), (Some(100), 100..900), (Some(60_000), 2000..4000)] {
        let mut request = world.signed(get());
        if let Some(asked) = asked {
            request.metadata_mut().insert("grpc-timeout", format!("{asked}m").parse().unwrap());
        }
        let began = Instant::now();
        let status = units.get_unit(request).await.unwrap_err();
        let took = began.elapsed().as_millis();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(expected.contains(&took), "{asked:?}: {took} ms");
    }
    let mut request = world.signed(get());
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(units.get_unit(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_at_once() {
    let (answers, gate) = held();
    let world =
        World::limited(answers, Limits { in_flight: 20, concurrency: Some(4), ..Limits::default() }).await;
    let units = world.units().await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (mut units, request) = (units.clone(), world.signed(get()));
            tokio::spawn(async move { units.get_unit(request).await })
        })
        .collect();
    sleep(Duration::from_millis(200)).await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let (mut units, began) = (units.clone(), Instant::now());
        let status = units.get_unit(world.signed(get())).await.unwrap_err();
        times.push(began.elapsed());
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "the service is busy; try again in 1 s")
        );
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }
    times.sort();
    // The best, since others use the machine, too; the worst is still no wait for a place.
    assert!(times[0] <= Duration::from_millis(10) && times[49] < Duration::from_secs(1), "{times:?}");
    gate.add_permits(1000);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    units.clone().get_unit(world.signed(get())).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_one_tenant_leaves_the_others_their_turn() {
    let (order, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let (count, place) = (order.clone(), served.clone());
    let world = World::limited(
        Answers::get(move |ctx: Ctx, _: GetUnitRequest| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            if ctx.tenant.uuid() == Uuid::from_u128(2) {
                place.store(number, Ordering::SeqCst);
            }
            async {
                sleep(Duration::from_millis(10)).await;
                Ok(Unit::default())
            }
        }),
        Limits { concurrency: Some(2), tenant_queue: 200, ..Limits::default() },
    )
    .await;
    let units = world.units().await;
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let (mut units, request) = (units.clone(), world.of_tenant(1, get()));
            tokio::spawn(async move { units.get_unit(request).await })
        })
        .collect();
    sleep(Duration::from_millis(50)).await;
    units.clone().get_unit(world.of_tenant(2, get())).await.unwrap();
    for call in flood {
        call.await.unwrap().unwrap();
    }
    assert!(served.load(Ordering::SeqCst) < 50, "{served:?} of {order:?}");
}

#[tokio::test]
async fn a_tenants_line_is_bounded_in_length_and_time() {
    let (answers, gate) = held();
    let limits = Limits { concurrency: Some(1), tenant_queue: 3, queue_wait_ms: 1000, ..Limits::default() };
    let world = World::limited(answers, limits).await;
    let units = world.units().await;
    let began = Instant::now();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (mut units, request) = (units.clone(), world.of_tenant(1, get()));
            tokio::spawn(async move {
                units.get_unit(request).await.map_err(|status| status.message().to_owned())
            })
        })
        .collect();
    sleep(Duration::from_millis(1500)).await;
    gate.add_permits(10);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().map(|_| ()));
    }
    let count = |problem: &str| {
        answers.iter().filter(|answer| answer.as_ref().is_err_and(|e| e.starts_with(problem))).count()
    };
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert_eq!(count("3 calls of this tenant are waiting already"), 6);
    assert_eq!(count("the service is busy"), 3);
    assert!(began.elapsed() < Duration::from_secs(5));
    units.clone().get_unit(world.of_tenant(1, get())).await.unwrap();
}

#[tokio::test]
async fn streams_take_no_turn_but_have_a_bound_of_their_own() {
    let world = World::limited(
        Answers::download(async |_, _| Ok(futures::stream::pending::<Result<HttpBody, Status>>().boxed())),
        Limits { concurrency: Some(1), tenant_streams: 2, ..Limits::default() },
    )
    .await;
    let download = || DownloadImportIssuesRequest { id: ID.into() };
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(
            world.imports().await.download_import_issues(world.of_tenant(1, download())).await.unwrap(),
        );
    }
    let status =
        world.imports().await.download_import_issues(world.of_tenant(1, download())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    open.push(world.imports().await.download_import_issues(world.of_tenant(2, download())).await.unwrap());
    world.units().await.get_unit(world.of_tenant(1, get())).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let world = World::limited(
        Answers::download(async |_, _| {
            let first = HttpBody { content_type: "text/csv".into(), ..HttpBody::default() };
            Ok(futures::stream::once(async { Ok(first) }).chain(futures::stream::pending()).boxed())
        }),
        Limits { stream_timeout_seconds: 1, ..Limits::default() },
    )
    .await;
    let request = world.signed(DownloadImportIssuesRequest { id: ID.into() });
    let began = Instant::now();
    let mut pieces = world.imports().await.download_import_issues(request).await.unwrap().into_inner();
    assert!(pieces.message().await.unwrap().is_some());
    let status = pieces.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!((900..3000).contains(&began.elapsed().as_millis()));
}

#[tokio::test]
async fn an_upload_that_stalls_ends_at_its_deadline_for_the_handler_too() {
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let world = World::limited(
        Answers::upload(move |_, mut pieces| {
            let sender = sender.clone();
            async move {
                let end = loop {
                    match pieces.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break Code::Ok,
                        Err(status) => break status.code(),
                    }
                };
                sender.send(end).unwrap();
                Ok(Import::default())
            }
        }),
        Limits { stream_timeout_seconds: 1, ..Limits::default() },
    )
    .await;
    let first = UploadImportFileRequest { id: ID.into(), file: None };
    let mut request = Request::new(futures::stream::once(async { first }).chain(futures::stream::pending()));
    *request.metadata_mut() = world.signed(()).metadata().clone();
    let status = world.imports().await.upload_import_file(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_ne!(ended.recv().await.unwrap(), Code::Ok, "a part must not pass for the whole");
}
