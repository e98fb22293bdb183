//! What is accepted, what it means, and what is said about the rest.

use crate::sample::catalogue;
use crate::{Condition, MAX_LIST, MAX_TESTS};

/// The canonical text, which shows how a filter was understood.
fn meaning(source: &str) -> String {
    Condition::parse(source, &catalogue()).unwrap_or_else(|error| panic!("{source}: {error}")).to_string()
}

fn error(source: &str) -> (usize, String) {
    let error = Condition::parse(source, &catalogue()).expect_err(source);
    (error.column, error.message)
}

#[test]
fn every_operator_of_every_kind_is_understood() {
    for source in [
        "name == \"杭州\"",
        "name != \"a\" && name in [\"a\", \"b\"]",
        "name.startsWith(\"a\") || name.endsWith(\"b\") || name.contains(\"c\")",
        "size < 1.005 && size >= -3 && size in [1, 2.5]",
        "birth_date <= \"1990-01-31\"",
        "create_time > \"2026-01-31T01:00:00Z\"",
        "active && !active",
        "owner == \"0190a5c1-7d5e-7c3a-9b2f-0123456789ab\"",
        "status in [\"active\", \"lapsed\"]",
        "\"vip\" in tags && !(\"new\" in tags)",
        "revenue.amount >= 1000 && revenue.currency == \"CNY\"",
        "has(attributes.city) && !has(tags)",
        "\"fibre\" in attributes.plans",
        "name == \"a\" && (active || size == 1 && (active || !(size == 2)))",
        "true",
    ] {
        assert_eq!(meaning(source), source);
    }
}

#[test]
fn other_ways_to_write_the_same_mean_the_same() {
    for (source, same) in [
        ("", "true"),
        (" // all of them", "true"),
        ("5 < size", "size > 5"),
        ("1e2 >= size", "size <= 100"),
        ("'a' == name", "name == \"a\""),
        ("((name)) == ('a')", "name == \"a\""),
        ("active == true", "active"),
        ("active != true", "active == false"),
        ("active != false", "active"),
        ("!!active", "active"),
        ("!(!active)", "active"),
        ("!!!(active)", "!active"),
        ("!true", "false"),
        ("active && (active && size == 1.50)", "active && active && size == 1.5"),
        ("active || (active || active)", "active || active || active"),
        ("size in []", "false"),
        ("create_time == timestamp('2026-01-31T09:00:00+08:00')", "create_time == \"2026-01-31T01:00:00Z\""),
        (
            "owner == '0190A5C1-7D5E-7C3A-9B2F-0123456789AB'",
            "owner == \"0190a5c1-7d5e-7c3a-9b2f-0123456789ab\"",
        ),
        ("name == 'say \"hi\"\\n\\u0001'", "name == \"say \\\"hi\\\"\\n\\u0001\""),
    ] {
        assert_eq!(meaning(source), same, "{source}");
    }
}

#[test]
fn the_canonical_text_is_a_filter_with_the_same_meaning() {
    for source in
        ["!(active || size in [1, .5])", "!has(tags) && ('a' in tags || !!active)", "name == '\\u0085'"]
    {
        assert_eq!(meaning(&meaning(source)), meaning(source));
    }
}

#[test]
fn unknown_names_come_with_those_that_exist() {
    assert_eq!(error("active && nmae == 'x'"), (11, "unknown field `nmae`; did you mean name".into()));
    assert_eq!(error("'x' == city").0, 8);
    assert_eq!(error("'x' == city").1, "unknown field `city`; did you mean attributes.city");
    assert!(error("has(revenue)").1.ends_with("name one of its parts: revenue.amount, revenue.currency"));
    assert!(error("industry == 'telecom'").1.contains("the fields are active, attributes.city"));
    let (column, message) = error("lower(name) == 'x'");
    assert_eq!(column, 1);
    assert!(message.starts_with("unknown function `lower`; there are field.startsWith"), "{message}");
    assert_eq!(error("name.matches('x')").0, 6);
    assert_eq!(error("tags.exists(t, t == 'x')").0, 6);
    assert_eq!(error("size(tags) == 1").0, 1);
}

#[test]
fn operators_that_do_not_apply_come_with_those_that_do() {
    assert_eq!(
        error("name < \"b\""),
        (
            6,
            "`<` does not apply to `name`, which is text and takes ==, !=, in [...], startsWith, endsWith, contains \
             and has"
                .into()
        )
    );
    assert!(error("tags == 'a'").1.contains("takes \"…\" in the field and has"));
    assert!(error("tags.contains('a')").1.contains("takes \"…\" in the field and has"));
    assert!(error("status.startsWith('a')").1.starts_with("`startsWith` does not apply to `status`"));
    assert!(error("active < true").1.starts_with("`<` does not apply to `active`"));
    assert!(error("active in [true]").1.starts_with("`in` does not apply to `active`"));
    assert!(error("owner >= 'x'").1.starts_with("`>=` does not apply to `owner`"));
    assert_eq!(
        error("tags in ['a']"),
        (6, "`tags` is a list itself; write \"…\" in tags, joined by && or ||".into())
    );
    assert_eq!(error("'a' in name"), (5, "`name` is text, not a list; write name.contains(\"…\")".into()));
    assert_eq!(
        error("5 in size").1,
        "`size` is a number with up to 2 decimal places, not a list; write size in [...]"
    );
    assert_eq!(error("name in 'a'"), (9, "`in` needs a list here: name in [\"…\", \"…\"]".into()));
    assert_eq!(error("1 == 1"), (3, "`==` needs a field on one side".into()));
    assert_eq!(error("has(name) == true").1, "has is a condition already; it is not compared");
    assert_eq!(
        error("name"),
        (
            1,
            "`name` is text, not a condition; it takes ==, !=, in [...], startsWith, endsWith, \
                                   contains and has"
                .into()
        )
    );
    assert_eq!(error("active && 'x'"), (11, "a condition is missing here; text alone is none".into()));
    assert_eq!(error("!'x'").0, 2);
    assert_eq!(error("timestamp('x')").0, 1);
    assert_eq!(error("has('x')"), (1, "has() takes one field: has(attributes.city)".into()));
    assert_eq!(error("name.contains(5)").1, "contains takes one text: name.contains(\"…\")");
    assert_eq!(error("contains(name)").1, "contains is called on a field: field.contains(\"…\")");
}

#[test]
fn literals_of_another_kind_come_with_how_to_write_them() {
    assert_eq!(
        error("status == 'actve'"),
        (
            11,
            "`actve` is no value of `status`; did you mean `active`; allowed are active, lapsed, prospect"
                .into()
        )
    );
    assert_eq!(error("status in ['active', 'x']").0, 22);
    assert_eq!(
        error("'dsl' in attributes.plans"),
        (1, "`dsl` is no value of `attributes.plans`; allowed are fibre, mobile".into())
    );
    assert_eq!(error("name == 5").1, "`name` is text; write \"5\" in quotes");
    assert_eq!(
        error("size > '29.85'").1,
        "`size` is a number with up to 2 decimal places; write 29.85 without quotes"
    );
    assert_eq!(error("active == 'true'").1, "`active` is true or false; write true without quotes");
    assert_eq!(error("active == 5").1, "`active` is true or false; a number does not compare with it");
    assert_eq!(error("birth_date == 1990").1, "`birth_date` is a date; write \"2026-01-31\"");
    assert_eq!(
        error("birth_date == '1990-02-30'").1,
        "`1990-02-30` is not a date; write it as \"2026-01-31\""
    );
    assert_eq!(
        error("birth_date < '2026-01-31T00:00:00Z'").1,
        "`birth_date` is a date; leave out the time of day: \"2026-01-31\""
    );
    assert_eq!(
        error("birth_date < timestamp('2026-01-31T00:00:00Z')").1,
        "`birth_date` is a date; write it as \"2026-01-31\""
    );
    assert_eq!(
        error("create_time > '2026-01-31'"),
        (
            15,
            "`2026-01-31` is a day, not an instant; say when it begins: \"2026-01-31T00:00:00+08:00\"".into()
        )
    );
    assert_eq!(error("create_time > timestamp('2026-01-31')").0, 25);
    assert_eq!(error("create_time > timestamp(5)").0, 15);
    assert_eq!(error("create_time > name.timestamp('x')").0, 20);
    assert_eq!(error("name == timestamp('x')").1, "timestamp() is an instant, but `name` is text");
    assert!(error("owner == 'me'").1.starts_with("`me` is not an id; write a UUID as"));
    let name = "identity.user/0190a5c1-7d5e-7c3a-9b2f-0123456789ab";
    assert_eq!(
        meaning(&format!("owner == \"{name}\"")),
        meaning("owner == \"0190a5c1-7d5e-7c3a-9b2f-0123456789ab\"")
    );
    assert_eq!(error("name == null"), (9, "null compares with nothing; write !has(name)".into()));
    assert_eq!(error("null != name"), (1, "null compares with nothing; write has(name)".into()));
    assert_eq!(error("name in [null]").1, "null compares with nothing; write has(name) or !has(name)");
    assert_eq!(
        error("name == attributes.city").1,
        "a field is compared with a value, not with another field (`attributes.city`)"
    );
    assert_eq!(error("name == ['a']").1, "`name` is text; a list does not compare with it");
    assert_eq!(error("name == (active && active)").1, "`name` is text; a condition does not compare with it");
}

#[test]
fn tests_and_lists_are_limited() {
    let tests = |count: usize| vec!["active"; count].join(" && ");
    assert!(Condition::parse(&tests(MAX_TESTS), &catalogue()).is_ok());
    assert_eq!(error(&tests(MAX_TESTS + 1)), (2001, "a filter may hold 200 tests; this is one more".into()));
    let list = |count: usize| format!("size in [{}]", vec!["1"; count].join(","));
    assert!(Condition::parse(&list(MAX_LIST), &catalogue()).is_ok());
    assert_eq!(error(&list(MAX_LIST + 1)), (210, "a list may hold 100 values; this is one more".into()));
}

#[test]
fn the_fields_that_a_condition_reads_are_known() {
    let condition =
        Condition::parse("size > 1 && !(active || has(size)) && 'a' in tags", &catalogue()).unwrap();
    assert_eq!(
        condition.fields().iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
        ["active", "size", "tags"]
    );
}

/// The blocks of plain text in the README.
fn readme_block(number: usize) -> Vec<&'static str> {
    let block = include_str!("../../README.md").split("```text\n").nth(number).unwrap();
    block.split("```").next().unwrap().lines().collect()
}

#[test]
fn the_examples_in_the_readme_are_filters() {
    let examples = readme_block(1);
    assert!(examples.len() > 4);
    for example in examples {
        meaning(example);
    }
}

#[test]
fn the_errors_in_the_readme_are_those_one_gets() {
    let pairs = readme_block(2);
    assert!(pairs.len() > 8);
    for pair in pairs.chunks(2) {
        let error = Condition::parse(pair[0], &catalogue()).unwrap_err();
        assert_eq!(error.to_string(), pair[1].trim_start());
    }
}
