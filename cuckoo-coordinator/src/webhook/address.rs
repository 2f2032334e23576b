//! Which addresses a webhook may call: those of the public internet, also after the name was looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cuckoo_core::{Error, Result};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// # Errors
/// `Invalid` for an address without TLS, with a password, or inside a network.
pub(super) fn check(url: &Url) -> Result<()> {
    let refused = |why: &str| Err(Error::invalid(format!("this webhook is not called: {why}")));
    if url.scheme() != "https" {
        return refused("its address does not begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused(
            "its address holds a user name; put a token into the path or the query instead",
        );
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    let inside = match literal {
        Ok(ip) => !is_public(ip),
        Err(_) => host.is_empty() || host == "localhost" || host.ends_with(".localhost"),
    };
    if inside {
        return refused("its address is inside a network");
    }
    Ok(())
}

/// Looks names up and leaves out what is not public, so that a name cannot lead inside.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|found| is_public(found.ip())).collect();
            if public.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is of the public internet (the special-purpose registries of RFC 6890 left out).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && (18..20).contains(&b);
    !(a == 0
        || a >= 224
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || protocols
        || benchmarks)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let [a, b, ..] = ip.segments();
    // Global unicast is 2000::/3; of it, not documentation, and not the prefixes that carry an IPv4 address or tunnel.
    let carries_v4 = a == 0x2002 || (a == 0x2001 && b == 0);
    let documentation = (a == 0x2001 && b == 0xdb8) || a == 0x3fff;
    a & 0xe000 == 0x2000 && !carries_v4 && !documentation
}
