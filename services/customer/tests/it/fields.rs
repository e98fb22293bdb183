use rapport_test_kit::{World, json};
use serde_json::json;

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
