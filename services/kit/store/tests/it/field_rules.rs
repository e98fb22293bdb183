//! What a definition of a custom field may be, and how definitions are listed and told.
use rapport_proto::fields::v1::{self as pb, FieldKind};
use rapport_store::fields;
use serde_json::json;

use crate::fields::{archive, define, field, setup, told, undelete, update, value, with};

#[tokio::test]
async fn what_values_are_stored_under_cannot_be_changed() {
    let (_world, db, ctx) = setup().await;
    let city = define(&db, &ctx, field("city", FieldKind::Choice)).await.unwrap();
    let sent = pb::Field { id: city.id.to_string(), ..field("town", FieldKind::Text) };
    for path in ["resource", "key", "kind", "scale", "unique", "reference_kind"] {
        let text = told(update(&db, &ctx, sent.clone(), &[path]).await);
        assert_eq!(
            text,
            format!(
                "INVALID: field.{path}: cannot be changed, since values are stored under it; define another field"
            )
        );
    }
    assert_eq!(
        told(update(&db, &ctx, sent.clone(), &["state"]).await),
        "INVALID: update_mask: `state` cannot be changed"
    );
    let fewer = pb::Field { choices: vec![pb::Choice { key: "gold".into(), ..Default::default() }], ..sent };
    let text = told(update(&db, &ctx, fewer, &["choices"]).await);
    assert_eq!(
        text,
        "INVALID: field.choices: `银` cannot be taken away, since records may have it; set `archived` on it"
    );
}

#[tokio::test]
async fn definitions_that_contradict_themselves_are_refused() {
    let (_world, db, ctx) = setup().await;
    let cases: Vec<(pb::Field, &str)> = vec![
        (pb::Field { key: "City".into(), ..field("", FieldKind::Text) }, "field.key: must be a small letter"),
        (pb::Field { key: "a.b".into(), ..field("", FieldKind::Text) }, "field.key: must be"),
        (field("", FieldKind::Text), "field.key: must be"),
        (
            pb::Field { resource: "gadget".into(), ..field("a", FieldKind::Text) },
            "field.resource: `gadget` has no custom fields here; there are `widget`",
        ),
        (field("a", FieldKind::Unspecified), "field.kind: must be given, e.g. FIELD_KIND_TEXT"),
        (pb::Field { scale: 7, ..field("a", FieldKind::Number) }, "field.scale: must be 0 to 6"),
        (pb::Field { scale: 1, ..field("a", FieldKind::Text) }, "field.scale: is for numbers only"),
        (
            pb::Field { choices: Vec::new(), ..field("a", FieldKind::Choice) },
            "field.choices: must have at least one that is offered",
        ),
        (
            pb::Field { choices: field("", FieldKind::Choice).choices, ..field("a", FieldKind::Text) },
            "field.choices: belong to choices",
        ),
        (
            pb::Field {
                choices: vec![pb::Choice { key: "a".into(), ..Default::default() }; 2],
                ..field("a", FieldKind::Choice)
            },
            "field.choices: `a` stands there twice",
        ),
        (
            pb::Field {
                choices: vec![pb::Choice { key: "a;b".into(), ..Default::default() }],
                ..field("a", FieldKind::Choice)
            },
            "field.choices: keys must not contain `;`",
        ),
        (
            pb::Field { reference_kind: String::new(), ..field("a", FieldKind::Reference) },
            "field.reference_kind: is for references",
        ),
        (pb::Field { unique: true, ..field("a", FieldKind::Choice) }, "field.unique: is for texts"),
        (
            pb::Field { indexed: true, ..field("a", FieldKind::Money) },
            "field.indexed: is not for money and phones",
        ),
        (
            pb::Field { default_value: Some(value(&json!("x"))), ..field("a", FieldKind::Choice) },
            "field.default_value: `x` is not one of gold, 银, tin",
        ),
        (
            pb::Field {
                unique: true,
                default_value: Some(value(&json!("x"))),
                ..field("a", FieldKind::Text)
            },
            "field.default_value: is not for unique fields",
        ),
    ];
    for (sent, expected) in cases {
        let text = told(define(&db, &ctx, sent).await);
        assert!(text.starts_with(&format!("INVALID: {expected}")), "{text}\n{expected}");
    }
    let page =
        with(&db, &ctx, async |tx| fields::list(tx, &pb::ListFieldsRequest::default()).await).await.unwrap();
    assert_eq!(page.items, []);
}

#[tokio::test]
async fn keys_and_ids_are_taken_once() {
    let (_world, db, ctx) = setup().await;
    let first = define(&db, &ctx, field("monthlyCharges", FieldKind::Text)).await.unwrap();
    for key in ["monthlyCharges", "monthly_charges", "monthlycharges"] {
        let text = told(define(&db, &ctx, field(key, FieldKind::Text)).await);
        assert_eq!(
            text,
            "ALREADY_EXISTS: field already exists: the key `monthlyCharges` is taken, maybe by an archived field; capitals and `_` make no difference"
        );
    }
    archive(&db, &ctx, first.id).await.unwrap();
    assert!(
        told(define(&db, &ctx, field("monthlyCharges", FieldKind::Number)).await)
            .starts_with("ALREADY_EXISTS")
    );
    let same_id = pb::Field { id: first.id.to_string(), ..field("other", FieldKind::Text) };
    assert_eq!(
        told(define(&db, &ctx, same_id).await),
        "ALREADY_EXISTS: field already exists: its id is taken"
    );
}

#[tokio::test]
async fn there_is_room_for_so_many_and_no_more() {
    let (world, db, ctx) = setup().await;
    for n in 0..20 {
        define(&db, &ctx, pb::Field { indexed: true, ..field(&format!("i{n}"), FieldKind::Text) })
            .await
            .unwrap();
    }
    let more = pb::Field { indexed: true, ..field("more", FieldKind::Text) };
    assert!(told(define(&db, &ctx, more.clone()).await).starts_with("TOO_MANY_INDEXED_FIELDS"));
    // Not by archiving and coming back either.
    let page =
        with(&db, &ctx, async |tx| fields::list(tx, &pb::ListFieldsRequest::default()).await).await.unwrap();
    archive(&db, &ctx, page.items[0].id).await.unwrap();
    define(&db, &ctx, more).await.unwrap();
    assert!(told(undelete(&db, &ctx, page.items[0].id).await).starts_with("TOO_MANY_INDEXED_FIELDS"));
    sqlx::query(
        "INSERT INTO custom_fields SELECT tenant_id, gen_random_uuid(), 1, resource, 'x' || n, kind, labels, help, scale,
           required, is_unique, false, NULL, choices, '', false, 'active', create_time, update_time
         FROM custom_fields, generate_series(1, 479) n WHERE key = 'i1'",
    )
    .execute(&mut world.admin().await)
    .await
    .unwrap();
    assert!(told(define(&db, &ctx, field("last", FieldKind::Text)).await).starts_with("TOO_MANY_FIELDS"));
    let full = pb::Field { id: page.items[1].id.to_string(), indexed: false, ..Default::default() };
    update(&db, &ctx, full.clone(), &["indexed"]).await.unwrap();
    update(&db, &ctx, pb::Field { indexed: true, ..full }, &["indexed"]).await.unwrap();
}

#[tokio::test]
async fn definitions_are_listed_by_key_a_thousand_on_a_page() {
    let (_world, db, ctx) = setup().await;
    let mut ids = Vec::new();
    for n in (0..210).rev() {
        ids.push(define(&db, &ctx, field(&format!("f{n:03}"), FieldKind::Text)).await.unwrap().id);
    }
    archive(&db, &ctx, ids[0]).await.unwrap();
    let list = async |request: pb::ListFieldsRequest| {
        with(&db, &ctx, async |tx| fields::list(tx, &request).await).await.unwrap()
    };
    let all = list(pb::ListFieldsRequest { resource: "widget".into(), ..Default::default() }).await;
    assert!(
        all.items.len() == 209
            && all.items.is_sorted_by_key(|field| field.key.clone())
            && all.next_page_token.is_empty()
    );
    assert_eq!(
        list(pb::ListFieldsRequest { show_archived: true, ..Default::default() }).await.items.len(),
        210
    );
    assert_eq!(
        list(pb::ListFieldsRequest { resource: "\" || true || \"".into(), ..Default::default() }).await.items,
        []
    );
    let first = list(pb::ListFieldsRequest { page_size: 205, ..Default::default() }).await;
    let rest = list(pb::ListFieldsRequest {
        page_size: 205,
        page_token: first.next_page_token,
        ..Default::default()
    })
    .await;
    assert_eq!((first.items.len(), rest.items.len()), (205, 4));
}

#[tokio::test]
async fn each_change_of_a_definition_is_an_event() {
    let (world, db, ctx) = setup().await;
    let city = define(&db, &ctx, field("city", FieldKind::Text)).await.unwrap();
    let sent = pb::Field { id: city.id.to_string(), required: true, ..Default::default() };
    update(&db, &ctx, sent.clone(), &["required"]).await.unwrap();
    update(&db, &ctx, sent, &["required"]).await.unwrap();
    archive(&db, &ctx, city.id).await.unwrap();
    let events: Vec<(String, i64, String)> = sqlx::query_as(
        "SELECT subject, version, array_to_string(changed_paths, ',') FROM platform.outbox ORDER BY id",
    )
    .fetch_all(&mut world.admin().await)
    .await
    .unwrap();
    let events: Vec<_> =
        events.iter().map(|(subject, version, paths)| (subject.as_str(), *version, paths.as_str())).collect();
    assert_eq!(
        events,
        [("field.created.v1", 1, ""), ("field.updated.v1", 2, "required"), ("field.updated.v1", 3, "state")],
        "a change that changes nothing tells nothing"
    );
}
