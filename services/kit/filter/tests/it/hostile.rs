//! Sources from people who mean harm: whatever they hold, the answer is a condition or an error, soon, and the process
//! lives on. A stack overflow would abort the test process, so these tests are their own proof.

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use nix::time::ClockId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rapport_filter::{
    Catalogue, Condition, Field, FilterError, Kind, MAX_DEPTH, MAX_SOURCE_BYTES, Order, Source, fingerprint,
};

/// What one source may take in an unoptimised build on a busy machine; an optimised one takes a hundredth.
const PATIENCE: Duration = Duration::from_millis(250);
const SMALL_STACK: usize = 256 << 10;

/// Many fields, since a wrong name is compared with each.
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let mut fields: Vec<Field> = (0..200)
        .map(|n| {
            Field::new(format!("attributes.field_{n}"), Kind::Text, Source::attribute(format!("field_{n}")))
        })
        .collect();
    fields.push(Field::new("a", Kind::Boolean, Source::Column("a")).sortable());
    fields.push(Field::new("b", Kind::Number { scale: 2 }, Source::Column("b")));
    fields.push(Field::new("t", Kind::TextList(None), Source::Column("t")));
    fields.into_iter().collect()
});

/// Does everything one can do with a source, so that every walk over the tree is on trial, dropping it included.
fn answer(source: &str) -> Result<(), FilterError> {
    let started = worked();
    let parsed = Condition::parse(source, &CATALOGUE);
    let _ = Order::parse(source, &CATALOGUE);
    if let Err(error) = &parsed {
        assert!((1..=source.chars().count() + 1).contains(&error.column), "{error}");
        assert!(error.message.len() < 2_000, "{error}");
    }
    let parsed = parsed.map(|condition| {
        let mut sql = sqlx::QueryBuilder::<sqlx::Postgres>::new("");
        condition
            .clone()
            .write(&mut sql, rapport_filter::Target { alias: "t", tenant: uuid::Uuid::nil(), joined: None });
        let _ = fingerprint(&condition, None);
    });
    let took = worked() - started;
    assert!(took < PATIENCE, "{took:?} for {source:?}");
    parsed
}

/// How long this thread has worked: what else the machine does costs it nothing.
fn worked() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

/// A unit repeated to fill a source, with what closes it behind.
fn filled(unit: &str, middle: &str, close: &str) -> [String; 3] {
    let fitting = (MAX_SOURCE_BYTES - middle.len()) / (unit.len() + close.len());
    [fitting, fitting / 2, fitting * 50]
        .map(|count| format!("{}{middle}{}", unit.repeat(count), close.repeat(count)))
}

/// Every way to nest or repeat that CEL has, balanced and not.
fn shapes() -> Vec<String> {
    let shapes = [
        ("(", "a", ")"),
        ("(", "", ""),
        ("", "a", ")"),
        ("[", "a", "]"),
        ("[", "", ""),
        ("{", "a", "}"),
        ("{1:", "a", "}"),
        ("f(", "a", ")"),
        ("f(", "", ""),
        ("has(", "a", ")"),
        ("a.f(", "a", ")"),
        ("!(", "a", ")"),
        ("!", "a", ""),
        ("! ", "a", ""),
        ("-", "1", ""),
        ("!-", "a", ""),
        ("!!(", "a", ")"),
        ("a.", "a", ""),
        ("a.f().", "a", ""),
        ("a[", "a", "]"),
        ("a[0]", "", ""),
        ("a+", "a", ""),
        ("a<", "a", ""),
        ("a==", "a", ""),
        ("a in ", "t", ""),
        ("a&&", "a", ""),
        ("a||", "a", ""),
        ("a||a&&", "a", ""),
        ("a&&(a||", "a", ")"),
        ("a?a:", "a", ""),
        ("a?", "a", ":a"),
        ("a{b:", "a", "}"),
        ("b in [1,", "1", "]"),
        ("b in [", "", ""),
        ("1,", "", ""),
        ("'x' in t||", "a", ""),
        ("[].all(x,", "a", ")"),
        ("\"", "", ""),
        ("'", "", ""),
        ("\\", "", ""),
        ("'\\", "", ""),
        ("`", "", ""),
        ("//", "", ""),
        ("//\n", "a", ""),
        (".", "", ""),
        ("9", "", ""),
        ("0.", "", ""),
        ("1e", "", ""),
        ("b<0.0000000000000000000000000001||", "a", ""),
        ("attributes.field_", "a", ""),
        ("x", "", ""),
        ("杭", "", ""),
        ("\u{feff}", "", ""),
        ("\u{202e}", "", ""),
        ("\0", "", ""),
        (" ", "", ""),
        (",", "", ""),
    ];
    shapes.into_iter().flat_map(|(unit, middle, close)| filled(unit, middle, close)).collect()
}

fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(SMALL_STACK).spawn(work).unwrap().join().unwrap();
}

#[test]
fn every_way_to_nest_is_answered_on_a_small_stack() {
    on_small_stack(|| {
        for source in shapes() {
            let _ = answer(&source);
        }
    });
}

#[test]
fn the_deepest_filter_that_is_allowed_works_on_a_small_stack() {
    on_small_stack(|| {
        for (open, close) in
            [("(", ")"), ("!(", ")"), ("!!(", ")"), ("(a && (a || ", "))"), ("(a || !(a && ", "))")]
        {
            let brackets = open.matches('(').count();
            let nested = |levels: usize| format!("{}a{}", open.repeat(levels), close.repeat(levels));
            assert_eq!(answer(&nested(MAX_DEPTH / brackets)), Ok(()), "{open}");
            assert!(answer(&nested(MAX_DEPTH / brackets + 1)).is_err(), "{open}");
        }
    });
}

#[test]
fn a_filter_that_is_too_long_is_refused_unread() {
    let refused = answer(&"(".repeat(10_000_000)).unwrap_err();
    assert_eq!(refused.message, "a filter may be 4096 bytes long; this one has 10000000");
}

#[test]
fn sources_are_answered_inside_an_async_runtime() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(SMALL_STACK).build();
    runtime.unwrap().block_on(async {
        let tasks: Vec<_> =
            shapes().into_iter().map(|source| tokio::spawn(async move { drop(answer(&source)) })).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Runs on a small stack; panics of the code under test fail the case.
fn all_are_answered(cases: u32, sources: fn() -> BoxedStrategy<String>) {
    on_small_stack(move || {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(&sources(), |source| {
                let _ = answer(&source);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn random_bytes_are_answered() {
    all_are_answered(3_000, || {
        let bytes = prop::collection::vec(any::<u8>(), 0..300);
        bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).boxed()
    });
    all_are_answered(1_000, || any::<String>().boxed());
}

#[test]
fn random_token_soup_is_answered() {
    const TOKENS: [&str; 46] = [
        "a",
        "b",
        "t",
        "attributes.field_7",
        "nope",
        ".",
        ",",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "!",
        "-",
        "&&",
        "||",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "in",
        "?",
        ":",
        "+",
        "1",
        "1.5",
        ".5",
        "1e9",
        "0x1F",
        "1u",
        "'x'",
        "\"杭州\"",
        "'",
        "\\",
        "has(",
        "timestamp(",
        ".contains(",
        "true",
        "null",
        "//",
        "\n",
        " ",
        "\u{0}",
    ];
    all_are_answered(6_000, || {
        let tokens = prop::collection::vec(prop::sample::select(TOKENS.as_slice()), 1..60);
        (tokens, any::<bool>())
            .prop_map(|(tokens, spaced)| tokens.join(if spaced { " " } else { "" }))
            .boxed()
    });
}
