//! Which addresses a source may have. Where private ones are not allowed, they are refused when a name is
//! resolved, so for every connection: a name that is public today may point inside tomorrow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The address is not one that the collector may talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a loopback, private or link-local address")]
pub struct PrivateAddress(String);

/// Resolves names to public addresses only.
#[derive(Debug, Clone, Copy)]
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One private address among public ones is as suspicious as nothing but private ones.
            if resolved.iter().any(|address| !is_public(address.ip())) {
                return Err(PrivateAddress(name.as_str().to_owned()).into());
            }
            let addresses: Addrs = Box::new(resolved.into_iter());
            Ok(addresses)
        })
    }
}

/// Refuses an address that needs no resolving, which a resolver never sees.
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

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_assignments = a == 192 && b == 0 && c == 0;
    let benchmarking = a == 198 && (b == 18 || b == 19);
    let this_network_or_reserved = a == 0 || a >= 240;
    !(ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || shared
        || protocol_assignments
        || benchmarking
        || this_network_or_reserved)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // An IPv4 address in IPv6 clothes (mapped, compatible, NAT64, 6to4) reaches the same machine.
    let segments = ip.segments();
    let embedded = match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = embedded {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    !(ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_refused_in_every_spelling() {
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
        ] {
            assert!(check_literal(&inside.parse().unwrap()).is_err(), "{inside}");
        }
        for outside in ["https://93.184.216.34", "https://[2606:4700::1111]", "https://n8n.example"] {
            assert_eq!(check_literal(&outside.parse().unwrap()), Ok(()), "{outside}");
        }
    }

    #[tokio::test]
    async fn a_name_that_points_inside_is_refused() {
        let refused = PublicOnly.resolve("localhost".parse().unwrap()).await;
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains("loopback"), "{error}");
    }
}
