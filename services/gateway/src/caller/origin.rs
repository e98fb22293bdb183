//! Where a browser's request comes from. A cookie proves who the browser belongs to, not that its owner wanted the
//! request: another site's page can send one. So requests that change something must come from our own origin.
use http::{HeaderMap, header, request::Parts};
use url::Url;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From our own pages, or from the person directly.
    Same,
    /// From another site's page.
    Other,
    /// The request does not say: it does not come from a browser of today.
    Unsaid,
}

impl Origin {
    /// Reads it from `Sec-Fetch-Site`, which pages cannot forge, else from `Origin`.
    pub(crate) fn of(parts: &Parts) -> Self {
        if let Some(site) = parts.headers.get("sec-fetch-site") {
            return match site.as_bytes() {
                b"same-origin" | b"none" => Self::Same,
                _ => Self::Other,
            };
        }
        match parts.headers.get(header::ORIGIN) {
            None => Self::Unsaid,
            Some(origin) => match origin.to_str().ok().and_then(|origin| same(origin, host(parts)?)) {
                Some(true) => Self::Same,
                _ => Self::Other,
            },
        }
    }
}

/// The host and port that the request was sent to.
fn host(parts: &Parts) -> Option<&str> {
    let host = |headers: &'_ HeaderMap| headers.get(header::HOST).is_some();
    match host(&parts.headers) {
        true => parts.headers.get(header::HOST)?.to_str().ok(),
        false => parts.uri.authority().map(http::uri::Authority::as_str),
    }
}

/// Whether an origin is this host; a default port may be left out on either side.
fn same(origin: &str, host: &str) -> Option<bool> {
    let origin = Url::parse(origin).ok()?;
    let own = Url::parse(&format!("{}://{host}", origin.scheme())).ok()?;
    Some(
        own.host().is_some()
            && own.host() == origin.host()
            && own.port_or_known_default() == origin.port_or_known_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(headers: &[(&str, &str)]) -> Origin {
        let mut request = http::Request::post("/v1/customers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Origin::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn browsers_say_where_a_request_comes_from() {
        assert_eq!(origin(&[("sec-fetch-site", "same-origin")]), Origin::Same);
        assert_eq!(origin(&[("sec-fetch-site", "none")]), Origin::Same);
        assert_eq!(origin(&[("sec-fetch-site", "cross-site")]), Origin::Other);
        assert_eq!(origin(&[("sec-fetch-site", "same-site")]), Origin::Other);
        let forged =
            [("sec-fetch-site", "cross-site"), ("origin", "https://crm.example"), ("host", "crm.example")];
        assert_eq!(origin(&forged), Origin::Other);
    }

    #[test]
    fn older_browsers_name_their_origin() {
        let from = |from, host| origin(&[("origin", from), ("host", host)]);
        assert_eq!(from("https://crm.example", "crm.example"), Origin::Same);
        assert_eq!(from("https://crm.example", "crm.example:443"), Origin::Same);
        assert_eq!(from("http://localhost:8080", "localhost:8080"), Origin::Same);
        for (other, host) in [
            ("https://crm.example.evil", "crm.example"),
            ("https://crm.example:8443", "crm.example"),
            ("http://localhost:8081", "localhost:8080"),
            ("null", "crm.example"),
            ("https://", "crm.example"),
        ] {
            assert_eq!(from(other, host), Origin::Other, "{other}");
        }
        assert_eq!(origin(&[("host", "crm.example")]), Origin::Unsaid);
    }
}
