//! A catalogue for the tests of this crate: a field of every kind, from every source.

use std::sync::Arc;

use uuid::Uuid;

use crate::{Catalogue, CurrencyPlaces, Field, Kind, Source};

pub(crate) const ATTRIBUTE_ID: Uuid = Uuid::from_u128(7);

pub(crate) fn catalogue() -> Catalogue {
    let status = || Kind::choice(["active", "lapsed", "prospect"]);
    let places =
        Arc::new(CurrencyPlaces::from([(0, vec!["JPY".into()]), (2, vec!["CNY".into(), "EUR".into()])]));
    let [amount, currency] = Field::money("revenue", "revenue_minor", "revenue_currency", &places);
    let indexed = |name: &str, kind| Field::new(name, kind, Source::Indexed { field_id: ATTRIBUTE_ID });
    let attribute = |key: &str, kind| Field::new(format!("attributes.{key}"), kind, Source::attribute(key));
    [
        Field::new("name", Kind::Text, Source::Column("name")).sortable(),
        Field::new("size", Kind::Number { scale: 2 }, Source::Column("size_cents")).sortable(),
        Field::new("birth_date", Kind::Date, Source::Column("birth_date")),
        Field::new("create_time", Kind::Instant, Source::Column("create_time")).sortable(),
        Field::new("active", Kind::Boolean, Source::Column("active")),
        Field::new("owner", Kind::Id, Source::Column("owner_id")),
        Field::new("status", status(), Source::Column("status")),
        Field::new("tags", Kind::TextList(None), Source::Column("tags")),
        amount,
        currency,
        attribute("city", Kind::Text),
        attribute("monthlyCharges", Kind::Number { scale: 2 }),
        attribute("since", Kind::Date),
        attribute("seen", Kind::Instant),
        attribute("senior", Kind::Boolean),
        attribute("referrer", Kind::Id),
        attribute("plans", Kind::TextList(Some(["fibre", "mobile"].map(String::from).into()))),
        indexed("attributes.segment", Kind::Text),
        indexed("attributes.score", Kind::Number { scale: 3 }),
        indexed("attributes.paperless", Kind::Boolean),
        indexed("attributes.due", Kind::Date),
        indexed("attributes.labels", Kind::TextList(None)),
    ]
    .into_iter()
    .collect()
}
