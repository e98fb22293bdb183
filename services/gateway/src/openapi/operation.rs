//! One operation of the document: a route with its parameters, bodies and ways to fail.
use prost_reflect::{FieldDescriptor, Kind};
use serde_json::{Map, Value, json};

use super::{
    comments::{Comments, summary},
    permission,
    schema::Schemas,
    tag,
};
use crate::{
    json::Known,
    route::{self, Body, Route, Shape},
};

/// Fields of objects become parameters to this depth.
const DEEPEST: usize = 3;

/// The path, with the variables' last names: `/v1/customers/{id}`.
pub(super) fn path(route: &Route) -> String {
    let mut path = route.template.to_string();
    for (name, fields) in route.template.variables().zip(&route.variables) {
        let last = fields.last().map(FieldDescriptor::json_name).unwrap_or_default();
        for written in [format!("{{{name}}}"), format!("{{{name}=*}}")] {
            path = path.replace(&written, &format!("{{{last}}}"));
        }
    }
    path
}

/// The operation of a route, the `at`-th of its method.
pub(super) fn operation(schemas: &mut Schemas<'_>, comments: &Comments, route: &Route, at: usize) -> Value {
    let method = &route.method.descriptor;
    let text = comments.of(&method.parent_file(), method.path());
    let suffix = if at == 0 { String::new() } else { format!("{}", at + 1) };
    let mut operation = Map::new();
    operation
        .insert("operationId".into(), json!(format!("{}.{}{suffix}", route.method.service(), method.name())));
    operation.insert("summary".into(), json!(summary(text)));
    operation.insert("description".into(), json!(text));
    operation.insert("tags".into(), json!([tag(route.method)]));
    operation.insert("x-permission".into(), json!(permission(route)));
    operation.insert("x-grpc".into(), json!(route.method.path));
    let parameters = parameters(schemas, route);
    if !parameters.is_empty() {
        operation.insert("parameters".into(), Value::Array(parameters));
    }
    if let Some(body) = body(schemas, route) {
        operation.insert("requestBody".into(), body);
    }
    operation.insert("responses".into(), responses(schemas, route));
    if route::is_public(route.method) {
        operation.insert("security".into(), json!([]));
    } else {
        operation.insert("security".into(), json!([{"apiKey": []}, {"session": []}]));
    }
    Value::Object(operation)
}

fn parameters(schemas: &mut Schemas<'_>, route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    for field in route.variables.iter().filter_map(|path| path.last()) {
        let mut parameter = schemas.parameter(field, field.json_name());
        parameter.insert("in".into(), json!("path"));
        parameter.insert("required".into(), json!(true));
        parameters.push(Value::Object(parameter));
    }
    if route.request_id.is_some() {
        parameters.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
    }
    if route.body != Body::Everything {
        for field in route.method.input().fields().filter(|field| !route.path_fills(field)) {
            if !matches!(&route.body, Body::Field(body) if *body == field) && !only_in_path(route, &field) {
                query(schemas, route, &field, field.json_name(), DEEPEST, &mut parameters);
            }
        }
    }
    parameters
}

/// A message of which the path fills a field is not offered in the query too.
fn only_in_path(route: &Route, field: &FieldDescriptor) -> bool {
    route.variables.iter().any(|path| path.first() == Some(field))
}

fn query(
    schemas: &mut Schemas<'_>,
    route: &Route,
    field: &FieldDescriptor,
    name: &str,
    depth: usize,
    parameters: &mut Vec<Value>,
) {
    if let Kind::Message(kind) = field.kind()
        && Known::of(&kind).is_none()
    {
        if depth > 0 && !field.is_list() && !field.is_map() {
            for inner in kind.fields() {
                query(
                    schemas,
                    route,
                    &inner,
                    &format!("{name}.{}", inner.json_name()),
                    depth - 1,
                    parameters,
                );
            }
        }
        return;
    }
    let mut parameter = schemas.parameter(field, name);
    parameter.insert("in".into(), json!("query"));
    if route.mask.as_ref() == Some(field) {
        let text = "Which fields to change, e.g. `displayName,attributes.city`; those that the body names when left out.";
        parameter.insert("description".into(), json!(text));
    }
    parameters.push(Value::Object(parameter));
}

fn body(schemas: &mut Schemas<'_>, route: &Route) -> Option<Value> {
    if let Shape::Upload(field) = &route.shape {
        let text = schemas.text(field);
        return Some(json!({"description": text, "required": true, "content": {"*/*": {}}}));
    }
    let (schema, required) = match &route.body {
        Body::Nothing => return None,
        Body::Field(field) => (schemas.field(field), true),
        Body::Everything => {
            let input = route.method.input();
            let left: Vec<_> = input.fields().filter(|field| !route.path_fills(field)).collect();
            let required = left.iter().any(|field| field.name() != "request_id" && field.name() != "etag");
            (schemas.object(&input, &left), required)
        }
    };
    Some(json!({"required": required, "content": {"application/json": {"schema": schema}}}))
}

fn responses(schemas: &mut Schemas<'_>, route: &Route) -> Value {
    let output = route.method.output();
    let mut answered = Map::new();
    answered.insert("description".into(), json!(schemas.about(&output)));
    let content = match (&route.shape, &route.answer) {
        (Shape::Download, _) => json!({"*/*": {}}),
        (Shape::Watch, _) => json!({"text/event-stream": {"schema": {"type": "string"}}}),
        (_, Some(field)) => json!({"application/json": {"schema": schemas.field(field)}}),
        (_, None) => json!({"application/json": {"schema": schemas.message(&output)}}),
    };
    answered.insert("content".into(), content);
    if route.secret.is_some() {
        let text = "The session, as an HttpOnly cookie.";
        answered.insert(
            "headers".into(),
            json!({"Set-Cookie": {"description": text, "schema": {"type": "string"}}}),
        );
    }
    let mut responses = Map::new();
    responses.insert("200".into(), Value::Object(answered));
    let mut fails = |status: &str, name: &str| {
        responses.insert(status.into(), json!({"$ref": format!("#/components/responses/{name}")}));
    };
    fails("400", "Invalid");
    if !route::is_public(route.method) {
        fails("401", "Unauthenticated");
        fails("403", "Denied");
        fails("429", "Exhausted");
    }
    if !route.variables.is_empty() {
        fails("404", "NotFound");
    }
    if route.method.writes() {
        fails("409", "Conflict");
    }
    if route.body != Body::Nothing {
        fails("413", "TooLarge");
        fails("415", "Unsupported");
    }
    fails("default", "Failed");
    Value::Object(responses)
}
