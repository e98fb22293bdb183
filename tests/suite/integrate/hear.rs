//! An operator's own service on the bus, broken off again and again while messages get lost and come again: each event has
//! its effect once, in order.
use std::time::{Duration, Instant};

use async_nats::{
    ConnectOptions, HeaderMap, ServerAddr,
    jetstream::{self, stream::Stream},
};
use rapport::suite::Role;
use rapport_proto::events::v1::log_service_client::LogServiceClient;
use rapport_test_kit::{Caller, World, json};
use secrecy::ExposeSecret as _;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::time::sleep;
use tonic::transport::Channel;

/// Who does not hear all within this time does not hear it.
const PATIENCE: Duration = Duration::from_secs(30);

#[path = "../../../docs/integrate/hear.rs"]
#[expect(unreachable_pub, reason = "it is a program of its own")]
mod guide;

/// The operator's own service: its database, and how it reaches Rapport.
struct Operator {
    world: World,
    database: String,
    bus: jetstream::Context,
}

impl Operator {
    async fn new() -> Self {
        let world = World::new().await;
        let theirs = format!("{}_erp", world.databases.name());
        let mut conn = world.databases.superuser(Role::Customer).await;
        conn.execute(AssertSqlSafe(format!("CREATE DATABASE {theirs}"))).await.unwrap();
        let customer = world.databases.superuser_url(Role::Customer);
        let database = format!("{}/{theirs}", customer.rsplit_once('/').unwrap().0);
        PgConnection::connect(&database).await.unwrap().execute(guide::TABLES).await.unwrap();

        let url = world.config.nats.url.clone().expect("a nats-server, which `make test` starts");
        let server: ServerAddr = url.parse().unwrap();
        let (user, password) = server.username().zip(server.password()).unwrap();
        let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
        let bus = jetstream::new(options.connect(server.clone()).await.unwrap());
        Self { world, database, bus }
    }

    async fn ear(&self) -> guide::Ear {
        let secret = self.world.config.security.internal_secret.as_ref().unwrap();
        guide::Ear {
            bus: self.bus.clone(),
            stream: self.stream_name(),
            log: LogServiceClient::new(
                Channel::from_shared(self.world.grpc_url()).unwrap().connect().await.unwrap(),
            ),
            secret: secret.expose_secret().parse().unwrap(),
            db: PgConnection::connect(&self.database).await.unwrap(),
            epoch: 0,
        }
    }

    fn stream_name(&self) -> String {
        format!("{}_CUSTOMER", self.world.config.nats.root).to_uppercase()
    }

    async fn stream(&self) -> Stream {
        self.bus.get_stream(self.stream_name()).await.unwrap()
    }

    /// What the service did, in the order in which it did it.
    async fn heard(&self) -> Vec<(String, String, i64)> {
        // Rows that are never changed stand in the order of their writing.
        sqlx::query_as("SELECT record, event_id, version FROM heard ORDER BY ctid")
            .fetch_all(&mut PgConnection::connect(&self.database).await.unwrap())
            .await
            .unwrap()
    }

    /// What happened, in the order of the log.
    async fn happened(&self) -> Vec<(String, String, i64)> {
        let log = "SELECT 'customer.' || resource || '/' || record_id, event_id::text, version
                   FROM platform.event_log ORDER BY number";
        sqlx::query_as(log)
            .fetch_all(&mut self.world.databases.superuser(Role::Customer).await)
            .await
            .unwrap()
    }
}

impl Operator {
    /// Waits until the service heard all that happened.
    async fn caught_up(&self) {
        let begun = Instant::now();
        while self.heard().await.len() < self.happened().await.len() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts a message on the bus that leaves a number out: what a gap looks like to who hears it.
    async fn leave_a_gap(&self) {
        let mut stream = self.stream().await;
        let last = stream.info().await.unwrap().state.last_sequence;
        let Ok(last) = stream.get_raw_message(last).await else { return };
        let number: i64 = last.headers.get("ce-partnumber").unwrap().as_str().parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, values) in last.headers.iter().filter(|(name, _)| name.to_string().starts_with("ce-")) {
            headers.insert(name.clone(), values[0].clone());
        }
        headers.insert("ce-partnumber", (number + 2).to_string());
        headers.insert("ce-id", "a stranger's");
        let sent = self.bus.publish_with_headers(last.subject, headers, last.payload).await.unwrap();
        sent.await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
}

/// Creates customers and changes each.
async fn write(caller: &Caller, count: usize) {
    for n in 0..count {
        let created = caller.post("/v1/customers", &json!({"displayName": format!("茶 {n}")})).await;
        let id = json(created).await["id"].as_str().unwrap().to_owned();
        json(caller.patch(&format!("/v1/customers/{id}"), &json!({"industry": "tea"})).await).await;
    }
}

/// The events by record, each record's in their order.
fn by_record(mut events: Vec<(String, String, i64)>) -> Vec<(String, String, i64)> {
    events.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_loses_and_repeats_has_its_effect_once() {
    let operator = Operator::new().await;
    let (tea, coffee) = (operator.world.tenant("tea").await, operator.world.tenant("coffee").await);
    for round in 0..9 {
        let ear = tokio::spawn(operator.ear().await.hear());
        tokio::join!(write(&tea, 6), write(&coffee, 6));
        if round > 5 {
            operator.caught_up().await;
            operator.leave_a_gap().await;
        }
        sleep(Duration::from_millis(rand::random_range(0..300))).await;
        ear.abort();
        let _ = ear.await;

        // While nobody hears, more happens; and the bus forgets some of it, all of it, or that it was heard.
        tokio::join!(write(&tea, 4), write(&coffee, 4));
        sleep(Duration::from_millis(200)).await;
        let mut stream = operator.stream().await;
        let last = stream.info().await.unwrap().state.last_sequence;
        match round % 3 {
            0 => {
                for lost in [1, 3, 4, 9] {
                    stream.delete_message(last - lost).await.unwrap();
                }
            }
            1 => drop(stream.delete_consumer("erp").await.unwrap()),
            _ => drop(stream.purge().await.unwrap()),
        }
    }
    let ear = tokio::spawn(operator.ear().await.hear());
    operator.caught_up().await;
    // What would come twice has its time to come.
    sleep(Duration::from_secs(3)).await;
    assert!(!ear.is_finished(), "{:?}", ear.await);
    ear.abort();
    let (heard, happened) = (operator.heard().await, operator.happened().await);
    assert_eq!(happened.len(), 9 * 40);
    assert_eq!(by_record(heard), by_record(happened));
}
