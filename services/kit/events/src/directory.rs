//! What every service keeps of identity: users and units, which record scope follows.
use rapport_proto::identity::v1 as pb;
use serde_json::json;

use crate::{
    Reactions,
    copies::{Copies, Facts},
};

const USERS: Copies = Copies {
    name: "copy-users",
    table: "directory_users",
    columns: "display_name, unit_id, state",
    afterwards: None,
};

const UNITS: Copies = Copies {
    name: "copy-units",
    table: "directory_units",
    columns: "display_name, parent_id",
    afterwards: Some("rapport.place_units"),
};

/// Keeps users and units.
pub fn directory() -> Reactions {
    Reactions::to("identity")
        .keep(USERS, |event: &pb::UserInvited| event.user.as_ref().map(user))
        .keep(USERS, |event: &pb::UserUpdated| event.user.as_ref().map(user))
        .keep(UNITS, |event: &pb::UnitCreated| event.unit.as_ref().map(unit))
        .keep(UNITS, |event: &pb::UnitUpdated| event.unit.as_ref().map(unit))
        .keep(UNITS, |_: &pb::UnitDeleted| None)
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
