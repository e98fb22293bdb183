//! The 7,043 customers of a telephone company, from their file to lists: fields, upload, dry run, start, and what one does
//! with them afterwards.
use std::time::Duration;

use rapport_test_kit::{Tenant, World, json};
use reqwest::Method;
use serde_json::{Value, json};

const FILE: &str = include_str!("../../data/telco-churn.csv");

/// What each column becomes: key, kind, scale, indexed.
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

async fn define_fields(tenant: &Tenant) {
    for (key, kind, scale, indexed) in FIELDS {
        let choices: Vec<Value> = match key {
            "gender" => ["Female", "Male"].map(|key| json!({"key": key})).into(),
            "contract" => ["Month-to-month", "One year", "Two year"].map(|key| json!({"key": key})).into(),
            _ => Vec::new(),
        };
        let field = json!({
            "resource": "customer", "key": key, "kind": format!("FIELD_KIND_{kind}"), "scale": scale,
            "indexed": indexed, "labels": {"en": key}, "choices": choices,
        });
        json(tenant.post("/v1/customer/fields", &field).await).await;
    }
}

/// Waits until the import has left `state`.
async fn after(tenant: &Tenant, import: &str, state: &str) -> Value {
    for _ in 0..600 {
        let now = tenant.read(&format!("/v1/customer/imports/{import}")).await;
        if now["state"] != state {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the import is still {state} after a minute");
}

async fn upload(tenant: &Tenant, source: &str, file: &str) -> (String, Value) {
    let import = json!({"resource": "customer", "source": source, "fileName": "telco-churn.csv"});
    let import = json(tenant.post("/v1/customer/imports", &import).await).await;
    let id = import["id"].as_str().unwrap().to_owned();
    let request = tenant
        .request(Method::PUT, &format!("/v1/customer/imports/{id}/file"))
        .header("content-type", "text/csv")
        .body(file.to_owned());
    (id, json(request.send().await.unwrap()).await)
}

async fn count(tenant: &Tenant, filter: &str) -> usize {
    let (mut token, mut seen) = (String::new(), std::collections::BTreeSet::new());
    loop {
        let request = tenant.request(Method::GET, "/v1/customers").query(&[
            ("filter", filter),
            ("orderBy", "attributes.monthlyCharges desc"),
            ("pageSize", "200"),
            ("pageToken", token.as_str()),
        ]);
        let page = json(request.send().await.unwrap()).await;
        for customer in page["customers"].as_array().unwrap() {
            assert!(
                seen.insert(customer["id"].as_str().unwrap().to_owned()),
                "a customer stands on two pages"
            );
        }
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return seen.len();
        }
    }
}

#[tokio::test]
async fn real_customers_are_brought_in() {
    let world = World::new().await;
    let telco = world.tenant("telco").await;
    define_fields(&telco).await;

    let (import, uploaded) = upload(&telco, "telco", FILE).await;
    assert_eq!(uploaded["state"], "IMPORT_STATE_READY");
    let mappings = uploaded["mappings"].as_array().unwrap();
    assert_eq!(
        mappings.iter().filter(|m| m["target"].as_str().unwrap().starts_with("attributes.")).count(),
        20
    );
    // The id is the key in the other system; customers without a name are called by it.
    let mut wanted = mappings.clone();
    wanted.retain(|m| m["target"] != "display_name" && m["target"] != "external_id");
    wanted.push(json!({"target": "external_id", "column": "customerID"}));
    wanted.push(json!({"target": "display_name", "column": "customerID"}));
    json(telco.patch(&format!("/v1/customer/imports/{import}"), &json!({"mappings": wanted})).await).await;

    json(telco.post(&format!("/v1/customer/imports/{import}:dryRun"), &json!({})).await).await;
    let checked = after(&telco, &import, "IMPORT_STATE_CHECKING").await;
    assert_eq!(checked["state"], "IMPORT_STATE_CHECKED", "{checked}");
    assert_eq!(checked["progress"]["created"], "7043", "{checked}");
    assert_eq!(
        telco.read("/v1/customers").await["customers"].as_array().unwrap().len(),
        0,
        "a dry run wrote"
    );

    json(telco.post(&format!("/v1/customer/imports/{import}:start"), &json!({})).await).await;
    let done = after(&telco, &import, "IMPORT_STATE_RUNNING").await;
    assert_eq!(done["state"], "IMPORT_STATE_DONE", "{done}");
    assert_eq!(done["progress"]["created"], "7043");
    assert_eq!(done["progress"]["rejected"].as_str().unwrap_or("0"), "0");

    assert_eq!(count(&telco, "").await, 7043);
    // Known of the data set: 1,869 left, 11 have no total yet, 3,875 pay by the month.
    assert_eq!(count(&telco, "attributes.churn").await, 1869);
    assert_eq!(count(&telco, "!has(attributes.totalCharges)").await, 11);
    assert_eq!(count(&telco, "attributes.contract == \"Month-to-month\"").await, 3875);

    // The same file again changes nothing.
    let (again, _) = upload(&telco, "telco", FILE).await;
    json(telco.patch(&format!("/v1/customer/imports/{again}"), &json!({"mappings": wanted})).await).await;
    json(telco.post(&format!("/v1/customer/imports/{again}:start"), &json!({})).await).await;
    let done = after(&telco, &again, "IMPORT_STATE_RUNNING").await;
    let issues = telco.read(&format!("/v1/customer/imports/{again}/issues?pageSize=3")).await;
    assert_eq!(done["progress"]["unchanged"], "7043", "{issues}");

    // Undone, they are gone.
    json(telco.post(&format!("/v1/customer/imports/{import}:undo"), &json!({})).await).await;
    let undone = after(&telco, &import, "IMPORT_STATE_UNDOING").await;
    assert_eq!(undone["progress"]["undone"], "7043", "{undone}");
    assert_eq!(count(&telco, "").await, 0);
}

#[tokio::test]
async fn refused_rows_are_listed_and_can_be_mended() {
    let world = World::new().await;
    let telco = world.tenant("telco").await;
    let file = "name,headcount,founding_date\n甲公司,12,2004-09-28\n乙公司,many,2004-02-30\n,5,\n丁公司,7,\n";
    let (import, _) = upload(&telco, "list", file).await;
    json(telco.post(&format!("/v1/customer/imports/{import}:start"), &json!({})).await).await;
    let done = after(&telco, &import, "IMPORT_STATE_RUNNING").await;
    assert_eq!(
        (done["progress"]["created"].as_str(), done["progress"]["rejected"].as_str()),
        (Some("2"), Some("2"))
    );

    let issues = telco.read(&format!("/v1/customer/imports/{import}/issues")).await;
    let lines: Vec<_> = issues["issues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| (i["line"].clone(), i["column"].clone()))
        .collect();
    assert!(lines.contains(&(json!("3"), json!("headcount"))), "{issues}");
    assert!(lines.contains(&(json!("4"), json!("name"))), "{issues}");

    let csv = telco.get(&format!("/v1/customer/imports/{import}/issues.csv")).await.text().await.unwrap();
    assert!(csv.starts_with("rapport_problem,name,headcount,founding_date"), "{csv}");
    let mended = csv.replace("many", "40").replace("2004-02-30", "2004-02-29").replace(",,5,", ",丙公司,5,");
    let (second, _) = upload(&telco, "list", &mended).await;
    json(telco.post(&format!("/v1/customer/imports/{second}:start"), &json!({})).await).await;
    let done = after(&telco, &second, "IMPORT_STATE_RUNNING").await;
    assert_eq!(done["progress"]["created"], "2", "{done}");
}
