//! What can be told from a URL alone.
use rapport_kernel::Error;
use url::{Host, Url};

use crate::{Refusal, Rule, Settings, address, allow::Allowed, name};

/// The longest URL, in bytes.
const LONGEST: usize = 2048;

/// How far a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To public addresses.
    Outside,
    /// Wherever the operator's name leads, but to no metadata service.
    Inside,
}

impl Reach {
    /// The rule that refuses an address to which a name leads.
    pub(crate) fn refused(self, address: std::net::IpAddr) -> Option<Rule> {
        address::refused(address).filter(|rule| self == Self::Outside || *rule == Rule::Metadata)
    }
}

/// A URL that may be called as far as can be told from it.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) url: Url,
    pub(crate) reach: Reach,
}

/// What the operator decided.
pub(crate) struct Policy {
    http: bool,
    ports: Vec<u16>,
    allowed: Vec<Allowed>,
}

impl Policy {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let allowed = settings.allow.iter().map(|text| Allowed::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { http: settings.http, ports: settings.ports.clone(), allowed })
    }

    pub(crate) fn check(&self, text: &str) -> Result<Checked, Refusal> {
        if text.len() > LONGEST {
            return Err(Refusal::new(Rule::Url, format!("a URL has at most {LONGEST} bytes")));
        }
        let url = Url::parse(text).map_err(|_| not_a_url())?;
        let allowed = self.allowed.iter().any(|allowed| allowed.is(&url));
        self.scheme(&url, allowed)?;
        if !url.username().is_empty() || url.password().is_some() {
            let message =
                "a user name or a password does not belong into a URL, where others read it; use a header";
            return Err(Refusal::new(Rule::Credentials, message));
        }
        if url.fragment().is_some() {
            return Err(Refusal::new(Rule::Fragment, "what follows `#` is never sent; leave it out"));
        }
        if !allowed {
            host(&url)?;
            self.port(&url)?;
        }
        read_alike(&url)?;
        Ok(Checked { url, reach: if allowed { Reach::Inside } else { Reach::Outside } })
    }

    fn scheme(&self, url: &Url, allowed: bool) -> Result<(), Refusal> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.http || allowed => Ok(()),
            _ => Err(Refusal::new(Rule::Scheme, "a URL begins with `https://`")),
        }
    }

    fn port(&self, url: &Url) -> Result<(), Refusal> {
        let port = url.port_or_known_default().unwrap_or_default();
        if self.ports.contains(&port) {
            return Ok(());
        }
        let open: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let open =
            if open.is_empty() { "no port is".to_owned() } else { format!("open is {}", open.join(", ")) };
        Err(Refusal::new(Rule::Port, format!("port {port} is not open; {open}")))
    }
}

/// Names are resolved later; an address in a URL is not, so it is judged here.
fn host(url: &Url) -> Result<(), Refusal> {
    let (address, written) = match url.host().ok_or_else(not_a_url)? {
        Host::Domain(host) => {
            return match name::refused(host) {
                Some((rule, problem)) => Err(Refusal::new(rule, format!("`{host}` {problem}"))),
                None => Ok(()),
            };
        }
        Host::Ipv4(host) => (host.into(), host.to_string()),
        Host::Ipv6(host) => (host.into(), host.to_string()),
    };
    match address::refused(address) {
        Some(rule) => {
            Err(Refusal::new(rule, format!("`{written}` is {}; a public address is needed", rule.about())))
        }
        None => Ok(()),
    }
}

/// The client reads the URL with another parser: what both do not read as the same place is not called.
fn read_alike(url: &Url) -> Result<(), Refusal> {
    let uri: http::Uri = url.as_str().parse().map_err(|_| not_a_url())?;
    let same = uri.host() == url.host_str() && uri.port_u16() == url.port();
    if same && uri.scheme_str() == Some(url.scheme()) { Ok(()) } else { Err(not_a_url()) }
}

fn not_a_url() -> Refusal {
    Refusal::new(Rule::Url, "this is not a URL; one is written as `https://hooks.example.com/path`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(allow: &[&str]) -> Policy {
        let allow = allow.iter().map(ToString::to_string).collect();
        Policy::new(&Settings { allow, ..Settings::default() }).unwrap()
    }

    #[test]
    fn a_url_is_made_plain() {
        for (text, plain) in [
            ("https://example.com", "https://example.com/"),
            (" HTTPS://Example.COM:443/a b?c=d ", "https://example.com/a%20b?c=d"),
            ("https://例え.com/", "https://xn--r8jz45g.com/"),
            ("https://134744072/", "https://8.8.8.8/"),
            ("https://[2606:4700:4700:0:0:0:0:1111]/", "https://[2606:4700:4700::1111]/"),
        ] {
            assert_eq!(policy(&[]).check(text).unwrap().url.as_str(), plain);
        }
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        let message = |text| policy(&[]).check(text).unwrap_err().to_string();
        assert_eq!(message("http://example.com"), "a URL begins with `https://`");
        assert_eq!(message("https://example.com:22"), "port 22 is not open; open is 443");
        assert_eq!(
            message("https://0x7f.1/?secret"),
            "`127.0.0.1` is an address of the machine itself; a public address is needed"
        );
        assert_eq!(
            message("https://db/"),
            "`db` has no domain; a name has at least one dot, as `hooks.example.com`"
        );
    }

    #[test]
    fn an_allowed_host_may_be_inside_and_use_http() {
        let policy = policy(&["hooks.corp.example", "127.0.0.1:9000", "sink:8080"]);
        for text in [
            "http://hooks.corp.example/",
            "https://hooks.corp.example/",
            "http://127.1:9000/",
            "http://sink:8080/x",
        ] {
            assert_eq!(policy.check(text).unwrap().reach, Reach::Inside, "{text}");
        }
        assert_eq!(policy.check("https://example.com/").unwrap().reach, Reach::Outside);
        for text in [
            "http://127.0.0.1:9001/",
            "ftp://hooks.corp.example/",
            "https://a@hooks.corp.example/",
            "https://hooks.corp.example/#a",
        ] {
            policy.check(text).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_text_gets_an_address_of_the_inside_past(text in "https?:[/\\\\]{0,3}[@:\\[\\].0-9a-fx%。１２]{1,24}(:[0-9]{1,4})?/?") {
            if let Ok(checked) = policy(&[]).check(&text) {
                match checked.url.host().unwrap() {
                    Host::Ipv4(host) => prop_assert_eq!(address::refused(host.into()), None),
                    Host::Ipv6(host) => prop_assert_eq!(address::refused(host.into()), None),
                    Host::Domain(host) => prop_assert!(host.parse::<std::net::IpAddr>().is_err()),
                }
            }
        }
    }
}
