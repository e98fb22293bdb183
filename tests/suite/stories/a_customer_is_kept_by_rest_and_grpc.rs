//! The same customer by REST and by gRPC, found, changed, deleted and brought back.
use rapport_proto::customer::v1 as pb;
use rapport_test_kit::{World, json};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_customer_is_kept_by_rest_and_grpc() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let body = json!({
        "displayName": "杭州西湖茶业有限公司",
        "phones": [{"number": "0571-8765 4321"}],
        "revenue": {"amount": "1200000.5", "currency": "CNY"},
        "externalIds": [{"source": "erp", "externalId": "4711"}],
    });
    let created = json(tea.post("/v1/customers", &body).await).await;
    assert_eq!(created["phones"][0]["e164"], "+8657187654321");
    assert_eq!(created["revenue"]["amount"], "1200000.50");
    assert_eq!(created["owner"], tea.name());

    let id = created["id"].as_str().unwrap().to_owned();
    let by_grpc =
        tea.customers().get_customer(pb::GetCustomerRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!(by_grpc.display_name, "杭州西湖茶业有限公司");

    let found = tea.read("/v1/customers:search?query=西湖").await;
    assert_eq!(found["customers"][0]["id"], id);
    let listed = tea.read("/v1/customers?filter=revenue.amount%20%3E%201000000&orderBy=display_name").await;
    assert_eq!(listed["customers"].as_array().unwrap().len(), 1);

    let change = json!({"etag": created["etag"], "displayName": "Hangzhou West Lake Tea"});
    let changed = json(tea.patch(&format!("/v1/customers/{id}"), &change).await).await;
    assert_eq!(changed["etag"], "2");
    let stale = tea.patch(&format!("/v1/customers/{id}"), &change).await;
    assert_eq!(stale.status(), 409);

    let deleted =
        json(tea.request(Method::DELETE, &format!("/v1/customers/{id}")).send().await.unwrap()).await;
    assert!(deleted["deleteTime"].is_string());
    assert_eq!(tea.read("/v1/customers").await["customers"].as_array().unwrap().len(), 0);
    let back = json(tea.post(&format!("/v1/customers/{id}:undelete"), &json!({})).await).await;
    assert_eq!((back["deleteTime"].as_str(), back["etag"].as_str()), (None, Some("4")));
}
