//! Who hears of which events: declared by resource, as reading is.
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use futures::future::BoxFuture;
use rapport_filter::{Catalogue, Field};
use rapport_kernel::{Ctx, Error, RecordName};
use rapport_store::{Resource, TenantTx, message_of};
use uuid::Uuid;

use super::record;
use crate::log::Line;

/// The records among these that the caller sees; `None` when it is all there are.
type Visible = Option<HashSet<Uuid>>;
/// The fields of a resource that the caller may use in conditions.
type Fields = fn(&TenantTx) -> Catalogue;
type Look = for<'a> fn(&'a mut TenantTx, &'a [Uuid]) -> BoxFuture<'a, Result<Visible, Error>>;

/// What a service's events are about, and who hears of it.
#[derive(Clone, Debug)]
pub struct Audience {
    service: &'static str,
    by_resource: BTreeMap<&'static str, Told>,
}

/// Who hears of a resource's events.
#[derive(Clone)]
struct Told {
    kind: &'static str,
    /// What its records' names begin with.
    named: String,
    permission: &'static str,
    look: Option<Look>,
    fields: Fields,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("kind", &self.kind).field("permission", &self.permission).finish()
    }
}

impl Audience {
    /// Of the events of `service`, of which nobody hears yet.
    pub const fn of(service: &'static str) -> Self {
        Self { service, by_resource: BTreeMap::new() }
    }

    /// Whoever sees a record of `R` hears of its events.
    #[must_use]
    pub fn seers_of<R: Resource>(mut self) -> Self {
        let look: Look = |tx, ids| Box::pin(tx.visible::<R>(ids));
        let look = R::OWNER.map(|_| look);
        self.tell::<R>(R::READ, look);
        self
    }

    /// Whoever has this permission hears of all events of `R`.
    #[must_use]
    pub fn holders_of<R: Resource>(mut self, permission: &'static str) -> Self {
        self.tell::<R>(permission, None);
        self
    }

    fn tell<R: Resource>(&mut self, permission: &'static str, look: Option<Look>) {
        // What every service has of the kit's (`*.field`) is named by the service.
        let named = match R::KIND.strip_prefix("kit.") {
            Some(resource) => format!("{}.{resource}", self.service),
            None => R::KIND.to_owned(),
        };
        let fields: Fields = |tx| tx.catalogue::<R>();
        self.by_resource.insert(R::NAME, Told { kind: R::KIND, named, permission, look, fields });
    }

    /// The service.
    pub(crate) const fn service(&self) -> &'static str {
        self.service
    }

    /// The name of the record that a line is about.
    pub(crate) fn record(&self, line: &Line) -> String {
        match self.by_resource.get(line.resource.as_str()) {
            Some(told) => RecordName::new(told.named.as_str(), line.record_id).to_string(),
            None => {
                RecordName::new(format!("{}.{}", self.service, line.resource), line.record_id).to_string()
            }
        }
    }

    /// The kind of a resource's records; `None` when there is no such resource here.
    pub(crate) fn kind(&self, resource: &str) -> Option<&'static str> {
        self.by_resource.get(resource).map(|told| told.kind)
    }

    /// The resource whose records are named so, and whether a caller may see only a part of them.
    pub(crate) fn scoped_by_name(&self, ctx: &Ctx, name: &RecordName) -> Option<&'static str> {
        let (resource, told) = self.by_resource.iter().find(|(_, told)| told.named == name.kind())?;
        let all = ctx.grants.scope(told.permission) == Some(rapport_kernel::Scope::All);
        (told.look.is_some() && !all).then_some(*resource)
    }

    /// The resources, sorted.
    pub(crate) fn resources(&self) -> Vec<&'static str> {
        self.by_resource.keys().copied().collect()
    }

    /// The fields of the records that the caller may hear of, each behind its resource: `customer.status`.
    pub(crate) fn fields(&self, tx: &TenantTx) -> Vec<Field> {
        let mut fields = Vec::new();
        for (resource, told) in &self.by_resource {
            let Some(message) = message_of(told.kind) else { continue };
            if tx.ctx().grants.scope(told.permission).is_none() {
                continue;
            }
            let of_record = (told.fields)(tx);
            let told = of_record.fields().filter(|field| record::has(&message, &field.name));
            fields.extend(
                told.map(|field| Field { name: format!("{resource}.{}", field.name), ..Field::clone(field) }),
            );
        }
        fields
    }

    /// Whether the caller may hear of such an event at all, whichever record it is about.
    pub(crate) fn hears(&self, ctx: &Ctx, line: &Line) -> bool {
        let Some(told) = self.by_resource.get(line.resource.as_str()) else { return false };
        let permission = rapport_proto::hearing(&line.r#type).unwrap_or(told.permission);
        ctx.grants.scope(permission).is_some()
    }

    /// Whether what the caller sees of such an event's records is a part of them.
    pub(crate) fn is_scoped(&self, ctx: &Ctx, line: &Line) -> bool {
        let told = self.by_resource.get(line.resource.as_str());
        told.is_some_and(|told| {
            told.look.is_some() && ctx.grants.scope(told.permission) != Some(rapport_kernel::Scope::All)
        })
    }

    /// The records of a resource among these that the caller sees; `None` when it is all there are.
    pub(crate) async fn visible(
        &self,
        tx: &mut TenantTx,
        resource: &str,
        ids: &[Uuid],
    ) -> Result<Visible, Error> {
        match self.by_resource.get(resource).and_then(|told| told.look) {
            Some(look) => look(tx, ids).await,
            None => Ok(None),
        }
    }
}
