//! The one error, in words that a caller can act on, and its one mapping to gRPC status.
use std::{borrow::Cow, collections::HashMap};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A cause that callers do not see.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The domain of machine-readable reasons.
const DOMAIN: &str = "rapport";

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, e.g. `customer.emails[0].address`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// What went wrong. The text is public; the source is private.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such record, or the caller may not see it: both look the same.
    #[error("{resource} `{id}` was not found")]
    NotFound {
        /// What was sought, e.g. `customer`.
        resource: Cow<'static, str>,
        /// By which id.
        id: String,
    },
    /// Another record has what must be unique.
    #[error("{resource} already exists: {problem}")]
    AlreadyExists {
        /// What exists.
        resource: Cow<'static, str>,
        /// What is taken, e.g. "external id `erp/7` belongs to another customer".
        problem: String,
    },
    /// The request itself is wrong.
    #[error("{}", list(.0))]
    Invalid(Vec<Violation>),
    /// Someone else changed the record since it was read.
    #[error("{resource} was changed by someone else; read it again and retry")]
    Stale {
        /// What changed.
        resource: Cow<'static, str>,
    },
    /// The record's state or a rule of the domain forbids it.
    #[error("{message}")]
    Rule {
        /// A stable name, e.g. `IMPORT_RUNNING`; stands in `registry.lock`.
        reason: &'static str,
        /// What the rule says.
        message: String,
    },
    /// The caller may not do this.
    #[error("{0}")]
    Denied(String),
    /// Nobody is signed in, or what they hold is not valid any more.
    #[error("not signed in")]
    Unauthenticated,
    /// Too much for now; try again after the given number of seconds.
    #[error("{message}; try again in {retry_after} s")]
    Exhausted {
        /// What there is too much of.
        message: String,
        /// Seconds to wait.
        retry_after: u64,
    },
    /// Something Rapport needs does not answer; trying again may help.
    #[error("temporarily unavailable; try again")]
    Unavailable(#[source] BoxError),
    /// The same transaction would succeed if tried again.
    #[error("another request was faster; try again")]
    Conflict,
    /// The request was answered before; the first answer is repeated. Never leaves the service: the layer that runs
    /// handlers turns it into that answer.
    #[error("answered before")]
    Repeated(Vec<u8>),
    /// A fault of Rapport's own.
    #[error("internal error")]
    Internal(#[source] BoxError),
}

impl Error {
    /// One field is wrong.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), problem: problem.into() }])
    }

    /// There is no such record.
    pub fn not_found(resource: impl Into<Cow<'static, str>>, id: impl ToString) -> Self {
        Self::NotFound { resource: resource.into(), id: id.to_string() }
    }

    /// A rule forbids it.
    pub fn rule(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Rule { reason, message: message.into() }
    }

    /// The caller lacks a permission.
    pub fn denied(permission: &str) -> Self {
        Self::Denied(format!("permission `{permission}` is required"))
    }

    /// A fault of Rapport's own.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal(source.into())
    }

    /// The same error with `prefix` before the field's path: what is wrong inside is told from outside.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        match self {
            Self::Invalid(violations) => Self::Invalid(
                violations
                    .into_iter()
                    .map(|v| Violation { field: format!("{prefix}.{}", v.field), problem: v.problem })
                    .collect(),
            ),
            other => other,
        }
    }

    /// The stable, machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::AlreadyExists { .. } => "ALREADY_EXISTS",
            Self::Invalid(_) => "INVALID",
            Self::Stale { .. } => "STALE",
            Self::Rule { reason, .. } => reason,
            Self::Denied(_) => "DENIED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Exhausted { .. } => "EXHAUSTED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Conflict => "CONFLICT",
            Self::Repeated(_) => "REPEATED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Stale { .. } | Self::Conflict => Code::Aborted,
            Self::Rule { .. } => Code::FailedPrecondition,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Exhausted { .. } => Code::ResourceExhausted,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Repeated(_) | Self::Internal(_) => Code::Internal,
        }
    }
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect::<Vec<_>>().join("; ")
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details =
            ErrorDetails::with_error_info(error.reason(), DOMAIN, HashMap::<String, String>::new());
        match &error {
            Error::NotFound { resource, id } => {
                details.set_resource_info(resource.as_ref(), id.as_str(), "", "");
            }
            Error::Invalid(violations) => {
                for violation in violations {
                    details.add_bad_request_violation(violation.field.as_str(), violation.problem.as_str());
                }
            }
            Error::Exhausted { retry_after, .. } => {
                details.set_retry_info(Some(std::time::Duration::from_secs(*retry_after)));
            }
            Error::Unavailable(source) => {
                tracing::warn!(error = %chain(source.as_ref()), "a dependency is unavailable");
            }
            Error::Internal(source) => {
                tracing::error!(error = %chain(source.as_ref()), "a request failed");
            }
            _ => {}
        }
        let repeated = if let Error::Repeated(answer) = &error { Some(answer.clone()) } else { None };
        let mut status = Status::with_error_details(error.code(), error.to_string(), details);
        if let Some(answer) = repeated {
            status
                .metadata_mut()
                .insert_bin("rapport-repeated-bin", tonic::metadata::MetadataValue::from_bytes(&answer));
        }
        status
    }
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_become_a_bad_request() {
        let status = Status::from(Error::invalid("email", "is not an address").within("customer"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "customer.email: is not an address");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "customer.email");
        assert_eq!(details.error_info().unwrap().reason, "INVALID");
    }

    #[test]
    fn internal_causes_stay_inside() {
        let status = Status::from(Error::internal("password is hunter2"));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    }
}
