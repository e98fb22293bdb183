//! Whether events of a record are heard in its order when many write the same few records and sessions are ended meanwhile.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use rand::RngExt as _;
use rapport::suite::Role;
use rapport_events::{Event, Reactions, Sabotage, Verdict, sequencer};
use rapport_kernel::{Clock, Error};
use rapport_proto::customer::v1::{Customer, CustomerUpdated};
use rapport_store::TenantTx;
use rapport_test_kit::{Options, World};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{Other, settled};
use crate::figure::{Aim, Figure};

const WRITERS: usize = 16;
const RECORDS: usize = 20;
/// Changes of its record that a transaction makes.
const CHANGES: i64 = 50;
/// Events that may wait to be heard before writers wait, too.
const AHEAD: i64 = 50_000;
/// A session is ended so often.
const EVERY: Duration = Duration::from_secs(1);

/// Events with which it is shown that a mistake is seen.
const FEW: i64 = 200_000;

pub(crate) async fn measure() -> Vec<Figure> {
    vec![
        ordered(sequencer::Sabotage::None, "", events(), Aim::AtMost(0.0)).await,
        ordered(
            sequencer::Sabotage::NoGaps,
            ", what commits late not waited for (to show that it is seen)",
            FEW,
            Aim::AtLeast(1.0),
        )
        .await,
    ]
}

async fn ordered(sequencer: sequencer::Sabotage, how: &str, events: i64, aim: Aim) -> Figure {
    let sabotage_of_events = Sabotage { sequencer, ..Sabotage::default() };
    let world = World::with(Options { sabotage_of_events, ..Options::default() }).await;
    let tenant: Uuid = world.tenant("order").await.id.parse().unwrap();
    let clock = Clock::system();
    let records: Vec<Uuid> = (0..RECORDS).map(|_| clock.new_uuid()).collect();
    let mut conn = world.databases.superuser(Role::Customer).await;
    sqlx::raw_sql("CREATE TABLE hot (record uuid PRIMARY KEY, version bigint NOT NULL)")
        .execute(&mut conn)
        .await
        .unwrap();
    sqlx::query("INSERT INTO hot SELECT unnest($1::uuid[]), 0")
        .bind(&records)
        .execute(&mut conn)
        .await
        .unwrap();
    let other = Other::new(&world, "ordered").await;
    let mut there = PgConnection::connect(&other.url).await.unwrap();
    for watching in [&mut conn, &mut there] {
        sqlx::query("SET application_name = 'watching'").execute(watching).await.unwrap();
    }
    let reactions = Reactions::to("customer").on("order", |tx, event| Box::pin(heard(tx, event)));
    let stop = other.hear(&world, reactions).await;

    let wait = Arc::new(AtomicBool::new(false));
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let url = world.databases.superuser_url(Role::Customer);
        writers.spawn(write(url, tenant, records.clone(), wait.clone(), over.clone()));
    }
    let names = [world.databases.superuser_url(Role::Customer), other.url.clone()]
        .map(|url| url.rsplit('/').next().unwrap().to_owned());
    let mut ended = 0;
    loop {
        let made: i64 =
            sqlx::query_scalar("SELECT sum(version)::bigint FROM hot").fetch_one(&mut conn).await.unwrap();
        if made >= events {
            break;
        }
        let (told, _) = told(&mut there, tenant, &records).await;
        wait.store(made - told > AHEAD, Ordering::Relaxed);
        ended += end_a_session(&mut conn, &names).await;
        sleep(EVERY).await;
    }
    over.store(true, Ordering::Relaxed);
    writers.join_all().await;
    // What is left out stays in the outbox.
    let _ = timeout(Duration::from_secs(30), settled(&world)).await;
    other.has_heard_the_log(&world).await;
    stop.cancel();

    let (made, in_log): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT sum(version)::bigint FROM hot), count(*) FILTER (WHERE version <> before + 1) FROM (
           SELECT version, lag(version, 1, 0::bigint) OVER (PARTITION BY record_id ORDER BY part_number) AS before
           FROM platform.event_log WHERE record_id IN (SELECT record FROM hot)) AS e",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let (told, inversions) = told(&mut there, tenant, &records).await;
    let wrong = in_log + inversions + (made - told);
    let name = format!(
        "events lost or out of the order of their record, of {made}, while {ended} sessions are ended{how}"
    );
    Figure::plain(&name, "events", wrong as f64, aim)
}

/// Changes records until it is over; goes on in a new session where one was ended. Now and then a transaction takes something back.
async fn write(url: String, tenant: Uuid, records: Vec<Uuid>, wait: Arc<AtomicBool>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut conn) = PgConnection::connect(&url).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while !over.load(Ordering::Relaxed) {
            if wait.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            let (record, gives_up) = {
                let mut random = rand::rng();
                (records[random.random_range(0..records.len())], random.random_range(0..20) == 0)
            };
            if change(&mut conn, tenant, record, gives_up).await.is_err() {
                break;
            }
        }
    }
}

/// First another record's event, so that a number is taken before the lock is waited for.
async fn change(
    conn: &mut PgConnection,
    tenant: Uuid,
    record: Uuid,
    gives_up: bool,
) -> Result<(), sqlx::Error> {
    let payload =
        CustomerUpdated { customer: Some(Customer::default()), ..CustomerUpdated::default() }.encode_to_vec();
    let mut tx = conn.begin().await?;
    for (record, count) in [(Clock::system().new_uuid(), 1), (record, CHANGES)] {
        sqlx::query(
            "WITH own AS (UPDATE hot SET version = version + $4 WHERE record = $2 RETURNING version - $4 AS before)
             INSERT INTO platform.outbox (event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths,
               payload, principal, via, time)
             SELECT gen_random_uuid(), $1, $3, 'customer', $2, coalesce((SELECT before FROM own), 0) + n, 'customer.updated.v1',
               'rapport.customer.v1.CustomerUpdated', '{}', $5, 'service', 'console', now()
             FROM generate_series(1, $4) AS n",
        )
        .bind(tenant)
        .bind(record)
        .bind(i16::from(rapport_store::part(tenant, record)))
        .bind(count)
        .bind(&payload)
        .execute(&mut *tx)
        .await?;
    }
    if gives_up { tx.rollback().await } else { tx.commit().await }
}

/// Notes an event; counts it where it is not the next one of its record.
async fn heard(tx: &mut TenantTx, event: &Event<CustomerUpdated>) -> Result<Verdict, Error> {
    let (tenant, line) = (tx.tenant(), event.line());
    sqlx::query(
        "INSERT INTO ordered AS o VALUES ($1, $2, $3, ($3 <> 1)::int)
         ON CONFLICT (tenant_id, id) DO UPDATE SET version = excluded.version,
           inversions = o.inversions + (excluded.version <> o.version + 1)::int",
    )
    .bind(tenant)
    .bind(line.record_id)
    .bind(line.version)
    .execute(tx.conn().await?)
    .await
    .map(|_| Verdict::Done)
    .map_err(rapport_store::database)
}

/// How many changes of these records were heard, and how many of them out of order.
async fn told(conn: &mut PgConnection, tenant: Uuid, records: &[Uuid]) -> (i64, i64) {
    sqlx::query_as(
        "SELECT coalesce(sum(version), 0)::bigint, coalesce(sum(inversions), 0)::bigint FROM ordered
         WHERE tenant_id = $1 AND id = ANY($2)",
    )
    .bind(tenant)
    .bind(records)
    .fetch_one(conn)
    .await
    .unwrap()
}

/// Ends a session of these databases, of whomever; says whether there was one.
async fn end_a_session(conn: &mut PgConnection, databases: &[String]) -> i64 {
    sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
           WHERE datname = ANY($1) AND pid <> pg_backend_pid() AND application_name <> 'watching'
           ORDER BY random() LIMIT 1) AS s",
    )
    .bind(databases)
    .fetch_one(conn)
    .await
    .unwrap()
}

/// How many: a million, unless RAPPORT_BENCH_EVENTS says so.
fn events() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a measurement is told by its environment")]
    let asked = std::env::var("RAPPORT_BENCH_EVENTS").ok();
    asked.and_then(|events| events.parse().ok()).unwrap_or(1_000_000)
}
