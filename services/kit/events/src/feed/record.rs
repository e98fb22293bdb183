//! The record that an event is about, as the event holds it: for its history, and for conditions on its fields.
use prost_reflect::{DynamicMessage, Kind as Held, MessageDescriptor, SerializeOptions, Value as Part};
use rapport_filter::{Kind, Value};
use rapport_kernel::Error;
use rapport_proto::events::v1 as pb;
use rapport_store::kind_of;
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::encode::open;

/// A record after an event, and what it says of the record before.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) before: Option<DynamicMessage>,
    pub(super) after: Option<DynamicMessage>,
}

impl Records {
    /// Those in an event.
    pub(super) fn of(event: &pb::Event) -> Result<Self, Error> {
        let mut records = Self::default();
        let Some(data) = &event.data else { return Ok(records) };
        let message = open(data.type_url.rsplit('/').next().unwrap_or_default(), &data.value)?;
        for (field, value) in message.fields() {
            match value {
                Part::Message(record) if kind_of(record).is_some() && field.name() == "before" => {
                    records.before = Some(record.clone());
                }
                Part::Message(record) if kind_of(record).is_some() => records.after = Some(record.clone()),
                _ => {}
            }
        }
        Ok(records)
    }
}

/// A record as JSON under the names of the contract's fields: those that are set, or all that have a value even so.
pub(super) fn json(record: &DynamicMessage, all: bool) -> Result<Json, Error> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(!all);
    record.serialize_with_options(serde_json::value::Serializer, &options).map_err(Error::internal)
}

/// What stands at a path of fields, `attributes.city`.
pub(super) fn at<'j>(record: &'j Json, path: &str) -> Option<&'j Json> {
    path.split('.').try_fold(record, |holder, name| holder.get(name))
}

/// Whether records have something at a path of fields.
pub(super) fn has(message: &MessageDescriptor, path: &str) -> bool {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Some(field) = message.get_field_by_name(name) else { return false };
    match (rest, field.kind()) {
        (None, _) => true,
        // What is in there is not the contract's matter.
        (Some(_), Held::Message(inner)) if inner.full_name() == "google.protobuf.Struct" => true,
        (Some(rest), Held::Message(inner)) => has(&inner, rest),
        (Some(_), _) => false,
    }
}

/// A value of the contract's JSON, as conditions know values of this kind.
pub(super) fn value<'j>(kind: &Kind, json: &'j Json) -> Value<'j> {
    let read = match (kind, json) {
        (_, Json::String(text)) if text.is_empty() => None,
        // Numbers that have to keep every digit are text.
        (Kind::Number { .. }, Json::String(text)) => text.parse::<Decimal>().ok().map(Value::Number),
        (Kind::Choice(choices), Json::String(text)) => {
            let named = |choice: &&String| is_name_of(choice, text);
            let choice = choices.iter().find(|choice| *choice == text).or_else(|| choices.iter().find(named));
            choice.map(|choice| Value::Text(choice.clone().into()))
        }
        // A record's name, `identity.user/0190…`, or its id alone.
        (Kind::Id, Json::String(text)) => {
            let id = text.rsplit('/').next().unwrap_or_default();
            id.parse::<Uuid>().ok().map(Value::Id)
        }
        (kind, json) => Some(Value::from_json(kind, json)),
    };
    read.unwrap_or(Value::Missing)
}

/// Whether the contract's enumerations call a choice so: `CUSTOMER_STATUS_EXISTING` is `existing`.
fn is_name_of(choice: &str, name: &str) -> bool {
    name.strip_suffix(&choice.to_ascii_uppercase()).is_some_and(|before| before.ends_with('_'))
}

#[cfg(test)]
mod tests {
    use rapport_proto::POOL;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_as_the_contract_writes_them() {
        let status = Kind::choice(["target", "existing"]);
        let number = Kind::Number { scale: 2 };
        let id = Uuid::from_u128(5);
        for (kind, json, expected) in [
            (&status, json!("CUSTOMER_STATUS_EXISTING"), Value::Text("existing".into())),
            (&status, json!("existing"), Value::Text("existing".into())),
            (&status, json!("CUSTOMER_STATUS_UNSPECIFIED"), Value::Missing),
            (&status, json!("NONEXISTING"), Value::Missing),
            (
                &number,
                json!("123456789012345678.90"),
                Value::Number("123456789012345678.90".parse().unwrap()),
            ),
            (&number, json!(5), Value::Number(Decimal::from(5))),
            (&number, json!("five"), Value::Missing),
            (&Kind::Id, json!(format!("identity.user/{id}")), Value::Id(id)),
            (&Kind::Id, json!(id.to_string()), Value::Id(id)),
            (&Kind::Text, json!(""), Value::Missing),
            (&Kind::Text, json!("\u{676d}\u{5dde}"), Value::Text("\u{676d}\u{5dde}".into())),
            (&Kind::Boolean, json!(false), Value::Boolean(false)),
            (&Kind::TextList(None), json!(["a"]), Value::TextList(vec!["a".into()])),
        ] {
            assert_eq!(value(kind, &json), expected, "{kind:?} {json}");
        }
    }

    #[test]
    fn paths_are_those_of_the_contract() {
        let customer = POOL.get_message_by_name("rapport.customer.v1.Customer").unwrap();
        for path in ["status", "revenue.amount", "attributes.anything", "attributes.phone.e164"] {
            assert!(has(&customer, path), "{path}");
        }
        for path in ["state", "revenue.cents", "status.x", "revenue.amount.x"] {
            assert!(!has(&customer, path), "{path}");
        }
    }
}
