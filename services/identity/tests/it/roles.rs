//! Roles: built-in ones, own ones, and that nobody makes one that allows more than they may.
use rapport_kernel::Scope;
use rapport_proto::identity::v1::{self as pb, exchange_credential_request::Credential};
use tonic::Code;

use crate::{
    caller::{Caller, mask, reason, refusal},
    world::{Tenant, World, permissions_of},
};

async fn create(caller: &Caller, role: pb::Role) -> Result<pb::Role, tonic::Status> {
    let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    Ok(caller.roles().create_role(request).await?.into_inner())
}

async fn update(caller: &Caller, role: pb::Role, paths: &[&str]) -> Result<pb::Role, tonic::Status> {
    let request =
        pb::UpdateRoleRequest { role: Some(role), update_mask: Some(mask(paths)), ..Default::default() };
    Ok(caller.roles().update_role(request).await?.into_inner())
}

async fn delete(caller: &Caller, id: &str) -> Result<pb::Role, tonic::Status> {
    let request = pb::DeleteRoleRequest { id: id.into(), ..Default::default() };
    Ok(caller.roles().delete_role(request).await?.into_inner())
}

async fn list(caller: &Caller, filter: &str) -> Vec<pb::Role> {
    let request =
        pb::ListRolesRequest { filter: filter.into(), order_by: "display_name".into(), ..Default::default() };
    caller.roles().list_roles(request).await.unwrap().into_inner().roles
}

fn role(name: &str, permissions: &[(&str, pb::Scope)]) -> pb::Role {
    pb::Role { display_name: name.into(), permissions: permissions_of(permissions), ..Default::default() }
}

fn hides(field: &str, access: pb::FieldAccess) -> pb::FieldRight {
    pb::FieldRight { kind: "customer.customer".into(), field: field.into(), access: access.into() }
}

/// What somebody with these roles may do.
async fn ctx(acme: &Tenant<'_>, name: &str, roles: &[String]) -> rapport_kernel::Ctx {
    let person = acme.person(name, roles).await;
    acme.world.ctx(Credential::SessionToken(acme.sign_in(&person).await.unwrap())).await
}

#[tokio::test]
async fn every_tenant_has_the_built_in_roles_which_stay_as_they_are() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let roles = list(&admin, "built_in").await;
    let names: Vec<_> = roles.iter().map(|role| role.display_name.as_str()).collect();
    assert_eq!(names, ["administrator", "manager", "marketing", "read-only", "sales", "service"]);
    assert_eq!(roles[0].permissions, permissions_of(&[("*", pb::Scope::All)]));
    for role in roles {
        let renamed = pb::Role { display_name: "mine".into(), ..role.clone() };
        assert_eq!(reason(update(&admin, renamed, &["display_name"]).await), "ROLE_BUILT_IN");
        assert_eq!(reason(delete(&admin, &role.id).await), "ROLE_BUILT_IN");
    }
}

#[tokio::test]
async fn a_role_is_created_changed_and_deleted_and_each_is_told() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let described = pb::Role {
        description: "Sees what is theirs.".into(),
        field_rights: vec![hides("revenue", pb::FieldAccess::None)],
        ..role("agents", &[("customer.customers.read", pb::Scope::Own)])
    };
    let before = world.events(acme.id).await.len();
    let created = create(&admin, described.clone()).await.unwrap();
    let expected = pb::Role {
        id: created.id.clone(),
        etag: "1".into(),
        create_time: created.create_time,
        update_time: created.update_time,
        ..described
    };
    assert_eq!(created, expected);
    let change = pb::Role {
        permissions: permissions_of(&[("customer.customers.read", pb::Scope::Unit)]),
        ..created.clone()
    };
    let changed = update(&admin, change, &["permissions"]).await.unwrap();
    assert_eq!((changed.etag.as_str(), &changed.field_rights), ("2", &created.field_rights));
    assert_eq!(reason(update(&admin, created.clone(), &["description"]).await), "STALE");
    delete(&admin, &created.id).await.unwrap();
    assert_eq!(reason(delete(&admin, &created.id).await), "NOT_FOUND");

    let events = acme.events_since(before).await;
    let told: Vec<_> = events.iter().map(|event| (event.subject.as_str(), event.version)).collect();
    assert_eq!(told, [("role.created.v1", 1), ("role.updated.v1", 2), ("role.deleted.v1", 3)]);
    assert_eq!(events[1].changed_paths, ["permissions"]);
    let told: pb::RoleUpdated = events[1].message();
    assert_eq!(told.before, Some(role("", &[("customer.customers.read", pb::Scope::Own)])));
}

#[tokio::test]
async fn a_permission_that_does_not_exist_is_refused_with_near_ones() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let wrong = create(&admin, role("x", &[("customer.customer.read", pb::Scope::All)])).await;
    let (code, _, words) = refusal(wrong);
    assert_eq!(code, Code::InvalidArgument);
    assert!(
        words.starts_with("role.permissions[0].name: `customer.customer.read` is not a permission"),
        "{words}"
    );
    assert!(words.contains("`customer.customers.read`"), "{words}");

    let known =
        admin.roles().list_permissions(pb::ListPermissionsRequest {}).await.unwrap().into_inner().permissions;
    let read = known.iter().find(|info| info.name == "customer.customers.read").unwrap();
    assert!(read.scoped && !read.methods.is_empty());
}

#[tokio::test]
async fn names_of_roles_are_unique() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    assert_eq!(reason(create(&admin, role("sales", &[])).await), "ALREADY_EXISTS");
    let mine = create(&admin, role("mine", &[])).await.unwrap();
    assert_eq!(reason(create(&admin, role("mine", &[])).await), "ALREADY_EXISTS");
    let renamed = pb::Role { display_name: "sales".into(), ..mine };
    assert_eq!(reason(update(&admin, renamed, &["display_name"]).await), "ALREADY_EXISTS");
}

#[tokio::test]
async fn a_role_that_somebody_has_is_not_deleted() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let name = acme.make_role("mine", &[]).await;
    let li = acme.person("li", std::slice::from_ref(&name)).await;
    let admin = acme.admin().await;
    let id = name.rsplit('/').next().unwrap();
    admin.deactivate(&li.id).await.unwrap();
    assert_eq!(reason(delete(&admin, id).await), "ROLE_IN_USE");
    let without = pb::User { etag: String::new(), roles: vec![], ..li };
    admin.update_user(without, &["roles"]).await.unwrap();
    delete(&admin, id).await.unwrap();
}

#[tokio::test]
async fn the_sum_of_the_roles_counts() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let one = pb::Role {
        field_rights: vec![hides("revenue", pb::FieldAccess::None), hides("tags", pb::FieldAccess::None)],
        ..role(
            "one",
            &[("customer.customers.read", pb::Scope::Own), ("customer.customers.update", pb::Scope::Own)],
        )
    };
    let two = pb::Role {
        field_rights: vec![hides("revenue", pb::FieldAccess::Read)],
        ..role("two", &[("customer.customers.read", pb::Scope::Unit)])
    };
    let (one, two) = (create(&admin, one).await.unwrap().id, create(&admin, two).await.unwrap().id);
    let both = ctx(&acme, "both", &[one.clone(), two]).await;
    assert_eq!(both.grants.scope("customer.customers.read"), Some(Scope::Unit));
    assert_eq!(both.grants.scope("customer.customers.update"), Some(Scope::Own));
    let may = |field| {
        (
            both.field_rights.may_read("customer.customer", field),
            both.field_rights.may_write("customer.customer", field),
        )
    };
    assert_eq!((may("revenue"), may("tags"), may("status")), ((true, false), (true, true), (true, true)));
    let alone = ctx(&acme, "alone", &[one]).await;
    assert!(!alone.field_rights.may_read("customer.customer", "tags"));
    let nobody = ctx(&acme, "nobody", &[]).await;
    assert_eq!(nobody.grants.iter().count(), 0);
}

#[tokio::test]
async fn nobody_makes_a_role_that_allows_more_than_they_may() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let all = pb::Scope::All;
    let held = [
        ("identity.roles.manage", all),
        ("identity.roles.read", all),
        ("identity.users.manage", all),
        ("identity.users.read", all),
        ("customer.customers.read", pb::Scope::Unit),
    ];
    let hidden = vec![hides("revenue", pb::FieldAccess::None)];
    let clerks = pb::Role { field_rights: hidden.clone(), ..role("clerks", &held) };
    let clerks = create(&admin, clerks).await.unwrap();
    let caller = acme.caller(&acme.person("clerk", std::slice::from_ref(&clerks.id)).await).await;

    for more in [
        role("wider", &[("customer.customers.read", all)]),
        role("other", &[("customer.customers.update", pb::Scope::Own)]),
        role("everything", &[("*", pb::Scope::Own)]),
        role("sees revenue", &[("customer.customers.read", pb::Scope::Own)]),
    ] {
        assert_eq!(
            refusal(create(&caller, more.clone()).await).0,
            Code::PermissionDenied,
            "{}",
            more.display_name
        );
    }
    let within =
        pb::Role { field_rights: hidden, ..role("within", &[("customer.customers.read", pb::Scope::Own)]) };
    let within = create(&caller, within).await.unwrap();
    // Nor does one make their own role allow more, or show what it hides.
    let raised = pb::Role { permissions: permissions_of(&[("*", all)]), ..clerks.clone() };
    assert_eq!(refusal(update(&caller, raised, &["permissions"]).await).0, Code::PermissionDenied);
    let shown = pb::Role { field_rights: vec![], ..clerks.clone() };
    assert_eq!(refusal(update(&caller, shown, &["field_rights"]).await).0, Code::PermissionDenied);
    // A name may be changed whatever the role allows.
    let open = create(&admin, role("open", &[("*", all)])).await.unwrap();
    update(&caller, pb::Role { display_name: "wide open".into(), ..open.clone() }, &["display_name"])
        .await
        .unwrap();
    // And a role that hides nothing is not given to oneself beside one that does.
    let me = caller.me().await.unwrap().user.unwrap();
    let empty = create(&admin, role("empty", &[])).await.unwrap();
    let roles = vec![format!("identity.role/{}", clerks.id), empty.id];
    assert_eq!(
        refusal(caller.update_user(pb::User { roles, ..me }, &["roles"]).await).0,
        Code::PermissionDenied
    );
    drop(within);
}
