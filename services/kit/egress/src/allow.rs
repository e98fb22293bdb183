//! The hosts that the operator opens: they may be inside, and may use http. Each is one host, never a pattern, because a
//! pattern would let tenants choose.
use rapport_kernel::Error;
use url::{Host, Url};

use crate::{Rule, address, name, settings::wrong};

/// One host, on one port, or on the port that its scheme has anyway.
pub(crate) struct Allowed {
    host: Host<String>,
    port: Option<u16>,
}

impl Allowed {
    /// Reads `host` or `host:port`; an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let problem = |what: &str| {
            wrong(
                "allow",
                format!("`{text}` {what}; hosts are written as `hooks.corp.example` or `10.1.2.3:8080`"),
            )
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| problem("has no port behind the colon"))?))
            }
            _ => (text, None),
        };
        let host = Host::parse(host).map_err(|_| problem("is not a host"))?;
        let rule = match &host {
            Host::Domain(host) if !name::well_formed(host) => return Err(problem("is not a host")),
            Host::Domain(host) => name::refused(host).map(|(rule, _)| rule),
            Host::Ipv4(host) => address::refused((*host).into()),
            Host::Ipv6(host) => address::refused((*host).into()),
        };
        if rule == Some(Rule::Metadata) {
            return Err(problem("is the metadata service of a cloud, which is never opened"));
        }
        Ok(Self { host, port })
    }

    pub(crate) fn is(&self, url: &Url) -> bool {
        let port = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        port && url.host().is_some_and(|host| self.host == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, url: &str) -> bool {
        Allowed::parse(entry).unwrap().is(&Url::parse(url).unwrap())
    }

    #[test]
    fn an_entry_means_one_host_on_one_port() {
        assert!(allows("hooks.corp.example", "https://hooks.corp.example/x"));
        assert!(allows("hooks.corp.example", "http://hooks.corp.example/x"));
        assert!(allows("Hooks.Corp.Example:8443", "https://hooks.corp.example:8443"));
        assert!(allows("hooks.corp.example:443", "https://hooks.corp.example"));
        assert!(allows("10.1.2.3:8080", "http://0xa.0x10203:8080"), "in any spelling");
        assert!(allows("[fd00::1]:8080", "http://[fd00:0::1]:8080"));
        assert!(allows("[fd00::1]", "https://[fd00::1]/"));

        assert!(!allows("hooks.corp.example", "https://hooks.corp.example:8443"));
        assert!(!allows("hooks.corp.example:443", "http://hooks.corp.example"));
        assert!(!allows("corp.example", "https://hooks.corp.example"), "not what is below");
        assert!(!allows("10.1.2.3", "https://10.1.2.4"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for entry in [
            "",
            "*",
            "*.corp.example",
            "https://corp.example",
            "corp.example/x",
            "a:b",
            "a:0",
            "a:70000",
            "a b",
            "fd00::1",
            "10.0.0.0/8",
            "169.254.169.254",
            "[::ffff:a9fe:a9fe]:80",
            "metadata.google.internal",
        ] {
            assert!(Allowed::parse(entry).is_err(), "{entry}");
        }
    }
}
