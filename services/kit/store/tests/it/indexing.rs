//! Indexes of custom fields: never to be noticed but by the clock.
use std::collections::BTreeSet;

use rapport_kernel::Ctx;
use rapport_proto::fields::v1::{self as pb, FieldKind};
use rapport_store::{
    Db, ListParams,
    fields::{Definition, FieldState},
};
use serde_json::json;

use crate::{
    fields::{define, field, give, setup, update, widget},
    lists::{names, pages},
    world::{boss, change, tenant},
};

/// A field of every kind that an index takes, with values for some records and filters that tell them apart.
fn kinds() -> Vec<(FieldKind, Vec<serde_json::Value>, Vec<&'static str>)> {
    let record = "test.widget/01939f6e-0000-7000-8000-000000000001";
    vec![
        (
            FieldKind::Text,
            vec![json!("杭州"), json!("Hangzhou"), json!("100%_\\'"), json!("hangzhou")],
            vec![
                "F == \"杭州\"",
                "F != \"杭州\"",
                "F.startsWith(\"Hang\")",
                "F.contains(\"%_\")",
                "F in [\"杭州\", \"x\"]",
            ],
        ),
        (
            FieldKind::Number,
            vec![json!("-0.01"), json!(0), json!("1.50"), json!("92233720368547758.07")],
            vec![
                "F == 1.5",
                "F != 0",
                "F < 0",
                "F <= 1.505",
                "F > 1.495",
                "F >= 92233720368547758.07",
                "F in [0, 1.5, 1.555]",
                "F > 1e20",
            ],
        ),
        (
            FieldKind::Date,
            vec![json!("0001-01-01"), json!("1970-01-01"), json!("2026-01-31"), json!("9999-12-31")],
            vec![
                "F == \"1970-01-01\"",
                "F != \"1970-01-01\"",
                "F < \"2026-01-31\"",
                "F >= \"2026-01-31\"",
                "F in [\"9999-12-31\"]",
            ],
        ),
        (
            FieldKind::Instant,
            vec![
                json!("1970-01-01T00:00:00Z"),
                json!("0001-01-01T00:00:00Z"),
                json!("2026-01-31T08:00:00.123456Z"),
            ],
            vec![
                "F == \"1970-01-01T08:00:00+08:00\"",
                "F > \"1970-01-01T00:00:00Z\"",
                "F <= \"2026-01-31T08:00:00.123456Z\"",
                "F != \"2026-01-31T08:00:00Z\"",
            ],
        ),
        (FieldKind::Boolean, vec![json!(true), json!(false)], vec!["F", "!F", "F == false", "F != true"]),
        (
            FieldKind::Choice,
            vec![json!("gold"), json!("银")],
            vec!["F == \"gold\"", "F != \"gold\"", "F in [\"tin\", \"银\"]"],
        ),
        (
            FieldKind::MultiChoice,
            vec![json!(["gold"]), json!(["银", "gold"]), json!(["tin", "银", "gold"])],
            vec!["\"gold\" in F", "!(\"tin\" in F)", "\"银\" in F && !(\"tin\" in F)"],
        ),
        (
            FieldKind::Reference,
            vec![json!(record)],
            vec!["F == \"test.widget/01939f6e-0000-7000-8000-000000000001\"", "F != \"x\""],
        ),
        (
            FieldKind::Email,
            vec![json!("li@example.com")],
            vec!["F == \"li@example.com\"", "F.endsWith(\"@example.com\")"],
        ),
        (
            FieldKind::Url,
            vec![json!("https://example.com/")],
            vec!["F.startsWith(\"https://\")", "F == \"\""],
        ),
    ]
}

/// What each filter finds, with `has` and `!has`.
async fn found(db: &Db, ctx: &Ctx, key: &str, filters: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for filter in filters.iter().chain(&["has(F)", "!has(F)", "!has(F) || name == \"none\""]) {
        let filter = filter.replace('F', &format!("attributes.{key}"));
        let found = names(db, ctx, &filter, "name").await;
        all.push((filter, found));
    }
    all
}

pub(crate) async fn set_indexed(db: &Db, ctx: &Ctx, field: &Definition, indexed: bool) -> Definition {
    let sent = pb::Field { id: field.id.to_string(), indexed, ..Default::default() };
    update(db, ctx, sent, &["indexed"]).await.unwrap()
}

#[tokio::test]
async fn filters_find_the_same_with_an_index_and_without() {
    let (_world, db, ctx) = setup().await;
    for (kind, values, filters) in kinds() {
        let key = format!("f{}", kind as i32);
        let defined = define(&db, &ctx, field(&key, kind)).await.unwrap();
        for (n, value) in values.iter().enumerate() {
            widget(&db, &ctx, &format!("{key}-{n}"), json!({&key: value})).await.unwrap();
        }
        widget(&db, &ctx, "none", json!({})).await.unwrap();
        let before = found(&db, &ctx, &key, &filters).await;
        assert!(before.iter().any(|(_, found)| !found.is_empty()), "{before:?}");
        assert_eq!(set_indexed(&db, &ctx, &defined, true).await.state, FieldState::Active);
        assert_eq!(found(&db, &ctx, &key, &filters).await, before, "{kind:?}: built from what was there");
        // Written by the records themselves: each takes the value of the next.
        let list = crate::lists::list(
            &db,
            &ctx,
            ListParams { order_by: "name", page_size: 200, ..ListParams::default() },
        );
        let ours: Vec<_> = list
            .await
            .unwrap()
            .items
            .into_iter()
            .filter(|w| w.name.starts_with(&format!("{key}-")))
            .collect();
        for (n, record) in ours.iter().enumerate() {
            let next = values.get(n + 1).cloned().unwrap_or_default();
            give(&db, &ctx, record.id, json!({&key: next})).await.unwrap();
        }
        let with_index = found(&db, &ctx, &key, &filters).await;
        set_indexed(&db, &ctx, &defined, false).await;
        assert_eq!(found(&db, &ctx, &key, &filters).await, with_index, "{kind:?}: followed the records");
        // What changed while there was no index shows when there is one again.
        for (n, record) in ours.iter().enumerate() {
            give(&db, &ctx, record.id, json!({&key: values[values.len() - 1 - n]})).await.unwrap();
        }
        let without = found(&db, &ctx, &key, &filters).await;
        set_indexed(&db, &ctx, &defined, true).await;
        assert_eq!(found(&db, &ctx, &key, &filters).await, without, "{kind:?}: built anew");
    }
}

#[tokio::test]
async fn an_order_by_an_indexed_field_has_each_record_once_also_those_without_a_value() {
    let (_world, db, ctx) = setup().await;
    for (kind, values, filters) in kinds().into_iter().filter(|(kind, ..)| *kind != FieldKind::MultiChoice) {
        let ctx = Ctx { tenant: rapport_kernel::Id::new(tenant()), ..ctx.clone() };
        let key = "sorted";
        define(&db, &ctx, pb::Field { indexed: true, ..field(key, kind) }).await.unwrap();
        for n in 0..23 {
            let given = if n % 4 == 3 { json!({}) } else { json!({key: values[n % values.len()]}) };
            widget(&db, &ctx, &format!("w{n}"), given).await.unwrap();
        }
        for page_size in [1, 5, 23] {
            let ascending = format!("attributes.{key}");
            let params = ListParams { order_by: &ascending, page_size, ..ListParams::default() };
            let up = pages(&db, &ctx, params).await;
            assert_eq!(
                (up.len(), up.iter().map(|w| w.id).collect::<BTreeSet<_>>().len()),
                (23, 23),
                "{kind:?} by {page_size}"
            );
            let descending = format!("{ascending} desc");
            let mut down = pages(&db, &ctx, ListParams { order_by: &descending, ..params }).await;
            down.reverse();
            assert_eq!(down, up);
            let present: Vec<_> = up.iter().map(|w| w.attributes.contains_key(key)).collect();
            assert!(present.is_sorted(), "those without a value come first: {present:?}");
        }
        // A seller who owns some and was given others has the same order.
        let seller = crate::world::seller(ctx.tenant.uuid());
        let all = pages(
            &db,
            &ctx,
            ListParams { order_by: "attributes.sorted", page_size: 9, ..ListParams::default() },
        )
        .await;
        for (n, record) in all.iter().enumerate() {
            if n % 3 == 0 {
                change(&db, &ctx, record.id, |w| w.owner_id = seller.user()).await;
            } else if n % 3 == 1 {
                let mut tx = db.begin(&ctx).await.unwrap();
                let share = rapport_store::Share {
                    principal: seller.user().unwrap(),
                    level: rapport_store::ShareLevel::Read,
                };
                tx.share(record, &share).await.unwrap();
                tx.finish().await.unwrap();
            }
        }
        let seen = pages(
            &db,
            &seller,
            ListParams { order_by: "attributes.sorted", page_size: 4, ..ListParams::default() },
        )
        .await;
        let expected: Vec<_> =
            all.iter().enumerate().filter(|(n, _)| n % 3 != 2).map(|(_, w)| w.id).collect();
        assert_eq!(seen.iter().map(|w| w.id).collect::<Vec<_>>(), expected, "{kind:?}");
        // A filter by the field that sorts finds the same, in its order.
        for (filter, by_name) in found(&db, &ctx, key, &filters).await {
            let sorted: Vec<_> =
                all.iter().map(|w| w.name.clone()).filter(|name| by_name.contains(name)).collect();
            assert_eq!(names(&db, &ctx, &filter, "attributes.sorted").await, sorted, "{kind:?}: {filter}");
            let sellers = names(&db, &seller, &filter, "attributes.sorted").await;
            let in_sight = sorted.iter().filter(|name| seen.iter().any(|w| w.name == **name));
            assert!(sellers.iter().eq(in_sight), "{kind:?}: {filter}: {sellers:?}");
        }
    }
}

#[tokio::test]
async fn side_rows_follow_insert_update_delete_and_undelete() {
    let (world, db, _) = setup().await;
    for (kind, table) in
        [(FieldKind::MultiChoice, "attribute_texts"), (FieldKind::Number, "attribute_numbers")]
    {
        let ctx = boss(tenant());
        define(&db, &ctx, pb::Field { indexed: true, ..field(&format!("f{}", kind as i32), kind) })
            .await
            .unwrap();
        let (more, less) = if kind == FieldKind::Number {
            (json!(2), json!(1))
        } else {
            (json!(["tin", "gold", "银"]), json!(["gold"]))
        };
        let key = format!("f{}", kind as i32);
        let rows = async || -> Vec<(bool, String)> {
            let sql = format!(
                "SELECT present, value::text FROM {table} WHERE tenant_id = $1 ORDER BY value::text COLLATE \"C\""
            );
            sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(ctx.tenant)
                .fetch_all(&mut world.admin().await)
                .await
                .unwrap()
        };
        let row = |present: bool, value: &str| (present, value.to_owned());
        let (many, one, none) = if kind == FieldKind::Number {
            (vec![row(true, "200")], vec![row(true, "100")], vec![row(false, "0")])
        } else {
            (
                vec![row(true, "gold"), row(true, "tin"), row(true, "银")],
                vec![row(true, "gold")],
                vec![row(false, "")],
            )
        };
        let record = widget(&db, &ctx, "a", json!({&key: more})).await.unwrap();
        assert_eq!(rows().await, many);
        give(&db, &ctx, record.id, json!({&key: less})).await.unwrap();
        assert_eq!(rows().await, one, "fewer choices leave no rows behind");
        give(&db, &ctx, record.id, json!({&key: null})).await.unwrap();
        assert_eq!(rows().await, none, "a place in the order stays");
        give(&db, &ctx, record.id, json!({&key: more})).await.unwrap();
        let deleted = change(&db, &ctx, record.id, |w| w.delete_time = Some(ctx.now())).await;
        assert_eq!(rows().await, many, "deleted records can be listed");
        change(&db, &ctx, deleted.id, |w| w.delete_time = None).await;
        assert_eq!(rows().await, many);
    }
}

#[tokio::test]
async fn values_too_long_for_an_index_are_named_before_it_is_begun() {
    let (_world, db, ctx) = setup().await;
    let defined = define(&db, &ctx, field("note", FieldKind::Text)).await.unwrap();
    let long = widget(&db, &ctx, "a", json!({"note": "茶".repeat(3_000)})).await.unwrap();
    let sent = pb::Field { id: defined.id.to_string(), indexed: true, ..Default::default() };
    let error = update(&db, &ctx, sent.clone(), &["indexed"]).await.unwrap_err();
    assert_eq!(
        format!("{}: {error}", error.reason()),
        format!(
            "FIELD_TOO_LONG_TO_INDEX: widget `{}` has a value of `note` that is longer than the 1000 bytes that an index takes",
            long.id
        )
    );
    give(&db, &ctx, long.id, json!({"note": "茶".repeat(333)})).await.unwrap();
    update(&db, &ctx, sent, &["indexed"]).await.unwrap();
    let error = give(&db, &ctx, long.id, json!({"note": "茶".repeat(334)})).await.unwrap_err();
    assert!(error.to_string().contains("is longer than 1000 bytes"), "{error}");
    // The longest that is taken fits a page token, too.
    for n in 0..3 {
        widget(&db, &ctx, "b", json!({"note": format!("{n}{}", "\u{1}".repeat(999))})).await.unwrap();
    }
    let by = ListParams { order_by: "attributes.note", page_size: 2, ..ListParams::default() };
    let token = crate::lists::list(&db, &ctx, by).await.unwrap().next_page_token;
    assert!(token.len() <= 2_000, "{}", token.len());
    assert_eq!(pages(&db, &ctx, by).await.len(), 4);
}
