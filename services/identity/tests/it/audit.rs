//! The audit trail beyond changes of records: use of keys, refusals, reads of private fields, what operators do.
use std::time::Duration;

use rapport_proto::identity::v1::{
    self as pb,
    access_observation::{Caller as Who, Observed},
    exchange_credential_request::Credential,
};
use rapport_store::time::to_proto;
use tonic::Code;

use crate::{
    caller::refusal,
    world::{Event, Tenant, World, new_id},
};

const KEY_USED: &str = "api_key.used.v1";

async fn key(acme: &Tenant<'_>) -> (String, String) {
    let api_key = Some(pb::ApiKey { display_name: "ERP".into(), ..Default::default() });
    let request = pb::CreateApiKeyRequest { api_key, ..Default::default() };
    let created = acme.admin().await.keys().create_api_key(request).await.unwrap().into_inner();
    (format!("identity.api_key/{}", created.api_key.unwrap().id), created.key)
}

async fn exchange(world: &World, key: &str, address: &str) {
    let credential = Some(Credential::ApiKey(key.to_owned()));
    let request = pb::ExchangeCredentialRequest { credential, ip_address: address.into() };
    world.internal().tokens().exchange_credential(request).await.unwrap();
}

/// The events of this subject about a tenant.
async fn told(world: &World, acme: &Tenant<'_>, subject: &str) -> Vec<Event> {
    let mut events = world.events(acme.id).await;
    events.retain(|event| event.subject == subject);
    events
}

#[tokio::test]
async fn the_use_of_a_key_is_told_at_first_and_then_once_an_hour() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (name, key) = key(&acme).await;
    exchange(&world, &key, "192.0.2.1").await;
    let first = told(&world, &acme, KEY_USED).await;
    assert_eq!((first.len(), &first[0].principal, first[0].version), (1, &name, 1));
    let message: pb::ApiKeyUsed = first[0].message();
    assert_eq!(
        (&message.api_key, message.addresses.as_slice()),
        (&name, ["192.0.2.1".to_owned()].as_slice())
    );
    assert_eq!(message.user, format!("identity.user/{}", acme.administrator.id));
    assert_eq!(message.told_time, None);

    let begun = to_proto(world.now());
    for address in ["192.0.2.2", "192.0.2.1", "192.0.2.2", ""] {
        world.wait(Duration::from_secs(600));
        exchange(&world, &key, address).await;
    }
    assert_eq!(told(&world, &acme, KEY_USED).await.len(), 1);
    world.wait(Duration::from_secs(1200));
    // Two at once are told once.
    tokio::join!(exchange(&world, &key, "192.0.2.3"), exchange(&world, &key, "192.0.2.3"));
    let second = told(&world, &acme, KEY_USED).await;
    let message: pb::ApiKeyUsed = second[1].message();
    assert_eq!((second.len(), message.told_time), (2, Some(begun)));
    assert_eq!(message.addresses, ["192.0.2.2", "192.0.2.1", "192.0.2.3"]);
}

#[tokio::test]
async fn in_a_tenant_that_is_only_read_the_use_of_a_key_is_noted_and_not_told() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (_, key) = key(&acme).await;
    let sql = "UPDATE platform.directory SET state = 'read_only', generation = 2 WHERE id = $1";
    sqlx::query(sql).bind(acme.id).execute(&mut world.database.admin().await).await.unwrap();
    exchange(&world, &key, "192.0.2.1").await;
    observe(&world, &acme, vec![refused(Who::User(user(&acme)))]).await;
    assert!(told(&world, &acme, KEY_USED).await.is_empty());
    assert!(told(&world, &acme, "access.refused.v1").await.is_empty());
    let sql = "SELECT last_use_time IS NOT NULL AND told_time IS NULL FROM api_keys";
    let noted: bool = sqlx::query_scalar(sql).fetch_one(&mut world.database.admin().await).await.unwrap();
    assert!(noted);
}

fn user(acme: &Tenant<'_>) -> String {
    format!("identity.user/{}", acme.administrator.id)
}

fn refused(caller: Who) -> pb::AccessObservation {
    let refusal = pb::Refusal { permission: "identity.roles.manage".into(), reason: "no".into() };
    pb::AccessObservation {
        caller: Some(caller),
        via: "console".into(),
        method: "/rapport.identity.v1.RoleService/CreateRole".into(),
        observed: Some(Observed::Refusal(refusal)),
        count: 3,
        first_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        last_time: Some(prost_types::Timestamp { seconds: 2, nanos: 0 }),
        address: "192.0.2.1".into(),
    }
}

async fn observe(world: &World, acme: &Tenant<'_>, observations: Vec<pb::AccessObservation>) {
    let request = pb::RecordAccessRequest { tenant: format!("identity.tenant/{}", acme.id), observations };
    world.internal().audit().record_access(request).await.unwrap();
}

#[tokio::test]
async fn what_services_observe_is_told_of_the_caller_as_done_by_the_caller() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let (key, _) = key(&acme).await;
    let read = pb::PrivateRead { kind: "customer.customer".into(), fields: vec!["revenue".into()] };
    let observations = vec![
        refused(Who::User(user(&acme))),
        refused(Who::User(format!("identity.user/{}", new_id()))),
        pb::AccessObservation {
            via: "key".into(),
            observed: Some(Observed::PrivateRead(read)),
            ..refused(Who::ApiKey(key.clone()))
        },
    ];
    let before = world.events(acme.id).await.len();
    observe(&world, &acme, observations).await;
    let events = acme.events_since(before).await;
    let about: Vec<_> =
        events.iter().map(|e| (e.subject.as_str(), e.resource.as_str(), e.principal.as_str())).collect();
    assert_eq!(
        about,
        [
            ("access.refused.v1", "user", user(&acme).as_str()),
            ("private_fields.read.v1", "api_key", key.as_str())
        ]
    );
    let refusal: pb::AccessRefused = events[0].message();
    assert_eq!((refusal.caller, refusal.count, refusal.reason), (user(&acme), 3, "no".to_owned()));
    assert_eq!((refusal.address.as_str(), refusal.last_time.unwrap().seconds), ("192.0.2.1", 2));
    let read: pb::PrivateFieldsRead = events[1].message();
    assert_eq!(
        (read.caller, read.fields, read.kind),
        (key, vec!["revenue".to_owned()], "customer.customer".into())
    );

    // Only services tell, and of a tenant that is not there nothing.
    let request = pb::RecordAccessRequest {
        tenant: format!("identity.tenant/{}", new_id()),
        observations: vec![refused(Who::User(user(&acme)))],
    };
    world.internal().audit().record_access(request.clone()).await.unwrap();
    let asked = acme.admin().await.audit().record_access(request).await;
    assert_eq!(refusal_code(asked), Code::PermissionDenied);
}

fn refusal_code<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    refusal(answer).0
}

#[tokio::test]
async fn a_token_says_which_fields_that_its_holder_reads_are_hidden_from_others() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let field_rights = vec![pb::FieldRight {
        kind: "customer.customer".into(),
        field: "revenue".into(),
        access: pb::FieldAccess::None.into(),
    }];
    let role = pb::Role { display_name: "Junior".into(), field_rights, ..Default::default() };
    let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    let role = acme.admin().await.roles().create_role(request).await.unwrap().into_inner();
    let junior = acme.person("junior", &[format!("identity.role/{}", role.id)]).await;
    let rights = async |user: &pb::User| {
        let secret = acme.sign_in(user).await.unwrap();
        world.ctx(Credential::SessionToken(secret)).await.field_rights
    };
    let admins = rights(&acme.administrator).await;
    assert_eq!(admins.private["customer.customer"], ["revenue".to_owned()].into());
    assert!(admins.is_empty(), "nothing is limited for them");
    let juniors = rights(&junior).await;
    assert!(juniors.private.is_empty() && !juniors.may_read("customer.customer", "revenue"));
}

#[tokio::test]
async fn what_operators_do_to_a_tenant_is_told_on_their_plane() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let operator = world.operator().await;
    let id = acme.id.to_string();
    let suspend = pb::SuspendTenantRequest { id: id.clone(), ..Default::default() };
    operator.tenants().suspend_tenant(suspend.clone()).await.unwrap();
    operator.tenants().suspend_tenant(suspend).await.unwrap();
    let delete = pb::DeleteTenantRequest { id, ..Default::default() };
    let gone = operator.tenants().delete_tenant(delete).await.unwrap().into_inner();
    let plane = uuid::Uuid::from_u128(0x8000_8000_6f70_6572_6174);
    let events = world.events(plane).await;
    let told: Vec<_> = events.iter().map(|e| (e.subject.as_str(), e.record_id, e.version)).collect();
    assert_eq!(told, [("tenant.updated.v1", acme.id, 2), ("tenant.updated.v1", acme.id, 3)]);
    assert!(events.iter().all(|event| event.principal.starts_with("identity.operator/")));
    let last: pb::TenantUpdated = events[1].message();
    assert_eq!(last.before.unwrap().state(), pb::TenantState::Suspended);
    assert_eq!(last.tenant.unwrap(), gone);
    assert!(
        last.changed_paths.contains(&"state".to_owned()) && events[1].changed_paths == last.changed_paths
    );
}
