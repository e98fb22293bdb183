//! Who is let in: keys, cookies, the exchange and its memory, other sites' pages, and rate limits.
use std::time::Duration;

use rapport_gateway::Rate;
use rapport_proto::identity::v1::{Session, SignInResponse};
use serde_json::{Value, json};

use crate::world::{ID, KEY, SESSION, World, token};

const CUSTOMERS: &str = "/v1/customers";

async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_key_becomes_a_token_and_never_goes_inside() {
    let world = World::start().await;
    let request = world
        .call("GET", CUSTOMERS)
        .header("rapport-internal", "guess")
        .header("rapport-client-ip", "10.9.9.9")
        .header("user-agent", "erp/2")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(status(request).await, 200);
    let call = world.services.last();
    assert_eq!(call.header("authorization"), Some(token(KEY).as_str()));
    assert_eq!(call.header("rapport-internal"), None);
    assert_eq!(call.header("rapport-client-ip"), Some("127.0.0.1"));
    assert_eq!(call.header("rapport-user-agent"), Some("erp/2"));
    assert_eq!(call.header("traceparent"), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert!(call.metadata.values().all(|value| !value.to_str().unwrap().contains("rap_acme")));
}

#[tokio::test]
async fn nobody_learns_anything_without_a_credential() {
    let world = World::start().await;
    let mut answers = std::collections::HashSet::new();
    let requests = [
        world.anonymous("GET", CUSTOMERS),
        world.anonymous("GET", &format!("{CUSTOMERS}/{ID}")),
        world.anonymous("GET", &format!("{CUSTOMERS}/not-an-id")),
        world.anonymous("POST", CUSTOMERS).body("{"),
        world.anonymous("POST", "/v1/tenants").json(&json!({"no": "such field"})),
        world.anonymous("GET", "/v1/customers?noSuch=parameter"),
        world.anonymous("GET", "/v1/me").bearer_auth("rap_unknown"),
        world.anonymous("GET", "/v1/me").bearer_auth("eyJhbGciOiJFZERTQSJ9.e30.c2ln"),
        world.anonymous("GET", "/v1/me").header("cookie", "rapport=unknown"),
        world.anonymous("GET", "/v1/me").header("authorization", "Basic cmFwOng="),
    ];
    for request in requests {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let mut body: Value = answer.json().await.unwrap();
        body.as_object_mut().unwrap().remove("instance").unwrap();
        answers.insert(body.to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(world.services.calls().is_empty(), "no service was asked");
}

#[tokio::test]
async fn a_token_from_outside_never_reaches_a_service() {
    let world = World::start().await;
    assert_eq!(status(world.anonymous("GET", "/v1/me").header("authorization", token(KEY))).await, 401);
    assert_eq!(world.identity.asked(), 0);
}

#[tokio::test]
async fn a_credential_is_asked_for_once_in_five_seconds() {
    let world = World::start().await;
    *world.identity.delay.lock().unwrap() = Duration::from_millis(50);
    let calls: Vec<_> = (0..20).map(|_| status(world.call("GET", "/v1/me"))).collect();
    assert!(futures::future::join_all(calls).await.iter().all(|status| *status == 200));
    assert_eq!(world.identity.asked(), 1, "callers with one credential wait for one question");
    for _ in 0..3 {
        assert_eq!(status(world.anonymous("GET", "/v1/me").bearer_auth("rap_unknown")).await, 401);
    }
    assert_eq!(world.identity.asked(), 2, "a refusal is remembered too");
}

#[tokio::test]
async fn a_revocation_is_felt_within_five_seconds() {
    let world = World::start().await;
    assert_eq!(status(world.call("GET", "/v1/me")).await, 200);
    world.identity.revoke(KEY);
    tokio::time::sleep(Duration::from_millis(5_050)).await;
    assert_eq!(status(world.call("GET", "/v1/me")).await, 401);
}

fn signed_in(world: &World) {
    let session = Session { id: ID.into(), ..Session::default() };
    let answer = SignInResponse { session: Some(session), session_token: SESSION.into() };
    world.services.answer("identity.v1.SessionService/SignIn", &answer);
}

fn sign_in(world: &World) -> reqwest::RequestBuilder {
    let body = json!({"tenant": "acme", "email": "wei@acme.example", "password": "correct horse"});
    world.anonymous("POST", "/v1/sessions:signIn").json(&body)
}

#[tokio::test]
async fn signing_in_gives_a_cookie_and_hides_the_secret() {
    let world = World::with(|settings| settings.cookie_secure = true).await;
    signed_in(&world);
    let answer = sign_in(&world).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    let expected = format!("__Host-rapport={SESSION}; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure");
    assert_eq!(cookie, expected);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"session": {"id": ID}}));
    assert_eq!(world.services.last().header("authorization"), None);

    let with_cookie = world.anonymous("GET", "/v1/me").header("cookie", format!("__Host-rapport={SESSION}"));
    assert_eq!(status(with_cookie).await, 200);
    assert_eq!(world.services.last().header("authorization"), Some(token(SESSION).as_str()));
}

#[tokio::test]
async fn an_old_cookie_does_not_keep_anyone_from_signing_in() {
    let world = World::start().await;
    signed_in(&world);
    let again = sign_in(&world).header("cookie", "rapport=long-gone").header("sec-fetch-site", "same-origin");
    assert_eq!(status(again).await, 200);
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once() {
    let world = World::start().await;
    let cookie = format!("rapport={SESSION}");
    let me = || world.anonymous("GET", "/v1/me").header("cookie", &cookie);
    assert_eq!(status(me()).await, 200);
    let out = world.anonymous("POST", "/v1/sessions:signOut").header("cookie", &cookie);
    let answer = out.header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["set-cookie"], "rapport=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    world.identity.revoke(SESSION);
    assert_eq!(status(me()).await, 401, "what the gateway remembered is forgotten");
}

#[tokio::test]
async fn another_sites_page_cannot_use_the_cookie() {
    let world = World::start().await;
    let cookie = format!("rapport={SESSION}");
    let own = world.url.clone();
    let change = |headers: &[(&str, &str)]| {
        let request =
            world.anonymous("POST", CUSTOMERS).header("cookie", &cookie).json(&json!({"displayName": "x"}));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    for (headers, expected) in [
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "none")], 200),
        (vec![("origin", own.as_str())], 200),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("sec-fetch-site", "cross-site"), ("origin", own.as_str())], 403),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![], 403),
    ] {
        assert_eq!(status(change(&headers)).await, expected, "{headers:?}");
    }
    let read =
        world.anonymous("GET", CUSTOMERS).header("cookie", &cookie).header("sec-fetch-site", "cross-site");
    assert_eq!(status(read).await, 200, "reading changes nothing, and its answer cannot be read by the page");
    let by_key = world.call("POST", CUSTOMERS).header("sec-fetch-site", "cross-site").json(&json!({}));
    assert_eq!(status(by_key).await, 200, "no browser sends a key by itself");
    for form in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"] {
        let request = world
            .anonymous("POST", CUSTOMERS)
            .header("cookie", &cookie)
            .header("sec-fetch-site", "same-origin");
        assert_eq!(status(request.header("content-type", form).body("a=1")).await, 415, "{form}");
    }
}

#[tokio::test]
async fn another_sites_page_cannot_sign_anyone_in() {
    let world = World::start().await;
    signed_in(&world);
    assert_eq!(status(sign_in(&world).header("sec-fetch-site", "cross-site")).await, 403);
    assert_eq!(status(sign_in(&world).header("origin", "https://evil.example")).await, 403);
    assert_eq!(status(sign_in(&world)).await, 200, "a program says nothing of its origin");
}

#[tokio::test]
async fn other_origins_are_closed_out_unless_they_were_let_in() {
    let closed = World::start().await;
    let preflight = |world: &World, origin: &str| {
        world
            .anonymous("OPTIONS", CUSTOMERS)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
    };
    let answer = preflight(&closed, "https://console.example").send().await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));

    let open =
        World::with(|settings| settings.allowed_origins = vec!["https://console.example".into()]).await;
    let answer = preflight(&open, "https://console.example").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://console.example");
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    let answer = preflight(&open, "https://evil.example").send().await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let answer =
        open.call("GET", CUSTOMERS).header("origin", "https://console.example").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://console.example");
}

#[tokio::test]
async fn limits_are_told_and_kept() {
    let world = World::with(|settings| {
        settings.key_rate = Some(Rate::new(1, 3));
        settings.tenant_rate = Some(Rate::new(1, 5));
    })
    .await;
    for remaining in ["2", "1", "0"] {
        let answer = world.call("GET", CUSTOMERS).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ratelimit-limit"], "3");
        assert_eq!(answer.headers()["ratelimit-remaining"], remaining);
        assert!(answer.headers().contains_key("ratelimit-reset"));
    }
    let answer = world.call("GET", CUSTOMERS).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["ratelimit-remaining"], "0");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["retryAfter"]), (&json!("RESOURCE_EXHAUSTED"), &json!(1)));

    let colleague = |_| world.anonymous("GET", CUSTOMERS).bearer_auth("rap_acme_2_secret");
    let mut statuses = Vec::new();
    for call in 0..3 {
        statuses.push(status(colleague(call)).await);
    }
    assert_eq!(statuses, [200, 200, 429], "keys of a tenant share its allowance");
    assert_eq!(status(world.anonymous("GET", CUSTOMERS).bearer_auth("rap_other_1_secret")).await, 200);
}
