//! From a commit to its effect in another service.
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rapport_test_kit::{Tenant, World};
use sqlx::postgres::PgListener;
use tokio::{task::JoinSet, time::sleep};

use super::{Other, request};
use crate::{
    figure::{Aim, Figure},
    load::times,
};

/// Events that are committed in a second while the way of each is timed.
const PACE: u64 = 500;
const WRITERS: u64 = 16;
const TIMED: Duration = Duration::from_secs(20);
/// Tokens live longer, but not much.
const RENEW: Duration = Duration::from_secs(20);

pub(super) async fn measure(world: &World, other: &Other) -> Vec<Figure> {
    let tenant = world.tenant("timed").await;
    let begun = Instant::now();
    let took = effects(world, other, &tenant, PACE, sleep(TIMED)).await;
    let pace = took.len() as f64 / begun.elapsed().as_secs_f64();
    vec![
        Figure::plain(
            "commit to effect in another service at 500 events/s, p50",
            "ms",
            ms(&took, 0.5),
            Aim::AtMost(15.0),
        ),
        Figure::plain("— p99", "ms", ms(&took, 0.99), Aim::AtMost(50.0)),
        Figure::plain("— events/s", "/s", pace, Aim::None),
    ]
}

pub(super) fn ms(took: &Histogram<u64>, quantile: f64) -> f64 {
    took.value_at_quantile(quantile) as f64 / 1_000.0
}

/// The times from the answer to a create to its effect in another service's database, as a listener there sees it. The tenant
/// creates so many a second for as long as `meanwhile` takes.
pub(super) async fn effects(
    world: &World,
    other: &Other,
    tenant: &Tenant,
    pace: u64,
    meanwhile: impl Future<Output = ()>,
) -> Histogram<u64> {
    let mut listener = PgListener::connect(&other.url).await.unwrap();
    listener.listen("effects").await.unwrap();
    let effects = Arc::new(Mutex::new(HashMap::<String, Instant>::new()));
    let seen = effects.clone();
    let listening = tokio::spawn(async move {
        while let Ok(told) = listener.recv().await {
            seen.lock().unwrap().insert(told.payload().to_owned(), Instant::now());
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let begun = Instant::now();
    for writer in 0..WRITERS {
        let (caller, url, over) = ((**tenant).clone(), world.grpc_url(), over.clone());
        writers.spawn(async move {
            let mut customers = caller.renewed().await.customers_at(&url);
            let mut answered = Vec::new();
            let (mut n, mut renewed) = (writer, Instant::now());
            while !over.load(Ordering::Relaxed) {
                let due = Duration::from_micros(n * 1_000_000 / pace);
                sleep(due.saturating_sub(begun.elapsed())).await;
                let customer = customers.create_customer(request(n)).await.unwrap().into_inner();
                answered.push((customer.id, Instant::now()));
                n += WRITERS;
                if renewed.elapsed() > RENEW {
                    (customers, renewed) = (caller.renewed().await.customers_at(&url), Instant::now());
                }
            }
            answered
        });
    }
    meanwhile.await;
    over.store(true, Ordering::Relaxed);
    let answered: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let mut took: Histogram<u64> = times();
    for (id, at) in &answered {
        let effect = loop {
            if let Some(effect) = effects.lock().unwrap().get(id) {
                break *effect;
            }
            sleep(Duration::from_millis(20)).await;
        };
        took.record(effect.saturating_duration_since(*at).as_micros() as u64).unwrap();
    }
    listening.abort();
    took
}
