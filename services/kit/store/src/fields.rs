//! Custom fields: what a tenant adds to a resource at run time.
mod apply;
mod definition;
mod indexing;
mod manage;
mod value;

use std::collections::BTreeMap;

use rapport_kernel::{Error, FieldRights};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{error::database, mask};

pub use apply::{create as apply_new, in_use, shown, update as apply_change};
pub(crate) use definition::Access;
pub use definition::{Choice, Definition, FieldKind, FieldState};
pub use indexing::build_indexes;
pub use manage::{create, delete, get, list, undelete, update};
pub use value::from_text;

/// A tenant's custom fields of one service, as of a version.
#[derive(Debug, Default)]
pub struct TenantFields {
    /// Grows with each change of a definition.
    pub(crate) version: i64,
    by_resource: BTreeMap<String, Vec<Definition>>,
}

impl TenantFields {
    /// Reads the fields in use and their version. The connection is in a transaction that sees both at one moment.
    pub(crate) async fn read(conn: &mut PgConnection, tenant: Uuid) -> Result<Self, Error> {
        let version = sqlx::query_scalar("SELECT rapport.fields_version($1)")
            .bind(tenant)
            .fetch_one(&mut *conn)
            .await
            .map_err(database)?;
        let fields: Vec<Definition> = sqlx::query_as(
            "SELECT id, version, resource, key, kind, labels, help, scale, required, is_unique, indexed, default_value,
               choices, reference_kind, personal, state, create_time, update_time
             FROM custom_fields WHERE tenant_id = $1 AND state <> 'archived' ORDER BY key",
        )
        .bind(tenant)
        .fetch_all(conn)
        .await
        .map_err(database)?;
        let mut by_resource = BTreeMap::<String, Vec<Definition>>::new();
        for field in fields {
            by_resource.entry(field.resource.clone()).or_default().push(field);
        }
        Ok(Self { version, by_resource })
    }

    /// The same fields under another version.
    pub(crate) fn at(&self, version: i64) -> Self {
        Self { version, by_resource: self.by_resource.clone() }
    }

    /// The same fields, each with what a caller with these rights may do with it; `None` when that is everything.
    ///
    /// Rights name kinds (`customer.customer`), definitions the resource (`customer`), which is the kind's last word.
    pub(crate) fn seen_by(&self, rights: &FieldRights) -> Option<Self> {
        let kinds = || rights.hidden.keys().chain(rights.locked.keys());
        let resource =
            |kind: &str| kind.rsplit('.').next().and_then(|name| self.by_resource.get_key_value(name));
        kinds().find_map(|kind| resource(kind))?;
        let mut fields = self.at(self.version);
        for kind in kinds() {
            let Some(fields) = kind.rsplit('.').next().and_then(|name| fields.by_resource.get_mut(name))
            else {
                continue;
            };
            for field in fields {
                let path = format!("attributes.{}", field.key);
                if !mask::may_read(rights, kind, &path) {
                    field.access = Access::Hidden;
                } else if !mask::may_write(rights, kind, &path) && field.access == Access::Full {
                    field.access = Access::Locked;
                }
            }
        }
        Some(fields)
    }

    /// The fields of one resource, in the order of their keys.
    pub(crate) fn of(&self, resource: &str) -> &[Definition] {
        self.by_resource.get(resource).map(Vec::as_slice).unwrap_or_default()
    }
}
