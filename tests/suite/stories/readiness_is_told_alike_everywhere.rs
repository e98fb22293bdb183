//! The first page, `/readyz` and gRPC health tell the same, since they ask the same.
use rapport::suite::Role;
use rapport_test_kit::World;
use serde_json::Value;
use sqlx::Executor as _;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// What each of them says.
async fn told(world: &World) -> (Vec<(String, bool)>, (u16, bool), bool) {
    let get = async |path: &str| reqwest::get(format!("{}{path}", world.url())).await.unwrap();
    let home: Value = get("/").await.json().await.unwrap();
    let services = home["services"].as_array().unwrap().iter();
    let services = services
        .map(|service| (service["name"].as_str().unwrap().to_owned(), service["ready"].as_bool().unwrap()))
        .collect();
    let answer = get("/readyz").await;
    let status = answer.status().as_u16();
    let report: Value = answer.json().await.unwrap();
    let channel = tonic::transport::Channel::from_shared(world.url()).unwrap().connect().await.unwrap();
    let asked = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap().into_inner();
    (services, (status, report["ready"].as_bool().unwrap()), asked.status() == ServingStatus::Serving)
}

/// They say so, within the few seconds that an answer is remembered.
async fn agree(world: &World, ready: bool) {
    let services = ["customer", "identity"].map(|name| (name.to_owned(), ready)).to_vec();
    let expected = (services, (if ready { 200 } else { 503 }, ready), ready);
    let begun = std::time::Instant::now();
    loop {
        let told = told(world).await;
        if told == expected {
            return;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{told:?} instead of {expected:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn readiness_is_told_alike_everywhere() {
    let world = World::new().await;
    agree(&world, true).await;

    // The customers' database lets nobody in.
    let mut admin = world.databases.superuser(Role::Customer).await;
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut admin).await.unwrap();
    let closed = format!(
        "REVOKE CONNECT ON DATABASE {database} FROM rapport_customer;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND usename = 'rapport_customer'"
    );
    admin.execute(sqlx::AssertSqlSafe(closed)).await.unwrap();
    agree(&world, false).await;

    let open = format!("GRANT CONNECT ON DATABASE {database} TO rapport_customer");
    admin.execute(sqlx::AssertSqlSafe(open)).await.unwrap();
    agree(&world, true).await;
}
