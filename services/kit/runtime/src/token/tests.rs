use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use futures::FutureExt as _;
use rapport_kernel::{BoxError, Clock, FieldRights, Grants, Id, Instant, Principal, Scope, TenantState, Via};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Instant {
    Instant::from_parts(seconds, 0).unwrap()
}

fn claims() -> Claims {
    let mut field_rights = FieldRights::default();
    field_rights.hidden.insert("customer.customer".into(), BTreeSet::from(["revenue".to_owned()]));
    let grants = [("customer.customers.read", Scope::Own), ("a.b.c", Scope::All), ("d.e.f", Scope::Unit)];
    Claims {
        principal: Principal::ApiKey(Uuid::from_u128(1)),
        tenant: Id::new(Uuid::from_u128(2)),
        tenant_state: (TenantState::ReadOnly, 3),
        on_behalf_of: Some(Uuid::from_u128(4)),
        via: Via::Key,
        grants: grants.into_iter().collect::<Grants>(),
        field_rights,
        locale: "zh-CN".into(),
        time_zone: "Asia/Shanghai".into(),
        phone_region: "CN".into(),
        session: None,
        issued_at: at(NOW),
        expires_at: at(NOW + 300),
        id: Uuid::from_u128(5),
    }
}

/// A verifier whose clock and keys the test chooses, with the number of times that the keys were asked for.
struct World {
    now: Arc<AtomicI64>,
    keys: Arc<Mutex<Result<Vec<PublicKey>, String>>>,
    asked: Arc<AtomicUsize>,
    verifier: Verifier,
}

fn world(keys: &[&SigningKeyPair]) -> World {
    let now = Arc::new(AtomicI64::new(NOW));
    let keys: Vec<_> = keys.iter().map(|key| public(key)).collect();
    let keys = Arc::new(Mutex::new(Ok(keys)));
    let asked = Arc::new(AtomicUsize::new(0));
    let source: KeySource = Arc::new({
        let (keys, asked) = (keys.clone(), asked.clone());
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let keys = keys.lock().unwrap().clone().map_err(BoxError::from);
            async { keys }.boxed()
        }
    });
    let clock = Clock::chosen({
        let now = now.clone();
        move || at(now.load(Ordering::SeqCst))
    });
    World { now, keys, asked, verifier: Verifier::new(source, clock) }
}

fn public(key: &SigningKeyPair) -> PublicKey {
    PublicKey { kid: key.kid().into(), key: key.public(), expires_at: None }
}

/// A token with any header and payload, signed by `key`.
fn token(header: &Value, payload: &Value, key: &SigningKeyPair) -> String {
    use ed25519_dalek::{Signer as _, SigningKey};
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload.to_string()));
    let signature = SigningKey::from_bytes(&key.secret()).sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", BASE64.encode(signature))
}

fn payload() -> Value {
    serde_json::from_slice(&claims().to_json().unwrap()).unwrap()
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"})
}

#[tokio::test]
async fn a_token_gives_the_context_that_was_signed() {
    let key = SigningKeyPair::generate("k1");
    let world = world(&[&key]);
    let token = sign(&key, &claims()).unwrap();
    for _ in 0..2 {
        let ctx = world.verifier.verify(&token).await.unwrap();
        let claims = claims();
        assert_eq!(
            (ctx.principal, ctx.tenant, ctx.tenant_state),
            (claims.principal, claims.tenant, claims.tenant_state)
        );
        assert_eq!((ctx.on_behalf_of, ctx.via, ctx.session), (claims.on_behalf_of, claims.via, None));
        assert_eq!((&*ctx.grants, &*ctx.field_rights), (&claims.grants, &claims.field_rights));
        assert_eq!((&*ctx.locale, &*ctx.time_zone, &*ctx.phone_region), ("zh-CN", "Asia/Shanghai", "CN"));
        assert_eq!((ctx.scope, ctx.now()), (Scope::Own, at(NOW)));
    }
    assert_eq!(world.asked.load(Ordering::SeqCst), 1);
    assert_eq!(Claims::from_json(&claims().to_json().unwrap()), Some(claims()));
}

#[tokio::test]
async fn only_ed25519_and_only_plain_headers_are_accepted() {
    let key = SigningKeyPair::generate("k1");
    let verifier = world(&[&key]).verifier;
    verifier.verify(&token(&header(), &payload(), &key)).await.unwrap();
    verifier.verify(&token(&json!({"alg": "EdDSA", "kid": "k1"}), &payload(), &key)).await.unwrap();
    let unsigned = format!(
        "{}.{}.",
        BASE64.encode(r#"{"alg":"none","kid":"k1"}"#),
        BASE64.encode(payload().to_string())
    );
    let mut wrong = vec![unsigned, String::new(), "..".into(), "a.b".into(), "客.户.号".into()];
    for header in [
        json!({"alg": "none", "kid": "k1"}),
        json!({"alg": "HS256", "kid": "k1"}),
        json!({"alg": "eddsa", "kid": "k1"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "kid": "k1", "crit": ["b64"], "b64": false}),
        json!({"alg": "EdDSA", "kid": "k1", "jku": "https://evil.example/keys"}),
        json!({"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"}),
    ] {
        wrong.push(token(&header, &payload(), &key));
    }
    for token in wrong {
        assert!(matches!(verifier.verify(&token).await, Err(Error::Unauthenticated)), "{token}");
    }
}

#[tokio::test]
async fn forged_and_changed_tokens_are_refused() {
    let (key, other) = (SigningKeyPair::generate("k1"), SigningKeyPair::generate("k1"));
    let verifier = world(&[&key]).verifier;
    let good = sign(&key, &claims()).unwrap();
    let forged = sign(&other, &claims()).unwrap();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let mut richer = payload();
    richer["gr"] = json!({"all": ["*"]});
    let changed = format!("{header}.{}.{signature}", BASE64.encode(richer.to_string()));
    let zero = format!("{head}.{}", BASE64.encode([0_u8; 64]));
    for token in [forged, changed, zero, format!("{good}A"), format!("{good}="), good.replace('.', " .")] {
        assert!(matches!(verifier.verify(&token).await, Err(Error::Unauthenticated)), "{token}");
    }
}

#[tokio::test]
async fn times_issuer_and_audience_count() {
    let key = SigningKeyPair::generate("k1");
    let world = world(&[&key]);
    let verify = async |changes: Value| {
        let mut payload = payload();
        for (name, value) in changes.as_object().unwrap() {
            payload[name] = value.clone();
        }
        world.verifier.verify(&token(&header(), &payload, &key)).await.is_ok()
    };
    assert!(verify(json!({"exp": NOW - 9, "iat": NOW - 300, "nbf": NOW - 300})).await);
    assert!(!verify(json!({"exp": NOW - 10, "iat": NOW - 300, "nbf": NOW - 300})).await);
    assert!(verify(json!({"nbf": NOW + 10, "iat": NOW + 10})).await);
    assert!(!verify(json!({"nbf": NOW + 11})).await);
    assert!(!verify(json!({"iat": NOW + 11})).await);
    assert!(!verify(json!({"exp": NOW + 301})).await, "longer than five minutes");
    assert!(!verify(json!({"exp": (NOW + 100).to_string()})).await, "a time that is not a number");
    assert!(!verify(json!({"exp": null})).await);
    assert!(!verify(json!({"aud": "elsewhere"})).await);
    assert!(!verify(json!({"iss": "elsewhere"})).await);
    assert!(!verify(json!({"sub": "service"})).await);
    assert!(!verify(json!({"gr": {"everything": ["*"]}})).await);
}

#[tokio::test]
async fn a_remembered_token_ends_in_time() {
    let key = SigningKeyPair::generate("k1");
    let world = world(&[&key]);
    let token = sign(&key, &claims()).unwrap();
    world.verifier.verify(&token).await.unwrap();
    world.now.store(NOW + 309, Ordering::SeqCst);
    world.verifier.verify(&token).await.unwrap();
    world.now.store(NOW + 310, Ordering::SeqCst);
    assert!(matches!(world.verifier.verify(&token).await, Err(Error::Unauthenticated)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_at_most_once_in_five_seconds() {
    let (old, new) = (SigningKeyPair::generate("k1"), SigningKeyPair::generate("k2"));
    let world = world(&[&old]);
    world.verifier.verify(&sign(&old, &claims()).unwrap()).await.unwrap();
    let token = sign(&new, &claims()).unwrap();
    world.keys.lock().unwrap().as_mut().unwrap().push(public(&new));
    for _ in 0..50 {
        assert!(matches!(world.verifier.verify(&token).await, Err(Error::Unauthenticated)));
    }
    assert_eq!(world.asked.load(Ordering::SeqCst), 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    let calls = futures::future::join_all((0..50).map(|_| world.verifier.verify(&token))).await;
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(world.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_or_expired_key_is_not_believed_any_more() {
    let key = SigningKeyPair::generate("k1");
    let world = world(&[&key]);
    let token = sign(&key, &claims()).unwrap();
    world.verifier.verify(&token).await.unwrap();
    *world.keys.lock().unwrap() = Ok(vec![]);
    tokio::time::advance(Duration::from_secs(299)).await;
    world.verifier.verify(&token).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(world.verifier.verify(&token).await, Err(Error::Unauthenticated)));

    *world.keys.lock().unwrap() = Ok(vec![PublicKey { expires_at: Some(at(NOW + 20)), ..public(&key) }]);
    tokio::time::advance(Duration::from_secs(5)).await;
    world.verifier.verify(&token).await.unwrap();
    world.now.store(NOW + 20, Ordering::SeqCst);
    assert!(matches!(world.verifier.verify(&token).await, Err(Error::Unauthenticated)));
}

#[tokio::test(start_paused = true)]
async fn when_the_keys_cannot_be_fetched_known_ones_go_on_and_others_are_told_to_retry() {
    let (key, new) = (SigningKeyPair::generate("k1"), SigningKeyPair::generate("k2"));
    let world = world(&[&key]);
    let token = sign(&key, &claims()).unwrap();
    world.verifier.verify(&token).await.unwrap();
    *world.keys.lock().unwrap() = Err("identity is down".into());
    tokio::time::advance(Duration::from_secs(400)).await;
    world.verifier.verify(&token).await.unwrap();
    let unknown = world.verifier.verify(&sign(&new, &claims()).unwrap()).await;
    assert!(matches!(unknown, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_key_that_would_verify_anything_is_not_taken() {
    let key = SigningKeyPair::generate("k1");
    let world = world(&[]);
    let mut neutral = [0; 32];
    neutral[0] = 1;
    *world.keys.lock().unwrap() = Ok(vec![PublicKey { kid: "k1".into(), key: neutral, expires_at: None }]);
    let result = world.verifier.verify(&sign(&key, &claims()).unwrap()).await;
    assert!(matches!(result, Err(Error::Unauthenticated)));
}

#[test]
fn too_long_a_life_or_token_is_not_signed() {
    let key = SigningKeyPair::generate("k1");
    assert!(sign(&key, &Claims { expires_at: at(NOW + 301), ..claims() }).is_err());
    assert!(sign(&key, &Claims { expires_at: at(NOW), ..claims() }).is_err());
    let many: Grants = (0..500).map(|i| (format!("customer.customers.action{i}"), Scope::Own)).collect();
    assert!(sign(&key, &Claims { grants: many, ..claims() }).is_err());
}
