//! Poison: events that customer cannot work off, because its database refuses what they say. They are parked with what follows
//! of their records, and everything else goes on; when the cause is mended, they are tried again.
use std::time::{Duration, Instant};

use rapport::suite::Role;
use rapport_test_kit::Databases;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{
    load::{Account, try_to_call},
    process::Place,
};

/// Refuses a few names in a hundred: `unit-13-7`, say. One table after the other, since effects have written to both in any order.
const POISON: [&str; 2] = [
    "ALTER TABLE directory_users ADD CONSTRAINT poison CHECK (display_name !~ '[37]-[0-9]*[37]$') NOT VALID",
    "ALTER TABLE directory_units ADD CONSTRAINT poison CHECK (display_name !~ '[37]-[0-9]*[37]$') NOT VALID",
];
const MEND: [&str; 2] = [
    "ALTER TABLE directory_users DROP CONSTRAINT IF EXISTS poison",
    "ALTER TABLE directory_units DROP CONSTRAINT IF EXISTS poison",
];

/// What is parked and waits, oldest first.
const PARKED: &str =
    "/v1/services/customer/parkedItems?filter=state%20%3D%3D%20%22parked%22&orderBy=create_time";

/// Makes some events poison; when some are, mends the cause.
pub(super) async fn turn(databases: &Databases, poisoned: bool) {
    let mut customer = databases.superuser(Role::Customer).await;
    for sql in if poisoned { MEND } else { POISON } {
        customer.execute(sql).await.unwrap();
    }
}

/// How many events were parked because they were poison.
pub(super) async fn parked(databases: &Databases) -> i64 {
    let parked = sqlx::query_scalar("SELECT count(*) FROM parked_items WHERE reason <> 'BEHIND'");
    parked.fetch_one(&mut databases.superuser(Role::Customer).await).await.unwrap()
}

/// Mends the cause, and has what is parked tried again by each tenant's administrator, as people would.
pub(super) async fn cure(databases: &Databases, accounts: &[Account], place: &Place, patience: Duration) {
    turn(databases, true).await;
    let (client, begun) = (Client::new(), Instant::now());
    for account in accounts {
        while begun.elapsed() < patience {
            let place = place.lock().unwrap().clone().unwrap();
            let call = async |method, path: &str, body: &Value| {
                let (url, key) = (format!("{place}{path}"), begun.elapsed().as_nanos().to_string());
                try_to_call(&client, account, &method, &url, body, &key).await.map(Result::unwrap)
            };
            let page = call(Method::GET, PARKED, &Value::Null).await.unwrap_or_default();
            let items = page["parkedItems"].as_array().cloned().unwrap_or_default();
            if page.is_object() && items.is_empty() {
                break;
            }
            for item in items {
                let id = item["id"].as_str().unwrap();
                call(Method::POST, &format!("/v1/services/customer/parkedItems/{id}:replay"), &json!({}))
                    .await;
            }
        }
    }
}
