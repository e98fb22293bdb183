//! The imports that faults strike: one with external ids and one without, of two tenants, so that two processes have work
//! at once; throttled, so that faults fall into their middle.
use std::time::{Duration, Instant};

use rapport_import::Options;
use rapport_store::Sabotage;
use rapport_test_kit::{Tenant, World, json};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::file::{File, Outcome, SOURCE};

/// How long an import whose faults are over may take: that of an idle machine many times over.
const PATIENCE: Duration = Duration::from_secs(120);

/// Seconds after which others take over what a dead process worked on.
pub(crate) const LEASE: i64 = 1;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Rows of the import with external ids; that without has half as many.
    pub(crate) rows: u32,
    /// How often each fault strikes.
    pub(crate) faults: usize,
}

/// What a tenant must have.
pub(crate) struct Expected {
    pub(crate) tenant: Uuid,
    /// The import that was struck, if its customers come from one.
    pub(crate) import: Option<Uuid>,
    /// Whether its customers have external ids.
    pub(crate) keyed: bool,
    pub(crate) outcome: Outcome,
}

/// Options of a suite that imports slowly, in small batches.
pub(crate) fn slowly(sabotage: Sabotage) -> rapport_test_kit::Options {
    rapport_test_kit::Options {
        imports: Options {
            batch_rows: 10,
            pause_ratio: 0.2,
            lease_seconds: LEASE,
            poll: Duration::from_millis(50),
            ..Options::default()
        },
        sabotage,
        ..rapport_test_kit::Options::default()
    }
}

/// Makes two tenants and starts an import of each.
pub(crate) async fn start(world: &World, rows: u32) -> Vec<Expected> {
    let (before, keyed, keyless) = (File::before(), File::keyed(rows), File::keyless(rows / 2));
    let (one, other) = (world.tenant("keyed").await, world.tenant("keyless").await);
    for tenant in [&one, &other] {
        define(tenant, json!({"key": "town", "kind": "FIELD_KIND_TEXT", "indexed": true})).await;
        define(tenant, json!({"key": "score", "kind": "FIELD_KIND_NUMBER", "scale": 2, "indexed": true}))
            .await;
    }
    define(&one, json!({"key": "code", "kind": "FIELD_KIND_TEXT", "unique": true})).await;
    let first = upload(&one, &before).await;
    run(&one, &first).await;
    while state(&one, &first).await == "IMPORT_STATE_RUNNING" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(state(&one, &first).await, "IMPORT_STATE_DONE");

    let mut expected = Vec::new();
    for (tenant, file, outcome) in
        [(&one, &keyed, Outcome::of(&[&before, &keyed])), (&other, &keyless, Outcome::of(&[&keyless]))]
    {
        let import = upload(tenant, file).await;
        let ids = (tenant.id.parse().unwrap(), Some(import.parse().unwrap()));
        expected.push(Expected { tenant: ids.0, import: ids.1, keyed: file.keyed, outcome });
        run(tenant, &import).await;
    }
    expected
}

/// Defines the fields that every file has.
pub(crate) async fn define_fields(tenant: &Tenant) {
    define(tenant, json!({"key": "town", "kind": "FIELD_KIND_TEXT", "indexed": true})).await;
    define(tenant, json!({"key": "score", "kind": "FIELD_KIND_NUMBER", "scale": 2, "indexed": true})).await;
}

async fn define(tenant: &Tenant, mut field: Value) {
    field["resource"] = "customer".into();
    field["labels"] = json!({"en": field["key"]});
    json(tenant.post("/v1/customer/fields", &field).await).await;
}

/// Uploads a file; says the import's id.
async fn upload(tenant: &Tenant, file: &File) -> String {
    let import = json!({"resource": "customer", "source": SOURCE, "fileName": "customers.csv"});
    let import = json(tenant.post("/v1/customer/imports", &import).await).await;
    let id = import["id"].as_str().unwrap().to_owned();
    let request = tenant
        .request(Method::PUT, &format!("/v1/customer/imports/{id}/file"))
        .header("content-type", "text/csv")
        .body(file.csv());
    json(request.send().await.unwrap()).await;
    let mappings: Vec<_> =
        file.columns().iter().map(|(name, target)| json!({"target": target, "column": name})).collect();
    json(tenant.patch(&format!("/v1/customer/imports/{id}"), &json!({"mappings": mappings})).await).await;
    id
}

async fn run(tenant: &Tenant, import: &str) {
    json(tenant.post(&format!("/v1/customer/imports/{import}:start"), &json!({})).await).await;
}

async fn state(tenant: &Tenant, import: &str) -> Value {
    tenant.read(&format!("/v1/customer/imports/{import}")).await["state"].clone()
}

/// Looks at imports from behind the service's back, with a connection that is made anew when it breaks.
pub(crate) struct Watch {
    url: String,
    conn: Option<PgConnection>,
}

impl Watch {
    /// Looks at the database of this URL.
    pub(crate) const fn new(url: String) -> Self {
        Self { url, conn: None }
    }

    /// How far all imports are, as a number that grows with every batch, and whether one runs; `None` when nothing answers.
    async fn progress(&mut self) -> Option<(i64, bool)> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => PgConnection::connect(&self.url).await.ok()?,
        };
        let progress = sqlx::query_as("SELECT sum(version)::bigint, bool_or(state = 'running') FROM imports")
            .fetch_one(&mut conn)
            .await
            .ok();
        self.conn = progress.is_some().then_some(conn);
        progress
    }

    /// Waits until imports get on, with whatever struck before; says whether they still run.
    pub(crate) async fn get_on(&mut self) -> bool {
        let (begun, mut before) = (Instant::now(), None);
        while begun.elapsed() < PATIENCE {
            match (before, self.progress().await) {
                (_, Some((_, false))) => return false,
                (Some(before), Some((now, _))) if now > before => return true,
                (None, Some((now, _))) => before = Some(now),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Leaves the imports alone until they have ended, or for so long that they will not.
    pub(crate) async fn leave(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !matches!(self.progress().await, Some((_, false))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What is written apart, where a promise is broken, may come after the end.
        tokio::time::sleep(2 * rapport_store::GAP).await;
    }
}
