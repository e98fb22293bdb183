//! What we accept is CEL and means what CEL means: the `cel` crate reads the same sources to the same trees.
//!
//! The one thing that is ours alone is `has(name)`; with macros off, as here, CEL reads it as a call.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::parse;
use crate::tree::{Node, Tree};

/// One form for the trees of both parsers: chains of one operator are flat, `!!` is gone, numbers are numbers.
#[derive(Debug, PartialEq)]
enum Common {
    Name(String),
    Text(String),
    Number(f64),
    Boolean(bool),
    Null,
    Call(String, Vec<Common>),
}

fn call(name: &str, parts: impl IntoIterator<Item = Common>) -> Common {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Common::Call(inner, parts) if inner == name && (name == "&&" || name == "||") => {
                flat.extend(parts)
            }
            part => flat.push(part),
        }
    }
    match (name, flat.as_slice()) {
        ("!", [Common::Call(inner, _)]) if inner == "!" => match flat.swap_remove(0) {
            Common::Call(_, mut twice) => twice.swap_remove(0),
            other => other,
        },
        _ => Common::Call(name.to_owned(), flat),
    }
}

fn ours(node: &Node) -> Common {
    match &node.tree {
        Tree::And(parts) => call("&&", parts.iter().map(ours)),
        Tree::Or(parts) => call("||", parts.iter().map(ours)),
        Tree::Not(inner) => call("!", [ours(inner)]),
        Tree::Compare { op, left, right } => call(op.symbol(), [ours(left), ours(right)]),
        Tree::In { item, list } => call("in", [ours(item), ours(list)]),
        Tree::Call { receiver, function, arguments } => {
            call(function, receiver.iter().map(|node| ours(node)).chain(arguments.iter().map(ours)))
        }
        Tree::Name(name) => Common::Name(name.clone()),
        Tree::List(items) => call("[]", items.iter().map(ours)),
        Tree::Text(text) => Common::Text(text.clone()),
        Tree::Number(number) => Common::Number(number.to_string().parse().unwrap()),
        Tree::Boolean(boolean) => Common::Boolean(*boolean),
        Tree::Null => Common::Null,
    }
}

fn theirs(node: &IdedExpr) -> Common {
    match &node.expr {
        Expr::Ident(name) => Common::Name(name.clone()),
        Expr::Select(select) => match theirs(&select.operand) {
            Common::Name(path) if !select.test => Common::Name(format!("{path}.{}", select.field)),
            other => panic!("a selection from {other:?}"),
        },
        Expr::List(list) => call("[]", list.elements.iter().map(theirs)),
        Expr::Call(called) => {
            let name = match called.func_name.as_str() {
                operators::LOGICAL_AND => "&&",
                operators::LOGICAL_OR => "||",
                operators::LOGICAL_NOT => "!",
                operators::EQUALS => "==",
                operators::NOT_EQUALS => "!=",
                operators::LESS => "<",
                operators::LESS_EQUALS => "<=",
                operators::GREATER => ">",
                operators::GREATER_EQUALS => ">=",
                operators::IN => "in",
                function => function,
            };
            call(name, called.target.iter().map(|node| theirs(node)).chain(called.args.iter().map(theirs)))
        }
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(boolean) => Common::Boolean(*boolean.inner()),
            LiteralValue::Double(double) => Common::Number(*double.inner()),
            LiteralValue::Int(int) => Common::Number(*int.inner() as f64),
            LiteralValue::String(text) => Common::Text(text.inner().to_string()),
            LiteralValue::Null => Common::Null,
            other => panic!("a literal {other:?}"),
        },
        other => panic!("an expression {other:?}"),
    }
}

/// Sources made of our grammar, so that most are accepted.
fn grammatical() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[a-z_][a-zA-Z0-9_]{0,3}", "attributes\\.[a-z]{1,3}", "a \\. package"];
    let text = prop_oneof![
        "\"[a-z杭州🦀%_' ]{0,4}\"",
        "'[A-Z\"é ]{0,4}'",
        "\"(\\\\n|\\\\t|\\\\\\\\|\\\\\"|\\\\u676d|\\\\U0001F980|\\\\x41|\\\\101|\\\\a|\\\\b|\\\\f|\\\\v|\\\\r|\\\\?|\\\\`){0,3}\""
    ];
    let number =
        prop_oneof!["-?[0-9]{1,15}", "-?[0-9]{0,4}\\.[0-9]{1,6}", "-?[1-9]\\.[0-9]e[+-]?[0-9]", "- 5"];
    let value =
        prop_oneof![text, number, "true|false|null", Just("timestamp('2026-01-31T00:00:00Z')".to_owned())];
    let list =
        prop::collection::vec(value.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(",")));
    let leaf = prop_oneof![
        name.clone(),
        (name.clone(), "(==|!=|<|<=|>|>=)", value.clone())
            .prop_map(|(name, op, value)| format!("{name}{op} {value}")),
        (value.clone(), "(==|!=|<|<=|>|>=| in )", name.clone())
            .prop_map(|(value, op, name)| format!("{value} {op}{name}")),
        (name.clone(), list).prop_map(|(name, list)| format!("{name} in {list}")),
        (name.clone(), "[a-z]{1,4}", value)
            .prop_map(|(name, function, value)| format!("{name}.{function}({value})")),
        name.prop_map(|name| format!("has({name})")),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            (inner.clone(), " ?(&&|\\|\\|)( |\n|// or\n)?", inner.clone())
                .prop_map(|(a, op, b)| format!("{a}{op}{b}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            ("!{1,3}", inner).prop_map(|(nots, inner)| format!("{nots}({inner})")),
        ]
    })
}

/// Sources made of tokens in no order, so that whatever slips through is seen.
fn soup() -> impl Strategy<Value = String> {
    const TOKENS: [&str; 34] = [
        "a", "b.c", ".", "(", ")", "[", "]", "!", "-", "&&", "||", "==", "<", "in", ",", "1", "1.5", ".5",
        "1e3", "07", "'x'", "\"\"", "has", "true", "null", "package", "//", "\n", " ", "u", "r", "\\", "f(",
        "a.b(",
    ];
    let token = prop::sample::select(TOKENS.as_slice());
    (prop::collection::vec(token, 1..7), any::<bool>())
        .prop_map(|(tokens, spaced)| tokens.join(if spaced { " " } else { "" }))
}

fn agree(source: &str) -> Result<bool, TestCaseError> {
    let Ok(Some(node)) = parse(source) else {
        return Ok(false);
    };
    let expression = cel::Env::default().parser().parse(source);
    let expression =
        expression.map_err(|error| TestCaseError::fail(format!("CEL refuses {source:?}: {error}")))?;
    prop_assert_eq!(ours(&node), theirs(&expression), "{}", source);
    Ok(true)
}

/// Runs on a large stack, which the oracle needs.
fn all_agree(cases: u32, sources: fn() -> BoxedStrategy<String>) -> u32 {
    let run = move || {
        let accepted = std::cell::Cell::new(0u32);
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(&sources(), |source| {
                accepted.set(accepted.get() + u32::from(agree(&source)?));
                Ok(())
            })
            .unwrap();
        accepted.get()
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(run).unwrap().join().unwrap()
}

#[test]
fn what_we_accept_is_cel_and_means_the_same() {
    let accepted = all_agree(2_000, || grammatical().boxed());
    assert!(accepted > 1_500, "only {accepted} of 2,000 sources were accepted, so little was compared");
}

#[test]
fn what_slips_through_in_token_soup_is_cel_too() {
    let accepted = all_agree(20_000, || soup().boxed());
    assert!(accepted > 200, "only {accepted} of 20,000 sources were accepted, so little was compared");
}
