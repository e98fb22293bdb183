//! A receiver of webhooks, which writes down what comes and answers what it is told to.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rapport_egress::Door;
use serde_json::Value;
use sha2::Sha256;

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    came: Arc<Mutex<Vec<Message>>>,
    pub(crate) status: Arc<AtomicU16>,
    /// Records that are refused.
    pub(crate) refused: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) refusals: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    timestamp: String,
    signatures: String,
    body: Vec<u8>,
    pub(crate) data: Value,
}

impl Message {
    pub(crate) fn number(&self) -> i64 {
        self.data["data"]["number"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn record(&self) -> String {
        self.data["data"]["record"].as_str().unwrap().to_owned()
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.data["data"]["data"]["customer"]["displayName"].as_str()
    }

    /// As a receiver's library does it.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let key = B64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        mac.update(&self.body);
        let signed = format!("v1,{}", B64.encode(mac.finalize().into_bytes()));
        self.signatures.split(' ').any(|one| one == signed)
    }
}

async fn take(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let message = Message {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signatures: header("webhook-signature"),
        data: serde_json::from_slice(&body).unwrap(),
        body: body.to_vec(),
    };
    let status = receiver.status.load(Ordering::SeqCst);
    if status != 200 || receiver.refused.lock().unwrap().contains(&message.record()) {
        receiver.refusals.fetch_add(1, Ordering::SeqCst);
        return (StatusCode::from_u16(if status == 200 { 422 } else { status }).unwrap(), "not now");
    }
    receiver.came.lock().unwrap().push(message);
    (StatusCode::OK, "thanks")
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            came: Arc::default(),
            status: Arc::new(AtomicU16::new(200)),
            refused: Arc::default(),
            refusals: Arc::default(),
        };
        let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The only way out that there is in these tests.
    pub(crate) fn door(&self) -> Door {
        let allow = vec![self.address.to_string()];
        Door::new(rapport_egress::Settings { allow, ..Default::default() }).unwrap()
    }

    pub(crate) fn came(&self) -> Vec<Message> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until events up to this number have come, and gives them.
    pub(crate) async fn gets(&self, numbers: impl IntoIterator<Item = i64>) -> Vec<Message> {
        let wanted: BTreeSet<_> = numbers.into_iter().collect();
        for _ in 0..1_500 {
            let came = self.came();
            if wanted.is_subset(&came.iter().map(Message::number).collect()) {
                return came;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let missing: Vec<_> =
            wanted.difference(&self.came().iter().map(Message::number).collect()).copied().collect();
        panic!("{missing:?} do not come");
    }
}

/// The numbers of each record, in the order in which they came.
pub(crate) fn by_record(came: &[Message]) -> BTreeMap<String, Vec<i64>> {
    let mut records = BTreeMap::<String, Vec<i64>>::new();
    for message in came {
        records.entry(message.record()).or_default().push(message.number());
    }
    records
}
