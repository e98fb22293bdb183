//! Reading values: a literal beside a field of some kind, and the written forms of dates, instants and ids.
//!
//! The written forms are read strictly and here only, so that a filter, the evaluator and the guards in the SQL agree
//! on what is a date and what is not.

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use crate::catalogue::{Field, Kind};
use crate::condition::Literal;
use crate::error::{FilterError, listed, quoted};
use crate::tree::{Node, Tree, described};

/// Reads `node` as a value for `field`.
pub(crate) fn literal(field: &Field, node: &Node) -> Result<Literal, FilterError> {
    let fail = |message: String| Err(FilterError::at(node.at, message));
    if let Tree::Call { function, .. } = &node.tree
        && function == "timestamp"
    {
        return match &field.kind {
            Kind::Instant => timestamp_argument(node).map(Literal::Instant),
            Kind::Date => fail(format!("`{}` is a date; write it as \"2026-01-31\"", field.name)),
            kind => fail(format!("timestamp() is an instant, but `{}` is {}", field.name, kind.described())),
        };
    }
    match (&field.kind, &node.tree) {
        (Kind::Text, Tree::Text(text)) => Ok(Literal::Text(text.clone())),
        (Kind::Choice(values), Tree::Text(text)) => one_of(field, values, text, node.at).map(Literal::Text),
        (Kind::TextList(values), Tree::Text(text)) => match values {
            Some(values) => one_of(field, values, text, node.at).map(Literal::Text),
            None => Ok(Literal::Text(text.clone())),
        },
        (Kind::Number { .. }, Tree::Number(number)) => Ok(Literal::Number(*number)),
        (Kind::Boolean, Tree::Boolean(boolean)) => Ok(Literal::Boolean(*boolean)),
        (Kind::Date, Tree::Text(text)) => match (date(text), instant(text)) {
            (Some(date), _) => Ok(Literal::Date(date)),
            (None, Some(_)) => {
                fail(format!("`{}` is a date; leave out the time of day: \"2026-01-31\"", field.name))
            }
            (None, None) => fail(format!("{} is not a date; write it as \"2026-01-31\"", quoted(text))),
        },
        (Kind::Instant, Tree::Text(text)) => instant_in(text, node.at).map(Literal::Instant),
        (Kind::Id, Tree::Text(text)) => match uuid(bare(text)) {
            Some(id) => Ok(Literal::Id(id)),
            None => fail(format!(
                "{} is not an id; write a UUID as \"0190a5c1-7d5e-7c3a-9b2f-0123456789ab\", alone or as a record's name",
                quoted(text)
            )),
        },
        (kind, tree) => fail(wrong_literal(field, kind, tree)),
    }
}

/// The id in the name of a record, `identity.user/0190…`; answers give references so.
fn bare(text: &str) -> &str {
    match text.split_once('/') {
        Some((kind, id))
            if kind.split('.').count() == 2
                && kind.bytes().all(|b| b"._".contains(&b) || b.is_ascii_lowercase()) =>
        {
            id
        }
        _ => text,
    }
}

/// Says that a literal of this sort does not stand beside a field of this kind, and how to write it.
fn wrong_literal(field: &Field, kind: &Kind, tree: &Tree) -> String {
    let name = &field.name;
    let is = format!("`{name}` is {}", kind.described());
    match (kind, tree) {
        (_, Tree::Name(other)) => {
            format!("a field is compared with a value, not with another field ({})", quoted(other))
        }
        (_, Tree::Null) => format!("null compares with nothing; write has({name}) or !has({name})"),
        (Kind::Number { .. }, Tree::Text(text))
            if crate::decimal::exact(text.trim_start_matches('-')).is_ok() =>
        {
            format!("{is}; write {text} without quotes")
        }
        (Kind::Boolean, Tree::Text(text)) if text == "true" || text == "false" => {
            format!("{is}; write {text} without quotes")
        }
        (Kind::Text | Kind::Choice(_) | Kind::TextList(_), Tree::Number(number)) => {
            format!("{is}; write \"{number}\" in quotes")
        }
        (Kind::Text | Kind::Choice(_) | Kind::TextList(_), Tree::Boolean(boolean)) => {
            format!("{is}; write \"{boolean}\" in quotes")
        }
        (Kind::Date, _) => format!("{is}; write \"2026-01-31\""),
        (Kind::Instant, _) => format!("{is}; write \"2026-01-31T09:00:00+08:00\""),
        (_, tree) => format!("{is}; {} does not compare with it", described(tree)),
    }
}

fn one_of(field: &Field, values: &[String], text: &str, at: usize) -> Result<String, FilterError> {
    if values.iter().any(|value| value == text) {
        return Ok(text.to_owned());
    }
    let near = crate::catalogue::nearest(text, values.iter().map(String::as_str));
    let hint = match near.first() {
        Some(near) => format!("; did you mean {}", quoted(near)),
        None => String::new(),
    };
    let allowed = listed(values.iter().map(String::as_str));
    Err(FilterError::at(
        at,
        format!("{} is no value of `{}`{hint}; allowed are {allowed}", quoted(text), field.name),
    ))
}

fn timestamp_argument(call: &Node) -> Result<Timestamp, FilterError> {
    match &call.tree {
        Tree::Call { receiver: None, arguments, .. } => match arguments.as_slice() {
            [Node { at, tree: Tree::Text(text) }] => instant_in(text, *at),
            _ => Err(FilterError::at(
                call.at,
                "timestamp() takes one text: timestamp(\"2026-01-31T09:00:00+08:00\")",
            )),
        },
        _ => Err(FilterError::at(call.at, "timestamp(\"…\") stands alone, not after a field")),
    }
}

fn instant_in(text: &str, at: usize) -> Result<Timestamp, FilterError> {
    instant(text).ok_or_else(|| {
        let message = if date(text).is_some() {
            format!(
                "{} is a day, not an instant; say when it begins: \"{text}T00:00:00+08:00\"",
                quoted(text)
            )
        } else {
            format!(
                "{} is not an instant; write date, time and offset: \"2026-01-31T09:00:00+08:00\"",
                quoted(text)
            )
        };
        FilterError::at(at, message)
    })
}

/// A civil date written `YYYY-MM-DD`, from year 1.
pub(crate) fn date(text: &str) -> Option<Date> {
    (shaped(text, "0000-00-00") && !text.starts_with("0000")).then(|| text.parse().ok())?
}

/// An instant written as RFC 3339 has it: `YYYY-MM-DDTHH:MM:SS`, up to six decimals, then `Z` or an offset of at most
/// 14 hours. What is finer than a microsecond is not kept by the database, so it is not read either.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    let (start, rest) = text.split_at_checked(19)?;
    let (day, _) = start.split_at_checked(10)?;
    let (fraction, zone) = rest.split_at_checked(rest.find(['Z', '+', '-'])?)?;
    let fraction_is_right = fraction.is_empty()
        || fraction.strip_prefix('.').is_some_and(|digits| {
            (1..=6).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
        });
    let zone_is_right = zone == "Z"
        || ((shaped(zone, "+00:00") || shaped(zone, "-00:00"))
            && zone.get(1..3).is_some_and(|hours| hours <= "14")
            && zone.get(4..6).is_some_and(|minutes| minutes <= "59"));
    let second_is_right = shaped(start, "0000-00-00T00:00:00") && start.get(17..19) != Some("60");
    let right = date(day).is_some() && second_is_right && fraction_is_right && zone_is_right;
    right.then(|| text.parse().ok())?
}

/// A UUID in the hyphenated form.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok())?
}

/// Whether a text has the form of a pattern, in which `0` stands for any digit.
fn shaped(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(c, p)| if p == b'0' { c.is_ascii_digit() } else { c == p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form() {
        assert_eq!(date("2026-01-31"), Some(jiff::civil::date(2026, 1, 31)));
        for wrong in
            ["2026-02-30", "20260131", "2026-1-31", "0000-01-01", "2026-01-31T00:00:00Z", "", "2026-01-3１"]
        {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instants_are_complete_and_to_the_microsecond() {
        assert_eq!(instant("2026-01-31T09:00:00.25+08:00"), Some("2026-01-31T01:00:00.25Z".parse().unwrap()));
        for wrong in [
            "2026-01-31",
            "2026-01-31T09:00:00",
            "2026-01-31 09:00:00Z",
            "2026-01-31T09:00Z",
            "2026-01-31T25:00:00Z",
            "2026-01-31T09:00:60Z",
            "2026-01-31T09:00:00.1234567Z",
            "2026-01-31T09:00:00.Z",
            "2026-01-31T09:00:00+15:00",
            "2026-01-31T09:00:00+08:60",
            "2026-01-31T09:00:00+08:00[Asia/Shanghai]",
            "2026-02-30T09:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-01-31T09:00:00Z ",
            "杭杭杭杭杭杭杭Z",
        ] {
            assert_eq!(instant(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_have_one_form() {
        assert!(uuid("0190A5C1-7d5e-7c3a-9b2f-0123456789ab").is_some());
        for wrong in ["0190a5c17d5e7c3a9b2f0123456789ab", "{0190a5c1-7d5e-7c3a-9b2f-0123456789ab}", "x"] {
            assert_eq!(uuid(wrong), None, "{wrong}");
        }
    }
}
