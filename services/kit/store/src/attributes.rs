//! Values of custom fields, as they are stored: canonical JSON by key.
use std::collections::BTreeMap;

use prost_types::{ListValue, Struct, Value, value::Kind};
use rapport_kernel::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap as _};
use serde_json::value::RawValue;

/// A record's custom values, by the fields' keys. Fields without a value are absent.
pub type Attributes = BTreeMap<String, Attribute>;

/// One value. What it means is its field's matter; this is its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Texts, choices, dates, instants, references, e-mails, URLs.
    Text(String),
    /// An exact number; JSON's number in the database, where the filter counts on it.
    Number(Decimal),
    /// True or false.
    Boolean(bool),
    /// Several choices.
    List(Vec<String>),
    /// Money (`amount`, `currency`) and phones (`number`, `e164`).
    Parts(BTreeMap<String, Attribute>),
}

impl Attribute {
    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl Serialize for Attribute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            // As written: a float would not keep 18 digits.
            Self::Number(number) => RawValue::from_string(number.to_string())
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
            Self::Boolean(boolean) => serializer.serialize_bool(*boolean),
            Self::List(list) => list.serialize(serializer),
            Self::Parts(parts) => {
                let mut map = serializer.serialize_map(Some(parts.len()))?;
                for (key, part) in parts {
                    map.serialize_entry(key, part)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let read = |error: serde_json::Error| D::Error::custom(error);
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map(Self::Text).map_err(read),
            Some(b't' | b'f') => serde_json::from_str(text).map(Self::Boolean).map_err(read),
            Some(b'[') => serde_json::from_str(text).map(Self::List).map_err(read),
            Some(b'{') => serde_json::from_str(text).map(Self::Parts).map_err(read),
            _ => text.parse().map(Self::Number).map_err(D::Error::custom),
        }
    }
}

impl From<&Attribute> for Value {
    /// As the contract gives it out: numbers are decimal strings.
    fn from(attribute: &Attribute) -> Self {
        let kind = match attribute {
            Attribute::Text(text) => Kind::StringValue(text.clone()),
            Attribute::Number(number) => Kind::StringValue(number.to_string()),
            Attribute::Boolean(boolean) => Kind::BoolValue(*boolean),
            Attribute::List(list) => Kind::ListValue(ListValue {
                values: list
                    .iter()
                    .map(|text| Self { kind: Some(Kind::StringValue(text.clone())) })
                    .collect(),
            }),
            Attribute::Parts(parts) => Kind::StructValue(to_struct(parts)),
        };
        Self { kind: Some(kind) }
    }
}

/// Custom values as the contract gives them out.
pub fn to_struct(attributes: &Attributes) -> Struct {
    Struct { fields: attributes.iter().map(|(key, value)| (key.clone(), value.into())).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let json = r#"{"charge":123456789012345678.90,"paid":true,"tags":["a","b"],"who":"杭州"}"#;
        let read: Attributes = serde_json::from_str(json).unwrap();
        assert_eq!(read["charge"], Attribute::Number("123456789012345678.90".parse().unwrap()));
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        let given = to_struct(&read);
        assert_eq!(given.fields["charge"].kind, Some(Kind::StringValue("123456789012345678.90".into())));
    }
}
