//! Bringing customers in from files: what columns can mean, and what rows become.
mod targets;

use std::sync::Arc;

use prost_types::{FieldMask, Struct};
use rapport_import::{EXTERNAL_ID, ExistingPolicy, Importable, Outcome, Problem, Target, Undo, Written};
use rapport_kernel::{Ctx, Error};
use rapport_proto::customer::v1 as pb;
use rapport_store::{
    ExternalId, Resource as _, TenantTx,
    fields::{Definition, from_text},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Customer,
    batch::{self, Op},
};
use targets::Meaning;

/// Customers, as imports write them.
#[derive(Clone, Copy, Debug, Default)]
pub struct CustomerImports;

/// What each mapped target means, and what an update overwrites.
pub struct Plan {
    meanings: Vec<Meaning>,
    /// Whether a column gives names; else new customers are called by their external id.
    named: bool,
    paths: Arc<FieldMask>,
}

/// A row that was read.
pub struct Row {
    external_id: Option<String>,
    sent: pb::Customer,
    paths: Arc<FieldMask>,
}

impl Importable for CustomerImports {
    type Plan = Plan;
    type Row = Row;

    fn resource(&self) -> &'static str {
        Customer::NAME
    }

    fn targets(&self, tx: &TenantTx) -> Vec<Target> {
        targets::all(tx.ctx(), tx.custom_fields::<Customer>())
    }

    fn plan(&self, tx: &TenantTx, names: &[&str]) -> Result<Plan, Error> {
        let fields: &[Definition] = tx.custom_fields::<Customer>();
        let meanings = names
            .iter()
            .map(|name| {
                Meaning::of(name, fields)
                    .ok_or_else(|| Error::invalid("mappings", format!("there is no field `{name}` any more")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let named = meanings.iter().any(|m| matches!(m, Meaning::Compiled("display_name")));
        let keyed = meanings.iter().any(|m| matches!(m, Meaning::ExternalId));
        if !named && !keyed {
            return Err(Error::invalid(
                "mappings",
                "need a column for `display_name`, or one for `external_id`",
            ));
        }
        let mut paths: Vec<String> = meanings.iter().filter_map(Meaning::path).collect();
        paths.sort();
        paths.dedup();
        Ok(Plan { meanings, named, paths: Arc::new(FieldMask { paths }) })
    }

    fn read(&self, _: &Ctx, plan: &Plan, values: &[&str]) -> Result<Row, Vec<Problem>> {
        let mut row = Row { external_id: None, sent: pb::Customer::default(), paths: plan.paths.clone() };
        let mut attributes = Struct::default();
        let mut problems = Vec::new();
        for (meaning, value) in plan.meanings.iter().zip(values) {
            let value = value.trim();
            match meaning {
                Meaning::ExternalId if value.is_empty() => {
                    problems.push(Problem::new(EXTERNAL_ID, "must not be empty"))
                }
                Meaning::ExternalId => row.external_id = Some(value.to_owned()),
                Meaning::Custom(field) if !value.is_empty() => {
                    attributes.fields.insert(field.key.clone(), from_text(field, value));
                }
                Meaning::Custom(_) => {}
                Meaning::Compiled(name) => {
                    if let Err(problem) = targets::set(&mut row.sent, name, value) {
                        problems.push(Problem::new(*name, problem));
                    }
                }
            }
        }
        row.sent.attributes = Some(attributes);
        if !plan.named {
            row.sent.display_name = row.external_id.clone().unwrap_or_default();
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
        let key = |id: &String| ExternalId { source: source.to_owned(), external_id: id.clone() };
        let keys: Vec<ExternalId> = rows.iter().filter_map(|row| row.external_id.as_ref().map(key)).collect();
        let known = match existing {
            ExistingPolicy::Skip => tx.by_external_ids::<Customer>(&keys).await?,
            ExistingPolicy::Update => std::collections::BTreeMap::new(),
        };
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(rows.len());
        let mut ops = Vec::with_capacity(rows.len());
        for row in rows {
            let key = row.external_id.as_ref().map(key);
            if let Some(id) = key.as_ref().and_then(|key| known.get(key)) {
                outcomes.push(Some(Outcome::Unchanged { id: *id }));
                continue;
            }
            outcomes.push(None);
            ops.push(match key {
                Some(key) => Op::Upsert(key, row.sent, Some((*row.paths).clone())),
                None => Op::Create(row.sent),
            });
        }
        let mut results = batch::apply(tx, ops).await?.into_iter();
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Some(skipped) => Ok(skipped),
                None => outcome_of(results.next().ok_or_else(|| Error::internal("a row without a result"))?),
            })
            .collect()
    }

    async fn undo(&self, tx: &mut TenantTx, entries: Vec<Written>) -> Result<Vec<Undo>, Error> {
        let ids: Vec<Uuid> = entries.iter().map(|entry| entry.id).collect();
        let held = tx.lock_many::<Customer>(&ids).await?;
        let mut undone = Vec::with_capacity(entries.len());
        for entry in entries {
            let current = held.iter().map(|held| &held.record).find(|customer| customer.uuid() == entry.id);
            let current = current.filter(|c| c.version == entry.version && c.delete_time.is_none());
            undone.push(match current {
                None => Undo::Kept,
                Some(current) => undo_one(tx, current, entry.before).await?,
            });
        }
        Ok(undone)
    }
}

/// What the result of a change says about its row.
fn outcome_of(result: Result<(Option<Customer>, Customer), Error>) -> Result<Outcome, Error> {
    Ok(match result {
        Ok((None, after)) => Outcome::Created { id: after.uuid(), version: after.version },
        Ok((Some(before), after)) if before == after => Outcome::Unchanged { id: after.uuid() },
        // As text: JSON numbers of `Value` are floats, which would not give every digit back.
        Ok((Some(before), after)) => Outcome::Updated {
            id: after.uuid(),
            version: after.version,
            before: Value::String(serde_json::to_string(&before).map_err(Error::internal)?),
        },
        Err(error @ (Error::Internal(_) | Error::Unavailable(_))) => return Err(error),
        Err(error) => Outcome::Rejected(
            Problem::of(&error)
                .into_iter()
                .map(|p| Problem {
                    target: p.target.strip_prefix("customer.").unwrap_or(&p.target).to_owned(),
                    ..p
                })
                .collect(),
        ),
    })
}

/// Deletes what was created; gives what was changed its values back, unless they belong to another customer by now.
async fn undo_one(tx: &mut TenantTx, current: &Customer, before: Option<Value>) -> Result<Undo, Error> {
    let ctx = tx.ctx().clone();
    let wanted = match before {
        None => Customer { delete_time: Some(ctx.now()), ..current.clone() },
        Some(Value::String(text)) => {
            let before: Customer = serde_json::from_str(&text).map_err(Error::internal)?;
            Customer { version: current.version, update_time: current.update_time, ..before }
        }
        Some(_) => return Err(Error::internal("what an import overwrote was not kept as text")),
    };
    let after = current.followed_by(&ctx, wanted);
    if tx.conflicts(&[&after], &[]).await?.into_iter().flatten().next().is_some() {
        return Ok(Undo::Kept);
    }
    batch::save(tx, current, &after)?;
    Ok(Undo::Undone)
}
