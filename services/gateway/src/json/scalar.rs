//! Plain values: from JSON, and from the text of paths and query parameters. A refusal says what would be right.
use std::{borrow::Cow, fmt::Display, str::FromStr};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{EnumDescriptor, Kind, Value};
use rapport_kernel::cut;
use serde_json::Value as Json;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Reads base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
/// Reads base64url with or without padding.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Reads a plain value from JSON: whole numbers also as strings, enums by name or number, bytes as base64.
pub(crate) fn from_json(kind: &Kind, json: &Json) -> Result<Value, String> {
    match (kind, json) {
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Kind::Bool, _) => Err(format!("{} is not true or false", shown(json))),
        (Kind::String | Kind::Bytes, Json::String(text)) => from_text(kind, text),
        (Kind::String | Kind::Bytes, _) => Err(format!("{} is not a string", shown(json))),
        (Kind::Enum(values), Json::Number(number)) => {
            let number = number.as_i64().and_then(|n| i32::try_from(n).ok());
            let known = number
                .and_then(|n| values.get_value(n))
                .ok_or_else(|| no_value(values, &json.to_string()))?;
            Ok(Value::EnumNumber(known.number()))
        }
        (Kind::Enum(_), Json::String(text)) => from_text(kind, text),
        (Kind::Enum(_), _) => Err(format!("{} is not the name of a value", shown(json))),
        (_, Json::Number(number)) => from_text(kind, &whole(kind, number)),
        (_, Json::String(text)) => from_text(kind, text),
        (_, _) => Err(format!("{} is not a number", shown(json))),
    }
}

/// Reads a plain value from text.
pub(crate) fn from_text(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => {
            text.parse().map(Value::Bool).map_err(|_| format!("`{}` is not true or false", cut(text)))
        }
        Kind::Bytes => {
            let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
            let bytes = engine.decode(text).map_err(|_| format!("`{}` is not base64", cut(text)))?;
            Ok(Value::Bytes(bytes.into()))
        }
        Kind::Enum(values) => match values.get_value_by_name(text) {
            Some(value) => Ok(Value::EnumNumber(value.number())),
            None => Err(no_value(values, &format!("`{}`", cut(text)))),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number(text, i32::MIN, i32::MAX).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number(text, i64::MIN, i64::MAX).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => number(text, u32::MIN, u32::MAX).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => number(text, u64::MIN, u64::MAX).map(Value::U64),
        Kind::Float => real(text).map(Value::F32),
        Kind::Double => real(text).map(Value::F64),
        Kind::Message(_) => Err("is not a single value; name a field inside it".into()),
    }
}

/// A JSON number as text: `3.0` is a whole number where one is meant.
fn whole(kind: &Kind, number: &serde_json::Number) -> String {
    let real = matches!(kind, Kind::Float | Kind::Double);
    match number.as_f64().filter(|n| !real && number.is_f64() && n.fract() == 0.0 && n.abs() < 9e15) {
        Some(n) => format!("{n:.0}"),
        None => number.to_string(),
    }
}

fn number<N: FromStr + Display>(text: &str, least: N, most: N) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{}` is not a whole number from {least} to {most}", cut(text)))
}

fn real<N: FromStr>(text: &str) -> Result<N, String> {
    let text = if text == "Infinity" { "inf" } else { text };
    text.parse().map_err(|_| format!("`{}` is not a number", cut(text)))
}

fn no_value(values: &EnumDescriptor, given: &str) -> String {
    let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
    format!("{given} is none of {}", names.join(", "))
}

/// A JSON value for an error text.
pub(crate) fn shown(json: &Json) -> Cow<'static, str> {
    match json {
        Json::Null => "null".into(),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "an object".into(),
        Json::String(text) => format!("`{}`", cut(text)).into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_come_as_numbers_or_strings() {
        for given in [json!(7), json!("7"), json!(7.0), json!(7e0)] {
            assert_eq!(from_json(&Kind::Int64, &given).unwrap(), Value::I64(7), "{given}");
        }
        assert_eq!(from_json(&Kind::Int64, &json!("-9223372036854775808")).unwrap(), Value::I64(i64::MIN));
        assert_eq!(from_json(&Kind::Uint64, &json!(u64::MAX)).unwrap(), Value::U64(u64::MAX));
        let refusal = from_json(&Kind::Int32, &json!(2_147_483_648_u64)).unwrap_err();
        assert_eq!(refusal, "`2147483648` is not a whole number from -2147483648 to 2147483647");
        for wrong in [json!(1.5), json!("1.5"), json!(true), json!("x"), json!([]), json!("")] {
            assert!(from_json(&Kind::Int32, &wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reals_know_the_words_for_what_is_not_finite() {
        assert_eq!(from_json(&Kind::Double, &json!("-Infinity")).unwrap(), Value::F64(f64::NEG_INFINITY));
        assert_eq!(from_json(&Kind::Double, &json!("Infinity")).unwrap(), Value::F64(f64::INFINITY));
        assert_eq!(from_json(&Kind::Float, &json!(1.5)).unwrap(), Value::F32(1.5));
        assert!(matches!(from_json(&Kind::Double, &json!("NaN")).unwrap(), Value::F64(n) if n.is_nan()));
    }

    #[test]
    fn bytes_are_base64_of_either_alphabet() {
        for text in ["-_8", "+/8=", "+/8"] {
            assert_eq!(
                from_text(&Kind::Bytes, text).unwrap(),
                Value::Bytes(vec![0xfb, 0xff].into()),
                "{text}"
            );
        }
        assert!(from_text(&Kind::Bytes, "§").is_err());
    }

    #[test]
    fn enums_are_refused_with_what_there_is() {
        let kind =
            Kind::Enum(rapport_proto::POOL.get_enum_by_name("rapport.customer.v1.CustomerType").unwrap());
        assert_eq!(from_json(&kind, &json!("CUSTOMER_TYPE_PERSON")).unwrap(), Value::EnumNumber(2));
        assert_eq!(from_json(&kind, &json!(1)).unwrap(), Value::EnumNumber(1));
        let refusal = from_json(&kind, &json!("person")).unwrap_err();
        assert!(refusal.starts_with("`person` is none of CUSTOMER_TYPE_UNSPECIFIED, "), "{refusal}");
        assert!(from_json(&kind, &json!(9)).is_err());
    }

    #[test]
    fn long_values_are_cut_short() {
        assert_eq!(cut(&"客".repeat(100)).chars().count(), 60);
        assert_eq!(cut(&"客".repeat(60)).chars().count(), 60);
    }
}
