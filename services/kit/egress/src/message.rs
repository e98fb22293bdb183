//! What is sent and what comes back.
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use crate::{Refusal, Rule, Settings};

/// A call.
#[derive(Clone)]
pub struct Request {
    /// GET, HEAD, POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// Where to; checked anew each time.
    pub url: String,
    /// Headers, apart from those about the connection and the length of the body, which are the door's.
    pub headers: HeaderMap,
    /// The body, perhaps empty.
    pub body: Bytes,
}

/// What the other side said. A redirect is an answer like any other: the door follows none.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Those headers that callers have a use for: what the body is, how long it holds, where to go, when to come again.
    pub headers: HeaderMap,
    /// The body, up to the limit.
    pub body: Bytes,
    /// Whether there was more of it.
    pub truncated: bool,
    /// From the call to the end of the answer.
    pub took: Duration,
}

/// What is kept of an answer's headers.
const KEPT: &[HeaderName] = &[
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
];

/// Headers of a request that say something about the connection: in a tenant's hands they would name another host than the
/// one that was checked, or hide a second request in the body.
const OWN: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Those of them that have no constant.
const OWN_NAMES: &[&str] = &["http2-settings", "keep-alive", "proxy-connection"];

impl Request {
    /// What can be told without sending it, its URL apart.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Refusal> {
        if ![Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE]
            .contains(&self.method)
        {
            let message = "the method is one of GET, HEAD, POST, PUT, PATCH and DELETE";
            return Err(Refusal::new(Rule::Method, message));
        }
        for name in self.headers.keys() {
            if OWN.contains(name) || OWN_NAMES.contains(&name.as_str()) {
                let message = format!("the header `{name}` is set by Rapport itself; leave it out");
                return Err(Refusal::new(Rule::Header, message));
            }
        }
        if size(&self.headers) > settings.header_bytes {
            let message = format!("headers have at most {} bytes", settings.header_bytes);
            return Err(Refusal::new(Rule::Header, message));
        }
        if self.body.len() > settings.body_bytes {
            let message =
                format!("a body has at most {} bytes; this has {}", settings.body_bytes, self.body.len());
            return Err(Refusal::new(Rule::Body, message));
        }
        Ok(())
    }
}

/// Bytes of names and values.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The headers that callers get.
pub(crate) fn kept(mut headers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in KEPT {
        if let Some(value) = headers.remove(name) {
            kept.insert(name, value);
        }
    }
    kept
}

impl std::fmt::Debug for Request {
    /// Without the URL, the headers' values and the body: they may hold secrets and personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(method: Method, headers: &[(&'static str, &str)], body: usize) -> Option<Rule> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let request = Request { method, url: String::new(), headers, body: vec![0; body].into() };
        request.check(&Settings::default()).err().map(|refusal| refusal.rule())
    }

    #[test]
    fn headers_about_the_connection_are_refused() {
        for name in
            ["host", "content-length", "transfer-encoding", "connection", "proxy-connection", "te", "upgrade"]
        {
            assert_eq!(rule(Method::POST, &[(name, "x")], 1), Some(Rule::Header), "{name}");
        }
        assert_eq!(rule(Method::POST, &[("webhook-id", "x"), ("authorization", "y")], 1), None);
        assert_eq!(rule(Method::POST, &[("x", &"x".repeat(16 << 10))], 1), Some(Rule::Header));
    }

    #[test]
    fn methods_that_open_tunnels_and_large_bodies_are_refused() {
        for method in [Method::CONNECT, Method::TRACE, Method::OPTIONS, Method::from_bytes(b"BREW").unwrap()]
        {
            assert_eq!(rule(method, &[], 0), Some(Rule::Method));
        }
        assert_eq!(rule(Method::PUT, &[], 256 << 10), None);
        assert_eq!(rule(Method::PUT, &[], (256 << 10) + 1), Some(Rule::Body));
    }
}
