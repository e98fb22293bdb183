//! What only writes new records: its statement is the transaction.
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use rapport_kernel::{Ctx, Error, TenantState};
use rapport_proto::{customer::v1 as pb, fields::v1::FieldKind};
use rapport_store::{Db, TenantTx};
use tonic::Response;
use uuid::Uuid;

use crate::{
    fields::{define, field},
    widget::Widget,
    wire::Wire,
    world::{World, answer, asked, boss, create, create_at_once, insert, new_id, tenant},
};

/// Does `work` and says how often it was done.
async fn counted(
    db: &Db,
    ctx: &Ctx,
    work: impl for<'t> Fn(&'t mut TenantTx) -> BoxFuture<'t, Result<pb::Customer, Error>>,
) -> (Result<Response<pb::Customer>, Error>, usize) {
    let times = AtomicUsize::new(0);
    let done = db
        .write(ctx, |tx| {
            times.fetch_add(1, Ordering::SeqCst);
            work(tx)
        })
        .await;
    (done, times.into_inner())
}

/// Inserts a widget with its event.
fn one_more(tx: &mut TenantTx) -> BoxFuture<'_, Result<pb::Customer, Error>> {
    Box::pin(async move {
        let widget = Widget::new(tx.ctx(), "one more");
        insert(tx, &widget);
        Ok(answer(&tx.fields_version().to_string()))
    })
}

/// Does nothing.
fn nothing(_: &mut TenantTx) -> BoxFuture<'_, Result<pb::Customer, Error>> {
    Box::pin(async { Ok(answer("nothing")) })
}

async fn counts(world: &World) -> (i64, i64, i64) {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM widgets), (SELECT count(*) FROM platform.outbox),
           (SELECT count(*) FROM platform.answers)",
    )
    .fetch_one(&mut world.admin().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_create_is_one_round_trip() {
    let world = World::new().await;
    let wire = Wire::before(&world.url("rapport_store")).await;
    let db = world.db_at(wire.url(&world.url("rapport_store")), 1).await;
    let ctx = boss(tenant());
    for turn in 0..4 {
        let ctx = if turn % 2 == 0 { ctx.clone() } else { asked(&ctx, &format!("r-{turn}"), 1) };
        wire.take();
        create_at_once(&db, &ctx, "茶壶").await.unwrap();
        let seen = wire.take();
        // The first learns of the tenant, the next two prepare their statements.
        if turn == 3 {
            assert_eq!((seen.round_trips, seen.executed, seen.simple.len()), (1, 1, 0), "{seen:?}");
            assert!(seen.prepared.is_empty(), "{seen:?}");
        }
    }
    assert_eq!(counts(&world).await, (4, 4, 2));
}

#[tokio::test]
async fn tenants_take_turns_on_one_connection_and_keep_to_themselves() {
    let world = World::new().await;
    let db = world.db_at(world.url("rapport_store"), 1).await;
    let tenants: Vec<Ctx> = (0..3).map(|_| boss(tenant())).collect();
    for turn in 0..4 {
        for ctx in &tenants {
            create_at_once(&db, ctx, &format!("widget {turn}")).await.unwrap();
        }
    }
    for table in ["widgets", "platform.outbox"] {
        let sql = format!("SELECT tenant_id, count(*) FROM {table} GROUP BY 1 ORDER BY 1");
        let rows: Vec<(Uuid, i64)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut world.admin().await).await.unwrap();
        let mut expected: Vec<_> = tenants.iter().map(|ctx| (ctx.tenant.uuid(), 4)).collect();
        expected.sort();
        assert_eq!(rows, expected, "{table}");
    }
}

#[tokio::test]
async fn what_was_known_of_the_tenant_is_old_and_the_work_is_done_again() {
    let world = World::new().await;
    let (here, there) = (world.db().await, world.db().await);
    let ctx = boss(tenant());
    create_at_once(&here, &ctx, "now the tenant is known here").await.unwrap();
    define(&there, &ctx, field("colour", FieldKind::Text)).await.unwrap();
    let (done, times) = counted(&here, &ctx, one_more).await;
    assert_eq!((done.unwrap().into_inner(), times), (answer("1"), 2), "with the fields of today");
    let (done, times) = counted(&here, &ctx, one_more).await;
    assert_eq!((done.unwrap().into_inner(), times), (answer("1"), 1));
    // A newer state of the tenant is learned.
    let newer = Ctx { tenant_state: (TenantState::Active, 2), ..ctx.clone() };
    let (done, times) = counted(&here, &newer, one_more).await;
    assert_eq!((done.is_ok(), times), (true, 2));
    assert_eq!(counts(&world).await.0, 4);
}

#[tokio::test]
async fn a_refusal_is_made_again_by_whoever_knows_and_only_then_told() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let taken = Widget::new(&ctx, "taken");
    create(&db, &ctx, std::slice::from_ref(&taken)).await;
    let before = counts(&world).await;

    let (refused, times) =
        counted(&db, &ctx, |_| Box::pin(async { Err(Error::invalid("name", "is missing")) })).await;
    assert_eq!((refused.unwrap_err().reason(), times), ("INVALID", 2));
    // One that has read knows already.
    let (refused, times) = counted(&db, &ctx, |tx| {
        Box::pin(async move {
            tx.get::<Widget>(new_id()).await?;
            Ok(answer("never"))
        })
    })
    .await;
    assert_eq!((refused.unwrap_err().reason(), times), ("NOT_FOUND", 1));
    let id = taken.id;
    let (refused, times) = counted(&db, &ctx, |tx| {
        Box::pin(async move {
            let widget = Widget { id, ..Widget::new(tx.ctx(), "again") };
            insert(tx, &widget);
            Ok(answer("never"))
        })
    })
    .await;
    assert_eq!((refused.unwrap_err().reason(), times), ("ALREADY_EXISTS", 2));
    assert_eq!(counts(&world).await, before, "nothing is half-written");
}

#[tokio::test]
async fn what_reads_after_it_wrote_sees_it_and_what_writes_nothing_is_still_checked() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    create_at_once(&db, &ctx, "first").await.unwrap();
    let (done, times) = counted(&db, &ctx, |tx| {
        Box::pin(async move {
            let widget = Widget::new(tx.ctx(), "second");
            insert(tx, &widget);
            let read: Widget = tx.get(widget.id).await?;
            Ok(answer(&read.name))
        })
    })
    .await;
    assert_eq!((done.unwrap().into_inner(), times), (answer("second"), 1));
    let stopped = Ctx { tenant_state: (TenantState::Suspended, 2), ..ctx.clone() };
    assert_eq!(counted(&db, &stopped, nothing).await.0.unwrap_err().reason(), "TENANT_NOT_SERVED");
    assert_eq!(counted(&db, &ctx, nothing).await.0.unwrap_err().reason(), "TENANT_NOT_SERVED");
    assert_eq!(counted(&db, &ctx, one_more).await.0.unwrap_err().reason(), "TENANT_NOT_SERVED");
    let readonly = Ctx { tenant_state: (TenantState::ReadOnly, 3), ..ctx.clone() };
    assert_eq!(counted(&db, &readonly, one_more).await.0.unwrap_err().reason(), "TENANT_READ_ONLY");
    assert_eq!(counted(&db, &ctx, one_more).await.0.unwrap_err().reason(), "TENANT_READ_ONLY");
    assert_eq!(counts(&world).await.0, 2);
}

#[tokio::test]
async fn what_was_cut_off_before_it_began_cannot_be_committed_over() {
    let world = World::new().await;
    let db = world.db_at(world.url("rapport_store"), 1).await;
    let ctx = boss(tenant());
    create_at_once(&db, &ctx, "before").await.unwrap();
    // While somebody else has the only connection.
    let other = db.begin(&ctx).await.unwrap();
    let (refused, times) = counted(&db, &ctx, |tx| {
        Box::pin(async move {
            let (lost, kept) = (Widget::new(tx.ctx(), "lost"), Widget::new(tx.ctx(), "kept"));
            insert(tx, &lost);
            let read = tokio::time::timeout(Duration::from_millis(50), tx.get::<Widget>(lost.id)).await;
            assert!(read.is_err(), "{read:?}");
            insert(tx, &kept);
            Ok(answer("one of two"))
        })
    })
    .await;
    assert_eq!((refused.unwrap_err().reason(), times), ("INTERNAL", 1));
    drop(other);
    assert_eq!(counts(&world).await.0, 1);
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_not_felt() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    create_at_once(&db, &ctx, "before").await.unwrap();
    assert!(world.kill_sessions().await > 0);
    // One that was lent within the last second is not asked whether it lives.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    create_at_once(&db, &ctx, "after").await.unwrap();
    // Whether this one came through nobody knows, but a request with an id can be made again.
    assert!(world.kill_sessions().await > 0);
    create_at_once(&db, &asked(&ctx, "r", 1), "at once").await.unwrap();
    assert_eq!(counts(&world).await, (3, 3, 1));
}
