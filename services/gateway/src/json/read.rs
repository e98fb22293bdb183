//! JSON to message. What is wrong is collected, not thrown: whoever sends ten wrong fields learns of ten.
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use rapport_kernel::{Violation, cut};
use serde_json::{Map, Value as Json};

use super::{
    Known, Names, mask_subject,
    path::{field_named, rename},
    scalar::{from_json, from_text, shown},
};

/// More violations than this are not worth listing.
const ENOUGH: usize = 50;
/// How deep values of custom fields may be nested: each level is three messages deep on the wire, and decoders stop at
/// a hundred.
const DEEPEST: usize = 20;
/// JSON numbers in custom fields keep this many digits; longer ones come as strings.
const DIGITS: usize = 15;

/// Reads JSON into messages and collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// What is wrong, by the JSON path of each field.
    pub(crate) violations: Vec<Violation>,
    path: Vec<String>,
}

impl Reader {
    /// A reader of what stands at this path of the request.
    pub(crate) fn at(path: &str) -> Self {
        Self { violations: Vec::new(), path: vec![path.to_owned()] }
    }

    /// Notes that something is wrong with the field `name` of what is being read.
    pub(crate) fn refuse(&mut self, name: &str, problem: impl Into<String>) {
        if self.violations.len() < ENOUGH {
            let mut field = self.path.concat();
            push(&mut field, name);
            self.violations.push(Violation { field, problem: problem.into() });
        }
    }

    /// Does `read` one field deeper.
    fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let dot = if self.path.is_empty() || name.starts_with('[') { "" } else { "." };
        self.path.push(format!("{dot}{name}"));
        let done = read(self);
        self.path.pop();
        done
    }

    /// Fills a message from a JSON object.
    pub(crate) fn fill(&mut self, message: &mut DynamicMessage, json: &Map<String, Json>) {
        let descriptor = message.descriptor();
        for (name, value) in json {
            let Some(field) = field_named(&descriptor, name) else {
                self.refuse(name, no_field(&descriptor, name));
                continue;
            };
            let read = self.within(field.json_name(), |reader| reader.field(&field, value));
            match read {
                None => {}
                Some(_) if message.has_field(&field) => self.refuse(name, "is given twice"),
                Some(read) => match twin(message, &field) {
                    Some(twin) => {
                        self.refuse(name, format!("cannot be given together with `{}`", twin.json_name()))
                    }
                    None => message.set_field(&field, read),
                },
            }
        }
    }

    /// Reads the value of a field; `None` when it is null or wrong.
    pub(crate) fn field(&mut self, field: &FieldDescriptor, json: &Json) -> Option<Value> {
        if json.is_null() && !is_value(field) {
            return None;
        }
        if field.is_map() {
            return self.map(field, json);
        }
        if field.is_list() {
            let Json::Array(items) = json else {
                self.refuse("", format!("{} is not a list", shown(json)));
                return None;
            };
            let read = |(at, item)| self.within(&format!("[{at}]"), |reader| reader.single(field, item));
            return whole(items.iter().enumerate().map(read)).map(Value::List);
        }
        self.single(field, json)
    }

    fn single(&mut self, field: &FieldDescriptor, json: &Json) -> Option<Value> {
        match field.kind() {
            Kind::Message(kind) => self.message(&kind, json, field.parent_message()).map(Value::Message),
            kind => from_json(&kind, json).map_err(|problem| self.refuse("", problem)).ok(),
        }
    }

    fn map(&mut self, field: &FieldDescriptor, json: &Json) -> Option<Value> {
        let Json::Object(object) = json else {
            self.refuse("", format!("{} is not an object", shown(json)));
            return None;
        };
        let Kind::Message(entry) = field.kind() else { return None };
        let (key_kind, value_field) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field());
        let read = |(key, value): (&String, &Json)| {
            self.within(&format!("[\"{}\"]", cut(key)), |reader| {
                let key = from_text(&key_kind, key).map_err(|problem| reader.refuse("", problem)).ok()?;
                Some((key.into_map_key()?, reader.single(&value_field, value)?))
            })
        };
        whole(object.iter().map(read)).map(Value::Map)
    }

    fn message(
        &mut self,
        kind: &MessageDescriptor,
        json: &Json,
        holder: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        let mut message = DynamicMessage::new(kind.clone());
        match (Known::of(kind), json) {
            (Some(Known::Timestamp | Known::Duration | Known::FieldMask), Json::String(text)) => {
                return self.text(kind, text, holder);
            }
            (Some(Known::Timestamp | Known::Duration | Known::FieldMask), _) => {
                self.refuse("", format!("{} is not a string", shown(json)));
                return None;
            }
            (Some(Known::Struct | Known::Value | Known::ListValue), _) => return self.free(kind, json, 0),
            (Some(Known::Any), _) => {
                self.refuse("", "cannot be given");
                return None;
            }
            (Some(Known::Wrapper), _) => {
                let field = kind.get_field(1)?;
                let value = self.field(&field, json)?;
                message.set_field(&field, value);
            }
            (None, Json::Object(object)) => self.fill(&mut message, object),
            (None, _) => {
                self.refuse("", format!("{} is not an object", shown(json)));
                return None;
            }
        }
        Some(message)
    }

    /// Reads a message whose JSON form is a string: also from query parameters.
    pub(crate) fn text(
        &mut self,
        kind: &MessageDescriptor,
        text: &str,
        holder: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        let mut message = DynamicMessage::new(kind.clone());
        match Known::of(kind) {
            Some(Known::Timestamp) => match text.parse::<jiff::Timestamp>() {
                Ok(time) => set_instant(&mut message, time),
                Err(_) => {
                    let example = "2026-01-31T08:00:00Z";
                    self.refuse("", format!("`{}` is not an RFC 3339 time like `{example}`", cut(text)));
                    return None;
                }
            },
            Some(Known::Duration) => match text.parse::<prost_types::Duration>() {
                Ok(duration) if text.ends_with('s') => {
                    set_time(&mut message, duration.seconds, duration.nanos)
                }
                _ => {
                    self.refuse("", format!("`{}` is not a number of seconds like `1.5s`", cut(text)));
                    return None;
                }
            },
            Some(Known::FieldMask) => {
                let subject = mask_subject(holder);
                let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
                let paths = paths.map(|path| Value::String(rename(path, subject.as_ref(), Names::Proto)));
                message.set_field_by_number(1, Value::List(paths.collect()));
            }
            Some(Known::Wrapper) => {
                let field = kind.get_field(1)?;
                match from_text(&field.kind(), text) {
                    Ok(value) => message.set_field(&field, value),
                    Err(problem) => {
                        self.refuse("", problem);
                        return None;
                    }
                }
            }
            _ => {
                self.refuse("", "is not a single value; name a field inside it, or send it in the body");
                return None;
            }
        }
        Some(message)
    }

    /// Reads what may be of any form: `Struct`, `Value` and `ListValue`.
    pub(super) fn free(
        &mut self,
        kind: &MessageDescriptor,
        json: &Json,
        depth: usize,
    ) -> Option<DynamicMessage> {
        if depth > DEEPEST {
            self.refuse("", format!("is nested deeper than {DEEPEST} levels"));
            return None;
        }
        let mut message = DynamicMessage::new(kind.clone());
        let field = match (Known::of(kind)?, json) {
            (Known::Struct, Json::Object(_)) | (Known::ListValue, Json::Array(_)) => kind.get_field(1)?,
            (Known::Struct, _) => {
                self.refuse("", format!("{} is not an object", shown(json)));
                return None;
            }
            (Known::ListValue, _) => {
                self.refuse("", format!("{} is not a list", shown(json)));
                return None;
            }
            (_, Json::Null) => kind.get_field_by_name("null_value")?,
            (_, Json::Bool(_)) => kind.get_field_by_name("bool_value")?,
            (_, Json::Number(_)) => kind.get_field_by_name("number_value")?,
            (_, Json::String(_)) => kind.get_field_by_name("string_value")?,
            (_, Json::Array(_)) => kind.get_field_by_name("list_value")?,
            (_, Json::Object(_)) => kind.get_field_by_name("struct_value")?,
        };
        let value = match json {
            Json::Null => Value::EnumNumber(0),
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match exact(number) {
                Some(number) => Value::F64(number),
                None => {
                    self.refuse("", format!("{number} has more than {DIGITS} digits; send it as a string"));
                    return None;
                }
            },
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) if field.is_list() => {
                let kind = field.kind().as_message()?.clone();
                let read = |(at, item)| {
                    let item =
                        self.within(&format!("[{at}]"), |reader| reader.free(&kind, item, depth + 1))?;
                    Some(Value::Message(item))
                };
                Value::List(whole(items.iter().enumerate().map(read))?)
            }
            Json::Object(object) if field.is_map() => {
                let kind = map_value(&field)?;
                let read = |(key, item): (&String, &Json)| {
                    let item = self.within(&cut(key), |reader| reader.free(&kind, item, depth + 1))?;
                    Some((MapKey::String(key.clone()), Value::Message(item)))
                };
                Value::Map(whole(object.iter().map(read))?)
            }
            Json::Array(_) | Json::Object(_) => {
                Value::Message(self.free(&field.kind().as_message()?.clone(), json, depth + 1)?)
            }
        };
        message.set_field(&field, value);
        Some(message)
    }
}

/// All of the parts, or none; each is read, so that each wrong one is noted.
fn whole<T, C: FromIterator<T>>(parts: impl Iterator<Item = Option<T>>) -> Option<C> {
    parts.collect::<Vec<_>>().into_iter().collect()
}

fn push(path: &mut String, name: &str) {
    if !path.is_empty() && !name.is_empty() {
        path.push('.');
    }
    path.push_str(&cut(name));
}

fn map_value(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    field.kind().as_message()?.map_entry_value_field().kind().as_message().cloned()
}

/// Only `google.protobuf.Value` has a null of its own.
fn is_value(field: &FieldDescriptor) -> bool {
    !field.is_list() && field.kind().as_message().is_some_and(|kind| Known::of(kind) == Some(Known::Value))
}

fn set_time(message: &mut DynamicMessage, seconds: i64, nanos: i32) {
    message.set_field_by_number(1, Value::I64(seconds));
    message.set_field_by_number(2, Value::I32(nanos));
}

/// Before 1970 too, the nanoseconds count forward.
fn set_instant(message: &mut DynamicMessage, time: jiff::Timestamp) {
    let behind = i64::from(time.subsec_nanosecond() < 0);
    let nanos = time.subsec_nanosecond() + i32::from(behind > 0) * 1_000_000_000;
    set_time(message, time.as_second() - behind, nanos);
}

/// The field of the same oneof that is set already.
fn twin(message: &DynamicMessage, field: &FieldDescriptor) -> Option<FieldDescriptor> {
    let oneof = field.containing_oneof()?;
    oneof.fields().find(|other| message.has_field(other))
}

/// A number that a double keeps: its shortest decimal form is what was written.
fn exact(number: &serde_json::Number) -> Option<f64> {
    let digits = number.to_string();
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let mantissa = mantissa.trim_start_matches(['-', '0', '.']).trim_end_matches(".0");
    let count = mantissa.bytes().filter(u8::is_ascii_digit).count();
    number.as_f64().filter(|n| count <= DIGITS && n.abs() < 1e15)
}

/// Says that there is no such field, and which ones are near.
fn no_field(message: &MessageDescriptor, name: &str) -> String {
    let names: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
    format!("no such field{}", near(name, names.iter().map(String::as_str)))
}

/// `; near: a, b`, or what there is, or nothing.
pub(crate) fn near<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.collect();
    let mut scored: Vec<_> = names.iter().map(|other| (strsim::jaro_winkler(name, other), *other)).collect();
    scored.retain(|(score, _)| *score > 0.8);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let close: Vec<_> = scored.into_iter().take(3).map(|(_, other)| other).collect();
    match (close.is_empty(), names.len()) {
        (false, _) => format!("; near: {}", close.join(", ")),
        (true, 0) => "; there are none".into(),
        (true, 1..=30) => format!("; there are: {}", names.join(", ")),
        _ => String::new(),
    }
}
