//! The feed of a warehouse, killed again and again while customers come, change and go: in the end it equals its source.
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use rapport_test_kit::{Caller, Tenant, World, json};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::sleep;

use super::python;

const SCRIPT: &str = include_str!("../../../docs/integrate/warehouse.py");
/// Customers that are there before; several pages of them.
const FIRST: usize = 500;
/// Those who write at the same time.
const WRITERS: usize = 4;

/// A source and its copy.
struct Feed {
    world: World,
    tenant: Tenant,
    key: String,
    folder: TempDir,
    script: PathBuf,
    /// What was written so far; each is one event.
    written: Arc<AtomicI64>,
}

impl Feed {
    async fn new(script: &str) -> Self {
        let world = World::new().await;
        let tenant = world.tenant("tea").await;
        let permissions = json!([{"name": "customer.customers.read", "scope": "SCOPE_ALL"}]);
        let key = json!({"displayName": "warehouse", "permissions": permissions});
        let key = json(tenant.post("/v1/apiKeys", &key).await).await["key"].as_str().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warehouse.py");
        fs::write(&path, script).unwrap();
        Self { world, tenant, key, folder, script: path, written: Arc::default() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("customers.db")
    }

    fn start(&self) -> tokio::process::Child {
        let environment = [("RAPPORT_URL", self.world.url()), ("RAPPORT_KEY", self.key.clone())];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        python::start(&self.script, &[self.file().to_str().unwrap()], &environment)
    }

    /// Customers that are there before the feed begins.
    async fn fill(&self) -> Vec<String> {
        let create = |n| json!({"create": {"customer": {"displayName": format!("客户 {n}")}}});
        let changes: Vec<_> = (0..FIRST).map(create).collect();
        let made = json(self.tenant.post("/v1/customers:batch", &json!({"changes": changes})).await).await;
        let made = made["results"].as_array().unwrap();
        self.written.fetch_add(i64::try_from(made.len()).unwrap(), Ordering::Relaxed);
        made.iter().map(|result| result["customer"]["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The feed is killed so often, after times in this range, while many write; then it comes to rest. Says the lines of the
    /// copy and those of the source.
    async fn run(&self, kills: usize, after: Range<u64>) -> (Vec<String>, Vec<String>) {
        let ids = self.fill().await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = ids
            .chunks(FIRST.div_ceil(WRITERS))
            .map(|ids| {
                let (caller, ids) = ((*self.tenant).clone(), ids.to_vec());
                tokio::spawn(write(caller, ids, self.written.clone(), stop.clone()))
            })
            .collect();
        for _ in 0..kills {
            let feed = self.start();
            sleep(Duration::from_millis(rand::random_range(after.clone()))).await;
            python::kill(feed).await;
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        self.rest().await
    }

    /// Lets the feed read to the end.
    async fn rest(&self) -> (Vec<String>, Vec<String>) {
        let written = self.written.load(Ordering::Relaxed);
        let feed = self.start();
        let begun = Instant::now();
        // Each change is one event, and the copy has all of them.
        while self.place().await != Some(written) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the feed stands still before {written}");
            sleep(Duration::from_millis(100)).await;
        }
        python::kill(feed).await;
        let position = self.tenant.read("/v1/services/customer/events:position").await;
        assert_eq!(position["lastNumber"], written.to_string());
        (copy(&self.file()).await, self.source().await)
    }

    async fn place(&self) -> Option<i64> {
        python::sqlite(&self.file(), "SELECT number FROM place").await.first().map(|n| n.parse().unwrap())
    }

    /// The source, by its own list.
    async fn source(&self) -> Vec<String> {
        let (mut lines, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.tenant.read(&format!("/v1/customers?pageSize=200&pageToken={token}")).await;
            let line =
                |c: &Value| ["id", "etag", "displayName"].map(|key| c[key].as_str().unwrap()).join("|");
            lines.extend(page["customers"].as_array().unwrap().iter().map(line));
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        lines.sort_unstable();
        lines
    }
}

async fn copy(file: &Path) -> Vec<String> {
    python::sqlite(file, "SELECT id, version, name FROM customers ORDER BY id").await
}

fn checksum(lines: &[String]) -> String {
    format!("{:x?}", Sha256::digest(lines.join("\n")))
}

/// Creates, changes, deletes and brings back customers, until it is told to stop.
async fn write(caller: Caller, mut there: Vec<String>, written: Arc<AtomicI64>, stop: Arc<AtomicBool>) {
    let mut gone: Vec<String> = Vec::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let any = rand::random_range(0..there.len());
        match rand::random_range(0..100) {
            0..25 => {
                let created = caller.post("/v1/customers", &json!({"displayName": format!("新 {n}")})).await;
                there.push(json(created).await["id"].as_str().unwrap().to_owned());
            }
            25..75 => {
                let path = format!("/v1/customers/{}", there[any]);
                json(caller.patch(&path, &json!({"displayName": format!("改 {n}")})).await).await;
            }
            75..90 if there.len() > 10 => {
                let id = there.swap_remove(any);
                let path = format!("/v1/customers/{id}");
                json(caller.request(Method::DELETE, &path).send().await.unwrap()).await;
                gone.push(id);
            }
            _ => {
                let Some(id) = gone.pop() else { continue };
                json(caller.post(&format!("/v1/customers/{id}:undelete"), &json!({})).await).await;
                there.push(id);
            }
        }
        written.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_killed_again_and_again_equals_its_source() {
    let feed = Feed::new(SCRIPT).await;
    let (copy, source) = feed.run(16, 40..700).await;
    assert!(source.len() > FIRST, "there are {} customers", source.len());
    assert_eq!(checksum(&copy), checksum(&source), "{copy:#?} is not {source:#?}");

    // A place that is not there any more, or not yet as after a restore: the feed begins anew, and forgets what is not there.
    let ahead = "UPDATE place SET number = 1000000";
    python::sqlite(&feed.file(), ahead).await;
    python::sqlite(&feed.file(), "INSERT INTO customers VALUES ('ghost', 1, 'ghost', '{}')").await;
    let (copy, source) = feed.rest().await;
    assert_eq!(checksum(&copy), checksum(&source), "{copy:#?} is not {source:#?}");
}

/// The feed with one of its promises broken.
fn broken(from: &str, to: &str) -> String {
    assert_eq!(SCRIPT.matches(from).count(), 1, "the script has no line {from}");
    SCRIPT.replace(from, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_notes_its_place_before_the_rows_is_found_out() {
    let rows = "    for event in page[\"events\"]:\n";
    let place = "    with db:\n        db.execute('UPDATE place SET number = ?', (page.get('nextAfter', 0),))\n    time.sleep(0.3)\n";
    let place_first = broken(rows, &format!("{place}{rows}"));
    let (copy, source) = Feed::new(&place_first).await.run(12, 300..1_000).await;
    assert_ne!(checksum(&copy), checksum(&source));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_asks_for_its_place_after_the_customers_is_found_out() {
    let place_last = broken(
        "    place = get(EVENTS + \":position\").get(\"lastNumber\", 0)  # First the place, then the customers.\n",
        "",
    );
    let from = "    return place\n";
    assert_eq!(place_last.matches(from).count(), 1);
    let last = "    time.sleep(1)\n    place = get(EVENTS + ':position').get('lastNumber', 0)\n";
    let place_last = place_last.replace(from, &format!("{last}{from}"));
    let (copy, source) = Feed::new(&place_last).await.run(1, 4_000..5_000).await;
    assert_ne!(checksum(&copy), checksum(&source));
}
