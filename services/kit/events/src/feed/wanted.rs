//! What a caller wants to hear of: by subject, and by a condition on the event and the record that it is about.
use std::cell::OnceCell;

use rapport_filter::{Catalogue, Condition, Field, Kind, Record, Source, Value};
use rapport_kernel::{Ctx, Error};
use rapport_proto::events::v1 as pb;
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    Feed,
    record::{self, Records},
};
use crate::log::Line;

/// What a caller wants to hear of: everything, when nothing is said.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    subjects: Vec<Pattern>,
    filter: Option<Condition>,
}

/// A pattern of subjects, word by word.
#[derive(Debug)]
struct Pattern(Vec<String>);

impl Feed {
    /// What a caller wants to hear of, in words that the caller knows: conditions may name what they may read of records.
    ///
    /// # Errors
    /// `Invalid` for a pattern or a condition that cannot be, with what would be right.
    pub(crate) async fn wanted(&self, ctx: &Ctx, subjects: &[String], filter: &str) -> Result<Wanted, Error> {
        let fields = if filter.is_empty() {
            Vec::new()
        } else {
            let tx = self.db.begin(ctx).await?;
            let fields = self.audience.fields(&tx);
            tx.finish().await?;
            fields
        };
        Wanted::parse(subjects, filter, fields)
    }
}

impl Wanted {
    fn parse(subjects: &[String], filter: &str, of_records: Vec<Field>) -> Result<Self, Error> {
        let subjects = subjects
            .iter()
            .enumerate()
            .map(|(at, text)| {
                Pattern::parse(text).map_err(|problem| Error::invalid(format!("subjects[{at}]"), problem))
            })
            .collect::<Result<_, _>>()?;
        let catalogue: Catalogue = of_events().into_iter().chain(of_records).collect();
        let filter = Condition::parse(filter, &catalogue)
            .map_err(|error| Error::invalid("filter", error.to_string()))?;
        Ok(Self { subjects, filter: Some(filter) })
    }

    /// Whether it wants to hear of this event. `event` is what the caller may know of `line`.
    pub(super) fn wants(&self, line: &Line, event: &pb::Event) -> bool {
        (self.subjects.is_empty() || self.subjects.iter().any(|pattern| pattern.matches(&line.subject)))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(&Seen::new(line, event)))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split('.').map(str::to_owned).collect();
        let plain = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let last = words.len() - 1;
        match words.iter().enumerate().find(|(at, word)| {
            !(plain(word) || word.as_str() == "*" || (word.as_str() == ">" && *at == last))
        }) {
            None => Ok(Self(words)),
            Some((_, word)) => Err(format!(
                "`{}` is not a pattern like `customer.updated.v1`, `customer.*.v1` or `customer.>`: `{word}` is neither a word in small letters, `*` for one, nor a last `>` for all that follow",
                rapport_kernel::cut(text)
            )),
        }
    }

    fn matches(&self, subject: &str) -> bool {
        let mut words = subject.split('.');
        for part in &self.0 {
            match (part.as_str(), words.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (part, Some(word)) if part == word => {}
                _ => return false,
            }
        }
        words.next().is_none()
    }
}

/// What one can filter every event by.
fn of_events() -> [Field; 10] {
    let field = |name: &'static str, kind| Field::new(name, kind, Source::Column(name));
    [
        field("subject", Kind::Text),
        field("resource", Kind::Text),
        field("record_id", Kind::Id),
        field("record_version", Kind::Number { scale: 0 }),
        field("changed_paths", Kind::TextList(None)),
        field("principal", Kind::Text),
        field("via", Kind::Text),
        field("cause", Kind::Id),
        field("number", Kind::Number { scale: 0 }),
        field("time", Kind::Instant),
    ]
}

/// An event, as a condition looks at it.
struct Seen<'e> {
    line: &'e Line,
    event: &'e pb::Event,
    /// Its record, when a condition has asked for it.
    record: OnceCell<Option<Json>>,
}

impl<'e> Seen<'e> {
    const fn new(line: &'e Line, event: &'e pb::Event) -> Self {
        Self { line, event, record: OnceCell::new() }
    }

    /// The record after the event, as far as the event tells it.
    fn record(&self) -> Option<&Json> {
        let read = || record::json(&Records::of(self.event).ok()?.after?, true).ok();
        self.record.get_or_init(read).as_ref()
    }

    /// A field of the record; none where the event is about a record of another resource.
    fn of_record(&self, resource: &str, path: &str, kind: &Kind) -> Value<'_> {
        let record = if resource == self.line.resource { self.record() } else { None };
        let json = record.and_then(|record| record::at(record, path));
        json.map_or(Value::Missing, |json| record::value(kind, json))
    }
}

impl Record for Seen<'_> {
    fn value(&self, field: &Field) -> Value<'_> {
        if let Some((resource, path)) = field.name.split_once('.') {
            return self.of_record(resource, path, &field.kind);
        }
        let (line, id) = (self.line, |id: Option<Uuid>| id.map_or(Value::Missing, Value::Id));
        match field.name.as_str() {
            "subject" => Value::Text(line.subject.as_str().into()),
            "resource" => Value::Text(line.resource.as_str().into()),
            "record_id" => Value::Id(line.record_id),
            "record_version" => Value::Number(Decimal::from(line.version)),
            "changed_paths" => {
                Value::TextList(self.event.changed_paths.iter().map(|path| path.as_str().into()).collect())
            }
            "principal" => Value::Text(line.principal.as_str().into()),
            "via" => Value::Text(line.via.as_str().into()),
            "cause" => id(line.cause),
            "number" => Value::Number(Decimal::from(line.tenant_number)),
            "time" => Value::Instant(line.time.timestamp()),
            _ => Value::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_bus() {
        let matches = |pattern: &str, subject: &str| Pattern::parse(pattern).unwrap().matches(subject);
        for pattern in ["customer.updated.v1", "customer.*.v1", "customer.>", ">", "*.*.*", "*.updated.>"] {
            assert!(matches(pattern, "customer.updated.v1"), "{pattern}");
        }
        for pattern in ["customer", "customer.*", "customer.updated", "customer.updated.v1.>", "unit.>", "*"]
        {
            assert!(!matches(pattern, "customer.updated.v1"), "{pattern}");
        }
        for wrong in ["", "customer..v1", ">.v1", "Customer.>", "customer.up*", "customer.\u{4e2d}"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
