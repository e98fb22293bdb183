//! The catalogue: the fields that one caller may use of one resource, as a value made at run time.
//!
//! It differs by tenant (custom fields), by resource and by caller (a field that the caller's roles may not read is
//! simply not in it). Names in SQL come from here and from nowhere else, so a filter has nothing to inject; and because
//! an error can only speak of what is in the catalogue, it cannot tell a caller about a field that is hidden from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

/// One field that a filter or an order may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name as people write it: `display_name`, `revenue.amount`, `attributes.city`. Dotted parts of ASCII
    /// letters, digits and `_`, since that is what the language can name.
    pub name: String,
    /// What its values are, which decides the operators and literals it takes.
    pub kind: Kind,
    /// Where its values are kept, which decides the SQL.
    pub source: Source,
    /// Whether lists may be sorted by it.
    pub sortable: bool,
}

/// What the values of a field are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Unicode text, compared code point by code point.
    Text,
    /// An exact decimal with at most `scale` places after the point (0 to 18).
    Number {
        /// Places after the point; a bigint that stores the number holds it times 10 to this power.
        scale: u8,
    },
    /// A civil date: a day as people mean it, in no time zone.
    Date,
    /// A point in time, to the microsecond.
    Instant,
    /// True or false.
    Boolean,
    /// A UUID: the record's own id, or that of a record it refers to.
    Id,
    /// One text out of a closed list.
    Choice(Arc<[String]>),
    /// Several texts (tags, a multi-choice); out of a closed list if there is one. An empty list counts as missing.
    TextList(Option<Arc<[String]>>),
}

/// Where the values of a field are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A column of the resource's table with a plain type: `text` (also choices), `bigint` (numbers, scaled), `date`,
    /// `timestamptz`, `boolean`, `uuid` or `text[]`.
    Column(&'static str),
    /// The amount of a money value, in two columns: a `bigint` of minor units and the `text` currency code. Its
    /// literals are in major units (`revenue.amount >= 1000` is 1,000 yen and 1,000 euro), so the number of minor
    /// units depends on each row's currency. Use it with [`Kind::Number`].
    Money {
        /// The bigint column of minor units.
        amount: &'static str,
        /// The text column of currency codes.
        currency: &'static str,
        /// How many decimal places each currency has.
        places: Arc<CurrencyPlaces>,
    },
    /// A value in the jsonb column `attributes`, at this path (mostly one key): numbers as JSON numbers, booleans as
    /// JSON booleans, text lists as arrays of strings, all else as strings (dates `YYYY-MM-DD`, instants RFC 3339, ids
    /// in the hyphenated form). A value of another shape counts as missing.
    Attribute {
        /// The keys from the root of `attributes` to the value.
        path: Vec<String>,
    },
    /// A custom field kept in the typed side tables, so that an index serves it: `attribute_texts` (texts, choices, ids
    /// in the hyphenated lower-case form, one row per element of a list), `attribute_numbers` (numbers scaled by the
    /// field's scale, booleans as 0 and 1), `attribute_dates` and `attribute_instants`.
    Indexed {
        /// The custom field's id: `field_id` of the side tables.
        field_id: Uuid,
    },
}

/// Currency codes by their number of decimal places: `{0: [JPY, …], 2: [CNY, EUR, …], 3: [KWD, …]}`.
pub type CurrencyPlaces = BTreeMap<u8, Vec<String>>;

impl Source {
    /// The value of one key of the jsonb column `attributes`.
    #[must_use]
    pub fn attribute(key: impl Into<String>) -> Self {
        Self::Attribute { path: vec![key.into()] }
    }
}

impl Field {
    /// A field that lists cannot be sorted by; see [`sortable`](Self::sortable).
    #[must_use]
    pub fn new(name: impl Into<String>, kind: Kind, source: Source) -> Self {
        Self { name: name.into(), kind, source, sortable: false }
    }

    /// The same field, and lists may be sorted by it.
    #[must_use]
    pub fn sortable(mut self) -> Self {
        self.sortable = true;
        self
    }

    /// The two fields that a money value in two columns offers: `<name>.amount`, a number in major units, and
    /// `<name>.currency`, a text.
    #[must_use]
    pub fn money(
        name: &str,
        amount: &'static str,
        currency: &'static str,
        places: &Arc<CurrencyPlaces>,
    ) -> [Self; 2] {
        let scale = places.keys().next_back().copied().unwrap_or_default();
        let source = Source::Money { amount, currency, places: Arc::clone(places) };
        [
            Self::new(format!("{name}.amount"), Kind::Number { scale }, source),
            Self::new(format!("{name}.currency"), Kind::Text, Source::Column(currency)),
        ]
    }
}

impl Kind {
    /// A choice out of these values.
    pub fn choice<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Self {
        Self::Choice(values.into_iter().map(Into::into).collect())
    }

    /// The kind in words, to stand after "which is".
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Number { scale: 0 } => "a whole number".into(),
            Self::Number { scale } => format!("a number with up to {scale} decimal places"),
            Self::Date => "a date".into(),
            Self::Instant => "an instant".into(),
            Self::Boolean => "true or false".into(),
            Self::Id => "an id".into(),
            Self::Choice(_) => "a choice".into(),
            Self::TextList(_) => "a list of texts".into(),
        }
    }

    /// What one can do with a field of this kind, as a message lists it.
    pub(crate) fn operators(&self) -> &'static str {
        match self {
            Self::Text => "==, !=, in [...], startsWith, endsWith, contains and has",
            Self::Number { .. } | Self::Date | Self::Instant => "==, !=, <, <=, >, >=, in [...] and has",
            Self::Boolean => "==, !=, the bare name and has",
            Self::Id | Self::Choice(_) => "==, !=, in [...] and has",
            Self::TextList(_) => "\"…\" in the field and has",
        }
    }

    /// Whether its values have an order that `<` can ask for. Text does not: its order depends on the language.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self, Self::Number { .. } | Self::Date | Self::Instant)
    }
}

/// The fields that one caller may use of one resource.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    fields: BTreeMap<String, Arc<Field>>,
}

impl FromIterator<Field> for Catalogue {
    /// Of two fields with one name the first stands: put compiled fields before custom ones, and no custom field can
    /// take the place of a compiled one.
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let mut catalogue = Self::default();
        for field in fields {
            catalogue.fields.entry(field.name.clone()).or_insert_with(|| Arc::new(field));
        }
        catalogue
    }
}

impl Catalogue {
    /// The field of this exact name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Arc<Field>> {
        self.fields.get(name)
    }

    /// All fields, by name.
    pub fn fields(&self) -> impl Iterator<Item = &Arc<Field>> {
        self.fields.values()
    }

    /// The names that somebody who wrote `name` may have meant, best first, at most three.
    #[must_use]
    pub fn near(&self, name: &str) -> Vec<&str> {
        nearest(name, self.fields.keys().map(String::as_str))
    }

    /// Says that there is no field `name`, and which there are: its parts, near names, or the first of all.
    pub(crate) fn unknown(&self, name: &str) -> String {
        let unknown = format!("unknown field {}", crate::error::quoted(name));
        let parts = format!("{name}.");
        let parts: Vec<&str> =
            self.fields.keys().filter(|known| known.starts_with(&parts)).map(String::as_str).collect();
        let near = self.near(name);
        if !parts.is_empty() {
            format!("{unknown}; name one of its parts: {}", crate::error::listed(parts))
        } else if !near.is_empty() {
            format!("{unknown}; did you mean {}", near.join(", "))
        } else if self.fields.is_empty() {
            format!("{unknown}; there are no fields to filter by")
        } else {
            format!(
                "{unknown}; the fields are {}",
                crate::error::listed(self.fields.keys().map(String::as_str))
            )
        }
    }
}

/// The `known` names closest to `name` by edits (Damerau-Levenshtein), without regard to case; a field is also found by
/// its last part alone (`city` finds `attributes.city`). Best first, at most three, none farther than a third of its
/// last part; none at all for a name of more than 64 bytes, which is no slip.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return Vec::new();
    }
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    // A third of the last part: `attributes.` is no evidence of nearness.
    let allowed = wanted.rsplit('.').next().map_or(0, |last| last.chars().count().div_ceil(3));
    // Names whose lengths differ by more cannot be near, and comparing lengths is cheap.
    let distance = |candidate: &str| {
        (candidate.chars().count().abs_diff(length) <= allowed)
            .then(|| strsim::osa_distance(&wanted, candidate))
            .filter(|distance| *distance <= allowed)
    };
    let mut near: Vec<(usize, &str)> = known
        .filter_map(|candidate| {
            let whole = candidate.to_lowercase();
            let last = whole.rsplit_once('.').map(|(_, last)| last);
            let nearest = distance(&whole).into_iter().chain(last.and_then(distance)).min();
            nearest.map(|nearest| (nearest, candidate))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(names: &[&str]) -> Catalogue {
        names.iter().map(|name| Field::new(*name, Kind::Text, Source::Column("c"))).collect()
    }

    #[test]
    fn near_names_forgive_slips_case_and_a_forgotten_prefix() {
        let catalogue = catalogue(&["display_name", "create_time", "attributes.city", "status"]);
        assert_eq!(catalogue.near("dispaly_name"), ["display_name"]);
        assert_eq!(catalogue.near("createTime"), ["create_time"]);
        assert_eq!(catalogue.near("city"), ["attributes.city"]);
        assert_eq!(catalogue.near("attributes.citi"), ["attributes.city"]);
        assert_eq!(catalogue.near("attribute.city"), ["attributes.city"]);
        assert!(catalogue.near("attributes.due").is_empty());
        assert!(catalogue.near("revenue").is_empty());
        assert!(catalogue.near(&"status".repeat(1000)).is_empty());
    }

    #[test]
    fn an_unknown_name_lists_near_names_then_parts_then_all() {
        let known = catalogue(&["name", "revenue.amount", "revenue.currency"]);
        assert_eq!(known.unknown("nam"), "unknown field `nam`; did you mean name");
        assert_eq!(
            known.unknown("revenue"),
            "unknown field `revenue`; name one of its parts: revenue.amount, revenue.currency"
        );
        assert_eq!(
            known.unknown("zzz"),
            "unknown field `zzz`; the fields are name, revenue.amount, revenue.currency"
        );
        assert_eq!(catalogue(&[]).unknown("a"), "unknown field `a`; there are no fields to filter by");
    }

    #[test]
    fn a_custom_field_cannot_take_a_compiled_name() {
        let compiled = Field::new("name", Kind::Text, Source::Column("name"));
        let custom = Field::new("name", Kind::Date, Source::attribute("name"));
        let catalogue: Catalogue = [compiled.clone(), custom].into_iter().collect();
        assert_eq!(**catalogue.field("name").unwrap(), compiled);
    }

    #[test]
    fn money_offers_amount_and_currency() {
        let places = Arc::new(CurrencyPlaces::from([(0, vec!["JPY".into()]), (3, vec!["KWD".into()])]));
        let [amount, currency] = Field::money("revenue", "revenue_minor", "revenue_currency", &places);
        assert_eq!((amount.name.as_str(), amount.kind), ("revenue.amount", Kind::Number { scale: 3 }));
        assert_eq!((currency.name.as_str(), currency.kind), ("revenue.currency", Kind::Text));
    }
}
