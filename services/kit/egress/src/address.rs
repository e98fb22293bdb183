//! Which addresses are inside: whatever the special-purpose registries of IANA do not call globally reachable (iana.org,
//! "IANA IPv4 Special-Purpose Address Registry" and its sister for IPv6), multicast, what is deprecated or never given
//! out, and what a translator would turn into another address. The standard library has no stable `is_global`, and the
//! table is short, so it stands here, where it can be read beside the registries.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::Rule;

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits)
}

/// A range by the first four groups of its address; the rest is zero.
const fn v6(a: u16, b: u16, c: u16, d: u16, bits: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), bits)
}

/// Where clouds tell a machine who it is, and give it keys. Not even the operator can open these to tenants.
pub(crate) const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // nearly everyone
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),   // Amazon: keys of a container
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),  // Amazon: keys of a pod
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure's wire server, which looks like a public address
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // Amazon
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), // Amazon: keys of a pod
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)), // OpenStack
];

/// The first range that holds an address names its rule, so narrow ones stand before wide ones.
const RANGES: &[(IpNet, Rule)] = &[
    (v4(0, 0, 0, 0, 8), Rule::Unspecified),
    (v4(10, 0, 0, 0, 8), Rule::Private),
    (v4(100, 64, 0, 0, 10), Rule::Shared),
    (v4(127, 0, 0, 0, 8), Rule::Loopback),
    (v4(169, 254, 0, 0, 16), Rule::LinkLocal),
    (v4(172, 16, 0, 0, 12), Rule::Private),
    // Protocol assignments. Two anycast addresses in there are reachable (PCP, TURN); no web server has them.
    (v4(192, 0, 0, 0, 24), Rule::Special),
    (v4(192, 0, 2, 0, 24), Rule::Special),    // documentation
    (v4(192, 88, 99, 0, 24), Rule::Embedded), // relays to 6to4
    (v4(192, 168, 0, 0, 16), Rule::Private),
    (v4(198, 18, 0, 0, 15), Rule::Special),   // benchmarks
    (v4(198, 51, 100, 0, 24), Rule::Special), // documentation
    (v4(203, 0, 113, 0, 24), Rule::Special),  // documentation
    (v4(224, 0, 0, 0, 4), Rule::Multicast),
    (v4(240, 0, 0, 0, 4), Rule::Special), // reserved, and broadcast at its end
    (v6(0, 0, 0, 0, 128), Rule::Unspecified),
    (IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128), Rule::Loopback),
    (v6(0, 0, 0, 0, 96), Rule::Embedded), // IPv4-compatible, deprecated
    (v6(0x64, 0xff9b, 0, 0, 96), Rule::Embedded), // NAT64
    (v6(0x64, 0xff9b, 1, 0, 48), Rule::Embedded), // NAT64 of one's own
    (v6(0x100, 0, 0, 0, 64), Rule::Special), // discard
    (v6(0x100, 0, 0, 1, 64), Rule::Special), // dummy
    (v6(0x2001, 0, 0, 0, 32), Rule::Embedded), // Teredo
    (v6(0x2001, 0, 0, 0, 23), Rule::Special), // protocol assignments, among them benchmarks and ORCHID
    (v6(0x2001, 0xdb8, 0, 0, 32), Rule::Special), // documentation
    (v6(0x2002, 0, 0, 0, 16), Rule::Embedded), // 6to4
    (v6(0x3fff, 0, 0, 0, 20), Rule::Special), // documentation
    (v6(0x5f00, 0, 0, 0, 16), Rule::Special), // segment routing
    (v6(0xfc00, 0, 0, 0, 7), Rule::Private),
    (v6(0xfe80, 0, 0, 0, 10), Rule::LinkLocal),
    (v6(0xfec0, 0, 0, 0, 10), Rule::Private), // site-local, deprecated
    (v6(0xff00, 0, 0, 0, 8), Rule::Multicast),
];

/// The only part of IPv6 from which public addresses were ever given out; all else is refused, named above or not.
const GIVEN_OUT: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The rule that refuses `address`, unless it is public.
///
/// An IPv4-mapped address is judged as the IPv4 address it stands for, because that is where the connection would go.
pub(crate) fn refused(address: IpAddr) -> Option<Rule> {
    let address = address.to_canonical();
    if METADATA.contains(&address) {
        return Some(Rule::Metadata);
    }
    let named = RANGES.iter().find(|(range, _)| range.contains(&address)).map(|(_, rule)| *rule);
    match address {
        IpAddr::V6(address) if !GIVEN_OUT.contains(&address) => Some(named.unwrap_or(Rule::Special)),
        _ => named,
    }
}

/// The ranges that `rule` refuses.
#[cfg(test)]
pub(crate) fn ranges(rule: Rule) -> impl Iterator<Item = IpNet> {
    RANGES.iter().filter(move |(_, of)| *of == rule).map(|(range, _)| *range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(address: &str) -> Option<Rule> {
        refused(address.parse().unwrap())
    }

    #[test]
    fn the_first_and_the_last_address_of_every_range_are_refused() {
        for (range, rule) in RANGES {
            let own = |address| {
                METADATA.contains(&address) || RANGES.iter().any(|(r, o)| r.contains(&address) && o != rule)
            };
            for address in [range.network(), range.broadcast()] {
                assert!(refused(address).is_some(), "{address} of {range}");
                assert!(refused(address) == Some(*rule) || own(address), "{address} of {range}");
            }
        }
    }

    #[test]
    fn what_is_beside_a_range_is_public() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "168.63.129.15",
            "8.8.8.8",
            "2000::",
            "2001:200::",
            "2001:4860:4860::8888",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "2606:4700:4700::1111",
            "3ffe:ffff::",
            "3fff:1000::",
        ] {
            assert_eq!(of(address), None, "{address}");
        }
    }

    #[test]
    fn addresses_have_the_rule_that_says_most() {
        for (address, rule) in [
            ("169.254.169.254", Rule::Metadata),
            ("::ffff:169.254.169.254", Rule::Metadata),
            ("100.100.100.200", Rule::Metadata),
            ("168.63.129.16", Rule::Metadata),
            ("fd00:ec2::254", Rule::Metadata),
            ("169.254.169.253", Rule::LinkLocal),
            ("255.255.255.255", Rule::Special),
            ("::ffff:10.1.2.3", Rule::Private),
            ("::ffff:0:127.0.0.1", Rule::Special),
            ("::127.0.0.1", Rule::Embedded),
            ("64:ff9b::8.8.8.8", Rule::Embedded),
            ("64:ff9b:1:ffff::1", Rule::Embedded),
            ("2002:7f00:1::", Rule::Embedded),
            ("2001::7f00:1", Rule::Embedded),
            ("2001:2::1", Rule::Special),
            ("2001:10::1", Rule::Special),
            ("4000::1", Rule::Special),
            ("fe00::1", Rule::Special),
        ] {
            assert_eq!(of(address), Some(rule), "{address}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_one_within(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(refused(address.into()), refused(address.to_ipv6_mapped().into()));
        }

        #[test]
        fn no_address_of_ipv6_gets_through_that_was_not_given_out(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let public = GIVEN_OUT.contains(&address) || address.to_ipv4_mapped().is_some();
            prop_assert!(public || refused(address.into()).is_some());
        }

        #[test]
        fn an_address_that_carries_another_is_never_public(bits: u32) {
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            for address in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, a, b, 0, 0, !a, !b),
            ] {
                prop_assert!(refused(address.into()).is_some(), "{}", address);
            }
        }
    }
}
