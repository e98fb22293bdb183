//! Units: the tree.
use rapport_proto::identity::v1 as pb;
use tonic::Code;

use crate::{
    caller::{Caller, mask, reason, refusal},
    world::{World, new_id},
};

async fn create(caller: &Caller, name: &str, parent: &str) -> Result<pb::Unit, tonic::Status> {
    let parent = if parent.is_empty() { String::new() } else { format!("identity.unit/{parent}") };
    let unit = pb::Unit { display_name: name.into(), parent, ..Default::default() };
    let request = pb::CreateUnitRequest { unit: Some(unit), ..Default::default() };
    Ok(caller.units().create_unit(request).await?.into_inner())
}

async fn place(caller: &Caller, id: &str, parent: &str) -> Result<pb::Unit, tonic::Status> {
    let unit = pb::Unit { id: id.into(), parent: parent.into(), ..Default::default() };
    let request = pb::UpdateUnitRequest {
        unit: Some(unit),
        update_mask: Some(mask(&["parent"])),
        ..Default::default()
    };
    Ok(caller.units().update_unit(request).await?.into_inner())
}

async fn delete(caller: &Caller, id: &str) -> Result<pb::Unit, tonic::Status> {
    let request = pb::DeleteUnitRequest { id: id.into(), ..Default::default() };
    Ok(caller.units().delete_unit(request).await?.into_inner())
}

#[tokio::test]
async fn a_unit_is_created_renamed_moved_and_deleted_and_each_is_told() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let before = world.events(acme.id).await.len();
    let east = create(&admin, "华东", "").await.unwrap();
    let shanghai = create(&admin, "上海", &east.id).await.unwrap();
    assert_eq!(shanghai.parent, format!("identity.unit/{}", east.id));
    let renamed =
        pb::Unit { display_name: "上海分公司".into(), parent: String::new(), ..shanghai.clone() };
    let request = pb::UpdateUnitRequest {
        unit: Some(renamed),
        update_mask: Some(mask(&["display_name", "parent"])),
        ..Default::default()
    };
    let moved = admin.units().update_unit(request).await.unwrap().into_inner();
    assert_eq!(
        (moved.display_name.as_str(), moved.parent.as_str(), moved.etag.as_str()),
        ("上海分公司", "", "2")
    );
    assert_eq!(delete(&admin, &shanghai.id).await.unwrap(), moved);
    let gone = admin.units().get_unit(pb::GetUnitRequest { id: shanghai.id.clone() }).await;
    assert_eq!(reason(gone), "NOT_FOUND");

    let events = acme.events_since(before).await;
    let told: Vec<_> = events.iter().map(|event| (event.subject.as_str(), event.version)).collect();
    assert_eq!(
        told,
        [("unit.created.v1", 1), ("unit.created.v1", 1), ("unit.updated.v1", 2), ("unit.deleted.v1", 3)]
    );
    assert_eq!(events[2].changed_paths, ["display_name", "parent"]);
    let updated: pb::UnitUpdated = events[2].message();
    assert_eq!(
        updated.before,
        Some(pb::Unit { display_name: "上海".into(), parent: shanghai.parent, ..Default::default() })
    );
}

#[tokio::test]
async fn the_tree_has_no_cycle_and_twenty_levels_at_most() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let mut chain = vec![create(&admin, "1", "").await.unwrap().id];
    for level in 2..=20 {
        let above = chain.last().unwrap().clone();
        chain.push(create(&admin, &level.to_string(), &above).await.unwrap().id);
    }
    assert_eq!(reason(create(&admin, "21", &chain[19]).await), "UNIT_TOO_DEEP");
    assert_eq!(reason(place(&admin, &chain[0], &chain[19]).await), "UNIT_CYCLE");
    assert_eq!(reason(place(&admin, &chain[5], &chain[5]).await), "UNIT_CYCLE");
    let other = create(&admin, "other", "").await.unwrap().id;
    assert_eq!(reason(place(&admin, &chain[0], &other).await), "UNIT_TOO_DEEP");
    place(&admin, &chain[1], &other).await.unwrap();
    let missing = refusal(create(&admin, "x", &new_id().to_string()).await);
    assert_eq!(missing.0, Code::InvalidArgument);
}

#[tokio::test]
async fn two_moves_at_the_same_time_make_no_cycle() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let (a, b) = (create(&admin, "a", "").await.unwrap().id, create(&admin, "b", "").await.unwrap().id);
    // Each goes below the other's child: no row is touched by both.
    let below_a = create(&admin, "below a", &a).await.unwrap().id;
    let below_b = create(&admin, "below b", &b).await.unwrap().id;
    let (one, two) = acme.at_once(place(&admin, &a, &below_b), place(&admin, &b, &below_a)).await;
    assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn names_are_unique_below_one_parent() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let east = create(&admin, "East", "").await.unwrap().id;
    assert_eq!(reason(create(&admin, "East", "").await), "ALREADY_EXISTS");
    let inner = create(&admin, "East", &east).await.unwrap().id;
    assert_eq!(reason(place(&admin, &inner, "").await), "ALREADY_EXISTS");
}

#[tokio::test]
async fn a_unit_with_units_or_people_stays() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let east = create(&admin, "East", "").await.unwrap().id;
    let inner = create(&admin, "Inner", &east).await.unwrap().id;
    assert_eq!(reason(delete(&admin, &east).await), "UNIT_NOT_EMPTY");
    let user = pb::User { unit: inner.clone(), ..acme.user("li", &[]) };
    let request = pb::InviteUserRequest { user: Some(user), ..Default::default() };
    let li = admin.users().invite_user(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!(
        refusal(delete(&admin, &inner).await).2,
        "the unit still has 0 units below it and 1 people in it; move them first"
    );
    admin.update_user(pb::User { unit: String::new(), ..li }, &["unit"]).await.unwrap();
    delete(&admin, &inner).await.unwrap();
    delete(&admin, &east).await.unwrap();
}

#[tokio::test]
async fn units_are_filtered_by_their_parent() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let east = create(&admin, "East", "").await.unwrap().id;
    for name in ["b", "a", "c"] {
        create(&admin, name, &east).await.unwrap();
    }
    let request = pb::ListUnitsRequest {
        filter: format!("parent == \"{east}\""),
        order_by: "display_name".into(),
        ..Default::default()
    };
    let units = admin.units().list_units(request).await.unwrap().into_inner().units;
    assert_eq!(units.into_iter().map(|unit| unit.display_name).collect::<Vec<_>>(), ["a", "b", "c"]);
    let request = pb::ListUnitsRequest { filter: "!has(parent)".into(), ..Default::default() };
    assert_eq!(admin.units().list_units(request).await.unwrap().into_inner().units.len(), 1);
}
