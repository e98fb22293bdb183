//! A customer: a company or a person that the tenant deals with (C1 to C6), and what one can do with it.
mod api;
mod batch;
mod change;
mod decode;
mod encode;
mod erase;
mod import;
mod search;
mod store;

use rapport_kernel::{Date, Id, Instant, Kind};
use rapport_store::{Attributes, ExternalId};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

pub use api::CustomerApi;
pub use import::CustomerImports;

/// A user of the tenant, known here by id.
#[derive(Debug, Clone, Copy)]
pub enum User {}
impl Kind for User {
    const KIND: &'static str = "identity.user";
}

/// An organisational unit of the tenant, known here by id.
#[derive(Debug, Clone, Copy)]
pub enum Unit {}
impl Kind for Unit {
    const KIND: &'static str = "identity.unit";
}

/// Whether a customer is a company or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum CustomerType {
    /// A company, authority or other organisation (C2).
    Company,
    /// A natural person (C3).
    Person,
}

/// How far the relationship is (C6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Status {
    /// Might become a customer.
    Potential,
    /// Is being won.
    Target,
    /// Has bought.
    Existing,
}

/// What part a customer plays (C5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum CustomerKind {
    /// Buys for own use.
    Consumer,
    /// Buys for a business.
    Business,
    /// Sells on.
    Channel,
    /// A user or department of the tenant itself.
    Internal,
}

/// A telephone number, as typed and as dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phone {
    /// As typed.
    pub number: String,
    /// In E.164; empty when the number is not valid in the tenant's region.
    pub e164: String,
    /// What it is used for.
    pub label: String,
}

/// An e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// As typed.
    pub address: String,
    /// What it is used for.
    pub label: String,
}

/// A postal address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// ISO 3166-1 alpha-2 code.
    pub region_code: String,
    /// State, province or equivalent.
    pub administrative_area: String,
    /// City or town.
    pub locality: String,
    /// District below the city.
    pub sublocality: String,
    /// Postal code.
    pub postal_code: String,
    /// Street, building, room.
    pub address_lines: Vec<String>,
    /// What it is used for.
    pub label: String,
}

/// A customer, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
pub struct Customer {
    /// Its id.
    pub id: Id<Customer>,
    /// Its version.
    pub version: i64,
    /// Company or person.
    pub r#type: CustomerType,
    /// What people call it.
    pub display_name: String,
    /// How far the relationship is.
    pub status: Status,
    /// What part it plays.
    pub kind: CustomerKind,
    /// Who looks after it.
    pub owner_id: Option<Id<User>>,
    /// The unit it belongs to.
    pub unit_id: Option<Id<Unit>>,
    /// Telephone numbers; the first is the main one.
    #[sqlx(json)]
    pub phones: Vec<Phone>,
    /// E-mail addresses; the first is the main one.
    #[sqlx(json)]
    pub emails: Vec<Email>,
    /// Postal addresses; the first is the main one.
    #[sqlx(json)]
    pub addresses: Vec<Address>,
    /// Trade, as the tenant calls it.
    pub industry: String,
    /// Number of employees.
    pub headcount: Option<i64>,
    /// Yearly revenue in minor units of its currency.
    pub revenue_minor: Option<i64>,
    /// The currency of the revenue.
    pub revenue_currency: Option<String>,
    /// Day a company was founded.
    pub founding_date: Option<Date>,
    /// Birthday of a person.
    pub birth_date: Option<Date>,
    /// Free words to find it by.
    pub tags: Vec<String>,
    /// Values of the tenant's custom fields.
    #[sqlx(json)]
    pub attributes: Attributes,
    /// Keys in other systems.
    #[sqlx(json)]
    pub external_ids: Vec<ExternalId>,
    /// When it was created.
    pub create_time: Instant,
    /// When it last changed.
    pub update_time: Instant,
    /// When it was deleted.
    pub delete_time: Option<Instant>,
    /// When what identifies it was erased.
    #[serde(default)]
    pub erase_time: Option<Instant>,
}

impl Kind for Customer {
    const KIND: &'static str = "customer.customer";
}

impl Customer {
    /// The id, as tables have it.
    pub const fn uuid(&self) -> Uuid {
        self.id.uuid()
    }
}
