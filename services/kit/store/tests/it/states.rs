//! Whether a tenant is served: the token says what it knows, the service's own copy keeps the newest.
use rapport_kernel::{Clock, Ctx, Error, Id, TenantState};
use rapport_store::Db;

use crate::{
    widget::Widget,
    world::{World, answer, asked, boss, create, insert, tenant},
};

fn token(ctx: &Ctx, state: TenantState, generation: i64) -> Ctx {
    Ctx { tenant_state: (state, generation), ..ctx.clone() }
}

fn reason<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|error| error.reason(), |_| "SERVED")
}

async fn write(db: &Db, ctx: &Ctx) -> Result<(), Error> {
    let mut tx = db.begin(ctx).await?;
    insert(&mut tx, &Widget::new(ctx, "w"));
    tx.finish().await
}

#[tokio::test]
async fn suspended_and_deleted_tenants_are_not_entered() {
    let world = World::new().await;
    let db = world.db().await;
    for state in [TenantState::Suspended, TenantState::Deleted] {
        let ctx = boss(tenant());
        create(&db, &ctx, &[Widget::new(&ctx, "a")]).await;
        let stopped = token(&ctx, state, 2);
        assert_eq!(reason(db.begin(&stopped).await), "TENANT_NOT_SERVED");
        assert_eq!(reason(db.begin(&ctx).await), "TENANT_NOT_SERVED", "a token from before does not help");
        assert_eq!(reason(write(&db, &token(&ctx, TenantState::Active, 3)).await), "SERVED");
        assert_eq!(reason(write(&db, &stopped).await), "SERVED", "an older token does not stop it again");
    }
}

#[tokio::test]
async fn a_tenant_that_may_only_be_read_refuses_every_way_of_writing() {
    let world = World::new().await;
    let db = world.db().await;
    for state in [TenantState::ReadOnly, TenantState::Moving] {
        let ctx = boss(tenant());
        let widget = Widget::new(&ctx, "a");
        create(&db, &ctx, std::slice::from_ref(&widget)).await;
        let readonly = token(&ctx, state, 2);
        let mut tx = db.begin(&readonly).await.unwrap();
        assert_eq!(tx.get::<Widget>(widget.id).await.unwrap(), widget);
        tx.commit(answer("read")).await.unwrap();

        assert_eq!(reason(write(&db, &readonly).await), "TENANT_READ_ONLY");
        let mut tx = db.begin(&readonly).await.unwrap();
        assert_eq!(reason(tx.get_for_update::<Widget>(widget.id).await), "TENANT_READ_ONLY");
        let mut tx = db.begin(&readonly).await.unwrap();
        let raw = sqlx::query("UPDATE widgets SET name = 'raw'").execute(tx.conn().await.unwrap()).await;
        assert_eq!(reason(raw.map_err(rapport_store::database)), "TENANT_READ_ONLY");
        let tx = db.begin(&asked(&readonly, "nothing", 1)).await.unwrap();
        assert_eq!(reason(tx.commit(answer("kept")).await), "TENANT_READ_ONLY");
    }
}

#[tokio::test]
async fn a_writer_who_began_before_the_state_changed_is_refused_too() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "late"));
    drop(db.begin(&token(&ctx, TenantState::ReadOnly, 2)).await.unwrap());
    assert_eq!(reason(tx.finish().await), "TENANT_READ_ONLY");
}

#[tokio::test]
async fn the_suites_own_work_waits_until_a_tenant_is_known() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let own = Ctx::system(Id::new(ctx.tenant.uuid()), Clock::system());
    assert_eq!(reason(db.begin(&own).await), "TENANT_NOT_SERVED");
    drop(db.begin(&ctx).await.unwrap());
    assert_eq!(reason(db.begin(&own).await), "SERVED");
}

#[tokio::test]
async fn first_calls_do_not_wait_for_each_other() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let first = db.begin(&ctx).await.unwrap();
    let second = tokio::time::timeout(std::time::Duration::from_secs(2), db.begin(&ctx)).await;
    assert!(second.is_ok_and(|tx| tx.is_ok()), "the first call for a tenant holds up the second");
    drop(first);
}

#[tokio::test]
async fn of_two_tokens_that_are_learnt_at_once_the_newer_stays() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    create(&db, &ctx, &[Widget::new(&ctx, "a")]).await;
    assert_eq!(reason(db.begin(&token(&ctx, TenantState::Suspended, 3)).await), "TENANT_NOT_SERVED");
    // Somebody with an older token saw the state before that, and comes to tell it only now.
    let mut late = crate::world::connect(&world.url("rapport_store")).await;
    sqlx::query("SET ROLE rapport_service").execute(&mut late).await.unwrap();
    sqlx::query("SELECT rapport.learn($1, 'active', 2)").bind(ctx.tenant).execute(&mut late).await.unwrap();
    assert_eq!(reason(db.begin(&ctx).await), "TENANT_NOT_SERVED");
}
