//! Errors as RFC 9457 `application/problem+json`: made from the status that a service answered, or by the gateway itself
//! where HTTP goes wrong before any service is asked.
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use prost_reflect::MessageDescriptor;
use rapport_kernel::{Violation, code_name, cut};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::json::{Names, rename};

/// More violations than this are told in the list, not in the text.
const TOLD: usize = 3;

/// An error as a REST caller sees it.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Content>);

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    r#type: &'static str,
    title: String,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    instance: String,
    code: &'static str,
    reason: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Wrong>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip)]
    allow: Option<HeaderValue>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, Serialize)]
struct Wrong {
    field: String,
    problem: String,
}

impl Problem {
    fn new(status: StatusCode, code: Code, reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(Box::new(Content {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Client Closed Request").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: String::new(),
            code: code_name(code),
            reason: reason.into(),
            violations: Vec::new(),
            retry_after: None,
            request_id: None,
            allow: None,
        }))
    }

    /// Fields of the request are wrong.
    pub(crate) fn invalid(violations: Vec<Violation>) -> Self {
        let mut problem =
            Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, "INVALID", told(&violations));
        problem.0.violations =
            violations.into_iter().map(|v| Wrong { field: v.field, problem: v.problem }).collect();
        problem
    }

    /// The request as a whole cannot be read.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, "INVALID", detail)
    }

    /// The body ended before it was whole.
    pub(crate) fn partial() -> Self {
        Self::malformed("the body broke off, or is not packed as its content-encoding says")
    }

    /// There is no such path.
    pub(crate) fn unknown_path(path: &str, near: &[&str]) -> Self {
        let near = match near {
            [] => "; `/openapi.json` lists what there is".to_owned(),
            near => {
                format!("; near: {}", near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))
            }
        };
        let detail = format!("there is no path `{}`{near}", cut(path));
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, "NOT_FOUND", detail)
    }

    /// The path exists for other HTTP methods.
    pub(crate) fn wrong_method(method: &http::Method, allowed: &[http::Method]) -> Self {
        let allowed = allow(allowed);
        let detail = format!("this path takes no {method}, but {allowed}");
        let (status, code) = (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented);
        let mut problem = Self::new(status, code, "METHOD_NOT_ALLOWED", detail);
        problem.0.allow = HeaderValue::try_from(allowed).ok();
        problem
    }

    /// The body does not come.
    pub(crate) fn slow() -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the body did not arrive in time")
    }

    /// The body is longer than is taken.
    pub(crate) fn too_large(limit: u64) -> Self {
        let detail = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, "TOO_LARGE", detail)
    }

    /// The body is not of a kind that is taken.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", detail)
    }

    /// What a service answered to a request of type `input`, whose fields are told in JSON names.
    pub(crate) fn of(status: &Status, input: Option<&MessageDescriptor>) -> Self {
        let details = status.get_error_details();
        let reason = details
            .error_info()
            .map(|info| info.reason.clone())
            .unwrap_or_else(|| code_name(status.code()).into());
        let mut problem = Self::new(http_status(status.code()), status.code(), reason, status.message());
        if let Some(bad) = details.bad_request() {
            let violations: Vec<_> = bad
                .field_violations
                .iter()
                .map(|wrong| Violation {
                    field: rename(&wrong.field, input, Names::Json),
                    problem: wrong.description.clone(),
                })
                .collect();
            problem.0.detail = told(&violations);
            problem.0.violations =
                violations.into_iter().map(|v| Wrong { field: v.field, problem: v.problem }).collect();
        }
        problem.0.retry_after = details.retry_info().and_then(|retry| retry.retry_delay).map(|delay| {
            let rounded_up = delay.subsec_nanos() > 0;
            delay.as_secs() + u64::from(rounded_up)
        });
        problem.0.request_id = details.request_info().map(|info| info.request_id.clone());
        problem
    }

    /// Names the path that was asked for.
    #[must_use]
    pub(crate) fn at(mut self, path: &str) -> Self {
        self.0.instance = path.to_owned();
        self
    }
}

impl From<rapport_kernel::Error> for Problem {
    fn from(error: rapport_kernel::Error) -> Self {
        Self::of(&error.into(), None)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.0.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

/// The value of an `Allow` header.
pub(crate) fn allow(methods: &[http::Method]) -> String {
    let mut names: Vec<_> = methods.iter().map(http::Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn told(violations: &[Violation]) -> String {
    let tell = |v: &Violation| match v.field.as_str() {
        "" => v.problem.clone(),
        field => format!("{field}: {}", v.problem),
    };
    let mut text = violations.iter().take(TOLD).map(tell).collect::<Vec<_>>().join("; ");
    if let Some(more) = violations.len().checked_sub(TOLD).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// The HTTP status for a gRPC code, as `google/rpc/code.proto` maps them.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
