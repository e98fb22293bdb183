//! Those who write while faults strike: of each tenant one who works on units, one on users, one on customers. Each calls
//! again under the same key, here or there, until there is an answer; so it is known what must be there in the end.
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::process::Place;
use crate::chance::Chance;

/// A call that is not answered in so long is made again.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest pause between two calls of one writer.
const PAUSE: Duration = Duration::from_millis(60);
/// So many units of a tenant stay; people work there, and others stand below them.
const LASTING: usize = 10;

/// A tenant, and how its administrator is known.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) tenant: String,
    pub(super) session_token: String,
}

/// What a writer works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unit,
    User,
    Customer,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::User => "user",
            Self::Customer => "customer",
        }
    }
}

/// A record as the last answer left it.
#[derive(Clone, Debug)]
struct Record {
    id: String,
    version: i64,
    name: String,
    /// The unit above, or the one that a user works in.
    unit: String,
    deleted: bool,
}

/// What must be there, each record as a line that says all of it.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) records: BTreeSet<String>,
    /// How many changes each record had, those included that were deleted.
    pub(super) versions: BTreeSet<String>,
    /// Answers that were not what they should have been.
    pub(super) wrong: Vec<String>,
}

/// The load.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    writers: JoinSet<Expected>,
}

impl Load {
    /// Begins.
    pub(super) fn begin(accounts: &[Account], places: &[Place; 2], chance: &mut Chance) -> Self {
        let (over, answered, mut writers) = (Arc::default(), Arc::default(), JoinSet::new());
        for account in accounts {
            let units = Arc::<Mutex<Vec<String>>>::default();
            for kind in [Kind::Unit, Kind::User, Kind::Customer] {
                let writer = Writer {
                    kind,
                    account: account.clone(),
                    places: places.clone(),
                    client: Client::builder().timeout(PATIENCE).build().unwrap(),
                    chance: chance.fork(),
                    calls: 0,
                    records: Vec::new(),
                    units: units.clone(),
                    answered: Arc::clone(&answered),
                    wrong: Vec::new(),
                };
                writers.spawn(writer.write(Arc::clone(&over)));
            }
        }
        Self { over, answered, writers }
    }

    /// How many calls were answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends after the calls in hand; says what must be there.
    pub(super) async fn end(self) -> Expected {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Expected::default();
        for expected in self.writers.join_all().await {
            all.records.extend(expected.records);
            all.versions.extend(expected.versions);
            all.wrong.extend(expected.wrong);
        }
        all
    }
}

struct Writer {
    kind: Kind,
    account: Account,
    places: [Place; 2],
    client: Client,
    chance: Chance,
    calls: usize,
    records: Vec<Record>,
    /// Units of this tenant that stay.
    units: Arc<Mutex<Vec<String>>>,
    answered: Arc<AtomicU64>,
    wrong: Vec<String>,
}

impl Writer {
    async fn write(mut self, over: Arc<AtomicBool>) -> Expected {
        while !over.load(Ordering::Relaxed) {
            let there: Vec<usize> = (0..self.records.len()).filter(|at| !self.records[*at].deleted).collect();
            let dice = self.chance.among(0, 9);
            if there.len() < 3 || dice < 3 {
                self.create().await;
            } else {
                let at = self.chance.pick(&there);
                if dice == 3 && at >= LASTING && self.kind == Kind::Unit {
                    self.delete(at).await;
                } else {
                    self.change(at).await;
                }
            }
            tokio::time::sleep(self.chance.time(PAUSE)).await;
        }
        let (tenant, kind) = (&self.account.tenant, self.kind.name());
        let line = |r: &Record| match self.kind {
            Kind::Customer => format!("{tenant} {kind} {} {} {}", r.id, r.version, r.name),
            Kind::User => format!("{tenant} {kind} {} {} {} {} invited", r.id, r.version, r.name, r.unit),
            Kind::Unit => format!("{tenant} {kind} {} {} {} {}", r.id, r.version, r.name, r.unit),
        };
        Expected {
            records: self.records.iter().filter(|record| !record.deleted).map(line).collect(),
            versions: self
                .records
                .iter()
                .map(|r| format!("{tenant} {kind} {} {}", r.id, r.version))
                .collect(),
            wrong: self.wrong,
        }
    }

    /// A unit to stand below or to work in, if there is one: of units only one that was there before this one, so that no
    /// circle comes about.
    fn any_unit(&mut self, at: usize) -> String {
        let units = self.units.lock().unwrap().clone();
        let fit = if self.kind == Kind::Unit { units.len().min(at) } else { units.len() };
        if fit == 0 {
            "-".to_owned()
        } else {
            self.chance.pick(&units.iter().take(fit).collect::<Vec<_>>()).clone()
        }
    }

    async fn create(&mut self) {
        let at = self.records.len();
        let (name, unit) = (format!("{}-{at}", self.kind.name()), self.any_unit(at));
        let (path, body) = match self.kind {
            Kind::Unit => ("/v1/units", json!({"displayName": name, "parent": reference(&unit)})),
            Kind::User => {
                let user = json!({
                    "displayName": name, "email": format!("{name}@{}.example.com", self.account.tenant),
                    "unit": reference(&unit),
                });
                ("/v1/users:invite", json!({"user": user}))
            }
            Kind::Customer => ("/v1/customers", json!({"displayName": name})),
        };
        let Some(answer) = self.call(Method::POST, path, &body).await else { return };
        let made = if self.kind == Kind::User { &answer["user"] } else { &answer };
        let id = made["id"].as_str().unwrap().to_owned();
        self.is_at(made, 1);
        if self.kind == Kind::Unit && at < LASTING {
            self.units.lock().unwrap().push(id.clone());
        }
        self.records.push(Record { id, version: 1, name, unit, deleted: false });
    }

    async fn change(&mut self, at: usize) {
        let unit = self.any_unit(at);
        let record = &mut self.records[at];
        record.version += 1;
        record.name = format!("{}-{at}-{}", self.kind.name(), record.version);
        record.unit = unit;
        let record = record.clone();
        let (path, body) = match self.kind {
            Kind::Unit => ("units", json!({"displayName": record.name, "parent": reference(&record.unit)})),
            Kind::User => ("users", json!({"displayName": record.name, "unit": reference(&record.unit)})),
            Kind::Customer => ("customers", json!({"displayName": record.name})),
        };
        let mask = body.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(",");
        let path = format!("/v1/{path}/{}?updateMask={mask}", record.id);
        if let Some(answer) = self.call(Method::PATCH, &path, &body).await {
            self.is_at(&answer, record.version);
        }
    }

    async fn delete(&mut self, at: usize) {
        let path = format!("/v1/units/{}", self.records[at].id);
        self.call(Method::DELETE, &path, &Value::Null).await;
        self.records[at].version += 1;
        self.records[at].deleted = true;
    }

    fn is_at(&mut self, answer: &Value, version: i64) {
        if answer["etag"].as_str().and_then(|etag| etag.parse().ok()) != Some(version) {
            self.wrong.push(format!("version {version} was expected of {answer}"));
        }
    }

    /// Calls until there is an answer. That it is refused is wrong.
    async fn call(&mut self, method: Method, path: &str, body: &Value) -> Option<Value> {
        self.calls += 1;
        let key = format!("{}-{}", self.kind.name(), self.calls);
        loop {
            let place = self.chance.pick(&[0, 1]);
            let place = self.places[place].lock().unwrap().clone();
            if let Some(place) = place
                && let url = format!("{place}{path}")
                && let Some(answer) =
                    try_to_call(&self.client, &self.account, &method, &url, body, &key).await
            {
                self.answered.fetch_add(1, Ordering::Relaxed);
                return answer.map_err(|refused| self.wrong.push(refused)).ok();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The answer, if there is one; or in words how it was refused.
pub(super) async fn try_to_call(
    client: &Client,
    account: &Account,
    method: &Method,
    url: &str,
    body: &Value,
    key: &str,
) -> Option<Result<Value, String>> {
    let call = client
        .request(method.clone(), url)
        .header("cookie", format!("rapport={}", account.session_token))
        .header("sec-fetch-site", "same-origin")
        .header("idempotency-key", key);
    let call = if body.is_null() { call } else { call.json(body) };
    let answer = call.send().await.ok()?;
    let status = answer.status();
    let text = answer.text().await.ok()?;
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) {
        return None;
    }
    if !status.is_success() {
        return Some(Err(format!("{method} {url} under {key}: {status}: {text}")));
    }
    serde_json::from_str(&text).ok().map(Ok)
}

fn reference(unit: &str) -> String {
    if unit == "-" { String::new() } else { format!("identity.unit/{unit}") }
}
