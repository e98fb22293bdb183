//! How sources are read, and what is said about those that cannot be.

use super::{MAX_DEPTH, MAX_SOURCE_BYTES, parse};
use crate::tree::{Node, Tree};

/// A tree in prefix form, to compare at a glance.
fn shape(node: &Node) -> String {
    let all = |nodes: &[Node]| nodes.iter().map(shape).collect::<Vec<_>>().join(" ");
    match &node.tree {
        Tree::And(parts) => format!("(&& {})", all(parts)),
        Tree::Or(parts) => format!("(|| {})", all(parts)),
        Tree::Not(inner) => format!("(! {})", shape(inner)),
        Tree::Compare { op, left, right } => {
            format!("({} {} {})", op.symbol(), shape(left), shape(right))
        }
        Tree::In { item, list } => format!("(in {} {})", shape(item), shape(list)),
        Tree::Call { receiver, function, arguments } => {
            let receiver = receiver.as_ref().map_or(String::new(), |node| shape(node) + " ");
            format!("({function} {receiver}{})", all(arguments))
        }
        Tree::Name(name) => name.clone(),
        Tree::List(items) => format!("[{}]", all(items)),
        Tree::Text(text) => format!("{text:?}"),
        Tree::Number(number) => number.to_string(),
        Tree::Boolean(boolean) => boolean.to_string(),
        Tree::Null => "null".into(),
    }
}

fn parsed(source: &str) -> String {
    shape(&parse(source).unwrap().unwrap())
}

fn error(source: &str) -> (usize, String) {
    let error = parse(source).unwrap_err();
    (error.column, error.message)
}

#[test]
fn and_binds_tighter_than_or_and_not_tighter_than_both() {
    assert_eq!(parsed("a || b && !c || d"), "(|| a (&& b (! c)) d)");
    assert_eq!(parsed("(a || b) && c"), "(&& (|| a b) c)");
    assert_eq!(parsed("!(a == 1) && b in [1, 2,]"), "(&& (! (== a 1)) (in b [1 2]))");
    assert_eq!(parsed("!!a"), "(! (! a))");
    assert_eq!(parsed("!!!!!a"), "(! a)");
}

#[test]
fn names_calls_and_values_are_told_apart() {
    assert_eq!(parsed("attributes.city.startsWith(\"杭\")"), "(startsWith attributes.city \"杭\")");
    assert_eq!(parsed("has(attributes.x)"), "(has attributes.x)");
    assert_eq!(
        parsed("timestamp('2026-01-31T00:00:00Z') < at"),
        "(< (timestamp \"2026-01-31T00:00:00Z\") at)"
    );
    assert_eq!(parsed("x > -1.50"), "(> x -1.5)");
    assert_eq!(parsed("attributes.package == null"), "(== attributes.package null)");
    assert_eq!(parsed("f()"), "(f )");
    assert_eq!(parse(" // nothing").unwrap(), None);
}

#[test]
fn errors_point_at_the_character_and_say_what_to_write() {
    assert_eq!(error("a == 1 and b"), (8, "`and` is written `&&`".into()));
    assert_eq!(error("a == "), (6, "a field or a value is missing before the end".into()));
    assert_eq!(error("(a == 1"), (8, "`)` is missing before the end".into()));
    assert_eq!(error("a in [1, 2"), (11, "`]` is missing before the end".into()));
    assert_eq!(error("[1)"), (3, "`]` is missing before `)`".into()));
    assert_eq!(error("a)"), (2, "`)` closes nothing".into()));
    assert_eq!(error("1 < a < 3"), (7, "comparisons do not chain; write a < b && b < c".into()));
    assert_eq!(error("!a == 1"), (1, "`!` comes before comparisons; write !(a == b), or a != b".into()));
    assert_eq!(error("a - 1").1, "`-`: filters do not calculate; write the value itself");
    assert_eq!(error("a[0]").1, "`[`: nothing is looked up by index; write attributes.key");
    assert_eq!(error("package == 1"), (1, "`package` is a reserved word".into()));
    assert_eq!(error("a. == 1"), (4, "a name is missing after `.`, before `==`".into()));
    assert_eq!(error("f(a,)"), (5, "a value is missing before `)`".into()));
    assert_eq!(error("--5 == a").0, 1);
    assert_eq!(error("a.in").0, 3);
    assert_eq!(error("a == 1e999").0, 6);
    assert_eq!(
        error("\"杭州\" == a b"),
        (11, "`b` is not expected here; conditions are joined by && or ||".into())
    );
}

#[test]
fn depth_and_length_are_limited() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(parsed(&nested(MAX_DEPTH)), "a");
    assert_eq!(error(&nested(MAX_DEPTH + 1)).0, MAX_DEPTH + 1);
    assert!(parse(&format!("a{}", " ".repeat(MAX_SOURCE_BYTES - 1))).is_ok());
    assert_eq!(error(&format!("a{}", " ".repeat(MAX_SOURCE_BYTES))).0, 1);
}
