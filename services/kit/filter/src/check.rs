//! The checker: from a tree of names and literals to a [`Condition`](crate::Condition) on fields that exist.
//!
//! Everything that can be wrong with a filter is found here, so that neither the database nor the evaluator ever meets
//! it. An error names what is wrong, where, and what would be right in this caller's catalogue.

use std::sync::Arc;

use crate::catalogue::{Catalogue, Field, Kind};
use crate::condition::{Clause, Literal, Op, Test};
use crate::error::{FilterError, quoted};
use crate::literal::literal;
use crate::tree::{Node, Tree, described};

#[cfg(test)]
mod tests;

/// How many tests a filter may hold.
pub const MAX_TESTS: usize = 200;

/// How many values a list in a filter may hold.
pub const MAX_LIST: usize = 100;

/// All functions, for the error that somebody gets who wrote another.
const FUNCTIONS: &str = "field.startsWith(\"…\"), field.endsWith(\"…\"), field.contains(\"…\"), has(field) and \
                         timestamp(\"…\")";

pub(crate) fn check(node: &Node, catalogue: &Catalogue) -> Result<Clause, FilterError> {
    Checker { catalogue, tests: 0 }.clause(node)
}

struct Checker<'c> {
    catalogue: &'c Catalogue,
    tests: usize,
}

impl Checker<'_> {
    fn clause(&mut self, node: &Node) -> Result<Clause, FilterError> {
        match &node.tree {
            Tree::And(parts) => {
                let parts = self.flattened(parts, |clause| match clause {
                    Clause::All(parts) => Ok(parts),
                    other => Err(other),
                })?;
                Ok(Clause::All(parts))
            }
            Tree::Or(parts) => {
                let parts = self.flattened(parts, |clause| match clause {
                    Clause::Any(parts) => Ok(parts),
                    other => Err(other),
                })?;
                Ok(Clause::Any(parts))
            }
            Tree::Not(inner) => Ok(match self.clause(inner)? {
                Clause::Not(twice) => *twice,
                Clause::Always(constant) => Clause::Always(!constant),
                clause => Clause::Not(Box::new(clause)),
            }),
            _ => {
                self.tests += 1;
                if self.tests > MAX_TESTS {
                    let message = format!("a filter may hold {MAX_TESTS} tests; this is one more");
                    return Err(FilterError::at(node.at, message));
                }
                self.test(node)
            }
        }
    }

    /// Checks the parts of `&&` or `||` and takes apart those that are the same operator again.
    fn flattened(
        &mut self,
        parts: &[Node],
        take_apart: impl Fn(Clause) -> Result<Vec<Clause>, Clause>,
    ) -> Result<Vec<Clause>, FilterError> {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match take_apart(self.clause(part)?) {
                Ok(inner) => flat.extend(inner),
                Err(clause) => flat.push(clause),
            }
        }
        Ok(flat)
    }

    fn test(&self, node: &Node) -> Result<Clause, FilterError> {
        match &node.tree {
            Tree::Boolean(constant) => Ok(Clause::Always(*constant)),
            Tree::Name(name) => self.bare(name, node.at),
            Tree::Compare { op, left, right } => self.comparison(node.at, *op, left, right),
            Tree::In { item, list } => self.membership(node.at, item, list),
            Tree::Call { receiver, function, arguments } => {
                self.call(node.at, receiver.as_deref(), function, arguments)
            }
            tree => {
                let message = format!("a condition is missing here; {} alone is none", described(tree));
                Err(FilterError::at(node.at, message))
            }
        }
    }

    fn field(&self, name: &str, at: usize) -> Result<Arc<Field>, FilterError> {
        match self.catalogue.field(name) {
            Some(field) => Ok(Arc::clone(field)),
            None => Err(FilterError::at(at, self.catalogue.unknown(name))),
        }
    }

    /// A field's name alone, which is a condition if the field is a boolean.
    fn bare(&self, name: &str, at: usize) -> Result<Clause, FilterError> {
        let field = self.field(name, at)?;
        match field.kind {
            Kind::Boolean => {
                Ok(Clause::Test { field, test: Test::Compare(Op::Equal, Literal::Boolean(true)) })
            }
            _ => Err(FilterError::at(
                at,
                format!(
                    "`{name}` is {}, not a condition; it takes {}",
                    field.kind.described(),
                    field.kind.operators()
                ),
            )),
        }
    }

    fn comparison(&self, at: usize, op: Op, left: &Node, right: &Node) -> Result<Clause, FilterError> {
        match (&left.tree, &right.tree) {
            (Tree::Name(name), _) => self.compared(at, op, self.field(name, left.at)?, right),
            (_, Tree::Name(name)) => self.compared(at, op.mirrored(), self.field(name, right.at)?, left),
            _ => Err(no_field(at, op.symbol(), [left, right])),
        }
    }

    fn compared(&self, at: usize, op: Op, field: Arc<Field>, value: &Node) -> Result<Clause, FilterError> {
        if value.tree == Tree::Null {
            let name = &field.name;
            let instead = if op == Op::NotEqual { format!("has({name})") } else { format!("!has({name})") };
            return Err(FilterError::at(value.at, format!("null compares with nothing; write {instead}")));
        }
        let wrong_operator = match &field.kind {
            Kind::TextList(_) => true,
            kind => op.orders() && !kind.is_ordered(),
        };
        if wrong_operator {
            return Err(does_not_apply(at, op.symbol(), &field));
        }
        let literal = literal(&field, value)?;
        let (op, literal) = match literal {
            // `x != true` is `x == false`, since both are false of a missing x: one form less to compile.
            Literal::Boolean(boolean) => (Op::Equal, Literal::Boolean(boolean == (op == Op::Equal))),
            literal => (op, literal),
        };
        Ok(Clause::Test { field, test: Test::Compare(op, literal) })
    }

    fn membership(&self, at: usize, item: &Node, list: &Node) -> Result<Clause, FilterError> {
        match (&item.tree, &list.tree) {
            (Tree::Name(name), Tree::List(values)) => self.one_of(at, self.field(name, item.at)?, values),
            (Tree::Name(name), _) => {
                let field = self.field(name, item.at)?;
                let message = format!("`in` needs a list here: {} in [\"…\", \"…\"]", field.name);
                Err(FilterError::at(list.at, message))
            }
            (_, Tree::Name(name)) => {
                let field = self.field(name, list.at)?;
                match (&field.kind, literal(&field, item)) {
                    (Kind::TextList(_), Ok(Literal::Text(text))) => {
                        Ok(Clause::Test { field, test: Test::Holds(text) })
                    }
                    (Kind::TextList(_), Err(error)) => Err(error),
                    (Kind::Text, _) => {
                        let message = format!("`{name}` is text, not a list; write {name}.contains(\"…\")");
                        Err(FilterError::at(at, message))
                    }
                    (kind, _) => {
                        let message =
                            format!("`{name}` is {}, not a list; write {name} in [...]", kind.described());
                        Err(FilterError::at(at, message))
                    }
                }
            }
            _ => Err(no_field(at, "in", [item, list])),
        }
    }

    fn one_of(&self, at: usize, field: Arc<Field>, values: &[Node]) -> Result<Clause, FilterError> {
        match field.kind {
            Kind::TextList(_) => {
                let message =
                    format!("`{0}` is a list itself; write \"…\" in {0}, joined by && or ||", field.name);
                return Err(FilterError::at(at, message));
            }
            Kind::Boolean => return Err(does_not_apply(at, "in", &field)),
            _ => {}
        }
        if let Some(extra) = values.get(MAX_LIST) {
            let message = format!("a list may hold {MAX_LIST} values; this is one more");
            return Err(FilterError::at(extra.at, message));
        }
        if values.is_empty() {
            return Ok(Clause::Always(false));
        }
        let literals = values.iter().map(|value| literal(&field, value)).collect::<Result<_, _>>()?;
        Ok(Clause::Test { field, test: Test::OneOf(literals) })
    }

    fn call(
        &self,
        at: usize,
        receiver: Option<&Node>,
        function: &str,
        arguments: &[Node],
    ) -> Result<Clause, FilterError> {
        match (function, receiver, arguments) {
            ("has", None, [Node { at, tree: Tree::Name(name) }]) => {
                Ok(Clause::Test { field: self.field(name, *at)?, test: Test::Present })
            }
            ("has", None, _) => Err(FilterError::at(at, "has() takes one field: has(attributes.city)")),
            ("timestamp", None, _) => {
                Err(FilterError::at(at, "timestamp(\"…\") alone is no condition; compare a field with it"))
            }
            (
                "startsWith" | "endsWith" | "contains",
                Some(Node { at: name_at, tree: Tree::Name(name) }),
                _,
            ) => {
                let field = self.field(name, *name_at)?;
                match (&field.kind, arguments) {
                    (Kind::Text, [Node { tree: Tree::Text(text), .. }]) => {
                        let text = text.clone();
                        let test = match function {
                            "startsWith" => Test::StartsWith(text),
                            "endsWith" => Test::EndsWith(text),
                            _ => Test::Contains(text),
                        };
                        Ok(Clause::Test { field, test })
                    }
                    (Kind::Text, _) => Err(FilterError::at(
                        at,
                        format!("{function} takes one text: {name}.{function}(\"…\")"),
                    )),
                    _ => Err(does_not_apply(at, function, &field)),
                }
            }
            ("startsWith" | "endsWith" | "contains", ..) => {
                let message = format!("{function} is called on a field: field.{function}(\"…\")");
                Err(FilterError::at(at, message))
            }
            _ => Err(unknown_function(at, function)),
        }
    }
}

/// Says that neither side of an operator is a field; a call that does not exist is the better news.
fn no_field(at: usize, operator: &str, sides: [&Node; 2]) -> FilterError {
    for side in sides {
        match &side.tree {
            Tree::Call { function, .. }
                if !["has", "timestamp", "startsWith", "endsWith", "contains"]
                    .contains(&function.as_str()) =>
            {
                return unknown_function(side.at, function);
            }
            Tree::Call { function, .. } if function != "timestamp" => {
                let message = format!("{function} is a condition already; it is not compared");
                return FilterError::at(side.at, message);
            }
            _ => {}
        }
    }
    FilterError::at(at, format!("`{operator}` needs a field on one side"))
}

fn unknown_function(at: usize, function: &str) -> FilterError {
    FilterError::at(at, format!("unknown function {}; there are {FUNCTIONS}", quoted(function)))
}

fn does_not_apply(at: usize, operator: &str, field: &Field) -> FilterError {
    let (kind, operators) = (field.kind.described(), field.kind.operators());
    let message =
        format!("`{operator}` does not apply to `{}`, which is {kind} and takes {operators}", field.name);
    FilterError::at(at, message)
}
