//! How customers lie in the database: what lists filter and sort by, and what they are found by.
use rapport_filter::{Field, Kind};
use rapport_kernel::{Error, Instant};
use rapport_store::{
    Attributes, ExternalId, Resource, Side, TenantTx,
    resource::{CURRENCY_PLACES, column, column_as},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Customer, search};

impl Resource for Customer {
    const NAME: &'static str = "customer";
    const KIND: &'static str = "customer.customer";
    const TABLE: &'static str = "customers";
    const COLUMNS: &'static str = "id, version, type, display_name, status, kind, owner_id, unit_id, phones, emails, \
                                   addresses, industry, headcount, revenue_minor, revenue_currency, founding_date, \
                                   birth_date, tags, attributes, external_ids, create_time, update_time, delete_time, \
                                   erase_time";
    const OWNER: Option<&'static str> = Some("owner_id");
    const UNIT: Option<&'static str> = Some("unit_id");
    const READ: &'static str = "customer.customers.read";
    const SOFT_DELETE: bool = true;

    fn fields() -> Vec<Field> {
        let mut fields = vec![
            column("id", Kind::Id).sortable(),
            column("type", Kind::choice(["company", "person"])),
            column("display_name", Kind::Text).sortable(),
            column("status", Kind::choice(["potential", "target", "existing"])),
            column("kind", Kind::choice(["consumer", "business", "channel", "internal"])),
            column_as("owner", Kind::Id, "owner_id"),
            column_as("unit", Kind::Id, "unit_id"),
            column("industry", Kind::Text),
            column("headcount", Kind::Number { scale: 0 }),
            column("founding_date", Kind::Date),
            column("birth_date", Kind::Date),
            column("tags", Kind::TextList(None)),
            column("create_time", Kind::Instant).sortable(),
            column("update_time", Kind::Instant).sortable(),
        ];
        fields.extend(Field::money("revenue", "revenue_minor", "revenue_currency", &CURRENCY_PLACES));
        fields
    }
    fn id(&self) -> Uuid {
        self.uuid()
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn owner(&self) -> Option<Uuid> {
        self.owner_id.map(Into::into)
    }
    fn unit(&self) -> Option<Uuid> {
        self.unit_id.map(Into::into)
    }
    fn attributes(&self) -> Option<&Attributes> {
        Some(&self.attributes)
    }
    fn external_ids(&self) -> &[ExternalId] {
        &self.external_ids
    }
    fn delete_time(&self) -> Option<Instant> {
        self.delete_time
    }
}

const SEARCH: Side = Side {
    table: "customer_search",
    columns: "record_id, name, bigrams, emails, phones",
    key: "record_id",
    replaces: true,
};

/// A row of `customer_search`.
#[derive(Debug, PartialEq, Serialize)]
struct SearchRow {
    record_id: Uuid,
    name: String,
    bigrams: Vec<String>,
    emails: String,
    phones: String,
}

impl From<&Customer> for SearchRow {
    fn from(customer: &Customer) -> Self {
        let name = search::normal(&customer.display_name);
        Self {
            record_id: customer.uuid(),
            bigrams: search::bigrams(&name),
            emails: customer
                .emails
                .iter()
                .map(|email| email.address.to_lowercase())
                .collect::<Vec<_>>()
                .join(" "),
            phones: customer
                .phones
                .iter()
                .flat_map(|phone| [search::digits(&phone.number), search::digits(&phone.e164)])
                .collect::<Vec<_>>()
                .join(" "),
            name,
        }
    }
}

/// Collects a new customer and what it is found by.
pub(super) fn insert(tx: &mut TenantTx, customer: &Customer) -> Result<(), Error> {
    tx.insert(customer)?;
    tx.side_insert(SEARCH.of_record(true), &SearchRow::from(customer))
}

/// Collects a changed customer and, where that changed, what it is found by.
pub(super) fn update(tx: &mut TenantTx, before: &Customer, after: &Customer) -> Result<(), Error> {
    tx.update(before, after)?;
    let row = SearchRow::from(after);
    if row != SearchRow::from(before) {
        tx.side_insert(SEARCH, &row)?;
    }
    Ok(())
}

/// Collects an erased customer, which nothing finds any more.
pub(super) fn erase(tx: &mut TenantTx, before: &Customer, after: &Customer) -> Result<(), Error> {
    tx.update(before, after)?;
    tx.side_delete(SEARCH, &json!({"record_id": after.uuid()}))
}
