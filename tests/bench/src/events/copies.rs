//! How long it takes to make a copy of a million customers, while some of them change.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rapport::suite::Role;
use rapport_events::{Copies, Reactions, Table};
use rapport_proto::customer::v1::{
    Customer, CustomerCreated, CustomerDeleted, CustomerUpdated, ListCustomersRequest, UpdateCustomerRequest,
};
use rapport_test_kit::{Caller, Tenant, World};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::sleep;
use uuid::Uuid;

use super::Other;
use crate::{
    figure::{Aim, Figure},
    process::resident_mb,
};

const CUSTOMERS: i64 = 1_000_000;
/// Between two changes meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

const COPIED: Table = Table {
    name: "copy-customers",
    resource: "customer",
    table: "copied",
    columns: "display_name, status, industry, owner_id",
    afterwards: None,
};

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let tenant = world.tenant("many").await;
    fill(&world, &tenant).await;
    let other = Other::new(&world, "copies").await;
    let mut there = PgConnection::connect(&other.url).await.unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let changing = tokio::spawn(change(world.grpc_url(), (*tenant).clone(), over.clone()));
    let begun = Instant::now();
    let stop = other.hear(&world, reactions()).await;
    let (mut early, mut most) = (0.0_f64, 0.0_f64);
    let mut complete = "SELECT records FROM platform.copies WHERE name = 'copy-customers'";
    let records: i64 = loop {
        sleep(Duration::from_millis(200)).await;
        let now = resident_mb(std::process::id());
        if begun.elapsed() < Duration::from_secs(5) {
            early = early.max(now);
        }
        most = most.max(now);
        if let Some(records) = sqlx::query_scalar(complete).fetch_optional(&mut there).await.unwrap() {
            break records;
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    assert!(records >= CUSTOMERS, "{records}");

    over.store(true, Ordering::Relaxed);
    let changes = changing.await.unwrap();
    other.has_heard_all(&world).await;
    let sums: Vec<String> = {
        let mut owner = world.databases.superuser(Role::Customer).await;
        let sum = |table, live| {
            AssertSqlSafe(format!(
                "SELECT md5(string_agg(concat_ws(' ', tenant_id, id, version, display_name, status, industry, owner_id), ','
                   ORDER BY tenant_id, id)) FROM {table} WHERE {live}"
            ))
        };
        vec![
            sqlx::query_scalar(sum("customers", "delete_time IS NULL")).fetch_one(&mut owner).await.unwrap(),
            sqlx::query_scalar(sum("copied", "NOT deleted")).fetch_one(&mut there).await.unwrap(),
        ]
    };
    assert_eq!(sums[0], sums[1], "the copies are the customers");

    // Once more, as every day: nothing is written.
    complete = "SELECT last_differences FROM platform.copies WHERE compare_time > 'epoch'";
    sqlx::query("UPDATE platform.copies SET compare_time = 'epoch'").execute(&mut there).await.unwrap();
    let begun = Instant::now();
    let differences: i64 = loop {
        sleep(Duration::from_millis(200)).await;
        if let Some(differences) = sqlx::query_scalar(complete).fetch_optional(&mut there).await.unwrap() {
            break differences;
        }
    };
    assert_eq!(differences, 0);
    stop.cancel();
    vec![
        Figure::plain(
            "a copy of 1,000,000 customers made complete while some change",
            "s",
            seconds,
            Aim::AtMost(120.0),
        ),
        Figure::plain("— changes meanwhile", "/s", changes as f64 / seconds, Aim::None),
        Figure::ratio(
            "— memory, the most against that of the first 5 s",
            "MB",
            most,
            early,
            Aim::AtMost(1.25),
        ),
        Figure::plain("— compared", "s", begun.elapsed().as_secs_f64(), Aim::None),
    ]
}

fn reactions() -> Reactions {
    let copies = Copies::new(COPIED, facts)
        .told_by(|event: &CustomerCreated| event.customer.as_ref())
        .told_by(|event: &CustomerUpdated| event.customer.as_ref())
        .gone_by::<CustomerDeleted>();
    Reactions::to("customer").keep(copies)
}

fn facts(customer: &Customer) -> Value {
    let owner = customer.owner.rsplit_once('/').map(|(_, id)| id);
    json!({
        "display_name": customer.display_name,
        "status": customer.status().as_str_name().trim_start_matches("CUSTOMER_STATUS_").to_lowercase(),
        "industry": customer.industry,
        "owner_id": owner,
    })
}

/// Customers as an import leaves them, but for their events, which were dropped long ago.
async fn fill(world: &World, tenant: &Tenant) {
    let mut conn = world.databases.superuser(Role::Customer).await;
    sqlx::query(
        "INSERT INTO customers (tenant_id, id, version, type, display_name, status, kind, phones, emails, addresses, industry,
           tags, attributes, external_ids, create_time, update_time)
         SELECT $1, gen_random_uuid(), 1, 'company', 'Harbour Supplies ' || n, 'potential', 'business',
           '[{\"number\": \"0571-8765 4321\", \"e164\": \"+8657187654321\", \"label\": \"work\"}]', '[]', '[]', 'trade', '{}', '{}', '[]', now(), now()
         FROM generate_series(1, $2) AS n",
    )
    .bind(tenant.id.parse::<Uuid>().unwrap())
    .bind(CUSTOMERS)
    .execute(&mut conn)
    .await
    .unwrap();
    sqlx::raw_sql("VACUUM ANALYZE customers").execute(&mut conn).await.unwrap();
}

/// Changes one customer after the other, each once; says how many.
async fn change(url: String, caller: Caller, over: Arc<AtomicBool>) -> usize {
    let mut token = String::new();
    let mut changed = 0;
    loop {
        let mut customers = caller.renewed().await.customers_at(&url);
        let request =
            ListCustomersRequest { page_size: 200, page_token: token, ..ListCustomersRequest::default() };
        let page = customers.list_customers(request).await.unwrap().into_inner();
        for customer in page.customers {
            if over.load(Ordering::Relaxed) {
                return changed;
            }
            let update = UpdateCustomerRequest {
                customer: Some(Customer {
                    id: customer.id,
                    etag: customer.etag,
                    industry: "shipping".into(),
                    ..Customer::default()
                }),
                ..UpdateCustomerRequest::default()
            };
            customers.update_customer(update).await.unwrap();
            changed += 1;
            sleep(PAUSE).await;
        }
        token = page.next_page_token;
    }
}
