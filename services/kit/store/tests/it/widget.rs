//! A resource to test with: it has everything that a resource can have.
use rapport_filter::{Field, Kind};
use rapport_kernel::{Ctx, Date, Instant};
use rapport_store::{
    Attributes, ExternalId, Resource,
    resource::{CURRENCY_PLACES, column, column_as},
};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::world::new_id;

/// Its table.
pub(crate) const MIGRATION: &str = r#"
CREATE TABLE widgets (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  name text COLLATE "zh-x-icu" NOT NULL,
  size bigint NOT NULL,
  made_on date NOT NULL,
  done boolean NOT NULL,
  owner_id uuid,
  unit_id uuid,
  tags text[] NOT NULL,
  price_minor bigint,
  price_currency text,
  attributes jsonb NOT NULL,
  external_ids jsonb NOT NULL,
  create_time timestamptz NOT NULL,
  delete_time timestamptz,
  CONSTRAINT widgets_id PRIMARY KEY (tenant_id, id)
);
CREATE INDEX widgets_name ON widgets (tenant_id, name, id) WHERE delete_time IS NULL;
CREATE INDEX widgets_size ON widgets (tenant_id, size, id) WHERE delete_time IS NULL;
CREATE INDEX widgets_made_on ON widgets (tenant_id, made_on, id) WHERE delete_time IS NULL;
CREATE INDEX widgets_done ON widgets (tenant_id, done, id) WHERE delete_time IS NULL;
CREATE INDEX widgets_create_time ON widgets (tenant_id, create_time, id) WHERE delete_time IS NULL;
CREATE INDEX widgets_owner ON widgets (tenant_id, owner_id, create_time, id);
CREATE INDEX widgets_unit ON widgets (tenant_id, unit_id, create_time, id);
SELECT rapport.protect('widgets', resource => 'widget', owner => 'owner_id', unit => 'unit_id');
"#;

/// Where it lies, for custom fields.
pub(crate) const TABLES: &[(&str, &str)] = &[("widget", "widgets")];

#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub(crate) struct Widget {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) made_on: Date,
    pub(crate) done: bool,
    pub(crate) owner_id: Option<Uuid>,
    pub(crate) unit_id: Option<Uuid>,
    pub(crate) tags: Vec<String>,
    pub(crate) price_minor: Option<i64>,
    pub(crate) price_currency: Option<String>,
    #[sqlx(json)]
    pub(crate) attributes: Attributes,
    #[sqlx(json)]
    pub(crate) external_ids: Vec<ExternalId>,
    pub(crate) create_time: Instant,
    pub(crate) delete_time: Option<Instant>,
}

impl Widget {
    /// A new one of the caller.
    pub(crate) fn new(ctx: &Ctx, name: &str) -> Self {
        Self {
            id: new_id(),
            version: 1,
            name: name.into(),
            size: 0,
            made_on: "2026-01-31".parse().unwrap(),
            done: false,
            owner_id: ctx.user(),
            unit_id: None,
            tags: Vec::new(),
            price_minor: None,
            price_currency: None,
            attributes: Attributes::new(),
            external_ids: Vec::new(),
            create_time: ctx.now(),
            delete_time: None,
        }
    }

    /// The same at its next version, changed.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut after = self.clone();
        after.version += 1;
        change(&mut after);
        after
    }

    pub(crate) fn deleted(&self, ctx: &Ctx) -> Self {
        self.changed(|w| w.delete_time = Some(ctx.now()))
    }

    pub(crate) fn with_key(mut self, source: &str, external_id: &str) -> Self {
        self.external_ids.push(ExternalId { source: source.into(), external_id: external_id.into() });
        self
    }
}

impl Resource for Widget {
    const NAME: &'static str = "widget";
    const KIND: &'static str = "test.widget";
    const TABLE: &'static str = "widgets";
    const COLUMNS: &'static str = "id, version, name, size, made_on, done, owner_id, unit_id, tags, price_minor, price_currency, \
                                   attributes, external_ids, create_time, delete_time";
    const OWNER: Option<&'static str> = Some("owner_id");
    const UNIT: Option<&'static str> = Some("unit_id");
    const READ: &'static str = "test.widgets.read";
    const SOFT_DELETE: bool = true;

    fn fields() -> Vec<Field> {
        let mut fields = vec![
            column("id", Kind::Id).sortable(),
            column("name", Kind::Text).sortable(),
            column("size", Kind::Number { scale: 0 }).sortable(),
            column("made_on", Kind::Date).sortable(),
            column("done", Kind::Boolean).sortable(),
            column_as("owner", Kind::Id, "owner_id"),
            column("tags", Kind::TextList(None)),
            column("create_time", Kind::Instant).sortable(),
        ];
        fields.extend(Field::money("price", "price_minor", "price_currency", &CURRENCY_PLACES));
        fields
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn owner(&self) -> Option<Uuid> {
        self.owner_id
    }
    fn unit(&self) -> Option<Uuid> {
        self.unit_id
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
