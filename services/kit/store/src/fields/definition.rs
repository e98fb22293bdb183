//! The definition of a custom field, as a resource like any other.
use std::collections::BTreeMap;

use rapport_filter::{self as filter, Field, Source};
use rapport_kernel::Instant;
use rapport_proto::fields::v1 as pb;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    Attribute, Resource,
    resource::{CURRENCY_PLACES, column},
    time::to_proto,
};

/// What values a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum FieldKind {
    /// Text of up to 10,000 characters.
    Text,
    /// A decimal of fixed scale.
    Number,
    /// An amount and a currency.
    Money,
    /// A civil date.
    Date,
    /// An instant.
    Instant,
    /// True or false.
    Boolean,
    /// One of the choices.
    Choice,
    /// Several of the choices.
    MultiChoice,
    /// The name of a record.
    Reference,
    /// A telephone number.
    Phone,
    /// An e-mail address.
    Email,
    /// An http or https address.
    Url,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum FieldState {
    /// In use.
    Active,
    /// In use; its index is being built.
    Indexing,
    /// Removed; its data is kept.
    Archived,
}

/// One allowed value of a choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is stored.
    pub key: String,
    /// What people see, by locale.
    pub labels: BTreeMap<String, String>,
    /// No longer offered.
    pub archived: bool,
}

/// A custom field.
#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub struct Definition {
    /// Its id.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
    /// The resource that has it.
    pub resource: String,
    /// Its name in `attributes`.
    pub key: String,
    /// What values it takes.
    pub kind: FieldKind,
    /// What people call it, by locale.
    #[sqlx(json)]
    pub labels: BTreeMap<String, String>,
    /// What to enter, by locale.
    #[sqlx(json)]
    pub help: BTreeMap<String, String>,
    /// Decimal places of a number, 0 to 6.
    pub scale: i16,
    /// Whether every record must have a value.
    pub required: bool,
    /// Whether no two live records may have the same value.
    pub is_unique: bool,
    /// Whether it has an index.
    pub indexed: bool,
    /// The value of a record created without one.
    #[sqlx(json(nullable))]
    pub default_value: Option<Attribute>,
    /// What a choice may be.
    #[sqlx(json)]
    pub choices: Vec<Choice>,
    /// The kind of record that a reference names.
    pub reference_kind: String,
    /// Whether it identifies a person.
    pub personal: bool,
    /// Where it stands.
    pub state: FieldState,
    /// When it was defined.
    pub create_time: Instant,
    /// When it last changed.
    pub update_time: Instant,
    /// What this caller may do with it.
    #[sqlx(skip)]
    #[serde(skip)]
    pub(crate) access: Access,
}

/// What a caller's roles let them do with a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read and write.
    #[default]
    Full,
    /// Read.
    Locked,
    /// Nothing: it does not exist for the caller.
    Hidden,
}

impl Definition {
    /// How filters and orders know it: one field, or two for money and phones.
    pub(crate) fn catalogue(&self) -> Vec<Field> {
        let name = format!("attributes.{}", self.key);
        let choices = || self.choices.iter().map(|choice| choice.key.clone());
        let kind = match self.kind {
            FieldKind::Text | FieldKind::Email | FieldKind::Url | FieldKind::Reference => filter::Kind::Text,
            FieldKind::Number => filter::Kind::Number { scale: self.places() },
            FieldKind::Date => filter::Kind::Date,
            FieldKind::Instant => filter::Kind::Instant,
            FieldKind::Boolean => filter::Kind::Boolean,
            FieldKind::Choice => filter::Kind::choice(choices()),
            FieldKind::MultiChoice => filter::Kind::TextList(Some(choices().collect())),
            FieldKind::Money => {
                return self.parts(&name, [("amount", amount()), ("currency", filter::Kind::Text)]);
            }
            FieldKind::Phone => {
                return self.parts(&name, [("number", filter::Kind::Text), ("e164", filter::Kind::Text)]);
            }
        };
        if !self.indexed || self.state != FieldState::Active {
            return vec![Field::new(name, kind, Source::attribute(&self.key))];
        }
        let field = Field::new(name, kind, Source::Indexed { field_id: self.id });
        // A record has one place in an order, so a list of choices has none.
        vec![if self.kind == FieldKind::MultiChoice { field } else { field.sortable() }]
    }

    fn parts(&self, name: &str, parts: [(&str, filter::Kind); 2]) -> Vec<Field> {
        let source = |part: &str| Source::Attribute { path: vec![self.key.clone(), part.to_owned()] };
        parts
            .into_iter()
            .map(|(part, kind)| Field::new(format!("{name}.{part}"), kind, source(part)))
            .collect()
    }

    /// Decimal places of a number.
    pub(crate) fn places(&self) -> u8 {
        u8::try_from(self.scale).unwrap_or_default()
    }
}

/// Amounts of money have as many places as the most exact currency.
fn amount() -> filter::Kind {
    filter::Kind::Number { scale: CURRENCY_PLACES.keys().next_back().copied().unwrap_or(2) }
}

impl Resource for Definition {
    const NAME: &'static str = "field";
    const KIND: &'static str = "kit.field";
    const TABLE: &'static str = "custom_fields";
    const COLUMNS: &'static str = "id, version, resource, key, kind, labels, help, scale, required, is_unique, indexed, \
                                   default_value, choices, reference_kind, personal, state, create_time, update_time";
    // Each service has a permission of its own, which its method asks for.
    const READ: &'static str = "";
    const DEFAULT_ORDER: &'static str = "key";

    fn fields() -> Vec<Field> {
        vec![
            column("id", filter::Kind::Id).sortable(),
            column("resource", filter::Kind::Text),
            column("key", filter::Kind::Text).sortable(),
            column("state", filter::Kind::choice(["active", "indexing", "archived"])),
        ]
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
}

impl FieldKind {
    /// From the contract; `None` for what it does not name.
    pub(crate) fn from_proto(kind: i32) -> Option<Self> {
        Some(match pb::FieldKind::try_from(kind).ok()? {
            pb::FieldKind::Unspecified => return None,
            pb::FieldKind::Text => Self::Text,
            pb::FieldKind::Number => Self::Number,
            pb::FieldKind::Money => Self::Money,
            pb::FieldKind::Date => Self::Date,
            pb::FieldKind::Instant => Self::Instant,
            pb::FieldKind::Boolean => Self::Boolean,
            pb::FieldKind::Choice => Self::Choice,
            pb::FieldKind::MultiChoice => Self::MultiChoice,
            pb::FieldKind::Reference => Self::Reference,
            pb::FieldKind::Phone => Self::Phone,
            pb::FieldKind::Email => Self::Email,
            pb::FieldKind::Url => Self::Url,
        })
    }

    const fn to_proto(self) -> pb::FieldKind {
        match self {
            Self::Text => pb::FieldKind::Text,
            Self::Number => pb::FieldKind::Number,
            Self::Money => pb::FieldKind::Money,
            Self::Date => pb::FieldKind::Date,
            Self::Instant => pb::FieldKind::Instant,
            Self::Boolean => pb::FieldKind::Boolean,
            Self::Choice => pb::FieldKind::Choice,
            Self::MultiChoice => pb::FieldKind::MultiChoice,
            Self::Reference => pb::FieldKind::Reference,
            Self::Phone => pb::FieldKind::Phone,
            Self::Email => pb::FieldKind::Email,
            Self::Url => pb::FieldKind::Url,
        }
    }
}

impl From<Definition> for pb::Field {
    fn from(field: Definition) -> Self {
        let state = match field.state {
            FieldState::Active => pb::FieldState::Active,
            FieldState::Indexing => pb::FieldState::Indexing,
            FieldState::Archived => pb::FieldState::Archived,
        };
        Self {
            id: field.id.to_string(),
            etag: field.version.to_string(),
            resource: field.resource,
            key: field.key,
            kind: field.kind.to_proto().into(),
            labels: field.labels.into_iter().collect(),
            help: field.help.into_iter().collect(),
            scale: field.scale.into(),
            required: field.required,
            unique: field.is_unique,
            indexed: field.indexed,
            default_value: field.default_value.as_ref().map(Into::into),
            choices: field
                .choices
                .into_iter()
                .map(|choice| pb::Choice {
                    key: choice.key,
                    labels: choice.labels.into_iter().collect(),
                    archived: choice.archived,
                })
                .collect(),
            reference_kind: field.reference_kind,
            personal: field.personal,
            state: state.into(),
            create_time: Some(to_proto(field.create_time)),
            update_time: Some(to_proto(field.update_time)),
        }
    }
}
