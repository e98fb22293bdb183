//! A request at the edge and what its service did are one trace, which the caller began; metrics count the request by route,
//! status and tenant. Neither says who or what it was about.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::State, response::Response, routing::post};
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use rapport_proto::customer::v1 as pb;
use rapport_runtime::{config, telemetry};
use rapport_test_kit::{World, json};
use serde_json::json;
use tower::ServiceExt as _;

type Exported = Arc<Mutex<Vec<Span>>>;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Takes traces as an OTLP collector does.
async fn collect(State(exported): State<Exported>, body: Body) -> Response {
    let body = body.collect().await.unwrap().to_bytes();
    let request = ExportTraceServiceRequest::decode(&body[5..]).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    exported.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
    let ended =
        http::HeaderMap::from_iter([(tonic::Status::GRPC_STATUS, http::HeaderValue::from_static("0"))]);
    let empty = Full::new(vec![0; 5].into()).with_trailers(std::future::ready(Some(Ok(ended))));
    let mut response = Response::new(Body::new(empty));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

fn hex(bytes: &[u8]) -> String {
    rapport_kernel::hex(bytes)
}

/// The attributes of a span, as text.
fn attributes(span: &Span) -> HashMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    span.attributes
        .iter()
        .filter_map(|pair| Some((pair.key.as_str(), text(pair.value.as_ref()?.value.as_ref()?))))
        .collect()
}

async fn metrics(telemetry: &telemetry::Telemetry) -> String {
    let request = http::Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = telemetry.router().oneshot(request).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// One test, since a process has its telemetry set up once.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_holds_a_request_from_the_edge_to_its_service() {
    let exported = Exported::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config::Telemetry {
        otlp_endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        ..config::Telemetry::default()
    };
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let collector = Router::new().route(path, post(collect)).with_state(exported.clone());
    tokio::spawn(async { axum::serve(listener, collector).await.unwrap() });
    let telemetry = telemetry::init(&config, "rapport-test").unwrap();

    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let request = tea
        .request(reqwest::Method::POST, "/v1/customers")
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("x-request-id", "from outside")
        .json(&json!({"displayName": "Lovelace"}));
    let answer = request.send().await.unwrap();
    let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(request_id.parse::<uuid::Uuid>().is_ok(), "{request_id}");
    let customer = json(answer).await;
    let id = customer["id"].as_str().unwrap();
    assert_eq!(tea.get("/v1/customers/0190a3c4-0000-7000-8000-000000000000").await.status(), 404);
    assert_eq!(tea.get("/v1/nothing/here").await.status(), 404);
    // By gRPC through the gateway, with a header that is no trace context.
    let channel = tonic::transport::Channel::from_shared(world.url()).unwrap().connect().await.unwrap();
    let mut customers = pb::customer_service_client::CustomerServiceClient::new(channel);
    let mut get = tonic::Request::new(pb::GetCustomerRequest { id: id.to_owned() });
    get.metadata_mut().insert("traceparent", "00-what".parse().unwrap());
    assert_eq!(customers.get_customer(get).await.unwrap_err().code(), tonic::Code::Unauthenticated);

    let begun = Instant::now();
    let metrics = loop {
        let metrics = metrics(&telemetry).await;
        if metrics.contains("face=\"grpc\"") {
            break metrics;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let method = "/rapport.customer.v1.CustomerService/GetCustomer";
    let tenant = &tea.id;
    for expected in [
        r#"rapport_edge_requests_total{face="rest",route="/v1/customers",status="200"} 1"#.to_owned(),
        r#"rapport_edge_requests_total{face="rest",route="/v1/customers/{id}",status="404"} 1"#.to_owned(),
        r#"rapport_edge_requests_total{face="rest",route="unknown",status="404"} 1"#.to_owned(),
        format!(r#"rapport_edge_requests_total{{face="grpc",route="{method}",status="UNAUTHENTICATED"}} 1"#),
        r#"rapport_edge_request_duration_seconds_count{face="rest",route="/v1/customers"} 1"#.to_owned(),
        format!(r#"rapport_tenant_requests_total{{tenant="{tenant}",outcome="done"}} 1"#),
        format!(r#"rapport_tenant_requests_total{{tenant="{tenant}",outcome="refused"}} 1"#),
    ] {
        assert!(metrics.contains(&expected), "{expected} in\n{metrics}");
    }
    assert!(!metrics.contains("nothing/here"));

    tokio::task::spawn_blocking(move || telemetry.flush()).await.unwrap();
    let spans = exported.lock().unwrap().clone();
    let ours: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let edge = ours.iter().find(|span| hex(&span.parent_span_id) == PARENT).expect("a span of the edge");
    assert_eq!((edge.name.as_str(), edge.kind()), ("POST /v1/customers", SpanKind::Server));
    let said = attributes(edge);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/customers"),
        ("http.response.status_code", "200"),
        ("tenant.id", tenant),
        ("request.id", &request_id),
        ("rapport.face", "rest"),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{key} of {said:?}");
    }
    let create = "/rapport.customer.v1.CustomerService/CreateCustomer";
    let service = ours.iter().find(|span| span.name == create).expect("a span of the service");
    assert_eq!(service.parent_span_id, edge.span_id, "the service's span is the edge's child");

    let refused = spans.iter().find(|span| span.name == method && span.parent_span_id.is_empty());
    assert_eq!(attributes(refused.expect("a trace of its own"))["rapport.face"], "grpc");
    let all = format!("{spans:?}");
    assert!(!all.contains("Lovelace") && !all.contains("example.com") && !all.contains("00-what"));
}
