//! Whoever reads events, watches them or has them sent chooses them by the record that they are about, in the words of its lists.
use std::time::Duration;

use rapport_test_kit::{Caller, World, json};
use reqwest::Method;
use serde_json::{Value, json};

/// The condition behind the resource's name, where a name begins.
fn behind_resource(condition: &str) -> String {
    [
        "status",
        "industry",
        "owner",
        "headcount",
        "founding_date",
        "tags",
        "revenue",
        "create_time",
        "attributes",
    ]
    .iter()
    .fold(condition.to_owned(), |text, name| text.replace(name, &format!("customer.{name}")))
}

async fn page(caller: &Caller, path: &str, filter: &str) -> Value {
    let request = caller.request(Method::GET, path).query(&[("filter", filter), ("pageSize", "100")]);
    json(request.send().await.unwrap()).await
}

/// Events that satisfy the condition, once there are any: the log is a moment behind the answer.
async fn heard(caller: &Caller, service: &str, condition: &str) -> Value {
    for _ in 0..200 {
        let page = page(caller, &format!("/v1/services/{service}/events"), condition).await;
        if page["events"].as_array().is_some_and(|events| !events.is_empty()) {
            return page["events"].clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing is heard where {condition}");
}

/// Names of customers whose making satisfies the condition, sorted.
async fn told(caller: &Caller, condition: &str) -> Vec<String> {
    let page = page(caller, "/v1/services/customer/events", condition).await;
    names(page["events"].as_array(), |event| &event["data"]["customer"])
}

/// The same of the list.
async fn listed(caller: &Caller, condition: &str) -> Vec<String> {
    let page = page(caller, "/v1/customers", condition).await;
    names(page["customers"].as_array(), |customer| customer)
}

fn names(found: Option<&Vec<Value>>, customer: fn(&Value) -> &Value) -> Vec<String> {
    let name = |found: &Value| customer(found)["displayName"].as_str().map(str::to_owned);
    let mut names: Vec<_> = found.into_iter().flatten().filter_map(name).collect();
    names.sort();
    names
}

async fn refusal(caller: &Caller, condition: &str) -> String {
    let path = "/v1/services/customer/events:watch";
    let answer = caller.request(Method::GET, path).query(&[("filter", condition)]).send().await.unwrap();
    assert_eq!(answer.status(), 400, "{condition}");
    answer.text().await.unwrap()
}

async fn define(caller: &Caller, key: &str, kind: &str, choices: &[&str]) -> String {
    let choices: Vec<_> = choices.iter().map(|key| json!({"key": key})).collect();
    let field = json!({
        "resource": "customer", "key": key, "kind": format!("FIELD_KIND_{kind}"), "scale": 2,
        "labels": {"en": key}, "choices": choices,
    });
    let field = if kind == "NUMBER" { field } else { without(field, "scale") };
    json(caller.post("/v1/customer/fields", &field).await).await["id"].as_str().unwrap().to_owned()
}

fn without(mut object: Value, key: &str) -> Value {
    object.as_object_mut().unwrap().remove(key);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_chosen_by_what_they_are_about() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    for (key, kind, choices) in [
        ("creditLimit", "NUMBER", &[][..]),
        ("premium", "BOOLEAN", &[]),
        ("since", "DATE", &[]),
        ("level", "CHOICE", &["gold", "silver"]),
        ("interests", "MULTI_CHOICE", &["green", "black"]),
        ("deposit", "MONEY", &[]),
        ("hotline", "PHONE", &[]),
    ] {
        define(&tea, key, kind, choices).await;
    }
    let full = json!({
        "displayName": "西湖茶业", "status": "CUSTOMER_STATUS_EXISTING", "industry": "茶", "headcount": "0",
        "foundingDate": "2001-02-03", "tags": ["vip", "east"], "revenue": {"amount": "1234567.50", "currency": "CNY"},
        "attributes": {
            "creditLimit": "50000.25", "premium": false, "since": "2020-01-31", "level": "gold",
            "interests": ["green"], "deposit": {"amount": "12.50", "currency": "USD"},
            "hotline": {"number": "0571-8765 4321"},
        },
    });
    let some = json!({
        "displayName": "Some", "status": "CUSTOMER_STATUS_TARGET", "headcount": "12",
        "attributes": {"creditLimit": "9", "premium": true, "level": "silver"},
    });
    let bare = json!({"displayName": "Bare"});
    for customer in [&full, &some, &bare] {
        json(tea.post("/v1/customers", customer).await).await;
    }
    heard(&tea, "customer", r#"customer.display_name == "Bare""#).await;

    // Told as listed: the same condition on the event's record finds the same customers.
    let owner = format!("owner == \"{}\"", tea.user.id);
    for (condition, found) in [
        (r#"status == "existing""#, 1),
        (r#"status in ["existing", "target"]"#, 2),
        (r#"status != "existing""#, 2),
        (r#"industry.startsWith("茶") || headcount > 5"#, 2),
        ("has(headcount)", 2),
        ("headcount == 0", 1),
        (r#"founding_date < "2001-02-04""#, 1),
        (r#""vip" in tags"#, 1),
        (r#"revenue.amount >= 1234567.5 && revenue.currency == "CNY""#, 1),
        (owner.as_str(), 3),
        (r#"create_time > "2020-01-01T00:00:00Z""#, 3),
        ("attributes.creditLimit >= 50000.25", 1),
        ("attributes.creditLimit > 50000.25 || attributes.creditLimit < 10", 1),
        ("attributes.premium", 1),
        ("has(attributes.premium) && !attributes.premium", 1),
        (r#"attributes.since == "2020-01-31""#, 1),
        (r#"attributes.level == "gold""#, 1),
        (r#""green" in attributes.interests"#, 1),
        (r#"attributes.deposit.amount == 12.5 && attributes.deposit.currency == "USD""#, 1),
        (r#"attributes.hotline.e164 == "+8657187654321""#, 1),
        ("!has(attributes.level)", 1),
    ] {
        let listed = listed(&tea, condition).await;
        assert_eq!(listed.len(), found, "{condition}: {listed:?}");
        let condition = format!("resource == \"customer\" && ({})", behind_resource(condition));
        assert_eq!(told(&tea, &condition).await, listed, "{condition}");
    }

    // Each by its own record: what is asked of another one's is not there.
    let units = json!({"displayName": "East"});
    json(tea.post("/v1/units", &units).await).await;
    let east = heard(&tea, "identity", r#"unit.display_name == "East""#).await;
    assert_eq!(east.as_array().unwrap().len(), 1, "{east:#}");
    assert_eq!(east[0]["subject"], "unit.created.v1");

    let words = refusal(&tea, r#"customer.stat == "existing""#).await;
    assert!(words.contains("did you mean customer.status"), "{words}");
    let words = refusal(&tea, r#"customer.status == "exist""#).await;
    assert!(words.contains("existing"), "{words}");
    // What nobody tells, nobody can ask for.
    assert!(refusal(&tea, r#"field.indexing == "x""#).await.contains("unknown field"));

    // What a role hides cannot be found out by asking either.
    let role = json!({
        "displayName": "Junior",
        "permissions": [{"name": "customer.customers.read", "scope": "SCOPE_ALL"}],
        "fieldRights": [
            {"kind": "customer.customer", "field": "revenue", "access": "FIELD_ACCESS_NONE"},
            {"kind": "customer.customer", "field": "attributes.creditLimit", "access": "FIELD_ACCESS_NONE"},
        ],
    });
    let role = json(tea.post("/v1/roles", &role).await).await;
    let junior = tea.person_with(&[format!("identity.role/{}", role["id"].as_str().unwrap())]).await;
    for hidden in ["customer.revenue.amount > 1", "customer.attributes.creditLimit > 1", "has(field.key)"] {
        let words = refusal(&junior, hidden).await;
        assert!(words.contains("unknown field") && !words.contains("did you mean customer.rev"), "{words}");
    }
    assert_eq!(told(&junior, r#"customer.status == "existing""#).await, ["西湖茶业"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_whose_condition_names_a_field_that_is_gone_is_switched_off() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let field = define(&tea, "level", "CHOICE", &["gold"]).await;
    let hooks = "/v1/services/customer/webhooks";
    let webhook = |filter: &str| json!({"displayName": "erp", "url": "https://hooks.example.test/in", "filter": filter});
    let refused = tea.post(hooks, &webhook("customer.attributes.levl == 'gold'")).await;
    let words = refused.text().await.unwrap();
    assert!(words.contains("webhook.filter") && words.contains("customer.attributes.level"), "{words}");
    let made = json(tea.post(hooks, &webhook("customer.attributes.level == 'gold'")).await).await;
    let path = format!("{hooks}/{}", made["webhook"]["id"].as_str().unwrap());

    let archive = tea.request(Method::DELETE, &format!("/v1/customer/fields/{field}")).send().await.unwrap();
    assert_eq!(archive.status(), 200);
    json(tea.post("/v1/customers", &json!({"displayName": "Tea House"})).await).await;
    let mut webhook = tea.read(&path).await;
    for _ in 0..200 {
        if webhook["state"] == "WEBHOOK_STATE_OFF" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        webhook = tea.read(&path).await;
    }
    let reason = webhook["offReason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("what it sends cannot be chosen any more: filter: "), "{webhook:#}");
    assert!(reason.contains("unknown field `customer.attributes.level`"), "{reason}");
}
