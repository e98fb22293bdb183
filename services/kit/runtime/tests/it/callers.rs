//! Who calls, and what they may.
use std::sync::{Arc, Mutex};

use rapport_kernel::{Ctx, Grants, Principal, Scope, TenantState, Via};
use rapport_proto::identity::v1::{
    DeleteUnitRequest, ListSigningKeysRequest, Unit, token_service_client::TokenServiceClient,
};
use rapport_runtime::token::{Claims, SigningKeyPair, sign};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::world::{Answers, ID, SECRET, World, get, with};

fn code<T>(result: Result<T, Status>) -> (Code, String) {
    result.map_or_else(|status| (status.code(), status.message().to_owned()), |_| (Code::Ok, String::new()))
}

fn not_signed_in() -> (Code, String) {
    (Code::Unauthenticated, "not signed in".into())
}

#[tokio::test]
async fn a_handler_gets_the_context_of_the_token() {
    let seen = Arc::new(Mutex::new(None::<Ctx>));
    let sees = seen.clone();
    let world = World::start(Answers::get(move |ctx, _| {
        *sees.lock().unwrap() = Some(ctx);
        async { Ok(Unit::default()) }
    }))
    .await;
    let claims = Claims {
        grants: [("identity.units.read", Scope::Unit)].into_iter().collect::<Grants>(),
        principal: Principal::ApiKey(Uuid::from_u128(3)),
        on_behalf_of: Some(Uuid::from_u128(4)),
        via: Via::Key,
        ..world.claims()
    };
    world.units().await.get_unit(world.signed_as(claims.clone(), get())).await.unwrap();
    let ctx = seen.lock().unwrap().take().unwrap();
    assert_eq!(
        (ctx.tenant, ctx.tenant_state, ctx.principal),
        (claims.tenant, claims.tenant_state, claims.principal)
    );
    assert_eq!((ctx.on_behalf_of, ctx.via, ctx.session), (claims.on_behalf_of, claims.via, claims.session));
    assert_eq!((ctx.scope, &*ctx.grants), (Scope::Unit, &claims.grants));
    assert_eq!((&*ctx.locale, &*ctx.time_zone, &*ctx.phone_region), ("zh-CN", "Asia/Shanghai", "CN"));
    assert_eq!(ctx.request_id, None);
}

#[tokio::test]
async fn whoever_is_not_signed_in_learns_nothing_but_that() {
    let world = World::start(Answers::default()).await;
    let mut units = world.units().await;
    let now = world.claims().issued_at;
    let old =
        Claims { issued_at: now.plus_seconds(-311), expires_at: now.plus_seconds(-11), ..world.claims() };
    let other_key = sign(&SigningKeyPair::generate("k1"), &world.claims()).unwrap();
    let other_kid = sign(&SigningKeyPair::generate("k2"), &world.claims()).unwrap();
    let none = "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.e30.";
    for authorization in ["", "Bearer ", "Bearer x", "Basic YTpi", &format!("Bearer {none}")]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("Bearer {other_key}"), format!("Bearer {other_kid}")])
    {
        let request = with(get(), "authorization", &authorization);
        assert_eq!(code(units.get_unit(request).await), not_signed_in(), "{authorization}");
    }
    assert_eq!(code(units.get_unit(world.signed_as(old, get())).await), not_signed_in());
    assert_eq!(code(units.get_unit(get()).await), not_signed_in());
    // Neither what is wrong with the request nor whether the method exists.
    assert_eq!(code(units.delete_unit(DeleteUnitRequest::default()).await), not_signed_in());
    let mut raw = tonic::client::Grpc::new(world.channel().await);
    raw.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = "/rapport.identity.v1.UnitService/Nothing".parse().unwrap();
    assert_eq!(code(raw.unary(Request::new(()), path, codec).await), not_signed_in());
}

#[tokio::test]
async fn two_credentials_are_none() {
    let world = World::start(Answers::default()).await;
    let mut request = world.signed(get());
    request.metadata_mut().insert("rapport-internal", SECRET.parse().unwrap());
    assert_eq!(code(world.units().await.get_unit(request).await), not_signed_in());
    let mut request = world.signed(get());
    let again = request.metadata().get("authorization").unwrap().clone();
    request.metadata_mut().append("authorization", again);
    assert_eq!(code(world.units().await.get_unit(request).await), not_signed_in());
}

#[tokio::test]
async fn an_unknown_method_is_refused() {
    let world = World::start(Answers::default()).await;
    for path in [
        "/rapport.identity.v1.UnitService/Nothing",
        "/nothing.at/all",
        "/grpc.reflection.v1.ServerReflection/X",
    ] {
        let mut raw = tonic::client::Grpc::new(world.channel().await);
        raw.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let refused = raw.unary(world.signed(()), path.parse().unwrap(), codec).await;
        assert_eq!(code(refused).0, Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let world = World::start(Answers::default()).await;
    let claims = Claims {
        grants: [("identity.units.read", Scope::All)].into_iter().collect::<Grants>(),
        ..world.claims()
    };
    let request = world.signed_as(claims, DeleteUnitRequest { id: ID.into(), ..Default::default() });
    let problem = "permission `identity.units.manage` is required".to_owned();
    assert_eq!(code(world.units().await.delete_unit(request).await), (Code::PermissionDenied, problem));
}

#[tokio::test]
async fn a_suspended_tenant_is_refused() {
    let world = World::start(Answers::default()).await;
    let claims = Claims { tenant_state: (TenantState::Suspended, 2), ..world.claims() };
    let refused = world.units().await.get_unit(world.signed_as(claims, get())).await;
    assert_eq!(code(refused), (Code::PermissionDenied, "this tenant is suspended".into()));
}

#[tokio::test]
async fn services_are_known_by_their_secret_alone() {
    let world = World::start(Answers::default()).await;
    let mut tokens = TokenServiceClient::new(world.channel().await);
    let mut call = async |secret: &str| {
        code(tokens.list_signing_keys(with(ListSigningKeysRequest {}, "rapport-internal", secret)).await).0
    };
    // Permitted; there just is no handler for it in this world.
    assert_eq!(call(SECRET).await, Code::Unimplemented);
    for wrong in ["", "x", &SECRET[1..], &format!("{SECRET}x"), &SECRET.to_uppercase()] {
        assert_eq!(call(wrong).await, Code::Unauthenticated, "{wrong}");
    }
    let user = tokens.list_signing_keys(world.signed(ListSigningKeysRequest {})).await;
    assert_eq!(code(user).0, Code::PermissionDenied);
    let service = world.units().await.get_unit(with(get(), "rapport-internal", SECRET)).await;
    assert_eq!(code(service).0, Code::PermissionDenied);
}
