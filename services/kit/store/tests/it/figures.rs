//! What calls take on this machine, one after the other on one connection. Not a test: `cargo test -p rapport-store figures --
//! --ignored --nocapture` prints a table.
use std::time::{Duration, Instant};

use rapport_store::{Db, ListParams};
use sqlx::{Connection as _, Executor as _};

use crate::{
    widget::Widget,
    world::{World, answer, asked, boss, create, insert, tenant},
};

const TURNS: u32 = 1_000;

/// Microseconds per turn, the mean of `TURNS`.
async fn each(name: &str, mut turn: impl AsyncFnMut(u32)) {
    for n in 0..20 {
        turn(n).await;
    }
    let begun = Instant::now();
    for n in 20..20 + TURNS {
        turn(n).await;
    }
    println!("{name:<40} {:>8} µs", (begun.elapsed() / TURNS).as_micros());
}

#[tokio::test]
#[ignore = "measures, and tests nothing"]
async fn figures() {
    let world = World::new().await;
    let db = world.db_at(world.url("rapport_store"), 1).await;
    let ctx = boss(tenant());
    let known: Vec<_> = (0..2_000).map(|n| Widget::new(&ctx, &format!("known {n}"))).collect();
    create(&db, &ctx, &known).await;
    world.admin().await.execute("ANALYZE").await.unwrap();

    let mut raw = crate::world::connect(&world.url("rapport_store")).await;
    each("ping", async |_| raw.ping().await.unwrap()).await;
    each("begin and commit, nothing in it", async |_| {
        db.begin(&ctx).await.unwrap().commit(answer("")).await.unwrap();
    })
    .await;
    each("get", async |n| {
        let mut tx = db.begin(&ctx).await.unwrap();
        tx.get::<Widget>(known[n as usize].id).await.unwrap();
        tx.commit(answer("")).await.unwrap();
    })
    .await;
    each("create with request id and event", async |n| {
        let ctx = asked(&ctx, &format!("r{n}"), 1);
        let mut tx = db.begin(&ctx).await.unwrap();
        insert(&mut tx, &Widget::new(&ctx, "new"));
        tx.commit(answer("new")).await.unwrap();
    })
    .await;
    each("update with event", async |n| {
        let mut tx = db.begin(&ctx).await.unwrap();
        let before: Widget = tx.get_for_update(known[n as usize].id).await.unwrap();
        let after = before.changed(|w| w.size = n.into());
        tx.update(&before, &after).unwrap();
        tx.emit(&after, &rapport_proto::customer::v1::CustomerShared::default()).unwrap();
        tx.commit(answer("new")).await.unwrap();
    })
    .await;
    each("list of 50 by name, filtered", async |_| {
        let mut tx = db.begin(&ctx).await.unwrap();
        let params = ListParams { filter: "size > 10 && !done", order_by: "name", ..ListParams::default() };
        tx.list::<Widget>(&params).await.unwrap();
        tx.commit(answer("")).await.unwrap();
    })
    .await;
    batch(&db, &ctx).await;
}

async fn batch(db: &Db, ctx: &rapport_kernel::Ctx) {
    let mut spent = Duration::ZERO;
    for _ in 0..10 {
        let widgets: Vec<_> = (0..1_000).map(|n| Widget::new(ctx, &format!("batch {n}"))).collect();
        let begun = Instant::now();
        create(db, ctx, &widgets).await;
        spent += begun.elapsed();
    }
    println!("{:<40} {:>8} rows/s", "batches of 1,000, with events", (10_000.0 / spent.as_secs_f64()) as u64);
}
