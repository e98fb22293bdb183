//! The answer of a method as JSON, with the session cookie where a session begins or ends.
use axum::body::Body;
use http::{HeaderValue, Response, header};
use prost_reflect::{DynamicMessage, Value};
use rapport_kernel::Error;
use rapport_proto::SessionEffect;
use serde::Serialize;

use crate::{
    edge::Edge,
    json::{Json, ValueJson},
    problem::Problem,
    route::Route,
};

/// Writes an answer.
pub(super) fn write(
    edge: &Edge,
    route: &Route,
    mut answer: DynamicMessage,
) -> Result<Response<Body>, Problem> {
    let cookie = match route.method.session {
        SessionEffect::None => None,
        SessionEffect::Ends => edge.cookie.end(),
        SessionEffect::Begins => {
            let secret = route.secret.as_ref().and_then(|field| answer.take_field(field));
            let secret = secret.as_ref().and_then(Value::as_str).unwrap_or_default();
            let cookie = edge.cookie.begin(secret);
            Some(cookie.ok_or_else(|| Error::internal("the session's secret does not fit into a cookie"))?)
        }
    };
    let bytes = match &route.answer {
        Some(field) => to_bytes(&ValueJson { value: &answer.get_field(field), kind: &field.kind() })?,
        None => to_bytes(&Json(&answer))?,
    };
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(2_048);
    serde_json::to_writer(&mut bytes, value).map_err(Error::internal)?;
    Ok(bytes)
}
