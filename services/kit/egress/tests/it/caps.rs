//! What an endpoint cannot take from us: memory and time.
use std::time::{Duration, Instant};

use rapport_egress::Failure;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

use crate::world::{Server, TENANT, door_to, door_with, hurried, post, read_request};

/// Longer than any limit here.
const LONG: Duration = Duration::from_secs(30);

fn body(length: usize, said: &str) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\n{said}\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit() {
    for (length, truncated) in [(0, false), (999, false), (1000, false), (1001, true), (300_000, true)] {
        for said in [format!("content-length: {length}\r\n"), "connection: close\r\n".to_owned()] {
            let server = Server::answering(body(length, &said)).await;
            let answer = door_to(&[&server]).send(TENANT, post(server.url())).await.unwrap();
            assert_eq!(
                (answer.body.len(), answer.truncated),
                (length.min(1000), truncated),
                "{length} {said}"
            );
        }
    }
}

#[tokio::test]
async fn an_endless_body_is_left_at_the_limit() {
    let (hung_up, mut gone) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |mut stream: TcpStream| {
        let hung_up = hung_up.clone();
        async move {
            read_request(&mut stream).await;
            let _head = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while stream.write_all(b"5\r\nendle\r\n").await.is_ok() {
                tokio::task::yield_now().await;
            }
            hung_up.send(()).await.unwrap();
        }
    })
    .await;
    let answer = door_to(&[&server]).send(TENANT, post(server.url())).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (1000, true));
    tokio::time::timeout(LONG, gone.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn packed_bodies_stay_packed() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope";
    let server = Server::answering(answer).await;
    let answer = door_to(&[&server]).send(TENANT, post(server.url())).await.unwrap();
    assert_eq!(
        (&answer.body[..], &answer.headers["content-encoding"]),
        (&b"nope"[..], &"gzip".parse().unwrap())
    );
}

#[tokio::test]
async fn headers_have_a_limit() {
    let large = |length: usize| body(0, &format!("x: {}\r\ncontent-length: 0\r\n", "h".repeat(length)));
    let many = (0..101).map(|n| format!("x{n}: y\r\n")).collect::<String>();
    for (answer, fits) in [
        (large(16_000), true),
        (large(16 << 10), false),
        (large(1 << 20), false),
        (body(0, &format!("{many}content-length: 0\r\n")), false),
    ] {
        let server = Server::answering(answer).await;
        let sent = door_to(&[&server]).send(TENANT, post(server.url())).await;
        match sent {
            Ok(_) => assert!(fits),
            Err(failure) => assert_eq!((failure, fits), (Failure::TooLarge(16 << 10), false)),
        }
    }
}

/// A server that writes one byte of `answer` each 50 ms.
async fn dripping(answer: &'static [u8]) -> Server {
    Server::start(move |mut stream: TcpStream| async move {
        read_request(&mut stream).await;
        for byte in answer {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        sleep(LONG).await;
    })
    .await
}

async fn is_cut_off(server: &Server) {
    let started = Instant::now();
    let failure = door_with(hurried(), &[server]).send(TENANT, post(server.url())).await.unwrap_err();
    assert_eq!(failure.to_string(), "the answer took more than 800 ms");
    assert!(failure.may_have_arrived());
    assert!((800..8000).contains(&started.elapsed().as_millis()));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_in_time() {
    is_cut_off(&Server::silent().await).await;
}

#[tokio::test]
async fn slow_headers_are_left_in_time() {
    is_cut_off(&dripping(b"HTTP/1.1 200 OK\r\nx: y\r\nz: a\r\ncontent-length: 0\r\n\r\n").await).await;
}

#[tokio::test]
async fn a_slow_body_is_left_in_time() {
    let serve = |mut stream: TcpStream| async move {
        read_request(&mut stream).await;
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    is_cut_off(&Server::start(serve).await).await;
}
