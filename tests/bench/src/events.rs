//! Events: from a commit to its effect in another service, how many a second, and what it costs those who write.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use prost::Message as _;
use rapport::suite::Role;
use rapport_events::{
    Event, Reactions, Verdict,
    bus::{Bus, Options},
    consume::{Consumer, Producer},
};
use rapport_kernel::{Clock, Error};
use rapport_proto::{
    customer::v1::{CreateCustomerRequest, Customer, CustomerCreated},
    events::v1::log_service_client::LogServiceClient,
};
use rapport_store::{Db, Step, TenantTx};
use rapport_test_kit::World;
use sqlx::{Connection as _, PgConnection, postgres::PgListener};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    figure::{Aim, Figure, median},
    load::{callers, times},
};

/// Events that are committed in a second while the way of each is timed.
const PACE: u64 = 500;
const WRITERS: u64 = 16;
const TIMED: Duration = Duration::from_secs(20);
/// Events that have to be kept up with.
const SUSTAINED: i64 = 5_000;
const SUSTAINED_FOR: Duration = Duration::from_secs(60);
/// Events that a new consumer hears.
const REPLAYED: i64 = 200_000;

const STEPS: &[Step] = &[
    rapport_events::LOG,
    rapport_events::REACTIONS,
    (
        1000,
        "effects",
        "CREATE TABLE effects (tenant_id uuid NOT NULL, id uuid NOT NULL, version bigint NOT NULL,
           CONSTRAINT effects_id PRIMARY KEY (tenant_id, id));
         SELECT rapport.protect('effects');",
    ),
];

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let mut figures = writers(&world).await;
    let other = Other::new(&world, "timed", true).await;
    let stop = other.hear(&world).await;
    other.has_heard_all(&world).await;
    figures.extend(timed(&world, &other).await);
    stop.cancel();
    let other = Other::new(&world, "sustained", false).await;
    let stop = other.hear(&world).await;
    other.has_heard_all(&world).await;
    figures.extend(sustained(&world, &other).await);
    stop.cancel();
    figures.push(replayed(&world).await);
    figures
}

/// Another service, with a database of its own.
struct Other {
    name: String,
    db: Db,
    url: String,
    tells: bool,
}

impl Other {
    async fn new(world: &World, name: &str, tells: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a measurement is told by its environment")]
        let superuser = std::env::var("RAPPORT_TEST_POSTGRES").unwrap();
        let database = format!("{}_{name}", world.databases.name());
        rapport_store::provision(&superuser, "effects", &database, "secret", "secret").await.unwrap();
        let mut owner: url::Url = superuser.parse().unwrap();
        owner.set_path(&database);
        let url = owner.to_string();
        let as_role = |role: &str| {
            let mut url = owner.clone();
            url.set_username(role).unwrap();
            url.set_password(Some("secret")).unwrap();
            url.to_string()
        };
        rapport_store::migrate(&as_role("rapport_owner"), STEPS).await.unwrap();
        let options = rapport_store::Options { url: as_role("rapport_effects"), pool_size: 8 };
        Self { name: name.to_owned(), db: Db::connect(&options).await.unwrap(), url, tells }
    }

    async fn hear(&self, world: &World) -> CancellationToken {
        let nats = &world.config.nats;
        let bus = Options {
            url: nats.url.clone().unwrap(),
            root: nats.root.clone(),
            replicas: 1,
            stream_bytes: nats.stream_bytes as i64,
        };
        let reactions = Reactions::to("customer");
        let reactions = match self.tells {
            true => reactions.on::<CustomerCreated>("note", |tx, event| Box::pin(note(tx, event, true))),
            false => reactions.on::<CustomerCreated>("note", |tx, event| Box::pin(note(tx, event, false))),
        };
        let producer = Producer::new(LogServiceClient::new(world.internal("customer")));
        let events = rapport_events::Settings {
            bus: Some(Bus::connect(bus).await.unwrap()),
            ..rapport_events::Settings::default()
        };
        let consumer =
            Consumer::new(&self.name, self.db.clone(), &events, Clock::system(), producer, reactions);
        let stop = CancellationToken::new();
        let ended = stop.clone();
        tokio::spawn(async move { consumer.hear(&ended).await });
        stop
    }

    /// Waits until it has heard what the log has.
    async fn has_heard_all(&self, world: &World) {
        settled(world).await;
        let mut conn = world.databases.superuser(Role::Customer).await;
        let mut there = PgConnection::connect(&self.url).await.unwrap();
        let total: i64 =
            sqlx::query_scalar("SELECT number FROM platform.log_head").fetch_one(&mut conn).await.unwrap();
        while self.heard(&mut there).await < total {
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn heard(&self, conn: &mut PgConnection) -> i64 {
        sqlx::query_scalar("SELECT coalesce(sum(number), 0)::bigint FROM platform.watermarks")
            .fetch_one(conn)
            .await
            .unwrap()
    }
}

async fn note(tx: &mut TenantTx, event: &Event<CustomerCreated>, tells: bool) -> Result<Verdict, Error> {
    let tenant = tx.tenant();
    let line = event.line();
    let sql = match tells {
        true => {
            "WITH w AS (INSERT INTO effects VALUES ($1, $2, $3) ON CONFLICT DO NOTHING) SELECT pg_notify('effects', $2::text)"
        }
        false => "INSERT INTO effects VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    };
    sqlx::query(sql)
        .bind(tenant)
        .bind(line.record_id)
        .bind(line.version)
        .execute(tx.conn().await?)
        .await
        .map(|_| Verdict::Done)
        .map_err(rapport_store::database)
}

fn request(n: u64) -> CreateCustomerRequest {
    let customer = Customer { display_name: format!("Harbour Supplies {n}"), ..Customer::default() };
    CreateCustomerRequest { customer: Some(customer), ..CreateCustomerRequest::default() }
}

/// Creates a second with the log running, against none: somebody else pretends to lead it.
async fn writers(world: &World) -> Vec<Figure> {
    let tenant = world.tenant("writers").await;
    let customers = tenant.customers_at(&world.grpc_url());
    let create = move |n: u64| {
        let mut customers = customers.clone();
        async move { drop(customers.create_customer(request(n)).await.unwrap()) }
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        settled(world).await;
        with.push(callers(WRITERS, Duration::from_secs(5), create.clone()).await.per_second);
        settled(world).await;
        let pretender = pretend(world).await;
        without.push(callers(WRITERS, Duration::from_secs(5), create.clone()).await.per_second);
        pretender.abort();
    }
    settled(world).await;
    vec![Figure::ratio(
        "creates with the log and the bus running, against without",
        "/s",
        median(with),
        median(without),
        Aim::AtLeast(0.8),
    )]
}

/// Takes the lead of customer's log and does nothing with it, until it is aborted.
pub(crate) async fn pretend(world: &World) -> tokio::task::JoinHandle<()> {
    let mut conn = world.databases.superuser(Role::Customer).await;
    sqlx::raw_sql("UPDATE platform.leads SET epoch = epoch + 1 WHERE name = 'log'")
        .execute(&mut conn)
        .await
        .unwrap();
    sleep(Duration::from_millis(100)).await;
    sqlx::raw_sql("SELECT pg_advisory_lock(7261002, hashtext('log'))").execute(&mut conn).await.unwrap();
    tokio::spawn(async move {
        loop {
            let beat = "UPDATE platform.leads SET epoch = epoch + 1 WHERE name = 'log'";
            sqlx::raw_sql(beat).execute(&mut conn).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Waits until the outbox is empty.
async fn settled(world: &World) {
    let mut conn = world.databases.superuser(Role::Customer).await;
    loop {
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM platform.outbox").fetch_one(&mut conn).await.unwrap();
        if left == 0 {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The time from the answer to a create to its effect in another service's database, as a listener there sees it.
async fn timed(world: &World, other: &Other) -> Vec<Figure> {
    let tenant = world.tenant("timed").await;
    let mut listener = PgListener::connect(&other.url).await.unwrap();
    listener.listen("effects").await.unwrap();
    let effects = Arc::new(Mutex::new(HashMap::<String, Instant>::new()));
    let seen = effects.clone();
    let listening = tokio::spawn(async move {
        while let Ok(told) = listener.recv().await {
            seen.lock().unwrap().insert(told.payload().to_owned(), Instant::now());
        }
    });
    let customers = tenant.customers_at(&world.grpc_url());
    let mut writers = JoinSet::new();
    let begun = Instant::now();
    for writer in 0..WRITERS {
        let mut customers = customers.clone();
        writers.spawn(async move {
            let mut answered = Vec::new();
            let mut n = writer;
            while begun.elapsed() < TIMED {
                let due = Duration::from_micros(n * 1_000_000 / PACE);
                sleep(due.saturating_sub(begun.elapsed())).await;
                let customer = customers.create_customer(request(n)).await.unwrap().into_inner();
                answered.push((customer.id, Instant::now()));
                n += WRITERS;
            }
            answered
        });
    }
    let answered: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    sleep(Duration::from_secs(2)).await;
    listening.abort();
    let effects = effects.lock().unwrap();
    let mut took: Histogram<u64> = times();
    for (id, at) in &answered {
        let effect = effects.get(id).expect("every event has its effect");
        took.record(effect.saturating_duration_since(*at).as_micros() as u64).unwrap();
    }
    let ms = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    let pace = answered.len() as f64 / TIMED.as_secs_f64();
    vec![
        Figure::plain(
            "commit to effect in another service at 500 events/s, p50",
            "ms",
            ms(0.5),
            Aim::AtMost(15.0),
        ),
        Figure::plain("— p99", "ms", ms(0.99), Aim::AtMost(50.0)),
        Figure::plain("— events/s", "/s", pace, Aim::None),
    ]
}

/// Puts events into the outbox as one transaction of a writer does.
async fn emit(conn: &mut PgConnection, tenant: Uuid, count: i64) {
    let clock = Clock::system();
    let records: Vec<Uuid> = (0..count).map(|_| clock.new_uuid()).collect();
    let parts: Vec<i16> = records.iter().map(|record| rapport_store::part(tenant, *record).into()).collect();
    let customer = Customer { display_name: "Harbour Supplies ".repeat(20), ..Customer::default() };
    let payload = CustomerCreated { customer: Some(customer) }.encode_to_vec();
    sqlx::query(
        "INSERT INTO platform.outbox (event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths,
           payload, principal, via, time)
         SELECT gen_random_uuid(), $1, part, 'customer', record, 1, 'customer.created.v1',
           'rapport.customer.v1.CustomerCreated', '{}', $4, 'service', 'console', now()
         FROM unnest($2::uuid[], $3::smallint[]) AS r (record, part)",
    )
    .bind(tenant)
    .bind(records)
    .bind(parts)
    .bind(payload)
    .execute(conn)
    .await
    .unwrap();
}

/// What waits while 5,000 events a second come: at the end as at the beginning.
async fn sustained(world: &World, other: &Other) -> Vec<Figure> {
    let tenant: Uuid = world.tenant("sustained").await.id.parse().unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    let mut there = PgConnection::connect(&other.url).await.unwrap();
    let before = other.heard(&mut there).await;
    let begun = Instant::now();
    let (mut sent, mut lags) = (0, Vec::new());
    let piece = 50;
    while begun.elapsed() < SUSTAINED_FOR {
        let due = Duration::from_micros((sent * 1_000_000 / SUSTAINED) as u64);
        sleep(due.saturating_sub(begun.elapsed())).await;
        emit(&mut conn, tenant, piece).await;
        sent += piece;
        if sent % SUSTAINED == 0 {
            lags.push((sent - (other.heard(&mut there).await - before)) as f64);
        }
    }
    let pace = sent as f64 / begun.elapsed().as_secs_f64();
    let half = lags.len() / 2;
    let (early, late) = (median(lags[..half].to_vec()), median(lags[half..].to_vec()));
    vec![
        Figure::plain("events/s sustained for a minute", "/s", pace, Aim::AtLeast(4_900.0)),
        Figure::plain("— that wait in the first half, middle", "events", early, Aim::None),
        Figure::plain("— in the second half", "events", late, Aim::AtMost(2_500.0)),
    ]
}

/// Waits until the bus holds the log; says how many events that are.
async fn on_the_bus(world: &World) -> i64 {
    let mut conn = world.databases.superuser(Role::Customer).await;
    loop {
        let (total, held): (i64, i64) =
            sqlx::query_as("SELECT h.number, r.number FROM platform.log_head h, platform.log_relay r")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        if held == total {
            return total;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// How long a new consumer takes to hear everything.
async fn replayed(world: &World) -> Figure {
    let tenant: Uuid = world.tenant("replayed").await.id.parse().unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    let so_far: i64 =
        sqlx::query_scalar("SELECT count(*) FROM platform.event_log").fetch_one(&mut conn).await.unwrap();
    let mut left = REPLAYED - so_far;
    while left > 0 {
        emit(&mut conn, tenant, left.min(1_000)).await;
        left -= 1_000;
    }
    settled(world).await;
    let total = on_the_bus(world).await;
    let other = Other::new(world, "replayed", false).await;
    let mut there = PgConnection::connect(&other.url).await.unwrap();
    let begun = Instant::now();
    let stop = other.hear(world).await;
    while other.heard(&mut there).await < total {
        sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.cancel();
    Figure::plain(
        "1,000,000 events heard by a new consumer (reckoned from 200,000)",
        "s",
        seconds * 1_000_000.0 / total as f64,
        Aim::AtMost(60.0),
    )
}
