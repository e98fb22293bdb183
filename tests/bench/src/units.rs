//! Lists of what belongs to a manager's unit and to those below it, with a thousand units in sight, against the same by hand.
use std::time::Instant;

use hdrhistogram::Histogram;
use rapport::suite::Role;
use rapport_proto::customer::v1::ListCustomersRequest;
use rapport_test_kit::{Caller, Tenant, World};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::{
    figure::{Aim, Figure},
    load::times,
};

const UNITS: i64 = 1_000;
const CUSTOMERS: i64 = 100_000;
const CALLS: usize = 600;

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let tenant = world.tenant("units").await;
    let manager = manager(&tenant).await;
    let mut superuser = world.databases.superuser(Role::Customer).await;
    fill(&tenant, &manager, &mut superuser).await;
    others(&mut superuser).await;
    let mut figures = Vec::new();
    for (name, filter, order_by, condition, sorted) in [
        ("newest first", "", "create_time desc", "true", "c.create_time DESC, c.id DESC"),
        (
            "by industry, by name",
            "industry == \"trade\"",
            "display_name",
            "c.industry = 'trade'",
            "c.display_name, c.id",
        ),
    ] {
        let request = ListCustomersRequest {
            filter: filter.into(),
            order_by: order_by.into(),
            page_size: 50,
            ..ListCustomersRequest::default()
        };
        let hand = format!(
            "SELECT c.* FROM customers c WHERE c.tenant_id = '{0}' AND c.delete_time IS NULL AND {condition} AND
               (c.owner_id = '{1}' OR c.unit_id IN (SELECT b.unit_id FROM directory_units_below b
                  JOIN directory_users u ON u.tenant_id = b.tenant_id AND u.unit_id = b.above_id
                  WHERE b.tenant_id = '{0}' AND u.id = '{1}')
                OR c.id IN (SELECT record_id FROM record_shares WHERE tenant_id = '{0}' AND resource = 'customer' AND principal = '{1}'))
             ORDER BY {sorted} LIMIT 51",
            tenant.id, manager.user.id
        );
        let (list, hand) = compare(&world, &manager, &request, &hand, &mut superuser).await;
        let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1_000.0;
        let name = format!("list of 50, {name}, of a manager with 1,000 units in sight, p99");
        figures.push(Figure::ratio(&name, "ms", p99(&list), p99(&hand), Aim::AtMost(3.0)));
        let p50 = |times: &Histogram<u64>| times.value_at_quantile(0.5) as f64 / 1_000.0;
        figures.push(Figure::ratio("— p50", "ms", p50(&list), p50(&hand), Aim::None));
        let all = by_everybody(&world, &tenant, &request).await;
        figures.push(Figure::ratio(
            "— against one by somebody who sees all, p50",
            "ms",
            p50(&list),
            p50(&all),
            Aim::None,
        ));
    }
    figures
}

/// Somebody whose role reads what belongs to their unit and to those below it.
async fn manager(tenant: &Tenant) -> Caller {
    let role = json!({"displayName": "Manager", "permissions": [{"name": "customer.customers.read", "scope": "SCOPE_UNIT"}]});
    let role = rapport_test_kit::json(tenant.post("/v1/roles", &role).await).await;
    tenant.person_with(&[format!("identity.role/{}", role["id"].as_str().unwrap())]).await
}

/// A tenth of the customers belongs to units below the manager's, which stand in three levels.
async fn fill(tenant: &Tenant, manager: &Caller, superuser: &mut PgConnection) {
    let sql = "
        WITH u AS (
          INSERT INTO directory_units (tenant_id, id, version, deleted, display_name, parent_id)
          SELECT $1, md5('unit' || n)::uuid, 1, false, 'Unit ' || n,
            CASE WHEN n = 1 THEN NULL WHEN n <= 31 THEN md5('unit1')::uuid ELSE md5('unit' || (n % 30 + 2))::uuid END
          FROM generate_series(1, $3) AS n
        ), m AS (
          INSERT INTO directory_users AS d (tenant_id, id, version, deleted, display_name, unit_id, state)
          VALUES ($1, $2, 1, false, 'Manager', md5('unit1')::uuid, 'active')
          ON CONFLICT (tenant_id, id) DO UPDATE SET unit_id = excluded.unit_id
        )
        INSERT INTO customers (tenant_id, id, version, type, display_name, status, kind, unit_id, phones, emails, addresses, industry,
          tags, attributes, external_ids, create_time, update_time)
        SELECT $1, gen_random_uuid(), 1, 'company', 'Harbour Supplies ' || n, 'potential', 'business',
          CASE WHEN n % 10 = 0 THEN md5('unit' || (n / 10 % $3 + 1))::uuid ELSE md5('elsewhere' || n % 100)::uuid END,
          '[]', '[]', '[]', CASE WHEN n % 3 = 0 THEN 'trade' ELSE 'shipping' END, '{}', '{}', '[]',
          now() - n * interval '1 second', now()
        FROM generate_series(1, $4) AS n";
    sqlx::query(sql)
        .bind(tenant.id.parse::<Uuid>().unwrap())
        .bind(manager.user.id.parse::<Uuid>().unwrap())
        .bind(UNITS)
        .bind(CUSTOMERS)
        .execute(&mut *superuser)
        .await
        .unwrap();
    let place = format!(
        "SET rapport.tenant = '{}'; SELECT rapport.place_units(array(SELECT id FROM directory_units WHERE tenant_id = '{0}'))",
        tenant.id
    );
    for sql in place.split_inclusive(';') {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *superuser).await.unwrap();
    }
}

/// Customers of a hundred other tenants, each with units of its own; then as on a server that has been up for a while.
async fn others(superuser: &mut PgConnection) {
    let customers = "
        INSERT INTO customers (tenant_id, id, version, type, display_name, status, kind, unit_id, phones, emails, addresses, industry,
          tags, attributes, external_ids, create_time, update_time)
        SELECT md5('tenant' || n % 100)::uuid, gen_random_uuid(), 1, 'company', 'Harbour Supplies ' || n, 'potential', 'business',
          md5('unit of ' || n % 100 || ' ' || n % 700)::uuid, '[]', '[]', '[]', 'trade', '{}', '{}', '[]',
          now() - n * interval '1 second', now()
        FROM generate_series(1, 200000) AS n";
    for sql in [customers, "VACUUM ANALYZE"] {
        sqlx::raw_sql(sql).execute(&mut *superuser).await.unwrap();
    }
}

/// The same list by somebody who sees all of the tenant's customers; what it took.
async fn by_everybody(world: &World, tenant: &Tenant, request: &ListCustomersRequest) -> Histogram<u64> {
    let mut customers = tenant.renewed().await.customers_at(&world.grpc_url());
    let mut list = times();
    for _ in 0..CALLS / 4 {
        let begun = Instant::now();
        customers.list_customers(request.clone()).await.unwrap();
        list.record(begun.elapsed().as_micros() as u64).unwrap();
    }
    list
}

/// Lists by gRPC and by hand in turns; what each took.
async fn compare(
    world: &World,
    manager: &Caller,
    request: &ListCustomersRequest,
    by_hand: &str,
    superuser: &mut PgConnection,
) -> (Histogram<u64>, Histogram<u64>) {
    let mut customers = manager.customers_at(&world.grpc_url());
    let (mut list, mut hand) = (times(), times());
    for n in 0..CALLS {
        if n % 50 == 0 {
            customers = manager.renewed().await.customers_at(&world.grpc_url());
        }
        let begun = Instant::now();
        let answer = customers.list_customers(request.clone()).await.unwrap().into_inner();
        list.record(begun.elapsed().as_micros() as u64).unwrap();
        let begun = Instant::now();
        let rows =
            sqlx::query(AssertSqlSafe(by_hand)).persistent(false).fetch_all(&mut *superuser).await.unwrap();
        hand.record(begun.elapsed().as_micros() as u64).unwrap();
        let ids: Vec<String> =
            rows.iter().take(50).map(|row| sqlx::Row::get::<Uuid, _>(row, "id").to_string()).collect();
        let listed: Vec<String> = answer.customers.into_iter().map(|customer| customer.id).collect();
        assert_eq!(listed.len(), 50);
        assert_eq!(listed, ids);
    }
    (list, hand)
}
