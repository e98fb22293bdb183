//! What a service declares about a resource so that reading, writing, lists and filters can be here once.
use rapport_filter::{CurrencyPlaces, Field, Kind, Source};
use rapport_kernel::Instant;
use serde::Serialize;
use sqlx::{FromRow, postgres::PgRow};
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

use crate::{Attributes, ExternalId};

/// A table of records with an id, a version and a tenant.
///
/// The type is the row: `FromRow` reads it, and `Serialize` writes it, each field under its column's name. Columns that the
/// type does not have are generated or have defaults.
pub trait Resource: for<'r> FromRow<'r, PgRow> + Serialize + Clone + Send + Sync + Unpin + 'static {
    /// The name in messages and in `record_shares`, e.g. `customer`.
    const NAME: &'static str;
    /// The kind in record names, e.g. `customer.customer`.
    const KIND: &'static str;
    /// The table, in schema `public`. Its primary key `(tenant_id, id)` is named `<table>_id`, by which a taken id is told from
    /// other conflicts; where records have custom fields, it has the columns `attributes jsonb` and `delete_time`.
    const TABLE: &'static str;
    /// The columns that are read and written, without `tenant_id`, separated by a comma and a blank.
    const COLUMNS: &'static str;
    /// The column with the owner; `None` when everyone in the tenant sees every record.
    const OWNER: Option<&'static str> = None;
    /// The column with the unit that a record belongs to, for those who see what belongs to their unit and to those below it.
    /// It has an index `(tenant_id, <unit>, …)`.
    const UNIT: Option<&'static str> = None;
    /// The permission that lets one see records, e.g. `customer.customers.read`; empty when whoever may call a method that
    /// reads them may see all.
    const READ: &'static str;
    /// Whether deleted records are kept, with a `delete_time`.
    const SOFT_DELETE: bool = false;
    /// What lists are sorted by when the caller does not say, e.g. `create_time desc`.
    const DEFAULT_ORDER: &'static str = "create_time desc";

    /// What callers may filter and sort by: the compiled part of the catalogue. A sortable column is never null and has an index
    /// `(tenant_id, column, id)`; `Audit` looks after that.
    fn fields() -> Vec<Field>;
    /// The id.
    fn id(&self) -> Uuid;
    /// The version: 1 when created, one more with each change.
    fn version(&self) -> i64;
    /// The owner.
    fn owner(&self) -> Option<Uuid> {
        None
    }
    /// The unit that it belongs to.
    fn unit(&self) -> Option<Uuid> {
        None
    }
    /// The values of its custom fields.
    fn attributes(&self) -> Option<&Attributes> {
        None
    }
    /// Its keys in other systems.
    fn external_ids(&self) -> &[ExternalId] {
        &[]
    }
    /// When it was deleted.
    fn delete_time(&self) -> Option<Instant> {
        None
    }
}

/// A field in a column of its own name.
pub fn column(name: &'static str, kind: Kind) -> Field {
    Field::new(name, kind, Source::Column(name))
}

/// A field in a column of another name.
pub fn column_as(name: &'static str, kind: Kind, column: &'static str) -> Field {
    Field::new(name, kind, Source::Column(column))
}

/// How many decimal places each currency has, as filters on amounts need it.
pub static CURRENCY_PLACES: LazyLock<Arc<CurrencyPlaces>> = LazyLock::new(|| {
    let mut places = CurrencyPlaces::new();
    for (code, digits) in rapport_kernel::Money::currencies() {
        places.entry(digits).or_default().push(code.to_owned());
    }
    Arc::new(places)
});
