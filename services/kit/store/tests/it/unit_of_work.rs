//! A transaction collects and writes at once: records, what lies beside them, and events.
use std::{collections::BTreeMap, sync::Arc};

use rapport_kernel::{Ctx, Error};
use rapport_proto::customer::v1 as pb;
use rapport_store::{Db, ExternalId};
use sqlx::PgConnection;
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::{
    widget::Widget,
    world::{World, answer, boss, change, create, insert, tenant},
};

fn reason<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|error| error.reason(), |_| "DONE")
}

async fn keys(conn: &mut PgConnection) -> Vec<(String, String)> {
    sqlx::query_as("SELECT source, external_id FROM external_ids ORDER BY 1, 2")
        .fetch_all(conn)
        .await
        .unwrap()
}

async fn setup() -> (World, Db, Ctx) {
    let world = World::new().await;
    let db = world.db().await;
    (world, db, boss(tenant()))
}

#[tokio::test]
async fn what_is_written_reads_back() {
    let (_world, db, ctx) = setup().await;
    let mut widget = Widget::new(&ctx, "杭州 \"tea\" \\ 'pot'\n\u{1}💮").with_key("erp", "ü/1");
    widget.size = i64::MIN;
    widget.tags = vec!["a,b".into(), "{}".into(), "\"".into(), "中".into()];
    (widget.price_minor, widget.price_currency) = (Some(-1), Some("CNY".into()));
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let mut tx = db.begin(&ctx).await.unwrap();
    assert_eq!(tx.get::<Widget>(widget.id).await.unwrap(), widget);
    let cleared = change(&db, &ctx, widget.id, |w| (w.price_minor, w.price_currency) = (None, None)).await;
    let mut tx = db.begin(&ctx).await.unwrap();
    assert_eq!(tx.get::<Widget>(widget.id).await.unwrap(), cleared);
}

#[tokio::test]
async fn the_outbox_row_says_who_changed_what() {
    let (world, db, ctx) = setup().await;
    let ctx = Ctx { trace: Some("00-a-b-01".into()), ..ctx };
    let widget = Widget::new(&ctx, "a");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let mut tx = db.begin(&ctx).await.unwrap();
    let before: Widget = tx.get_for_update(widget.id).await.unwrap();
    let after = before.changed(|w| w.name = "b".into());
    tx.update(&before, &after).unwrap();
    let event = pb::CustomerUpdated {
        customer: Some(answer("b")),
        before: Some(answer("a")),
        changed_paths: vec!["name".into()],
    };
    tx.emit_changed(&after, &event, &event.changed_paths).unwrap();
    tx.emit(&after, &pb::CustomerShared::default()).unwrap();
    tx.finish().await.unwrap();
    type Row = (Uuid, String, i64, String, String, Vec<String>, String, Option<String>, Vec<u8>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT record_id, resource, version, subject, type, changed_paths, principal, trace, payload
         FROM platform.outbox ORDER BY id",
    )
    .fetch_all(&mut world.admin().await)
    .await
    .unwrap();
    let principal = ctx.principal.to_string();
    let kinds: Vec<_> = rows.iter().map(|row| (row.2, row.4.as_str(), row.5.join(","))).collect();
    assert_eq!(
        kinds,
        [
            (1, "rapport.customer.v1.CustomerCreated", String::new()),
            (2, "rapport.customer.v1.CustomerUpdated", "name".into()),
            (2, "rapport.customer.v1.CustomerShared", String::new()),
        ]
    );
    assert!(rows.iter().all(|row| (row.0, row.1.as_str(), &row.6, row.7.as_deref())
        == (widget.id, "widget", &principal, Some("00-a-b-01"))));
    assert_eq!(rows[1].3, "customer.updated.v1");
    assert_eq!(<pb::CustomerUpdated as prost::Message>::decode(rows[1].8.as_slice()).unwrap(), event);
    let parts: Vec<(Uuid, i16)> = sqlx::query_as("SELECT record_id, part FROM platform.outbox")
        .fetch_all(&mut world.admin().await)
        .await
        .unwrap();
    let part = i16::from(rapport_store::part(ctx.tenant.uuid(), widget.id));
    assert!(parts.iter().all(|row| *row == (widget.id, part)), "events of one record are in one partition");
}

#[tokio::test]
async fn a_read_in_between_finds_what_was_collected() {
    let (_world, db, ctx) = setup().await;
    let mut tx = db.begin(&ctx).await.unwrap();
    let widget = Widget::new(&ctx, "a").with_key("erp", "1");
    insert(&mut tx, &widget);
    assert_eq!(tx.get::<Widget>(widget.id).await.unwrap(), widget);
    let after = widget.changed(|w| w.name = "b".into());
    tx.update(&widget, &after).unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM widgets WHERE name = 'b'")
        .fetch_one(tx.conn().await.unwrap())
        .await
        .unwrap();
    assert_eq!(count, 1);
    let again = after.changed(|w| w.name = "c".into());
    tx.update(&after, &again).unwrap();
    tx.finish().await.unwrap();
    assert_eq!(db.begin(&ctx).await.unwrap().get::<Widget>(widget.id).await.unwrap(), again);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let (world, db, ctx) = setup().await;
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "a").with_key("erp", "1"));
    tx.flush().await.unwrap();
    drop(tx);
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "b"));
    drop(tx);
    let counts: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM widgets), (SELECT count(*) FROM external_ids), (SELECT count(*) FROM platform.outbox)",
    )
    .fetch_one(&mut world.admin().await)
    .await
    .unwrap();
    assert_eq!(counts, (0, 0, 0));
}

#[tokio::test]
async fn an_update_of_an_old_version_is_a_conflict_and_changes_nothing() {
    let (_world, db, ctx) = setup().await;
    let widget = Widget::new(&ctx, "a").with_key("erp", "1");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    // Read without holding it, then changed by somebody else.
    let mut tx = db.begin(&ctx).await.unwrap();
    let stale: Widget = tx.get(widget.id).await.unwrap();
    let newer = change(&db, &ctx, widget.id, |w| w.size = 7).await;
    let lost = stale.changed(|w| {
        w.size = 8;
        w.external_ids.clear();
    });
    tx.update(&stale, &lost).unwrap();
    insert(&mut tx, &Widget::new(&ctx, "beside"));
    assert_eq!(reason(tx.flush().await), "CONFLICT");
    assert_eq!(reason(tx.finish().await), "INTERNAL", "who does not mind the error cannot commit the rest");
    let mut tx = db.begin(&ctx).await.unwrap();
    assert_eq!(tx.get::<Widget>(widget.id).await.unwrap(), newer);
    assert_eq!(tx.list::<Widget>(&Default::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_failed_statement_of_the_services_own_cannot_be_committed_over() {
    let (world, db, ctx) = setup().await;
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "a"));
    assert!(sqlx::query("SELECT 1 / 0").execute(tx.conn().await.unwrap()).await.is_err());
    // PostgreSQL answers COMMIT with ROLLBACK then, and no error.
    assert_eq!(reason(tx.commit(answer("a")).await), "INTERNAL");
    let mut platform = db.platform().await.unwrap();
    assert!(sqlx::query("SELECT 1 / 0").execute(platform.conn().unwrap()).await.is_err());
    assert_eq!(reason(platform.commit().await), "INTERNAL");
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM widgets").fetch_one(&mut world.admin().await).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_write_that_is_cut_off_cannot_be_committed_over() {
    let (_world, db, ctx) = setup().await;
    let widget = Widget::new(&ctx, "a");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let mut holder = db.begin(&ctx).await.unwrap();
    holder.get_for_update::<Widget>(widget.id).await.unwrap();
    let mut tx = db.begin(&ctx).await.unwrap();
    tx.update(&widget, &widget.changed(|w| w.size = 1)).unwrap();
    let cut = tokio::time::timeout(std::time::Duration::from_millis(100), tx.flush()).await;
    assert!(cut.is_err());
    drop(holder);
    assert_eq!(reason(tx.finish().await), "INTERNAL");
}

#[tokio::test]
async fn keys_in_other_systems_follow_the_record() {
    let (world, db, ctx) = setup().await;
    let mut admin = world.admin().await;
    let key = |source: &str, id: &str| (source.to_owned(), id.to_owned());
    let widget = Widget::new(&ctx, "a").with_key("erp", "1").with_key("web", "x");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    assert_eq!(keys(&mut admin).await, [key("erp", "1"), key("web", "x")]);
    let wanted = [("erp", "1"), ("web", "x"), ("web", "none")]
        .map(|(source, id)| ExternalId { source: source.into(), external_id: id.into() });
    let mut tx = db.begin(&ctx).await.unwrap();
    let found = tx.by_external_ids::<Widget>(&wanted).await.unwrap();
    assert_eq!(found.values().collect::<Vec<_>>(), [&widget.id, &widget.id]);
    drop(tx);
    change(&db, &ctx, widget.id, |w| w.external_ids[1].external_id = "y".into()).await;
    assert_eq!(keys(&mut admin).await, [key("erp", "1"), key("web", "y")]);
    change(&db, &ctx, widget.id, |w| w.delete_time = Some(ctx.now())).await;
    assert_eq!(keys(&mut admin).await, []);
    // While it is deleted, its key is free for another one.
    create(&db, &ctx, &[Widget::new(&ctx, "b").with_key("erp", "1")]).await;
    let mut tx = db.begin(&ctx).await.unwrap();
    let deleted: Widget = tx.get_for_update_even_deleted(widget.id).await.unwrap();
    let back = deleted.changed(|w| w.delete_time = None);
    let conflict = tx.conflicts(&[&back], &[]).await.unwrap().remove(0).unwrap();
    assert_eq!(conflict.to_string(), "widget already exists: `1` of `erp` belongs to another widget");
    drop(tx);
    change(&db, &ctx, widget.id, |w| {
        w.delete_time = None;
        w.external_ids.remove(0);
    })
    .await;
    assert_eq!(keys(&mut admin).await, [key("erp", "1"), key("web", "y")]);
}

#[tokio::test]
async fn conflicts_are_told_row_by_row() {
    let (_world, db, ctx) = setup().await;
    let old = Widget::new(&ctx, "old").with_key("erp", "1");
    create(&db, &ctx, std::slice::from_ref(&old)).await;
    let twice = Widget::new(&ctx, "b").with_key("erp", "2");
    let rows = [
        Widget::new(&ctx, "fine").with_key("erp", "9"),
        Widget::new(&ctx, "taken").with_key("erp", "3").with_key("erp", "1"),
        Widget::new(&ctx, "free again").with_key("erp", "3"),
        twice.clone(),
        Widget::new(&ctx, "after").with_key("erp", "2"),
        Widget { name: "same id".into(), external_ids: Vec::new(), ..twice.clone() },
        Widget { id: old.id, ..Widget::new(&ctx, "id of old") },
        old.changed(|w| w.size = 1),
    ];
    let mut tx = db.begin(&ctx).await.unwrap();
    let conflicts = tx.conflicts(&rows.iter().collect::<Vec<_>>(), &[old.id]).await.unwrap();
    let problems: BTreeMap<_, _> = rows
        .iter()
        .zip(conflicts)
        .filter_map(|(row, conflict)| Some((row.name.as_str(), conflict?.to_string())))
        .collect();
    assert_eq!(
        problems,
        [
            ("after", "widget already exists: `2` of `erp` belongs to another widget".to_owned()),
            ("id of old", "widget already exists: its id is taken".to_owned()),
            ("same id", "widget already exists: its id is taken".to_owned()),
            ("taken", "widget already exists: `1` of `erp` belongs to another widget".to_owned()),
        ]
        .into()
    );
}

#[tokio::test]
async fn an_id_that_is_taken_stays_taken_also_out_of_sight() {
    let (_world, db, ctx) = setup().await;
    let old = Widget::new(&ctx, "old");
    create(&db, &ctx, std::slice::from_ref(&old)).await;
    let seller = crate::world::seller(ctx.tenant.uuid());
    let new = Widget { id: old.id, ..Widget::new(&seller, "new") };
    let mut tx = db.begin(&seller).await.unwrap();
    assert!(
        tx.conflicts(&[&new], &[new.id]).await.unwrap()[0].is_none(),
        "one record is left to its statement"
    );
    insert(&mut tx, &new);
    assert_eq!(tx.finish().await.unwrap_err().to_string(), "widget already exists: its id is taken");
    let mut tx = db.begin(&seller).await.unwrap();
    let beside = Widget::new(&seller, "beside");
    let conflicts = tx.conflicts(&[&new, &beside], &[new.id, beside.id]).await.unwrap();
    assert!(conflicts[0].is_some() && conflicts[1].is_none());
    // Another tenant may have the same id.
    let elsewhere = boss(tenant());
    create(&db, &elsewhere, &[Widget { id: old.id, ..Widget::new(&elsewhere, "elsewhere") }]).await;
}

#[tokio::test]
async fn a_key_is_looked_up_once_and_who_took_it_meanwhile_is_met_by_the_write() {
    let (_world, db, ctx) = setup().await;
    let key = ExternalId { source: "erp".into(), external_id: "1".into() };
    let late = Widget::new(&ctx, "late").with_key("erp", "1");
    let mut tx = db.begin(&ctx).await.unwrap();
    assert!(tx.by_external_ids::<Widget>(std::slice::from_ref(&key)).await.unwrap().is_empty());
    create(&db, &ctx, &[Widget::new(&ctx, "early").with_key("erp", "1")]).await;
    assert!(tx.conflicts(&[&late], &[]).await.unwrap()[0].is_none(), "it was looked up already");
    insert(&mut tx, &late);
    assert!(matches!(tx.finish().await, Err(Error::Conflict)));

    // What the transaction itself writes, it knows.
    let mut tx = db.begin(&ctx).await.unwrap();
    let early = tx.by_external_ids::<Widget>(std::slice::from_ref(&key)).await.unwrap()[&key];
    let before: Widget = tx.get_for_update(early).await.unwrap();
    let after = before.changed(|w| w.external_ids.clear());
    tx.update(&before, &after).unwrap();
    assert!(tx.by_external_ids::<Widget>(&[key]).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_two_who_race_for_a_key_one_wins_and_the_other_may_try_again() {
    let (world, db, ctx) = setup().await;
    for round in 0..5 {
        let both_looked = Arc::new(Barrier::new(2));
        let race = |n: u8| {
            let (db, ctx, both_looked) = (db.clone(), ctx.clone(), both_looked.clone());
            tokio::spawn(async move {
                let widget = Widget::new(&ctx, &format!("racer {n}")).with_key("erp", &round.to_string());
                let mut tx = db.begin(&ctx).await?;
                if let Some(conflict) = tx.conflicts(&[&widget], &[]).await?.remove(0) {
                    return Err(conflict);
                }
                both_looked.wait().await;
                tx.insert(&widget)?;
                tx.finish().await
            })
        };
        let (a, b) = (race(1), race(2));
        let mut outcomes = [reason(a.await.unwrap()), reason(b.await.unwrap())];
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["CONFLICT", "DONE"]);
    }
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM widgets").fetch_one(&mut world.admin().await).await.unwrap();
    assert_eq!(count, 5);
}

#[tokio::test]
async fn of_two_who_change_a_record_the_second_waits_and_sees_the_first() {
    let (_world, db, ctx) = setup().await;
    let widget = Widget::new(&ctx, "a");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let adders: Vec<_> = (0..8)
        .map(|_| {
            let (db, ctx, id) = (db.clone(), ctx.clone(), widget.id);
            tokio::spawn(async move {
                let mut tx = db.begin(&ctx).await.unwrap();
                let before: Widget = tx.get_for_update(id).await.unwrap();
                tx.update(&before, &before.changed(|w| w.size += 1)).unwrap();
                tx.finish().await.unwrap();
            })
        })
        .collect();
    for adder in adders {
        adder.await.unwrap();
    }
    let after: Widget = db.begin(&ctx).await.unwrap().get(widget.id).await.unwrap();
    assert_eq!((after.size, after.version), (8, 9));
}

#[tokio::test]
async fn a_record_is_collected_once_per_statement() {
    let (_world, db, ctx) = setup().await;
    let widget = Widget::new(&ctx, "a");
    let mut tx = db.begin(&ctx).await.unwrap();
    tx.insert(&widget).unwrap();
    assert_eq!(reason(tx.insert(&widget)), "INTERNAL");
}

#[tokio::test]
async fn texts_that_postgres_cannot_keep_are_refused_without_its_words() {
    let (_world, db, ctx) = setup().await;
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "a\0b"));
    let error = tx.finish().await.unwrap_err();
    assert_eq!(error.to_string(), "request: contains the character U+0000, which texts cannot have");
}

#[tokio::test]
async fn errors_show_neither_statements_nor_data() {
    let (world, db, ctx) = setup().await;
    let widget = Widget::new(&ctx, "secret name").with_key("erp", "secret key");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let mut errors = Vec::new();
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "b").with_key("erp", "secret key"));
    errors.push(tx.finish().await.unwrap_err());
    sqlx::query("ALTER TABLE widgets ADD CONSTRAINT widgets_secret CHECK (name <> 'secret name') NOT VALID")
        .execute(&mut world.admin().await)
        .await
        .unwrap();
    let mut tx = db.begin(&ctx).await.unwrap();
    tx.update(&widget, &widget.changed(|w| w.size = 1)).unwrap();
    errors.push(tx.finish().await.unwrap_err());
    let mut tx = db.begin(&ctx).await.unwrap();
    let raw = sqlx::query("SELECT name::int FROM widgets").execute(tx.conn().await.unwrap()).await;
    errors.push(rapport_store::database(raw.unwrap_err()));
    for error in errors {
        let status = tonic::Status::from(error);
        let shown = format!("{} {:?}", status.message(), String::from_utf8_lossy(status.details()));
        for leak in ["secret", "widgets", "INSERT", "UPDATE", "SELECT", "constraint"] {
            assert!(!shown.contains(leak), "{leak}: {shown}");
        }
    }
}
