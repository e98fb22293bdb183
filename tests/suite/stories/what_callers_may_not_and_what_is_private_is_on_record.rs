//! Who tries what they may not, and who reads what the tenant hides from others, stands in the audit trail a moment later, for
//! those who may read that.
use std::time::Duration;

use rapport_runtime::witness::Gathering;
use rapport_test_kit::{Caller, Options, World, json};
use serde_json::{Value, json};

/// The events of identity with this subject, as this caller hears them, once there are any.
async fn heard(caller: &Caller, subject: &str) -> Vec<Value> {
    for _ in 0..200 {
        let events = events(caller, subject).await;
        if !events.is_empty() {
            return events;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing is heard of {subject}");
}

async fn events(caller: &Caller, subject: &str) -> Vec<Value> {
    let page = caller.read("/v1/services/identity/events?pageSize=1000").await;
    let events = page["events"].as_array().cloned().unwrap_or_default();
    events.into_iter().filter(|event| event["subject"] == subject).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_may_not_and_what_is_private_is_on_record() {
    let gathering = Gathering { refusals: Duration::from_secs(1), reads: Duration::from_secs(1) };
    let world = World::with(Options { gathering, ..Options::default() }).await;
    let tea = world.tenant("tea").await;
    let seller = tea.person("sales").await;

    // What the contract refuses, twice, and what a handler refuses.
    for _ in 0..2 {
        let refused = seller.post("/v1/roles", &json!({"displayName": "mine"})).await;
        assert_eq!(refused.status(), 403);
    }
    let customer = json!({"displayName": "西湖茶业", "owner": tea.name()});
    let refused = seller.post("/v1/customers", &customer).await;
    assert_eq!(refused.status(), 403);
    heard(&tea, "access.refused.v1").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refusals = heard(&tea, "access.refused.v1").await;
    let told: Vec<_> = refusals
        .iter()
        .map(|event| {
            let data = &event["data"];
            let method = data["method"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            (method, data["permission"].as_str().unwrap().to_owned(), data["count"].clone())
        })
        .collect();
    let expected = |method: &str, permission: &str, count: &str| {
        (method.to_owned(), permission.to_owned(), json!(count))
    };
    let mut told = told;
    told.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        told,
        [
            expected("CreateCustomer", "customer.customers.create", "1"),
            expected("CreateRole", "identity.roles.manage", "2")
        ]
    );
    for event in &refusals {
        assert_eq!((&event["principal"], &event["record"]), (&json!(seller.name()), &json!(seller.name())));
        assert_eq!((&event["via"], &event["data"]["address"]), (&json!("console"), &json!("127.0.0.1")));
    }
    assert!(events(&seller, "access.refused.v1").await.is_empty(), "it is not for everybody");

    // Nothing is private until the tenant hides it from somebody.
    let name = json!({"displayName": "西湖茶业", "revenue": {"amount": "12.50", "currency": "CNY"}});
    let id = json(tea.post("/v1/customers", &name).await).await["id"].as_str().unwrap().to_owned();
    tea.read(&format!("/v1/customers/{id}")).await;
    let role = json!({
        "displayName": "Junior",
        "permissions": [{"name": "customer.customers.read", "scope": "SCOPE_ALL"}],
        "fieldRights": [{"kind": "customer.customer", "field": "revenue", "access": "FIELD_ACCESS_NONE"}],
    });
    let role = json(tea.post("/v1/roles", &role).await).await;
    let junior = tea.person_with(&[format!("identity.role/{}", role["id"].as_str().unwrap())]).await;
    // A token lives on at the gateway for a few seconds: a session of one's own has a new one.
    let boss = tea.person("administrator").await;
    assert!(junior.read(&format!("/v1/customers/{id}")).await.get("revenue").is_none());
    boss.read(&format!("/v1/customers/{id}")).await;
    boss.read("/v1/customers").await;
    heard(&tea, "private_fields.read.v1").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut reads = heard(&tea, "private_fields.read.v1").await;
    reads.sort_by_key(|event| event["data"]["method"].to_string());
    let told: Vec<_> = reads
        .iter()
        .map(|e| (e["record"].clone(), e["data"]["fields"].clone(), e["data"]["count"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!(boss.name()), json!(["revenue"]), json!("1")),
            (json!(boss.name()), json!(["revenue"]), json!("1"))
        ]
    );
}
