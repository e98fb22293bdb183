//! Why there is no answer, told apart by what a caller does about it.
use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use rapport_kernel::Error;

use crate::{
    Refusal, Rule,
    chain::{causes, find},
    lookup::Unresolved,
};

/// Why there is no answer. The text is for whoever owns the endpoint: it has no URL and no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A rule keeps the door shut; trying again helps only when the endpoint or its name is changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many calls are under way; try again when one has ended.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The name could not be resolved, or nobody took the connection in time.
    #[error("no connection: {0}")]
    Connect(&'static str),
    /// The connection could not be secured.
    #[error("no secure connection: {0}")]
    Tls(&'static str),
    /// The answer did not come, or not to its end, within the time.
    #[error("the answer took more than {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer has more of headers than the given number of bytes, or too many.
    #[error("the answer has too many headers, or more than {0} bytes of them")]
    TooLarge(usize),
    /// The other side hung up, or does not speak HTTP.
    #[error("the answer is broken: {0}")]
    Broken(&'static str),
}

/// Whose calls there are too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The tenant has its share.
    #[error("{0} calls of this tenant are under way, which is its share; try again when one has ended")]
    Tenant(usize),
    /// All tenants together.
    #[error("{0} calls are under way, which is the most; try again when one has ended")]
    All(usize),
}

impl Failure {
    /// A word for records and figures.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout(_) => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::Broken(_) => "broken",
        }
    }

    /// Whether the other side may have got the request: then trying again may repeat what it does.
    pub const fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::TooLarge(_) | Self::Broken(_))
    }

    /// What the client's error means. Its own text is not used, because it may name the URL.
    pub(crate) fn of(error: &reqwest::Error, header_bytes: usize) -> Self {
        if let Some(Unresolved::Refused(refusal)) = find(error) {
            return Self::Refused(refusal.clone());
        }
        if error.is_builder() {
            let message = "this cannot be sent as it is; check the URL and the headers";
            return Self::Refused(Refusal::new(Rule::Url, message));
        }
        if error.is_connect() {
            return match find::<rustls::Error>(error) {
                Some(error) => Self::Tls(not_secured(error)),
                None => Self::Connect(no_connection(error)),
            };
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse_too_large) {
            return Self::TooLarge(header_bytes);
        }
        Self::Broken(broken(error))
    }
}

fn no_connection(error: &reqwest::Error) -> &'static str {
    if let Some(Unresolved::Unknown(_)) = find(error) {
        return "the name has no address, or name servers do not answer";
    }
    if error.is_timeout() {
        return "nobody answered in time";
    }
    // The innermost one is the system's.
    let io = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    match io.map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "it was refused",
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => "no route leads there",
        Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof) => {
            "the other side hung up"
        }
        _ => "it could not be made",
    }
}

fn not_secured(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError as Certificate, Error as Tls};
    match error {
        Tls::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the certificate has expired"
        }
        Tls::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "the certificate is not valid yet"
        }
        Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "the certificate is for another name",
        Tls::InvalidCertificate(Certificate::UnknownIssuer) => {
            "the certificate is from an authority that is not trusted, or one in between is missing"
        }
        Tls::InvalidCertificate(_) => "the certificate is not valid",
        Tls::InvalidMessage(_) => "the other side does not speak TLS on this port",
        Tls::PeerIncompatible(_) => "the other side speaks neither TLS 1.2 nor 1.3 as we do",
        Tls::AlertReceived(_) => "the other side refused it",
        _ => "the handshake failed",
    }
}

fn broken(error: &reqwest::Error) -> &'static str {
    match find::<hyper::Error>(error) {
        Some(error) if error.is_parse() => "it is not HTTP",
        Some(error) if error.is_incomplete_message() => "the connection ended before it did",
        _ => "the connection broke",
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Busy(busy) => Self::Exhausted { message: busy.to_string(), retry_after: 1 },
            other => Self::Unavailable(other.into()),
        }
    }
}
