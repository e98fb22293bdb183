//! Errors as callers see them.
use std::time::Duration;

use rapport_kernel::Error;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::world::{ID, World};

const GET: &str = "customer.v1.CustomerService/GetCustomer";

async fn problem(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    (status, answer.json().await.unwrap())
}

#[tokio::test]
async fn every_code_has_its_http_status() {
    let world = World::start().await;
    let path = format!("/v1/customers/{ID}");
    for (code, expected, name) in [
        (Code::Cancelled, 499, "CANCELLED"),
        (Code::Unknown, 500, "UNKNOWN"),
        (Code::InvalidArgument, 400, "INVALID_ARGUMENT"),
        (Code::DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
        (Code::NotFound, 404, "NOT_FOUND"),
        (Code::AlreadyExists, 409, "ALREADY_EXISTS"),
        (Code::PermissionDenied, 403, "PERMISSION_DENIED"),
        (Code::ResourceExhausted, 429, "RESOURCE_EXHAUSTED"),
        (Code::FailedPrecondition, 400, "FAILED_PRECONDITION"),
        (Code::Aborted, 409, "ABORTED"),
        (Code::OutOfRange, 400, "OUT_OF_RANGE"),
        (Code::Unimplemented, 501, "UNIMPLEMENTED"),
        (Code::Internal, 500, "INTERNAL"),
        (Code::Unavailable, 503, "UNAVAILABLE"),
        (Code::DataLoss, 500, "DATA_LOSS"),
        (Code::Unauthenticated, 401, "UNAUTHENTICATED"),
    ] {
        world.services.fail(GET, Status::new(code, "because"));
        let (status, problem) = problem(world.call("GET", &path)).await;
        assert_eq!(status, expected, "{code:?}");
        assert_eq!(problem["status"], expected);
        assert_eq!(problem["code"], name);
        assert_eq!(problem["detail"], "because");
        assert_eq!(problem["instance"], path);
        assert_eq!(problem["type"], "about:blank");
        assert!(!problem["title"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn details_of_a_status_are_told_in_json_names() {
    let world = World::start().await;
    let create = "customer.v1.CustomerService/CreateCustomer";
    let wrong = Error::Invalid(vec![
        rapport_kernel::Violation { field: "customer.display_name".into(), problem: "is empty".into() },
        rapport_kernel::Violation { field: "customer.emails[0].address".into(), problem: "has no @".into() },
        rapport_kernel::Violation {
            field: "customer.attributes.monthly_charges".into(),
            problem: "is text".into(),
        },
    ]);
    world.services.fail(create, wrong.into());
    let (status, told) = problem(world.call("POST", "/v1/customers").json(&json!({}))).await;
    assert_eq!(status, 400);
    assert_eq!(told["reason"], "INVALID");
    let expected = json!([
        {"field": "customer.displayName", "problem": "is empty"},
        {"field": "customer.emails[0].address", "problem": "has no @"},
        {"field": "customer.attributes.monthly_charges", "problem": "is text"},
    ]);
    assert_eq!(told["violations"], expected);
    assert!(told["detail"].as_str().unwrap().starts_with("customer.displayName: is empty; "));

    world.services.fail(GET, Error::Exhausted { message: "busy".into(), retry_after: 7 }.into());
    let answer = world.call("GET", &format!("/v1/customers/{ID}")).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.json::<Value>().await.unwrap()["retryAfter"], 7);

    world.services.fail(GET, Error::rule("IMPORT_RUNNING", "an import is running").into());
    let (_, told) = problem(world.call("GET", &format!("/v1/customers/{ID}"))).await;
    assert_eq!(
        (&told["reason"], &told["detail"]),
        (&json!("IMPORT_RUNNING"), &json!("an import is running"))
    );

    let details = ErrorDetails::with_request_info("0af7651916cd43dd", "");
    world.services.fail(GET, Status::with_error_details(Code::Internal, "internal error", details));
    let (_, told) = problem(world.call("GET", &format!("/v1/customers/{ID}"))).await;
    assert_eq!(told["requestId"], "0af7651916cd43dd");
}

#[tokio::test]
async fn a_service_that_is_late_is_not_waited_for() {
    let world = World::with(|settings| settings.deadline = Duration::from_millis(100)).await;
    world.services.delay(GET, Duration::from_secs(5));
    let (status, told) = problem(world.call("GET", &format!("/v1/customers/{ID}"))).await;
    assert_eq!((status, &told["code"]), (504, &json!("DEADLINE_EXCEEDED")));
}

#[tokio::test]
async fn unknown_paths_name_near_ones() {
    let world = World::start().await;
    let (status, told) = problem(world.call("GET", "/v1/customer")).await;
    assert_eq!(status, 404);
    assert_eq!(
        told["detail"].as_str().unwrap().split("; ").last().unwrap().split(", ").next(),
        Some("near: `/v1/customers`")
    );
    let (status, told) = problem(world.call("GET", "/wp-login.php")).await;
    assert_eq!(status, 404);
    assert!(told["detail"].as_str().unwrap().ends_with("`/openapi.json` lists what there is"));
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let world = World::start().await;
    let answer = world.call("PUT", "/v1/customers").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["allow"]),
        (405, &"GET, HEAD, OPTIONS, POST".parse().unwrap())
    );
    let answer = world.call("OPTIONS", &format!("/v1/customers/{ID}")).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["allow"], "DELETE, GET, HEAD, OPTIONS, PATCH");
    let answer = world.call("HEAD", "/v1/customers").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, ""));
    assert_eq!(world.call("POST", "/openapi.json").send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn bodies_that_are_not_json_are_refused_with_the_place() {
    let world = World::start().await;
    let post = || world.call("POST", "/v1/customers");
    let broken = post().header("content-type", "application/json").body("{\n  \"displayName\": oops}");
    let (status, told) = problem(broken).await;
    assert_eq!(status, 400);
    assert_eq!(told["detail"], "the body is not JSON: expected value at line 2 column 18");

    let (status, told) = problem(post().header("content-type", "text/xml").body("<a/>")).await;
    assert_eq!((status, &told["reason"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")));
    let (status, _) = problem(post().header("content-encoding", "br").body("x")).await;
    assert_eq!(status, 415);
    let (status, _) =
        problem(world.call("DELETE", &format!("/v1/customers/{ID}")).json(&json!({"a": 1}))).await;
    assert_eq!(status, 400);
    let patch = world
        .call("PATCH", &format!("/v1/customers/{ID}"))
        .header("content-type", "application/merge-patch+json; charset=utf-8");
    assert_eq!(patch.body("{}").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn large_bodies_are_refused_also_when_packed() {
    use std::io::Write as _;

    let world = World::with(|settings| settings.json_limit = 10_000).await;
    let large = json!({"displayName": "x".repeat(20_000)}).to_string();
    let post = |body: Vec<u8>| {
        world.call("POST", "/v1/customers").header("content-type", "application/json").body(body)
    };
    let (status, told) = problem(post(large.clone().into_bytes())).await;
    assert_eq!((status, &told["reason"]), (413, &json!("TOO_LARGE")));

    let pack = |text: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    let bomb = pack(&large);
    assert!(bomb.len() < 500);
    let (status, _) = problem(post(bomb).header("content-encoding", "gzip")).await;
    assert_eq!(status, 413);
    let (status, _) = problem(post(b"not gzip".to_vec()).header("content-encoding", "gzip")).await;
    assert_eq!(status, 400);
    let small = post(pack(r#"{"displayName":"Gzip & Co"}"#)).header("content-encoding", "gzip");
    assert_eq!(small.send().await.unwrap().status(), 200);
    assert_eq!(world.services.last().json()["customer"]["display_name"], "Gzip & Co");
}
