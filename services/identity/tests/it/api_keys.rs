//! API keys: what they open, and when they stop.
use std::time::Duration;

use rapport_kernel::{Principal, Scope, Via};
use rapport_proto::identity::v1::{self as pb, exchange_credential_request::Credential};
use tonic::{Code, Status};

use crate::{
    caller::{Caller, reason, refusal},
    world::{World, new_id, permissions_of},
};

async fn create(caller: &Caller, key: pb::ApiKey) -> Result<(pb::ApiKey, String), Status> {
    let request = pb::CreateApiKeyRequest { api_key: Some(key), ..Default::default() };
    let created = caller.keys().create_api_key(request).await?.into_inner();
    Ok((created.api_key.unwrap(), created.key))
}

fn named(name: &str) -> pb::ApiKey {
    pb::ApiKey { display_name: name.into(), ..Default::default() }
}

#[tokio::test]
async fn a_key_opens_what_its_creator_may_do_and_is_kept_hashed() {
    let world = World::new().await;
    let acme = world.tenant("acme-east").await;
    let admin = acme.admin().await;
    let before = world.events(acme.id).await.len();
    let (record, key) = create(&admin, named("ERP")).await.unwrap();
    assert!(key.starts_with("rap_acme-east_") && key.starts_with(&record.prefix), "{key} {}", record.prefix);
    let ctx = world.ctx(Credential::ApiKey(key.clone())).await;
    assert_eq!((ctx.principal, ctx.via), (Principal::ApiKey(record.id.parse().unwrap()), Via::Key));
    assert_eq!(ctx.user(), Some(acme.administrator.id.parse().unwrap()));
    assert_eq!(ctx.grants.scope("customer.customers.delete"), Some(Scope::All));
    let me = world.key(&key).await.unwrap().me().await.unwrap();
    assert_eq!(
        (me.user, me.principal, me.tenant_slug),
        (None, format!("identity.api_key/{}", record.id), "acme-east".into())
    );

    let get = pb::GetApiKeyRequest { id: record.id.clone() };
    let read = admin.keys().get_api_key(get).await.unwrap().into_inner();
    assert_eq!(pb::ApiKey { last_use_time: None, ..read.clone() }, record);
    assert!(read.last_use_time.is_some());

    let events = acme.events_since(before).await;
    let told: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(told, ["api_key.created.v1", "api_key.used.v1"]);
    let secret = key.rsplit('_').next().unwrap().as_bytes();
    assert!(!events[0].payload.windows(secret.len()).any(|part| part == secret));
    let kept: String = sqlx::query_scalar("SELECT row_to_json(k)::text FROM api_keys k")
        .fetch_one(&mut world.database.admin().await)
        .await
        .unwrap();
    assert!(!kept.contains(std::str::from_utf8(secret).unwrap()) && kept.contains(&record.prefix));
}

#[tokio::test]
async fn a_key_does_no_more_than_it_was_given_nor_than_its_user_may_at_that_moment() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let all = pb::Scope::All;
    let permissions = [("identity.api_keys.manage", all), ("customer.customers.read", pb::Scope::Unit)];
    let role = acme.make_role("integrators", &permissions).await;
    let li = acme.person("li", &[role]).await;
    let caller = acme.caller(&li).await;

    for more in [("customer.customers.read", all), ("customer.customers.update", pb::Scope::Own), ("*", all)]
    {
        let key = pb::ApiKey { permissions: permissions_of(&[more]), ..named("more") };
        assert_eq!(refusal(create(&caller, key).await).0, Code::PermissionDenied);
    }
    let narrow = pb::ApiKey {
        permissions: permissions_of(&[("customer.customers.read", pb::Scope::Own)]),
        ..named("narrow")
    };
    let (_, narrow) = create(&caller, narrow).await.unwrap();
    let (_, wide) = create(&caller, named("wide")).await.unwrap();
    let scopes = async |key: &str| {
        let ctx = world.ctx(Credential::ApiKey(key.into())).await;
        (ctx.grants.scope("customer.customers.read"), ctx.grants.scope("identity.api_keys.manage"))
    };
    assert_eq!(scopes(&narrow).await, (Some(Scope::Own), None));
    assert_eq!(scopes(&wide).await, (Some(Scope::Unit), Some(Scope::All)));

    // More than at its making, a key does not become; less, it does.
    let admin = acme.admin().await;
    let raised =
        pb::User { etag: String::new(), roles: vec![acme.role("administrator").await], ..li.clone() };
    admin.update_user(raised, &["roles"]).await.unwrap();
    assert_eq!(scopes(&wide).await, (Some(Scope::Unit), Some(Scope::All)));
    let lowered = pb::User { etag: String::new(), roles: vec![acme.role("sales").await], ..li.clone() };
    admin.update_user(lowered, &["roles"]).await.unwrap();
    assert_eq!(scopes(&wide).await, (Some(Scope::Own), None));
    admin.deactivate(&li.id).await.unwrap();
    assert_eq!(refusal(world.key(&wide).await.map(drop)).0, Code::Unauthenticated);
}

#[tokio::test]
async fn only_who_may_do_everything_makes_keys_for_others() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let all = pb::Scope::All;
    let role = acme
        .make_role("integrators", &[("identity.api_keys.manage", all), ("identity.users.read", all)])
        .await;
    let caller = acme.caller(&acme.person("li", &[role]).await).await;
    let wang = acme.person("wang", &[acme.role("sales").await]).await;
    let for_wang = pb::ApiKey { user: format!("identity.user/{}", wang.id), ..named("for Wang") };
    assert_eq!(refusal(create(&caller, for_wang.clone()).await).0, Code::PermissionDenied);
    let (record, key) = create(&acme.admin().await, for_wang.clone()).await.unwrap();
    assert_eq!(record.user, for_wang.user);
    let ctx = world.ctx(Credential::ApiKey(key)).await;
    assert_eq!(
        (ctx.user(), ctx.grants.scope("customer.customers.read")),
        (Some(wang.id.parse().unwrap()), Some(Scope::Own))
    );
    assert_eq!(ctx.grants.scope("identity.users.manage"), None);
    let nobody = pb::ApiKey { user: new_id().to_string(), ..for_wang };
    assert_eq!(refusal(create(&acme.admin().await, nobody).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_revoked_or_expired_key_opens_nothing() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    let past = pb::ApiKey { expire_time: Some(rapport_store::time::to_proto(world.now())), ..named("past") };
    assert_eq!(refusal(create(&admin, past).await).0, Code::InvalidArgument);
    let end = rapport_store::time::to_proto(world.now().plus_seconds(90));
    let (_, expiring) =
        create(&admin, pb::ApiKey { expire_time: Some(end), ..named("expiring") }).await.unwrap();
    let (record, revoked) = create(&admin, named("revoked")).await.unwrap();
    world.key(&expiring).await.unwrap();
    world.wait(Duration::from_secs(60));
    let request = pb::ExchangeCredentialRequest {
        credential: Some(Credential::ApiKey(expiring.clone())),
        ..Default::default()
    };
    let token = world.internal().tokens().exchange_credential(request).await.unwrap().into_inner();
    assert_eq!(token.expire_time, Some(end), "a token ends with its key");
    world.wait(Duration::from_secs(30));
    assert_eq!(refusal(world.key(&expiring).await.map(drop)).0, Code::Unauthenticated);

    let admin = acme.admin().await;
    let revoke = pb::RevokeApiKeyRequest { id: record.id.clone(), ..Default::default() };
    let (answer, told) = acme.subjects(admin.keys().revoke_api_key(revoke.clone())).await;
    let answer = answer.unwrap().into_inner();
    assert!(answer.revoke_time.is_some());
    assert_eq!(told, ["api_key.revoked.v1"]);
    let (again, told) = acme.subjects(admin.keys().revoke_api_key(revoke)).await;
    assert_eq!((again.unwrap().into_inner(), told), (answer, Vec::new()));
    assert_eq!(refusal(world.key(&revoked).await.map(drop)).0, Code::Unauthenticated);
}

#[tokio::test]
async fn keys_are_listed_by_name_and_by_user() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let admin = acme.admin().await;
    for name in ["b", "a"] {
        create(&admin, named(name)).await.unwrap();
    }
    let request = pb::ListApiKeysRequest {
        filter: format!("user == \"{}\"", acme.administrator.id),
        order_by: "display_name".into(),
        ..Default::default()
    };
    let keys = admin.keys().list_api_keys(request).await.unwrap().into_inner().api_keys;
    assert_eq!(keys.iter().map(|key| key.display_name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn machines_have_neither_sessions_nor_passwords() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (_, key) = create(&acme.admin().await, named("ERP")).await.unwrap();
    let machine = world.key(&key).await.unwrap();
    let list = machine.sessions().list_sessions(pb::ListSessionsRequest {}).await;
    assert_eq!(refusal(list).0, Code::PermissionDenied);
    let change = pb::ChangePasswordRequest {
        current_password: "x".into(),
        new_password: "whatever it is then".into(),
    };
    assert_eq!(reason(machine.users().change_password(change).await), "DENIED");
    machine.sessions().sign_out(pb::SignOutRequest {}).await.unwrap();
    acme.admin().await.me().await.unwrap();
}
