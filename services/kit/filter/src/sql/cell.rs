//! Where a value stands in a statement, and in what form.
//!
//! A column or a side table has a type. A value in jsonb has none, so each form gets a guard: an expression that is NULL
//! unless the value has the shape that the catalogue promises. One odd record then counts as missing instead of failing
//! everybody's list with a cast error. [`Value::from_json`](crate::Value::from_json) draws the same line.

use sqlx::{Postgres, QueryBuilder};

use crate::catalogue::Kind;

/// The form in which PostgreSQL has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// `text`; also dates and ids where the table keeps them in their one written form.
    Text,
    /// `bigint`: a number times 10 to this power; a boolean as 0 or 1.
    Scaled(u8),
    /// `numeric`.
    Numeric,
    Date,
    Instant,
    Boolean,
    Uuid,
    /// `text[]`.
    TextArray,
    /// A jsonb array of strings.
    JsonArray,
}

impl Stored {
    pub(super) fn in_column(kind: &Kind) -> Self {
        match kind {
            Kind::Text | Kind::Choice(_) => Self::Text,
            Kind::Number { scale } => Self::Scaled(*scale),
            Kind::Date => Self::Date,
            Kind::Instant => Self::Instant,
            Kind::Boolean => Self::Boolean,
            Kind::Id => Self::Uuid,
            Kind::TextList(_) => Self::TextArray,
        }
    }

    pub(super) fn in_json(kind: &Kind) -> Self {
        match kind {
            Kind::Number { .. } => Self::Numeric,
            // ISO dates sort as text, and text never fails to be cast.
            Kind::Date => Self::Text,
            Kind::TextList(_) => Self::JsonArray,
            other => Self::in_column(other),
        }
    }

    pub(super) fn in_side_table(kind: &Kind) -> Self {
        match kind {
            Kind::Boolean => Self::Scaled(0),
            Kind::Id | Kind::TextList(_) => Self::Text,
            other => Self::in_column(other),
        }
    }

    /// The side table that keeps values of this form.
    pub(super) fn side_table(self) -> &'static str {
        match self {
            Self::Scaled(_) | Self::Numeric | Self::Boolean => "attribute_numbers",
            Self::Date => "attribute_dates",
            Self::Instant => "attribute_instants",
            Self::Text | Self::Uuid | Self::TextArray | Self::JsonArray => "attribute_texts",
        }
    }
}

/// An expression for a value.
#[derive(Debug)]
pub(super) enum Cell<'c> {
    /// A column of the resource's table.
    Column { alias: &'static str, column: &'static str },
    /// The column `value` of a side table, inside the sub-select that reads it.
    SideTable,
    /// A value in the jsonb column `attributes`.
    Attribute { alias: &'static str, path: &'c [String], kind: &'c Kind },
}

/// A date as it is kept; in ARE syntax.
const DATE: &str = "(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
const TIME: &str = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?";
const ZONE: &str = "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])";
const UUID: &str = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";

impl Cell<'_> {
    /// Writes the expression; it binds as tightly as a name.
    pub(super) fn write(&self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Column { alias, column } => {
                sql.push(alias).push(".").push(column);
            }
            Self::SideTable => {
                sql.push("value");
            }
            Self::Attribute { alias, path, kind } => match kind {
                Kind::Text | Kind::Choice(_) => typed(sql, alias, path, "string", ""),
                Kind::Number { .. } => typed(sql, alias, path, "number", "::numeric"),
                Kind::Boolean => typed(sql, alias, path, "boolean", "::boolean"),
                Kind::Date => shaped(sql, alias, path, DATE, " COLLATE \"C\""),
                Kind::Instant => shaped(sql, alias, path, &format!("{DATE}T{TIME}{ZONE}"), "::timestamptz"),
                Kind::Id => shaped(sql, alias, path, UUID, "::uuid"),
                Kind::TextList(_) => at_path(sql, alias, path, "#>"),
            },
        }
    }
}

/// The value as text, cast, if it is of this JSON type.
fn typed(sql: &mut QueryBuilder<Postgres>, alias: &str, path: &[String], json_type: &str, cast: &str) {
    sql.push("(CASE WHEN jsonb_typeof");
    at_path(sql, alias, path, "#>");
    sql.push(" = '").push(json_type).push("' THEN ");
    at_path(sql, alias, path, "#>>");
    sql.push(cast).push(" END)");
}

/// The value as text, cast, if it is a string of this shape.
fn shaped(sql: &mut QueryBuilder<Postgres>, alias: &str, path: &[String], pattern: &str, cast: &str) {
    sql.push("(CASE WHEN ");
    at_path(sql, alias, path, "#>>");
    sql.push(" ~ '^").push(pattern).push("$' THEN ");
    at_path(sql, alias, path, "#>>");
    sql.push(cast).push(" END)");
}

fn at_path(sql: &mut QueryBuilder<Postgres>, alias: &str, path: &[String], operator: &str) {
    sql.push("(").push(alias).push(".attributes ").push(operator).push(" ").push_bind(path).push(")");
}
