//! Which addresses a source may have. If private ones are not allowed, they are refused when a name is
//! resolved, and so for every connection: a name that is public today may resolve to a private address
//! tomorrow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The collector may not connect to the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a loopback, private, link-local or reserved address")]
pub struct PrivateAddress(String);

/// Resolves names to public addresses only.
#[derive(Debug, Clone, Copy)]
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One private address among public ones is as suspicious as only private ones.
            if resolved.iter().any(|address| !is_public(address.ip())) {
                return Err(PrivateAddress(name.as_str().to_owned()).into());
            }
            let addresses: Addrs = Box::new(resolved.into_iter());
            Ok(addresses)
        })
    }
}

/// Refuses a literal IP address, which a resolver never sees.
pub fn check_literal(url: &Url) -> Result<(), PrivateAddress> {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if is_public(ip) { Ok(()) } else { Err(PrivateAddress(ip.to_string())) }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// IANA's special-purpose IPv4 addresses, multicast and reserved ones. Globally reachable ones (6to4 relays,
/// protocol assignments) are included, because no n8n is there.
const SPECIAL_V4: [(Ipv4Addr, u32); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(192, 175, 48, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The special-purpose ranges within global unicast, `2000::/3`. Nothing outside that is public.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    // Protocol assignments: Teredo, which embeds an IPv4 address, benchmarking, ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let is_in =
        |(network, length): &(Ipv4Addr, u32)| (u32::from(ip) ^ u32::from(*network)) >> (32 - length) == 0;
    !SPECIAL_V4.iter().any(is_in)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // An IPv4 address embedded in an IPv6 address reaches the same machine.
    match ip.segments() {
        // IPv4-mapped, and NAT64 with the well-known prefix. Its local-use prefix, `64:ff9b:1::/48`, is not
        // public.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            return is_public_v4(v4_of(high, low));
        }
        // 6to4, and ISATAP, which may have any prefix.
        [0x2002, high, low, ..] | [.., 0 | 0x200, 0x5efe, high, low] if !is_public_v4(v4_of(high, low)) => {
            return false;
        }
        _ => {}
    }
    let is_given_to_networks = ip.segments()[0] >> 13 == 0b001;
    let is_in =
        |(network, length): &(Ipv6Addr, u32)| (u128::from(ip) ^ u128::from(*network)) >> (128 - length) == 0;
    is_given_to_networks && !SPECIAL_V6.iter().any(is_in)
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_in_every_spelling() {
        for inside in [
            "http://127.0.0.1:5678",
            "http://2130706433/",
            "http://10.1.2.3",
            "http://172.16.0.1",
            "http://192.168.1.1",
            "http://169.254.169.254",
            "http://100.64.0.1",
            "http://0.0.0.0",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
            "http://[64:ff9b::7f00:1]",
            "http://[2002:7f00:1::]",
            "http://[fd00::1]",
            "http://[fe80::1]",
            "http://[fec0::1]",
            "http://[64:ff9b:1::7f00:1]",
            "http://[64:ff9b:1:a00::1]",
            "http://[64:ff9b::a9fe:a9fe]",
            // Teredo, with 127.0.0.1 in inverted bits, and with another address.
            "http://[2001::80ff:fffe]",
            "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
            "http://[2001:2::1]",
            "http://[2001:10::1]",
            "http://[2001:20::1]",
            "http://[2001:db8::1]",
            "http://[2002:c0a8:101::1]",
            "http://[2606:4700::5efe:a00:1]",
            "http://[2606:4700::200:5efe:7f00:1]",
            "http://[3fff::1]",
            "http://[5f00::1]",
            "http://[100::1]",
            "http://[100:0:0:1::1]",
            "http://[4000::1]",
            "http://[::]",
            "http://[::7f00:1]",
            "http://[::ffff:0:7f00:1]",
            "http://[ff02::1]",
            "http://[fc00::1]",
            "http://0.1.2.3",
            "http://192.0.0.8",
            "http://192.0.2.1",
            "http://192.88.99.1",
            "http://198.19.255.255",
            "http://198.51.100.1",
            "http://203.0.113.1",
            "http://224.0.0.1",
            "http://240.0.0.1",
            "http://255.255.255.255",
            "http://0x7f.1",
            "http://127.0.0.1.",
        ] {
            assert!(check_literal(&inside.parse().unwrap()).is_err(), "{inside}");
        }
        for outside in [
            "https://93.184.216.34",
            "https://100.128.0.1",
            "https://172.32.0.1",
            "https://198.20.0.1",
            "https://[2606:4700::1111]",
            "https://[2001:4860:4860::8888]",
            "https://[2a00:1450::1]",
            "https://[::ffff:93.184.216.34]",
            "https://[64:ff9b::5db8:d822]",
            "https://[2002:5db8:d822::1]",
            "https://n8n.example",
        ] {
            assert_eq!(check_literal(&outside.parse().unwrap()), Ok(()), "{outside}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_refused() {
        let refused = PublicOnly.resolve("localhost".parse().unwrap()).await;
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains("loopback"), "{error}");
    }
}
