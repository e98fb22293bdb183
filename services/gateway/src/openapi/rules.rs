//! The constraints of `buf.validate` as JSON Schema, as far as JSON Schema can say them.
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value as Rule};
use rapport_proto::POOL;
use serde_json::{Map, Value, json};

/// Adds what the contract demands of a field to its schema.
pub(super) fn apply(schema: &mut Map<String, Value>, field: &FieldDescriptor) {
    if let Some(rules) = rules(field) {
        add(schema, &rules, &field.kind());
    }
}

/// Whether the field must be given.
pub(super) fn required(field: &FieldDescriptor) -> bool {
    rules(field).is_some_and(|rules| {
        let text = message(&rules, "string");
        let at_least =
            text.and_then(|text| get(&text, "min_len")).and_then(|n| n.as_u64()).unwrap_or_default();
        get(&rules, "required").and_then(|rule| rule.as_bool()).unwrap_or_default() || at_least > 0
    })
}

fn rules(field: &FieldDescriptor) -> Option<DynamicMessage> {
    let option = POOL.get_extension_by_name("buf.validate.field")?;
    let options = field.options();
    options.has_extension(&option).then(|| options.get_extension(&option).as_message().cloned()).flatten()
}

fn get(message: &DynamicMessage, name: &str) -> Option<Rule> {
    message
        .has_field_by_name(name)
        .then(|| message.get_field_by_name(name).map(|rule| rule.into_owned()))
        .flatten()
}

fn message(rules: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    get(rules, name)?.as_message().cloned()
}

fn add(schema: &mut Map<String, Value>, rules: &DynamicMessage, kind: &Kind) {
    if let Some(text) = message(rules, "string") {
        copy(
            schema,
            &text,
            &[
                ("min_len", "minLength"),
                ("max_len", "maxLength"),
                ("max_bytes", "maxLength"),
                ("pattern", "pattern"),
                ("const", "const"),
                ("in", "enum"),
            ],
        );
        for format in ["uuid", "email", "uri", "hostname", "ip"] {
            if get(&text, format).and_then(|rule| rule.as_bool()) == Some(true) {
                schema.insert("format".into(), json!(format));
            }
        }
    }
    for name in ["int32", "uint32", "sint32", "float", "double"] {
        if let Some(number) = message(rules, name) {
            copy(
                schema,
                &number,
                &[
                    ("gte", "minimum"),
                    ("gt", "exclusiveMinimum"),
                    ("lte", "maximum"),
                    ("lt", "exclusiveMaximum"),
                    ("in", "enum"),
                ],
            );
        }
    }
    if let Some(list) = message(rules, "repeated") {
        copy(
            schema,
            &list,
            &[("min_items", "minItems"), ("max_items", "maxItems"), ("unique", "uniqueItems")],
        );
        inner(schema, &list, "items", "items", kind);
    }
    if let Some(map) = message(rules, "map") {
        copy(schema, &map, &[("min_pairs", "minProperties"), ("max_pairs", "maxProperties")]);
        inner(schema, &map, "keys", "propertyNames", &Kind::String);
        let value = kind.as_message().map_or(Kind::String, |entry| entry.map_entry_value_field().kind());
        inner(schema, &map, "values", "additionalProperties", &value);
    }
    if let (Some(choice), Kind::Enum(values)) = (message(rules, "enum"), kind) {
        let refused =
            get(&choice, "not_in").and_then(|list| list.as_list().map(<[_]>::to_vec)).unwrap_or_default();
        let names = refused.iter().filter_map(|number| values.get_value(number.as_i32()?));
        let names: Vec<_> = names.map(|value| value.name().to_owned()).collect();
        if !names.is_empty() {
            schema.insert("not".into(), json!({"enum": names}));
        }
    }
}

/// Rules of what a list or a map holds.
fn inner(schema: &mut Map<String, Value>, rules: &DynamicMessage, name: &str, keyword: &str, kind: &Kind) {
    let Some(rules) = message(rules, name) else { return };
    let entry = schema.entry(keyword).or_insert_with(|| json!({}));
    if let Some(entry) = entry.as_object_mut() {
        add(entry, &rules, kind);
    }
}

fn copy(schema: &mut Map<String, Value>, rules: &DynamicMessage, names: &[(&str, &str)]) {
    for (rule, keyword) in names {
        if let Some(value) = get(rules, rule).and_then(|value| plain(&value)) {
            schema.insert((*keyword).to_owned(), value);
        }
    }
}

fn plain(value: &Rule) -> Option<Value> {
    Some(match value {
        Rule::Bool(value) => json!(value),
        Rule::I32(value) => json!(value),
        Rule::I64(value) => json!(value),
        Rule::U32(value) => json!(value),
        Rule::U64(value) => json!(value),
        Rule::F32(value) => json!(value),
        Rule::F64(value) => json!(value),
        Rule::String(text) => json!(text),
        Rule::List(items) if !items.is_empty() => Value::Array(items.iter().filter_map(plain).collect()),
        _ => return None,
    })
}
