//! The 7,043 customers of a telephone company, as published (tests/data): their custom fields, and bringing them in.
use std::time::Duration;

use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::{Caller, json};

/// The file.
pub const FILE: &str = include_str!("../../data/telco-churn.csv");

/// What each column but the first becomes: key, kind, scale, indexed.
const FIELDS: [(&str, &str, u32, bool); 20] = [
    ("gender", "CHOICE", 0, false),
    ("seniorCitizen", "BOOLEAN", 0, false),
    ("partner", "BOOLEAN", 0, false),
    ("dependents", "BOOLEAN", 0, false),
    ("tenure", "NUMBER", 0, true),
    ("phoneService", "BOOLEAN", 0, false),
    ("multipleLines", "TEXT", 0, false),
    ("internetService", "TEXT", 0, false),
    ("onlineSecurity", "TEXT", 0, false),
    ("onlineBackup", "TEXT", 0, false),
    ("deviceProtection", "TEXT", 0, false),
    ("techSupport", "TEXT", 0, false),
    ("streamingTV", "TEXT", 0, false),
    ("streamingMovies", "TEXT", 0, false),
    ("contract", "CHOICE", 0, true),
    ("paperlessBilling", "BOOLEAN", 0, false),
    ("paymentMethod", "TEXT", 0, false),
    ("monthlyCharges", "NUMBER", 2, true),
    ("totalCharges", "NUMBER", 2, false),
    ("churn", "BOOLEAN", 0, true),
];

/// The contracts that customers have.
pub const CONTRACTS: [&str; 3] = ["Month-to-month", "One year", "Two year"];

/// Defines the 20 custom fields, four of them indexed.
pub async fn define_fields(caller: &Caller) {
    for (key, kind, scale, indexed) in FIELDS {
        let choices: Vec<Value> = match key {
            "gender" => ["Female", "Male"].map(|key| json!({"key": key})).into(),
            "contract" => CONTRACTS.map(|key| json!({"key": key})).into(),
            _ => Vec::new(),
        };
        let field = json!({
            "resource": "customer", "key": key, "kind": format!("FIELD_KIND_{kind}"), "scale": scale,
            "indexed": indexed, "labels": {"en": key}, "choices": choices,
        });
        json(caller.post("/v1/customer/fields", &field).await).await;
    }
}

/// So many rows of the file, over and over, each time with other ids, after its header.
pub fn rows(count: usize) -> impl Iterator<Item = String> + Send + 'static {
    let header = FILE.lines().next().map(|header| format!("{header}\n"));
    let rows = (0..).flat_map(|n| {
        FILE.lines().skip(1).map(move |row| if n == 0 { format!("{row}\n") } else { format!("{n}-{row}\n") })
    });
    header.into_iter().chain(rows.take(count))
}

/// Makes an import of `source` and uploads its file; the import's id, and the import as it is then.
pub async fn upload(caller: &Caller, source: &str, file: impl Into<Body>) -> (String, Value) {
    let import = json!({"resource": "customer", "source": source, "fileName": "telco-churn.csv"});
    let import = json(caller.post("/v1/customer/imports", &import).await).await;
    let id = import["id"].as_str().unwrap().to_owned();
    let request = caller
        .request(Method::PUT, &format!("/v1/customer/imports/{id}/file"))
        .header("content-type", "text/csv")
        .body(file);
    (id, json(request.send().await.unwrap()).await)
}

/// Takes the suggested mappings over, but for the id, which is name and key in the other system.
pub async fn map(caller: &Caller, import: &str, uploaded: &Value) {
    let mut wanted = uploaded["mappings"].as_array().unwrap().clone();
    wanted.retain(|mapping| mapping["target"] != "display_name" && mapping["target"] != "external_id");
    wanted.push(json!({"target": "external_id", "column": "customerID"}));
    wanted.push(json!({"target": "display_name", "column": "customerID"}));
    let path = format!("/v1/customer/imports/{import}");
    json(caller.patch(&path, &json!({"mappings": wanted})).await).await;
}

/// Begins an import's next step, e.g. `start`, and waits until it is over; the import as it is then.
///
/// # Panics
/// When it is not over after so many seconds as its rows make likely.
pub async fn work(caller: &Caller, import: &str, action: &str) -> Value {
    json(caller.post(&format!("/v1/customer/imports/{import}:{action}"), &json!({})).await).await;
    let working = ["IMPORT_STATE_CHECKING", "IMPORT_STATE_RUNNING", "IMPORT_STATE_UNDOING"];
    let mut done = Value::Null;
    let mut idle = 0;
    // A minute without progress is too long.
    while idle < 600 {
        let now = caller.read(&format!("/v1/customer/imports/{import}")).await;
        if !working.iter().any(|state| now["state"] == *state) {
            return now;
        }
        idle = if now["progress"] == done { idle + 1 } else { 0 };
        done = now["progress"].clone();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the import has stood still for a minute: {done}");
}
