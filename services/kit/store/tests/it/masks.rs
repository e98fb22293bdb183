//! What a caller may name, see and change of a message, and what a change changed.
use prost_types::FieldMask;
use rapport_kernel::{Ctx, FieldRights};
use rapport_proto::{customer::v1 as pb, r#type::v1 as types};
use rapport_store::{Etag, diff, mask, redact};
use serde_json::json;

use crate::{
    fields::values,
    widget::Widget,
    world::{boss, tenant},
};

const KIND: &str = "customer.customer";

fn customer() -> pb::Customer {
    pb::Customer {
        id: "01939f6e-0000-7000-8000-000000000001".into(),
        etag: "3".into(),
        display_name: "杭州茶业".into(),
        headcount: Some(0),
        revenue: Some(types::Money { amount: "1.00".into(), currency: "CNY".into() }),
        tags: vec!["a".into()],
        attributes: Some(values(&json!({"city": "杭州", "monthlyCharges": "29.85", "empty": null}))),
        ..pb::Customer::default()
    }
}

fn limited(hidden: &[&str], locked: &[&str]) -> Ctx {
    let of = |names: &[&str]| {
        [(KIND.to_owned(), names.iter().map(ToString::to_string).collect())].into_iter().collect()
    };
    Ctx {
        field_rights: std::sync::Arc::new(FieldRights {
            hidden: of(hidden),
            locked: of(locked),
            ..FieldRights::default()
        }),
        ..boss(tenant())
    }
}

fn paths(ctx: &Ctx, mask: Option<&[&str]>) -> Result<Vec<String>, String> {
    let mask = mask.map(|paths| FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    mask::paths(ctx, KIND, &customer(), mask.as_ref()).map_err(|error| format!("{}: {error}", error.reason()))
}

#[test]
fn without_a_mask_every_field_that_is_set_changes() {
    let set = [
        "attributes.city",
        "attributes.empty",
        "attributes.monthlyCharges",
        "display_name",
        "headcount",
        "revenue",
        "tags",
    ];
    assert_eq!(paths(&boss(tenant()), None).unwrap(), set);
    assert_eq!(paths(&boss(tenant()), Some(&[])).unwrap(), set);
}

#[test]
fn a_mask_names_what_changes_also_what_is_taken_away() {
    let all = boss(tenant());
    assert_eq!(paths(&all, Some(&["industry", "tags"])).unwrap(), ["industry", "tags"]);
    assert_eq!(
        paths(&all, Some(&["attributes.city", "attributes.gone"])).unwrap(),
        ["attributes.city", "attributes.gone"]
    );
    assert_eq!(
        paths(&all, Some(&["attributes"])).unwrap(),
        ["attributes.city", "attributes.empty", "attributes.monthlyCharges"]
    );
}

#[test]
fn a_mask_that_came_as_json_has_lost_its_capitals() {
    let all = boss(tenant());
    assert_eq!(paths(&all, Some(&["attributes.monthly_charges"])).unwrap(), ["attributes.monthlyCharges"]);
    // No way around a lock.
    let locked = limited(&[], &["attributes.monthlyCharges"]);
    for path in ["attributes.monthly_charges", "attributes.monthlyCharges", "attributes"] {
        let refused = paths(&locked, Some(&[path])).unwrap_err();
        assert_eq!(refused, "DENIED: field `attributes.monthlyCharges` may be read but not changed");
    }
}

#[test]
fn rights_cover_the_parts_of_a_field() {
    let ctx = limited(&["industry"], &["revenue"]);
    for path in ["revenue", "revenue.amount"] {
        let refused = paths(&ctx, Some(&[path])).unwrap_err();
        assert_eq!(refused, format!("DENIED: field `{path}` may be read but not changed"));
    }
    let refused = paths(&ctx, Some(&["industry"])).unwrap_err();
    assert!(
        refused.starts_with("INVALID: update_mask: there is no field `industry`; there are `type`,"),
        "{refused}"
    );
    assert!(!refused[50..].contains("industry"), "what is hidden is not offered: {refused}");
    assert!(
        paths(&ctx, None).unwrap_err().starts_with("DENIED: field `revenue`"),
        "also where it was only sent along"
    );
    assert_eq!(paths(&ctx, Some(&["tags"])).unwrap(), ["tags"]);
}

#[test]
fn a_path_that_names_nothing_is_refused_with_near_ones_in_the_same_words_as_what_is_hidden() {
    let all = boss(tenant());
    assert_eq!(
        paths(&all, Some(&["founding_dat"])).unwrap_err(),
        "INVALID: update_mask: there is no field `founding_dat`; did you mean `founding_date`"
    );
    let refused = |ctx: &Ctx, path: &str| paths(ctx, Some(&[path])).unwrap_err().replace(path, "<path>");
    let hidden = limited(&["headcount"], &[]);
    assert_eq!(refused(&hidden, "headcount"), refused(&hidden, "headcxyzt"));
    assert!(
        paths(&all, Some(&["revenue.amount"])).is_ok(),
        "whether it can be changed is the resource's to say"
    );
}

#[test]
fn what_is_hidden_is_left_out() {
    let open = customer();
    assert_eq!(redact(&boss(tenant()), KIND, open.clone()), open);
    assert_eq!(redact(&limited(&["revenue"], &[]), "sales.quote", open.clone()), open);
    let ctx =
        limited(&["revenue", "headcount", "attributes.city", "attributes.none", "no_such_field"], &["tags"]);
    let seen = redact(&ctx, KIND, open.clone());
    let expected = pb::Customer {
        revenue: None,
        headcount: None,
        attributes: Some(values(&json!({"monthlyCharges": "29.85", "empty": null}))),
        ..open.clone()
    };
    assert_eq!(seen, expected);
    let seen = redact(&limited(&["attributes"], &[]), KIND, open.clone());
    assert_eq!(seen, pb::Customer { attributes: None, ..open });
    assert_eq!(
        redact(&limited(&["attributes.city"], &[]), KIND, pb::Customer::default()),
        pb::Customer::default()
    );
}

#[test]
fn a_difference_names_fields_and_keeps_what_they_were() {
    let before = customer();
    let mut after = customer();
    after.etag = "4".into();
    after.headcount = None;
    after.industry = "tea".into();
    after.attributes = Some(values(&json!({"city": "上海", "monthlyCharges": "29.85", "new": true})));
    let changed = diff(&before, &after);
    assert_eq!(
        changed.paths,
        ["industry", "headcount", "attributes.city", "attributes.empty", "attributes.new"]
    );
    let kept = pb::Customer {
        headcount: Some(0),
        attributes: Some(values(&json!({"city": "杭州", "empty": null}))),
        ..pb::Customer::default()
    };
    assert_eq!(changed.before, kept);
    assert_eq!(diff(&before, &before).paths, Vec::<String>::new());
    assert_eq!(diff(&before, &before).before, pb::Customer::default());
}

#[test]
fn an_etag_is_the_version_that_was_read() {
    let widget = Widget { version: 3, ..Widget::new(&boss(tenant()), "a") };
    for (text, expected) in [
        ("", "fine"),
        ("3", "fine"),
        ("\"3\"", "fine"),
        ("2", "widget was changed by someone else; read it again and retry"),
        ("x", "etag: is not an etag; send back the one that was read"),
        ("3; 4", "etag: is not an etag; send back the one that was read"),
        ("99999999999999999999", "etag: is not an etag; send back the one that was read"),
    ] {
        let result = Etag::parse("etag", text).and_then(|etag| etag.matches(&widget));
        assert_eq!(result.map_or_else(|error| error.to_string(), |()| "fine".into()), expected, "{text}");
    }
}
