//! The one evaluator in memory: whether a record, whatever holds it, satisfies a condition.
//!
//! It answers as PostgreSQL would for the SQL that [`Condition::write`] makes; a property test holds the two together.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::catalogue::{Field, Kind};
use crate::condition::{Clause, Condition, Literal, Op, Test};

/// Something that has values for fields: a row, the after-image in an event, an import line.
pub trait Record {
    /// The value of `field`. A value of another kind than the field's counts as missing.
    fn value(&self, field: &Field) -> Value<'_>;
}

/// The value of one field of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// There is none. Every test of it is false.
    Missing,
    /// A text or a choice.
    Text(Cow<'a, str>),
    /// A number; of money, the amount in major units.
    Number(Decimal),
    /// A civil date.
    Date(Date),
    /// An instant, as the database keeps it: to the microsecond.
    Instant(Timestamp),
    /// True or false.
    Boolean(bool),
    /// An id.
    Id(Uuid),
    /// Several texts; none counts as missing.
    TextList(Vec<Cow<'a, str>>),
}

impl<'a> Value<'a> {
    /// Reads a value from where [`Source::Attribute`](crate::Source::Attribute) keeps it, in the forms given there.
    ///
    /// A JSON number is read by its shortest decimal form, which is exact for up to 15 significant digits.
    #[must_use]
    pub fn from_json(kind: &Kind, json: &'a serde_json::Value) -> Self {
        let text = json.as_str();
        let value = match kind {
            Kind::Text | Kind::Choice(_) => text.map(|text| Self::Text(text.into())),
            Kind::Number { .. } => json
                .as_number()
                .and_then(|number| crate::decimal::exact(&number.to_string()).ok())
                .map(Self::Number),
            Kind::Date => text.and_then(crate::literal::date).map(Self::Date),
            Kind::Instant => text.and_then(crate::literal::instant).map(Self::Instant),
            Kind::Boolean => json.as_bool().map(Self::Boolean),
            Kind::Id => text.and_then(crate::literal::uuid).map(Self::Id),
            Kind::TextList(_) => json.as_array().map(|texts| {
                Self::TextList(texts.iter().filter_map(|text| text.as_str().map(Into::into)).collect())
            }),
        };
        value.unwrap_or(Self::Missing)
    }
}

impl Condition {
    /// Whether the record satisfies the condition.
    #[must_use]
    pub fn matches(&self, record: &impl Record) -> bool {
        holds(&self.0, record)
    }
}

fn holds(clause: &Clause, record: &impl Record) -> bool {
    match clause {
        Clause::Always(constant) => *constant,
        Clause::All(parts) => parts.iter().all(|part| holds(part, record)),
        Clause::Any(parts) => parts.iter().any(|part| holds(part, record)),
        Clause::Not(inner) => !holds(inner, record),
        Clause::Test { field, test } => passes(&record.value(field), field, test),
    }
}

fn passes(value: &Value<'_>, field: &Field, test: &Test) -> bool {
    match (test, value) {
        (Test::Present, value) => is_present(value, &field.kind),
        (Test::Compare(op, literal), value) => compares(value, *op, literal),
        (Test::OneOf(literals), value) => literals.iter().any(|literal| compares(value, Op::Equal, literal)),
        (Test::Holds(wanted), Value::TextList(texts)) => texts.iter().any(|text| text == wanted),
        (Test::StartsWith(start), Value::Text(text)) => text.starts_with(start.as_str()),
        (Test::EndsWith(end), Value::Text(text)) => text.ends_with(end.as_str()),
        (Test::Contains(part), Value::Text(text)) => text.contains(part.as_str()),
        _ => false,
    }
}

fn compares(value: &Value<'_>, op: Op, literal: &Literal) -> bool {
    let ordering = match (value, literal) {
        (Value::Text(value), Literal::Text(literal)) => value.as_ref().cmp(literal),
        (Value::Number(value), Literal::Number(literal)) => value.cmp(literal),
        (Value::Date(value), Literal::Date(literal)) => value.cmp(literal),
        (Value::Instant(value), Literal::Instant(literal)) => value.cmp(literal),
        (Value::Boolean(value), Literal::Boolean(literal)) => value.cmp(literal),
        (Value::Id(value), Literal::Id(literal)) => value.cmp(literal),
        _ => return false,
    };
    op.holds(ordering)
}

fn is_present(value: &Value<'_>, kind: &Kind) -> bool {
    match (kind, value) {
        (Kind::TextList(_), Value::TextList(texts)) => !texts.is_empty(),
        (Kind::Text | Kind::Choice(_), Value::Text(_))
        | (Kind::Number { .. }, Value::Number(_))
        | (Kind::Date, Value::Date(_))
        | (Kind::Instant, Value::Instant(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::Id, Value::Id(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::catalogue;

    /// A record that holds its values by name.
    struct Sample(BTreeMap<&'static str, Value<'static>>);

    impl Record for Sample {
        fn value(&self, field: &Field) -> Value<'_> {
            self.0.get(field.name.as_str()).cloned().unwrap_or(Value::Missing)
        }
    }

    fn full() -> Sample {
        Sample(BTreeMap::from([
            ("name", Value::Text("杭州 Telecom 100%".into())),
            ("size", Value::Number("1.50".parse().unwrap())),
            ("birth_date", Value::Date(jiff::civil::date(1990, 1, 31))),
            ("create_time", Value::Instant("2026-01-31T01:00:00Z".parse().unwrap())),
            ("active", Value::Boolean(true)),
            ("owner", Value::Id(Uuid::from_u128(5))),
            ("tags", Value::TextList(vec!["vip".into(), "新".into()])),
        ]))
    }

    fn holds(source: &str, record: &Sample) -> bool {
        Condition::parse(source, &catalogue())
            .unwrap_or_else(|error| panic!("{source}: {error}"))
            .matches(record)
    }

    #[test]
    fn tests_of_values_hold_as_written() {
        for source in [
            "name.startsWith('杭州') && name.endsWith('0%') && name.contains(' Tele') && name.contains('')",
            "size == 1.5 && size != 1.505 && size < 1.505 && 1 <= size && size in [2, 1.500]",
            "birth_date == '1990-01-31' && birth_date < '1990-02-01'",
            "create_time == '2026-01-31T09:00:00+08:00'",
            "active && active != false",
            "owner == '00000000-0000-0000-0000-000000000005'",
            "'新' in tags && has(tags)",
            "",
        ] {
            assert!(holds(source, &full()), "{source}");
            assert!(source.is_empty() || !holds(&format!("!({source})"), &full()), "!({source})");
        }
        assert!(!holds("name.contains('tele')", &full()));
        assert!(!holds("'v' in tags", &full()));
    }

    #[test]
    fn every_test_of_a_missing_value_is_false_and_its_negation_true() {
        let empty =
            Sample(BTreeMap::from([("tags", Value::TextList(vec![])), ("size", Value::Text("1".into()))]));
        for source in [
            "name == 'a'",
            "name != 'a'",
            "name in ['a']",
            "name.startsWith('')",
            "name.contains('')",
            "name.endsWith('')",
            "size == 1",
            "size != 1",
            "size <= 1",
            "has(size)",
            "active",
            "active == false",
            "active != true",
            "'a' in tags",
            "has(tags)",
            "has(name)",
        ] {
            assert!(!holds(source, &empty), "{source}");
            assert!(holds(&format!("!({source})"), &empty), "!({source})");
        }
    }

    #[test]
    fn json_values_are_read_in_their_one_form() {
        let read = |kind: Kind, json: &str| {
            let json = serde_json::from_str(json).unwrap();
            Value::from_json(&kind, &json) != Value::Missing
        };
        let number = || Kind::Number { scale: 2 };
        assert!(read(Kind::Text, "\"\"") && !read(Kind::Text, "5") && !read(Kind::Text, "null"));
        assert!(read(number(), "-29.85") && read(number(), "1e3") && !read(number(), "\"29.85\""));
        assert!(read(Kind::Date, "\"2026-01-31\"") && !read(Kind::Date, "\"2026-1-31\""));
        assert!(read(Kind::Instant, "\"2026-01-31T00:00:00Z\"") && !read(Kind::Instant, "\"2026-01-31\""));
        assert!(read(Kind::Boolean, "false") && !read(Kind::Boolean, "\"false\""));
        assert!(read(Kind::Id, "\"00000000-0000-0000-0000-000000000005\"") && !read(Kind::Id, "\"5\""));
        assert!(read(Kind::TextList(None), "[\"a\"]") && !read(Kind::TextList(None), "\"a\""));
    }
}
