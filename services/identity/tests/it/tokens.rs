//! Tokens: exchanged, verified, and the keys that follow one another.
use std::{collections::BTreeSet, time::Duration};

use rapport_identity::key_source;
use rapport_proto::identity::v1::{self as pb, exchange_credential_request::Credential};
use rapport_runtime::token::Verifier;
use tonic::Code;

use crate::{caller::refusal, world::World};

async fn published(world: &World) -> Vec<pb::SigningKey> {
    let request = pb::ListSigningKeysRequest {};
    world.internal().tokens().list_signing_keys(request).await.unwrap().into_inner().keys
}

/// Whether a service that has just started believes the token.
async fn is_believed(world: &World, token: &str) -> bool {
    Verifier::new(key_source(world.db.clone(), world.clock()), world.clock()).verify(token).await.is_ok()
}

#[tokio::test]
async fn only_rapports_own_services_exchange_credentials() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let secret = acme.sign_in(&acme.administrator).await.unwrap();
    let request = pb::ExchangeCredentialRequest {
        credential: Some(Credential::SessionToken(secret)),
        ip_address: String::new(),
    };
    for caller in [acme.admin().await, world.operator().await] {
        assert_eq!(
            refusal(caller.tokens().exchange_credential(request.clone()).await).0,
            Code::PermissionDenied
        );
        let keys = caller.tokens().list_signing_keys(pb::ListSigningKeysRequest {}).await;
        assert_eq!(refusal(keys).0, Code::PermissionDenied);
    }
    assert_eq!(
        refusal(world.anonymous().tokens().exchange_credential(request).await).0,
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn what_is_no_credential_is_refused_without_a_reason() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let other = world.tenant("other").await;
    let secret = acme.sign_in(&acme.administrator).await.unwrap();
    let elsewhere = secret.replace(&acme.id.simple().to_string(), &other.id.simple().to_string());
    let plane = secret.replace(&acme.id.simple().to_string(), "00000000000080008000".to_owned().as_str());
    let plane = format!("{plane}6f7065726174");
    let mut forged = secret.clone();
    forged.replace_range(forged.len() - 1.., if forged.ends_with('A') { "B" } else { "A" });
    let key = secret.replace("ses_", "rap_");
    let expected = (Code::Unauthenticated, "UNAUTHENTICATED".to_owned(), "not signed in".to_owned());
    for wrong in ["", "ses", &elsewhere, &plane, &forged, &key] {
        for credential in [Credential::SessionToken(wrong.to_owned()), Credential::ApiKey(wrong.to_owned())] {
            assert_eq!(refusal(world.exchange(credential).await), expected, "{wrong}");
        }
    }
}

#[tokio::test]
async fn a_token_lives_a_minute_and_tells_the_persons_own_place() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let abroad = pb::User { locale: "en-GB".into(), time_zone: "Europe/London".into(), ..li.clone() };
    acme.admin().await.update_user(abroad, &["locale", "time_zone"]).await.unwrap();
    let secret = acme.sign_in(&li).await.unwrap();
    let ctx = world.ctx(Credential::SessionToken(secret.clone())).await;
    assert_eq!((&*ctx.locale, &*ctx.time_zone), ("en-GB", "Europe/London"));
    let token = world.exchange(Credential::SessionToken(secret)).await.unwrap();
    assert!(is_believed(&world, &token).await);
    world.wait(Duration::from_secs(71));
    assert!(!is_believed(&world, &token).await);
}

#[tokio::test]
async fn a_new_key_is_known_before_it_signs_and_the_old_one_after() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let first = published(&world).await;
    assert_eq!((first.len(), first[0].expire_time, first[0].public_key.len()), (1, None, 32));
    let token = async || {
        let secret = acme.sign_in(&acme.administrator).await.unwrap();
        world.exchange(Credential::SessionToken(secret)).await.unwrap()
    };
    let kid = |token: &str| {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        let header = BASE64.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    assert_eq!(kid(&token().await), first[0].id);

    // A day later the next one is there, and the old one goes on signing.
    world.wait(Duration::from_secs(24 * 3600));
    let old = token().await;
    assert_eq!(kid(&old), first[0].id);
    let both = published(&world).await;
    assert_eq!(both.iter().map(|key| key.expire_time.is_some()).collect::<Vec<_>>(), [false, true]);
    world.wait(Duration::from_secs(599));
    assert_eq!(kid(&token().await), first[0].id);
    // The keys are looked at once a minute.
    world.wait(Duration::from_secs(60));
    let last = token().await;
    assert_eq!(kid(&last), both[0].id);
    assert!(is_believed(&world, &last).await);
    assert_eq!(published(&world).await.len(), 2);
    // Ten minutes after it signed last, the old one is not believed any more.
    world.wait(Duration::from_secs(541));
    assert_eq!(published(&world).await.len(), 1);
    assert!(is_believed(&world, &token().await).await);
    // With the next one, its secret is gone.
    world.wait(Duration::from_secs(24 * 3600));
    token().await;
    let kept: Vec<String> = sqlx::query_scalar("SELECT id FROM platform.signing_keys")
        .fetch_all(&mut world.database.admin().await)
        .await
        .unwrap();
    assert!(kept.len() == 2 && !kept.contains(&first[0].id));
}

#[tokio::test]
async fn of_many_processes_one_makes_the_next_key() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let mut callers = Vec::new();
    for _ in 0..4 {
        callers.push(world.internal_elsewhere().await);
    }
    for day in 1..=3 {
        world.wait(Duration::from_secs(25 * 3600));
        let secret = acme.sign_in(&acme.administrator).await.unwrap();
        let exchanges = callers.iter().map(|caller| {
            let (caller, secret) = (caller.clone(), secret.clone());
            tokio::spawn(async move {
                let credential = Some(Credential::SessionToken(secret));
                let request = pb::ExchangeCredentialRequest { credential, ip_address: String::new() };
                caller.tokens().exchange_credential(request).await.unwrap();
            })
        });
        for exchange in exchanges.collect::<Vec<_>>() {
            exchange.await.unwrap();
        }
        let kept: Vec<String> = sqlx::query_scalar("SELECT id FROM platform.signing_keys")
            .fetch_all(&mut world.database.admin().await)
            .await
            .unwrap();
        assert_eq!(
            (kept.iter().collect::<BTreeSet<_>>().len(), published(&world).await.len()),
            (2, 2),
            "day {day}"
        );
    }
}

#[tokio::test]
async fn a_role_that_changes_changes_the_next_token() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let name = acme.make_role("readers", &[("identity.users.read", pb::Scope::All)]).await;
    let li = acme.person("li", std::slice::from_ref(&name)).await;
    let secret = acme.sign_in(&li).await.unwrap();
    let scope = async || {
        world.ctx(Credential::SessionToken(secret.clone())).await.grants.scope("identity.users.read")
    };
    assert!(scope().await.is_some());
    let role = pb::Role { id: name.rsplit('/').next().unwrap().into(), ..Default::default() };
    let request = pb::UpdateRoleRequest {
        role: Some(role),
        update_mask: Some(crate::caller::mask(&["permissions"])),
        ..Default::default()
    };
    acme.admin().await.roles().update_role(request).await.unwrap();
    assert!(scope().await.is_none());
}

/// Not a rule but a figure: run it with `--ignored --nocapture` in a release build.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_signing_in_and_exchanging_take() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let time = async |name: &str,
                      count: u32,
                      work: &dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let mut times = Vec::new();
        for _ in 0..count {
            let begun = std::time::Instant::now();
            work().await;
            times.push(begun.elapsed());
        }
        times.sort();
        println!("{name}: median {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    };
    let (email, anonymous) = (acme.administrator.email.clone(), world.anonymous());
    time("sign-in", 100, &|| {
        let (caller, email) = (anonymous.clone(), email.clone());
        Box::pin(async move {
            let request =
                pb::SignInRequest { tenant: "acme".into(), email, password: crate::world::PASSWORD.into() };
            caller.sessions().sign_in(request).await.unwrap();
        })
    })
    .await;
    let (secret, internal) = (acme.sign_in(&acme.administrator).await.unwrap(), world.internal());
    time("exchange of a session", 1000, &|| {
        let (caller, secret) = (internal.clone(), secret.clone());
        Box::pin(async move {
            let request = pb::ExchangeCredentialRequest {
                credential: Some(Credential::SessionToken(secret)),
                ip_address: String::new(),
            };
            caller.tokens().exchange_credential(request).await.unwrap();
        })
    })
    .await;
}
