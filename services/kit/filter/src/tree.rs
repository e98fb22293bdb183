//! A parsed filter, before anything is known about fields.

use rust_decimal::Decimal;

use crate::condition::Op;

/// A part of a filter and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// 0-based position in characters; of an operator for comparisons, of the function's name for calls.
    pub(crate) at: usize,
    pub(crate) tree: Tree,
}

/// What a part of a filter is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare {
        op: Op,
        left: Box<Node>,
        right: Box<Node>,
    },
    In {
        item: Box<Node>,
        list: Box<Node>,
    },
    Call {
        receiver: Option<Box<Node>>,
        function: String,
        arguments: Vec<Node>,
    },
    /// A field's name, dots included.
    Name(String),
    List(Vec<Node>),
    Text(String),
    Number(Decimal),
    Boolean(bool),
    Null,
}

/// What a part of a filter is, in words.
pub(crate) fn described(tree: &Tree) -> &'static str {
    match tree {
        Tree::And(_) | Tree::Or(_) | Tree::Not(_) | Tree::Compare { .. } | Tree::In { .. } => "a condition",
        Tree::Call { .. } => "a call",
        Tree::Name(_) => "a field",
        Tree::List(_) => "a list",
        Tree::Text(_) => "text",
        Tree::Number(_) => "a number",
        Tree::Boolean(_) => "true or false",
        Tree::Null => "null",
    }
}
