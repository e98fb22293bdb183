//! The handler's own task: what hanging up, panics, conflicts and repetitions do.
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use prost::Message as _;
use rapport_kernel::Error;
use rapport_proto::{
    google::api::HttpBody,
    identity::v1::Unit,
    imports::v1::{DownloadImportIssuesRequest, Import, UploadImportFileRequest},
};
use rapport_runtime::config::Limits;
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};
use tonic::{Code, Request};

use crate::world::{Answers, ID, Pieces, World, create, get};

const SOON: Duration = Duration::from_secs(5);

fn piece(text: &str) -> HttpBody {
    HttpBody { data: text.as_bytes().to_vec().into(), ..HttpBody::default() }
}

fn download() -> DownloadImportIssuesRequest {
    DownloadImportIssuesRequest { id: ID.into() }
}

#[tokio::test]
async fn a_caller_who_hangs_up_cancels_nothing() {
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, end) = (begun.clone(), ended.clone());
    let world = World::start(Answers::get(move |_, _| {
        let (begin, end) = (begin.clone(), end.clone());
        async move {
            begin.notify_one();
            sleep(Duration::from_millis(200)).await;
            end.notify_one();
            Ok(Unit::default())
        }
    }))
    .await;
    let (mut units, request) = (world.units().await, world.signed(get()));
    let call = tokio::spawn(async move { units.get_unit(request).await });
    timeout(SOON, begun.notified()).await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    timeout(SOON, ended.notified()).await.expect("the handler goes on");
}

#[tokio::test]
async fn a_stream_that_its_caller_breaks_off_never_looks_as_if_it_had_ended() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let world = World::start(Answers::upload(move |_, mut pieces| {
        let tell = tell.clone();
        async move {
            let end = loop {
                match pieces.next().await {
                    Some(Ok(_)) => tell.send(None).unwrap(),
                    Some(Err(status)) => break Some(status.code()),
                    None => break Some(Code::Ok),
                }
            };
            tell.send(end).unwrap();
            Ok(Import::default())
        }
    }))
    .await;
    let first = UploadImportFileRequest { id: ID.into(), file: Some(piece("a,b\n1,")) };
    let (pieces, whole) = (first.clone(), tokio_stream::iter([first.clone()]));
    world.imports().await.upload_import_file(world.signed(whole)).await.unwrap();
    assert_eq!((told.recv().await.unwrap(), told.recv().await.unwrap()), (None, Some(Code::Ok)));

    // The caller goes away: its connection stays, and its stream is reset with CANCEL, which tonic takes for an end.
    let mut imports = world.imports().await;
    let endless = world.signed(tokio_stream::iter([pieces]).chain(futures::stream::pending()));
    let upload = tokio::spawn(async move { imports.upload_import_file(endless).await.map(drop) });
    assert_eq!(timeout(SOON, told.recv()).await.unwrap().unwrap(), None);
    upload.abort();
    assert_eq!(timeout(SOON, told.recv()).await.unwrap().unwrap(), Some(Code::Aborted));

    // The time of the call is over.
    let mut late = world.signed(tokio_stream::iter([first]).chain(futures::stream::pending()));
    late.set_timeout(Duration::from_millis(300));
    world.imports().await.upload_import_file(late).await.unwrap_err();
    assert_eq!(timeout(SOON, told.recv()).await.unwrap().unwrap(), None);
    assert_ne!(timeout(SOON, told.recv()).await.unwrap().unwrap(), Some(Code::Ok));
}

#[tokio::test]
async fn the_place_of_an_abandoned_call_is_free_only_when_its_handler_is_through() {
    let running = Arc::new(Semaphore::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak, go) = (Arc::new(AtomicUsize::new(0)), most.clone(), running.clone());
    let world = World::limited(
        Answers::get(move |_, _| {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let (now, go) = (now.clone(), go.clone());
            async move {
                go.acquire().await.unwrap().forget();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Unit::default())
            }
        }),
        Limits { concurrency: Some(1), ..Limits::default() },
    )
    .await;
    for _ in 0..3 {
        let (mut units, request) = (world.units().await, world.signed(get()));
        assert!(timeout(Duration::from_millis(50), units.get_unit(request)).await.is_err());
    }
    // The last one may get its turn before the server learns that it was given up.
    running.add_permits(3);
    world.units().await.get_unit(world.signed(get())).await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 1, "calls that were given up still counted while they ran");
}

/// What is logged, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);
impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_is_internal_with_an_id_that_the_log_explains() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    // While there is but one subscriber, tracing asks the thread that first comes by whether a span is wanted.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::start(Answers::get(async |_, _| panic!("the shelf is empty"))).await;
    let status = world.units().await.get_unit(world.signed(get())).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let id = status.message().strip_prefix("internal error ").unwrap();
    id.parse::<uuid::Uuid>().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("the shelf is empty")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains(id) && lines[0].contains("tenant.id=00000000-0000-0000-0000-000000000001"),
        "{log}"
    );
    assert!(world.units().await.get_unit(world.signed(get())).await.is_err(), "the server goes on");
}

#[tokio::test]
async fn a_conflict_is_tried_again_with_the_same_request() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let world = World::start(Answers::create(move |ctx, request| {
        let again = counted.fetch_add(1, Ordering::SeqCst) % 3 < 2;
        async move {
            assert_eq!(ctx.request_id.unwrap().key, "r-1");
            if again { Err(Error::Conflict) } else { Ok(request.unit.unwrap_or_default()) }
        }
    }))
    .await;
    let unit = world.units().await.create_unit(world.signed(create("sales", "r-1"))).await.unwrap();
    assert_eq!((unit.get_ref().display_name.as_str(), tries.load(Ordering::SeqCst)), ("sales", 3));
}

#[tokio::test]
async fn a_conflict_that_stays_is_told_and_other_aborts_are_not_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let world = World::start(Answers::create(move |_, request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if request.request_id == "stale" {
                return Err(Error::Stale { resource: "unit".into() });
            }
            Err(Error::Conflict)
        }
    }))
    .await;
    let status = world.units().await.create_unit(world.signed(create("a", "conflict"))).await.unwrap_err();
    assert_eq!((status.code(), tries.swap(0, Ordering::SeqCst)), (Code::Aborted, 3));
    let status = world.units().await.create_unit(world.signed(create("a", "stale"))).await.unwrap_err();
    assert_eq!((status.code(), tries.load(Ordering::SeqCst)), (Code::Aborted, 1));
}

#[tokio::test]
async fn an_earlier_answer_is_given_again() {
    // Larger than headers may be: it must not travel in one.
    let first = Unit { id: ID.into(), display_name: "销售部".repeat(10_000), ..Unit::default() };
    let kept = first.encode_to_vec();
    let world = World::start(Answers::create(move |_, _| {
        let kept = kept.clone();
        async { Err(Error::Repeated(kept)) }
    }))
    .await;
    let again = world.units().await.create_unit(world.signed(create("a", "r-1"))).await.unwrap();
    assert_eq!(again.get_ref(), &first);
    assert!(again.metadata().get_bin("rapport-repeated-bin").is_none());
}

#[tokio::test]
async fn a_stream_of_answers_comes_whole() {
    let pieces = || (0..100).map(|n| Ok(piece(&n.to_string())));
    let world = World::start(Answers::download(move |_, _| {
        let pieces: Pieces = futures::stream::iter(pieces()).boxed();
        async { Ok(pieces) }
    }))
    .await;
    let answer = world.imports().await.download_import_issues(world.signed(download())).await.unwrap();
    let texts: Vec<_> = answer
        .into_inner()
        .map(|piece| String::from_utf8(piece.unwrap().data.to_vec()).unwrap())
        .collect()
        .await;
    assert_eq!(texts, (0..100).map(|n: i32| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_panic_within_a_stream_ends_it_with_an_id() {
    let world = World::start(Answers::download(async |_, _| {
        let pieces = futures::stream::iter(0..2).then(async |n| {
            if n > 0 {
                sleep(Duration::from_millis(50)).await;
                panic!("no second");
            }
            Ok(piece("first"))
        });
        Ok(pieces.boxed())
    }))
    .await;
    let mut answer =
        world.imports().await.download_import_issues(world.signed(download())).await.unwrap().into_inner();
    assert_eq!(answer.message().await.unwrap().unwrap().data, "first");
    let status = answer.message().await.unwrap_err();
    assert!(
        status.code() == Code::Internal && status.message().starts_with("internal error 0"),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_listener_who_goes_away_lets_the_message_in_hand_be_finished() {
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, end) = (begun.clone(), ended.clone());
    let world = World::start(Answers::download(move |_, _| {
        let (begin, end) = (begin.clone(), end.clone());
        async move {
            let pieces = futures::stream::unfold(0, move |n| {
                let (begin, end) = (begin.clone(), end.clone());
                async move {
                    if n > 0 {
                        begin.notify_one();
                        sleep(Duration::from_millis(200)).await;
                        end.notify_one();
                    }
                    Some((Ok(piece("x")), n + 1))
                }
            });
            Ok(pieces.boxed())
        }
    }))
    .await;
    let mut answer =
        world.imports().await.download_import_issues(world.signed(download())).await.unwrap().into_inner();
    answer.message().await.unwrap();
    timeout(SOON, begun.notified()).await.unwrap();
    drop(answer);
    timeout(SOON, ended.notified()).await.expect("the message in hand is finished");
}

#[tokio::test]
async fn an_upload_passes_and_one_that_breaks_off_is_an_error_of_the_stream() {
    let world = World::start(Answers::upload(async |_, mut pieces| {
        let mut length = 0;
        while let Some(piece) = pieces.message().await.map_err(Error::internal)? {
            length += piece.file.map_or(0, |file| file.data.len());
        }
        Ok(Import { id: length.to_string(), ..Import::default() })
    }))
    .await;
    let request = |n: usize| UploadImportFileRequest { id: ID.into(), file: Some(piece(&"x".repeat(n))) };
    let pieces = futures::stream::iter((0..50).map(move |_| request(100_000)));
    let mut signed = Request::new(pieces);
    *signed.metadata_mut() = world.signed(()).metadata().clone();
    let import = world.imports().await.upload_import_file(signed).await.unwrap();
    assert_eq!(import.get_ref().id, "5000000");
}
