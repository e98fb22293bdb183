//! How long a new consumer takes to hear everything.
use std::time::{Duration, Instant};

use rapport::suite::Role;
use rapport_store::{Db, Options};
use rapport_test_kit::World;
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Other, emit, on_the_bus, settled};
use crate::figure::{Aim, Figure};

/// Events that a new consumer hears.
const REPLAYED: i64 = 200_000;

pub(crate) async fn measure() -> Vec<Figure> {
    let world = &World::new().await;
    let tenant: Uuid = world.tenant("replayed").await.id.parse().unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    for _ in 0..REPLAYED / 1_000 {
        emit(&mut conn, tenant, 1_000).await;
    }
    settled(world).await;
    let total = on_the_bus(world).await;
    let other = Other::new(world, "replayed").await;
    let mut there = PgConnection::connect(&other.url).await.unwrap();
    let begun = Instant::now();
    let stop = other.hear(world, super::silent()).await;
    while other.heard(&mut there).await < total {
        sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.cancel();
    vec![
        Figure::plain(
            "1,000,000 events heard by a new consumer (reckoned from 200,000)",
            "s",
            seconds * 1_000_000.0 / total as f64,
            Aim::AtMost(60.0),
        ),
        verified(world).await,
    ]
}

/// How many events a second the log's digests and chains are computed anew of.
async fn verified(world: &World) -> Figure {
    let url = world.databases.database(Role::Customer).await.unwrap().url.expose_secret().to_owned();
    let db = Db::connect(&Options { url, pool_size: 1 }).await.unwrap();
    let begun = Instant::now();
    let verified = rapport_events::verify(&db).await.unwrap();
    assert_eq!(verified.faults, Vec::<String>::new());
    let pace = verified.lines as f64 / begun.elapsed().as_secs_f64();
    Figure::plain("events of the log verified", "/s", pace, Aim::AtLeast(200_000.0))
}
