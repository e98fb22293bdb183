//! The gateway's own pages.
use rapport_gateway::{Gateway, Settings, SetupError};
use serde_json::{Value, json};

use crate::world::{Services, World};

#[tokio::test]
async fn the_first_page_says_what_runs() {
    let world = World::with(|settings| settings.title = "Acme <CRM>".into()).await;
    let answer = world.anonymous("GET", "/").send().await.unwrap();
    let home: Value = answer.json().await.unwrap();
    let ready = json!([{"name": "customer", "ready": true}, {"name": "identity", "ready": true}]);
    assert_eq!(home["services"], ready);
    assert_eq!(home["version"], env!("CARGO_PKG_VERSION"));

    let browser =
        world.anonymous("GET", "/").header("accept", "text/html,application/xhtml+xml").send().await.unwrap();
    assert_eq!(browser.headers()["content-type"], "text/html; charset=utf-8");
    let page = browser.text().await.unwrap();
    assert!(
        page.contains("Acme &lt;CRM&gt;") && page.contains("href=\"/docs\"") && !page.contains("not ready")
    );
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_not_ready() {
    let away = tower::service_fn(|_: http::Request<tonic::body::Body>| async {
        Err::<http::Response<tonic::body::Body>, rapport_kernel::BoxError>("connection refused".into())
    });
    let away = rapport_gateway::upstream(away);
    let upstreams = [("customer".to_owned(), away), ("identity".to_owned(), Services::default().upstream())];
    let router = Gateway::new(Settings::new("x"), upstreams.into()).unwrap().into_router();
    use tower::ServiceExt as _;
    let request = http::Request::get("/").body(axum::body::Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let home: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        home["services"],
        json!([{"name": "customer", "ready": false}, {"name": "identity", "ready": true}])
    );
}

#[tokio::test]
async fn pages_bring_all_they_need_and_run_nothing_else() {
    let world = World::start().await;
    for (path, content_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
        ("/openapi.json", "application/json"),
    ] {
        let answer = world.anonymous("GET", path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], content_type);
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        let etag = answer.headers()["etag"].clone();
        let text = answer.text().await.unwrap();
        if path == "/docs" {
            assert!(!text.contains("://") && !text.contains("onclick") && !text.contains("<script>"));
        }
        let again = world.anonymous("GET", path).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304);
    }
}

#[tokio::test]
async fn answers_of_the_api_are_nobodys_to_keep() {
    let world = World::start().await;
    let answer = world.call("GET", "/v1/customers").send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(answer.headers()["x-frame-options"], "DENY");
    assert!(!answer.headers().contains_key("strict-transport-security"), "only where HTTPS is the rule");
}

#[tokio::test]
async fn further_pages_are_on_the_same_port() {
    let world = World::with(|settings| {
        settings.extra = axum::Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
    })
    .await;
    let answer = world.anonymous("GET", "/healthz").send().await.unwrap();
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn methods_of_absent_services_do_not_exist() {
    let upstreams = [("identity".to_owned(), Services::default().upstream())];
    let router = Gateway::new(Settings::new("x"), upstreams.into()).unwrap().into_router();
    use tower::ServiceExt as _;
    let get = |path: &str| http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    assert_eq!(router.clone().oneshot(get("/v1/customers")).await.unwrap().status(), 404);
    assert_eq!(router.clone().oneshot(get("/v1/users")).await.unwrap().status(), 401);
    let answer = router.oneshot(get("/openapi.json")).await.unwrap();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 22).await.unwrap();
    assert!(!String::from_utf8(bytes.to_vec()).unwrap().contains("/v1/customers"));
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    let start = |change: fn(&mut Settings)| {
        let mut settings = Settings::new("x");
        change(&mut settings);
        Gateway::new(settings, [("identity".to_owned(), Services::default().upstream())].into()).err()
    };
    assert!(start(|_| {}).is_none());
    for origin in ["console.example", "https://console.example/", "*", "null"] {
        let mut settings = Settings::new("x");
        settings.allowed_origins = vec![origin.into()];
        let refused =
            Gateway::new(settings, [("identity".to_owned(), Services::default().upstream())].into()).err();
        assert!(matches!(refused, Some(SetupError::Origin(_))), "{origin}");
    }
    assert!(matches!(start(|s| s.internal_secret = "a\nb".into()), Some(SetupError::InternalSecret)));
    assert!(matches!(Gateway::new(Settings::new("x"), [].into()).err(), Some(SetupError::NoIdentity)));
    assert!(!format!("{:?}", Settings::new("hunter2")).contains("hunter2"));
}
