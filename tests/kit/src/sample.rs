//! A sample request of any method: valid by its rules, with the ids that a test wants.
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use rapport_proto::POOL;
use std::collections::HashMap;

/// The ids of one tenant's records, by kind (`customer.customer`), and one for kinds that are not among them.
#[derive(Clone, Debug)]
pub struct Ids {
    /// By kind.
    pub of: HashMap<String, String>,
    /// For the rest.
    pub other: String,
    /// What free texts say.
    pub word: String,
}

impl Ids {
    fn id(&self, kind: &str) -> &str {
        self.of.get(kind).unwrap_or(&self.other)
    }
}

/// How deep samples go; nothing in the contract is deeper.
const DEPTH: usize = 4;

/// A message with its required parts, in which every id is one of `ids`. `kind` is the kind of record that the method is
/// about.
pub fn sample(descriptor: &MessageDescriptor, kind: &str, ids: &Ids) -> DynamicMessage {
    fill(descriptor, kind, ids, DEPTH)
}

fn fill(descriptor: &MessageDescriptor, kind: &str, ids: &Ids, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if skipped(&field)
            || (field.containing_oneof().is_some_and(|oneof| oneof.fields().next() != Some(field.clone())))
        {
            continue;
        }
        if let Some(value) = value(&field, kind, ids, depth) {
            message.set_field(&field, value);
        }
    }
    message
}

/// What a caller does not send, or what would have to fit something else.
fn skipped(field: &FieldDescriptor) -> bool {
    [
        "etag",
        "update_mask",
        "request_id",
        "page_token",
        "filter",
        "order_by",
        "attributes",
        "default_value",
        "help",
        "birth_date",
        "reference_kind",
        "choices",
        "mappings",
        "value_map",
        "create_time",
        "update_time",
        "delete_time",
        "expire_time",
        "field_rights",
        "permissions",
        "headcount",
        "page_size",
        "external_ids",
        "addresses",
    ]
    .contains(&field.name())
}

fn value(field: &FieldDescriptor, kind: &str, ids: &Ids, depth: usize) -> Option<Value> {
    if field.is_map() {
        let entry = [(MapKey::String("en".into()), Value::String("Sample".into()))];
        return Some(Value::Map(entry.into()));
    }
    let one = match field.kind() {
        Kind::String => Value::String(text(field, kind, ids)),
        Kind::Message(inner) if inner.full_name().starts_with("google.") => return None,
        Kind::Message(inner) if depth > 0 => Value::Message(fill(&inner, kind, ids, depth - 1)),
        Kind::Enum(inner) => Value::EnumNumber(first_value(&inner)),
        _ => return None,
    };
    Some(if field.is_list() { Value::List(vec![one]) } else { one })
}

fn first_value(descriptor: &EnumDescriptor) -> i32 {
    descriptor.values().map(|value| value.number()).find(|number| *number != 0).unwrap_or_default()
}

fn text(field: &FieldDescriptor, kind: &str, ids: &Ids) -> String {
    let references =
        POOL.get_extension_by_name("rapport.options.v1.references").expect("the option is there");
    let options = field.options();
    if options.has_extension(&references) {
        let value = options.get_extension(&references).into_owned();
        let referred = value.as_str().unwrap_or_default().to_owned();
        return format!("{referred}/{}", ids.id(&referred));
    }
    match field.name() {
        "id" | "ids" => ids.id(kind).to_owned(),
        "email" | "address" | "administrator_email" => "sample@example.com".into(),
        "source" => "erp".into(),
        "resource" => "customer".into(),
        "number" => "0571-8765 4321".into(),
        "amount" => "12.50".into(),
        "currency" => "CNY".into(),
        "founding_date" => "2004-09-28".into(),
        "slug" => "sample".into(),
        "tenant" => "sample".into(),
        "key" => "sampleKey".into(),
        "password" | "new_password" | "current_password" => "a sample password of some length".into(),
        "locale" => "en".into(),
        "time_zone" => "UTC".into(),
        "region_code" | "phone_region" => "CN".into(),
        "base_currency" => "CNY".into(),
        _ => ids.word.clone(),
    }
}
