//! A checked condition: what the SQL compiler and the evaluator both read.
//!
//! Each test holds its field, already found in the caller's catalogue, and literals already typed for it, so that the
//! two readers cannot disagree about names or types and neither can fail.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::catalogue::{Catalogue, Field};
use crate::error::FilterError;

/// A condition on one record, checked against a catalogue.
///
/// It owns all it needs: keep it, send it to another thread, apply it to many records.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(pub(crate) Clause);

impl Condition {
    /// Parses and checks a filter. A blank one is true of every record.
    ///
    /// # Errors
    /// Says what is wrong with the source, where, and what would be right.
    pub fn parse(source: &str, catalogue: &Catalogue) -> Result<Self, FilterError> {
        match crate::parse::parse(source)? {
            None => Ok(Self(Clause::Always(true))),
            Some(node) => crate::check::check(&node, catalogue).map(Self),
        }
    }

    /// The fields it reads, each once, by name: what a record must have changed in for its answer to change.
    #[must_use]
    pub fn fields(&self) -> Vec<&Field> {
        let mut fields = Vec::new();
        self.0.collect_fields(&mut fields);
        fields.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        fields.dedup_by(|a, b| a.name == b.name);
        fields
    }
}

/// A node of a condition. `Not` is never directly inside `Not`, nor `All` in `All` or `Any` in `Any`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Clause {
    Always(bool),
    All(Vec<Clause>),
    Any(Vec<Clause>),
    Not(Box<Clause>),
    Test { field: Arc<Field>, test: Test },
}

impl Clause {
    fn collect_fields<'c>(&'c self, fields: &mut Vec<&'c Field>) {
        match self {
            Self::Always(_) => {}
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect_fields(fields)),
            Self::Not(inner) => inner.collect_fields(fields),
            Self::Test { field, .. } => fields.push(field),
        }
    }
}

/// What is asked of one field. False where the field has no value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// `has(field)`: there is a value; of a list, at least one element.
    Present,
    Compare(Op, Literal),
    /// `field in [...]`
    OneOf(Vec<Literal>),
    /// `"…" in field`
    Holds(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
}

/// A literal, typed for the field it stands beside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Number(Decimal),
    Date(Date),
    Instant(Timestamp),
    Boolean(bool),
    Id(Uuid),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Op {
    pub(crate) fn from_symbol(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterEqual,
            _ => return None,
        })
    }

    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }

    /// The comparison with its sides exchanged: `5 < x` is `x > 5`.
    pub(crate) fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }

    /// Whether it asks for an order and not only for sameness.
    pub(crate) fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }

    /// Whether two values that compare so satisfy it.
    pub(crate) fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterEqual => ordering.is_ge(),
        }
    }
}
