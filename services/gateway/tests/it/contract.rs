//! The whole contract by REST: every method has its path, and nothing else has one.
use rapport_proto::{Access, Rule};
use serde_json::Value;

use crate::world::{ID, World};

async fn openapi(world: &World) -> Value {
    world.anonymous("GET", "/openapi.json").send().await.unwrap().json().await.unwrap()
}

/// Every operation of the document: HTTP method, path, operation.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, o)| (method.to_uppercase(), path.clone(), o))
    });
    all.collect()
}

#[tokio::test]
async fn every_method_of_the_contract_is_reached_by_its_rest_face() {
    let world = World::start().await;
    let http = rapport_proto::POOL.get_extension_by_name("google.api.http").unwrap();
    let mut reached = 0;
    for method in rapport_proto::methods().filter(|m| m.rule != Some(Rule::Access(Access::Internal))) {
        let options = method.descriptor.options();
        let rule: rapport_proto::google::api::HttpRule =
            options.get_extension(&http).as_message().unwrap().transcode_to().unwrap();
        use rapport_proto::google::api::http_rule::Pattern;
        let (verb, template) = match rule.pattern.unwrap() {
            Pattern::Get(path) => ("GET", path),
            Pattern::Put(path) => ("PUT", path),
            Pattern::Post(path) => ("POST", path),
            Pattern::Delete(path) => ("DELETE", path),
            Pattern::Patch(path) => ("PATCH", path),
            Pattern::Custom(_) => panic!("{}", method.path),
        };
        // Of what every service has, the path says whose is meant.
        let mut path = template.replace("{service}", "customer");
        while let Some((before, rest)) = path.split_once('{') {
            path = format!("{before}{ID}{}", rest.split_once('}').unwrap().1);
        }
        if method.session == rapport_proto::SessionEffect::Begins {
            let answer = rapport_proto::identity::v1::SignInResponse {
                session_token: "s".into(),
                ..Default::default()
            };
            world.services.answer(method.path.trim_start_matches("/rapport."), &answer);
        }
        let answer = world.call(verb, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{verb} {path}: {}", answer.text().await.unwrap());
        let call = world.services.last();
        assert_eq!(call.path, method.path, "{verb} {path}");
        if path.contains(ID) {
            assert!(call.json().to_string().contains(ID), "{verb} {path} lost its variable: {}", call.json());
        }
        reached += 1;
    }
    assert!(reached > 60, "{reached} methods");
}

#[tokio::test]
async fn what_services_keep_for_each_other_is_not_there() {
    let world = World::start().await;
    for (verb, path) in [("POST", "/internal/tokens:exchange"), ("GET", "/internal/signingKeys")] {
        for request in [world.call(verb, path), world.anonymous(verb, path).header("rapport-internal", "x")] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 404, "{path}");
        }
    }
    let document = openapi(&world).await.to_string();
    assert!(!document.contains("/internal/") && !document.contains("ExchangeCredential"));
}

#[tokio::test]
async fn the_table_of_routes_is_a_reviewed_snapshot() {
    let world = World::start().await;
    let document = openapi(&world).await;
    let mut rows: Vec<_> = operations(&document)
        .into_iter()
        .map(|(verb, path, operation)| {
            let text = |key: &str| operation[key].as_str().unwrap().to_owned();
            format!("{path} {verb} -> {} ({})", text("operationId"), text("x-permission"))
        })
        .collect();
    rows.sort();
    insta::assert_snapshot!(rows.join("\n"));
}

#[tokio::test]
async fn the_document_is_whole() {
    let world = World::start().await;
    let document = openapi(&world).await;
    assert_eq!(document["openapi"], "3.1.0");
    references(&document, &document);

    let mut ids = std::collections::HashSet::new();
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone()).collect();
    for (verb, path, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path}: the id is taken");
        assert!(!operation["description"].as_str().unwrap().is_empty(), "{verb} {path} has no description");
        assert!(tags.contains(&operation["tags"][0]), "{verb} {path}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path: Vec<_> = parameters.iter().filter(|p| p["in"] == "path").collect();
        assert_eq!(in_path.len(), path.matches('{').count(), "{verb} {path}");
        for parameter in in_path {
            assert!(path.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap())), "{path}");
            assert_eq!(parameter["required"], true);
        }
        assert!(operation["responses"]["200"]["description"].is_string(), "{verb} {path}");
        assert!(operation["responses"]["default"].is_object());
        assert_eq!(
            operation["security"].as_array().unwrap().is_empty(),
            operation["x-permission"] == "public"
        );
    }
}

/// Every `$ref` leads somewhere.
fn references(document: &Value, part: &Value) {
    match part {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("only references inside");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            object.values().for_each(|value| references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|item| references(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn constraints_and_comments_are_in_the_document() {
    let world = World::start().await;
    let document = openapi(&world).await;
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let customer = &schema("customer.Customer")["properties"];
    assert_eq!(customer["displayName"]["maxLength"], 200);
    assert_eq!(customer["displayName"]["description"], "What people call it, 1 to 200 characters.");
    assert_eq!(customer["tags"]["maxItems"], 100);
    assert_eq!(customer["tags"]["items"]["minLength"], 1);
    assert_eq!(customer["headcount"]["type"], "string");
    assert_eq!(customer["createTime"]["readOnly"], true);
    assert_eq!(customer["attributes"]["type"], "object");
    assert_eq!(customer["type"]["$ref"], "#/components/schemas/customer.CustomerType");
    assert_eq!(schema("customer.CustomerType")["enum"][2], "CUSTOMER_TYPE_PERSON");
    assert_eq!(schema("type.Share")["properties"]["level"]["not"]["enum"][0], "SHARE_LEVEL_UNSPECIFIED");
    assert_eq!(
        schema("fields.Field")["properties"]["labels"]["propertyNames"]["pattern"],
        "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
    );

    let list = &document["paths"]["/v1/customers"]["get"];
    let names: Vec<_> =
        list["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["filter", "orderBy", "pageSize", "pageToken", "showDeleted"]);
    assert_eq!(list["parameters"][2]["schema"]["maximum"], 200);
    let patch = &document["paths"]["/v1/customers/{id}"]["patch"];
    assert_eq!(patch["parameters"][1]["$ref"], "#/components/parameters/IdempotencyKey");
    assert_eq!(
        patch["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/customer.Customer"
    );
    let create = document["paths"]["/v1/tenants"]["post"].clone();
    assert_eq!(create["requestBody"]["content"]["application/json"]["schema"]["required"][0], "tenant");
    assert!(
        document["paths"]["/v1/customer/imports/{id}/file"]["put"]["requestBody"]["content"]["*/*"]
            .is_object()
    );
}
