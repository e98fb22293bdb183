//! Organisational units: the tree that record scope follows.
pub(crate) mod api;
mod store;

use rapport_kernel::{Error, Id, Instant, Kind};
use rapport_proto::identity::v1 as pb;
use rapport_store::{Diff, Etag, Resource, TenantTx, diff, resource::column, resource::column_as, time};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{regional, request};

/// The most levels of the tree.
const LEVELS: usize = 20;

/// A part of the tenant's organisation.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub(crate) struct Unit {
    pub(crate) id: Id<Unit>,
    version: i64,
    display_name: String,
    parent_id: Option<Id<Unit>>,
    create_time: Instant,
    update_time: Instant,
}

impl Kind for Unit {
    const KIND: &'static str = "identity.unit";
}

impl Resource for Unit {
    const NAME: &'static str = "unit";
    const KIND: &'static str = <Self as Kind>::KIND;
    const TABLE: &'static str = "units";
    const COLUMNS: &'static str = "id, version, display_name, parent_id, create_time, update_time";
    const READ: &'static str = "identity.units.read";

    fn fields() -> Vec<rapport_filter::Field> {
        use rapport_filter::Kind::{Id, Instant, Text};
        vec![
            column("display_name", Text).sortable(),
            column_as("parent", Id, "parent_id"),
            column("create_time", Instant).sortable(),
        ]
    }
    fn id(&self) -> Uuid {
        self.id.uuid()
    }
    fn version(&self) -> i64 {
        self.version
    }
}

impl Unit {
    /// A new unit as the contract describes it.
    fn read(unit: &pb::Unit, id: Id<Self>, now: Instant) -> Result<Self, Error> {
        Ok(Self {
            id,
            version: 1,
            display_name: regional::name("unit.display_name", &unit.display_name, 200)?,
            parent_id: parent(unit)?,
            create_time: now,
            update_time: now,
        })
    }

    /// The unit with the fields `paths` as the contract describes them.
    fn with(mut self, unit: &pb::Unit, paths: &[String]) -> Result<Self, Error> {
        for path in paths {
            match path.as_str() {
                "display_name" => {
                    self.display_name = regional::name("unit.display_name", &unit.display_name, 200)?
                }
                "parent" => self.parent_id = parent(unit)?,
                // Output only: what a client sends there is not looked at.
                "id" | "etag" | "create_time" | "update_time" => {}
                other => return Err(request::no_field(other)),
            }
        }
        Ok(self)
    }
}

fn parent(unit: &pb::Unit) -> Result<Option<Id<Unit>>, Error> {
    request::reference("unit.parent", &unit.parent)
}

impl From<Unit> for pb::Unit {
    fn from(unit: Unit) -> Self {
        Self {
            id: unit.id.to_string(),
            etag: unit.version.to_string(),
            display_name: unit.display_name,
            parent: unit.parent_id.map(Id::name).unwrap_or_default(),
            create_time: Some(time::to_proto(unit.create_time)),
            update_time: Some(time::to_proto(unit.update_time)),
        }
    }
}

/// Whether a unit with a tree of `height` levels (itself included) may stand below `above`, the units from its new parent
/// up to the root.
fn may_stand(unit: Id<Unit>, height: usize, above: &[Uuid]) -> Result<(), Error> {
    if above.contains(&unit.uuid()) {
        let problem = "a unit cannot stand below itself or below one that is below it";
        return Err(Error::rule("UNIT_CYCLE", problem));
    }
    let levels = above.len() + height;
    if levels > LEVELS {
        let problem = format!("the tree of units would have {levels} levels; {LEVELS} are allowed");
        return Err(Error::rule("UNIT_TOO_DEEP", problem));
    }
    Ok(())
}

async fn create(tx: &mut TenantTx, unit: Unit) -> Result<Unit, Error> {
    store::hold_tree(tx).await?;
    place(tx, &unit, 1).await?;
    tx.insert(&unit)?;
    tx.emit(&unit, &pb::UnitCreated { unit: Some(unit.clone().into()) })?;
    Ok(unit)
}

async fn update(
    tx: &mut TenantTx,
    id: Id<Unit>,
    etag: Etag,
    unit: &pb::Unit,
    paths: &[String],
) -> Result<Unit, Error> {
    store::hold_tree(tx).await?;
    let before = tx.get_for_update::<Unit>(id.uuid()).await?;
    etag.matches(&before)?;
    let after = before.clone().with(unit, paths)?;
    if after == before {
        return Ok(before);
    }
    let height = if after.parent_id == before.parent_id { 0 } else { store::height(tx, id).await? };
    place(tx, &after, height).await?;
    let after = Unit { version: before.version + 1, update_time: tx.now(), ..after };
    let Diff { paths, before: was } = diff(&pb::Unit::from(before.clone()), &after.clone().into());
    let event =
        pb::UnitUpdated { unit: Some(after.clone().into()), before: Some(was), changed_paths: paths.clone() };
    tx.update(&before, &after)?;
    tx.emit_changed(&after, &event, &paths)?;
    Ok(after)
}

/// Whether the unit may have its name and, with a tree of `height` levels, its place.
async fn place(tx: &mut TenantTx, unit: &Unit, height: usize) -> Result<(), Error> {
    if let Some(parent) = unit.parent_id {
        let above = store::above(tx, parent).await?;
        if above.is_empty() {
            return Err(Error::invalid("unit.parent", format!("there is no unit `{parent}`")));
        }
        may_stand(unit.id, height, &above)?;
    }
    if store::name_is_taken(tx, unit).await? {
        let problem = format!("there is another `{}` below the same parent", unit.display_name);
        return Err(Error::AlreadyExists { resource: "unit".into(), problem });
    }
    Ok(())
}

async fn delete(tx: &mut TenantTx, id: Id<Unit>, etag: Etag) -> Result<Unit, Error> {
    store::hold_tree(tx).await?;
    let unit = tx.get_for_update::<Unit>(id.uuid()).await?;
    etag.matches(&unit)?;
    let (units, people) = store::occupants(tx, id).await?;
    if (units, people) != (0, 0) {
        let problem =
            format!("the unit still has {units} units below it and {people} people in it; move them first");
        return Err(Error::rule("UNIT_NOT_EMPTY", problem));
    }
    store::delete(tx, id)?;
    let gone = Unit { version: unit.version + 1, ..unit.clone() };
    tx.emit(&gone, &pb::UnitDeleted { unit: Some(unit.clone().into()) })?;
    Ok(unit)
}

/// Whether there is such a unit, which then stays until the end of the transaction.
///
/// # Errors
/// `Invalid`, about `field`, when there is none.
pub(crate) async fn must_exist(tx: &mut TenantTx, field: &str, unit: Id<Unit>) -> Result<(), Error> {
    if store::hold(tx, unit).await? {
        return Ok(());
    }
    Err(Error::invalid(field, format!("there is no unit `{unit}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_stands_neither_below_itself_nor_too_deep() {
        let unit = Id::new(Uuid::from_u128(100));
        let above = |count: u128| (0..count).map(Uuid::from_u128).collect::<Vec<_>>();
        assert!(may_stand(unit, 1, &above(19)).is_ok());
        assert_eq!(may_stand(unit, 2, &above(19)).unwrap_err().reason(), "UNIT_TOO_DEEP");
        assert_eq!(may_stand(unit, 1, &above(20)).unwrap_err().reason(), "UNIT_TOO_DEEP");
        assert_eq!(may_stand(unit, 1, &[unit.uuid()]).unwrap_err().reason(), "UNIT_CYCLE");
    }
}
