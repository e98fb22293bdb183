//! The one SQL compiler: from a condition to a predicate on one row.
//!
//! Values are only ever bound; names come from the catalogue's `&'static str`, keys of custom fields are bound too. The
//! predicate is built so that PostgreSQL's three-valued logic gives our two-valued answers: every test is NULL or false
//! where the field has no value, AND and OR keep that apart from true, and the only operator that would not, NOT, is
//! written `(…) IS NOT TRUE`. Conjuncts at the top stay plain (`t.owner_id = $1`), so that an index serves them.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::catalogue::{CurrencyPlaces, Field, Source};
use crate::condition::{Clause, Condition, Literal, Op, Test};
use crate::decimal::{Scaled, scaled};
use cell::{Cell, Stored};

mod cell;
#[cfg(test)]
mod tests;

/// The row that a predicate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The alias of the resource's table in the statement.
    pub alias: &'static str,
    /// The tenant whose rows are listed, for the side tables of indexed fields.
    pub tenant: Uuid,
    /// The indexed field whose side row the statement has joined already, because it sorts by it: tests of that field are put
    /// on the index that is walked along.
    pub joined: Option<Joined>,
}

/// The side row of an indexed field with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The field.
    pub field_id: Uuid,
    /// The alias of its side table in the statement.
    pub alias: &'static str,
}

impl Condition {
    /// Writes the condition as a predicate that can stand beside others joined by `AND`.
    pub fn write(&self, sql: &mut QueryBuilder<Postgres>, target: Target) {
        match &self.0 {
            Clause::All(parts) => joined(sql, parts, " AND ", |sql, part| clause(sql, target, part)),
            other => clause(sql, target, other),
        }
    }
}

fn clause(sql: &mut QueryBuilder<Postgres>, target: Target, written: &Clause) {
    match written {
        Clause::Always(constant) => {
            sql.push(if *constant { "TRUE" } else { "FALSE" });
        }
        Clause::All(parts) => group(sql, parts, " AND ", |sql, part| clause(sql, target, part)),
        Clause::Any(parts) => group(sql, parts, " OR ", |sql, part| clause(sql, target, part)),
        Clause::Not(inner) => {
            sql.push("(");
            clause(sql, target, inner);
            sql.push(") IS NOT TRUE");
        }
        Clause::Test { field, test } => field_test(sql, target, field, test),
    }
}

/// Finds the field's value and tests it.
fn field_test(sql: &mut QueryBuilder<Postgres>, target: Target, field: &Field, test: &Test) {
    match &field.source {
        Source::Column(column) => {
            let cell = Cell::Column { alias: target.alias, column };
            cell_test(sql, &cell, Stored::in_column(&field.kind), test);
        }
        Source::Attribute { path } => {
            let cell = Cell::Attribute { alias: target.alias, path, kind: &field.kind };
            cell_test(sql, &cell, Stored::in_json(&field.kind), test);
        }
        Source::Indexed { field_id } => {
            let stored = Stored::in_side_table(&field.kind);
            if let Some(Joined { alias, .. }) = target.joined.filter(|joined| joined.field_id == *field_id) {
                sql.push("(").push(alias).push(".present");
                if *test != Test::Present {
                    sql.push(" AND ");
                    cell_test(sql, &Cell::Column { alias, column: "value" }, stored, test);
                }
                sql.push(")");
                return;
            }
            sql.push(target.alias).push(".id IN (SELECT record_id FROM ").push(stored.side_table());
            sql.push(" WHERE tenant_id = ").push_bind(target.tenant);
            sql.push(" AND field_id = ").push_bind(*field_id).push(" AND present");
            if *test != Test::Present {
                sql.push(" AND ");
                cell_test(sql, &Cell::SideTable, stored, test);
            }
            sql.push(")");
        }
        Source::Money { amount, currency, places } => {
            money_test(sql, target, [amount, currency], places, test)
        }
    }
}

/// Tests an amount of minor units, for each number of decimal places apart, since 1000 is ¥1,000 but $10.00.
fn money_test(
    sql: &mut QueryBuilder<Postgres>,
    target: Target,
    [amount, currency]: [&'static str; 2],
    places: &CurrencyPlaces,
    test: &Test,
) {
    let cell = Cell::Column { alias: target.alias, column: amount };
    if *test == Test::Present {
        return cell_test(sql, &cell, Stored::Scaled(0), test);
    }
    let places: Vec<_> = places.iter().collect();
    group(sql, &places, " OR ", |sql, (scale, codes)| {
        sql.push("(")
            .push(target.alias)
            .push(".")
            .push(currency)
            .push(" = ANY(")
            .push_bind(*codes)
            .push(") AND ");
        cell_test(sql, &cell, Stored::Scaled(**scale), test);
        sql.push(")");
    });
}

fn cell_test(sql: &mut QueryBuilder<Postgres>, cell: &Cell<'_>, stored: Stored, test: &Test) {
    match test {
        Test::Present => present(sql, cell, stored),
        Test::Compare(op, literal) => compare(sql, cell, stored, *op, literal),
        Test::OneOf(literals) => one_of(sql, cell, stored, literals),
        Test::Holds(text) => holds(sql, cell, stored, text),
        Test::StartsWith(start) => {
            // The one text test that an index can serve (in the C collation).
            cell.write(sql);
            sql.push(" ^@ ").push_bind(start);
        }
        Test::EndsWith(end) => {
            // Not LIKE: exact without escapes. `right` counts characters, so the length is the literal's in characters.
            let length = i32::try_from(end.chars().count()).unwrap_or(i32::MAX);
            sql.push("right(");
            cell.write(sql);
            sql.push(", ").push_bind(length).push(") = ").push_bind(end);
        }
        Test::Contains(part) => {
            sql.push("strpos(");
            cell.write(sql);
            sql.push(", ").push_bind(part).push(") > 0");
        }
    }
}

fn present(sql: &mut QueryBuilder<Postgres>, cell: &Cell<'_>, stored: Stored) {
    match stored {
        Stored::TextArray => {
            sql.push("cardinality(");
            cell.write(sql);
            sql.push(") > 0");
        }
        Stored::JsonArray => {
            sql.push("(jsonb_typeof(");
            cell.write(sql);
            sql.push(") = 'array' AND ");
            cell.write(sql);
            sql.push(" <> '[]')");
        }
        _ => {
            cell.write(sql);
            sql.push(" IS NOT NULL");
        }
    }
}

fn compare(sql: &mut QueryBuilder<Postgres>, cell: &Cell<'_>, stored: Stored, op: Op, literal: &Literal) {
    let (op, integer) = match (literal, stored) {
        (Literal::Number(number), Stored::Scaled(scale)) => match scaled(op, *number, scale) {
            Scaled::Always => return present(sql, cell, stored),
            Scaled::Never => {
                sql.push("FALSE");
                return;
            }
            Scaled::With(op, integer) => (op, integer),
        },
        _ => (op, 0),
    };
    cell.write(sql);
    sql.push(match op {
        Op::Equal => " = ",
        Op::NotEqual => " <> ",
        Op::Less => " < ",
        Op::LessEqual => " <= ",
        Op::Greater => " > ",
        Op::GreaterEqual => " >= ",
    });
    match (literal, stored) {
        (Literal::Number(_), Stored::Scaled(_)) => sql.push_bind(integer),
        (Literal::Number(number), _) => sql.push_bind(number.to_string()).push("::numeric"),
        (Literal::Boolean(boolean), Stored::Scaled(_)) => sql.push_bind(i64::from(*boolean)),
        (Literal::Boolean(boolean), _) => sql.push_bind(*boolean),
        (Literal::Date(date), Stored::Text) => sql.push_bind(date.to_string()),
        (Literal::Date(date), _) => sql.push_bind(jiff_sqlx::Date::from(*date)),
        (Literal::Instant(instant), _) => sql.push_bind(jiff_sqlx::Timestamp::from(*instant)),
        (Literal::Id(id), Stored::Text) => sql.push_bind(id.to_string()),
        (Literal::Id(id), _) => sql.push_bind(*id),
        (Literal::Text(text), _) => sql.push_bind(text),
    };
}

/// `cell = ANY($1)`, with an array of what the cell holds. The literals of one list are of one kind.
fn one_of(sql: &mut QueryBuilder<Postgres>, cell: &Cell<'_>, stored: Stored, literals: &[Literal]) {
    cell.write(sql);
    sql.push(" = ANY(");
    match stored {
        Stored::Scaled(scale) => {
            let integers = literals.iter().filter_map(|literal| match literal {
                Literal::Number(number) => match scaled(Op::Equal, *number, scale) {
                    Scaled::With(_, integer) => Some(integer),
                    Scaled::Always | Scaled::Never => None,
                },
                _ => None,
            });
            sql.push_bind(integers.collect::<Vec<_>>())
        }
        Stored::Numeric => sql.push_bind(texts(literals)).push("::numeric[]"),
        Stored::Date => {
            let dates = literals.iter().filter_map(|literal| match literal {
                Literal::Date(date) => Some(jiff_sqlx::Date::from(*date)),
                _ => None,
            });
            sql.push_bind(dates.collect::<Vec<_>>())
        }
        Stored::Instant => {
            let instants = literals.iter().filter_map(|literal| match literal {
                Literal::Instant(instant) => Some(jiff_sqlx::Timestamp::from(*instant)),
                _ => None,
            });
            sql.push_bind(instants.collect::<Vec<_>>())
        }
        Stored::Uuid => {
            let ids = literals.iter().filter_map(|literal| match literal {
                Literal::Id(id) => Some(*id),
                _ => None,
            });
            sql.push_bind(ids.collect::<Vec<_>>())
        }
        Stored::Text | Stored::Boolean | Stored::TextArray | Stored::JsonArray => {
            sql.push_bind(texts(literals))
        }
    };
    sql.push(")");
}

/// Literals in the text form that the database keeps or casts.
fn texts(literals: &[Literal]) -> Vec<String> {
    literals
        .iter()
        .map(|literal| match literal {
            Literal::Text(text) => text.clone(),
            Literal::Number(number) => number.to_string(),
            Literal::Date(date) => date.to_string(),
            Literal::Id(id) => id.to_string(),
            Literal::Instant(instant) => instant.to_string(),
            Literal::Boolean(boolean) => boolean.to_string(),
        })
        .collect()
}

fn holds(sql: &mut QueryBuilder<Postgres>, cell: &Cell<'_>, stored: Stored, text: &str) {
    cell.write(sql);
    match stored {
        Stored::TextArray => sql.push(" @> ").push_bind(vec![text]),
        Stored::JsonArray => sql.push(" @> jsonb_build_array(").push_bind(text).push("::text)"),
        // A side table has one row for each element.
        _ => sql.push(" = ").push_bind(text),
    };
}

/// Writes the parts in brackets.
fn group<T>(
    sql: &mut QueryBuilder<Postgres>,
    parts: &[T],
    with: &'static str,
    write: impl FnMut(&mut QueryBuilder<Postgres>, &T),
) {
    sql.push("(");
    if parts.is_empty() {
        sql.push("FALSE");
    }
    joined(sql, parts, with, write);
    sql.push(")");
}

fn joined<T>(
    sql: &mut QueryBuilder<Postgres>,
    parts: &[T],
    with: &'static str,
    mut write: impl FnMut(&mut QueryBuilder<Postgres>, &T),
) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sql.push(with);
        }
        write(sql, part);
    }
}
