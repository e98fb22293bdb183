//! What every service keeps of identity: users and units, which record scope follows.
use rapport_proto::identity::v1 as pb;
use serde_json::json;

use crate::{
    Reactions,
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

/// Keeps users and units.
pub fn directory() -> Reactions {
    let users = Copies::new(USERS, user)
        .told_by(|event: &pb::UserInvited| event.user.as_ref())
        .told_by(|event: &pb::UserUpdated| event.user.as_ref());
    let units = Copies::new(UNITS, unit)
        .told_by(|event: &pb::UnitCreated| event.unit.as_ref())
        .told_by(|event: &pb::UnitUpdated| event.unit.as_ref())
        .gone_by::<pb::UnitDeleted>();
    Reactions::to("identity").keep(users).keep(units)
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
