//! The pages that the gateway serves itself: what runs here, the OpenAPI document, and a page to read it with. All of it
//! is part of the binary; nothing is loaded from elsewhere, and no script stands inside a page.
use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use moka::future::Cache;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{Settings, edge::Edge, problem::Problem, upstream::Answering};

/// What our pages may do: run our own script and style, and ask our own API.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// How long a service may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long its answer counts, so that a page anyone may open costs nothing.
const REMEMBERED: Duration = Duration::from_secs(2);

/// The pages.
#[derive(Clone)]
pub(crate) struct Pages {
    title: Arc<str>,
    version: Arc<str>,
    edge: Arc<Edge>,
    openapi: File,
    services: Cache<(), Arc<Vec<(String, bool)>>>,
}

/// A file of the binary, with its fingerprint.
#[derive(Clone)]
struct File {
    bytes: Bytes,
    content_type: HeaderValue,
    etag: HeaderValue,
}

impl Pages {
    pub(crate) fn new(settings: &Settings, openapi: &Value, edge: &Arc<Edge>) -> Self {
        Self {
            title: settings.title.as_str().into(),
            version: settings.version.as_str().into(),
            edge: edge.clone(),
            openapi: File::new(openapi.to_string(), "application/json"),
            services: Cache::builder().max_capacity(1).time_to_live(REMEMBERED).build(),
        }
    }

    pub(crate) fn router(self) -> Router {
        let openapi = self.openapi.clone();
        let page = |text: &'static str, content_type| {
            let file = File::new(text, content_type);
            get(move |headers: HeaderMap| async move { file.answer(&headers) }).fallback(wrong_method)
        };
        Router::new()
            .route("/", get(home).fallback(wrong_method))
            .route(
                "/openapi.json",
                get(move |headers: HeaderMap| async move { openapi.answer(&headers) }).fallback(wrong_method),
            )
            .route("/docs", page(include_str!("pages/docs.html"), "text/html; charset=utf-8"))
            .route("/docs/docs.js", page(include_str!("pages/docs.js"), "text/javascript; charset=utf-8"))
            .route("/docs/style.css", page(include_str!("pages/style.css"), "text/css; charset=utf-8"))
            .with_state(self)
    }

    /// Which services are ready, asked at most once in two seconds.
    async fn services(&self) -> Arc<Vec<(String, bool)>> {
        let asked = async {
            let names = self.edge.upstreams.names();
            let asked =
                names.into_iter().map(|name| async move { (name.to_owned(), self.is_ready(name).await) });
            Arc::new(futures::future::join_all(asked).await)
        };
        self.services.get_with((), asked).await
    }

    /// By the gRPC health protocol, which every service answers, here or elsewhere.
    async fn is_ready(&self, service: &str) -> bool {
        let Some(upstream) = self.edge.upstreams.get(service) else { return false };
        let mut health = HealthClient::new(Answering(upstream));
        let asked = tokio::time::timeout(PATIENCE, health.check(HealthCheckRequest::default())).await;
        matches!(asked, Ok(Ok(answer)) if answer.get_ref().status == ServingStatus::Serving as i32)
    }
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> Response {
    Problem::wrong_method(&method, &[http::Method::GET]).at(uri.path()).into_response()
}

/// What runs here: a page for browsers, JSON for others.
async fn home(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let services = pages.services().await;
    let wants_page = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = if wants_page.is_some_and(|accept| accept.contains("text/html")) {
        let mut response = Response::new(Body::from(home_page(&pages, &services)));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    } else {
        let services: Vec<_> =
            services.iter().map(|(name, ready)| json!({"name": name, "ready": ready})).collect();
        Json(json!({
            "title": &*pages.title,
            "version": &*pages.version,
            "services": services,
            "links": {"docs": "/docs", "openapi": "/openapi.json", "health": "/healthz"},
        }))
        .into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn home_page(pages: &Pages, services: &[(String, bool)]) -> String {
    let row = |(name, ready): &(String, bool)| {
        let (class, word) = if *ready { ("ready", "ready") } else { ("away", "not ready") };
        format!("<li><span class=\"dot {class}\"></span>{} <small>{word}</small></li>", escape(name))
    };
    let rows: String = services.iter().map(row).collect();
    include_str!("pages/home.html")
        .replace("{title}", &escape(&pages.title))
        .replace("{version}", &escape(&pages.version))
        .replace("{services}", &rows)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl File {
    fn new(bytes: impl Into<Bytes>, content_type: &'static str) -> Self {
        let bytes = bytes.into();
        let digest: String = rapport_kernel::hex(&Sha256::digest(&bytes)).chars().take(16).collect();
        let etag = HeaderValue::try_from(format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { bytes, content_type: HeaderValue::from_static(content_type), etag }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        // A packed answer has the same fingerprint: proxies mark it weak.
        let known =
            headers.get(header::IF_NONE_MATCH).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let same = self
            .etag
            .to_str()
            .is_ok_and(|etag| known.split(',').any(|k| k.trim().trim_start_matches("W/") == etag));
        let mut response = match same {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => Response::new(Body::from(self.bytes.clone())),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}
