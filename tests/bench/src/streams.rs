//! What open event streams take, and how long an event takes to all of them.
use std::time::{Duration, Instant};

use rapport_local::Scratch;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use crate::{
    figure::{Aim, Figure},
    process::resident_mb,
    up,
};

const STREAMS: usize = 2_000;

pub(crate) async fn measure() -> Vec<Figure> {
    let scratch = Scratch::on_disk(&std::env::temp_dir()).unwrap();
    let data = scratch.path().join("data");
    let (process, _) = up::start(&data);
    let demo: Value = serde_json::from_slice(&std::fs::read(data.join("demo.json")).unwrap()).unwrap();
    let (url, key) = (demo["url"].as_str().unwrap(), demo["apiKey"].as_str().unwrap());
    let address = url.trim_start_matches("http://").to_owned();
    // Whatever is made with the first stream is made.
    drop(open(&address, key).await);
    sleep(Duration::from_secs(5)).await;
    let before = resident_mb(process.id());
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(open(&address, key).await);
    }
    sleep(Duration::from_secs(2)).await;
    let taken = resident_mb(process.id()) - before;

    let mut told = JoinSet::new();
    for mut stream in streams {
        told.spawn(async move {
            read_until(&mut stream, "Harbour Supplies").await;
            Instant::now()
        });
    }
    let customer = json!({"type": "CUSTOMER_TYPE_COMPANY", "displayName": "Harbour Supplies"});
    let create = reqwest::Client::new().post(format!("{url}/v1/customers")).bearer_auth(key).json(&customer);
    let answer = create.send().await.unwrap();
    let begun = Instant::now();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let last = told.join_all().await.into_iter().max().unwrap();
    up::stop(process);
    vec![
        Figure::plain("2,000 open event streams, memory", "MB", taken, Aim::AtMost(200.0)),
        Figure::plain(
            "— from a commit until the last of them is told",
            "s",
            last.saturating_duration_since(begun).as_secs_f64(),
            Aim::None,
        ),
    ]
}

/// A stream of a tenant's events, which has begun.
async fn open(address: &str, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/services/-/events:watch HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\
         authorization: Bearer {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stream, "text/event-stream").await;
    stream
}

/// Reads until this was said.
async fn read_until(stream: &mut TcpStream, text: &str) {
    let (mut said, mut buffer) = (Vec::new(), [0; 512]);
    while !String::from_utf8_lossy(&said).contains(text) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the stream ended after {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..read]);
    }
}
