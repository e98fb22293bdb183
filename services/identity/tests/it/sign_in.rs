//! Signing in: one answer for whatever is wrong, and the lock-out.
use std::time::{Duration, Instant};

use rapport_identity::Passwords;
use rapport_kernel::{Principal, Scope, Via};
use rapport_proto::identity::v1::{self as pb, exchange_credential_request::Credential};
use tonic::Code;

use crate::{
    caller::{reason, refusal},
    database::Database,
    world::{PASSWORD, World},
};

#[tokio::test]
async fn a_person_signs_in_and_the_session_opens_what_the_role_allows() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let seller = acme.person("li.wei", &[acme.role("sales").await]).await;

    // Tenant and address are known without regard to case, and with blanks around them.
    let secret = world.sign_in("Acme ", " LI.WEI@acme.example.com ", PASSWORD).await.unwrap();
    assert!(secret.starts_with(&format!("ses_{}_", acme.id.simple())), "{secret}");
    let ctx = world.ctx(Credential::SessionToken(secret.clone())).await;
    assert_eq!(
        (ctx.tenant.uuid(), ctx.principal, ctx.via),
        (acme.id, Principal::User(seller.id.parse().unwrap()), Via::Console)
    );
    assert_eq!(ctx.grants.scope("customer.customers.read"), Some(Scope::Own));
    assert_eq!(ctx.grants.scope("identity.users.manage"), None);
    assert_eq!((&*ctx.locale, &*ctx.time_zone, &*ctx.phone_region), ("zh-CN", "Asia/Shanghai", "CN"));

    let me = world.session(&secret).await.unwrap().me().await.unwrap();
    assert_eq!(me.principal, format!("identity.user/{}", seller.id));
    assert_eq!((me.tenant, me.tenant_slug), (acme.id.to_string(), "acme".to_owned()));
    let user = me.user.unwrap();
    assert_eq!((user.email.as_str(), user.state()), ("li.wei@acme.example.com", pb::UserState::Active));
    assert!(user.last_sign_in_time.is_some());
    assert!(
        me.permissions.iter().any(|p| p.name == "customer.customers.share" && p.scope() == pb::Scope::Own)
    );
}

#[tokio::test]
async fn whatever_is_wrong_the_answer_is_the_same_and_costs_the_same() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let gone = world.tenant("gone").await;
    world
        .operator()
        .await
        .tenants()
        .suspend_tenant(pb::SuspendTenantRequest { id: gone.id.to_string(), ..Default::default() })
        .await
        .unwrap();
    acme.invite("invited", &[]).await;
    let former = acme.person("former", &[]).await;
    acme.admin().await.deactivate(&former.id).await.unwrap();
    let locked = acme.person("locked", &[]).await;
    for _ in 0..10 {
        world.sign_in("acme", &locked.email, "a wrong password").await.unwrap_err();
    }

    let expected = (
        Code::FailedPrecondition,
        "SIGN_IN_FAILED".into(),
        "tenant, e-mail address or password is wrong".to_owned(),
    );
    for (tenant, email, password) in [
        ("nobody", "admin@acme.example.com", PASSWORD),
        ("gone", "admin@gone.example.com", PASSWORD),
        ("acme", "nobody@acme.example.com", PASSWORD),
        ("acme", "not an address", PASSWORD),
        ("acme", "admin@acme.example.com", "a wrong password"),
        ("acme", "invited@acme.example.com", PASSWORD),
        ("acme", "former@acme.example.com", PASSWORD),
        ("acme", "locked@acme.example.com", PASSWORD),
    ] {
        let (before, begun) = (world.passwords.verifications(), Instant::now());
        let refused = refusal(world.sign_in(tenant, email, password).await);
        assert_eq!(refused, expected, "{tenant} {email}");
        assert_eq!(world.passwords.verifications() - before, 1, "{tenant} {email}");
        assert!(begun.elapsed() >= Duration::from_millis(100), "{tenant} {email}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_tenth_failure_locks_the_account_and_the_right_password_does_not_open_it() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    for _ in 0..9 {
        world.sign_in("acme", &li.email, "a wrong password").await.unwrap_err();
    }
    acme.sign_in(&li).await.unwrap();

    // What was right once begins the count anew.
    for _ in 0..10 {
        acme.sign_in(&li).await.map(|_| ()).unwrap_or_default();
        world.sign_in("acme", &li.email, "a wrong password").await.unwrap_err();
    }
    acme.sign_in(&li).await.unwrap();
    for _ in 0..10 {
        world.sign_in("acme", &li.email, "a wrong password").await.unwrap_err();
    }
    assert_eq!(reason(acme.sign_in(&li).await), "SIGN_IN_FAILED");
    world.wait(Duration::from_secs(15 * 60 - 1));
    assert_eq!(reason(acme.sign_in(&li).await), "SIGN_IN_FAILED");
    world.wait(Duration::from_secs(1));
    acme.sign_in(&li).await.unwrap();
}

#[tokio::test]
async fn guesses_at_the_same_time_count_one_by_one() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let guesses = (0..20).map(|_| {
        let caller = world.anonymous();
        let request = pb::SignInRequest {
            tenant: "acme".into(),
            email: li.email.clone(),
            password: "a wrong password".into(),
        };
        tokio::spawn(async move { caller.sessions().sign_in(request).await.map(drop).unwrap_err() })
    });
    for guess in guesses.collect::<Vec<_>>() {
        guess.await.unwrap();
    }
    assert_eq!(reason(acme.sign_in(&li).await), "SIGN_IN_FAILED");
    let events = world.events(acme.id).await;
    let failed: Vec<_> = events.iter().filter(|event| event.subject == "session.sign_in_failed.v1").collect();
    let of = |reason: &str| {
        failed.iter().filter(|event| event.message::<pb::SignInFailed>().reason == reason).count()
    };
    assert_eq!((of("wrong_password"), of("locked")), (10, 11));
}

#[tokio::test]
async fn too_many_failures_with_one_address_are_put_off_whether_it_exists_or_not() {
    let world = World::new().await;
    world.tenant("acme").await;
    for email in ["admin@acme.example.com", "nobody@acme.example.com"] {
        let guesses = (0..30).map(|_| {
            let caller = world.anonymous();
            let request = pb::SignInRequest {
                tenant: "acme".into(),
                email: email.into(),
                password: "a wrong one".into(),
            };
            tokio::spawn(async move { caller.sessions().sign_in(request).await.map(drop).unwrap_err() })
        });
        for guess in guesses.collect::<Vec<_>>() {
            assert_eq!(reason::<()>(Err(guess.await.unwrap())), "SIGN_IN_FAILED");
        }
        let before = world.passwords.verifications();
        assert_eq!(refusal(world.sign_in("acme", email, PASSWORD).await).0, Code::ResourceExhausted);
        assert_eq!(world.passwords.verifications(), before, "nothing is computed any more");
    }
}

#[tokio::test]
async fn sign_ins_and_their_failures_are_told() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    let li = acme.person("li", &[]).await;
    let wang = acme.invite("wang", &[]).await.user.unwrap();
    let before = world.events(acme.id).await.len();
    acme.sign_in(&li).await.unwrap();
    world.sign_in("acme", &li.email, "a wrong password").await.unwrap_err();
    acme.sign_in(&wang).await.unwrap_err();
    world.sign_in("acme", "nobody@acme.example.com", PASSWORD).await.unwrap_err();

    let events = acme.events_since(before).await;
    let subjects: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(
        subjects,
        ["session.sign_in_succeeded.v1", "session.sign_in_failed.v1", "session.sign_in_failed.v1"]
    );
    let succeeded: pb::SignInSucceeded = events[0].message();
    assert_eq!(succeeded.user, format!("identity.user/{}", li.id));
    let failed: pb::SignInFailed = events[2].message();
    assert_eq!((failed.user, failed.reason), (format!("identity.user/{}", wang.id), "invited".to_owned()));
    assert!(events.iter().all(|event| event.resource == "user"));
}

#[tokio::test]
async fn a_hash_of_less_effort_is_replaced_at_the_next_sign_in() {
    let weak = World::on(Database::new().await, Passwords::with(1024, 1, 1).unwrap()).await;
    weak.tenant("acme").await;
    let World { database, .. } = weak;
    let world = World::on(database, Passwords::new().unwrap()).await;
    let hash = async || -> String {
        sqlx::query_scalar("SELECT hash FROM credentials")
            .fetch_one(&mut world.database.admin().await)
            .await
            .unwrap()
    };
    assert!(hash().await.contains("m=1024"), "{}", hash().await);
    world.sign_in("acme", "admin@acme.example.com", "a wrong password").await.unwrap_err();
    assert!(hash().await.contains("m=1024"));
    world.sign_in("acme", "admin@acme.example.com", PASSWORD).await.unwrap();
    assert!(hash().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash().await);
    world.sign_in("acme", "admin@acme.example.com", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn people_of_a_tenant_that_is_only_read_still_sign_in() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    sqlx::query("UPDATE platform.directory SET state = 'read_only', generation = generation + 1")
        .execute(&mut world.database.admin().await)
        .await
        .unwrap();
    let (admin, told) = acme.subjects(acme.admin()).await;
    assert_eq!(told, Vec::<String>::new());
    admin.me().await.unwrap();
    let request = pb::CreateUnitRequest {
        unit: Some(pb::Unit { display_name: "Sales".into(), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(reason(admin.units().create_unit(request).await), "TENANT_READ_ONLY");
    world.sign_in("acme", &acme.administrator.email, "a wrong password").await.unwrap_err();
}
