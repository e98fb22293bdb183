//! Indexes that a worker builds in pieces, while writers go on.
use rapport_kernel::{Clock, Ctx};
use rapport_proto::fields::v1::FieldKind;
use rapport_store::{
    Db, ListParams,
    fields::{Definition, FieldState, build_indexes},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    fields::{archive, define, field, give, undelete, widget},
    indexing::set_indexed,
    lists::pages,
    widget::TABLES,
    world::{World, boss, create, tenant},
};

/// A tenant with more records than are indexed at once; each has its number as size, as text and as number.
async fn many(world: &World, db: &Db, count: i32) -> (Ctx, Definition) {
    let ctx = boss(tenant());
    create(db, &ctx, &[]).await;
    drop(db.begin(&ctx).await.unwrap());
    let defined = define(db, &ctx, field("number", FieldKind::Number)).await.unwrap();
    sqlx::query(
        "INSERT INTO widgets (tenant_id, id, version, name, size, made_on, done, owner_id, tags, attributes, external_ids, create_time)
         SELECT $1, gen_random_uuid(), 1, 'w' || n, n, '2026-01-31', false, NULL, '{}',
           CASE WHEN n % 10 = 0 THEN '{}' ELSE jsonb_build_object('number', n % 100) END, '[]', now()
         FROM generate_series(1, $2) n",
    )
    .bind(ctx.tenant)
    .bind(count)
    .execute(&mut world.admin().await)
    .await
    .unwrap();
    (ctx, defined)
}

/// Whether every record has exactly the index row that its value asks for.
async fn index_is_right(world: &World, field: Uuid) -> bool {
    sqlx::query_scalar(
        "SELECT count(*) = 0 FROM widgets w FULL JOIN (SELECT * FROM attribute_numbers WHERE field_id = $1) a
           ON a.tenant_id = w.tenant_id AND a.record_id = w.id
         WHERE (a.present, a.value) IS DISTINCT FROM
           (w.attributes ? 'number', coalesce((w.attributes ->> 'number')::numeric * 100, 0)::bigint)",
    )
    .bind(field)
    .fetch_one(&mut world.admin().await)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_builds_while_writers_go_on_and_nothing_is_missed() {
    let world = World::new().await;
    let (here, there) = (world.db().await, world.db().await);
    let (ctx, defined) = many(&world, &here, 9_000).await;
    assert_eq!(set_indexed(&here, &ctx, &defined, true).await.state, FieldState::Indexing);
    let by = ListParams { order_by: "attributes.number", ..ListParams::default() };
    let early = crate::lists::list(&there, &ctx, by).await.unwrap_err();
    assert!(early.to_string().contains("`attributes.number` cannot be sorted by"), "{early}");

    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM widgets ORDER BY random() LIMIT 400")
        .fetch_all(&mut world.admin().await)
        .await
        .unwrap();
    let writers: Vec<_> = ids
        .chunks(100)
        .enumerate()
        .map(|(n, ids)| {
            let (db, ctx, ids) =
                (if n % 2 == 0 { here.clone() } else { there.clone() }, ctx.clone(), ids.to_vec());
            tokio::spawn(async move {
                let mut again = 0;
                for (m, id) in ids.iter().enumerate() {
                    let value = if m % 7 == 0 { json!(null) } else { json!(m) };
                    while give(&db, &ctx, *id, json!({"number": value.clone()})).await.is_err() {
                        again += 1;
                    }
                    while m % 5 == 0 && widget(&db, &ctx, "new", json!({"number": m})).await.is_err() {
                        again += 1;
                    }
                }
                again
            })
        })
        .collect();
    let workers: Vec<_> = [here.clone(), there.clone()]
        .into_iter()
        .map(|db| {
            tokio::spawn(async move {
                let mut pieces = 0;
                while build_indexes(&db, &Clock::system(), TABLES).await.unwrap() {
                    pieces += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                pieces
            })
        })
        .collect();
    let mut again = 0;
    for writer in writers {
        again += writer.await.unwrap();
    }
    let mut pieces = 0;
    for worker in workers {
        pieces += worker.await.unwrap();
    }
    println!("{pieces} pieces; writers began again {again} times");
    assert!(index_is_right(&world, defined.id).await);
    let sorted = pages(&here, &ctx, ListParams { page_size: 200, ..by }).await;
    assert_eq!(sorted.len(), 9_000 + 4 * 20);
    let state: String = sqlx::query_scalar("SELECT state FROM custom_fields")
        .fetch_one(&mut world.admin().await)
        .await
        .unwrap();
    assert_eq!(state, "active");
}

#[tokio::test]
async fn an_index_that_is_begun_anew_half_way_is_built_whole() {
    let world = World::new().await;
    let db = world.db().await;
    let (ctx, defined) = many(&world, &db, 7_000).await;
    set_indexed(&db, &ctx, &defined, true).await;
    let build = async || build_indexes(&db, &Clock::system(), TABLES).await.unwrap();
    let done_to = async || -> Option<Uuid> {
        sqlx::query_scalar("SELECT done_to FROM platform.field_indexing")
            .fetch_optional(&mut world.admin().await)
            .await
            .unwrap()
    };
    for _ in 0..3 {
        assert!(build().await);
    }
    assert!(done_to().await.is_some_and(|to| !to.is_nil()));
    archive(&db, &ctx, defined.id).await.unwrap();
    // Records change while the field is archived and its index half-made; the old worker gives up.
    sqlx::query("UPDATE widgets SET attributes = '{\"number\": 5}', version = 2 WHERE size % 3 = 0")
        .execute(&mut world.admin().await)
        .await
        .unwrap();
    assert_eq!(undelete(&db, &ctx, defined.id).await.unwrap().state, FieldState::Indexing);
    assert_eq!(done_to().await, Some(Uuid::nil()));
    while build().await {}
    assert_eq!(done_to().await, None);
    assert!(index_is_right(&world, defined.id).await);
    // Given up half-way, it leaves no work behind.
    set_indexed(&db, &ctx, &defined, false).await;
    set_indexed(&db, &ctx, &defined, true).await;
    build().await;
    assert_eq!(set_indexed(&db, &ctx, &defined, false).await.state, FieldState::Active);
    build().await;
    assert_eq!(done_to().await, None);
}

#[tokio::test]
async fn a_piece_that_came_too_late_does_not_count() {
    let world = World::new().await;
    let db = world.db().await;
    let (ctx, defined) = many(&world, &db, 5_100).await;
    set_indexed(&db, &ctx, &defined, true).await;
    let moved = async |from: Uuid, to: Option<Uuid>| -> bool {
        let mut tx = db.begin(&ctx).await.unwrap();
        let moved = sqlx::query_scalar("SELECT rapport.index_moved($1, $2, $3)")
            .bind(defined.id)
            .bind(from)
            .bind(to)
            .fetch_one(tx.conn().await.unwrap())
            .await
            .unwrap();
        tx.finish().await.unwrap();
        moved
    };
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(moved(Uuid::nil(), Some(a)).await);
    assert!(!moved(Uuid::nil(), Some(b)).await, "another process did this piece");
    assert!(!moved(b, None).await, "it was begun anew meanwhile");
    assert!(moved(a, None).await);
}

#[tokio::test]
async fn one_tenant_that_is_stopped_does_not_stop_the_others() {
    let world = World::new().await;
    let db = world.db().await;
    let (stopped, field_of_stopped) = many(&world, &db, 5_100).await;
    let (ctx, defined) = many(&world, &db, 5_100).await;
    set_indexed(&db, &stopped, &field_of_stopped, true).await;
    set_indexed(&db, &ctx, &defined, true).await;
    let suspended = Ctx { tenant_state: (rapport_kernel::TenantState::Suspended, 2), ..stopped.clone() };
    assert!(db.begin(&suspended).await.is_err());
    while build_indexes(&db, &Clock::system(), TABLES).await.unwrap() {}
    let states: Vec<(bool, String)> =
        sqlx::query_as("SELECT tenant_id = $1, state FROM custom_fields ORDER BY 1")
            .bind(ctx.tenant)
            .fetch_all(&mut world.admin().await)
            .await
            .unwrap();
    assert_eq!(states, [(false, "indexing".into()), (true, "active".into())]);
}
