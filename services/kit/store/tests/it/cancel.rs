//! Calls that are cut off at any point never hand an open or aborted transaction to the next borrower.
use std::task::Poll;

use rapport_kernel::{Ctx, Instant};
use rapport_store::Db;
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};

use crate::{
    widget::Widget,
    world::{World, answer, boss, create, create_at_once, insert, tenant},
};

/// How many calls are cut off.
const CUTS: usize = 400;
/// How many are tried at most: whether a call comes to its end before the cut depends on how often it waits this time.
const TURNS: usize = 10 * CUTS;

/// One unit of work, with a statement that fails now and then.
async fn work(db: &Db, ctx: &Ctx, widget: &Widget, turn: usize) {
    if turn % 3 == 1 {
        let _ = create_at_once(db, ctx, "cut off").await;
        return;
    }
    let Ok(mut tx) = db.begin(ctx).await else { return };
    if turn.is_multiple_of(7) {
        let _ = sqlx::query("SELECT 1 / 0").execute(tx.conn().await.unwrap()).await;
        return;
    }
    let _ = tx.get_for_update::<Widget>(widget.id).await;
    insert(&mut tx, &Widget::new(ctx, "cut off"));
    let _ = tx.commit(answer("done")).await;
}

/// Runs `call` until it has waited `waits` times, then drops it; says how often it waited, if it came to its end.
pub(crate) async fn cut_after(waits: usize, call: impl Future<Output = ()>) -> Option<usize> {
    let mut call = Box::pin(call);
    let mut waited = 0;
    std::future::poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(Some(waited)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

/// Whether the next borrower of the only connection finds it as it should be: in no transaction, and of no tenant.
async fn is_clean(db: &Db, other: &mut PgConnection) -> bool {
    let before: Instant = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(other).await.unwrap();
    let mut platform = db.platform().await.unwrap();
    let (fresh, tenant): (bool, Option<String>) = sqlx::query_as(
        "SELECT now() >= $1 AND pg_current_xact_id_if_assigned() IS NULL,
           nullif(current_setting('rapport.tenant', true), '')",
    )
    .bind(before)
    .fetch_one(platform.conn().unwrap())
    .await
    .unwrap();
    platform.commit().await.unwrap();
    fresh && tenant.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_calls_cut_off_anywhere_leave_no_transaction_behind() {
    let world = World::new().await;
    let db = world.db_at(world.url("rapport_store"), 1).await;
    let ctx = boss(tenant());
    let widget = Widget::new(&ctx, "a");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    // How often a whole call waits, so that the cuts fall all over it: at every place where it can be cut.
    let mut whole = 0;
    for turn in 0..10 {
        whole = whole.max(cut_after(usize::MAX, work(&db, &ctx, &widget, turn)).await.unwrap());
    }
    let mut admin = world.admin().await;
    let (mut cut, mut turn) = (0, 0);
    while cut < CUTS {
        assert!(turn < TURNS, "only {cut} of {turn} were cut off");
        let waits = rand::random_range(0..=whole);
        cut += usize::from(cut_after(waits, work(&db, &ctx, &widget, turn)).await.is_none());
        assert!(is_clean(&db, &mut admin).await, "turn {turn}, cut after {waits} of {whole} waits");
        turn += 1;
    }
    // Events and records are there together or not at all.
    let (records, events): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM widgets), (SELECT count(*) FROM platform.outbox)")
            .fetch_one(&mut admin)
            .await
            .unwrap();
    assert_eq!(records, events);
}

/// The same with sqlx's own transactions: this is what the store's are for. Were it to find nothing, the test above would
/// prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_loop_with_sqlxs_own_transactions_finds_some() {
    let world = World::new().await;
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect(&world.url("postgres"))
        .await
        .unwrap();
    let mut found = 0;
    for _ in 0..CUTS {
        let begun = async {
            #[expect(clippy::disallowed_methods, reason = "this is what is shown to fail")]
            let begun = pool.begin_with("BEGIN; SELECT set_config('rapport.tenant', 'somebody', true)").await;
            let Ok(mut tx) = begun else { return };
            sqlx::query("SELECT pg_current_xact_id()").execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        };
        cut_after(rand::random_range(0..8), begun).await;
        let tenant: Option<String> =
            sqlx::query_scalar("SELECT nullif(current_setting('rapport.tenant', true), '')")
                .fetch_one(&pool)
                .await
                .unwrap_or_default();
        found += usize::from(tenant.is_some());
    }
    println!("{found} of {CUTS} left their transaction behind");
    assert!(found > 0);
}
