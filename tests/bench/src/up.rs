//! `rapport up`, built: how long until it is ready, and what it takes in memory with many tenants.
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use rapport_local::Scratch;
use serde_json::{Value, json};

use crate::{
    figure::{Aim, Figure},
    process::resident_mb,
};

const TENANTS: usize = 10_000;

pub(crate) async fn measure() -> Vec<Figure> {
    let scratch = Scratch::on_disk(&std::env::temp_dir()).unwrap();
    let data = scratch.path().join("data");
    let (first, after_first) = start(&data);
    stop(first);
    let (mut running, after) = start(&data);
    let fresh = resident_mb(running.id());
    create_tenants(&data).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let worked = resident_mb(running.id());
    stop(running);
    running = start(&data).0;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = resident_mb(running.id());
    stop(running);
    vec![
        Figure::plain("rapport up, the first time, to ready", "s", after_first, Aim::AtMost(15.0)),
        Figure::plain("rapport up, after that, to ready", "s", after, Aim::AtMost(4.0)),
        Figure::plain("rapport up, resident, with 10,000 tenants, idle", "MB", idle, Aim::AtMost(100.0)),
        Figure::plain("the same, 5 s after they were created", "MB", worked, Aim::AtMost(100.0)),
        Figure::plain("the same, with the two demo tenants only", "MB", fresh, Aim::None),
    ]
}

/// Starts it; says after how many seconds it was ready.
pub(crate) fn start(data: &Path) -> (Child, f64) {
    let program = std::env::current_exe().unwrap().with_file_name("rapport");
    let begun = Instant::now();
    let mut process = Command::new(program)
        .args(["up", "--data-dir"])
        .arg(data)
        // Tenants are created, and streams are opened, faster than the limits allow.
        .env("RAPPORT_LIMITS__TENANT_WATCHES", "10000")
        .env("RAPPORT_LIMITS__KEY_REQUESTS_PER_SECOND", "1000000")
        .env("RAPPORT_LIMITS__TENANT_REQUESTS_PER_SECOND", "1000000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("Rapport is ready"), "it said: {line}");
    (process, begun.elapsed().as_secs_f64())
}

pub(crate) fn stop(mut process: Child) {
    let told = Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(told.success() && process.wait().unwrap().success());
}

async fn create_tenants(data: &Path) {
    let demo: Value = serde_json::from_slice(&std::fs::read(data.join("demo.json")).unwrap()).unwrap();
    let key = std::fs::read_to_string(data.join("operator.key")).unwrap();
    let url = format!("{}/v1/tenants", demo["url"].as_str().unwrap());
    let http = reqwest::Client::new();
    stream::iter(0..TENANTS)
        .for_each_concurrent(16, async |n| {
            let tenant = json!({
                "tenant": {"slug": format!("tenant-{n}"), "displayName": format!("Tenant {n}"), "timeZone": "UTC"},
                "administratorEmail": format!("admin@tenant-{n}.example.com"),
            });
            let answer = http.post(&url).bearer_auth(key.trim()).json(&tenant).send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        })
        .await;
}
