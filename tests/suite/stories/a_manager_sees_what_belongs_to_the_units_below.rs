//! A manager sees the customers of the unit and of the units below it, and of others when the tree changes: customer hears
//! of it from identity.
use std::time::{Duration, Instant};

use rapport_test_kit::{Caller, Tenant, World, json};
use reqwest::Method;
use serde_json::json;

/// How long it may take until a change of the tree shows in what people see.
const SOON: Duration = Duration::from_secs(1);

/// Makes a unit below another one; says its name.
async fn unit(tenant: &Tenant, name: &str, parent: &str) -> String {
    let unit = json(tenant.post("/v1/units", &json!({"displayName": name, "parent": parent})).await).await;
    format!("identity.unit/{}", unit["id"].as_str().unwrap())
}

/// Puts a person into a unit.
async fn put(tenant: &Tenant, person: &Caller, unit: &str) {
    let path = format!("/v1/users/{}", person.user.id);
    json(tenant.patch(&path, &json!({"unit": unit})).await).await;
}

async fn moved(tenant: &Tenant, unit: &str, parent: &str) {
    let path = format!("/v1/units/{}", unit.strip_prefix("identity.unit/").unwrap());
    json(tenant.patch(&path, &json!({"parent": parent})).await).await;
}

/// The names of the customers that somebody sees, in a list and by search.
async fn seen(caller: &Caller) -> [Vec<String>; 2] {
    let paths = ["/v1/customers", "/v1/customers:search?query=茶业"];
    let names = async |path| -> Vec<String> {
        let answer = caller.read(path).await;
        let customers = answer["customers"].as_array().unwrap().iter();
        let mut names: Vec<_> = customers.map(|c| c["displayName"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    [names(paths[0]).await, names(paths[1]).await]
}

/// Waits until somebody sees these customers, in both ways; says how long it took.
async fn sees(caller: &Caller, expected: &[&str]) -> Duration {
    let began = Instant::now();
    loop {
        let seen = seen(caller).await;
        if seen.iter().all(|names| names == expected) {
            return began.elapsed();
        }
        assert!(began.elapsed() < 10 * SOON, "{seen:?} are seen, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_sees_what_belongs_to_the_units_below() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let north = unit(&tea, "North", "").await;
    let south = unit(&tea, "South", "").await;
    let hangzhou = unit(&tea, "Hangzhou", &south).await;
    let (manager, seller, other) =
        (tea.person("manager").await, tea.person("sales").await, tea.person("sales").await);
    put(&tea, &manager, &south).await;
    put(&tea, &seller, &hangzhou).await;
    put(&tea, &other, &north).await;
    // What a seller makes belongs to the seller's unit, as soon as that is heard of.
    let mut made = Vec::new();
    for (seller, unit, name) in [(&seller, &hangzhou, "杭州茶业"), (&other, &north, "北方茶业")] {
        loop {
            let customer = json(seller.post("/v1/customers", &json!({"displayName": name})).await).await;
            if customer["unit"] == **unit {
                made.push(customer["id"].as_str().unwrap().to_owned());
                break;
            }
            let path = format!("/v1/customers/{}", customer["id"].as_str().unwrap());
            json(tea.request(Method::DELETE, &path).send().await.unwrap()).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    sees(&manager, &["杭州茶业"]).await;
    sees(&seller, &["杭州茶业"]).await;
    sees(&other, &["北方茶业"]).await;

    // The manager may change it, and only it.
    let path = |customer: &String| format!("/v1/customers/{customer}");
    json(manager.patch(&path(&made[0]), &json!({"industry": "tea"})).await).await;
    assert_eq!(manager.patch(&path(&made[1]), &json!({"industry": "tea"})).await.status(), 404);

    // Hangzhou moves to the north, and back.
    moved(&tea, &hangzhou, &north).await;
    let took = sees(&manager, &[]).await;
    assert!(took < SOON, "it took {took:?}");
    moved(&tea, &hangzhou, &south).await;
    let took = sees(&manager, &["杭州茶业"]).await;
    assert!(took < SOON, "it took {took:?}");

    // The manager moves above both.
    let china = unit(&tea, "China", "").await;
    moved(&tea, &north, &china).await;
    moved(&tea, &south, &china).await;
    put(&tea, &manager, &china).await;
    sees(&manager, &["北方茶业", "杭州茶业"]).await;
}
