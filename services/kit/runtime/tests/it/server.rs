//! Serving and calling across processes.
use std::time::Duration;

use rapport_kernel::Error;
use rapport_proto::identity::v1::{Unit, unit_service_client::UnitServiceClient};
use rapport_runtime::server::{dispatch, remote};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::world::{Answers, ID, World, get};

#[tokio::test]
async fn the_same_service_is_called_in_process_and_from_another() {
    let world = World::start(Answers::default()).await;
    let other_process = remote(&format!("http://{}", world.address)).unwrap();
    for upstream in [world.upstream.clone(), other_process] {
        let unit = UnitServiceClient::new(upstream).get_unit(world.signed(get())).await.unwrap();
        assert_eq!(unit.get_ref().id, ID);
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_unavailable() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let status = UnitServiceClient::new(remote(&format!("http://{nobody}")).unwrap())
        .get_unit(get())
        .await
        .unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "temporarily unavailable; try again"));
    assert!(remote("not an address").is_err());
}

#[tokio::test]
async fn calls_go_to_the_service_that_their_method_names() {
    let world = World::start(Answers::default()).await;
    let services = dispatch([("identity".to_owned(), world.upstream.clone())]);
    UnitServiceClient::new(services.clone()).get_unit(world.signed(get())).await.unwrap();
    let mut customers =
        rapport_proto::customer::v1::import_service_client::ImportServiceClient::new(services);
    let status = customers.get_import(world.signed(Default::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

/// GET over HTTP/1.1, as load balancers do: the status line and the body.
async fn plain(world: &World, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut connection = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn health_is_told_on_the_same_port() {
    let world = World::start(Answers::default()).await;
    let mut health = HealthClient::new(world.channel().await);
    let mut check = async || {
        let request = HealthCheckRequest { service: "rapport.identity.v1.UnitService".into() };
        health.check(request).await.unwrap().get_ref().status()
    };
    assert_eq!(check().await, ServingStatus::Serving);
    assert_eq!(plain(&world, "/healthz").await, ("HTTP/1.1 200 OK".into(), r#"{"status":"alive"}"#.into()));
    assert_eq!(
        plain(&world, "/readyz").await,
        ("HTTP/1.1 200 OK".into(), r#"{"ready":true,"checks":[]}"#.into())
    );
    world.health.end();
    assert_eq!(check().await, ServingStatus::NotServing);
    assert_eq!(plain(&world, "/readyz").await.0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(plain(&world, "/healthz").await.0, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn ending_lets_running_calls_finish_and_takes_no_new_ones() {
    let mut world = World::start(Answers::get(async |_, _| {
        sleep(Duration::from_millis(300)).await;
        Ok(Unit::default())
    }))
    .await;
    let _silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let (mut units, request) = (world.units().await, world.signed(get()));
    let call = tokio::spawn(async move { units.get_unit(request).await });
    sleep(Duration::from_millis(100)).await;
    world.stop.cancel();
    call.await.unwrap().unwrap();
    timeout(Duration::from_secs(5), &mut world.server).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let world = World::start(Answers::default()).await;
    let mut request = world.signed(get());
    request.metadata_mut().insert("x-large", "x".repeat(20 << 10).parse().unwrap());
    assert!(world.units().await.get_unit(request).await.is_err());
    world.units().await.get_unit(world.signed(get())).await.unwrap();
}

#[tokio::test]
async fn an_error_with_many_violations_passes_the_wire() {
    let world = World::start(Answers::get(async |_, _| {
        Err(Error::Invalid(
            (0..20)
                .map(|n| rapport_kernel::Violation { field: format!("field{n}"), problem: "客".repeat(30) })
                .collect(),
        ))
    }))
    .await;
    let status = world.units().await.get_unit(world.signed(get())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
