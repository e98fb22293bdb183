//! As many events as have to be kept up with.
use std::time::{Duration, Instant};

use rapport::suite::Role;
use rapport_test_kit::World;
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Other, emit};
use crate::figure::{Aim, Figure, median};

/// Events a second.
const SUSTAINED: i64 = 5_000;

/// What waits while 5,000 events a second come: at the end as at the beginning.
pub(super) async fn measure(world: &World, other: &Other) -> Vec<Figure> {
    let tenant: Uuid = world.tenant("sustained").await.id.parse().unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    let mut there = PgConnection::connect(&other.url).await.unwrap();
    let before = other.heard(&mut there).await;
    let time = Duration::from_secs(60) * minutes();
    let begun = Instant::now();
    let (mut sent, mut lags) = (0, Vec::new());
    let piece = 50;
    while begun.elapsed() < time {
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
        Figure::plain(
            &format!("events/s sustained, minutes: {}", minutes()),
            "/s",
            pace,
            Aim::AtLeast(4_900.0),
        ),
        Figure::plain("— that wait in the first half, middle", "events", early, Aim::None),
        Figure::plain("— in the second half", "events", late, Aim::AtMost(2_500.0)),
    ]
}

/// For how many minutes: one, unless RAPPORT_BENCH_MINUTES says so.
fn minutes() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "a measurement is told by its environment")]
    let asked = std::env::var("RAPPORT_BENCH_MINUTES").ok();
    asked.and_then(|minutes| minutes.parse().ok()).unwrap_or(1)
}
