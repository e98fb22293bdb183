//! Events: from a commit to its effect in another service, how many a second, and what it costs those who write.
mod copies;
mod latency;
mod neighbour;
mod order;
mod replay;
mod sustained;
mod wiped;
mod writers;

use std::time::Duration;

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
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::figure::Figure;
pub(crate) use {
    copies::measure as copies, neighbour::measure as neighbour, order::measure as order,
    replay::measure as replay, wiped::measure as wiped, writers::pretend,
};

const STEPS: &[&[Step]] = &[
    rapport_events::MIGRATIONS,
    &[
        (
            1000,
            "effects",
            "CREATE TABLE effects (tenant_id uuid NOT NULL, id uuid NOT NULL, version bigint NOT NULL,
               CONSTRAINT effects_id PRIMARY KEY (tenant_id, id));
             SELECT rapport.protect('effects');
             CREATE TABLE ordered (tenant_id uuid NOT NULL, id uuid NOT NULL, version bigint NOT NULL, inversions bigint NOT NULL,
               CONSTRAINT ordered_id PRIMARY KEY (tenant_id, id)) WITH (fillfactor = 50);
             SELECT rapport.protect('ordered');
             CREATE TABLE copied (tenant_id uuid NOT NULL, id uuid NOT NULL, version bigint NOT NULL, deleted boolean NOT NULL,
               display_name text NOT NULL, status text NOT NULL, industry text NOT NULL, owner_id uuid,
               CONSTRAINT copied_id PRIMARY KEY (tenant_id, id));
             SELECT rapport.protect('copied');",
        ),
    ],
];

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let mut figures = writers::measure(&world).await;
    let other = Other::new(&world, "timed").await;
    let stop = other.hear(&world, telling(None)).await;
    other.has_heard_all(&world).await;
    figures.extend(latency::measure(&world, &other).await);
    stop.cancel();
    let other = Other::new(&world, "sustained").await;
    let stop = other.hear(&world, silent()).await;
    other.has_heard_all(&world).await;
    figures.extend(sustained::measure(&world, &other).await);
    stop.cancel();
    figures
}

/// Writes an effect of each customer, and tells whoever listens of those of one tenant, or of all.
fn telling(tenant: Option<Uuid>) -> Reactions {
    Reactions::to("customer").on::<CustomerCreated>("note", move |tx, event| {
        let tells = tenant.is_none_or(|tenant| tenant == event.line().tenant_id);
        Box::pin(note(tx, event, tells))
    })
}

/// The same without telling.
fn silent() -> Reactions {
    Reactions::to("customer").on::<CustomerCreated>("note", |tx, event| Box::pin(note(tx, event, false)))
}

/// Another service, with a database of its own.
struct Other {
    name: String,
    db: Db,
    url: String,
}

impl Other {
    async fn new(world: &World, name: &str) -> Self {
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
        Self { name: name.to_owned(), db: Db::connect(&options).await.unwrap(), url }
    }

    async fn hear(&self, world: &World, reactions: Reactions) -> CancellationToken {
        let nats = &world.config.nats;
        let bus = Options {
            url: nats.url.clone().unwrap(),
            root: nats.root.clone(),
            replicas: 1,
            stream_bytes: nats.stream_bytes as i64,
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
        self.has_heard_the_log(world).await;
    }

    async fn has_heard_the_log(&self, world: &World) {
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
