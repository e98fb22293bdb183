//! Custom fields: defined, changed, archived and brought back at run time, and at once there for every process.
use prost_types::{FieldMask, ListValue, Struct, Value, value::Kind};
use rapport_kernel::{Ctx, Error};
use rapport_proto::fields::v1::{self as pb, FieldKind};
use rapport_store::{
    Attributes, Db, TenantTx,
    fields::{self, Definition, FieldState, apply_change, apply_new},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    lists::names,
    widget::{TABLES, Widget},
    world::{World, boss, create, insert, new_id, tenant},
};

/// A value as the contract has it, from JSON.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(boolean) => Kind::BoolValue(*boolean),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(value).collect() }),
        Json::Object(_) => Kind::StructValue(values(json)),
    };
    Value { kind: Some(kind) }
}

pub(crate) fn values(json: &serde_json::Value) -> Struct {
    Struct {
        fields: json.as_object().unwrap().iter().map(|(key, json)| (key.clone(), value(json))).collect(),
    }
}

/// A field as a caller sends it.
pub(crate) fn field(key: &str, kind: FieldKind) -> pb::Field {
    let choice = |key: &str| pb::Choice { key: key.into(), ..pb::Choice::default() };
    let is_choice = matches!(kind, FieldKind::Choice | FieldKind::MultiChoice);
    pb::Field {
        resource: "widget".into(),
        key: key.into(),
        kind: kind.into(),
        labels: [("en".to_owned(), key.to_owned())].into(),
        scale: if kind == FieldKind::Number { 2 } else { 0 },
        choices: if is_choice { ["gold", "银", "tin"].map(choice).into() } else { Vec::new() },
        reference_kind: if kind == FieldKind::Reference { "test.widget".into() } else { String::new() },
        ..pb::Field::default()
    }
}

/// Does something about fields in a transaction of its own.
pub(crate) async fn with<T>(
    db: &Db,
    ctx: &Ctx,
    what: impl AsyncFnOnce(&mut TenantTx) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut tx = db.begin(ctx).await?;
    let done = what(&mut tx).await?;
    tx.finish().await?;
    Ok(done)
}

pub(crate) async fn define(db: &Db, ctx: &Ctx, field: pb::Field) -> Result<Definition, Error> {
    with(db, ctx, async |tx| fields::create(tx, field, TABLES).await).await
}

pub(crate) async fn update(
    db: &Db,
    ctx: &Ctx,
    field: pb::Field,
    paths: &[&str],
) -> Result<Definition, Error> {
    let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
    with(db, ctx, async |tx| fields::update(tx, field, Some(&mask), TABLES).await).await
}

pub(crate) async fn archive(db: &Db, ctx: &Ctx, id: Uuid) -> Result<Definition, Error> {
    let request = pb::DeleteFieldRequest { id: id.to_string(), ..Default::default() };
    with(db, ctx, async |tx| fields::delete(tx, &request).await).await
}

pub(crate) async fn undelete(db: &Db, ctx: &Ctx, id: Uuid) -> Result<Definition, Error> {
    let request = pb::UndeleteFieldRequest { id: id.to_string(), ..Default::default() };
    with(db, ctx, async |tx| fields::undelete(tx, &request, TABLES).await).await
}

/// Creates a widget with custom values, as a service does it.
pub(crate) async fn widget(
    db: &Db,
    ctx: &Ctx,
    name: &str,
    given: serde_json::Value,
) -> Result<Widget, Error> {
    with(db, ctx, async |tx| {
        let attributes = apply_new(tx.custom_fields::<Widget>(), Some(&values(&given)), &ctx.phone_region)?;
        let widget = Widget { attributes, ..Widget::new(ctx, name) };
        if let Some(conflict) = tx.conflicts(&[&widget], &[]).await?.remove(0) {
            return Err(conflict);
        }
        insert(tx, &widget);
        Ok(widget)
    })
    .await
}

/// Changes a widget's custom values, as a service does it.
pub(crate) async fn give(db: &Db, ctx: &Ctx, id: Uuid, given: serde_json::Value) -> Result<Widget, Error> {
    with(db, ctx, async |tx| {
        let before: Widget = tx.get_for_update(id).await?;
        let keys: Vec<_> = given.as_object().unwrap().keys().map(String::as_str).collect();
        let sent = values(&given);
        let attributes = apply_change(
            tx.custom_fields::<Widget>(),
            &before.attributes,
            Some(&sent),
            &keys,
            &ctx.phone_region,
        )?;
        let after = before.changed(|w| w.attributes = attributes);
        if let Some(conflict) = tx.conflicts(&[&after], &[]).await?.remove(0) {
            return Err(conflict);
        }
        tx.update(&before, &after)?;
        Ok(after)
    })
    .await
}

pub(crate) fn told<T>(result: Result<T, Error>) -> String {
    result.map_or_else(|error| format!("{}: {error}", error.reason()), |_| "done".into())
}

pub(crate) async fn setup() -> (World, Db, Ctx) {
    let world = World::new().await;
    let db = world.db().await;
    (world, db, boss(tenant()))
}

#[tokio::test]
async fn values_of_every_kind_are_kept_exactly() {
    let (_world, db, ctx) = setup().await;
    let reference = format!("test.widget/{}", new_id());
    let kinds = [
        (FieldKind::Text, json!("茶 \"x\"")),
        (FieldKind::Number, json!("12345678901234567.89")),
        (FieldKind::Money, json!({"amount": "12.50", "currency": "CNY"})),
        (FieldKind::Date, json!("2026-01-31")),
        (FieldKind::Instant, json!("2026-01-31T08:00:00.5Z")),
        (FieldKind::Boolean, json!(false)),
        (FieldKind::Choice, json!("银")),
        (FieldKind::MultiChoice, json!(["tin", "gold"])),
        (FieldKind::Reference, json!(reference)),
        (FieldKind::Phone, json!("0571-8765 4321")),
        (FieldKind::Email, json!("li@example.com")),
        (FieldKind::Url, json!("https://example.com/a")),
    ];
    let mut given = serde_json::Map::new();
    for (n, (kind, json)) in kinds.iter().enumerate() {
        define(&db, &ctx, field(&format!("f{n}"), *kind)).await.unwrap();
        given.insert(format!("f{n}"), json.clone());
    }
    let written = widget(&db, &ctx, "all", given.into()).await.unwrap();
    let read: Widget = db.begin(&ctx).await.unwrap().get(written.id).await.unwrap();
    assert_eq!(read, written);
    let out = rapport_store::to_struct(&read.attributes);
    for (n, (kind, json)) in kinds.iter().enumerate().filter(|(_, (kind, _))| *kind != FieldKind::Phone) {
        assert_eq!(out.fields[&format!("f{n}")], value(json), "{kind:?} comes out as it went in");
    }
    assert_eq!(out.fields["f9"], value(&json!({"number": "0571-8765 4321", "e164": "+8657187654321"})));
    // Sent back as it came out, nothing changes.
    let same = apply_change(
        db.begin(&ctx).await.unwrap().custom_fields::<Widget>(),
        &read.attributes,
        Some(&out),
        &out.fields.keys().map(String::as_str).collect::<Vec<_>>(),
        "",
    );
    assert_eq!(same.unwrap(), read.attributes);
}

#[tokio::test]
async fn a_field_is_there_at_once_for_another_process_and_back() {
    let (world, here, ctx) = setup().await;
    let there = world.db().await;
    assert_eq!(
        told(widget(&there, &ctx, "a", json!({"city": "杭州"})).await),
        "INVALID: attributes.city: there is no such field; none is defined"
    );
    let city = define(&here, &ctx, field("city", FieldKind::Text)).await.unwrap();
    widget(&there, &ctx, "a", json!({"city": "杭州"})).await.unwrap();
    assert_eq!(names(&here, &ctx, "attributes.city == \"杭州\"", "").await, ["a"]);
    define(&there, &ctx, field("size", FieldKind::Number)).await.unwrap();
    widget(&here, &ctx, "b", json!({"size": 3})).await.unwrap();
    assert_eq!(names(&there, &ctx, "attributes.size > 2.5", "").await, ["b"]);
    archive(&there, &ctx, city.id).await.unwrap();
    assert!(told(widget(&here, &ctx, "c", json!({"city": "x"})).await).contains("there is no such field"));
    let gone = crate::lists::list(
        &here,
        &ctx,
        rapport_store::ListParams { filter: "has(attributes.city)", ..Default::default() },
    );
    assert!(told(gone.await).contains("unknown field `attributes.city`"));
    // Other tenants have other fields.
    assert!(told(widget(&here, &boss(tenant()), "d", json!({"size": 1})).await).contains("none is defined"));
}

#[tokio::test]
async fn a_writer_who_began_before_a_definition_changed_begins_again() {
    let (world, here, ctx) = setup().await;
    let there = world.db().await;
    let mut writer = there.begin(&ctx).await.unwrap();
    insert(&mut writer, &Widget::new(&ctx, "late"));
    define(&here, &ctx, field("city", FieldKind::Text)).await.unwrap();
    assert_eq!(writer.finish().await.unwrap_err().reason(), "CONFLICT");
    create(&there, &ctx, &[Widget::new(&ctx, "again")]).await;
    // One who has written already is waited for.
    let mut writer = there.begin(&ctx).await.unwrap();
    insert(&mut writer, &Widget::new(&ctx, "first"));
    writer.flush().await.unwrap();
    let definer = {
        let (here, ctx) = (here.clone(), ctx.clone());
        tokio::spawn(async move { define(&here, &ctx, field("size", FieldKind::Number)).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    assert!(!definer.is_finished());
    writer.finish().await.unwrap();
    definer.await.unwrap().unwrap();
}

#[tokio::test]
async fn renaming_keeps_keys_and_data() {
    let (_world, db, ctx) = setup().await;
    let city = define(&db, &ctx, field("city", FieldKind::Text)).await.unwrap();
    let before = widget(&db, &ctx, "a", json!({"city": "杭州"})).await.unwrap();
    let labels = [("zh-CN".to_owned(), "城市".to_owned()), ("en".to_owned(), "Town".to_owned())];
    let renamed = pb::Field {
        id: city.id.to_string(),
        etag: "1".into(),
        labels: labels.clone().into(),
        ..Default::default()
    };
    let after = update(&db, &ctx, renamed.clone(), &["labels"]).await.unwrap();
    assert_eq!((after.version, after.key.as_str(), after.labels), (2, "city", labels.into_iter().collect()));
    assert_eq!(db.begin(&ctx).await.unwrap().get::<Widget>(before.id).await.unwrap(), before);
    assert_eq!(names(&db, &ctx, "attributes.city == \"杭州\"", "").await, ["a"]);
    assert!(
        told(update(&db, &ctx, renamed, &["labels"]).await)
            .starts_with("STALE: field was changed by someone else")
    );
}

#[tokio::test]
async fn an_archived_field_keeps_its_data_and_comes_back_with_it() {
    let (_world, db, ctx) = setup().await;
    for (key, indexed) in [("plain", false), ("indexed", true)] {
        let defined = define(&db, &ctx, pb::Field { indexed, ..field(key, FieldKind::Text) }).await.unwrap();
        let before = widget(&db, &ctx, key, json!({key: "杭州"})).await.unwrap();
        let archived = archive(&db, &ctx, defined.id).await.unwrap();
        assert_eq!(archived.state, FieldState::Archived);
        assert!(told(archive(&db, &ctx, defined.id).await).starts_with("FIELD_ARCHIVED"));
        let sent = pb::Field { id: defined.id.to_string(), indexed: true, ..Default::default() };
        assert!(told(update(&db, &ctx, sent, &["indexed"]).await).starts_with("FIELD_ARCHIVED"));
        // A record that changes meanwhile keeps the value; one that is made meanwhile has none.
        let between = crate::world::change(&db, &ctx, before.id, |w| w.size = 1).await;
        assert_eq!(between.attributes, before.attributes);
        create(&db, &ctx, &[Widget::new(&ctx, &format!("{key} later"))]).await;
        let back = undelete(&db, &ctx, defined.id).await.unwrap();
        assert_eq!(back.state, FieldState::Active);
        assert!(told(undelete(&db, &ctx, defined.id).await).starts_with("FIELD_NOT_ARCHIVED"));
        assert_eq!(names(&db, &ctx, &format!("attributes.{key} == \"杭州\""), "").await, [key]);
        if indexed {
            assert_eq!(
                names(&db, &ctx, "", &format!("attributes.{key} desc")).await.len(),
                4,
                "all have a place in the order"
            );
        }
    }
}

#[tokio::test]
async fn unique_values_belong_to_one_live_record() {
    let (_world, db, ctx) = setup().await;
    for (kind, first, same, other) in [
        (FieldKind::Text, json!("A-1"), json!("A-1"), json!("a-1")),
        (FieldKind::Number, json!("1.5"), json!(1.50), json!("1.51")),
        (FieldKind::Phone, json!("0571-8765 4321"), json!("+86 571 87654321"), json!("0571-8765 4322")),
        (FieldKind::Email, json!("Li@example.com"), json!("li@EXAMPLE.com"), json!("wang@example.com")),
        (
            FieldKind::Url,
            json!("https://example.com/A"),
            json!("https://EXAMPLE.com/A"),
            json!("https://example.com/a"),
        ),
    ] {
        let key = format!("u{}", kind as i32);
        let defined = define(&db, &ctx, pb::Field { unique: true, ..field(&key, kind) }).await.unwrap();
        let holder = widget(&db, &ctx, "holder", json!({&key: first.clone()})).await.unwrap();
        let text = told(widget(&db, &ctx, "b", json!({&key: same.clone()})).await);
        assert!(text.contains(&format!("of `attributes.{key}`, which is unique")), "{kind:?}: {text}");
        let second = widget(&db, &ctx, "b", json!({&key: other.clone()})).await.unwrap();
        assert!(
            told(give(&db, &ctx, second.id, json!({&key: same.clone()})).await).starts_with("ALREADY_EXISTS")
        );
        give(&db, &ctx, holder.id, json!({&key: same.clone()})).await.unwrap();
        // A value that was given up, or whose record was deleted, is free.
        give(&db, &ctx, second.id, json!({&key: null})).await.unwrap();
        widget(&db, &ctx, "c", json!({&key: other.clone()})).await.unwrap();
        crate::world::change(&db, &ctx, holder.id, |w| w.delete_time = Some(ctx.now())).await;
        let heir = widget(&db, &ctx, "heir", json!({&key: first.clone()})).await.unwrap();
        // While it is archived nobody watches; coming back it finds the same keys as before.
        archive(&db, &ctx, defined.id).await.unwrap();
        undelete(&db, &ctx, defined.id).await.unwrap();
        assert!(
            told(widget(&db, &ctx, "d", json!({&key: same.clone()})).await).starts_with("ALREADY_EXISTS"),
            "{kind:?}"
        );
        archive(&db, &ctx, defined.id).await.unwrap();
        let copy = Widget { attributes: heir.attributes.clone(), ..Widget::new(&ctx, "copy") };
        create(&db, &ctx, std::slice::from_ref(&copy)).await;
        let text = told(undelete(&db, &ctx, defined.id).await);
        assert_eq!(
            text,
            format!("FIELD_NOT_UNIQUE: two records have the same value of `{key}`; change one of them first")
        );
    }
}

#[tokio::test]
async fn in_one_batch_the_second_with_a_value_loses() {
    let (_world, db, ctx) = setup().await;
    define(&db, &ctx, pb::Field { unique: true, ..field("code", FieldKind::Text) }).await.unwrap();
    let coded = |name: &str, code: &str| {
        let attributes: Attributes = serde_json::from_value(json!({"code": code})).unwrap();
        Widget { attributes, ..Widget::new(&ctx, name) }
    };
    let rows =
        [coded("a", "1"), coded("b", "2"), coded("c", "1"), Widget::new(&ctx, "d"), Widget::new(&ctx, "e")];
    let mut tx = db.begin(&ctx).await.unwrap();
    let conflicts = tx.conflicts(&rows.iter().collect::<Vec<_>>(), &[]).await.unwrap();
    assert_eq!(conflicts.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, false, false]);
}

#[tokio::test]
async fn required_fields_are_asked_for_and_defaults_fill_in() {
    let (_world, db, ctx) = setup().await;
    let old = widget(&db, &ctx, "old", json!({})).await.unwrap();
    let level = pb::Field { default_value: Some(value(&json!("tin"))), ..field("level", FieldKind::Choice) };
    let level = define(&db, &ctx, level).await.unwrap();
    let city =
        define(&db, &ctx, pb::Field { required: true, ..field("city", FieldKind::Text) }).await.unwrap();
    assert_eq!(told(widget(&db, &ctx, "a", json!({})).await), "INVALID: attributes.city: must have a value");
    let new = widget(&db, &ctx, "a", json!({"city": "杭州"})).await.unwrap();
    assert_eq!(rapport_store::to_struct(&new.attributes), values(&json!({"city": "杭州", "level": "tin"})));
    assert_eq!(
        told(give(&db, &ctx, new.id, json!({"city": ""})).await),
        "INVALID: attributes.city: must have a value"
    );
    give(&db, &ctx, old.id, json!({"level": "gold"})).await.unwrap();
    let optional = pb::Field { id: city.id.to_string(), required: false, ..Default::default() };
    update(&db, &ctx, optional, &["required"]).await.unwrap();
    give(&db, &ctx, new.id, json!({"city": null})).await.unwrap();
    // A default must be on offer, also later.
    let mut choices = field("", FieldKind::Choice).choices;
    choices[2].archived = true;
    let sent = pb::Field {
        id: level.id.to_string(),
        choices,
        default_value: Some(value(&json!("银"))),
        ..Default::default()
    };
    let text = told(update(&db, &ctx, sent.clone(), &["choices"]).await);
    assert_eq!(text, "INVALID: field.default_value: `tin` is not one of gold, 银");
    update(&db, &ctx, sent, &["choices", "default_value"]).await.unwrap();
    let after = widget(&db, &ctx, "b", json!({})).await.unwrap();
    assert_eq!(rapport_store::to_struct(&after.attributes), values(&json!({"level": "银"})));
}
