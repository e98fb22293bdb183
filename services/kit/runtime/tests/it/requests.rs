//! What is asked.
use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, StreamBody};
use rapport_kernel::{RequestId, Scope};
use rapport_proto::identity::v1::{CreateUnitRequest, Unit, UpdateUnitRequest};
use rapport_runtime::config::Limits;
use tonic::{Code, Status, body::Body, codec::CompressionEncoding};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use crate::world::{Answers, World, create, get};

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let world = World::start(Answers::default()).await;
    let mut request = create(&"x".repeat(201), &"r".repeat(101));
    request.unit.as_mut().unwrap().id = "seven".into();
    let status = world.units().await.create_unit(world.signed(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = details.bad_request().unwrap().field_violations.iter();
    assert_eq!(
        violations.map(|v| (v.field.as_str(), v.description.as_str())).collect::<Vec<_>>(),
        [
            ("unit.id", "`seven` does not match `^([0-9a-fA-F-]{36})?$`"),
            ("unit.display_name", "has 201 characters; at most 200 are allowed"),
            ("request_id", "has 101 characters; at most 100 are allowed"),
        ]
    );
    assert_eq!(details.error_info().unwrap().reason, "INVALID");
    let missing =
        world.units().await.create_unit(world.signed(CreateUnitRequest::default())).await.unwrap_err();
    assert_eq!(missing.message(), "unit: is required");
}

#[tokio::test]
async fn a_write_carries_its_request_id_and_the_digest_of_the_rest() {
    let seen = Arc::new(Mutex::new(Vec::<Option<RequestId>>::new()));
    let sees = seen.clone();
    let world = World::start(Answers::create(move |ctx, _| {
        assert_eq!(ctx.scope, Scope::All);
        sees.lock().unwrap().push(ctx.request_id);
        async { Ok(Unit::default()) }
    }))
    .await;
    for (name, id) in [("a", "r-1"), ("a", "r-2"), ("b", "r-1"), ("a", "")] {
        world.units().await.create_unit(world.signed(create(name, id))).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    let [Some(first), Some(other_id), Some(other_body), None] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((first.key.as_str(), first.method), ("r-1", "/rapport.identity.v1.UnitService/CreateUnit"));
    assert_eq!((other_id.key.as_str(), other_id.fingerprint), ("r-2", first.fingerprint));
    assert_ne!(other_body.fingerprint, first.fingerprint);
}

/// Calls a method with a body of the test's own making.
async fn raw(world: &World, method: &str, body: Body) -> Status {
    let token = world.signed(()).metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    let request = http::Request::post(format!("/rapport.identity.v1.UnitService/{method}"))
        .header("content-type", "application/grpc")
        .header("authorization", token)
        .body(body)
        .unwrap();
    let response = world.upstream.clone().oneshot(request).await.unwrap();
    match Status::from_header_map(response.headers()) {
        Some(status) => status,
        None => {
            let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap();
            Status::from_header_map(&trailers).unwrap()
        }
    }
}

fn frame(flag: u8, length: u32, message: &[u8]) -> Body {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put(message);
    Body::new(Full::new(frame.freeze()))
}

#[tokio::test]
async fn what_is_not_one_whole_message_is_refused() {
    let world = World::start(Answers::default()).await;
    for (body, problem) in [
        (Body::empty(), "request: is not a gRPC message"),
        (Body::new(Full::new(Bytes::from_static(&[0, 0]))), "request: is not a gRPC message"),
        (frame(0, 7, b"xx"), "request: is not one whole gRPC message"),
        (frame(0, 1, b"xx"), "request: is not one whole gRPC message"),
    ] {
        let status = raw(&world, "GetUnit", body).await;
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, problem));
    }
    let status = raw(&world, "GetUnit", frame(0, 2, &[0xff, 0xff])).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("request: is not a GetUnitRequest: "), "{}", status.message());
}

#[tokio::test]
async fn a_message_that_nests_too_deeply_is_refused() {
    let world = World::start(Answers::default()).await;
    // Groups within groups, as unknown fields: each costs the decoder a level.
    let status = raw(&world, "GetUnit", frame(0, 100_000, &[0x5b; 100_000])).await;
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together_and_one_too_large_is_cut_off() {
    let limits = Limits { body_bytes: 2000, ..Limits::default() };
    let world = World::limited(Answers::default(), limits).await;
    let pieces = |message: &[u8], size: usize| {
        let mut whole = BytesMut::new();
        whole.put_u8(0);
        whole.put_u32(u32::try_from(message.len()).unwrap());
        whole.put(message);
        let pieces: Vec<_> = whole
            .chunks(size)
            .map(|piece| Ok(http_body::Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        Body::new(StreamBody::new(futures::stream::iter::<Vec<Result<_, Status>>>(pieces)))
    };
    let message = prost::Message::encode_to_vec(&get());
    for size in [1, 2, 3, 5, 6, 1000] {
        assert_eq!(raw(&world, "GetUnit", pieces(&message, size)).await.code(), Code::Ok, "{size}");
    }
    let status = raw(&world, "GetUnit", pieces(&[0; 2001], 100)).await;
    assert_eq!(status.message(), "request: has more than the 2000 bytes that are allowed");
    let large =
        world.units().await.create_unit(world.signed(create(&"x".repeat(3000), ""))).await.unwrap_err();
    assert_eq!(
        (large.code(), large.message()),
        (Code::InvalidArgument, "request: has more than the 2000 bytes that are allowed")
    );
}

#[tokio::test]
async fn the_requests_in_hand_have_a_bound_together() {
    let limits = Limits { body_bytes: 10_000, buffered_bytes: 10_240, ..Limits::default() };
    let world = World::limited(
        Answers::create(|_, _| async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            Ok(Unit::default())
        }),
        limits,
    )
    .await;
    let large = || UpdateUnitRequest { request_id: "x".repeat(9000), ..Default::default() };
    let small = world.units().await;
    // Ten small ones of a kilobyte each fill it, while they are worked on.
    let calls = (0..10).map(|_| {
        let (mut client, request) = (small.clone(), world.signed(create(&"x".repeat(100), "")));
        tokio::spawn(async move { client.create_unit(request).await })
    });
    let calls: Vec<_> = calls.collect();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let status = world.units().await.update_unit(world.signed(large())).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "the service holds as much as it can; try again in 1 s")
    );
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let status = world.units().await.update_unit(world.signed(large())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "what was held is given back");
}

#[tokio::test]
async fn a_compressed_request_is_refused_clearly() {
    let world = World::start(Answers::default()).await;
    let mut units = world.units().await.send_compressed(CompressionEncoding::Gzip);
    let status = units.get_unit(world.signed(get())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "compressed requests are not taken; send them with encoding `identity`");
}
