//! An operator keeps a tenant's events for longer, and refuses it for a while: every service hears of it from identity.
use std::time::{Duration, Instant};

use rapport::suite::Role;
use rapport_proto::customer::v1::{CreateCustomerRequest, Customer};
use rapport_test_kit::{Tenant, World, json};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tonic::Status;
use uuid::Uuid;

/// How long it may take until a service knows.
const SOON: Duration = Duration::from_secs(1);

/// An operator's call.
async fn operate(world: &World, method: Method, path: &str, body: &Value) -> Value {
    let url = format!("{}/v1/tenants/{path}", world.url());
    let call = Client::new().request(method, url).bearer_auth(world.operator_key().await).json(body);
    json(call.send().await.unwrap()).await
}

/// A new customer by gRPC, under a token of before.
async fn create(tenant: &Tenant, name: &str) -> Result<(), Status> {
    let customer = Customer { display_name: name.into(), ..Customer::default() };
    let request = CreateCustomerRequest { customer: Some(customer), ..CreateCustomerRequest::default() };
    tenant.customers().create_customer(request).await.map(drop)
}

/// Waits until this holds; says how long that took.
async fn until(mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < 10 * SOON, "it does not come to hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_decides_holds_everywhere() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let id: Uuid = tea.id.parse().unwrap();
    let kept =
        operate(&world, Method::PATCH, &tea.id, &json!({"logRetention": "LOG_RETENTION_EXTENDED"})).await;
    assert_eq!(kept["logRetention"], "LOG_RETENTION_EXTENDED");
    for service in [Role::Identity, Role::Customer] {
        let mut conn = world.databases.superuser(service).await;
        let took = until(async || {
            let class = "SELECT retention FROM platform.tenants WHERE id = $1";
            let class: String = sqlx::query_scalar(class).bind(id).fetch_one(&mut conn).await.unwrap();
            class == "extended"
        })
        .await;
        assert!(took < SOON, "{took:?}");
    }
    create(&tea, "龙井茶业").await.unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    until(async || {
        let filed = "SELECT count(*) FROM platform.event_log WHERE tenant_id = $1 AND retention = 'extended'";
        let filed: i64 = sqlx::query_scalar(filed).bind(id).fetch_one(&mut conn).await.unwrap();
        filed == 1
    })
    .await;

    // Tokens live for minutes, but a service that has heard does not serve them.
    operate(&world, Method::POST, &format!("{}:suspend", tea.id), &json!({})).await;
    let took = until(async || create(&tea, "Assam Tea").await.is_err()).await;
    assert!(took < SOON, "{took:?}");
    operate(&world, Method::POST, &format!("{}:resume", tea.id), &json!({})).await;
    let took = until(async || create(&tea, "Assam Tea").await.is_ok()).await;
    assert!(took < SOON, "{took:?}");
}
