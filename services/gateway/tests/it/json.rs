//! JSON to messages and back, through the gateway; an independent implementation of the canonical mapping is the judge.
use prost_reflect::DynamicMessage;
use rapport_proto::{
    customer::v1::{
        BatchCustomersResponse, CreateCustomerRequest, Customer, CustomerResult, ListCustomersRequest,
        UpdateCustomerRequest, customer_result,
    },
    google::rpc,
    identity::v1::{ApiKey, ListApiKeysRequest},
};
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use crate::world::{ID, World};

const CREATE: &str = "customer.v1.CustomerService/CreateCustomer";

fn customer() -> Value {
    json!({
        "id": ID,
        "etag": "3",
        "type": "CUSTOMER_TYPE_COMPANY",
        "displayName": "杭州云图科技有限公司",
        "status": "CUSTOMER_STATUS_EXISTING",
        "kind": "CUSTOMER_KIND_BUSINESS",
        "owner": format!("identity.user/{ID}"),
        "phones": [{"number": "0571-8765 4321", "e164": "+8657187654321", "label": "work"}, {"number": "110"}],
        "emails": [{"address": "a@b.example"}],
        "addresses": [{"regionCode": "CN", "addressLines": ["文三路 1 号", "3 楼"]}],
        "headcount": "9007199254740993",
        "revenue": {"amount": "1234.50", "currency": "CNY"},
        "tags": ["vip", "\"quoted\" \\ \u{1}"],
        "attributes": {
            "monthlyCharges": "29.85",
            "monthly_charges": 29.85,
            "nested": {"list": [1, true, null, {"深": "x"}], "none": null},
            "whole": 42,
        },
        "externalIds": [{"source": "erp", "externalId": "K-1"}],
        "createTime": "2026-01-31T08:00:00.123456Z",
    })
}

async fn violations(request: reqwest::RequestBuilder) -> Vec<(String, String)> {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: Value = answer.json().await.unwrap();
    let list = problem["violations"].as_array().unwrap().iter();
    list.map(|v| (v["field"].as_str().unwrap().to_owned(), v["problem"].as_str().unwrap().to_owned()))
        .collect()
}

#[tokio::test]
async fn a_customer_comes_through_both_ways_as_it_is() {
    let world = World::start().await;
    let descriptor = rapport_proto::POOL.get_message_by_name("rapport.customer.v1.Customer").unwrap();
    let judged = DynamicMessage::deserialize(descriptor, customer()).unwrap();
    world.services.answer(CREATE, &judged);

    let answer = world.call("POST", "/v1/customers").json(&customer()).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let text = answer.text().await.unwrap();
    let got = world.services.last().messages[0].get_field_by_name("customer").unwrap().into_owned();
    assert_eq!(got.as_message().unwrap(), &judged);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), customer());
    assert!(text.find("\"monthlyCharges\"") < text.find("\"whole\""), "keys of objects are in order: {text}");
}

#[tokio::test]
async fn both_spellings_are_taken_and_one_is_given() {
    let world = World::start().await;
    let body = json!({"display_name": "A", "external_ids": [{"source": "erp", "external_id": "1"}]});
    world.services.answer(CREATE, &Customer { display_name: "A".into(), ..Customer::default() });
    let answer = world.call("POST", "/v1/customers").json(&body).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"displayName":"A"}"#);
    let request: CreateCustomerRequest = world.services.last().message();
    assert_eq!(request.customer.unwrap().external_ids[0].external_id, "1");
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_with_its_path() {
    let world = World::start().await;
    let body = json!({
        "displayNam": "A",
        "type": "company",
        "headcount": 1.5,
        "tags": ["fine", 7, null],
        "phones": [{"number": "1"}, {"nummer": "2"}],
        "emails": {"address": "x"},
        "createTime": "yesterday",
        "revenue": {"amount": 12},
        "attributes": {"large": 12345678901234567_u64, "fine": 123456789.012345},
        "addresses": null,
    });
    let mut wrong = violations(world.call("POST", "/v1/customers").json(&body)).await;
    wrong.sort();
    let fields: Vec<_> = wrong.iter().map(|(field, _)| field.as_str()).collect();
    let expected = [
        "customer.attributes.large",
        "customer.createTime",
        "customer.displayNam",
        "customer.emails",
        "customer.headcount",
        "customer.phones[1].nummer",
        "customer.revenue.amount",
        "customer.tags[1]",
        "customer.tags[2]",
        "customer.type",
    ];
    assert_eq!(fields, expected);
    let said = |field: &str| wrong.iter().find(|(f, _)| f == field).unwrap().1.clone();
    assert_eq!(said("customer.displayNam"), "no such field; near: displayName");
    assert_eq!(
        said("customer.attributes.large"),
        "12345678901234567 has more than 15 digits; send it as a string"
    );
    assert_eq!(said("customer.emails"), "an object is not a list");
    assert_eq!(said("customer.revenue.amount"), "12 is not a string");
    assert_eq!(said("customer.tags[2]"), "null is not a string");
    assert!(said("customer.createTime").contains("RFC 3339"));
    assert!(world.services.calls().is_empty());
}

#[tokio::test]
async fn a_field_is_given_once() {
    let world = World::start().await;
    let twice = json!({"displayName": "A", "display_name": "B"});
    let wrong = violations(world.call("POST", "/v1/customers").json(&twice)).await;
    assert_eq!(wrong, [("customer.display_name".to_owned(), "is given twice".to_owned())]);
    let both = json!({"changes": [{"create": {"customer": {}}, "delete": {"id": ID}}]});
    let wrong = violations(world.call("POST", "/v1/customers:batch").json(&both)).await;
    assert_eq!(
        wrong,
        [("changes[0].delete".to_owned(), "cannot be given together with `create`".to_owned())]
    );
    let other = format!("/v1/customers/{ID}");
    let wrong = violations(world.call("PATCH", &other).json(&json!({"id": "another"}))).await;
    assert_eq!(wrong, [("customer.id".to_owned(), "is not what the path says".to_owned())]);
    let same = world.call("PATCH", &other).json(&json!({"id": ID, "industry": "x"})).send().await.unwrap();
    assert_eq!(same.status(), 200);
}

#[tokio::test]
async fn deep_values_are_refused_before_a_decoder_chokes_on_them() {
    let world = World::start().await;
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!({"a": inner}));
    let post = |depth| world.call("POST", "/v1/customers").json(&json!({"attributes": {"x": nested(depth)}}));
    assert_eq!(post(8).send().await.unwrap().status(), 200);
    assert!(violations(post(60)).await[0].1.contains("nested deeper"));
    let hostile = format!("{{\"attributes\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let request =
        world.call("POST", "/v1/customers").header("content-type", "application/json").body(hostile);
    assert_eq!(request.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn query_parameters_fill_fields() {
    let world = World::start().await;
    let query = "filter=status%20%3D%3D%20%22existing%22&order_by=display_name&pageSize=7&showDeleted=true";
    assert_eq!(world.call("GET", &format!("/v1/customers?{query}")).send().await.unwrap().status(), 200);
    let request: ListCustomersRequest = world.services.last().message();
    assert_eq!(request.filter, "status == \"existing\"");
    assert_eq!(
        (request.order_by.as_str(), request.page_size, request.show_deleted),
        ("display_name", 7, true)
    );

    let wrong =
        violations(world.call("GET", "/v1/customers?pagesize=7&pageSize=many&filter=a&filter=b")).await;
    let expected = [
        ("pagesize", "no such parameter; near: pageSize, pageToken"),
        ("pageSize", "`many` is not a whole number from -2147483648 to 2147483647"),
        ("filter", "is given twice"),
    ];
    let expected = expected.map(|(field, problem)| (field.to_owned(), problem.to_owned()));
    assert_eq!(wrong, expected);

    let wrong = violations(world.call("POST", "/v1/customers?customer.displayName=x").json(&json!({}))).await;
    assert_eq!(wrong[0].1, "is given in the body, not in the query");
    let wrong = violations(world.call("POST", "/v1/customers:batch?requestId=x").json(&json!({}))).await;
    assert_eq!(wrong[0].1, "this request takes its fields in the body, not in the query");
    let wrong = violations(world.call("GET", &format!("/v1/customers/{ID}?id=2"))).await;
    assert_eq!(wrong[0].1, "is given in the path, not in the query");
    let request: ListApiKeysRequest = {
        assert_eq!(world.call("GET", "/v1/apiKeys?pageToken=a%2Bb%20c").send().await.unwrap().status(), 200);
        world.services.last().message()
    };
    assert_eq!(request.page_token, "a+b c");
}

#[tokio::test]
async fn a_mask_keeps_the_keys_of_custom_fields() {
    let world = World::start().await;
    let patch =
        |query: &str, body: Value| world.call("PATCH", &format!("/v1/customers/{ID}{query}")).json(&body);
    let mask = || world.services.last().message::<UpdateCustomerRequest>().update_mask.map(|mask| mask.paths);

    let body = json!({"displayName": "B", "attributes": {"monthlyCharges": "1", "monthly_charges": "2"}});
    let query = "?updateMask=displayName,attributes.monthlyCharges,attributes.monthly_charges,externalIds";
    assert_eq!(patch(query, body.clone()).send().await.unwrap().status(), 200);
    let expected =
        ["display_name", "attributes.monthlyCharges", "attributes.monthly_charges", "external_ids"];
    assert_eq!(mask().unwrap(), expected);

    // Without a mask, the body says what changes.
    let body = json!({
        "etag": "3",
        "industry": null,
        "externalIds": [],
        "attributes": {"city": null, "monthly_charges": "2"},
        "revenue": {"amount": "1", "currency": "CNY"},
    });
    assert_eq!(patch("", body).send().await.unwrap().status(), 200);
    let expected = ["industry", "external_ids", "attributes.city", "attributes.monthly_charges", "revenue"];
    assert_eq!(mask().unwrap(), expected);
    let request: UpdateCustomerRequest = world.services.last().message();
    let customer = request.customer.unwrap();
    assert_eq!((customer.id.as_str(), customer.etag.as_str()), (ID, "3"));
    assert!(
        customer.attributes.unwrap().fields.contains_key("city"),
        "a null is a value: it clears the field"
    );

    // A body that names nothing changes nothing.
    assert_eq!(patch("", json!({"etag": "3", "attributes": {}})).send().await.unwrap().status(), 200);
    assert_eq!(mask(), None);
    assert_eq!(world.services.last().message::<UpdateCustomerRequest>().customer.unwrap().attributes, None);

    // In a body of several parts the mask stands beside its resource.
    let upsert = json!({"source": "erp", "externalId": "1", "customer": {}, "updateMask": "displayName,attributes.a_b"});
    assert_eq!(world.call("POST", "/v1/customers:upsert").json(&upsert).send().await.unwrap().status(), 200);
    assert_eq!(
        world.services.last().json()["update_mask"],
        "displayName,attributes.aB",
        "the judge re-cases it"
    );
    let paths =
        world.services.last().message::<rapport_proto::customer::v1::UpsertCustomerRequest>().update_mask;
    assert_eq!(paths.unwrap().paths, ["display_name", "attributes.a_b"]);
}

#[tokio::test]
async fn the_idempotency_key_is_the_request_id() {
    let world = World::start().await;
    let post = |query: &str| world.call("POST", &format!("/v1/customers{query}")).json(&json!({}));
    let id = || world.services.last().message::<CreateCustomerRequest>().request_id;
    for given in [
        post("").header("idempotency-key", "k-1"),
        post("").header("idempotency-key", "\"k-1\""),
        post("?requestId=k-1"),
    ] {
        assert_eq!(given.send().await.unwrap().status(), 200);
        assert_eq!(id(), "k-1");
    }
    let same = post("?requestId=k-1").header("idempotency-key", "k-1");
    assert_eq!(same.send().await.unwrap().status(), 200);
    let wrong = violations(post("?requestId=k-2").header("idempotency-key", "k-1")).await;
    assert_eq!(wrong[0].0, "requestId");
    let batch = world
        .call("POST", "/v1/customers:batch")
        .header("idempotency-key", "k-9")
        .json(&json!({"changes": []}));
    assert_eq!(batch.send().await.unwrap().status(), 200);
    assert_eq!(world.services.last().json()["request_id"], "k-9");
}

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let world = World::start().await;
    let answer = world.call("GET", "/v1/customers").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"customers":[]}"#);
    let answer = world.call("GET", &format!("/v1/customers/{ID}")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "{}");
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    let world = World::start().await;
    let start = world.call("POST", &format!("/v1/customer/imports/{ID}:start"));
    assert_eq!(start.send().await.unwrap().status(), 200);
    assert_eq!(world.services.last().json(), json!({"id": ID}));
}

#[tokio::test]
async fn errors_inside_a_batch_are_readable() {
    let world = World::start().await;
    let refused = tonic::Status::from(rapport_kernel::Error::invalid("customer.display_name", "is empty"));
    let details = rpc::Status {
        code: 3,
        message: refused.message().into(),
        details: {
            use prost::Message as _;
            tonic_types::pb::Status::decode(refused.details()).unwrap().details
        },
    };
    assert!(refused.get_details_bad_request().is_some());
    let unknown = prost_types::Any { type_url: "type.example/no.such.Type".into(), value: vec![1, 2] };
    let odd = rpc::Status { code: 13, message: String::new(), details: vec![unknown] };
    let result = |error| CustomerResult { result: Some(customer_result::Result::Error(error)) };
    let answer = BatchCustomersResponse { results: vec![result(details), result(odd)] };
    world.services.answer("customer.v1.CustomerService/BatchCustomers", &answer);

    let body = json!({"changes": [{"create": {"customer": {}}}]});
    let answer = world.call("POST", "/v1/customers:batch").json(&body).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let first = &answer["results"][0]["error"];
    assert_eq!(first["code"], 3);
    let bad = first["details"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["@type"].as_str().unwrap().ends_with("BadRequest"));
    assert_eq!(bad.unwrap()["fieldViolations"][0]["field"], "customer.display_name");
    let unknown = &answer["results"][1]["error"]["details"][0];
    assert_eq!(unknown, &json!({"@type": "type.example/no.such.Type", "value": "AQI="}));
}

#[tokio::test]
async fn maps_and_free_values_come_through() {
    let world = World::start().await;
    let field = json!({
        "resource": "customer",
        "key": "tier",
        "kind": "FIELD_KIND_CHOICE",
        "labels": {"en": "Tier", "zh-CN": "等级"},
        "defaultValue": null,
        "choices": [{"key": "gold", "labels": {"en": "Gold"}, "archived": true}],
        "scale": 2,
    });
    assert_eq!(world.call("POST", "/v1/customer/fields").json(&field).send().await.unwrap().status(), 200);
    let got = world.services.last().json();
    assert_eq!(got["field"]["labels"]["zh-CN"], "等级");
    assert_eq!(got["field"]["default_value"], Value::Null);
    assert!(got["field"].as_object().unwrap().contains_key("default_value"), "null is a value of its own");
    let wrong =
        violations(world.call("POST", "/v1/customer/fields").json(&json!({"labels": {"en": 1}}))).await;
    assert_eq!(wrong, [("field.labels[\"en\"]".to_owned(), "1 is not a string".to_owned())]);
}

#[tokio::test]
async fn answers_are_packed_for_who_can_unpack() {
    let world = World::start().await;
    let key = ApiKey { display_name: "x".repeat(5_000), ..ApiKey::default() };
    world.services.answer("identity.v1.ApiKeyService/GetApiKey", &key);
    let path = format!("/v1/apiKeys/{ID}");
    let packed = world.call("GET", &path).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.bytes().await.unwrap().len() < 500);
    let plain = world.call("GET", &path).send().await.unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    assert!(plain.bytes().await.unwrap().len() > 5_000);
}
