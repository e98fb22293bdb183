//! What a tenant's neighbour has of the log while the tenant brings in a million rows.
use std::time::Duration;

use rapport::suite::Role;
use rapport_events::{Sabotage, sequencer};
use rapport_test_kit::{Options, World, telco};
use tokio::time::sleep;

use super::{
    Other, emit,
    latency::{effects, ms},
    settled, telling,
};
use crate::{
    figure::{Aim, Figure},
    import,
};

const ROWS: usize = 1_000_000;
/// Events that come faster than they are numbered.
const FLOOD: i64 = 100_000;
/// What the neighbour creates in a second.
const PACE: u64 = 20;
const QUIET: Duration = Duration::from_secs(30);

pub(crate) async fn measure() -> Vec<Figure> {
    let mut figures = vec![imported().await];
    figures.push(flooded(sequencer::Sabotage::None, "in turns", Aim::None).await);
    let sabotage = sequencer::Sabotage::FirstInFirstOut;
    figures.push(flooded(sabotage, "first in, first out (to show that it is seen)", Aim::AtLeast(2.0)).await);
    figures
}

/// While rows are imported.
async fn imported() -> Figure {
    let world = World::new().await;
    let (a, b) = (world.tenant("importer").await, world.tenant("neighbour").await);
    telco::define_fields(&a).await;
    let import = import::uploaded(&a, ROWS).await;
    let other = Other::new(&world, "neighbour").await;
    let stop = other.hear(&world, telling(Some(b.id.parse().unwrap()))).await;
    effects(&world, &other, &b, PACE, sleep(Duration::from_secs(3))).await;
    let quiet = effects(&world, &other, &b, PACE, sleep(QUIET)).await;
    let busy = effects(&world, &other, &b, PACE, async {
        let done = telco::work(&a, &import, "start").await;
        assert_eq!(done["progress"]["created"], ROWS.to_string(), "{done}");
    })
    .await;
    stop.cancel();
    let name = "tenant B's commit to effect while A imports 1,000,000 rows, against quiet, p99";
    Figure::ratio(name, "ms", ms(&busy, 0.99), ms(&quiet, 0.99), Aim::AtMost(2.0))
}

/// While another tenant's events wait in a long line.
async fn flooded(sequencer: sequencer::Sabotage, how: &str, aim: Aim) -> Figure {
    let sabotage_of_events = Sabotage { sequencer, ..Sabotage::default() };
    let world = World::with(Options { sabotage_of_events, ..Options::default() }).await;
    let (a, b) = (world.tenant("flood").await, world.tenant("neighbour").await);
    let other = Other::new(&world, "neighbour").await;
    let stop = other.hear(&world, telling(Some(b.id.parse().unwrap()))).await;
    effects(&world, &other, &b, PACE, sleep(Duration::from_secs(3))).await;
    let quiet = effects(&world, &other, &b, PACE, sleep(QUIET)).await;
    let busy = effects(&world, &other, &b, PACE, async {
        let mut conn = world.databases.superuser(Role::Customer).await;
        for _ in 0..FLOOD / 10_000 {
            emit(&mut conn, a.id.parse().unwrap(), 10_000).await;
        }
        settled(&world).await;
    })
    .await;
    stop.cancel();
    let name = format!("the same while 100,000 events of A wait, {how}");
    Figure::ratio(&name, "ms", ms(&busy, 0.99), ms(&quiet, 0.99), aim)
}
