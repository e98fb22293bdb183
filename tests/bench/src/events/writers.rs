//! What the log costs those who write.
use std::time::Duration;

use rapport::suite::Role;
use rapport_test_kit::World;
use tokio::time::sleep;

use super::{request, settled};
use crate::{
    figure::{Aim, Figure, median},
    load::callers,
};

const WRITERS: u64 = 16;

/// Creates a second with the log running, against none: somebody else pretends to lead it.
pub(super) async fn measure(world: &World) -> Vec<Figure> {
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
