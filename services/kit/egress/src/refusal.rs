//! The rules of the door: each has a stable name, which is the reason that callers, logs and records of deliveries show.
use std::fmt;

use rapport_kernel::Error;

/// A rule of the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The text has to be a URL.
    Url,
    /// The scheme has to be https.
    Scheme,
    /// A URL carries no credentials.
    Credentials,
    /// A URL has no fragment.
    Fragment,
    /// The port has to be open.
    Port,
    /// The name has to mean something on the whole internet.
    Name,
    /// The name has to have an address.
    Unresolved,
    /// Nothing reaches a cloud's metadata service.
    Metadata,
    /// An address means a host.
    Unspecified,
    /// Nothing reaches the machine itself.
    Loopback,
    /// Nothing reaches private networks.
    Private,
    /// Nothing reaches a provider's own network.
    Shared,
    /// Nothing reaches what is on the same link.
    LinkLocal,
    /// Nothing is sent to many at once.
    Multicast,
    /// An address carries no other one within, which a translator would reach.
    Embedded,
    /// An address is not set apart for something else.
    Special,
    /// A request reads or writes.
    Method,
    /// Some headers are the door's own.
    Header,
    /// A request has a limit.
    Body,
}

impl Rule {
    /// All rules, in the order of the README.
    pub const ALL: [Self; 19] = [
        Self::Url,
        Self::Scheme,
        Self::Credentials,
        Self::Fragment,
        Self::Port,
        Self::Name,
        Self::Unresolved,
        Self::Metadata,
        Self::Unspecified,
        Self::Loopback,
        Self::Private,
        Self::Shared,
        Self::LinkLocal,
        Self::Multicast,
        Self::Embedded,
        Self::Special,
        Self::Method,
        Self::Header,
        Self::Body,
    ];

    /// The stable name; stands in `registry.lock`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Url => "EGRESS_URL",
            Self::Scheme => "EGRESS_SCHEME",
            Self::Credentials => "EGRESS_CREDENTIALS",
            Self::Fragment => "EGRESS_FRAGMENT",
            Self::Port => "EGRESS_PORT",
            Self::Name => "EGRESS_NAME",
            Self::Unresolved => "EGRESS_UNRESOLVED",
            Self::Metadata => "EGRESS_METADATA",
            Self::Unspecified => "EGRESS_UNSPECIFIED",
            Self::Loopback => "EGRESS_LOOPBACK",
            Self::Private => "EGRESS_PRIVATE",
            Self::Shared => "EGRESS_SHARED",
            Self::LinkLocal => "EGRESS_LINK_LOCAL",
            Self::Multicast => "EGRESS_MULTICAST",
            Self::Embedded => "EGRESS_EMBEDDED",
            Self::Special => "EGRESS_SPECIAL",
            Self::Method => "EGRESS_METHOD",
            Self::Header => "EGRESS_HEADER",
            Self::Body => "EGRESS_BODY",
        }
    }

    /// What the rule refuses, to be read after "is" or "leads to".
    pub const fn about(self) -> &'static str {
        match self {
            Self::Url => "text that is no URL, or a very long one",
            Self::Scheme => "a scheme other than https",
            Self::Credentials => "a user name or a password in the URL",
            Self::Fragment => "a fragment, which is never sent",
            Self::Port => "a port that is not open",
            Self::Name => "a name that only means something inside a network",
            Self::Unresolved => "a name without an address",
            Self::Metadata => "the metadata service of a cloud",
            Self::Unspecified => "an address that means no host",
            Self::Loopback => "an address of the machine itself",
            Self::Private => "an address of a private network",
            Self::Shared => "an address of a provider's own network",
            Self::LinkLocal => "an address that is only known on its link",
            Self::Multicast => "an address of many at once",
            Self::Embedded => "an address that carries another one within",
            Self::Special => "an address that is set apart for special use",
            Self::Method => "a method other than GET, HEAD, POST, PUT, PATCH and DELETE",
            Self::Header => "a header that the door sets itself, or too much of headers",
            Self::Body => "a body that is too large",
        }
    }
}

/// Why the door stays shut. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    rule: Rule,
    message: String,
}

impl Refusal {
    pub(crate) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }

    /// The rule that says so.
    pub const fn rule(&self) -> Rule {
        self.rule
    }
}

impl fmt::Display for Refusal {
    /// What is wrong and what would be right. Never more of a URL than its host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::rule(refusal.rule.name(), refusal.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address, name};

    /// The table of the README, made from the code.
    fn table() -> String {
        let mut table = String::from("| rule | what it refuses | which |\n|---|---|---|\n");
        for rule in Rule::ALL {
            let which: Vec<String> = match rule {
                Rule::Name => name::INSIDE.iter().map(|name| format!("`.{name}`")).collect(),
                Rule::Metadata => {
                    let addresses = address::METADATA.iter().map(|address| format!("`{address}`"));
                    addresses.chain(name::METADATA.iter().map(|name| format!("`{name}`"))).collect()
                }
                rule => address::ranges(rule).map(|range| format!("`{range}`")).collect(),
            };
            table += &format!("| `{}` | {} | {} |\n", rule.name(), rule.about(), which.join(", "));
        }
        table
    }

    #[test]
    fn the_readme_shows_the_rules_as_they_are() {
        let table = table();
        assert!(include_str!("../README.md").contains(&table), "put this table into README.md:\n{table}");
    }

    #[test]
    fn names_are_unique_and_become_reasons() {
        let names: std::collections::HashSet<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        let error = Error::from(Refusal::new(Rule::Port, "port 22 is not open; 443 is"));
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            ("EGRESS_PORT", "port 22 is not open; 443 is")
        );
    }
}
