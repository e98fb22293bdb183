//! The message of a request: from its path, query, body and the `Idempotency-Key` header. What is wrong in any of them
//! is told together.
use std::collections::HashSet;

use axum::body::Body as Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use rapport_kernel::BoxError;
use serde_json::{Map, Value as Json};

use crate::{
    edge::Edge,
    json::{Known, Reader, field_named, from_text, near},
    problem::Problem,
    route::{Body, FieldPath, Route},
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Reads a request whose body is JSON.
pub(super) async fn read(
    edge: &Edge,
    route: &Route,
    values: &[String],
    parts: &Parts,
    body: Bytes,
) -> Result<DynamicMessage, Problem> {
    let json = json(edge, route, parts, body).await?;
    build(route, values, parts, json)
}

/// Reads a request whose body is not JSON: what path, query and headers say.
pub(super) fn without_body(
    route: &Route,
    values: &[String],
    parts: &Parts,
) -> Result<DynamicMessage, Problem> {
    build(route, values, parts, Json::Null)
}

/// The body as JSON; null when there is none.
async fn json(edge: &Edge, route: &Route, parts: &Parts, body: Bytes) -> Result<Json, Problem> {
    let limit = edge.json_limit;
    announced(&parts.headers, limit)?;
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    let collected = tokio::time::timeout(edge.deadline, limited.collect()).await;
    let bytes = collected.map_err(|_| Problem::slow())?.map_err(|error| unread(&error, limit))?.to_bytes();
    if bytes.is_empty() {
        return Ok(Json::Null);
    }
    if route.body == Body::Nothing {
        return Err(Problem::malformed("this request has no body; leave it out"));
    }
    if !is_json(parts.headers.get(header::CONTENT_TYPE)) {
        return Err(Problem::unsupported(
            "the body must be JSON: send it with `content-type: application/json`",
        ));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))
}

/// How long the body says it is; one that is too large is refused before it is sent.
pub(super) fn announced(headers: &HeaderMap, limit: u64) -> Result<Option<u64>, Problem> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > limit => Err(Problem::too_large(limit)),
        length => Ok(length),
    }
}

/// Why a body could not be read.
pub(super) fn unread(error: &BoxError, limit: u64) -> Problem {
    match error.is::<LengthLimitError>() {
        true => Problem::too_large(limit),
        false => Problem::partial(),
    }
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let Some(given) = content_type.and_then(|value| value.to_str().ok()) else { return false };
    let kind = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn build(route: &Route, values: &[String], parts: &Parts, json: Json) -> Result<DynamicMessage, Problem> {
    let mut message = DynamicMessage::new(route.method.input());
    let mut reader = Reader::default();
    body(&mut reader, &mut message, route, &json);
    query(&mut reader, &mut message, route, parts.uri.query().unwrap_or_default());
    path(&mut reader, &mut message, route, values);
    idempotency_key(&mut reader, &mut message, route, &parts.headers);
    if let (Some(mask), Json::Object(object)) = (&route.mask, &json) {
        derive_mask(&mut message, route, mask, object);
    }
    match reader.violations.is_empty() {
        true => Ok(message),
        false => Err(Problem::invalid(reader.violations)),
    }
}

fn body(reader: &mut Reader, message: &mut DynamicMessage, route: &Route, json: &Json) {
    match (&route.body, json) {
        (_, Json::Null) | (Body::Nothing, _) => {}
        (Body::Everything, Json::Object(object)) => reader.fill(message, object),
        (Body::Everything, _) => reader.refuse("", "the body is not a JSON object"),
        (Body::Field(field), json) => {
            let mut inner = Reader::at(field.json_name());
            if let Some(value) = inner.field(field, json) {
                message.set_field(field, value);
            }
            reader.violations.append(&mut inner.violations);
        }
    }
}

fn path(reader: &mut Reader, message: &mut DynamicMessage, route: &Route, values: &[String]) {
    for (path, text) in route.variables.iter().zip(values) {
        let Some(last) = path.last() else { continue };
        let name = dotted(path);
        let value = match from_text(&last.kind(), text) {
            Ok(value) => value,
            Err(problem) => {
                reader.refuse(&name, problem);
                continue;
            }
        };
        if !put(message, path, value) {
            reader.refuse(&name, "is not what the path says");
        }
    }
}

/// Sets a field inside fields; false when something else stands there already.
fn put(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) -> bool {
    match path {
        [] => true,
        [field] if message.has_field(field) => *message.get_field(field) == value,
        [field] => {
            message.set_field(field, value);
            true
        }
        [field, rest @ ..] => {
            message.get_field_mut(field).as_message_mut().is_none_or(|inner| put(inner, rest, value))
        }
    }
}

fn dotted(path: &[FieldDescriptor]) -> String {
    path.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
}

fn query(reader: &mut Reader, message: &mut DynamicMessage, route: &Route, query: &str) {
    let mut seen = HashSet::new();
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        let path = match parameter(route, &name) {
            Ok(path) => path,
            Err(problem) => {
                reader.refuse(&name, problem);
                continue;
            }
        };
        let Some(field) = path.last() else { continue };
        let value = match field.kind() {
            Kind::Message(kind) => {
                let mut inner = Reader::at(&name);
                let value = inner.text(&kind, &text, field.parent_message()).map(Value::Message);
                reader.violations.append(&mut inner.violations);
                value
            }
            kind => from_text(&kind, &text).map_err(|problem| reader.refuse(&name, problem)).ok(),
        };
        let Some(value) = value else { continue };
        if field.is_list() {
            append(message, &path, value);
        } else if !seen.insert(dotted(&path)) || !put(message, &path, value) {
            reader.refuse(&name, "is given twice");
        }
    }
}

fn append(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) {
    match path {
        [] => {}
        [field] => {
            if let Some(list) = message.get_field_mut(field).as_list_mut() {
                list.push(value);
            }
        }
        [field, rest @ ..] => {
            if let Some(inner) = message.get_field_mut(field).as_message_mut() {
                append(inner, rest, value);
            }
        }
    }
}

/// The field that a query parameter fills.
fn parameter(route: &Route, name: &str) -> Result<FieldPath, String> {
    if route.body == Body::Everything {
        return Err("this request takes its fields in the body, not in the query".into());
    }
    let mut message = Some(route.method.input());
    let mut path = FieldPath::new();
    for part in name.split('.') {
        let holder = message.take().ok_or_else(|| format!("has no field `{part}` inside"))?;
        let field =
            field_named(&holder, part).ok_or_else(|| no_parameter(route, &holder, part, path.is_empty()))?;
        if path.is_empty() && matches!(&route.body, Body::Field(body) if *body == field) {
            return Err("is given in the body, not in the query".into());
        }
        if path.is_empty() && route.path_fills(&field) {
            return Err("is given in the path, not in the query".into());
        }
        message = field.kind().as_message().filter(|_| !field.is_list() && !field.is_map()).cloned();
        path.push(field);
    }
    match path.last() {
        Some(field) if field.is_map() => Err("is a map, which a query cannot give".into()),
        Some(field)
            if field.is_list() && field.kind().as_message().is_some_and(|kind| Known::of(kind).is_none()) =>
        {
            Err("is a list of objects, which a query cannot give".into())
        }
        _ => Ok(path),
    }
}

fn no_parameter(route: &Route, holder: &MessageDescriptor, name: &str, top: bool) -> String {
    let free = |field: &FieldDescriptor| {
        !top || !(route.path_fills(field) || matches!(&route.body, Body::Field(body) if body == field))
    };
    let names: Vec<_> = holder.fields().filter(free).map(|field| field.json_name().to_owned()).collect();
    format!("no such parameter{}", near(name, names.iter().map(String::as_str)))
}

/// Fills `request_id`, so that a repetition gives the first answer.
fn idempotency_key(reader: &mut Reader, message: &mut DynamicMessage, route: &Route, headers: &HeaderMap) {
    let (Some(field), Some(key)) = (&route.request_id, headers.get(IDEMPOTENCY_KEY)) else { return };
    let Some(key) = key.to_str().ok().map(|key| key.trim().trim_matches('"')).filter(|key| !key.is_empty())
    else {
        return reader.refuse(field.json_name(), "the header Idempotency-Key is not plain text");
    };
    if !put(message, std::slice::from_ref(field), Value::String(key.to_owned())) {
        reader.refuse(field.json_name(), "differs from the header Idempotency-Key; give one of them");
    }
}

/// A PATCH without a mask changes what its body names: each field, and of custom fields each key.
fn derive_mask(
    message: &mut DynamicMessage,
    route: &Route,
    mask: &FieldDescriptor,
    object: &Map<String, Json>,
) {
    let Body::Field(body) = &route.body else { return };
    let Kind::Message(resource) = body.kind() else { return };
    if message.has_field(mask) {
        return;
    }
    let in_path = |field: &FieldDescriptor| route.variables.iter().any(|path| path.get(1) == Some(field));
    let mut paths = Vec::new();
    for (name, value) in object {
        let Some(field) = field_named(&resource, name) else { continue };
        if in_path(&field) || field.name() == "etag" {
            continue;
        }
        match (field.kind().as_message().and_then(Known::of), value) {
            (Some(Known::Struct), Json::Object(keys)) => {
                paths.extend(keys.keys().map(|key| Value::String(format!("{}.{key}", field.name()))));
            }
            _ => paths.push(Value::String(field.name().to_owned())),
        }
    }
    if paths.is_empty() {
        // Nothing is named, so nothing is to change: an empty mask would mean everything that is set.
        if let Some(inner) = message.get_field_mut(body).as_message_mut() {
            let idle: Vec<_> = inner.fields().map(|(field, _)| field).collect();
            idle.iter()
                .filter(|f| !in_path(f) && f.name() != "etag")
                .for_each(|field| inner.clear_field(field));
        }
    } else if let Some(mask) = message.get_field_mut(mask).as_message_mut() {
        mask.set_field_by_number(1, Value::List(paths));
    }
}
