//! The OpenAPI 3.1 document, made from the contract: its comments are the descriptions, its constraints the schemas,
//! its permissions the security. Nothing is written twice, so nothing can differ.
mod comments;
mod operation;
mod rules;
mod schema;

use std::collections::BTreeMap;

use rapport_proto::Method;
use serde_json::{Map, Value, json};

use crate::{
    Settings, SetupError,
    edge::Edge,
    route::{self, Route},
};
use comments::Comments;
use operation::{operation, path};
use schema::Schemas;

/// The document for every method that can be reached through `edge`.
pub(crate) fn document(settings: &Settings, edge: &Edge) -> Result<Value, SetupError> {
    let comments = Comments::read();
    let mut schemas = Schemas::new(&comments);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut tags = BTreeMap::new();
    let names = edge.upstreams.names();
    for method in rapport_proto::methods() {
        if !route::reachable(method) || !(method.is_everywhere() || names.contains(&method.service())) {
            continue;
        }
        let service = method.descriptor.parent_service();
        tags.entry(tag(method))
            .or_insert_with(|| comments.of(&service.parent_file(), service.path()).to_owned());
        let routes =
            route::routes(method).map_err(|problem| SetupError::Contract(method.path.clone(), problem))?;
        for (at, route) in routes.iter().enumerate() {
            let operation = operation(&mut schemas, &comments, route, at);
            paths.entry(path(route)).or_default().insert(route.verb.as_str().to_lowercase(), operation);
        }
    }
    let tags: Vec<_> = tags.iter().map(|(name, text)| json!({"name": name, "description": text})).collect();
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": settings.title,
            "version": settings.version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": responses(),
            "parameters": {"IdempotencyKey": idempotency_key()},
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "rap_…",
                    "description": "An API key, for machines.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": edge.cookie.name(),
                    "description": "The session of a browser that signed in; only for pages of this site.",
                },
            },
        },
    }))
}

const DESCRIPTION: &str = "The REST face of the API. The same methods are there by gRPC and gRPC-Web on the same port. \
    JSON follows the canonical mapping of Protocol Buffers: lowerCamelCase names, 64-bit integers as strings, RFC 3339 \
    times; what has its default value is left out of answers. A PATCH changes the fields that its body names, unless \
    `updateMask` says otherwise. A write with an `Idempotency-Key` can be repeated for 72 hours and gives the first \
    answer. Errors are `application/problem+json`.";

/// The tag of a method: its service's word and resource, e.g. `customer.Import`.
fn tag(method: &Method) -> String {
    let service = method.descriptor.parent_service();
    format!("{}.{}", method.service(), service.name().trim_end_matches("Service"))
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes a repetition within 72 hours give the first answer; the same as `requestId`.",
        "schema": {"type": "string", "maxLength": 100},
    })
}

/// The ways to fail, by name; each a problem.
fn responses() -> Value {
    let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    let told = |text: &str| json!({"description": text, "content": problem});
    let mut exhausted = told("Too many requests for now.");
    if let Some(exhausted) = exhausted.as_object_mut() {
        let header = |text: &str| json!({"description": text, "schema": {"type": "integer"}});
        let headers = json!({
            "Retry-After": header("Seconds to wait."),
            "RateLimit-Limit": header("How many requests may come at once."),
            "RateLimit-Remaining": header("How many may still come now."),
            "RateLimit-Reset": header("Seconds until all may come again."),
        });
        exhausted.insert("headers".into(), headers);
    }
    json!({
        "Invalid": told("The request is wrong; `violations` says which fields, and what would be right."),
        "Unauthenticated": told("Nobody is signed in, or the credential is not valid any more."),
        "Denied": told("The caller may not do this."),
        "NotFound": told("There is no such record, or the caller may not see it."),
        "Conflict": told("It exists already, or was changed by someone else in between."),
        "TooLarge": told("The body is larger than is taken."),
        "Unsupported": told("The body is not of a kind that is taken."),
        "Exhausted": exhausted,
        "Failed": told("Something else went wrong."),
    })
}

/// What the document needs to know of a route.
pub(crate) fn permission(route: &Route) -> String {
    use rapport_proto::{Access, Rule};
    match &route.method.rule {
        Some(Rule::Permission(name)) => name.clone(),
        Some(Rule::Access(Access::Public)) => "public".into(),
        Some(Rule::Access(Access::SignedIn)) => "signed in".into(),
        Some(Rule::Access(Access::Operator)) => "operator".into(),
        Some(Rule::Access(Access::Internal)) | None => "nobody".into(),
    }
}
