//! Webhooks: signed, in order, complete, tried again, and never sent inside.
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
use rapport_kernel::{Ctx, FieldRights};
use rapport_proto::events::v1::{
    CreateWebhookRequest, GetWebhookRequest, LedgerEntry, LedgerOutcome, ListLedgerEntriesRequest,
    ReplayWebhookRequest, RotateWebhookSecretRequest, UpdateWebhookRequest, Webhook, WebhookState,
    WhyRequest, ledger_service_client::LedgerServiceClient, webhook_service_client::WebhookServiceClient,
};
use serde_json::Value;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};

use crate::{
    note::{change, create},
    world::{World, by},
};

/// What came to an address, and what it answers.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Message>>>,
    status: Arc<AtomicU16>,
    /// Records that are refused.
    refused: Arc<Mutex<BTreeSet<String>>>,
    refusals: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    timestamp: String,
    signatures: String,
    body: Vec<u8>,
    data: Value,
}

impl Message {
    fn number(&self) -> i64 {
        self.data["data"]["number"].as_str().unwrap().parse().unwrap()
    }

    fn record(&self) -> String {
        self.data["data"]["record"].as_str().unwrap().to_owned()
    }

    fn text(&self) -> Option<&str> {
        self.data["data"]["data"]["customer"]["displayName"].as_str()
    }

    /// As a receiver's library does it.
    fn is_signed_with(&self, secret: &str) -> bool {
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
    async fn start() -> Self {
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

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The only way out that there is in these tests.
    fn door(&self) -> Door {
        let allow = vec![self.address.to_string()];
        Door::new(rapport_egress::Settings { allow, ..Default::default() }).unwrap()
    }

    fn came(&self) -> Vec<Message> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until events up to this number have come, and gives them.
    async fn gets(&self, numbers: impl IntoIterator<Item = i64>) -> Vec<Message> {
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

struct Hooked {
    world: World,
    ctx: Ctx,
    receiver: Receiver,
    webhooks: WebhookServiceClient<Routes>,
    ledger: LedgerServiceClient<Routes>,
    stop: CancellationToken,
}

impl Hooked {
    async fn new() -> Self {
        let (world, receiver) = (World::new().await, Receiver::start().await);
        let ctx = world.tenant();
        let (routes, stop) = world.serve(Some(receiver.door()), |events| events).await;
        let (webhooks, ledger) =
            (WebhookServiceClient::new(routes.clone()), LedgerServiceClient::new(routes));
        Self { world, ctx, receiver, webhooks, ledger, stop }
    }

    /// Kills what is at work, and begins again.
    async fn restart(&mut self) {
        self.stop.cancel();
        let (routes, stop) = self.world.serve(Some(self.receiver.door()), |events| events).await;
        self.webhooks = WebhookServiceClient::new(routes.clone());
        self.ledger = LedgerServiceClient::new(routes);
        self.stop = stop;
    }

    async fn create(
        &mut self,
        ctx: &Ctx,
        url: &str,
        start_after: Option<i64>,
    ) -> Result<(Webhook, String), Status> {
        let subjects = vec!["customer.>".to_owned()];
        let webhook = Webhook {
            display_name: "hook".into(),
            url: url.into(),
            start_after,
            subjects,
            ..Default::default()
        };
        let request = CreateWebhookRequest { webhook: Some(webhook), ..Default::default() };
        let made = self.webhooks.create_webhook(by(ctx, request)).await?.into_inner();
        Ok((made.webhook.unwrap(), made.secret))
    }

    async fn hook(&mut self) -> (Webhook, String) {
        let (ctx, url) = (self.ctx.clone(), self.receiver.url());
        self.create(&ctx, &url, None).await.unwrap()
    }

    async fn get(&mut self, webhook: &Webhook) -> Webhook {
        let request = GetWebhookRequest { id: webhook.id.clone(), ..Default::default() };
        self.webhooks.get_webhook(by(&self.ctx, request)).await.unwrap().into_inner()
    }

    async fn ledger(&mut self, filter: &str) -> Vec<LedgerEntry> {
        let request =
            ListLedgerEntriesRequest { filter: filter.into(), page_size: 200, ..Default::default() };
        self.ledger.list_ledger_entries(by(&self.ctx, request)).await.unwrap().into_inner().ledger_entries
    }

    async fn change(&self, id: uuid::Uuid, text: &str) {
        let mut tx = self.world.db.begin(&self.ctx).await.unwrap();
        change(&mut tx, id, text).await;
        tx.finish().await.unwrap();
    }
}

/// The numbers of each record, in the order in which they came.
fn by_record(came: &[Message]) -> BTreeMap<String, Vec<i64>> {
    let mut records = BTreeMap::<String, Vec<i64>>::new();
    for message in came {
        records.entry(message.record()).or_default().push(message.number());
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_signed_complete_and_in_order() {
    let mut hooked = Hooked::new().await;
    create(&hooked.world.db, &hooked.ctx, &["before"]).await;
    hooked.world.settled().await;
    let (webhook, secret) = hooked.hook().await;
    // Its own making is an event, which it does not ask for.
    let notes = create(&hooked.world.db, &hooked.ctx, &["a", "b", "c", "d"]).await;
    for text in ["second", "third", "fourth"] {
        for note in &notes {
            hooked.change(note.id, text).await;
        }
    }
    let came = hooked.receiver.gets(3..=18).await;
    assert_eq!(came.len(), 16);
    for numbers in by_record(&came).values() {
        assert!(numbers.len() == 4 && numbers.is_sorted(), "{numbers:?}");
    }
    let first = &came.iter().find(|message| message.number() == 3).unwrap();
    assert!(came.iter().all(|message| message.is_signed_with(&secret)));
    assert_eq!((first.data["type"].as_str(), first.text()), (Some("customer.updated.v1"), Some("a")));
    assert_eq!(first.data["timestamp"], first.data["data"]["time"]);
    assert_eq!(first.id, first.data["data"]["id"].as_str().unwrap());

    // The ledger says so when the receiver's answer is there.
    let arrived = format!("trigger == \"webhook/{}\" && outcome == \"done\"", webhook.id);
    let mut entries = hooked.ledger(&arrived).await;
    for _ in 0..500 {
        if entries.len() == 16 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        entries = hooked.ledger(&arrived).await;
    }
    assert_eq!(entries.len(), 16);
    assert!(entries.iter().all(|entry| entry.attempts == 1 && entry.outcome() == LedgerOutcome::Done));
    let status = entries[0].detail.as_ref().unwrap().fields["status"].kind.clone();
    assert_eq!(status, Some(prost_types::value::Kind::NumberValue(200.0)));

    // Why: of the event, and of its record.
    for request in [
        WhyRequest { event_id: first.id.clone(), ..Default::default() },
        WhyRequest { record: first.record(), ..Default::default() },
    ] {
        let why = hooked.ledger.why(by(&hooked.ctx, request)).await.unwrap().into_inner().explanations;
        let of = why.iter().find(|of| of.event_id == first.id).unwrap();
        assert_eq!(of.event.as_ref().unwrap().number, 3);
        assert_eq!(of.ledger_entries.len(), 1);
    }
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_arrive_is_tried_again_and_workers_may_die() {
    let mut hooked = Hooked::new().await;
    let (webhook, _) = hooked.hook().await;
    hooked.world.settled().await;
    hooked.receiver.status.store(503, Ordering::SeqCst);
    let notes = create(&hooked.world.db, &hooked.ctx, &["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    for note in &notes {
        hooked.change(note.id, "second").await;
    }
    while hooked.receiver.refusals.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failed = hooked.ledger("outcome == \"failed\"").await;
    assert!(!failed.is_empty());
    assert_eq!(
        (failed[0].reason.as_str(), failed[0].problem.as_str()),
        ("WEBHOOK_REFUSED", "the receiver answered 503 Service Unavailable")
    );
    hooked.restart().await;
    hooked.receiver.status.store(200, Ordering::SeqCst);
    // The pause after the first failure is over.
    hooked.world.later(10);
    let came = hooked.receiver.gets(2..=17).await;
    for numbers in by_record(&came).values() {
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    for _ in 0..6 {
        create(&hooked.world.db, &hooked.ctx, &["more", "and more"]).await;
        hooked.restart().await;
    }
    let came = hooked.receiver.gets(2..=29).await;
    // What came twice came under the same id.
    let ids: BTreeSet<_> = came.iter().map(|message| (message.number(), message.id.clone())).collect();
    assert_eq!(ids.len(), 28);
    assert_eq!(hooked.get(&webhook).await.state(), WebhookState::On);
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_is_refused_holds_up_its_lane_for_a_day_and_nothing_at_all_switches_off() {
    let mut hooked = Hooked::new().await;
    let (webhook, _) = hooked.hook().await;
    let bad = create(&hooked.world.db, &hooked.ctx, &["bad"]).await.remove(0);
    hooked.receiver.refused.lock().unwrap().insert(format!("test.note/{}", bad.id));
    create(&hooked.world.db, &hooked.ctx, &["a"; 24]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Seven lanes of eight go on.
    assert!(hooked.receiver.came().len() >= 12, "{} came", hooked.receiver.came().len());
    while hooked.receiver.refusals.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hooked.world.later(12 * 3_600);
    create(&hooked.world.db, &hooked.ctx, &["a"; 16]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    hooked.world.later(13 * 3_600);
    let expected = (2..=42).filter(|number| *number != 2);
    hooked.receiver.gets(expected).await;
    assert_eq!(hooked.get(&webhook).await.state(), WebhookState::On);

    // Now nothing arrives any more.
    hooked.receiver.status.store(500, Ordering::SeqCst);
    let before = hooked.receiver.refusals.load(Ordering::SeqCst);
    create(&hooked.world.db, &hooked.ctx, &["late"; 4]).await;
    while hooked.receiver.refusals.load(Ordering::SeqCst) == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..200 {
        hooked.world.later(1_800);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if hooked.get(&webhook).await.state() == WebhookState::Off {
            break;
        }
    }
    let off = hooked.get(&webhook).await;
    assert_eq!(off.state(), WebhookState::Off);
    assert_eq!(
        off.off_reason,
        "nothing arrived for 24 hours; at last the receiver answered 500 Internal Server Error"
    );
    // What other lanes had begun to send by then comes to its end.
    let mut refused = 0;
    while refused != hooked.receiver.refusals.load(Ordering::SeqCst) {
        refused = hooked.receiver.refusals.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    create(&hooked.world.db, &hooked.ctx, &["later"; 2]).await;
    hooked.receiver.status.store(200, Ordering::SeqCst);
    hooked.world.later(3_600);
    let came = hooked.receiver.came().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(hooked.receiver.came().len(), came, "what is off sends nothing");

    // Switched on again, it goes on where it stopped.
    let on = Webhook { id: webhook.id.clone(), state: WebhookState::On.into(), ..off };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["state".into()] });
    let request = UpdateWebhookRequest { webhook: Some(on), update_mask, ..Default::default() };
    let on = hooked.webhooks.update_webhook(by(&hooked.ctx, request)).await.unwrap().into_inner();
    assert_eq!((on.state(), on.off_reason.as_str()), (WebhookState::On, ""));
    let texts: Vec<_> = {
        let last = hooked.world.count("SELECT max(tenant_number) FROM platform.event_log").await;
        // Two changes of the webhook lie between them.
        let wanted: Vec<i64> = (43..=last).collect();
        for _ in 0..500 {
            let came = hooked.receiver.came();
            if came.iter().filter(|m| wanted.contains(&m.number())).count() >= 6 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hooked.receiver.came().iter().filter_map(|m| m.text().map(str::to_owned)).collect()
    };
    assert_eq!(texts.iter().filter(|text| *text == "late").count(), 4);
    assert_eq!(texts.iter().filter(|text| *text == "later").count(), 2);

    // 410 is heard at once.
    hooked.receiver.status.store(410, Ordering::SeqCst);
    create(&hooked.world.db, &hooked.ctx, &["gone"]).await;
    for _ in 0..500 {
        if hooked.get(&webhook).await.state() == WebhookState::Off {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(hooked.get(&webhook).await.off_reason, "the receiver answered 410 Gone");
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_change_over_and_ranges_are_sent_again() {
    let mut hooked = Hooked::new().await;
    let (webhook, old) = hooked.hook().await;
    create(&hooked.world.db, &hooked.ctx, &["a", "b", "c"]).await;
    hooked.receiver.gets(2..=4).await;
    let id = webhook.id.clone();
    let request = RotateWebhookSecretRequest { id: id.clone(), overlap_hours: Some(1), ..Default::default() };
    let new =
        hooked.webhooks.rotate_webhook_secret(by(&hooked.ctx, request)).await.unwrap().into_inner().secret;
    assert_ne!(old, new);
    create(&hooked.world.db, &hooked.ctx, &["both"]).await;
    let came = hooked.receiver.gets([6]).await;
    let both = came.last().unwrap();
    assert!(both.is_signed_with(&old) && both.is_signed_with(&new));
    hooked.world.later(3_700);
    create(&hooked.world.db, &hooked.ctx, &["one"]).await;
    let came = hooked.receiver.gets([7]).await;
    let one = came.last().unwrap();
    assert!(!one.is_signed_with(&old) && one.is_signed_with(&new));

    let count = came.len();
    let request =
        ReplayWebhookRequest { id: id.clone(), first_after: 1, last_number: 4, ..Default::default() };
    hooked.webhooks.replay_webhook(by(&hooked.ctx, request)).await.unwrap();
    for _ in 0..500 {
        if hooked.receiver.came().len() == count + 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let came = hooked.receiver.came();
    assert_eq!(came[count..].iter().map(Message::number).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(came[count].id, came[0..count].iter().find(|m| m.number() == 2).unwrap().id);
    for (first_after, last_number) in [(4, 4), (0, 99)] {
        let request = ReplayWebhookRequest { id: id.clone(), first_after, last_number, ..Default::default() };
        let refused = hooked.webhooks.replay_webhook(by(&hooked.ctx, request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    hooked.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_inside_and_nothing_that_its_maker_may_not_see() {
    let mut hooked = Hooked::new().await;
    let ctx = hooked.ctx.clone();
    let port = hooked.receiver.address.port();
    for (url, rule) in [
        (format!("http://127.0.0.1:{}/hook", port ^ 1), "EGRESS_SCHEME"),
        ("https://127.1/hook".into(), "EGRESS_LOOPBACK"),
        ("https://0x7f000001/hook".into(), "EGRESS_LOOPBACK"),
        ("https://10.0.0.1/hook".into(), "EGRESS_PRIVATE"),
        ("https://169.254.169.254/latest/meta-data".into(), "EGRESS_METADATA"),
        ("https://[::1]/hook".into(), "EGRESS_LOOPBACK"),
        ("ftp://example.com/".into(), "EGRESS_SCHEME"),
        ("https://user:password@example.com/".into(), "EGRESS_CREDENTIALS"),
    ] {
        let refused = hooked.create(&ctx, &url, None).await.unwrap_err();
        let details = String::from_utf8_lossy(refused.details()).into_owned();
        assert!(details.contains(rule), "{url}: {refused:?}");
    }
    let ahead = hooked.create(&ctx, &hooked.receiver.url(), Some(7)).await.unwrap_err();
    assert!(ahead.message().contains("the last number so far is 0"), "{ahead}");

    // A rule that came later, as when a name changes its address, refuses at the time of sending, and says so.
    let (webhook, _) = hooked.hook().await;
    hooked.stop.cancel();
    let shut = Door::new(rapport_egress::Settings::default()).unwrap();
    let (routes, stop) = hooked.world.serve(Some(shut), |events| events).await;
    (hooked.ledger, hooked.stop) = (LedgerServiceClient::new(routes.clone()), stop);
    hooked.webhooks = WebhookServiceClient::new(routes);
    create(&hooked.world.db, &ctx, &["a"]).await;
    let mut refused = Vec::new();
    for _ in 0..500 {
        refused = hooked.ledger("outcome == \"failed\"").await;
        if !refused.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refused[0].reason, "EGRESS_SCHEME");
    assert!(hooked.receiver.came().is_empty());
    hooked.restart().await;

    // Fields that its maker may not read are not in what it sends.
    let hidden = ("customer.customer".to_owned(), ["display_name".to_owned()].into());
    let rights = FieldRights { hidden: [hidden].into(), ..Default::default() };
    let limited = Ctx { field_rights: rights.into(), ..ctx.clone() };
    let url = hooked.receiver.url();
    hooked.create(&limited, &url, Some(0)).await.unwrap();
    create(&hooked.world.db, &ctx, &["secret"]).await;
    hooked.world.later(600);
    tokio::time::sleep(Duration::from_secs(1)).await;
    hooked.receiver.gets([2, 4]).await;
    let by_limited: Vec<_> = hooked.receiver.came().into_iter().filter(|m| m.text().is_none()).collect();
    assert_eq!(by_limited.iter().map(Message::number).collect::<BTreeSet<_>>(), [2, 4].into());
    let _ = webhook;
    hooked.stop.cancel();
}
