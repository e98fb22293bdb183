//! The receiver of webhooks: it takes each event once, whatever is killed or sent again, and nothing that is forged.
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rapport_kernel::Clock;
use rapport_test_kit::{Options, Tenant, World, json};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{process::Child, time::sleep};

use super::python;

struct Hooked {
    tenant: Tenant,
    folder: TempDir,
    port: u16,
    webhook: String,
    _world: World,
}

impl Hooked {
    /// A webhook to a port of this machine, which the operator has opened; and its secret.
    async fn new() -> (Self, String) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut options = Options::default();
        options.config.egress.allow = vec![format!("127.0.0.1:{port}")];
        let world = World::with(options).await;
        let tenant = world.tenant("tea").await;
        let url = format!("http://127.0.0.1:{port}/");
        let webhook = json!({"displayName": "erp", "url": url, "subjects": ["customer.>"]});
        let made = json(tenant.post("/v1/services/customer/webhooks", &webhook).await).await;
        let webhook = made["webhook"]["id"].as_str().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        (Self { tenant, folder, port, webhook, _world: world }, secret(&made))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("events.db")
    }

    /// Starts the receiver and waits until it listens.
    async fn receive(&self, secrets: &str) -> Child {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/integrate/receiver.py");
        let (port, file) = (self.port.to_string(), self.file());
        let arguments = [port.as_str(), file.to_str().unwrap()];
        let receiver = python::start(&script, &arguments, &[("RAPPORT_SECRETS", secrets)]);
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the receiver does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        receiver
    }

    async fn create(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            json(self.tenant.post("/v1/customers", &json!({"displayName": name})).await).await;
        }
    }

    /// The names in what the receiver wrote, sorted.
    async fn taken(&self) -> Vec<String> {
        let bodies = python::sqlite(&self.file(), "SELECT body FROM events").await;
        let name = |body: &String| {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["type"], "customer.created.v1");
            body["data"]["data"]["customer"]["displayName"].as_str().unwrap().to_owned()
        };
        let mut names: Vec<_> = bodies.iter().map(name).collect();
        names.sort_unstable();
        names
    }

    /// Waits until the receiver has as many, and looks whether they are these.
    async fn takes(&self, wanted: &[String]) {
        let begun = Instant::now();
        while self.taken().await.len() < wanted.len() && begun.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.taken().await, wanted);
    }

    async fn call(&self, action: &str, body: &Value) -> Value {
        let path = format!("/v1/services/customer/webhooks/{}:{action}", self.webhook);
        json(self.tenant.post(&path, body).await).await
    }

    /// The lines of the ledger about what was sent so and arrived.
    async fn arrived(&self, step: &str) -> usize {
        let filter = format!(r#"trigger=="webhook/{}"%26%26outcome=="done""#, self.webhook);
        let lines = format!("/v1/services/customer/ledger?pageSize=200&filter={filter}");
        let lines = self.tenant.read(&lines).await;
        let of_step = |line: &&Value| line["step"].as_str().unwrap_or_default() == step;
        lines["ledgerEntries"].as_array().unwrap().iter().filter(of_step).count()
    }
}

fn secret(answer: &Value) -> String {
    answer["secret"].as_str().unwrap().to_owned()
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("茶 {n:03}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_takes_each_event_once_and_nothing_that_is_forged() {
    let (hooked, old) = Hooked::new().await;
    let receiver = hooked.receive(&old).await;
    hooked.create(names(0..20)).await;
    hooked.takes(&names(0..20)).await;

    // It is killed while events are under way: they are sent again.
    let creating = hooked.create(names(20..60));
    let killing = async {
        sleep(Duration::from_millis(200)).await;
        python::kill(receiver).await;
        sleep(Duration::from_millis(500)).await;
        hooked.receive(&old).await
    };
    let ((), receiver) = tokio::join!(creating, killing);
    hooked.takes(&names(0..60)).await;

    // A new secret: the old one still signs, then the receiver changes over.
    let new = secret(&hooked.call("rotateSecret", &json!({})).await);
    hooked.create(names(60..65)).await;
    hooked.takes(&names(0..65)).await;
    python::kill(receiver).await;
    let receiver = hooked.receive(&format!("{new} {old}")).await;
    python::kill(receiver).await;
    let receiver = hooked.receive(&new).await;
    hooked.create(names(65..70)).await;
    hooked.takes(&names(0..70)).await;

    // A range is sent again, arrives, and is not taken twice.
    hooked.call("replay", &json!({"firstAfter": "0", "lastNumber": "30"})).await;
    let begun = Instant::now();
    while hooked.arrived("replay").await < 29 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the range is not sent again");
        sleep(Duration::from_millis(100)).await;
    }
    hooked.takes(&names(0..70)).await;
    assert_eq!(hooked.arrived("").await, 70);

    forged(&hooked, &new, &old).await;
    hooked.takes(&names(0..70)).await;
    python::kill(receiver).await;
}

/// What others send is refused.
async fn forged(hooked: &Hooked, secret: &str, other: &str) {
    let now = Clock::system().now().as_seconds();
    let body = r#"{"type": "customer.created.v1", "data": {}}"#;
    let sign = |secret: &str, sent: &str| {
        let key = B64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("forged.{sent}.{body}").as_bytes());
        B64.encode(mac.finalize().into_bytes())
    };
    let (now, late, early) = (now.to_string(), (now - 400).to_string(), (now + 400).to_string());
    let right = sign(secret, &now);
    let http = reqwest::Client::new();
    let post = |sent: &str, signatures: String, body: &str| {
        http.post(format!("http://127.0.0.1:{}/", hooked.port))
            .header("webhook-id", "forged")
            .header("webhook-timestamp", sent)
            .header("webhook-signature", signatures)
            .body(body.to_owned())
            .send()
    };
    for (sent, signatures, body) in [
        (&now, String::new(), body),
        (&now, right.clone(), body),
        (&now, format!("v2,{right}"), body),
        (&now, format!("v1,{} v1a,{right}", sign(other, &now)), body),
        (&now, format!("v1,{right}"), r#"{"type": "customer.deleted.v1", "data": {}}"#),
        (&late, format!("v1,{}", sign(secret, &late)), body),
        (&early, format!("v1,{}", sign(secret, &early)), body),
        (&"soon".to_owned(), format!("v1,{right}"), body),
    ] {
        let answer = post(sent, signatures.clone(), body).await.unwrap();
        assert_eq!(answer.status(), 400, "{sent} {signatures} {body}");
    }
    let bare = http.post(format!("http://127.0.0.1:{}/", hooked.port)).body(body).send().await.unwrap();
    assert_eq!(bare.status(), 400);

    // One signature that is right among others will do, however often it comes.
    for _ in 0..2 {
        let answer = post(&now, format!("v1,{} v1,{right}", sign(other, &now)), body).await.unwrap();
        assert_eq!(answer.status(), 204);
    }
    let taken = python::sqlite(&hooked.file(), "DELETE FROM events WHERE id = 'forged' RETURNING id").await;
    assert_eq!(taken, ["forged"]);
}
