use prost::Message as _;
use rapport::suite::Role;
use rapport_proto::customer::v1 as pb;
use rapport_test_kit::{Caller, EVENTS, Tenant, World, json};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _};

#[tokio::test]
async fn a_field_is_there_at_once_and_its_data_outlive_it() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let early = tea.post("/v1/customers", &json!({"displayName": "a", "attributes": {"city": "杭州"}})).await;
    assert_eq!(early.status(), 400);
    let field = json!({"resource": "customer", "key": "city", "kind": "FIELD_KIND_TEXT", "labels": {"zh-CN": "城市"}, "indexed": true});
    let field = json(tea.post("/v1/customer/fields", &field).await).await;
    let customer =
        json(tea.post("/v1/customers", &json!({"displayName": "a", "attributes": {"city": "杭州"}})).await)
            .await;
    assert_eq!(customer["attributes"]["city"], "杭州");
    let listed = tea
        .read("/v1/customers?filter=attributes.city%20==%20%22%E6%9D%AD%E5%B7%9E%22&orderBy=attributes.city")
        .await;
    assert_eq!(listed["customers"].as_array().unwrap().len(), 1);

    let wrong = tea.post("/v1/customers", &json!({"displayName": "b", "attributes": {"citi": "x"}})).await;
    let problem: serde_json::Value = wrong.json().await.unwrap();
    assert_eq!(problem["violations"][0]["field"], "customer.attributes.citi");
    assert_eq!(problem["violations"][0]["problem"], "there is no such field; did you mean `city`");

    let path = format!("/v1/customer/fields/{}", field["id"].as_str().unwrap());
    json(tea.request(reqwest::Method::DELETE, &path).send().await.unwrap()).await;
    let gone = tea.get("/v1/customers?filter=attributes.city%20==%20%22x%22").await;
    assert_eq!(gone.status(), 400);
    json(tea.post(&format!("{path}:undelete"), &json!({})).await).await;
    let again = tea.read(&format!("/v1/customers/{}", customer["id"].as_str().unwrap())).await;
    assert_eq!(again["attributes"]["city"], "杭州");
}

#[tokio::test]
async fn numbers_are_exact_however_they_are_sent() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let field = json!({"resource": "customer", "key": "charge", "kind": "FIELD_KIND_NUMBER", "scale": 2, "labels": {"en": "Charge"}});
    json(tea.post("/v1/customer/fields", &field).await).await;
    for (sent, kept) in
        [(json!("29.85"), "29.85"), (json!(29.85), "29.85"), (json!(7), "7.00"), (json!(0.1), "0.10")]
    {
        let body = json!({"displayName": "a", "attributes": {"charge": sent}});
        let customer = json(tea.post("/v1/customers", &body).await).await;
        assert_eq!(customer["attributes"]["charge"], kept);
    }
    let finer =
        tea.post("/v1/customers", &json!({"displayName": "a", "attributes": {"charge": "1.005"}})).await;
    let problem: serde_json::Value = finer.json().await.unwrap();
    assert_eq!(problem["violations"][0]["problem"], "`1.005` has 3 decimal places; 2 are allowed");
}

#[tokio::test]
async fn a_field_that_a_role_hides_does_not_exist_for_its_people() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let role = json!({
        "displayName": "Blind", "permissions": [{"name": "customer.customers.read", "scope": "SCOPE_ALL"},
            {"name": "customer.customers.update", "scope": "SCOPE_ALL"}],
        "fieldRights": [{"kind": "customer.customer", "field": "revenue", "access": "FIELD_ACCESS_NONE"},
            {"kind": "customer.customer", "field": "industry", "access": "FIELD_ACCESS_READ"}],
    });
    let role = json(tea.post("/v1/roles", &role).await).await;
    let blind = tea.person_with(&[format!("identity.role/{}", role["id"].as_str().unwrap())]).await;
    let body = json!({"displayName": "a", "industry": "tea", "revenue": {"amount": "5", "currency": "CNY"}});
    let customer = json(tea.post("/v1/customers", &body).await).await;
    let path = format!("/v1/customers/{}", customer["id"].as_str().unwrap());

    let seen = blind.read(&path).await;
    assert_eq!((seen["industry"].as_str(), seen.get("revenue")), (Some("tea"), None));
    let filtered = blind.get("/v1/customers?filter=revenue.amount%20%3E%201").await;
    assert!(filtered.text().await.unwrap().contains("unknown field `revenue.amount`"));
    let hidden = blind.patch(&path, &json!({"revenue": {"amount": "6", "currency": "CNY"}})).await;
    assert_eq!(hidden.status(), 400);
    let locked = blind.patch(&path, &json!({"industry": "silk"})).await;
    assert_eq!(locked.status(), 403);
}

/// Defines a text field of customers; says where it is.
async fn text_field(tenant: &Tenant, key: &str) -> String {
    let field = json!({"resource": "customer", "key": key, "kind": "FIELD_KIND_TEXT", "labels": {"en": key}});
    let field = json(tenant.post("/v1/customer/fields", &field).await).await;
    format!("/v1/customer/fields/{}", field["id"].as_str().unwrap())
}

/// The customer's custom values by every way that gives customers out, which all say the same.
async fn given_out(caller: &Caller, id: &str, industry: &str) -> Value {
    let path = format!("/v1/customers/{id}");
    let update = json!({"update": {"customer": {"id": id, "industry": industry}}});
    let batch = json!({"changes": [update]});
    let got = caller.read(&path).await;
    let same = [
        caller
            .patch(&path, &json!({"industry": industry.to_uppercase()}))
            .await
            .json::<Value>()
            .await
            .unwrap(),
        caller.read("/v1/customers").await["customers"][0].clone(),
        caller.read("/v1/customers:search?query=Longjing").await["customers"][0].clone(),
        json(caller.post("/v1/customers:batch", &batch).await).await["results"][0]["customer"].clone(),
    ];
    for other in same {
        assert_eq!((&other["id"], &other["attributes"]), (&got["id"], &got["attributes"]), "{other}");
    }
    got["attributes"].clone()
}

/// The custom values in the events about a customer, in order: afterwards, and before where the event has that.
async fn told(world: &World, id: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let rows = sqlx::query(
AssertSqlSafe(format!(
        "SELECT payload FROM {EVENTS} WHERE record_id = $1 AND subject <> 'customer.created.v1' ORDER BY event_id",
    )))
    .bind(id.parse::<uuid::Uuid>().unwrap())
    .fetch_all(&mut world.databases.superuser(Role::Customer).await)
    .await
    .unwrap();
    let keys = |customer: Option<pb::Customer>| -> Vec<String> {
        let attributes = customer.and_then(|customer| customer.attributes).unwrap_or_default();
        attributes.fields.into_keys().collect()
    };
    rows.iter()
        .map(|row| pb::CustomerUpdated::decode(row.get::<&[u8], _>("payload")).unwrap())
        .map(|event| (keys(event.customer), keys(event.before)))
        .collect()
}

#[tokio::test]
async fn values_of_an_archived_field_are_kept_but_not_given_out() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let (city, _) = (text_field(&tea, "city").await, text_field(&tea, "size").await);
    let body = json!({"displayName": "Longjing", "attributes": {"city": "杭州", "size": "L"}});
    let customer = json(tea.post("/v1/customers", &body).await).await;
    let id = customer["id"].as_str().unwrap();
    assert_eq!(given_out(&tea, id, "a").await, json!({"city": "杭州", "size": "L"}));

    json(tea.request(Method::DELETE, &city).send().await.unwrap()).await;
    assert_eq!(given_out(&tea, id, "b").await, json!({"size": "L"}));
    let path = format!("/v1/customers/{id}");
    json(tea.patch(&path, &json!({"attributes": {"size": "M"}})).await).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let events = told(&world, id).await;
    assert!(events[..2].iter().all(|(after, _)| *after == names(&["city", "size"])), "{events:?}");
    assert!(events[2..].iter().all(|(after, _)| *after == names(&["size"])), "{events:?}");
    assert_eq!(events.last().unwrap().1, names(&["size"]));

    json(tea.post(&format!("{city}:undelete"), &json!({})).await).await;
    assert_eq!(given_out(&tea, id, "c").await, json!({"city": "杭州", "size": "M"}));
}

#[tokio::test]
async fn a_custom_value_that_a_role_hides_is_told_in_events_but_not_to_its_people() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    text_field(&tea, "city").await;
    text_field(&tea, "size").await;
    let role = json!({
        "displayName": "Blind", "permissions": [{"name": "customer.customers.read", "scope": "SCOPE_ALL"},
            {"name": "customer.customers.update", "scope": "SCOPE_ALL"}],
        "fieldRights": [{"kind": "customer.customer", "field": "attributes.city", "access": "FIELD_ACCESS_NONE"}],
    });
    let role = json(tea.post("/v1/roles", &role).await).await;
    let blind = tea.person_with(&[format!("identity.role/{}", role["id"].as_str().unwrap())]).await;
    let body = json!({"displayName": "Longjing", "attributes": {"city": "杭州", "size": "L"}});
    let customer = json(tea.post("/v1/customers", &body).await).await;
    let id = customer["id"].as_str().unwrap();

    assert_eq!(given_out(&blind, id, "a").await, json!({"size": "L"}));
    let path = format!("/v1/customers/{id}");
    let changed = json(blind.patch(&path, &json!({"attributes": {"size": "M"}})).await).await;
    assert_eq!(changed["attributes"], json!({"size": "M"}));
    let refused = blind.patch(&path, &json!({"attributes": {"city": "x"}})).await;
    assert_eq!(refused.status(), 400);
    let events = told(&world, id).await;
    assert!(events.iter().all(|(after, _)| after.len() == 2), "{events:?}");
    assert_eq!(tea.read(&path).await["attributes"], json!({"city": "杭州", "size": "M"}));
}
