//! A private nats-server through its life, spoken to in its own protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rapport_local::nats::Options;
use rapport_local::{Error, Nats};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::place::{at_work_in, kill_by_force, scratch, wait_until};

/// Asks JetStream's API; the answer is JSON. The token is the URL's, unless another is given.
async fn ask(nats: &Nats, token: Option<&str>, subject: &str, body: &str) -> String {
    let url = nats.url();
    let of_url = url.trim_start_matches("nats://rapport:").split('@').next().unwrap();
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", nats.port())).await.unwrap());
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"user\":\"rapport\",\"pass\":\"{}\"}}\r\n",
        token.unwrap_or(of_url)
    );
    let request = format!("{connect}SUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    loop {
        line.clear();
        let read = timeout(Duration::from_secs(10), stream.read_line(&mut line)).await.unwrap().unwrap();
        if read == 0 || line.starts_with('{') || line.starts_with("-ERR") {
            return line;
        }
    }
}

#[tokio::test]
async fn a_stream_and_the_address_are_the_same_after_a_second_start() {
    let scratch = scratch();
    let folder = scratch.path().join("nats");
    let first = Nats::start(Options::new(&folder)).await.unwrap();
    let url = first.url();
    let made =
        ask(&first, None, "$JS.API.STREAM.CREATE.KEPT", r#"{"name":"KEPT","subjects":["kept.>"]}"#).await;
    assert!(made.contains("\"created\""), "{made}");
    first.stop().await;
    assert_eq!(at_work_in(scratch.path()), Vec::<String>::new());

    let second = Nats::start(Options::new(&folder)).await.unwrap();
    assert_eq!(second.url(), url);
    let kept = ask(&second, None, "$JS.API.STREAM.INFO.KEPT", "").await;
    assert!(kept.contains("\"messages\""), "{kept}");
    second.stop().await;
}

#[tokio::test]
async fn a_stream_that_a_power_cut_damaged_is_not_waited_for_and_can_be_made_anew() {
    let scratch = scratch();
    let folder = scratch.path().join("nats");
    let make = r#"{"name":"DAMAGED","subjects":["damaged.>"]}"#;
    let first = Nats::start(Options::new(&folder)).await.unwrap();
    ask(&first, None, "$JS.API.STREAM.CREATE.DAMAGED", make).await;
    first.stop().await;
    let stream = folder.join("jetstream/jetstream/$G/streams/DAMAGED");
    for file in ["meta.inf", "meta.sum"] {
        assert!(stream.join(file).exists());
        fs::write(stream.join(file), "").unwrap();
    }

    let second = timeout(Duration::from_secs(20), Nats::start(Options::new(&folder))).await.unwrap().unwrap();
    let lost = ask(&second, None, "$JS.API.STREAM.INFO.DAMAGED", "").await;
    assert!(lost.contains("stream not found"), "{lost}");
    let made = ask(&second, None, "$JS.API.STREAM.CREATE.DAMAGED", make).await;
    assert!(made.contains("\"did_create\":true"), "{made}");
    second.stop().await;
}

#[tokio::test]
async fn another_token_is_refused() {
    let scratch = scratch();
    let nats = Nats::start(Options::new(scratch.path().join("nats"))).await.unwrap();
    let refused = ask(&nats, Some("guess"), "$JS.API.INFO", "").await;
    assert!(refused.contains("Authorization Violation"), "{refused}");
    for secret in ["token", "nats.conf"] {
        let mode = fs::metadata(scratch.path().join("nats").join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{secret}");
    }
    nats.stop().await;
}

#[tokio::test]
async fn a_nats_server_that_is_killed_is_started_again_with_its_streams() {
    let scratch = scratch();
    let nats = Nats::start(Options::new(scratch.path().join("nats"))).await.unwrap();
    ask(&nats, None, "$JS.API.STREAM.CREATE.KEPT", r#"{"name":"KEPT","subjects":["kept.>"]}"#).await;
    let before = nats.pid().unwrap();
    kill_by_force(before);
    wait_until("another process", Duration::from_secs(30), || nats.pid().is_some_and(|pid| pid != before))
        .await;
    let kept = ask(&nats, None, "$JS.API.STREAM.INFO.KEPT", "").await;
    assert!(kept.contains("\"messages\""), "{kept}");
    nats.stop().await;
}

#[tokio::test]
async fn two_run_side_by_side_and_one_folder_is_refused_to_a_second() {
    let scratch = scratch();
    let one = Nats::start(Options::new(scratch.path().join("one"))).await.unwrap();
    let two = Nats::start(Options::new(scratch.path().join("two"))).await.unwrap();
    assert_ne!(one.port(), two.port());
    let refused = Nats::start(Options::new(scratch.path().join("one"))).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    one.stop().await;
    assert!(ask(&two, None, "$JS.API.INFO", "").await.contains("\"memory\""));
    two.stop().await;
}

#[tokio::test]
async fn the_largest_message_is_as_set() {
    let scratch = scratch();
    let options = Options { max_payload: 8 << 20, ..Options::new(scratch.path().join("nats")) };
    let nats = Nats::start(options).await.unwrap();
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", nats.port())).await.unwrap());
    let mut greeting = String::new();
    stream.read_line(&mut greeting).await.unwrap();
    assert!(greeting.contains("\"max_payload\":8388608"), "{greeting}");
    nats.stop().await;
}

#[tokio::test]
async fn a_missing_or_old_server_says_what_to_do() {
    let scratch = scratch();
    let program = scratch.path().join("nats-server");
    let options = Options { program: Some(program.clone()), ..Options::new(scratch.path().join("nats")) };
    let missing = Nats::start(options.clone()).await.unwrap_err().to_string();
    assert_eq!(missing, "no nats-server was found; run `make tools`");

    fs::write(&program, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let old = Nats::start(options).await.unwrap_err().to_string();
    assert!(
        old.starts_with("found nats-server 2.9 at ")
            && old.ends_with("2.14 or later is needed; run `make tools`"),
        "{old}"
    );
    assert!(!scratch.path().join("nats").exists());
}
