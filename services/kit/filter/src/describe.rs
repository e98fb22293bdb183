//! The canonical text of a condition, and a fingerprint of it that stays the same over processes and releases.
//!
//! Two filters that differ only in blanks, brackets, quotes, `5 < x` or `!!` have one canonical text. It is a filter
//! again, with the same meaning, so it can also be shown to people, in a ledger for example.

use std::fmt::{self, Display, Formatter, Write as _};

use sha2::{Digest, Sha256};

use crate::condition::{Clause, Condition, Literal, Op, Test};
use crate::order::Order;

/// A fingerprint of what a page token belongs to: the filter and the order. The same on every machine and in every
/// release; a token whose fingerprint differs belongs to another list.
#[must_use]
pub fn fingerprint(condition: &Condition, order: Option<&Order>) -> u64 {
    let order = order.map(ToString::to_string).unwrap_or_default();
    let digest = Sha256::digest(format!("rapport filter 1\n{condition}\n{order}"));
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_clause(f, &self.0, Inside::Nothing)
    }
}

/// What a clause stands in, which decides whether it needs brackets.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Nothing,
    All,
    Any,
    Not,
}

fn write_clause(f: &mut Formatter<'_>, clause: &Clause, inside: Inside) -> fmt::Result {
    match clause {
        Clause::Always(constant) => write!(f, "{constant}"),
        Clause::All(parts) => bracketed(f, inside == Inside::Not, |f| {
            joined(f, parts, " && ", |f, part| write_clause(f, part, Inside::All))
        }),
        Clause::Any(parts) => bracketed(f, matches!(inside, Inside::Not | Inside::All), |f| {
            joined(f, parts, " || ", |f, part| write_clause(f, part, Inside::Any))
        }),
        Clause::Not(inner) => {
            f.write_char('!')?;
            write_clause(f, inner, Inside::Not)
        }
        Clause::Test { field, test } => write_test(f, &field.name, test, inside),
    }
}

fn write_test(f: &mut Formatter<'_>, name: &str, test: &Test, inside: Inside) -> fmt::Result {
    match test {
        Test::Present => write!(f, "has({name})"),
        Test::Compare(Op::Equal, Literal::Boolean(true)) => f.write_str(name),
        Test::Compare(op, literal) => {
            bracketed(f, inside == Inside::Not, |f| write!(f, "{name} {} {literal}", op.symbol()))
        }
        Test::OneOf(literals) => bracketed(f, inside == Inside::Not, |f| {
            write!(f, "{name} in [")?;
            joined(f, literals, ", ", |f, literal| write!(f, "{literal}"))?;
            f.write_char(']')
        }),
        Test::Holds(text) => bracketed(f, inside == Inside::Not, |f| write!(f, "{} in {name}", Quoted(text))),
        Test::StartsWith(text) => write!(f, "{name}.startsWith({})", Quoted(text)),
        Test::EndsWith(text) => write!(f, "{name}.endsWith({})", Quoted(text)),
        Test::Contains(text) => write!(f, "{name}.contains({})", Quoted(text)),
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", Quoted(text)),
            Self::Number(number) => write!(f, "{}", number.normalize()),
            Self::Date(date) => write!(f, "\"{date}\""),
            Self::Instant(instant) => write!(f, "\"{instant}\""),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
            Self::Id(id) => write!(f, "\"{id}\""),
        }
    }
}

/// A text as a literal of the language.
struct Quoted<'t>(&'t str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

fn bracketed(
    f: &mut Formatter<'_>,
    needed: bool,
    inner: impl FnOnce(&mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if !needed {
        return inner(f);
    }
    f.write_char('(')?;
    inner(f)?;
    f.write_char(')')
}

fn joined<T>(
    f: &mut Formatter<'_>,
    parts: &[T],
    with: &str,
    write: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(with)?;
        }
        write(f, part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::catalogue;

    fn of(filter: &str, order: &str) -> u64 {
        let condition = Condition::parse(filter, &catalogue()).unwrap();
        fingerprint(&condition, Order::parse(order, &catalogue()).unwrap().as_ref())
    }

    /// If this fails, page tokens that clients hold stop working: change the value only when that is meant.
    #[test]
    fn fingerprints_are_the_same_in_every_release() {
        assert_eq!(of("", ""), 10755250374921317248);
        assert_eq!(of("name == '杭州' && !(size < 1.50)", "name desc"), 7000982477695329763);
    }

    #[test]
    fn fingerprints_follow_the_meaning_of_filter_and_order() {
        assert_eq!(of("5 < size", "name"), of(" (size>5.0) ", "name asc"));
        let all = [
            of("size > 5", "name"),
            of("size >= 5", "name"),
            of("size > 5", "name desc"),
            of("size > 5", ""),
        ];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(index));
        }
    }
}
