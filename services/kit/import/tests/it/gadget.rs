//! A resource that can be imported: what a service writes to join.
use std::{collections::BTreeMap, sync::Arc};

use rapport_filter::{Field, Kind};
use rapport_import::{EXTERNAL_ID, ExistingPolicy, Importable, Outcome, Problem, Target, Undo, Written};
use rapport_kernel::{Ctx, Error, Instant};
use rapport_proto::customer::v1 as pb;
use rapport_store::{
    Attributes, ExternalId, Resource, TenantTx,
    fields::{Definition, from_text},
    resource::column,
    to_struct,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::FromRow;
use uuid::Uuid;

pub(crate) const KIND: &str = "test.gadget";

pub(crate) const MIGRATION: &str = "
CREATE TABLE gadgets (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  display_name text NOT NULL,
  note text NOT NULL,
  external_ids jsonb NOT NULL,
  attributes jsonb NOT NULL,
  create_time timestamptz NOT NULL,
  delete_time timestamptz,
  CONSTRAINT gadgets_id PRIMARY KEY (tenant_id, id)
);
SELECT rapport.protect('gadgets');
";

#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub(crate) struct Gadget {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) display_name: String,
    pub(crate) note: String,
    #[sqlx(json)]
    pub(crate) external_ids: Vec<ExternalId>,
    #[sqlx(json)]
    pub(crate) attributes: Attributes,
    pub(crate) create_time: Instant,
    pub(crate) delete_time: Option<Instant>,
}

impl Resource for Gadget {
    const NAME: &'static str = "gadget";
    const KIND: &'static str = KIND;
    const TABLE: &'static str = "gadgets";
    const COLUMNS: &'static str =
        "id, version, display_name, note, external_ids, attributes, create_time, delete_time";
    const READ: &'static str = "";
    const SOFT_DELETE: bool = true;

    fn fields() -> Vec<Field> {
        vec![column("id", Kind::Id).sortable(), column("create_time", Kind::Instant).sortable()]
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
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

/// What a test may do to the resource.
#[derive(Clone, Default)]
pub(crate) struct Sabotage(Option<Fault>);

/// By a row's name, the error that it makes.
type Fault = Arc<dyn Fn(&str) -> Option<Error> + Send + Sync>;

impl Sabotage {
    /// A row whose name makes `fault` give an error fails its whole batch by it, as a fault of the database would.
    pub(crate) fn new(fault: impl Fn(&str) -> Option<Error> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(fault)))
    }
}

/// The resource, as the engine sees it.
pub(crate) struct Gadgets(pub(crate) Sabotage);

pub(crate) struct Plan {
    slots: Vec<Slot>,
    phone_region: String,
}

enum Slot {
    Name,
    Note,
    ExternalId,
    Attribute(Box<Definition>),
}

/// What a row wants of a record; what is not mapped stays as it is.
#[derive(Debug)]
pub(crate) struct Row {
    name: Option<String>,
    note: Option<String>,
    external_id: Option<String>,
    /// New values by field; `None` takes a value away.
    attributes: Vec<(String, Option<rapport_store::Attribute>)>,
}

/// What an update overwrote.
#[derive(Serialize, Deserialize)]
struct Before {
    name: String,
    note: String,
    attributes: Attributes,
}

impl Importable for Gadgets {
    type Plan = Plan;
    type Row = Row;

    fn resource(&self) -> &'static str {
        "gadget"
    }

    fn targets(&self, tx: &TenantTx) -> Vec<Target> {
        let target = |name: &str, labels: &[&str], required| Target {
            name: name.into(),
            labels: labels.iter().map(ToString::to_string).collect(),
            required,
            example: String::new(),
        };
        let custom = tx.custom_fields::<Gadget>().iter().map(|field| Target {
            name: format!("attributes.{}", field.key),
            labels: field.labels.values().cloned().collect(),
            required: field.required,
            example: String::new(),
        });
        let own = [
            target("display_name", &["Name", "名称", "客户名称"], true),
            target("note", &["Note", "备注"], false),
            target(EXTERNAL_ID, &["Customer ID", "Id", "No", "编号", "客户编号"], false),
        ];
        let rights = tx.ctx().field_rights.clone();
        own.into_iter().chain(custom).filter(|target| rights.may_write(KIND, &target.name)).collect()
    }

    fn plan(&self, tx: &TenantTx, targets: &[&str]) -> Result<Plan, Error> {
        let known = self.targets(tx);
        let slots = targets.iter().map(|name| {
            if !known.iter().any(|target| target.name == *name) {
                return Err(Error::invalid("mappings", format!("there is no target `{name}` any more")));
            }
            Ok(match *name {
                "display_name" => Slot::Name,
                "note" => Slot::Note,
                EXTERNAL_ID => Slot::ExternalId,
                other => {
                    let key = other.trim_start_matches("attributes.");
                    let field = tx.custom_fields::<Gadget>().iter().find(|field| field.key == key);
                    Slot::Attribute(
                        field
                            .cloned()
                            .map(Box::new)
                            .ok_or_else(|| Error::internal("a target without a field"))?,
                    )
                }
            })
        });
        Ok(Plan { slots: slots.collect::<Result<_, _>>()?, phone_region: tx.ctx().phone_region.to_string() })
    }

    fn read(&self, _: &Ctx, plan: &Plan, values: &[&str]) -> Result<Row, Vec<Problem>> {
        let mut row =
            Row { name: None, note: None, external_id: None, attributes: Vec::with_capacity(values.len()) };
        let mut problems = Vec::new();
        for (slot, value) in plan.slots.iter().zip(values) {
            match slot {
                Slot::Name if value.trim().is_empty() => {
                    problems.push(Problem::new("display_name", "must not be empty"))
                }
                Slot::Name => row.name = Some(value.trim().to_owned()),
                Slot::Note => row.note = Some((*value).to_owned()),
                Slot::ExternalId => {
                    row.external_id = Some(value.trim().to_owned()).filter(|id| !id.is_empty())
                }
                Slot::Attribute(field) => match field.read(&from_text(field, value), &plan.phone_region) {
                    Ok(None) if field.required => {
                        problems.push(Problem::new(format!("attributes.{}", field.key), "must not be empty"));
                    }
                    Ok(attribute) => row.attributes.push((field.key.clone(), attribute)),
                    Err(problem) => problems.push(Problem::new(format!("attributes.{}", field.key), problem)),
                },
            }
        }
        if problems.is_empty() { Ok(row) } else { Err(problems) }
    }

    async fn write(
        &self,
        tx: &mut TenantTx,
        source: &str,
        existing: ExistingPolicy,
        rows: Vec<Row>,
    ) -> Result<Vec<Outcome>, Error> {
        for row in &rows {
            if let (Some(fault), Some(name)) = (&self.0.0, &row.name)
                && let Some(error) = fault(name)
            {
                return Err(error);
            }
        }
        let key = |id: &str| ExternalId { source: source.to_owned(), external_id: id.to_owned() };
        let keys: Vec<_> = rows.iter().filter_map(|row| row.external_id.as_deref().map(key)).collect();
        let known = tx.by_external_ids::<Gadget>(&keys).await?;
        let ids: Vec<_> = known.values().copied().collect();
        let mut records = BTreeMap::new();
        records.extend(
            tx.lock_many::<Gadget>(&ids).await?.into_iter().map(|held| (held.record.id, held.record)),
        );
        let now = tx.now();
        let changes: Vec<(Option<Gadget>, Gadget)> = rows
            .into_iter()
            .map(|row| {
                let key = row.external_id.as_deref().map(key);
                let before = key.as_ref().and_then(|key| known.get(key)).and_then(|id| records.remove(id));
                let mut after = before.clone().unwrap_or_else(|| Gadget {
                    id: tx.ctx().clock.new_uuid(),
                    version: 1,
                    display_name: String::new(),
                    note: String::new(),
                    external_ids: key.into_iter().collect(),
                    attributes: Attributes::new(),
                    create_time: now,
                    delete_time: None,
                });
                row.apply(&mut after);
                if before.as_ref().is_some_and(|before| *before != after) {
                    after.version += 1;
                }
                (before, after)
            })
            .collect();
        let stays = |before: &Option<Gadget>, after: &Gadget| {
            before.as_ref().is_some_and(|before| existing == ExistingPolicy::Skip || before == after)
        };
        let written: Vec<_> = changes.iter().filter(|(b, a)| !stays(b, a)).map(|(_, after)| after).collect();
        let mut conflicts = tx.conflicts(&written, &[]).await?.into_iter();
        let mut outcomes = Vec::with_capacity(changes.len());
        for (before, after) in changes {
            if stays(&before, &after) {
                outcomes.push(Outcome::Unchanged { id: after.id });
                continue;
            }
            outcomes.push(match (before, conflicts.next().flatten()) {
                (_, Some(error)) => Outcome::Rejected(Problem::of(&error)),
                (None, None) => {
                    tx.insert(&after)?;
                    tx.emit(&after, &pb::CustomerCreated { customer: Some(after.image()) })?;
                    Outcome::Created { id: after.id, version: after.version }
                }
                (Some(before), None) => {
                    let after = change(tx, &before, after)?;
                    let before = Before {
                        name: before.display_name,
                        note: before.note,
                        attributes: before.attributes,
                    };
                    Outcome::Updated { id: after.id, version: after.version, before: json!(before) }
                }
            });
        }
        Ok(outcomes)
    }

    async fn undo(&self, tx: &mut TenantTx, entries: Vec<Written>) -> Result<Vec<Undo>, Error> {
        let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
        let records: BTreeMap<_, _> = tx
            .lock_many::<Gadget>(&ids)
            .await?
            .into_iter()
            .map(|held| (held.record.id, held.record))
            .collect();
        entries
            .into_iter()
            .map(|entry| match records.get(&entry.id) {
                Some(before) if before.version == entry.version && before.delete_time.is_none() => {
                    let after = match entry.before {
                        None => Gadget { delete_time: Some(tx.now()), ..before.clone() },
                        Some(value) => restored(before, value)?,
                    };
                    change(tx, before, after)?;
                    Ok(Undo::Undone)
                }
                _ => Ok(Undo::Kept),
            })
            .collect()
    }
}

fn restored(record: &Gadget, value: Value) -> Result<Gadget, Error> {
    let before: Before = serde_json::from_value(value).map_err(Error::internal)?;
    Ok(Gadget {
        display_name: before.name,
        note: before.note,
        attributes: before.attributes,
        ..record.clone()
    })
}

/// Writes a change of a record, with its event.
pub(crate) fn change(tx: &mut TenantTx, before: &Gadget, after: Gadget) -> Result<Gadget, Error> {
    let after = Gadget { version: before.version + 1, ..after };
    tx.update(before, &after)?;
    let event = pb::CustomerUpdated {
        customer: Some(after.image()),
        before: Some(before.image()),
        changed_paths: vec!["display_name".into()],
    };
    tx.emit_changed(&after, &event, &event.changed_paths)?;
    Ok(after)
}

impl Row {
    fn apply(self, gadget: &mut Gadget) {
        if let Some(name) = self.name {
            gadget.display_name = name;
        }
        if let Some(note) = self.note {
            gadget.note = note;
        }
        for (key, value) in self.attributes {
            match value {
                Some(value) => gadget.attributes.insert(key, value),
                None => gadget.attributes.remove(&key),
            };
        }
    }
}

impl Gadget {
    fn image(&self) -> pb::Customer {
        pb::Customer {
            id: self.id.to_string(),
            etag: self.version.to_string(),
            display_name: self.display_name.clone(),
            attributes: Some(to_struct(&self.attributes)),
            ..pb::Customer::default()
        }
    }
}
