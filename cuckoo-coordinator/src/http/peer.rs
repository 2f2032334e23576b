//! Whose request it is when nothing but an address tells, and how it came.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// That a request came over TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secured;

/// `https` for a request that came over TLS, to this server or to a trusted proxy; else `http`.
pub(super) fn scheme(parts: &Parts, trusted_proxies: &[IpAddr]) -> &'static str {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let proxied = peer.is_some_and(|ConnectInfo(peer)| {
        trusted_proxies.contains(&peer.ip().to_canonical())
            && parts
                .headers
                .get(FORWARDED_PROTO)
                .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
    });
    if proxied || parts.extensions.get::<Secured>().is_some() {
        "https"
    } else {
        "http"
    }
}

/// The address to hold a request's sender to: the peer's, or what a trusted proxy says it forwards for. Of an IPv6 address
/// the first 64 bits, since whoever has one has them all.
///
/// None for a process of this machine, which is trusted as its user is, and for routes served without peers' addresses.
pub(super) fn sender(parts: &Parts, trusted_proxies: &[IpAddr]) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let peer = peer.ip().to_canonical();
    let trusted = |address: &IpAddr| trusted_proxies.contains(address);
    if !trusted(&peer) {
        return (!peer.is_loopback()).then(|| network(peer));
    }
    // Proxies append: what stands before the last address that none of ours wrote is the sender's own invention.
    let forwarded = parts.headers.get_all(FORWARDED_FOR);
    let chain: Vec<&str> = forwarded
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut sender = peer;
    for hop in chain.into_iter().rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        sender = address.to_canonical();
        if !trusted(&sender) {
            break;
        }
    }
    Some(network(sender))
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let first_half = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(first_half))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let mut request = Request::new(());
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        request.extensions_mut().insert(ConnectInfo(peer));
        for value in forwarded {
            request
                .headers_mut()
                .append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted: Vec<_> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        sender(&request.into_parts().0, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let some = |text: &str| Some(text.to_owned());
        for (peer, forwarded, trusted, expected) in [
            ("203.0.113.7", &[][..], &[][..], some("203.0.113.7")),
            ("203.0.113.7", &["198.51.100.1"], &[], some("203.0.113.7")),
            ("::ffff:203.0.113.7", &[], &[], some("203.0.113.7")),
            ("2001:db8:1:2:3:4:5:6", &[], &[], some("2001:db8:1:2::")),
            ("127.0.0.1", &[], &[], None),
            ("::1", &["198.51.100.1"], &[], None),
            (
                "127.0.0.1",
                &["198.51.100.1"],
                &["127.0.0.1"],
                some("198.51.100.1"),
            ),
            // What the client itself sent stands before what the proxy appended.
            (
                "10.0.0.1",
                &["127.0.0.1, 192.0.2.9", "198.51.100.1, 10.0.0.2"],
                &["10.0.0.1", "10.0.0.2"],
                some("198.51.100.1"),
            ),
            ("10.0.0.1", &["nonsense"], &["10.0.0.1"], some("10.0.0.1")),
            ("10.0.0.1", &[], &["10.0.0.1"], some("10.0.0.1")),
        ] {
            assert_eq!(
                of(peer, forwarded, trusted),
                expected,
                "{peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn a_scheme_is_the_connections_or_a_trusted_proxys() {
        let of = |secured: bool, trusted: &[IpAddr]| {
            let mut request = Request::new(());
            let peer = SocketAddr::from(([10, 0, 0, 1], 1));
            request.extensions_mut().insert(ConnectInfo(peer));
            let proto = "https".parse().unwrap();
            request.headers_mut().insert(FORWARDED_PROTO, proto);
            if secured {
                request.extensions_mut().insert(Secured);
            }
            scheme(&request.into_parts().0, trusted)
        };
        assert_eq!(of(false, &[]), "http");
        assert_eq!(of(false, &["10.0.0.1".parse().unwrap()]), "https");
        assert_eq!(of(true, &[]), "https");
    }

    #[test]
    fn nobody_is_held_to_an_unknown_address() {
        assert_eq!(sender(&Request::new(()).into_parts().0, &[]), None);
    }
}
