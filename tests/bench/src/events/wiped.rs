//! How long a bus takes to be whole again that lost everything.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use rapport::suite::Role;
use rapport_local::{Nats, Scratch, nats};
use rapport_test_kit::{Options, World};
use serde_json::Value;
use tokio::time::sleep;

use super::{emit, on_the_bus, settled};
use crate::figure::{Aim, Figure};

const EVENTS: i64 = 300_000;

pub(crate) async fn measure() -> Vec<Figure> {
    let scratch = Scratch::on_disk(&std::env::temp_dir()).unwrap();
    let folder = scratch.path().join("nats");
    let server = start(&folder).await;
    let mut options = Options::default();
    options.config.nats.url = Some(server.url());
    options.config.nats.stream_bytes = 2 << 30;
    let world = World::with(options).await;
    let tenant = world.tenant("many").await.id.parse().unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    for _ in 0..EVENTS / 5_000 {
        emit(&mut conn, tenant, 5_000).await;
    }
    settled(&world).await;
    on_the_bus(&world).await;
    let before = messages(&server).await;
    assert!(before >= EVENTS, "{before}");

    server.stop().await;
    std::fs::remove_dir_all(folder.join("jetstream")).unwrap();
    let server = start(&folder).await;
    let begun = Instant::now();
    while messages(&server).await < before {
        sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    drop(world);
    server.stop().await;
    let allowed = 30.0 + 60.0 * before as f64 / 1_000_000.0;
    let name =
        format!("a wiped bus holds its {before} events again, against 30 s and a minute for each million");
    vec![Figure::ratio(&name, "s", seconds, allowed, Aim::AtMost(1.0))]
}

async fn start(folder: &Path) -> Nats {
    Nats::start(nats::Options::new(folder)).await.unwrap()
}

/// How many messages it holds.
async fn messages(server: &Nats) -> i64 {
    let Ok(answer) = reqwest::get(format!("{}/jsz", server.monitor_url())).await else { return 0 };
    let said: Value = answer.json().await.unwrap();
    said["messages"].as_i64().unwrap_or_default()
}
