//! Users: invited, changed, deactivated; and who may do so.
use rapport_proto::identity::v1 as pb;
use tonic::Code;

use crate::{
    caller::{Caller, mask, reason, refusal},
    world::{PASSWORD, Tenant, World, new_id},
};

async fn get(caller: &Caller, id: &str) -> pb::User {
    caller.users().get_user(pb::GetUserRequest { id: id.into() }).await.unwrap().into_inner()
}

async fn invite(
    caller: &Caller,
    user: pb::User,
    request_id: &str,
) -> Result<pb::InviteUserResponse, tonic::Status> {
    let request = pb::InviteUserRequest { user: Some(user), request_id: request_id.into() };
    Ok(caller.users().invite_user(request).await?.into_inner())
}

async fn names(caller: &Caller, filter: &str, order_by: &str) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListUsersRequest {
            filter: filter.into(),
            order_by: order_by.into(),
            page_size: 2,
            page_token,
        };
        let page = caller.users().list_users(request).await.unwrap().into_inner();
        names.extend(page.users.into_iter().map(|user| user.display_name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

/// Somebody who may manage people and nothing else.
async fn clerk(acme: &Tenant<'_>) -> Caller {
    let all = pb::Scope::All;
    let permissions = [
        ("identity.users.manage", all),
        ("identity.users.read", all),
        ("identity.roles.manage", all),
        ("identity.roles.read", all),
        ("customer.customers.read", pb::Scope::Unit),
    ];
    let role = acme.make_role("clerk", &permissions).await;
    acme.caller(&acme.person("clerk", &[role]).await).await
}

#[tokio::test]
async fn an_invited_user_reads_back_as_described() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let unit = pb::CreateUnitRequest {
        unit: Some(pb::Unit { display_name: "Sales".into(), ..Default::default() }),
        ..Default::default()
    };
    let unit = format!("identity.unit/{}", admin.units().create_unit(unit).await.unwrap().into_inner().id);
    let id = new_id().to_string();
    let described = pb::User {
        id: id.clone(),
        unit: unit.clone(),
        locale: "en-GB".into(),
        time_zone: "Europe/London".into(),
        ..acme.user("li", &[acme.role("sales").await])
    };
    let user = invite(&admin, described.clone(), "").await.unwrap().user.unwrap();
    assert_eq!(user, get(&admin, &id).await);
    let expected = pb::User {
        etag: "1".into(),
        state: pb::UserState::Invited.into(),
        create_time: user.create_time,
        update_time: user.update_time,
        ..described
    };
    assert_eq!(user, expected);
    let taken = invite(&admin, pb::User { id, ..acme.user("wang", &[]) }, "").await;
    assert_eq!(reason(taken), "ALREADY_EXISTS");
}

#[tokio::test]
async fn an_address_is_one_user_without_regard_to_case_in_each_tenant() {
    let world = World::new().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    acme.invite("li", &[]).await;
    let same = pb::User { email: "LI@ACME.example.com".into(), ..acme.user("li", &[]) };
    let (code, reason, words) = refusal(invite(&acme.admin().await, same.clone(), "").await);
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    assert_eq!(words, "user already exists: `LI@ACME.example.com` belongs to another user");
    invite(&other.admin().await, same, "").await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_person_is_told_by_field() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let missing = format!("identity.role/{}", new_id());
    for (user, problem) in [
        (pb::User { email: "li".into(), ..acme.user("li", &[]) }, "user.email: `li` is not an address"),
        (
            pb::User { display_name: " ".into(), ..acme.user("li", &[]) },
            "user.display_name: has 0 characters",
        ),
        (
            pb::User { unit: "sales".into(), ..acme.user("li", &[]) },
            "user.unit: `sales` is not a record name",
        ),
        (
            pb::User { time_zone: "Mars".into(), ..acme.user("li", &[]) },
            "user.time_zone: `Mars` is not a time zone",
        ),
        (
            pb::User { locale: "chinese".into(), ..acme.user("li", &[]) },
            "user.locale: `chinese` is not a language",
        ),
        (acme.user("li", std::slice::from_ref(&missing)), "user.roles: there is no role"),
        (pb::User { unit: new_id().to_string(), ..acme.user("li", &[]) }, "user.unit: there is no unit"),
    ] {
        let (code, _, words) = refusal(invite(&admin, user, "").await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(words.starts_with(problem), "{words}");
    }
}

#[tokio::test]
async fn a_repeated_invitation_gives_the_first_answer() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let first = invite(&admin, acme.user("li", &[]), "one").await.unwrap();
    let (again, told) = acme.subjects(invite(&admin, acme.user("li", &[]), "one")).await;
    assert_eq!((again.unwrap(), told), (first, Vec::new()));
    assert_eq!(reason(invite(&admin, acme.user("wang", &[]), "one").await), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn a_change_is_told_with_what_was_before() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let admin = acme.admin().await;
    let sales = acme.role("sales").await;
    let before = world.events(acme.id).await.len();
    let change = pb::User { display_name: "Li Wei".into(), roles: vec![sales.clone()], ..li.clone() };
    let after = admin.update_user(change, &["display_name", "roles"]).await.unwrap();
    assert_eq!((after.display_name.as_str(), after.etag.as_str()), ("Li Wei", "3"));

    let events = acme.events_since(before).await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].subject.as_str(), events[0].version), ("user.updated.v1", 3));
    assert_eq!(events[0].changed_paths, ["display_name", "roles"]);
    assert_eq!(events[0].record_id.to_string(), li.id);
    let told: pb::UserUpdated = events[0].message();
    assert_eq!(told.before, Some(pb::User { display_name: "li".into(), ..Default::default() }));
    assert_eq!(told.user, Some(get(&admin, &li.id).await));

    // What changes nothing is no change.
    let (same, told) = acme.subjects(admin.update_user(after.clone(), &["display_name"])).await;
    assert_eq!((same.unwrap().etag, told), (after.etag, Vec::new()));
}

#[tokio::test]
async fn a_stale_etag_an_unknown_path_and_another_address_are_refused() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let admin = acme.admin().await;
    let stale = pb::User { etag: "1".into(), display_name: "Wei".into(), ..li.clone() };
    assert_eq!(reason(admin.update_user(stale, &["display_name"]).await), "STALE");
    let unknown = refusal(admin.update_user(li.clone(), &["display_nam"]).await).2;
    assert_eq!(unknown, "update_mask: there is no field `display_nam`; did you mean `display_name`");
    let moved = pb::User { email: "wei@acme.example.com".into(), ..li.clone() };
    assert_eq!(refusal(admin.update_user(moved, &["email"]).await).0, Code::InvalidArgument);
    // Without a mask every field that is set is meant; output fields are not looked at.
    let all = pb::User { etag: String::new(), locale: "zh-CN".into(), ..li.clone() };
    let request = pb::UpdateUserRequest { user: Some(all), ..Default::default() };
    let user = admin.users().update_user(request).await.unwrap().into_inner();
    assert_eq!((user.locale.as_str(), user.state()), ("zh-CN", pb::UserState::Active));
}

#[tokio::test]
async fn users_are_filtered_sorted_and_paged() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    for name in ["王芳", "李娜", "zhang", "Anna"] {
        let user = pb::User { email: format!("{}@example.com", name.len()), ..acme.user(name, &[]) };
        let user = if name == "Anna" {
            acme.user(name, &[])
        } else {
            pb::User { email: format!("n{}@example.com", names_key(name)), ..user }
        };
        invite(&acme.admin().await, user, "").await.unwrap();
    }
    let admin = acme.admin().await;
    // Pinyin for Han, among Latin names where they belong.
    assert_eq!(
        names(&admin, "state == \"invited\"", "display_name").await,
        ["李娜", "王芳", "Anna", "zhang"]
    );
    assert_eq!(
        names(&admin, "display_name.contains(\"n\") && state == \"invited\"", "display_name desc").await,
        ["zhang", "Anna"]
    );
    assert_eq!(names(&admin, "state == \"active\"", "").await, ["admin@acme.example.com"]);
    assert_eq!(names(&admin, "email == \"Anna@acme.example.com\"", "email").await, ["Anna"]);
    assert_eq!(names(&admin, "", "create_time").await.len(), 5);
    let request = pb::ListUsersRequest { filter: "mail == \"x\"".into(), ..Default::default() };
    let (code, _, words) = refusal(admin.users().list_users(request).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(words.contains("email"), "{words}");
}

fn names_key(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:x}")).collect()
}

#[tokio::test]
async fn nobody_gives_a_role_that_allows_more_than_they_may() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let clerk = clerk(&acme).await;
    let me = clerk.me().await.unwrap().user.unwrap();
    let (administrator, sales) = (acme.role("administrator").await, acme.role("sales").await);
    // Neither to themselves nor to somebody new.
    let roles = [me.roles.clone(), vec![administrator.clone()]].concat();
    let raised = clerk.update_user(pb::User { roles, ..me.clone() }, &["roles"]).await;
    assert_eq!(refusal(raised).0, Code::PermissionDenied);
    for role in [administrator, sales] {
        let invited = invite(&clerk, acme.user("new", &[role]), "").await;
        assert_eq!(refusal(invited).0, Code::PermissionDenied);
    }
    // The role that they have themselves, they may give; and somebody without roles, they may invite.
    invite(&clerk, acme.user("peer", &me.roles), "").await.unwrap();
    invite(&clerk, acme.user("guest", &[]), "").await.unwrap();
}

#[tokio::test]
async fn nobody_places_people_where_they_see_more_than_oneself() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let unit = pb::CreateUnitRequest {
        unit: Some(pb::Unit { display_name: "Everything".into(), ..Default::default() }),
        ..Default::default()
    };
    let unit = acme.admin().await.units().create_unit(unit).await.unwrap().into_inner().id;
    let clerk = clerk(&acme).await;
    let me = clerk.me().await.unwrap().user.unwrap();
    let moved = clerk.update_user(pb::User { unit: unit.clone(), ..me.clone() }, &["unit"]).await;
    assert_eq!(refusal(moved).0, Code::PermissionDenied);
    let guest = invite(&clerk, pb::User { unit: unit.clone(), ..acme.user("guest", &[]) }, "").await.unwrap();
    let with_role = pb::User { roles: me.roles, ..guest.user.unwrap() };
    assert_eq!(refusal(clerk.update_user(with_role, &["roles"]).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn the_last_active_administrator_stays() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let me = admin.me().await.unwrap().user.unwrap();
    // Somebody who is only invited does not count.
    let second = acme.invite("second", &[acme.role("administrator").await]).await;
    assert_eq!(reason(admin.deactivate(&me.id).await), "LAST_ADMINISTRATOR");
    let without = pb::User { roles: vec![], ..me.clone() };
    assert_eq!(reason(admin.update_user(without.clone(), &["roles"]).await), "LAST_ADMINISTRATOR");
    admin
        .update_user(pb::User { display_name: "The boss".into(), ..me.clone() }, &["display_name"])
        .await
        .unwrap();

    world.accept(&second.invitation_token, PASSWORD).await.unwrap();
    admin.update_user(pb::User { etag: String::new(), ..without }, &["roles"]).await.unwrap();
    let second = acme.caller(&second.user.unwrap()).await;
    let me = second.me().await.unwrap().user.unwrap();
    assert_eq!(reason(second.deactivate(&me.id).await), "LAST_ADMINISTRATOR");
}

#[tokio::test]
async fn two_administrators_who_end_each_other_do_not_both_succeed() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let second = acme.person("second", &[acme.role("administrator").await]).await;
    let (one, two) = (acme.admin().await, acme.caller(&second).await);
    let (one, two) = acme.at_once(one.deactivate(&second.id), two.deactivate(&acme.administrator.id)).await;
    assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn deactivating_twice_is_told_once() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let admin = acme.admin().await;
    let work = async {
        let first = admin.deactivate(&li.id).await.unwrap();
        assert_eq!((first.state(), first.etag.as_str()), (pb::UserState::Deactivated, "3"));
        assert_eq!(admin.deactivate(&li.id).await.unwrap(), first);
    };
    assert_eq!(acme.subjects(work).await.1, ["user.updated.v1"]);
}

#[tokio::test]
async fn hidden_fields_are_not_shown_and_locked_ones_not_changed() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let all = pb::Scope::All;
    let right = |field: &str, access: pb::FieldAccess| pb::FieldRight {
        kind: "identity.user".into(),
        field: field.into(),
        access: access.into(),
    };
    let role = pb::Role {
        display_name: "discreet".into(),
        permissions: crate::world::permissions_of(&[
            ("identity.users.manage", all),
            ("identity.users.read", all),
        ]),
        field_rights: vec![right("email", pb::FieldAccess::None), right("locale", pb::FieldAccess::Read)],
        ..Default::default()
    };
    let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    let role = acme.admin().await.roles().create_role(request).await.unwrap().into_inner();
    let caller = acme.caller(&acme.person("li", &[role.id]).await).await;
    let admin = get(&caller, &acme.administrator.id).await;
    assert_eq!((admin.email.as_str(), admin.display_name.as_str()), ("", "admin@acme.example.com"));
    let request = pb::ListUsersRequest { filter: "email != \"\"".into(), ..Default::default() };
    assert_eq!(refusal(caller.users().list_users(request).await).0, Code::InvalidArgument);
    let change = pb::UpdateUserRequest {
        user: Some(pb::User { locale: "en".into(), ..admin.clone() }),
        update_mask: Some(mask(&["locale"])),
        ..Default::default()
    };
    assert_eq!(refusal(caller.users().update_user(change).await).0, Code::PermissionDenied);
    let change = pb::User { display_name: "The boss".into(), ..admin };
    assert_eq!(caller.update_user(change, &["display_name"]).await.unwrap().email, "");
}
