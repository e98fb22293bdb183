//! Writing customers: one or a thousand, by the same path and in the same statements.
use std::collections::{BTreeMap, BTreeSet};

use prost_types::FieldMask;
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::{customer::v1 as pb, r#type::v1 as types};
use rapport_store::{Etag, ExternalId, Held, Resource as _, TenantTx, diff, mask};
use uuid::Uuid;

use super::{Customer, store};

/// One change, as sent.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Creates.
    Create(pb::Customer),
    /// Changes.
    Update(pb::Customer, Option<FieldMask>),
    /// Creates, or changes the one with this key in another system.
    Upsert(ExternalId, pb::Customer, Option<FieldMask>),
    /// Deletes, if it still has the etag.
    Delete(String, String),
}

/// The permission that each kind of change needs.
impl Op {
    const fn permission(&self) -> &'static str {
        match self {
            Self::Create(_) => "customer.customers.create",
            Self::Update(..) | Self::Upsert(..) => "customer.customers.update",
            Self::Delete(..) => "customer.customers.delete",
        }
    }

    /// The id that the caller chose for a new customer.
    fn chosen_id(&self) -> Option<Uuid> {
        match self {
            Self::Create(sent) | Self::Upsert(_, sent, _) => sent.id.parse().ok(),
            Self::Update(..) | Self::Delete(..) => None,
        }
    }
}

/// What a change comes to, before anything is written.
enum Plan {
    Create(Box<Customer>),
    Change { before: Box<Customer>, after: Box<Customer> },
}

impl Plan {
    /// What it would write, if it writes anything.
    fn written(&self) -> Option<&Customer> {
        match self {
            Self::Create(after) => Some(after),
            Self::Change { before, after } => (before != after).then_some(after),
        }
    }
}

/// The result of each change, in order: the customer before (if there was one) and after, or why it was refused.
pub(super) type Results = Vec<Result<(Option<Customer>, Customer), Error>>;

/// Makes each change as if it came alone; one that fails does not stop the others. Everything is collected into `tx`.
pub(super) async fn apply(tx: &mut TenantTx, ops: Vec<Op>) -> Result<Results, Error> {
    let keys: Vec<ExternalId> = ops
        .iter()
        .filter_map(|op| if let Op::Upsert(key, ..) = op { Some(key.clone()) } else { None })
        .collect();
    let known = tx.by_external_ids::<Customer>(&keys).await?;
    let chosen: Vec<Uuid> = ops.iter().filter_map(Op::chosen_id).collect();
    let targets: BTreeSet<Uuid> = ops.iter().filter_map(|op| target(op, &known)).collect();
    let held: BTreeMap<Uuid, Held<Customer>> = tx
        .lock_many::<Customer>(&targets.into_iter().collect::<Vec<_>>())
        .await?
        .into_iter()
        .map(|held| (held.record.uuid(), held))
        .collect();

    let mut seen = BTreeSet::new();
    let mut plans: Vec<Result<Plan, Error>> = Vec::with_capacity(ops.len());
    for op in ops {
        let target = target(&op, &known);
        plans.push(match target {
            Some(id) if !seen.insert(id) => Err(Error::invalid(
                "customer.id",
                "stands twice in this batch; change it once, with all its fields",
            )),
            _ => plan(tx, op, target.and_then(|id| held.get(&id)), target),
        });
    }
    place(tx, &mut plans).await?;
    refuse_taken(tx, &mut plans, &chosen).await?;
    begin_again_after_races(tx, &plans, &keys).await?;
    // A refusal stays with its change; a fault while collecting stops the whole.
    let mut results = Vec::with_capacity(plans.len());
    for plan in plans {
        results.push(match plan {
            Ok(plan) => Ok(collect(tx, plan)?),
            Err(refusal) => Err(refusal),
        });
    }
    Ok(results)
}

/// A new customer belongs to its owner's unit, unless another one is named.
async fn place(tx: &mut TenantTx, plans: &mut [Result<Plan, Error>]) -> Result<(), Error> {
    for plan in plans.iter_mut().flatten() {
        if let Plan::Create(customer) = plan
            && customer.unit_id.is_none()
            && let Some(owner) = customer.owner_id
        {
            customer.unit_id = tx.unit_of(owner.uuid()).await?.map(Id::new);
        }
    }
    Ok(())
}

/// Which existing customer a change is about.
fn target(op: &Op, known: &BTreeMap<ExternalId, Uuid>) -> Option<Uuid> {
    match op {
        Op::Create(_) => None,
        Op::Update(sent, _) => Some(sent.id.parse().unwrap_or_default()),
        Op::Upsert(key, ..) => known.get(key).copied(),
        Op::Delete(id, _) => Some(id.parse().unwrap_or_default()),
    }
}

fn plan(tx: &TenantTx, op: Op, held: Option<&Held<Customer>>, target: Option<Uuid>) -> Result<Plan, Error> {
    let ctx = tx.ctx().permit(op.permission())?;
    match (op, target) {
        (Op::Create(sent), _) => create(tx, &ctx, &sent),
        (Op::Upsert(key, mut sent, update_mask), None) => {
            let ctx = ctx.permit("customer.customers.create")?;
            // What it names is for the customer that exists, but a slip in it is one today already.
            mask::check::<pb::Customer>(&ctx, Customer::KIND, update_mask.as_ref())?;
            sent.external_ids.retain(|id| id.source != key.source);
            sent.external_ids.push(types::ExternalId { source: key.source, external_id: key.external_id });
            create(tx, &ctx, &sent)
        }
        (Op::Update(sent, update_mask), _) => {
            Id::<Customer>::parse("customer.id", &sent.id)?;
            change(tx, &ctx, held, &sent, update_mask.as_ref())
        }
        (Op::Upsert(key, mut sent, update_mask), Some(id)) => {
            sent.id = id.to_string();
            change(tx, &ctx, held, &sent, update_mask.as_ref()).map_err(|error| match error {
                // In the words of the caller, who learns no id of what is out of sight.
                Error::NotFound { resource, .. } => {
                    Error::not_found(resource, format!("{}/{}", key.source, key.external_id))
                }
                error => error,
            })
        }
        (Op::Delete(id, etag), _) => {
            Id::<Customer>::parse("id", &id)?;
            delete(&ctx, held, &id, &etag)
        }
    }
}

fn create(tx: &TenantTx, ctx: &Ctx, sent: &pb::Customer) -> Result<Plan, Error> {
    // What the caller may not write is refused, not dropped.
    if !ctx.field_rights.is_empty() {
        mask::paths(ctx, Customer::KIND, sent, None)?;
    }
    let customer = Customer::create(ctx, tx.custom_fields::<Customer>(), sent)
        .map_err(|error| error.within("customer"))?;
    if customer.owner_id.map(Id::uuid) != ctx.user() {
        may_assign(ctx)?;
    }
    Ok(Plan::Create(Box::new(customer)))
}

fn change(
    tx: &TenantTx,
    ctx: &Ctx,
    held: Option<&Held<Customer>>,
    sent: &pb::Customer,
    update_mask: Option<&FieldMask>,
) -> Result<Plan, Error> {
    let before = live(ctx, held, &sent.id)?;
    Etag::parse("customer.etag", &sent.etag)?.matches(before)?;
    let paths = mask::paths(ctx, Customer::KIND, sent, update_mask)?;
    let after =
        before.change(ctx, tx.custom_fields::<Customer>(), sent, &paths).map_err(|error| match error {
            Error::Invalid(ref violations) if violations.iter().any(|v| v.field == "update_mask") => error,
            error => error.within("customer"),
        })?;
    if after.owner_id != before.owner_id {
        may_assign(ctx)?;
    }
    Ok(Plan::Change { before: Box::new(before.clone()), after: Box::new(after) })
}

fn delete(ctx: &Ctx, held: Option<&Held<Customer>>, id: &str, etag: &str) -> Result<Plan, Error> {
    let before = live(ctx, held, id)?;
    Etag::parse("etag", etag)?.matches(before)?;
    let after = before.followed_by(ctx, Customer { delete_time: Some(ctx.now()), ..before.clone() });
    Ok(Plan::Change { before: Box::new(before.clone()), after: Box::new(after) })
}

/// The customer to change, if the caller sees it, may change it, and it was not deleted.
fn live<'h>(ctx: &Ctx, held: Option<&'h Held<Customer>>, id: &str) -> Result<&'h Customer, Error> {
    let held = held.filter(|held| held.record.delete_time.is_none());
    let held = held.ok_or_else(|| Error::not_found(Customer::NAME, id))?;
    held.may_change(ctx)?;
    Ok(&held.record)
}

/// Giving a customer to somebody else is a right of its own (C15).
fn may_assign(ctx: &Ctx) -> Result<(), Error> {
    ctx.permit("customer.customers.assign").map(drop)
}

/// Refuses the plans that take what belongs to another customer.
async fn refuse_taken(
    tx: &mut TenantTx,
    plans: &mut [Result<Plan, Error>],
    chosen: &[Uuid],
) -> Result<(), Error> {
    let written: Vec<&Customer> = plans.iter().flatten().filter_map(Plan::written).collect();
    let conflicts = tx.conflicts(&written, chosen).await?;
    let writing = plans.iter_mut().filter(|plan| plan.as_ref().is_ok_and(|plan| plan.written().is_some()));
    for (plan, conflict) in writing.zip(conflicts) {
        if let Some(error) = conflict {
            *plan = Err(error);
        }
    }
    Ok(())
}

/// Between the look-up and here somebody else may have made the record that an upsert is about, and with it taken the value of
/// a unique field: it is not refused, then, but changed, which takes a transaction that knows of it.
async fn begin_again_after_races(
    tx: &mut TenantTx,
    plans: &[Result<Plan, Error>],
    keys: &[ExternalId],
) -> Result<(), Error> {
    let refused = plans.iter().any(|plan| matches!(plan, Err(Error::AlreadyExists { .. })));
    if refused && tx.keys_moved::<Customer>(keys).await? { Err(Error::Conflict) } else { Ok(()) }
}

/// Collects what a plan writes, and its event.
fn collect(tx: &mut TenantTx, plan: Plan) -> Result<(Option<Customer>, Customer), Error> {
    match plan {
        Plan::Create(customer) => {
            store::insert(tx, &customer)?;
            let created = pb::CustomerCreated { customer: Some(customer.told(tx)) };
            tx.emit(&*customer, &created)?;
            Ok((None, *customer))
        }
        Plan::Change { before, after } => {
            save(tx, &before, &after)?;
            Ok((Some(*before), *after))
        }
    }
}

/// Collects a changed customer and the event that tells of it; nothing when nothing changed.
pub(super) fn save(tx: &mut TenantTx, before: &Customer, after: &Customer) -> Result<(), Error> {
    if before == after {
        return Ok(());
    }
    store::update(tx, before, after)?;
    let (old, new) = (before.told(tx), after.told(tx));
    let changed = diff(&old, &new);
    match (before.delete_time, after.delete_time) {
        (None, Some(_)) => {
            tx.emit_changed(after, &pb::CustomerDeleted { customer: Some(new) }, &changed.paths)
        }
        (Some(_), None) => {
            tx.emit_changed(after, &pb::CustomerUndeleted { customer: Some(new) }, &changed.paths)
        }
        _ => {
            let paths = changed.paths.clone();
            let event = pb::CustomerUpdated {
                customer: Some(new),
                before: Some(changed.before),
                changed_paths: changed.paths,
            };
            tx.emit_changed(after, &event, &paths)
        }
    }
}
