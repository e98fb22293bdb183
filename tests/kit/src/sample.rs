//! A sample request of any method: valid by its rules, with the ids and the words that a test wants. It says all that the
//! contract lets a caller say; what cannot be guessed from a field's type and name stands in `text` and in `LEFT_OUT`.
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value,
};
use rapport_kernel::Clock;
use rapport_proto::POOL;
use std::collections::HashMap;

use crate::is_output_only;

/// What samples are made of.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The id of a record of each kind (`customer.customer`).
    pub of: HashMap<String, String>,
    /// The id of the record that a request is about, where it is another than the one of its kind.
    pub own: Option<String>,
    /// The id for kinds that are not among them; without one, what refers to such a kind is left out.
    pub other: Option<String>,
    /// What free texts say: a small letter, then small letters and digits. Records of different words are different.
    pub word: String,
    /// Which of several possible values fields get that are no free texts, from 0.
    pub nth: usize,
    /// Which of the alternatives of a `oneof` is said, from 0.
    pub choice: usize,
}

impl Ids {
    /// No ids at all.
    pub fn none(word: &str) -> Self {
        Self { of: HashMap::new(), own: None, other: None, word: word.to_owned(), nth: 0, choice: 0 }
    }

    /// The same ids with other words.
    #[must_use]
    pub fn saying(&self, word: &str) -> Self {
        Self { word: word.to_owned(), ..self.clone() }
    }

    /// The same kinds with ids that nothing has.
    #[must_use]
    pub fn of_nothing(&self) -> Self {
        let clock = Clock::system();
        let of = self.of.keys().map(|kind| (kind.clone(), clock.new_uuid().to_string())).collect();
        let own = self.own.as_ref().map(|_| clock.new_uuid().to_string());
        Self { of, own, other: Some(clock.new_uuid().to_string()), ..self.clone() }
    }

    fn id(&self, kind: &str) -> Option<&str> {
        self.of.get(kind).or(self.other.as_ref()).map(String::as_str)
    }
}

/// How deep samples go; nothing in the contract is deeper.
const DEPTH: usize = 4;

/// What a sample does not say, by the field's name, because it would have to fit something else in the request: a filter
/// the list, a mask the body, a scale the kind of field, a birthday a person, replaced values a column, a place in a stream
/// what the stream has.
const LEFT_OUT: &[&str] = &[
    "etag",
    "update_mask",
    "request_id",
    "page_token",
    "page_size",
    "filter",
    "order_by",
    "birth_date",
    "scale",
    "choices",
    "reference_kind",
    "region",
    "value_map",
    "service",
    "subjects",
    "after",
    "start_after",
    "first_after",
    "up_to",
    "event_id",
    "last_number",
];

/// Switches that a sample turns on, and the next one off; the others ask lists for more, or make other records impossible.
const SWITCHES: &[&str] = &["personal"];

/// A message that says all it can, in which every id is one of `ids`. `kind` is the kind of record that the method is about.
pub fn sample(descriptor: &MessageDescriptor, kind: &str, ids: &Ids) -> DynamicMessage {
    fill(descriptor, kind, ids, DEPTH)
}

fn fill(descriptor: &MessageDescriptor, kind: &str, ids: &Ids, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let is_other_choice =
            field.containing_oneof().filter(|oneof| !oneof.is_synthetic()).is_some_and(|oneof| {
                let choices = oneof.fields().collect::<Vec<_>>();
                choices.get(ids.choice % choices.len()) != Some(&field)
            });
        if LEFT_OUT.contains(&field.name()) || is_output_only(&field) || is_other_choice {
            continue;
        }
        if let Some(value) = value(&field, kind, ids, depth) {
            message.set_field(&field, value);
        }
    }
    message
}

fn value(field: &FieldDescriptor, kind: &str, ids: &Ids, depth: usize) -> Option<Value> {
    if field.is_map() {
        let entry = [(MapKey::String("en".into()), Value::String(ids.word.clone()))];
        return Some(Value::Map(entry.into()));
    }
    let number = 7 + ids.nth;
    let one = match field.kind() {
        Kind::String => Value::String(text(field, kind, ids)?),
        Kind::Bool if SWITCHES.contains(&field.name()) => Value::Bool(ids.nth == 0),
        Kind::Int32 => Value::I32(i32::try_from(number).ok()?),
        Kind::Int64 => Value::I64(i64::try_from(number).ok()?),
        Kind::Message(inner) if inner.full_name() == "google.protobuf.Timestamp" => {
            Value::Message(far_from_now(&inner, number))
        }
        Kind::Message(inner) if inner.full_name() == "google.api.HttpBody" => {
            Value::Message(file(&inner, &ids.word, 1))
        }
        Kind::Message(inner) if inner.full_name().starts_with("google.") => return None,
        Kind::Message(inner) if depth > 0 => Value::Message(fill(&inner, kind, ids, depth - 1)),
        Kind::Enum(inner) => Value::EnumNumber(nth_value(&inner, ids.nth)?),
        _ => return None,
    };
    Some(if field.is_list() { Value::List(vec![one]) } else { one })
}

/// One of the values that say something.
fn nth_value(descriptor: &EnumDescriptor, nth: usize) -> Option<i32> {
    let numbers: Vec<_> = descriptor.values().map(|value| value.number()).filter(|n| *n != 0).collect();
    numbers.get(nth % numbers.len().max(1)).copied()
}

/// A day in 2100 or soon after.
fn far_from_now(descriptor: &MessageDescriptor, days: usize) -> DynamicMessage {
    let mut time = DynamicMessage::new(descriptor.clone());
    let seconds = 4_102_444_800 + i64::try_from(days).unwrap_or_default() * 86_400;
    time.set_field_by_name("seconds", Value::I64(seconds));
    time
}

/// A CSV with `rows` good rows and then three rows without what every record needs, its name.
pub(crate) fn file(descriptor: &MessageDescriptor, word: &str, rows: usize) -> DynamicMessage {
    let good = (0..rows).map(|row| format!("{word} {row},tea\n")).collect::<String>();
    let csv = format!("display_name,industry\n{good},wool\n,silk\n,paper\n");
    let mut body = DynamicMessage::new(descriptor.clone());
    body.set_field_by_name("content_type", Value::String("text/csv".into()));
    body.set_field_by_name("data", Value::Bytes(csv.into()));
    body
}

/// Makes the file in a sample longer, by good rows.
pub fn lengthen_file(request: &mut DynamicMessage, word: &str, rows: usize) {
    let field = request.descriptor().fields().find(
        |field| matches!(field.kind(), Kind::Message(inner) if inner.full_name() == "google.api.HttpBody"),
    );
    if let Some(field) = field
        && let Kind::Message(inner) = field.kind()
    {
        request.set_field(&field, Value::Message(file(&inner, word, rows)));
    }
}

/// The kind of record that a field names.
fn referred(field: &FieldDescriptor) -> Option<String> {
    let option = POOL.get_extension_by_name("rapport.options.v1.references").expect("the option is there");
    let options = field.options();
    let value = options.has_extension(&option).then(|| options.get_extension(&option).into_owned())?;
    value.as_str().map(ToOwned::to_owned)
}

fn text(field: &FieldDescriptor, kind: &str, ids: &Ids) -> Option<String> {
    if let Some(referred) = referred(field) {
        return Some(format!("{referred}/{}", ids.id(&referred)?));
    }
    let either = |first: &str, second: &str| if ids.nth == 0 { first.to_owned() } else { second.to_owned() };
    let word = &ids.word;
    Some(match field.full_name() {
        "rapport.identity.v1.Permission.name" => {
            either("customer.customers.read", "customer.customers.update")
        }
        "rapport.events.v1.WhyRequest.record" => {
            format!("customer.customer/{}", ids.id("customer.customer")?)
        }
        "rapport.identity.v1.FieldRight.kind" => "customer.customer".into(),
        "rapport.identity.v1.FieldRight.field" => either("industry", "headcount"),
        "rapport.imports.v1.Mapping.target" | "rapport.imports.v1.Mapping.column" => {
            either("display_name", "industry")
        }
        _ => match field.name() {
            "id" | "ids" => ids.own.as_deref().or_else(|| ids.id(kind))?.to_owned(),
            "email" | "address" | "administrator_email" => format!("{word}@example.com"),
            "via" => "console".into(),
            "source" => either("erp", "shop"),
            "resource" => "customer".into(),
            "url" => either("https://hooks.example.test/one", "https://hooks.example.test/two"),
            "record_id" => ids.id("customer.customer")?.to_owned(),
            "number" => either("0571-8765 4321", "0571-8765 4322"),
            "amount" => either("12.50", "13.75"),
            "currency" | "base_currency" => either("CNY", "EUR"),
            "founding_date" => either("2004-09-28", "2005-10-29"),
            "password" | "new_password" | "current_password" => {
                format!("{word}, a password of some length")
            }
            "locale" => either("zh-CN", "en"),
            "time_zone" => either("Asia/Shanghai", "Europe/Berlin"),
            "region_code" | "phone_region" => either("CN", "DE"),
            _ => word.clone(),
        },
    })
}
