//! Creating a customer by gRPC: authenticated, validated, with its rows for search and its event in the outbox.
use std::time::Duration;

use rapport::suite::Role;
use rapport_proto::{
    customer::v1::{CreateCustomerRequest, Customer},
    r#type::v1::{EmailAddress, Phone},
};
use rapport_test_kit::World;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    events::pretend,
    figure::{Aim, Figure, median},
    load::callers,
    pgbench::{self, Script},
    statements::{self, NEXT_KEY, fresh_id},
};

const CLIENTS: u64 = 16;
const TURN: Duration = Duration::from_secs(6);
const TURNS: usize = 3;
/// How often a pair of calls is recorded at most: the service may keep house between the two.
const RECORDINGS: u64 = 5;

fn request(n: u64) -> CreateCustomerRequest {
    let customer = Customer {
        display_name: format!("Harbour Supplies {n}"),
        industry: "logistics".into(),
        // Named, so that every create is the same: its owner's is looked up every two seconds.
        unit: "identity.unit/01900000-0000-7000-8000-000000000001".into(),
        phones: vec![Phone { number: format!("+86 138 {:08}", n % 100_000_000), ..Phone::default() }],
        emails: vec![EmailAddress {
            address: format!("office{n}@harbour.example.com"),
            ..EmailAddress::default()
        }],
        ..Customer::default()
    };
    CreateCustomerRequest { customer: Some(customer), ..CreateCustomerRequest::default() }
}

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let tenant = world.tenant("bench").await;
    // What the log takes is a figure of its own (`events`); here it would empty the outbox that the reference writes to.
    let pretender = pretend(&world).await;
    let customers = tenant.customers_at(&world.grpc_url());
    let create = move |n: u64| {
        let mut customers = customers.clone();
        async move { drop(customers.create_customer(request(n)).await.unwrap()) }
    };
    let mut superuser = world.databases.superuser(Role::Customer).await;
    create(0).await;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for turn in 1..=RECORDINGS {
        first = statements::record(&mut superuser, create(2 * turn)).await;
        second = statements::record(&mut superuser, create(2 * turn + 1)).await;
        if first.len() == second.len() {
            break;
        }
    }
    let service = world.config.databases["customer"].url.expose_secret().to_owned();
    let mut conn = PgConnection::connect(&service).await.unwrap();
    sqlx::raw_sql("SET ROLE rapport_service").execute(&mut conn).await.unwrap();
    let same = statements::script(&mut conn, &first, &second).await;
    // As the service's sessions are: pgbench takes no statement that is run once.
    let as_service = format!("{service}?options=-c%20role%3Drapport_service%20-c%20jit%3Doff");
    let single = single(&mut superuser).await;

    let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut p99 = Vec::new();
    for turn in 0..TURNS {
        let begin = 1_000_000 * (turn as u64 + 1);
        let create = create.clone();
        let seen = callers(CLIENTS, TURN, move |n| create(begin + n)).await;
        ours.push(seen.per_second);
        p99.push(seen.p99());
        theirs.push(pgbench::run(&as_service, &advance(&same, turn), CLIENTS as usize, TURN).await);
        let superuser = world.databases.superuser_url(Role::Customer);
        bare.push(pgbench::run(&superuser, &advance(&single, turn), CLIENTS as usize, TURN).await);
    }
    pretender.abort();
    let (ours, theirs, bare) = (median(ours), median(theirs), median(bare));
    vec![
        Figure::ratio(
            "create by gRPC, 16 clients, against pgbench with the same statements",
            "/s",
            ours,
            theirs,
            Aim::AtLeast(0.5),
        ),
        Figure::ratio(
            "create by gRPC, against pgbench with one bare statement",
            "/s",
            ours,
            bare,
            Aim::AtLeast(0.3),
        ),
        Figure::plain("create by gRPC, round trips to PostgreSQL", "", first.len() as f64, Aim::AtMost(3.0)),
        Figure::plain("create by gRPC, p99 under that load", "ms", median(p99), Aim::None),
    ]
}

/// The script with keys that no earlier turn has used.
fn advance(script: &Script, turn: usize) -> Script {
    let mut script = script.clone();
    for (name, value) in &mut script.variables {
        if name == "turn" {
            *value = (turn * 1_000_000).to_string();
        }
    }
    script
}

/// One statement that writes a customer and its event, both as the service last wrote them, by somebody whom no policy binds.
async fn single(superuser: &mut PgConnection) -> Script {
    let mut variables = vec![("turn".into(), "0".into())];
    let customer = row(superuser, "customers", "create_time", &["id"], &mut variables).await;
    let event = row(superuser, "platform.outbox", "time", &["event_id", "record_id"], &mut variables).await;
    let text = format!("{NEXT_KEY}WITH written AS ({customer})\n{event};\n");
    Script { text, variables }
}

/// An INSERT with the values of the newest row of a table, but new ids.
async fn row(
    superuser: &mut PgConnection,
    table: &str,
    time: &str,
    ids: &[&str],
    variables: &mut Vec<(String, String)>,
) -> String {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '' ORDER BY attnum",
    )
    .bind(table)
    .fetch_all(&mut *superuser)
    .await
    .unwrap();
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let texts: Vec<_> = names.iter().map(|name| format!("{name}::text")).collect();
    let newest = format!("SELECT ARRAY[{}] FROM {table} ORDER BY {time} DESC LIMIT 1", texts.join(", "));
    let values: Vec<Option<String>> =
        sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(superuser).await.unwrap();
    let values: Vec<_> = columns
        .iter()
        .zip(values)
        .map(|((name, kind), value)| match value {
            // Not one of the other script's.
            _ if ids.contains(&name.as_str()) => format!("({})::uuid", fresh_id(100)),
            None => format!("NULL::{kind}"),
            Some(value) => {
                let variable = format!("{}_{name}", table.replace('.', "_"));
                let place = format!(":{variable}::{kind}");
                variables.push((variable, value));
                place
            }
        })
        .collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "))
}
