//! Applying sent values to a record's custom fields: every write path goes through here.
use std::borrow::Cow;

use prost_types::{Struct, Value};
use rapport_kernel::{Error, Violation, cut};

use super::{Access, Definition};
use crate::{Attribute, Attributes};

/// The custom values of a new record: what was sent, and defaults for the rest.
///
/// # Errors
/// `Invalid` with every wrong value, unknown key and missing required value, each under its path `attributes.<key>`.
pub fn create(fields: &[Definition], given: Option<&Struct>, region: &str) -> Result<Attributes, Error> {
    let mut wrong = Vec::new();
    let mut attributes = Attributes::new();
    for (key, value) in given.iter().flat_map(|given| &given.fields) {
        set(&mut attributes, None, fields, key, value, region, &mut wrong);
    }
    for field in fields {
        if attributes.contains_key(&field.key) || wrong.iter().any(|v| v.field == path(&field.key)) {
            continue;
        }
        match &field.default_value {
            Some(value) => {
                attributes.insert(field.key.clone(), value.clone());
            }
            // Nobody is asked for what they may not give.
            None if field.required && field.access == Access::Full => wrong.push(missing(&field.key)),
            None => {}
        }
    }
    if wrong.is_empty() { Ok(attributes) } else { Err(Error::Invalid(wrong)) }
}

/// The custom values of a record after the given keys were set to what was sent; a key that was not sent loses its value.
///
/// Values of archived fields stay as they are. A required field that this change does not name is not asked for, so that
/// records from before it was required can be changed.
///
/// # Errors
/// As for `create`.
pub fn update(
    fields: &[Definition],
    before: &Attributes,
    given: Option<&Struct>,
    keys: &[&str],
    region: &str,
) -> Result<Attributes, Error> {
    let mut wrong = Vec::new();
    let mut attributes = before.clone();
    let none = Value { kind: None };
    for key in keys {
        let value = given.and_then(|given| given.fields.get(*key)).unwrap_or(&none);
        // Sent back as it is: it stays even where its choice is no longer offered.
        if before.get(*key).is_some_and(|kept| Value::from(kept) == *value) && find(fields, key).is_some() {
            continue;
        }
        set(&mut attributes, before.get(*key), fields, key, value, region, &mut wrong);
        let required = find(fields, key).is_some_and(|field| field.required);
        if required && !attributes.contains_key(*key) && wrong.iter().all(|v| v.field != path(key)) {
            wrong.push(missing(key));
        }
    }
    if wrong.is_empty() { Ok(attributes) } else { Err(Error::Invalid(wrong)) }
}

/// The values that a caller is shown: those of fields that are in use and not hidden from the caller.
pub fn shown(fields: &[Definition], attributes: &Attributes) -> Struct {
    values_of(fields.iter().filter(|field| field.access != Access::Hidden), attributes)
}

/// The values of fields that are in use, hidden from this caller or not: what an event tells, which each of its readers sees
/// by rights of their own.
pub fn in_use(fields: &[Definition], attributes: &Attributes) -> Struct {
    values_of(fields.iter(), attributes)
}

fn values_of<'f>(fields: impl Iterator<Item = &'f Definition>, attributes: &Attributes) -> Struct {
    let values = fields.filter_map(|field| attributes.get_key_value(&field.key));
    Struct { fields: values.map(|(key, value)| (key.clone(), value.into())).collect() }
}

fn set(
    attributes: &mut Attributes,
    kept: Option<&Attribute>,
    fields: &[Definition],
    key: &str,
    value: &Value,
    region: &str,
    wrong: &mut Vec<Violation>,
) {
    let read = match find(fields, key) {
        Some(field) => offering(field, kept).read(value, region),
        None => Err(unknown(fields, key)),
    };
    match read {
        Ok(Some(value)) => {
            attributes.insert(key.to_owned(), value);
        }
        Ok(None) => {
            attributes.remove(key);
        }
        Err(problem) => wrong.push(Violation { field: path(key), problem }),
    }
}

/// The field as it is for a record that has this value: several choices may keep one that is no longer offered.
fn offering<'f>(field: &'f Definition, kept: Option<&Attribute>) -> Cow<'f, Definition> {
    let Some(Attribute::List(kept)) = kept else { return Cow::Borrowed(field) };
    let mut field = field.clone();
    for choice in field.choices.iter_mut().filter(|choice| kept.contains(&choice.key)) {
        choice.archived = false;
    }
    Cow::Owned(field)
}

/// The field, unless it is hidden from the caller: then there is none.
fn find<'f>(fields: &'f [Definition], key: &str) -> Option<&'f Definition> {
    fields.iter().find(|field| field.key == key && field.access != Access::Hidden)
}

fn path(key: &str) -> String {
    format!("attributes.{}", cut(key))
}

fn missing(key: &str) -> Violation {
    Violation { field: path(key), problem: "must have a value".into() }
}

/// There is no such field; names that are near it, or the first of all.
fn unknown(fields: &[Definition], key: &str) -> String {
    let keys = fields.iter().filter(|field| field.access != Access::Hidden).map(|field| field.key.as_str());
    let near = rapport_filter::nearest(key, keys.clone());
    if !near.is_empty() {
        return format!("there is no such field; did you mean `{}`", near.join("`, `"));
    }
    match keys.clone().take(12).collect::<Vec<_>>() {
        none if none.is_empty() => "there is no such field; none is defined".into(),
        some => format!(
            "there is no such field; there are `{}`{}",
            some.join("`, `"),
            if keys.count() > 12 { " …" } else { "" }
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::{
        FieldKind,
        value::tests::{field, value},
    };

    fn named(key: &str, kind: FieldKind) -> Definition {
        Definition { key: key.into(), ..field(kind) }
    }

    fn given(json: &serde_json::Value) -> Struct {
        Struct {
            fields: json.as_object().unwrap().iter().map(|(key, json)| (key.clone(), value(json))).collect(),
        }
    }

    fn json(attributes: &Attributes) -> String {
        serde_json::to_string(attributes).unwrap()
    }

    fn fields() -> Vec<Definition> {
        vec![
            Definition { required: true, ..named("city", FieldKind::Text) },
            Definition {
                default_value: Some(Attribute::Text("gold".into())),
                ..named("level", FieldKind::Choice)
            },
            named("levels", FieldKind::MultiChoice),
            named("size", FieldKind::Number),
        ]
    }

    #[test]
    fn a_new_record_has_what_was_given_and_defaults_for_the_rest() {
        let new = create(&fields(), Some(&given(&json!({"city": "杭州", "size": "1.5"}))), "").unwrap();
        assert_eq!(json(&new), r#"{"city":"杭州","level":"gold","size":1.50}"#);
        let new = create(&fields(), Some(&given(&json!({"city": "杭州", "level": "银"}))), "").unwrap();
        assert_eq!(json(&new), r#"{"city":"杭州","level":"银"}"#);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let wrong = given(&json!({"size": "x", "level": "x", "citty": "杭州", "zzz": 1}));
        let error = create(&fields(), Some(&wrong), "").unwrap_err();
        let Error::Invalid(mut violations) = error else { panic!("{error}") };
        violations.sort_by(|a, b| a.field.cmp(&b.field));
        let told: Vec<_> = violations.iter().map(|v| format!("{} {}", v.field, v.problem)).collect();
        assert_eq!(
            told,
            [
                "attributes.city must have a value",
                "attributes.citty there is no such field; did you mean `city`",
                "attributes.level `x` is not one of gold, 银",
                "attributes.size `x` is not a decimal number like `1234.5`",
                "attributes.zzz there is no such field; there are `city`, `level`, `levels`, `size`",
            ]
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_change_sets_what_it_names_and_nothing_else() {
        let before = create(&fields(), Some(&given(&json!({"city": "杭州", "size": 1}))), "").unwrap();
        let change = |json: serde_json::Value, keys: &[&str]| {
            update(&fields(), &before, Some(&given(&json)), keys, "")
        };
        let after = change(json!({"size": 2, "city": "ignored"}), &["size"]).unwrap();
        assert_eq!(super::tests::json(&after), r#"{"city":"杭州","level":"gold","size":2.00}"#);
        let after = change(json!({}), &["size", "level"]).unwrap();
        assert_eq!(super::tests::json(&after), r#"{"city":"杭州"}"#);
        let error = change(json!({"city": null}), &["city"]).unwrap_err();
        assert_eq!(error.to_string(), "attributes.city: must have a value");
        assert_eq!(update(&fields(), &before, None, &[], "").unwrap(), before);
    }

    #[test]
    fn values_of_archived_fields_and_choices_stay() {
        let before: Attributes =
            serde_json::from_value(json!({"old": "kept", "level": "tin", "levels": ["tin"]})).unwrap();
        let sent = given(&json!({"level": "tin", "levels": ["tin", "gold"]}));
        let after = update(&fields(), &before, Some(&sent), &["level", "levels"], "").unwrap();
        assert_eq!(json(&after), r#"{"level":"tin","levels":["tin","gold"],"old":"kept"}"#);
        let sent = given(&json!({"old": "kept"}));
        assert!(
            update(&fields(), &before, Some(&sent), &["old"], "").is_err(),
            "an archived field is not there"
        );
        let gold: Attributes = serde_json::from_value(json!({"level": "gold"})).unwrap();
        let sent = given(&json!({"level": "tin"}));
        assert!(
            update(&fields(), &gold, Some(&sent), &["level"], "").is_err(),
            "what is no longer offered is not given"
        );
    }

    #[test]
    fn what_is_archived_or_hidden_is_not_shown() {
        let kept: Attributes =
            serde_json::from_value(json!({"old": "kept", "city": "杭州", "size": 1.50})).unwrap();
        assert_eq!(shown(&fields(), &kept), given(&json!({"city": "杭州", "size": "1.5"})));
        let mut fields = fields();
        fields[0].access = Access::Hidden;
        fields[3].access = Access::Locked;
        assert_eq!(shown(&fields, &kept), given(&json!({"size": "1.5"})));
        assert_eq!(in_use(&fields, &kept), given(&json!({"city": "杭州", "size": "1.5"})));
    }

    #[test]
    fn a_hidden_field_is_unknown_and_not_asked_for_but_has_its_default() {
        let mut fields = fields();
        fields[0].access = Access::Hidden;
        fields[1].access = Access::Hidden;
        let new = create(&fields, None, "").unwrap();
        assert_eq!(json(&new), r#"{"level":"gold"}"#);
        let error = create(&fields, Some(&given(&json!({"city": "杭州", "citty": "杭州"}))), "")
            .unwrap_err()
            .to_string();
        let unknown = "there is no such field; there are `levels`, `size`";
        assert!(error.contains(&format!("attributes.city: {unknown}")), "{error}");
        assert!(error.contains(&format!("attributes.citty: {unknown}")), "{error}");
    }
}
