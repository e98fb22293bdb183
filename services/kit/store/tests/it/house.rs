//! Housekeeping: what a service's database needs done unasked.
use std::time::Duration;

use rapport_kernel::{Clock, Ctx, Error};
use rapport_store::{fields::FieldState, keep_house};
use serde_json::json;

use crate::{
    fields::{define, field, widget},
    widget::TABLES,
    world::{World, answer, asked, boss, tenant},
};

#[tokio::test]
async fn indexes_are_built_and_old_answers_go() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let defined = define(&db, &ctx, field("city", rapport_proto::fields::v1::FieldKind::Text)).await.unwrap();
    widget(&db, &ctx, "a", json!({"city": "杭州"})).await.unwrap();
    let long_ago = Clock::chosen(|| "2020-01-01T00:00:00Z".parse().unwrap());
    let old = asked(&Ctx { clock: long_ago, ..ctx.clone() }, "old", 1);
    db.begin(&old).await.unwrap().commit(answer("old")).await.unwrap();
    db.begin(&asked(&ctx, "new", 1)).await.unwrap().commit(answer("new")).await.unwrap();
    let mut admin = world.admin().await;
    sqlx::query("UPDATE custom_fields SET indexed = true, state = 'indexing'")
        .execute(&mut admin)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO platform.field_indexing (tenant_id, field_id, resource) VALUES ($1, $2, 'widget')",
    )
    .bind(ctx.tenant)
    .bind(defined.id)
    .execute(&mut admin)
    .await
    .unwrap();

    let clock = Clock::system();
    assert!(
        tokio::time::timeout(Duration::from_secs(3), keep_house(&db, &clock, TABLES)).await.is_err(),
        "it goes on for good"
    );

    let answers: Vec<String> =
        sqlx::query_scalar("SELECT key FROM platform.answers").fetch_all(&mut admin).await.unwrap();
    assert_eq!(answers, ["new"]);
    let mut tx = db.begin(&ctx).await.unwrap();
    assert_eq!(
        tx.get::<rapport_store::fields::Definition>(defined.id).await.unwrap().state,
        FieldState::Active
    );
    let order = rapport_store::ListParams { order_by: "attributes.city", ..Default::default() };
    assert_eq!(tx.list::<crate::widget::Widget>(&order).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn statistics_of_tables_that_grew_are_counted_anew_by_their_owner() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let widgets: Vec<_> = (0..1_000).map(|n| crate::widget::Widget::new(&ctx, &format!("w{n}"))).collect();
    crate::world::create(&db, &ctx, &widgets).await;
    // PostgreSQL notes what was written within a second.
    let begun = std::time::Instant::now();
    while db.refresh_statistics().await.unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing was counted");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let known: f32 = sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE relname = 'widgets'")
        .fetch_one(&mut world.admin().await)
        .await
        .unwrap();
    assert_eq!(known, 1_000.0);
}

#[tokio::test]
async fn a_database_that_is_gone_is_told() {
    let world = World::new().await;
    let db = world.db().await;
    db.close().await;
    assert!(matches!(keep_house(&db, &Clock::system(), TABLES).await, Err(Error::Unavailable(_))));
}

#[test]
fn a_transaction_may_outlive_its_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, db, tx) = runtime.block_on(async {
        let world = World::new().await;
        let db = world.db().await;
        let tx = db.begin(&boss(tenant())).await.unwrap();
        (world, db, tx)
    });
    drop(tx);
    drop(runtime);
    drop(db);
    drop(world);
}
