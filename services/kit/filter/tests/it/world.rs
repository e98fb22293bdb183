//! Random records and conditions over a catalogue with every kind from every source.
//!
//! Records and conditions draw on the same small pools, so that conditions are often true of some records and false of
//! others; the pools hold what has broken filters before: wildcards, quotes, Han, combining accents, extreme numbers.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use proptest::prelude::*;
use rapport_filter::{Catalogue, CurrencyPlaces, Field, Kind, Record, Source, Value};
use rust_decimal::Decimal;
use uuid::Uuid;

/// One stored value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Missing,
    Text(String),
    /// Scaled.
    Number(i64),
    Date(Date),
    Instant(Timestamp),
    Boolean(bool),
    Id(Uuid),
    List(Vec<String>),
    Money(i64, &'static str),
    /// JSON of a shape that the field does not promise, where a field is kept in JSON.
    Odd(&'static str),
}

/// A row: a cell for each of [`SLOTS`], in its order.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) scale: u8,
    pub(crate) cells: Vec<Cell>,
}

/// Where a slot's cell is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Column,
    Json,
    SideTable,
}

/// Field names with what they hold. `money` stands for the two fields of a money value.
pub(crate) const SLOTS: [(&str, Place); 25] = [
    ("text", Place::Column),
    ("number", Place::Column),
    ("day", Place::Column),
    ("moment", Place::Column),
    ("flag", Place::Column),
    ("reference", Place::Column),
    ("choice", Place::Column),
    ("list", Place::Column),
    ("money", Place::Column),
    ("attributes.text", Place::Json),
    ("attributes.number", Place::Json),
    ("attributes.day", Place::Json),
    ("attributes.moment", Place::Json),
    ("attributes.flag", Place::Json),
    ("attributes.reference", Place::Json),
    ("attributes.choice", Place::Json),
    ("attributes.list", Place::Json),
    ("attributes.itext", Place::SideTable),
    ("attributes.inumber", Place::SideTable),
    ("attributes.iday", Place::SideTable),
    ("attributes.imoment", Place::SideTable),
    ("attributes.iflag", Place::SideTable),
    ("attributes.ireference", Place::SideTable),
    ("attributes.ichoice", Place::SideTable),
    ("attributes.ilist", Place::SideTable),
];

const CHOICES: [&str; 3] = ["active", "暂停", "it's"];
const CURRENCIES: [&str; 4] = ["JPY", "CNY", "EUR", "KWD"];
const PIECES: [&str; 18] = [
    "a", "A", "b", "杭", "州", "杭州", "%", "_", "\\", "'", "\"", "\n", " ", "é", "e\u{301}", "🦀", "ß",
    "%a_",
];
/// JSON that is not what any field of ours promises: each kind must take the ones it does not know for missing.
const ODD: [&str; 8] = [
    "null",
    "{}",
    "{\"a\": 1}",
    "\"2026-1-31\"",
    "\"2026-01-31 00:00:00\"",
    "\"0190a5c17d5e7c3a9b2f0123456789ab\"",
    "\"now\"",
    "[]",
];

/// The kind of a slot, from the last part of its name; slots of side tables have an `i` before it.
pub(crate) fn kind(name: &str, scale: u8) -> Kind {
    let kind = name.rsplit('.').next().unwrap();
    match kind.strip_prefix('i').unwrap_or(kind) {
        "text" => Kind::Text,
        "number" => Kind::Number { scale },
        "day" => Kind::Date,
        "moment" => Kind::Instant,
        "flag" => Kind::Boolean,
        "reference" => Kind::Id,
        "choice" => Kind::choice(CHOICES),
        "list" => Kind::TextList(None),
        other => panic!("no kind for {other}"),
    }
}

/// The field id of a slot kept in side tables.
pub(crate) fn field_id(slot: usize) -> Uuid {
    Uuid::from_u128(1_000 + slot as u128)
}

/// The id of the row at this place in a batch.
pub(crate) fn row_id(index: usize) -> Uuid {
    Uuid::from_u128(1 + index as u128)
}

pub(crate) fn catalogue(scale: u8) -> Catalogue {
    let places = [(0, vec!["JPY"]), (2, vec!["CNY", "EUR"]), (3, vec!["KWD"])];
    let places: CurrencyPlaces = places
        .into_iter()
        .map(|(places, codes)| (places, codes.into_iter().map(String::from).collect()))
        .collect();
    let mut fields = Field::money("money", "money_minor", "money_currency", &Arc::new(places)).to_vec();
    for (slot, (name, place)) in SLOTS.into_iter().enumerate().filter(|(_, (name, _))| *name != "money") {
        let source = match place {
            Place::Column => Source::Column(name),
            Place::Json => Source::attribute(name.rsplit('.').next().unwrap()),
            Place::SideTable => Source::Indexed { field_id: field_id(slot) },
        };
        fields.push(Field::new(name, kind(name, scale), source));
    }
    fields.into_iter().collect()
}

impl Row {
    /// The row's cell of a slot as JSON, where it is kept in JSON.
    pub(crate) fn json(&self, cell: &Cell) -> Option<serde_json::Value> {
        Some(match cell {
            Cell::Missing => return None,
            Cell::Number(number) => {
                serde_json::from_str(&Decimal::new(*number, self.scale.into()).to_string()).unwrap()
            }
            Cell::Boolean(boolean) => (*boolean).into(),
            Cell::List(texts) => texts.clone().into(),
            Cell::Text(text) => text.clone().into(),
            Cell::Date(date) => date.to_string().into(),
            Cell::Instant(instant) => instant.to_string().into(),
            Cell::Id(id) => id.to_string().into(),
            Cell::Odd(json) => serde_json::from_str(json).unwrap(),
            Cell::Money(..) => panic!("money is not kept in JSON"),
        })
    }

    /// The whole column `attributes`.
    pub(crate) fn attributes(&self) -> serde_json::Value {
        SLOTS
            .iter()
            .zip(&self.cells)
            .filter(|((_, place), _)| *place == Place::Json)
            .filter_map(|((name, _), cell)| {
                Some((name.rsplit('.').next().unwrap().to_owned(), self.json(cell)?))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// A row as the evaluator sees it, with the JSON that the database got too.
pub(crate) struct InMemory<'r> {
    row: &'r Row,
    attributes: serde_json::Value,
}

impl<'r> InMemory<'r> {
    pub(crate) fn new(row: &'r Row) -> Self {
        Self { row, attributes: row.attributes() }
    }
}

impl Record for InMemory<'_> {
    fn value(&self, field: &Field) -> Value<'_> {
        if let Source::Attribute { path } = &field.source {
            return self
                .attributes
                .get(&path[0])
                .map_or(Value::Missing, |json| Value::from_json(&field.kind, json));
        }
        let (name, part) = match field.name.split_once('.') {
            Some(("money", part)) => ("money", part),
            _ => (field.name.as_str(), ""),
        };
        let slot = SLOTS.iter().position(|(slot, _)| *slot == name).unwrap();
        match &self.row.cells[slot] {
            Cell::Missing | Cell::Odd(_) => Value::Missing,
            Cell::Text(text) => Value::Text(Cow::Borrowed(text)),
            Cell::Number(number) => Value::Number(Decimal::new(*number, self.row.scale.into())),
            Cell::Date(date) => Value::Date(*date),
            Cell::Instant(instant) => Value::Instant(*instant),
            Cell::Boolean(boolean) => Value::Boolean(*boolean),
            Cell::Id(id) => Value::Id(*id),
            Cell::List(texts) => {
                Value::TextList(texts.iter().map(|text| Cow::Borrowed(text.as_str())).collect())
            }
            Cell::Money(_, currency) if part == "currency" => Value::Text(Cow::Borrowed(currency)),
            Cell::Money(minor, currency) => {
                let places = match *currency {
                    "JPY" => 0,
                    "KWD" => 3,
                    _ => 2,
                };
                Value::Number(Decimal::new(*minor, places))
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    // A few pieces come often, so that texts begin with, end with and contain each other.
    let piece = prop_oneof![
        2 => prop::sample::select(&["a", "杭", "%"][..]),
        1 => prop::sample::select(PIECES.as_slice())
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn day() -> impl Strategy<Value = Date> {
    const DAYS: [&str; 5] = ["1990-01-31", "2000-02-29", "2026-01-01", "0001-01-01", "9999-12-31"];
    prop::sample::select(DAYS.as_slice()).prop_map(|day| day.parse().unwrap())
}

fn moment() -> impl Strategy<Value = Timestamp> {
    const MOMENTS: [&str; 4] = [
        "2026-01-31T01:00:00Z",
        "2026-01-31T01:00:00.000001Z",
        "1969-12-31T23:59:59.5Z",
        "0001-06-01T00:00:00Z",
    ];
    prop::sample::select(MOMENTS.as_slice()).prop_map(|moment| moment.parse().unwrap())
}

fn id() -> impl Strategy<Value = Uuid> {
    (1u128..4).prop_map(|id| Uuid::from_u128(id << 100 | id))
}

/// Few digits and many zeros, so that stored numbers and literals of another scale are often equal or a digit apart.
fn small_number() -> impl Strategy<Value = i64> {
    (-12i64..=12, 0u32..4).prop_map(|(digits, zeros)| digits * 10i64.pow(zeros))
}

fn cell(name: &'static str, place: Place, scale: u8) -> BoxedStrategy<Cell> {
    if name == "money" {
        let amount = prop_oneof![-20_000i64..20_000, Just(i64::MAX)];
        let money = (amount, prop::sample::select(CURRENCIES.as_slice()));
        return prop_oneof![1 => Just(Cell::Missing), 3 => money.prop_map(|(minor, currency)| Cell::Money(minor, currency))].boxed();
    }
    let value = match kind(name, scale) {
        Kind::Text => text().prop_map(Cell::Text).boxed(),
        // JSON numbers come back by way of a double, which keeps 15 digits.
        Kind::Number { .. } if place == Place::Json => small_number().prop_map(Cell::Number).boxed(),
        Kind::Number { .. } => prop_oneof![8 => small_number(), 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
            .prop_map(Cell::Number)
            .boxed(),
        Kind::Date => day().prop_map(Cell::Date).boxed(),
        Kind::Instant => moment().prop_map(Cell::Instant).boxed(),
        Kind::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
        Kind::Id => id().prop_map(Cell::Id).boxed(),
        Kind::Choice(_) => {
            prop::sample::select(CHOICES.as_slice()).prop_map(|choice| Cell::Text(choice.into())).boxed()
        }
        Kind::TextList(_) => prop::collection::vec(text(), 0..4).prop_map(Cell::List).boxed(),
    };
    let odd = match (place, kind(name, scale)) {
        // To a text or a list, some of the odd ones are values.
        (Place::Json, Kind::Text | Kind::Choice(_) | Kind::TextList(_)) => {
            prop::sample::select(&ODD[..3]).prop_map(Cell::Odd).boxed()
        }
        (Place::Json, _) => prop::sample::select(ODD.as_slice()).prop_map(Cell::Odd).boxed(),
        _ => Just(Cell::Missing).boxed(),
    };
    prop_oneof![2 => Just(Cell::Missing), 1 => odd, 6 => value].boxed()
}

pub(crate) fn row(scale: u8) -> impl Strategy<Value = Row> {
    let cells: Vec<_> = SLOTS.into_iter().map(|(name, place)| cell(name, place, scale)).collect();
    cells.prop_map(move |cells| Row { scale, cells })
}

/// A text as a literal of the language, in either kind of quotes.
fn quoted(text: &str, quote: char) -> String {
    let mut literal = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => literal.push_str("\\n"),
            c if c == quote || c == '\\' => literal.extend(['\\', c]),
            c => literal.push(c),
        }
    }
    literal.push(quote);
    literal
}

fn text_literal() -> impl Strategy<Value = String> {
    (text(), prop::sample::select(&['"', '\''][..])).prop_map(|(text, quote)| quoted(&text, quote))
}

fn number_literal() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (small_number(), 0u32..8).prop_map(|(mantissa, places)| Decimal::new(mantissa, places).to_string()),
        1 => (-20i64..20).prop_map(|number| format!("{number}e1")),
        1 => prop::sample::select(&["9223372036854775807", "-9223372036854775808", "79228162514264337593543950335", "-0.0"][..]).prop_map(String::from),
    ]
}

fn literal(kind: &Kind) -> BoxedStrategy<String> {
    match kind {
        Kind::Text | Kind::TextList(_) => text_literal().boxed(),
        Kind::Number { .. } => number_literal().boxed(),
        Kind::Date => day().prop_map(|day| format!("'{day}'")).boxed(),
        Kind::Instant => (moment(), any::<bool>())
            .prop_map(
                |(moment, call)| {
                    if call { format!("timestamp('{moment}')") } else { format!("'{moment}'") }
                },
            )
            .boxed(),
        Kind::Boolean => any::<bool>().prop_map(|boolean| boolean.to_string()).boxed(),
        Kind::Id => id().prop_map(|id| format!("'{id}'")).boxed(),
        Kind::Choice(_) => {
            prop::sample::select(CHOICES.as_slice()).prop_map(|choice| quoted(choice, '"')).boxed()
        }
    }
}

/// A test of one field, in one of the ways its kind allows.
fn leaf(name: String, kind: &Kind) -> BoxedStrategy<String> {
    let equality = prop::sample::select(&["==", "!="][..]);
    let order = prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..]);
    let list = prop::collection::vec(literal(kind), 0..4).prop_map(|values| values.join(", "));
    let has = Just(format!("has({name})"));
    let compared = |op: prop::sample::Select<&'static str>, name: String| {
        (op, literal(kind), any::<bool>()).prop_map(move |(op, value, mirrored)| {
            if mirrored { format!("{value} {op} {name}") } else { format!("{name} {op} {value}") }
        })
    };
    let one_of = {
        let name = name.clone();
        list.prop_map(move |list| format!("{name} in [{list}]"))
    };
    match kind {
        Kind::Text => {
            let call = (prop::sample::select(&["startsWith", "endsWith", "contains"][..]), text_literal());
            let called = {
                let name = name.clone();
                call.prop_map(move |(function, value)| format!("{name}.{function}({value})"))
            };
            prop_oneof![1 => has, 2 => compared(equality, name), 2 => one_of, 4 => called].boxed()
        }
        Kind::Number { .. } | Kind::Date | Kind::Instant => {
            prop_oneof![1 => has, 5 => compared(order, name), 1 => one_of].boxed()
        }
        Kind::Boolean => prop_oneof![has, Just(name.clone()), compared(equality, name)].boxed(),
        Kind::Id | Kind::Choice(_) => prop_oneof![has, compared(equality, name), one_of].boxed(),
        Kind::TextList(_) => {
            prop_oneof![1 => has, 3 => text_literal().prop_map(move |value| format!("{value} in {name}"))]
                .boxed()
        }
    }
}

/// The source of a condition over [`catalogue`].
pub(crate) fn condition() -> impl Strategy<Value = String> {
    let leaves = catalogue(0).fields().map(|field| leaf(field.name.clone(), &field.kind)).collect::<Vec<_>>();
    let leaf = (0..leaves.len()).prop_flat_map(move |index| leaves[index].clone());
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" && "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" || "))),
            ("!{1,3}", inner).prop_map(|(nots, inner)| format!("{nots}({inner})")),
        ]
    })
}
