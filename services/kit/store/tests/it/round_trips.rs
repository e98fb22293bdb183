//! What a call costs on the wire.
use rapport_store::{ExternalId, ListParams};

use crate::{
    widget::Widget,
    wire::Wire,
    world::{World, answer, asked, boss, insert, new_id, seller, tenant},
};

/// The database behind a proxy, with one connection, on which everything was done once: statements are prepared.
async fn warm(world: &World) -> (rapport_store::Db, Wire) {
    let wire = Wire::before(&world.url("rapport_store")).await;
    let db = world.db_at(wire.url(&world.url("rapport_store")), 1).await;
    (db, wire)
}

#[tokio::test]
async fn a_create_that_began_properly_is_three_round_trips_and_its_write_is_one_statement() {
    let world = World::new().await;
    let (db, wire) = warm(&world).await;
    let ctx = boss(tenant());
    for turn in 0..3 {
        let ctx = asked(&ctx, &format!("create-{turn}"), 1);
        wire.take();
        let mut tx = db.begin(&ctx).await.unwrap();
        let begun = wire.take();
        let widget = Widget::new(&ctx, "茶壶").with_key("erp", &format!("t{turn}"));
        insert(&mut tx, &widget);
        tx.commit(answer("茶壶")).await.unwrap();
        let written = wire.take();
        if turn == 0 {
            continue;
        }
        assert_eq!((begun.round_trips, begun.simple.len(), begun.executed), (1, 1, 0), "{begun:?}");
        assert!(begun.simple[0].starts_with("BEGIN; SELECT rapport.enter("));
        assert_eq!((written.round_trips, written.executed), (2, 1), "{written:?}");
        assert_eq!(written.simple, ["SELECT; COMMIT"]);
        assert!(written.prepared.is_empty(), "{written:?}");
    }
    let rows: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM widgets), (SELECT count(*) FROM external_ids),
           (SELECT count(*) FROM platform.outbox), (SELECT count(*) FROM platform.answers)",
    )
    .fetch_one(&mut world.admin().await)
    .await
    .unwrap();
    assert_eq!(rows, (3, 3, 3, 3));
}

#[tokio::test]
async fn a_thousand_records_take_the_statement_that_two_take() {
    let world = World::new().await;
    let (db, wire) = warm(&world).await;
    let ctx = boss(tenant());
    let mut statements = Vec::new();
    for count in [2, 1_000] {
        wire.take();
        let mut tx = db.begin(&ctx).await.unwrap();
        for n in 0..count {
            insert(&mut tx, &Widget::new(&ctx, &format!("w{n}")).with_key("erp", &format!("{count}-{n}")));
        }
        tx.finish().await.unwrap();
        let seen = wire.take();
        assert_eq!(seen.executed, if count == 2 { seen.prepared.len() } else { 1 }, "{seen:?}");
        statements.extend(seen.prepared.into_iter().filter(|sql| sql.contains("INSERT INTO widgets")));
    }
    assert_eq!(statements.len(), 1, "prepared once, for both");
}

#[tokio::test]
async fn an_update_is_four_round_trips_and_a_hand_over_five() {
    let world = World::new().await;
    let (db, wire) = warm(&world).await;
    let ctx = seller(tenant());
    let widget = Widget::new(&ctx, "a");
    crate::world::create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let other = new_id();
    let mut version = widget.clone();
    for (turn, expected) in [(0, None), (1, Some(4)), (2, None)] {
        wire.take();
        version = crate::world::change(&db, &ctx, version.id, |w| w.size += turn).await;
        let seen = wire.take();
        assert!(
            expected.is_none_or(|expected| seen.round_trips == expected && seen.prepared.is_empty()),
            "{seen:?}"
        );
    }
    wire.take();
    crate::world::change(&db, &ctx, version.id, |w| w.owner_id = Some(other)).await;
    let seen = wire.take();
    assert_eq!(seen.round_trips - seen.prepared.len(), 5, "{seen:?}");
}

#[tokio::test]
async fn statements_do_not_vary_with_values() {
    let world = World::new().await;
    let (db, wire) = warm(&world).await;
    let mut lists = Vec::new();
    for (ctx, limit, filter) in [
        (boss(tenant()), 10, "name == \"a\" && size in [1, 2]"),
        (boss(tenant()), 11, "name == \"b'; DROP TABLE widgets\" && size in [7, 8, 9]"),
    ] {
        wire.take();
        let mut tx = db.begin(&ctx).await.unwrap();
        let widget = Widget::new(&ctx, "b'; --");
        insert(&mut tx, &widget);
        let got: Widget = tx.get_for_update(widget.id).await.unwrap();
        assert_eq!(got, widget);
        let params = ListParams { filter, order_by: "size desc", page_size: limit, ..ListParams::default() };
        tx.list::<Widget>(&params).await.unwrap();
        let ids =
            vec![ExternalId { source: format!("s{limit}"), external_id: "x".into() }; 1 + limit as usize % 3];
        tx.by_external_ids::<Widget>(&ids).await.unwrap();
        tx.finish().await.unwrap();
        let seen = wire.take();
        let (listed, others): (Vec<_>, Vec<_>) =
            seen.prepared.into_iter().partition(|sql| sql.contains("sort_value"));
        assert!(limit == 10 || others.is_empty(), "prepared anew: {others:?}");
        lists.extend(listed);
    }
    // A list is planned for its own values, every time, from the same text.
    assert!(lists.len() == 2 && lists[0] == lists[1], "{lists:?}");
}

#[tokio::test]
async fn filters_do_not_crowd_out_what_is_prepared() {
    let world = World::new().await;
    let (db, wire) = warm(&world).await;
    let ctx = boss(tenant());
    let widget = Widget::new(&ctx, "a");
    crate::world::create(&db, &ctx, std::slice::from_ref(&widget)).await;
    db.begin(&ctx).await.unwrap().get::<Widget>(widget.id).await.unwrap();
    for n in 1..150 {
        let filter = vec!["size == 1"; n % 50 + 1].join(if n < 50 {
            " || "
        } else if n < 100 {
            " && "
        } else {
            " || done || "
        });
        let params = ListParams { filter: &filter, ..ListParams::default() };
        db.begin(&ctx).await.unwrap().list::<Widget>(&params).await.unwrap();
    }
    wire.take();
    db.begin(&ctx).await.unwrap().get::<Widget>(widget.id).await.unwrap();
    assert_eq!(wire.take().prepared, Vec::<String>::new());
}
