//! Every kind of value: what is taken, in which form it is kept, and in which words the rest is refused.
use prost_types::{ListValue, Struct};

use super::*;
use crate::fields::{Access, Choice, FieldState};

/// A field of this kind, in use.
pub(crate) fn field(kind: FieldKind) -> Definition {
    let choice = |key: &str, archived| Choice { key: key.into(), labels: BTreeMap::new(), archived };
    let is_choice = matches!(kind, FieldKind::Choice | FieldKind::MultiChoice);
    Definition {
        id: uuid::Uuid::nil(),
        version: 1,
        resource: "widget".into(),
        key: "field".into(),
        kind,
        labels: BTreeMap::new(),
        help: BTreeMap::new(),
        scale: if kind == FieldKind::Number { 2 } else { 0 },
        required: false,
        is_unique: false,
        indexed: false,
        default_value: None,
        choices: if is_choice {
            vec![choice("gold", false), choice("银", false), choice("tin", true)]
        } else {
            Vec::new()
        },
        reference_kind: if kind == FieldKind::Reference { "customer.customer".into() } else { String::new() },
        personal: false,
        state: FieldState::Active,
        create_time: rapport_kernel::Instant::EPOCH,
        update_time: rapport_kernel::Instant::EPOCH,
        access: Access::Full,
    }
}

/// A value as the contract has it, from JSON.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(boolean) => Kind::BoolValue(*boolean),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(value).collect() }),
        Json::Object(map) => Kind::StructValue(Struct {
            fields: map.iter().map(|(key, json)| (key.clone(), value(json))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// The canonical form as stored, `-` for none, or the problem.
fn read(field: &Definition, json: serde_json::Value) -> String {
    match field.read(&value(&json), "CN") {
        Ok(Some(attribute)) => serde_json::to_string(&attribute).unwrap(),
        Ok(None) => "-".into(),
        Err(problem) => problem,
    }
}

fn check(kind: FieldKind, cases: &[(serde_json::Value, &str)]) {
    for (given, expected) in cases {
        assert_eq!(read(&field(kind), given.clone()), *expected, "{kind:?} {given}");
    }
}

use serde_json::json;

#[test]
fn nothing_takes_the_value_away_whatever_the_kind() {
    use FieldKind::*;
    for kind in
        [Text, Number, Money, Date, Instant, Boolean, Choice, MultiChoice, Reference, Phone, Email, Url]
    {
        check(kind, &[(json!(null), "-"), (json!(""), "-")]);
        assert_eq!(field(kind).read(&Value { kind: None }, ""), Ok(None));
        let wrong = read(&field(kind), json!({"x": {"y": []}}));
        assert!(wrong.starts_with("must be ") || wrong.starts_with("has no part `x`"), "{kind:?}: {wrong}");
    }
}

#[test]
fn texts_are_kept_as_typed() {
    check(
        FieldKind::Text,
        &[
            (json!(" 杭州\n\"西湖\" "), "\" 杭州\\n\\\"西湖\\\" \""),
            (json!("a\u{0}b"), "must not contain the character U+0000"),
            (json!(1), "must be a text"),
            (json!(true), "must be a text"),
        ],
    );
    assert_eq!(read(&field(FieldKind::Text), json!("茶".repeat(10_001))), "is longer than 10000 characters");
    assert!(read(&field(FieldKind::Text), json!("茶".repeat(10_000))).len() > 30_000);
}

#[test]
fn keys_of_indexes_are_short() {
    for (indexed, is_unique) in [(true, false), (false, true)] {
        let field = Definition { indexed, is_unique, ..field(FieldKind::Text) };
        let problem = "is longer than 1000 bytes, the most where a field is indexed or unique";
        assert_eq!(read(&field, json!("茶".repeat(334))), problem);
        assert!(read(&field, json!("茶".repeat(333))).starts_with("\"茶"));
    }
}

#[test]
fn numbers_are_exact() {
    check(
        FieldKind::Number,
        &[
            (json!("29.85"), "29.85"),
            (json!("29.8"), "29.80"),
            (json!("007"), "7.00"),
            (json!("-0.50"), "-0.50"),
            (json!("-0"), "0.00"),
            (json!(29.85), "29.85"),
            (json!(0.1), "0.10"),
            (json!(-12), "-12.00"),
            (json!(-0.0), "0.00"),
            (json!(1e3), "1000.00"),
            (json!("92233720368547758.07"), "92233720368547758.07"),
            (json!("92233720368547758.08"), "`92233720368547758.08` is too large"),
            (json!(0.125), "`0.125` has 3 decimal places; 2 are allowed"),
            (json!(1e16), "a JSON number has at most 15 digits; send longer ones as a string"),
            (
                json!(0.300_000_000_000_000_04),
                "a JSON number has at most 15 digits; send longer ones as a string",
            ),
            (json!(1e-300), "a JSON number has at most 15 digits; send longer ones as a string"),
            (json!("1e3"), "`1e3` is not a decimal number like `1234.5`"),
            (json!("1,5"), "`1,5` is not a decimal number like `1234.5`"),
            (json!("１"), "`１` is not a decimal number like `1234.5`"),
            (json!(" 1"), "` 1` is not a decimal number like `1234.5`"),
            (json!(true), "must be a decimal number, as a string or a JSON number of up to 15 digits"),
        ],
    );
    let infinite = field(FieldKind::Number).read(&Value { kind: Some(Kind::NumberValue(f64::NAN)) }, "");
    assert!(infinite.is_err());
}

#[test]
fn money_has_the_places_of_its_currency() {
    let form = "must be {\"amount\": \"12.50\", \"currency\": \"CNY\"}";
    check(
        FieldKind::Money,
        &[
            (json!({"amount": "12.5", "currency": "CNY"}), r#"{"amount":12.50,"currency":"CNY"}"#),
            (json!({"amount": 12, "currency": "JPY"}), r#"{"amount":12,"currency":"JPY"}"#),
            (json!({"amount": "-1.234", "currency": "KWD"}), r#"{"amount":-1.234,"currency":"KWD"}"#),
            (
                json!({"amount": "12.5", "currency": "JPY"}),
                "amount: `12.5` has 1 decimal places; 0 are allowed",
            ),
            (json!({"amount": "1", "currency": "RMB"}), "currency: `RMB` is not an ISO 4217 code like `CNY`"),
            (json!({"amount": "1"}), form),
            (json!({}), form),
            (json!("12.50 CNY"), form),
            (json!({"amount": "1", "currency": "CNY", "x": 1}), &format!("has no part `x`; {form}")),
        ],
    );
}

#[test]
fn days_and_instants_are_strict() {
    let day = |text: &str| format!("`{text}` is not a date like `2026-01-31`");
    check(
        FieldKind::Date,
        &[(json!("2026-01-31"), "\"2026-01-31\""), (json!("9999-12-31"), "\"9999-12-31\"")],
    );
    for wrong in [
        "2026-02-30",
        "2026-1-31",
        "31.01.2026",
        "0000-01-01",
        "-0001-01-01",
        "+2026-01-31",
        "2026-01-31T00:00:00Z",
        " 2026-01-31",
    ] {
        assert_eq!(read(&field(FieldKind::Date), json!(wrong)), day(wrong));
    }
    check(
        FieldKind::Instant,
        &[
            (json!("2026-01-31T08:00:00Z"), "\"2026-01-31T08:00:00Z\""),
            (json!("2026-01-31T08:00:00.1234567+08:00"), "\"2026-01-31T00:00:00.123456Z\""),
            (json!("2026-01-31"), "`2026-01-31` is not an instant like `2026-01-31T08:00:00Z`"),
            (
                json!("2026-01-31T08:00:00+08:00[Asia/Shanghai]"),
                "`2026-01-31T08:00:00+08:00[Asia/Shanghai]` is not an instant like `2026-01-31T08:00:00Z`",
            ),
            (
                json!("-000001-01-31T08:00:00Z"),
                "`-000001-01-31T08:00:00Z` is not an instant like `2026-01-31T08:00:00Z`",
            ),
            (
                json!("2026-01-31T08:00:00"),
                "`2026-01-31T08:00:00` is not an instant like `2026-01-31T08:00:00Z`",
            ),
        ],
    );
}

#[test]
fn booleans_are_true_or_false() {
    check(
        FieldKind::Boolean,
        &[
            (json!(true), "true"),
            (json!(false), "false"),
            (json!("true"), "must be true or false"),
            (json!(1), "must be true or false"),
        ],
    );
}

#[test]
fn choices_are_those_on_offer() {
    check(
        FieldKind::Choice,
        &[
            (json!("gold"), "\"gold\""),
            (json!("银"), "\"银\""),
            (json!("Gold"), "`Gold` is not one of gold, 银"),
            (json!("tin"), "`tin` is not one of gold, 银"),
            (json!(["gold"]), "must be a text"),
        ],
    );
    check(
        FieldKind::MultiChoice,
        &[
            (json!(["银", "gold"]), "[\"银\",\"gold\"]"),
            (json!(["gold", "银", "gold"]), "[\"gold\",\"银\"]"),
            (json!([]), "-"),
            (json!(["gold", "x"]), "`x` is not one of gold, 银"),
            (json!(["gold", 1]), "must be a list of texts"),
            (json!("gold"), "must be a list of choices"),
        ],
    );
}

#[test]
fn references_name_a_record_of_the_kind() {
    let id = "01939f6e-0000-7000-8000-000000000001";
    check(
        FieldKind::Reference,
        &[
            (
                json!(format!("customer.customer/{}", id.to_uppercase())),
                &format!("\"customer.customer/{id}\""),
            ),
            (
                json!(format!("sales.quote/{id}")),
                "names a `sales.quote` where a `customer.customer` is meant",
            ),
            (json!(id), &format!("`{id}` is not a record name like `customer.customer/0190a3c4-…`")),
        ],
    );
}

#[test]
fn phones_keep_what_was_typed_and_gain_what_is_dialled() {
    check(
        FieldKind::Phone,
        &[
            (json!(" 0571-8765 4321 "), r#"{"e164":"+8657187654321","number":"0571-8765 4321"}"#),
            (
                json!({"number": "+1 415 555 2671", "e164": "ignored"}),
                r#"{"e164":"+14155552671","number":"+1 415 555 2671"}"#,
            ),
            (json!("12"), "`12` is no valid number in CN, nor with a country code like `+86 571 8765 4321`"),
            (json!({"e164": "+8657187654321"}), "must be {\"number\": \"…\"}"),
            (json!(13800138000_i64), "must be a text"),
        ],
    );
    let nowhere = field(FieldKind::Phone).read(&value(&json!("0571-8765 4321")), "").unwrap_err();
    assert_eq!(nowhere, "`0571-8765 4321` is no valid number with a country code like `+86 571 8765 4321`");
}

#[test]
fn addresses_of_mail_and_web_are_read_strictly() {
    check(
        FieldKind::Email,
        &[
            (json!(" Li.Wei@Example.com "), "\"Li.Wei@Example.com\""),
            (json!("li.wei"), "`li.wei` is not an address like `name@example.com`"),
        ],
    );
    check(
        FieldKind::Url,
        &[
            (json!("https://Example.com"), "\"https://example.com/\""),
            (json!("http://例子.中国/路"), "\"http://xn--fsqu00a.xn--fiqs8s/%E8%B7%AF\""),
            (
                json!("javascript:alert(1)"),
                "`javascript:alert(1)` is not an address like `https://example.com/page`",
            ),
            (json!("example.com"), "`example.com` is not an address like `https://example.com/page`"),
        ],
    );
    let long = json!(format!("https://example.com/{}", "路".repeat(300)));
    assert!(
        read(&field(FieldKind::Url), long).ends_with("is not an address like `https://example.com/page`")
    );
}

#[test]
fn what_an_error_repeats_is_cut_short() {
    let problem = read(&field(FieldKind::Date), json!(format!("{}\u{7}", "x".repeat(5_000))));
    assert!(problem.chars().count() < 110, "{problem}");
    assert_eq!(read(&field(FieldKind::Date), json!("a\nb")), "`a\u{fffd}b` is not a date like `2026-01-31`");
}

#[test]
fn what_was_read_reads_again_to_the_same() {
    let id = "customer.customer/01939f6e-0000-7000-8000-000000000001";
    for (kind, json) in [
        (FieldKind::Number, json!("1.5")),
        (FieldKind::Money, json!({"amount": "12.5", "currency": "CNY"})),
        (FieldKind::MultiChoice, json!(["gold", "gold"])),
        (FieldKind::Phone, json!("0571-8765 4321")),
        (FieldKind::Url, json!("https://example.com/路")),
        (FieldKind::Instant, json!("2026-01-31T08:00:00+08:00")),
        (FieldKind::Reference, json!(id)),
    ] {
        let once = field(kind).read(&value(&json), "CN").unwrap().unwrap();
        assert_eq!(field(kind).read(&Value::from(&once), "CN").unwrap().unwrap(), once);
        let stored = serde_json::to_string(&once).unwrap();
        assert_eq!(serde_json::from_str::<Attribute>(&stored).unwrap(), once);
    }
}
