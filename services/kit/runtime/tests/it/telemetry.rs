//! What a call leaves in traces and metrics.
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use rapport_proto::{
    google::api::HttpBody,
    identity::v1::{Unit, unit_service_client::UnitServiceClient},
    imports::v1::DownloadImportIssuesRequest,
};
use rapport_runtime::{config, server::remote, telemetry};
use tonic::Status;
use tower::ServiceExt as _;

use crate::world::{Answers, ID, World, create, get};

type Exported = Arc<Mutex<Vec<u8>>>;

/// Takes traces as an OTLP collector does, and keeps the bytes.
async fn collect(State(exported): State<Exported>, body: Body) -> Response {
    let body = body.collect().await.unwrap().to_bytes();
    exported.lock().unwrap().extend_from_slice(&body);
    let trailers = http::HeaderMap::from_iter([(Status::GRPC_STATUS, http::HeaderValue::from_static("0"))]);
    let empty = Full::new(Bytes::from_static(&[0; 5])).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(empty));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// One test, since a process has its telemetry set up once.
#[tokio::test(flavor = "multi_thread")]
async fn calls_are_traced_and_counted_without_personal_data() {
    let exported = Exported::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let collector = Router::new()
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", axum::routing::post(collect))
        .with_state(exported.clone());
    tokio::spawn(async { axum::serve(listener, collector).await.unwrap() });
    let config = config::Telemetry {
        otlp_endpoint: Some(format!("http://{address}")),
        ..config::Telemetry::default()
    };
    let telemetry = telemetry::init(&config, "rapport-test").unwrap();
    assert!(telemetry::init(&config, "rapport-test").is_err());

    // The caller's trace goes on: into the context, and through a further process.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let inner = World::start(Answers::create(move |ctx, _| {
        sees.lock().unwrap().push(ctx.trace.unwrap().to_string());
        async { Ok(Unit::default()) }
    }))
    .await;
    let (sees, token) = (seen.clone(), inner.signed(()));
    let behind = remote(&format!("http://{}", inner.address)).unwrap();
    let outer = World::start(Answers::create(move |ctx, request| {
        sees.lock().unwrap().push(ctx.trace.unwrap().to_string());
        let (behind, mut onward) = (behind.clone(), tonic::Request::new(request));
        *onward.metadata_mut() = token.metadata().clone();
        async move { Ok(UnitServiceClient::new(behind).create_unit(onward).await.unwrap().into_inner()) }
    }))
    .await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut request = outer.signed(create("Lovelace", "r-1"));
    request.metadata_mut().insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
    outer.units().await.create_unit(request).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() == 2 && seen[0] != seen[1], "{seen:?}");
    assert!(seen.iter().all(|parent| parent.starts_with(&format!("00-{trace}-")) && !parent.contains("00f067aa0ba902b7")));

    // A header that is no trace context begins a new trace.
    let mut request = outer.signed(create("Lovelace", "r-2"));
    request.metadata_mut().insert("traceparent", "00-what".parse().unwrap());
    outer.units().await.create_unit(request).await.unwrap();

    // An error, a stream that fails, a method that nobody knows.
    outer.units().await.get_unit(get()).await.unwrap_err();
    let failing = World::start(Answers::download(async |_, _| {
        let pieces = [Ok(HttpBody::default()), Err(Status::data_loss("gone"))];
        Ok(futures::stream::iter(pieces).boxed())
    }))
    .await;
    let download = failing.signed(DownloadImportIssuesRequest { id: ID.into() });
    let pieces = failing.imports().await.download_import_issues(download).await.unwrap();
    assert!(pieces.into_inner().collect::<Vec<_>>().await.pop().unwrap().is_err());
    let request = http::Request::post("/made.up/Name").body(tonic::body::Body::empty()).unwrap();
    failing.upstream.clone().oneshot(request).await.unwrap();

    tokio::time::sleep(Duration::from_millis(100)).await;
    let request = http::Request::get("/metrics").body(Body::empty()).unwrap();
    let metrics =
        telemetry.router().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for expected in [
        r#"rapport_requests_total{method="/rapport.identity.v1.UnitService/CreateUnit",code="OK"}"#,
        r#"rapport_requests_total{method="/rapport.identity.v1.UnitService/GetUnit",code="UNAUTHENTICATED"}"#,
        r#"rapport_requests_total{method="/rapport.customer.v1.ImportService/DownloadImportIssues",code="DATA_LOSS"}"#,
        r#"rapport_requests_total{method="unknown",code="UNAUTHENTICATED"}"#,
        r#"rapport_request_duration_seconds_bucket{method="/rapport.identity.v1.UnitService/CreateUnit",code="OK",le="0.01"}"#,
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(expected), "{expected} in\n{metrics}");
    }
    assert!(!metrics.contains("made.up"));

    tokio::task::spawn_blocking(move || telemetry.flush()).await.unwrap();
    let exported = exported.lock().unwrap().clone();
    let id: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert!(contains(&exported, &id), "the caller's trace");
    for expected in [
        "/rapport.identity.v1.UnitService/CreateUnit",
        "tenant.id",
        "00000000-0000-0000-0000-000000000001",
        "rapport-test",
    ] {
        assert!(contains(&exported, expected.as_bytes()), "{expected}");
    }
    assert!(!contains(&exported, b"Lovelace") && !contains(&exported, b"00-what"));
}
