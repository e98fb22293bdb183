//! Headers that cross the edge: what claims to come from within is dropped on the way in, what is meant for within is
//! dropped on the way out, and every answer tells browsers to be careful.
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::caller::Caller;

/// The address a call came from, for the services.
const CLIENT_IP: HeaderName = HeaderName::from_static("rapport-client-ip");
/// The caller's program, as it names itself: a channel overwrites `user-agent`.
const USER_AGENT: HeaderName = HeaderName::from_static("rapport-user-agent");
/// Trace context goes through.
const TRACE: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
/// Headers that only services of this installation may send.
const INSIDE: &str = "rapport-";
/// What pages of other sites may do with an answer of the API: nothing.
const API_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The metadata of a call that a REST request becomes.
pub(crate) fn metadata(from: &HeaderMap, caller: &Caller) -> HeaderMap {
    let mut metadata = HeaderMap::with_capacity(6);
    for name in TRACE {
        if let Some(value) = from.get(&name) {
            metadata.insert(name, value.clone());
        }
    }
    identify(&mut metadata, from.get(header::USER_AGENT).cloned(), caller);
    metadata
}

/// Makes the headers of a gRPC request fit to go inside.
pub(crate) fn inward(headers: &mut HeaderMap, caller: &Caller) {
    drop_inside(headers);
    for name in [
        header::AUTHORIZATION,
        header::COOKIE,
        header::HOST,
        header::FORWARDED,
        header::CONNECTION,
        header::ORIGIN,
    ] {
        headers.remove(name);
    }
    for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "keep-alive"] {
        headers.remove(name);
    }
    let agent = headers.get(header::USER_AGENT).cloned();
    identify(headers, agent, caller);
}

/// Drops what only services say to each other.
pub(crate) fn drop_inside(headers: &mut HeaderMap) {
    let inside: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(INSIDE)).cloned().collect();
    for name in inside {
        headers.remove(name);
    }
}

fn identify(headers: &mut HeaderMap, agent: Option<HeaderValue>, caller: &Caller) {
    if let Some(agent) = agent {
        headers.insert(USER_AGENT, agent);
    }
    if let Some(address) =
        caller.address.and_then(|address: IpAddr| HeaderValue::try_from(address.to_string()).ok())
    {
        headers.insert(CLIENT_IP, address);
    }
    if let Some(token) = &caller.token {
        headers.insert(header::AUTHORIZATION, token.authorization.clone());
    }
}

/// The headers of an answer of the API: nobody keeps it, nobody guesses its type, nobody frames it.
pub(crate) fn api(headers: &mut HeaderMap) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(API_POLICY);
}

/// The headers of every answer over HTTP.
pub(crate) fn everywhere(headers: &mut HeaderMap, secure: bool) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_outside_speaks_as_the_inside() {
        let mut headers: HeaderMap = [
            ("rapport-internal", "secret"),
            ("rapport-client-ip", "10.0.0.1"),
            ("authorization", "Bearer eyJ"),
            ("cookie", "rapport=x"),
            ("traceparent", "00-1-2-01"),
            ("custom-key", "stays"),
            ("user-agent", "grpc-java"),
        ]
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
        let caller = Caller { address: Some("192.0.2.1".parse().unwrap()), ..Caller::default() };
        inward(&mut headers, &caller);
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        let expected = [
            "custom-key: stays",
            "rapport-client-ip: 192.0.2.1",
            "rapport-user-agent: grpc-java",
            "traceparent: 00-1-2-01",
            "user-agent: grpc-java",
        ];
        assert_eq!(left, expected);
    }
}
