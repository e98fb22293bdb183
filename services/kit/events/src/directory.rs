//! What every service keeps of identity: users and units, which record scope follows; and of tenants, whether they are served
//! and how long their events are kept.
use rapport_kernel::Error;
use rapport_proto::identity::v1 as pb;
use rapport_store::{TenantTx, database};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Event, Reactions, Verdict,
    copies::{Copies, Facts, Table},
};

const USERS: Table = Table {
    name: "copy-users",
    resource: "user",
    table: "directory_users",
    columns: "display_name, unit_id, state",
    afterwards: None,
};

const UNITS: Table = Table {
    name: "copy-units",
    resource: "unit",
    table: "directory_units",
    columns: "display_name, parent_id",
    afterwards: Some("rapport.place_units"),
};

/// Keeps users and units, and follows the directory of tenants.
pub fn directory() -> Reactions {
    let users = Copies::new(USERS, user)
        .told_by(|event: &pb::UserInvited| event.user.as_ref())
        .told_by(|event: &pb::UserUpdated| event.user.as_ref());
    let units = Copies::new(UNITS, unit)
        .told_by(|event: &pb::UnitCreated| event.unit.as_ref())
        .told_by(|event: &pb::UnitUpdated| event.unit.as_ref())
        .gone_by::<pb::UnitDeleted>();
    Reactions::to("identity")
        .keep(users)
        .keep(units)
        .on("follow-tenants", |tx, event: &Event<pb::TenantCreated>| {
            Box::pin(follow(tx, event.tenant.as_ref()))
        })
        .on("follow-tenants", |tx, event: &Event<pb::TenantUpdated>| {
            Box::pin(follow(tx, event.tenant.as_ref()))
        })
}

/// Notes a tenant's state, which is so refused within a second when it is suspended, and its retention class.
async fn follow(tx: &mut TenantTx, tenant: Option<&pb::Tenant>) -> Result<Verdict, Error> {
    let Some(tenant) = tenant else { return Err(Error::internal("an event without its tenant")) };
    let lower = |name: &str, prefix| name.trim_start_matches(prefix).to_ascii_lowercase();
    let id: Uuid = tenant.id.parse().map_err(Error::internal)?;
    // Events of a time that knew no classes say none.
    let retention = Some(tenant.log_retention()).filter(|said| *said != pb::LogRetention::Unspecified);
    let retention = retention.unwrap_or(pb::LogRetention::Standard);
    sqlx::query("SELECT rapport.learn($1, $2, $3), rapport.file_tenant($1, $4)")
        .bind(id)
        .bind(lower(tenant.state().as_str_name(), "TENANT_STATE_"))
        .bind(tenant.generation)
        .bind(lower(retention.as_str_name(), "LOG_RETENTION_"))
        .execute(tx.conn().await?)
        .await
        .map(|_| Verdict::Done)
        .map_err(database)
}

fn user(user: &pb::User) -> Facts {
    json!({
        "display_name": user.display_name,
        "unit_id": id(&user.unit),
        "state": user.state().as_str_name().trim_start_matches("USER_STATE_").to_ascii_lowercase(),
    })
}

fn unit(unit: &pb::Unit) -> Facts {
    json!({"display_name": unit.display_name, "parent_id": id(&unit.parent)})
}

/// The id in a record's name.
fn id(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(_, id)| id)
}
