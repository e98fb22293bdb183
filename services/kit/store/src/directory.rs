//! Users and units, as identity last said.
use std::time::Duration;

use moka::sync::Cache;
use rapport_kernel::Error;
use uuid::Uuid;

use crate::{TenantTx, error::database};

/// So long does a record that is made go to the unit that its owner was in.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Users' units that were looked up, by tenant and user.
#[derive(Clone, Debug)]
pub(crate) struct Units(Cache<(Uuid, Uuid), Option<Uuid>>);

impl Default for Units {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(10_000).time_to_live(REMEMBERED).build())
    }
}

impl TenantTx {
    /// The unit that a user of the tenant works in, as of two seconds ago at most.
    pub async fn unit_of(&mut self, user: Uuid) -> Result<Option<Uuid>, Error> {
        let tenant = self.tenant();
        if let Some(known) = self.db().units().0.get(&(tenant, user)) {
            return Ok(known);
        }
        let unit: Option<Option<Uuid>> =
            sqlx::query_scalar("SELECT unit_id FROM directory_users WHERE tenant_id = $1 AND id = $2")
                .bind(tenant)
                .bind(user)
                .fetch_optional(self.conn().await?)
                .await
                .map_err(database)?;
        let unit = unit.flatten();
        self.db().units().0.insert((tenant, user), unit);
        Ok(unit)
    }
}
