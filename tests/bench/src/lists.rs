//! Lists: 50 customers, filtered and sorted on indexed custom fields, of a tenant with 100,000 customers among 1,100,000, against
//! the same by hand: SQL that names the tenant, by somebody whom no policy binds. All of them, and those of a seller.
use std::time::Instant;

use futures::{StreamExt as _, stream};
use hdrhistogram::Histogram;
use rapport::suite::Role;
use rapport_proto::{
    customer::v1::{AssignCustomersRequest, ListCustomersRequest, ShareCustomerRequest},
    r#type::v1::{Share, ShareLevel},
};
use rapport_test_kit::{Caller, Tenant, World, telco};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::{
    figure::{Aim, Figure},
    import,
    load::times,
};

const OTHERS: usize = 1_000_000;
const OURS: usize = 100_000;
const OWNED: usize = 40;
const SHARED: usize = 1_000;
/// Calls of each kind; each is followed by its reference.
const CALLS: usize = 600;

/// A list, and how one would write it by hand.
struct Query {
    name: &'static str,
    filter: String,
    order_by: &'static str,
    /// Joins of `customers c`.
    joins: String,
    /// What the rows satisfy.
    condition: String,
    /// What they are sorted by.
    sorted: &'static str,
}

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let others = world.tenant("others").await;
    telco::define_fields(&others).await;
    let (early, most) = import::memory(&others, OTHERS).await;
    let mut figures = vec![Figure::ratio(
        "memory during an import of 1,000,000 rows, the most against that after 100,000",
        "MB",
        most,
        early,
        Aim::AtMost(1.1),
    )];

    let ours = world.tenant("ours").await;
    telco::define_fields(&ours).await;
    let seller = ours.person("sales").await;
    let import = import::uploaded(&ours, OURS).await;
    telco::work(&ours, &import, "start").await;
    let mut superuser = world.databases.superuser(Role::Customer).await;
    hand_over(&ours, &seller, &mut superuser).await;
    // As on a server that has been up for a while.
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut superuser).await.unwrap();

    for (who, caller, owner) in [
        ("all 100,000", (*ours).clone(), None),
        ("a seller's 1,040", seller.clone(), Some(Uuid::parse_str(&seller.user.id).unwrap())),
    ] {
        for kind in 0..3 {
            let (name, list, hand) = compare(&world, &ours, &caller, owner, kind, &mut superuser).await;
            let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1_000.0;
            let name = format!("list of 50 of {who}, {name}, p99");
            let figure = Figure::ratio(&name, "ms", p99(&list), p99(&hand), Aim::AtMost(3.0));
            eprintln!("  {figure}");
            figures.push(figure);
        }
    }
    figures
}

/// Makes a seller the owner of 40 of the customers and shares 1,000 others.
async fn hand_over(tenant: &Tenant, seller: &Caller, superuser: &mut PgConnection) {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT id::text FROM customers WHERE tenant_id = $1 ORDER BY md5(id::text) LIMIT $2",
    )
    .bind(Uuid::parse_str(&tenant.id).unwrap())
    .bind((OWNED + SHARED) as i64)
    .fetch_all(superuser)
    .await
    .unwrap();
    let (owned, shared) = ids.split_at(OWNED);
    let customers = tenant.renewed().await.customers();
    let assign = AssignCustomersRequest {
        ids: owned.to_vec(),
        owner: seller.name(),
        ..AssignCustomersRequest::default()
    };
    customers.clone().assign_customers(assign).await.unwrap();
    stream::iter(shared)
        .for_each_concurrent(8, async |id| {
            let share = Share { principal: seller.name(), level: ShareLevel::Read.into() };
            let request = ShareCustomerRequest {
                id: id.clone(),
                share: Some(share),
                ..ShareCustomerRequest::default()
            };
            customers.clone().share_customer(request).await.unwrap();
        })
        .await;
}

/// Lists of one kind, by gRPC and by hand in turns; what each took.
async fn compare(
    world: &World,
    tenant: &Tenant,
    caller: &Caller,
    owner: Option<Uuid>,
    kind: usize,
    superuser: &mut PgConnection,
) -> (&'static str, Histogram<u64>, Histogram<u64>) {
    let mut customers = caller.customers_at(&world.grpc_url());
    let fields = fields(tenant, superuser).await;
    let (mut list, mut hand, mut name) = (times(), times(), "");
    for n in 0..CALLS {
        if n % 50 == 0 {
            customers = caller.renewed().await.customers_at(&world.grpc_url());
        }
        let query = query(kind, n, &fields);
        name = query.name;
        let request = ListCustomersRequest {
            filter: query.filter.clone(),
            order_by: query.order_by.into(),
            page_size: 50,
            ..ListCustomersRequest::default()
        };
        let begun = Instant::now();
        let answer = customers.list_customers(request).await.unwrap().into_inner();
        list.record(begun.elapsed().as_micros() as u64).unwrap();

        let sql = by_hand(&query, &tenant.id, owner);
        let begun = Instant::now();
        let rows =
            sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut *superuser).await.unwrap();
        hand.record(begun.elapsed().as_micros() as u64).unwrap();
        let ids: Vec<String> =
            rows.iter().take(50).map(|row| sqlx::Row::get::<Uuid, _>(row, "id").to_string()).collect();
        let listed: Vec<String> = answer.customers.into_iter().map(|customer| customer.id).collect();
        assert_eq!(listed, ids, "{} {}", query.filter, query.order_by);
    }
    (name, list, hand)
}

/// The ids of the indexed custom fields: tenure, contract, charges, churn.
async fn fields(tenant: &Tenant, superuser: &mut PgConnection) -> [Uuid; 4] {
    let mut ids = [Uuid::nil(); 4];
    for (id, key) in ids.iter_mut().zip(["tenure", "contract", "monthlyCharges", "churn"]) {
        *id = sqlx::query_scalar("SELECT id FROM custom_fields WHERE tenant_id = $1 AND key = $2")
            .bind(Uuid::parse_str(&tenant.id).unwrap())
            .bind(key)
            .fetch_one(&mut *superuser)
            .await
            .unwrap();
    }
    ids
}

/// The `n`th list of a kind.
fn query(kind: usize, n: usize, [tenure, contract, charges, churn]: &[Uuid; 4]) -> Query {
    let side = |alias: &str, table: &str, field: &Uuid| {
        format!(
            " JOIN {table} {alias} ON {alias}.tenant_id = c.tenant_id AND {alias}.field_id = '{field}' AND {alias}.record_id = c.id"
        )
    };
    let months = n % 72 + 1;
    let contract_name = telco::CONTRACTS[n % 3];
    match kind {
        0 => Query {
            name: "by two fields, sorted by a third",
            filter: format!("attributes.contract == \"{contract_name}\" && attributes.tenure >= {months}"),
            order_by: "attributes.monthlyCharges desc",
            joins: side("s", "attribute_numbers", charges)
                + &side("t", "attribute_numbers", tenure)
                + &side("k", "attribute_texts", contract),
            condition: format!("k.value = '{contract_name}' AND t.value >= {months}"),
            sorted: "s.value DESC, c.id DESC",
        },
        1 => Query {
            name: "by one field, sorted by name",
            filter: "attributes.churn".into(),
            order_by: "display_name",
            joins: side("x", "attribute_numbers", churn),
            condition: "x.value = 1".into(),
            sorted: "c.display_name, c.id",
        },
        _ => Query {
            name: "by the field that sorts",
            filter: format!("attributes.tenure >= {months}"),
            order_by: "attributes.tenure",
            joins: side("t", "attribute_numbers", tenure),
            condition: format!("t.value >= {months}"),
            sorted: "t.value, c.id",
        },
    }
}

fn by_hand(query: &Query, tenant: &str, owner: Option<Uuid>) -> String {
    let Query { joins, condition, sorted, .. } = query;
    let (with, from) = match owner {
        None => (String::new(), "customers c".to_owned()),
        Some(owner) => (
            format!(
                "WITH mine AS (SELECT id FROM customers WHERE tenant_id = '{tenant}' AND owner_id = '{owner}'
                 UNION SELECT record_id FROM record_shares
                 WHERE tenant_id = '{tenant}' AND resource = 'customer' AND principal = '{owner}') "
            ),
            "mine JOIN customers c ON c.id = mine.id".to_owned(),
        ),
    };
    format!(
        "{with}SELECT c.* FROM {from}{joins} WHERE c.tenant_id = '{tenant}' AND c.delete_time IS NULL AND {condition} \
         ORDER BY {sorted} LIMIT 51"
    )
}
