//! Which names only mean something inside: what is set apart for it (RFC 6761, 6762, 8375, 9476 and ICANN's `internal`), what
//! networks use although nobody gave it to them, and the names of metadata services.
use crate::Rule;

/// The names of clouds' metadata services that are known. Their addresses are refused too, so this gives the clearer answer.
pub(crate) const METADATA: &[&str] = &[
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    "instance-data.ec2.internal",
    "instance-data",
    "metadata",
];

/// Nothing under these names is public.
pub(crate) const INSIDE: &[&str] = &[
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
    "test",
    "example",
    "invalid",
    "onion",
    "alt",
];

/// The rule that refuses the name `host`, in small letters, and what is wrong with it.
pub(crate) fn refused(host: &str) -> Option<(Rule, &'static str)> {
    let plain = host.strip_suffix('.').unwrap_or(host);
    if METADATA.contains(&plain) {
        return Some((Rule::Metadata, "is the metadata service of a cloud"));
    }
    if !well_formed(plain) {
        return Some((Rule::Name, "is not a host name"));
    }
    let Some((_, last)) = plain.rsplit_once('.') else {
        return Some((Rule::Name, "has no domain; a name has at least one dot, as `hooks.example.com`"));
    };
    if INSIDE.contains(&last) {
        return Some((Rule::Name, "only means something inside a network; a public name is needed"));
    }
    // With the dot it would be another name for the list of allowed hosts, for pooled connections and for certificates.
    (plain != host).then_some((Rule::Name, "ends with a dot; write it without"))
}

/// Whether a name can be asked for: the URL standard lets through more than name servers have.
pub(crate) fn well_formed(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_names_pass() {
        for host in [
            "example.com",
            "hooks.xn--fiqs8s",
            "a_b.example.com",
            "localhost.example.com",
            "internal.io",
            "9.to",
        ] {
            assert_eq!(refused(host), None, "{host}");
        }
    }

    #[test]
    fn names_of_the_inside_are_refused() {
        for host in [
            "localhost",
            "db",
            "printer.local",
            "a.b.internal",
            "1.0.0.127.in-addr.arpa",
            "example.com.",
            "a..b",
            ".com",
            "",
        ] {
            assert_eq!(refused(host).map(|(rule, _)| rule), Some(Rule::Name), "{host}");
        }
        for host in ["metadata.google.internal", "metadata.google.internal.", "metadata", "metadata.goog"] {
            assert_eq!(refused(host).map(|(rule, _)| rule), Some(Rule::Metadata), "{host}");
        }
    }

    #[test]
    fn a_name_has_its_lengths() {
        let long = "a".repeat(63);
        assert!(well_formed(&format!("{long}.com")));
        assert!(!well_formed(&format!("{long}a.com")));
        assert!(!well_formed(&[long.as_str(); 4].join(".")));
    }
}
