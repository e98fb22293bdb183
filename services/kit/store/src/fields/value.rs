//! Checking a value against its field, and bringing it into its one canonical form.
use std::collections::{BTreeMap, BTreeSet};

use prost_types::{Value, value::Kind};
use rapport_kernel::{Decimal, Money, RecordName, cut, decimal};
use url::Url;

use super::{Definition, FieldKind};
use crate::{Attribute, contact_point, time};

/// The longest text of a custom field, in characters.
const MAX_TEXT: usize = 10_000;
/// The longest web address, in bytes with everything escaped.
const MAX_URL: usize = 2_000;
/// The longest text that an index takes and that a page token carries, in bytes of UTF-8.
pub(super) const MAX_KEY: usize = 1_000;

impl Definition {
    /// The canonical form of `value`; `None` for null and for empty text, which take the value away.
    ///
    /// # Errors
    /// What is wrong and what would be right. `region` is where telephone numbers without a country code are dialled.
    pub fn read(&self, value: &Value, region: &str) -> Result<Option<Attribute>, String> {
        let read = self.read_any(value, region)?;
        let longest = read.as_ref().and_then(Attribute::text).map_or(0, str::len);
        if longest > MAX_KEY && (self.indexed || self.is_unique) {
            return Err(format!(
                "is longer than {MAX_KEY} bytes, the most where a field is indexed or unique"
            ));
        }
        Ok(read)
    }

    fn read_any(&self, value: &Value, region: &str) -> Result<Option<Attribute>, String> {
        let attribute = match (self.kind, value.kind.as_ref()) {
            (_, None | Some(Kind::NullValue(_))) => return Ok(None),
            (_, Some(Kind::StringValue(text))) if text.is_empty() => return Ok(None),
            (FieldKind::Number, Some(Kind::NumberValue(number))) => self.number(&shortest(*number)?)?,
            (FieldKind::Boolean, Some(Kind::BoolValue(boolean))) => Attribute::Boolean(*boolean),
            (FieldKind::MultiChoice, Some(Kind::ListValue(list))) => {
                let keys = list.values.iter().map(|value| match &value.kind {
                    Some(Kind::StringValue(key)) => self.choice(key).map(ToOwned::to_owned),
                    _ => Err("must be a list of texts".to_owned()),
                });
                let mut seen = BTreeSet::new();
                let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
                keys.retain(|key| seen.insert(key.clone()));
                if keys.is_empty() {
                    return Ok(None);
                }
                Attribute::List(keys)
            }
            (FieldKind::Money, Some(Kind::StructValue(parts))) => money(&parts.fields)?,
            (FieldKind::Phone, Some(Kind::StructValue(parts))) => {
                match parts.fields.get("number").map(|v| &v.kind) {
                    Some(Some(Kind::StringValue(number))) => phone(number, region)?,
                    _ => return Err("must be {\"number\": \"…\"}".into()),
                }
            }
            (kind, Some(Kind::StringValue(text))) => match self.text(kind, text, region)? {
                Some(attribute) => attribute,
                None => return Err(format!("must be {}", expected(kind))),
            },
            (kind, Some(_)) => return Err(format!("must be {}", expected(kind))),
        };
        Ok(Some(attribute))
    }

    /// Values that come as text; `None` where text is not what the kind takes.
    fn text(&self, kind: FieldKind, text: &str, region: &str) -> Result<Option<Attribute>, String> {
        if text.contains('\0') {
            return Err("must not contain the character U+0000".into());
        }
        Ok(Some(match kind {
            FieldKind::Number => self.number(text)?,
            FieldKind::Text if text.chars().count() > MAX_TEXT => {
                return Err(format!("is longer than {MAX_TEXT} characters"));
            }
            FieldKind::Text => Attribute::Text(text.to_owned()),
            FieldKind::Date => time::civil(text)
                .map(|date| Attribute::Text(date.to_string()))
                .ok_or_else(|| format!("`{}` is not a date like `2026-01-31`", cut(text)))?,
            FieldKind::Instant => time::instant(text)
                .map(|instant| Attribute::Text(instant.to_string()))
                .ok_or_else(|| format!("`{}` is not an instant like `2026-01-31T08:00:00Z`", cut(text)))?,
            FieldKind::Choice => Attribute::Text(self.choice(text)?.to_owned()),
            FieldKind::Reference => self.reference(text)?,
            FieldKind::Phone => phone(text, region)?,
            FieldKind::Email => Attribute::Text(contact_point::email(text)?),
            FieldKind::Url => url(text)?,
            FieldKind::Boolean | FieldKind::MultiChoice | FieldKind::Money => return Ok(None),
        }))
    }

    fn number(&self, text: &str) -> Result<Attribute, String> {
        decimal(text, self.places().into()).map(Attribute::Number)
    }

    fn choice<'k>(&self, key: &'k str) -> Result<&'k str, String> {
        if self.choices.iter().any(|choice| choice.key == key && !choice.archived) {
            return Ok(key);
        }
        let allowed: Vec<_> = self
            .choices
            .iter()
            .filter(|choice| !choice.archived)
            .take(20)
            .map(|choice| choice.key.as_str())
            .collect();
        Err(format!("`{}` is not one of {}", cut(key), allowed.join(", ")))
    }

    fn reference(&self, text: &str) -> Result<Attribute, String> {
        let name: RecordName = text.parse().map_err(|error| format!("`{}` {error}", cut(text)))?;
        if name.kind() != self.reference_kind {
            return Err(format!("names a `{}` where a `{}` is meant", name.kind(), self.reference_kind));
        }
        Ok(Attribute::Text(name.to_string()))
    }
}

/// What people write in files for true and false.
const YES: [&str; 5] = ["true", "yes", "y", "1", "是"];
const NO: [&str; 5] = ["false", "no", "n", "0", "否"];

/// The value of a custom field that stands as text in a file: as `read`, and booleans also as yes/no, 1/0 or 是/否, several
/// choices separated by `;`, money as `12.50 CNY`.
pub fn from_text(field: &Definition, text: &str) -> Value {
    let text = text.trim();
    let string = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let kind = match field.kind {
        FieldKind::Boolean if YES.contains(&text.to_lowercase().as_str()) => Kind::BoolValue(true),
        FieldKind::Boolean if NO.contains(&text.to_lowercase().as_str()) => Kind::BoolValue(false),
        FieldKind::MultiChoice => Kind::ListValue(prost_types::ListValue {
            values: text.split(';').map(str::trim).filter(|key| !key.is_empty()).map(string).collect(),
        }),
        FieldKind::Money => match text.split_once(' ') {
            Some((amount, currency)) => Kind::StructValue(prost_types::Struct {
                fields: [("amount", amount), ("currency", currency.trim())]
                    .map(|(part, text)| (part.to_owned(), string(text)))
                    .into(),
            }),
            None => return string(text),
        },
        _ => return string(text),
    };
    Value { kind: Some(kind) }
}

fn expected(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Number => "a decimal number, as a string or a JSON number of up to 15 digits",
        FieldKind::Money => "{\"amount\": \"12.50\", \"currency\": \"CNY\"}",
        FieldKind::Boolean => "true or false",
        FieldKind::MultiChoice => "a list of choices",
        _ => "a text",
    }
}

/// A JSON number by its shortest decimal form; up to 15 digits, since more do not survive a double.
fn shortest(number: f64) -> Result<String, String> {
    let text = number.to_string();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let significant = text.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    if !number.is_finite() || digits > 25 || significant > 15 {
        return Err("a JSON number has at most 15 digits; send longer ones as a string".into());
    }
    Ok(text)
}

fn money(parts: &BTreeMap<String, Value>) -> Result<Attribute, String> {
    let text = |part: &str| match parts.get(part).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => Ok(text.clone()),
        Some(Kind::NumberValue(number)) => shortest(*number),
        _ => Err(format!("must be {}", expected(FieldKind::Money))),
    };
    if let Some(unknown) = parts.keys().find(|part| !["amount", "currency"].contains(&part.as_str())) {
        return Err(format!("has no part `{}`; must be {}", cut(unknown), expected(FieldKind::Money)));
    }
    let money = Money::parse("value", &text("amount")?, &text("currency")?)
        .map_err(|error| error.to_string().trim_start_matches("value.").to_owned())?;
    let amount: Decimal = money.amount();
    Ok(Attribute::Parts(BTreeMap::from([
        ("amount".to_owned(), Attribute::Number(amount)),
        ("currency".to_owned(), Attribute::Text(money.code().to_owned())),
    ])))
}

fn phone(number: &str, region: &str) -> Result<Attribute, String> {
    let e164 = contact_point::e164(number, region).ok_or_else(|| {
        let here = if region.is_empty() { String::new() } else { format!(" in {region}, nor") };
        format!("`{}` is no valid number{here} with a country code like `+86 571 8765 4321`", cut(number))
    })?;
    Ok(Attribute::Parts(BTreeMap::from([
        ("number".to_owned(), Attribute::Text(number.trim().to_owned())),
        ("e164".to_owned(), Attribute::Text(e164)),
    ])))
}

fn url(text: &str) -> Result<Attribute, String> {
    match Url::parse(text) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.as_str().len() <= MAX_URL =>
        {
            Ok(Attribute::Text(url.to_string()))
        }
        _ => Err(format!("`{}` is not an address like `https://example.com/page`", cut(text))),
    }
}

#[cfg(test)]
pub(super) mod tests;
