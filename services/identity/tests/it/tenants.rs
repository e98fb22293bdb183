//! Tenants, on the operators' plane.
use std::sync::Mutex;

use rapport_identity::ensure_operator;
use rapport_proto::identity::v1 as pb;
use tonic::{Code, Status};

use crate::{
    caller::{Caller, mask, reason, refusal},
    world::{PASSWORD, World, new_id, tenant},
};

async fn create(
    caller: &Caller,
    tenant: pb::Tenant,
    request_id: &str,
) -> Result<pb::CreateTenantResponse, Status> {
    let request = pb::CreateTenantRequest {
        administrator_email: "boss@example.com".into(),
        administrator_name: "王芳".into(),
        request_id: request_id.into(),
        tenant: Some(tenant),
    };
    Ok(caller.tenants().create_tenant(request).await?.into_inner())
}

async fn slugs(caller: &Caller, filter: &str, show_deleted: bool) -> Vec<String> {
    let request = pb::ListTenantsRequest {
        filter: filter.into(),
        order_by: "slug".into(),
        show_deleted,
        ..Default::default()
    };
    let tenants = caller.tenants().list_tenants(request).await.unwrap().into_inner().tenants;
    tenants.into_iter().map(|tenant| tenant.slug).collect()
}

async fn suspend(caller: &Caller, id: &str) -> Result<pb::Tenant, Status> {
    let request = pb::SuspendTenantRequest { id: id.into(), ..Default::default() };
    Ok(caller.tenants().suspend_tenant(request).await?.into_inner())
}

async fn resume(caller: &Caller, id: &str) -> Result<pb::Tenant, Status> {
    let request = pb::ResumeTenantRequest { id: id.into(), ..Default::default() };
    Ok(caller.tenants().resume_tenant(request).await?.into_inner())
}

async fn delete(caller: &Caller, id: &str) -> Result<pb::Tenant, Status> {
    let request = pb::DeleteTenantRequest { id: id.into(), ..Default::default() };
    Ok(caller.tenants().delete_tenant(request).await?.into_inner())
}

#[tokio::test]
async fn a_tenant_begins_with_its_roles_and_an_invited_administrator() {
    let world = World::new().await;
    let operator = world.operator().await;
    let created = create(&operator, tenant("acme"), "").await.unwrap();
    let acme = created.tenant.unwrap();
    let expected = pb::Tenant {
        id: acme.id.clone(),
        etag: "1".into(),
        state: pb::TenantState::Active.into(),
        generation: 1,
        cell: "main".into(),
        region: "cn-east".into(),
        log_retention: pb::LogRetention::Standard.into(),
        create_time: acme.create_time,
        update_time: acme.update_time,
        ..tenant("acme")
    };
    assert_eq!(acme, expected);
    let read = operator
        .tenants()
        .get_tenant(pb::GetTenantRequest { id: acme.id.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read, acme);

    let events = world.events(acme.id.parse().unwrap()).await;
    let told: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    let roles = ["role.created.v1"; 6];
    assert_eq!(told, [&["tenant.created.v1"], roles.as_slice(), &["user.invited.v1"]].concat());
    assert_eq!(events[0].message::<pb::TenantCreated>().tenant.unwrap(), acme);
    assert!(events.iter().all(|event| event.principal.starts_with("identity.operator/")));
    let boss = world.accept(&created.invitation_token, PASSWORD).await.unwrap();
    assert_eq!((boss.email.as_str(), boss.display_name.as_str()), ("boss@example.com", "王芳"));
    world.sign_in("acme", "boss@example.com", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn defaults_stand_in_for_what_is_not_said() {
    let world = World::new().await;
    let bare = pb::Tenant { slug: "bare".into(), display_name: "Bare".into(), ..Default::default() };
    let made = create(&world.operator().await, bare, "").await.unwrap().tenant.unwrap();
    let said = (
        made.locale.as_str(),
        made.time_zone.as_str(),
        made.base_currency.as_str(),
        made.phone_region.as_str(),
    );
    assert_eq!(said, ("en", "UTC", "USD", ""));
}

#[tokio::test]
async fn a_repeated_creation_gives_the_first_answer() {
    let world = World::new().await;
    let operator = world.operator().await;
    let first = create(&operator, tenant("acme"), "one").await.unwrap();
    assert_eq!(create(&operator, tenant("acme"), "one").await.unwrap(), first);
    assert_eq!(reason(create(&operator, tenant("other"), "one").await), "REQUEST_ID_REUSED");
    // Two at the same time are one.
    let (one, two) =
        tokio::join!(create(&operator, tenant("twin"), "two"), create(&operator, tenant("twin"), "two"));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(slugs(&operator, "", false).await, ["acme", "twin"]);
    // A chosen id serves as well.
    let chosen = pb::Tenant { id: new_id().to_string(), ..tenant("chosen") };
    let first = create(&operator, chosen.clone(), "three").await.unwrap();
    assert_eq!(first.tenant.as_ref().unwrap().id, chosen.id);
    assert_eq!(create(&operator, chosen.clone(), "three").await.unwrap(), first);
    assert_eq!(
        reason(create(&operator, pb::Tenant { slug: "another".into(), ..chosen }, "").await),
        "ALREADY_EXISTS"
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let operator = world.operator().await;
    create(&operator, tenant("acme"), "").await.unwrap();
    for (wrong, code, problem) in [
        (tenant("acme"), Code::AlreadyExists, "the slug `acme` belongs to another tenant"),
        (tenant("operator"), Code::InvalidArgument, "`operator` is reserved"),
        (tenant("api"), Code::InvalidArgument, "`api` is reserved"),
        (tenant("with_line"), Code::InvalidArgument, "slug"),
        (
            pb::Tenant { region: "eu".into(), ..tenant("eu1") },
            Code::InvalidArgument,
            "holds the tenants of `cn-east`",
        ),
        (
            pb::Tenant { time_zone: "Mars".into(), ..tenant("mars") },
            Code::InvalidArgument,
            "tenant.time_zone",
        ),
        (
            pb::Tenant { base_currency: "XXQ".into(), ..tenant("xxq") },
            Code::InvalidArgument,
            "tenant.base_currency",
        ),
        (
            pb::Tenant { display_name: String::new(), ..tenant("none") },
            Code::InvalidArgument,
            "tenant.display_name",
        ),
        (
            pb::Tenant { id: "00000000-0000-8000-8000-6f7065726174".into(), ..tenant("plane") },
            Code::AlreadyExists,
            "is taken",
        ),
    ] {
        let refused = refusal(create(&operator, wrong.clone(), "").await);
        assert_eq!(refused.0, code, "{refused:?}");
        assert!(refused.2.contains(problem), "{refused:?}");
    }
    let request = pb::CreateTenantRequest {
        tenant: Some(tenant("mail")),
        administrator_email: "nobody".into(),
        ..Default::default()
    };
    assert_eq!(refusal(operator.tenants().create_tenant(request).await).0, Code::InvalidArgument);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM platform.tenants")
        .fetch_one(&mut world.database.admin().await)
        .await
        .unwrap();
    assert_eq!(kept, 2, "the one that was made, and the operators' plane");
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_and_comes_back_as_it_was() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (id, operator) = (acme.id.to_string(), world.operator().await);
    let secret = acme.sign_in(&acme.administrator).await.unwrap();
    let request = pb::CreateApiKeyRequest {
        api_key: Some(pb::ApiKey { display_name: "ERP".into(), ..Default::default() }),
        ..Default::default()
    };
    let key = acme.admin().await.keys().create_api_key(request).await.unwrap().into_inner().key;

    let suspended = suspend(&operator, &id).await.unwrap();
    assert_eq!((suspended.state(), suspended.generation), (pb::TenantState::Suspended, 2));
    assert_eq!(suspend(&operator, &id).await.unwrap(), suspended, "twice is once");
    assert_eq!(refusal(world.session(&secret).await.map(drop)).0, Code::Unauthenticated);
    assert_eq!(refusal(world.key(&key).await.map(drop)).0, Code::Unauthenticated);
    assert_eq!(reason(acme.sign_in(&acme.administrator).await), "SIGN_IN_FAILED");

    let resumed = resume(&operator, &id).await.unwrap();
    assert_eq!((resumed.state(), resumed.generation), (pb::TenantState::Active, 3));
    world.session(&secret).await.unwrap().me().await.unwrap();
    world.key(&key).await.unwrap().me().await.unwrap();
}

#[tokio::test]
async fn a_deleted_tenant_is_refused_and_stays_deleted() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (id, operator) = (acme.id.to_string(), world.operator().await);
    let stale = pb::DeleteTenantRequest { id: id.clone(), etag: "7".into(), ..Default::default() };
    assert_eq!(reason(operator.tenants().delete_tenant(stale).await), "STALE");
    let deleted = delete(&operator, &id).await.unwrap();
    assert_eq!((deleted.state(), deleted.delete_time.is_some()), (pb::TenantState::Deleted, true));
    assert_eq!(reason(acme.sign_in(&acme.administrator).await), "SIGN_IN_FAILED");
    assert_eq!(reason(resume(&operator, &id).await), "TENANT_DELETED");
    assert_eq!(reason(suspend(&operator, &id).await), "TENANT_DELETED");
    assert_eq!(slugs(&operator, "", false).await, Vec::<String>::new());
    assert_eq!(slugs(&operator, "state == \"deleted\"", true).await, ["acme"]);
    assert_eq!(reason(create(&operator, tenant("acme"), "").await), "ALREADY_EXISTS");
    let read = operator.tenants().get_tenant(pb::GetTenantRequest { id }).await.unwrap().into_inner();
    assert_eq!(read, deleted);
}

#[tokio::test]
async fn a_tenant_is_changed_but_for_its_slug_and_place() {
    let world = World::new().await;
    let operator = world.operator().await;
    let made = create(&operator, tenant("acme"), "").await.unwrap().tenant.unwrap();
    let update = async |tenant: pb::Tenant, paths: &[&str]| {
        let request = pb::UpdateTenantRequest {
            tenant: Some(tenant),
            update_mask: Some(mask(paths)),
            ..Default::default()
        };
        operator.tenants().update_tenant(request).await.map(tonic::Response::into_inner)
    };
    let change = pb::Tenant { display_name: "Acme".into(), time_zone: String::new(), ..made.clone() };
    let changed = update(change, &["display_name", "time_zone"]).await.unwrap();
    assert_eq!(
        (changed.display_name.as_str(), changed.time_zone.as_str(), changed.generation),
        ("Acme", "UTC", 1)
    );
    assert_eq!(reason(update(made.clone(), &["display_name"]).await), "STALE");
    for (change, path) in [
        (pb::Tenant { slug: "other".into(), ..changed.clone() }, "slug"),
        (pb::Tenant { region: "eu".into(), ..changed.clone() }, "region"),
        (changed.clone(), "plan"),
    ] {
        assert_eq!(refusal(update(change, &[path]).await).0, Code::InvalidArgument, "{path}");
    }
    let same =
        update(pb::Tenant { state: pb::TenantState::Deleted.into(), ..changed.clone() }, &["slug", "state"])
            .await;
    assert_eq!(same.unwrap(), changed);
}

#[tokio::test]
async fn tenants_are_filtered_and_sorted() {
    let world = World::new().await;
    let operator = world.operator().await;
    for slug in ["beta", "alpha", "gamma"] {
        create(&operator, tenant(slug), "").await.unwrap();
    }
    assert_eq!(slugs(&operator, "", false).await, ["alpha", "beta", "gamma"]);
    assert_eq!(
        slugs(&operator, "slug.startsWith(\"g\") || display_name.contains(\"alpha\")", false).await,
        ["alpha", "gamma"]
    );
}

#[tokio::test]
async fn tenants_see_nothing_of_the_directory() {
    let world = World::new().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let admin = acme.admin().await;
    let list = admin.tenants().list_tenants(pb::ListTenantsRequest::default()).await;
    assert_eq!(refusal(list).0, Code::PermissionDenied);
    let anonymous = world.anonymous().tenants().list_tenants(pb::ListTenantsRequest::default()).await;
    assert_eq!(refusal(anonymous).0, Code::Unauthenticated);

    // Nor does the database show it, neither to a tenant's transaction nor to one that registers itself as another.
    let ctx = rapport_kernel::Ctx::system(rapport_kernel::Id::new(acme.id), world.clock());
    let mut tx = world.db.begin(&ctx).await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM rapport.directory")
        .fetch_one(tx.conn().await.unwrap())
        .await
        .unwrap();
    assert_eq!(seen, 0);
    let changed = sqlx::query("UPDATE rapport.directory SET state = 'active'")
        .execute(tx.conn().await.unwrap())
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 0);
    let profiles: Vec<String> = sqlx::query_scalar("SELECT slug FROM rapport.tenant_profile()")
        .fetch_all(tx.conn().await.unwrap())
        .await
        .unwrap();
    assert_eq!(profiles, ["acme"]);
    let entry = serde_json::json!({"id": other.id, "slug": "stolen"});
    let register = sqlx::query("SELECT rapport.register_tenant($1)")
        .bind(sqlx::types::Json(entry))
        .execute(tx.conn().await.unwrap())
        .await;
    assert!(register.is_err());
    let mut tx = world.db.begin(&ctx).await.unwrap();
    for table in ["directory", "operators", "operator_keys", "signing_keys"] {
        let denied = sqlx::query(sqlx::AssertSqlSafe(format!("SAVEPOINT s; SELECT 1 FROM platform.{table}")));
        let denied = denied.execute(tx.conn().await.unwrap()).await;
        assert!(denied.is_err(), "{table}");
        tx = world.db.begin(&ctx).await.unwrap();
    }
}

#[tokio::test]
async fn the_copy_that_transactions_look_at_follows_the_directory() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    suspend(&world.operator().await, &acme.id.to_string()).await.unwrap();
    let copy: (String, i64, String, String) =
        sqlx::query_as("SELECT state, generation, cell, region FROM platform.tenants WHERE id = $1")
            .bind(acme.id)
            .fetch_one(&mut world.database.admin().await)
            .await
            .unwrap();
    assert_eq!(copy, ("suspended".into(), 2, "main".into(), "cn-east".into()));
}

#[tokio::test]
async fn the_first_operators_key_is_made_once() {
    let world = World::new().await;
    let clock = world.clock();
    // What cannot be kept is not made.
    let full = ensure_operator(&world.db, &clock, |_| Err("the disk is full".into())).await;
    assert_eq!(full.unwrap_err().to_string(), "the disk is full");
    let keys = Mutex::new(Vec::new());
    let keep = |key: &str| {
        keys.lock().unwrap().push(key.to_owned());
        Ok(())
    };
    let (one, two) =
        tokio::join!(ensure_operator(&world.db, &clock, keep), ensure_operator(&world.db, &clock, keep));
    one.and(two).unwrap();
    let keys = keys.into_inner().unwrap();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("rap_operator_"));
    let operator = world.key(&keys[0]).await.unwrap();
    let me = operator.me().await.unwrap();
    assert!(
        me.principal.starts_with("identity.operator/") && me.tenant.is_empty() && me.permissions.is_empty()
    );
    assert_eq!(
        refusal(operator.users().list_users(pb::ListUsersRequest::default()).await).0,
        Code::PermissionDenied
    );
    let mut forged = keys[0].clone();
    forged.replace_range(forged.len() - 1.., if forged.ends_with('A') { "B" } else { "A" });
    assert_eq!(refusal(world.key(&forged).await.map(drop)).0, Code::Unauthenticated);
}
