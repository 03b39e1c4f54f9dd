//! Where certificates may be fetched from: HTTPS, at hosts that are allowed, never inside (RFC 8224 §8.2, RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longer ones are refused.
const LONGEST: usize = 1_024;
/// Ports at hosts that nobody listed.
const USUAL_PORTS: [u16; 2] = [443, 8443];

/// An `https` URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Name or address, without brackets, in lower case.
    pub host: String,
    pub port: u16,
    /// With the query; begins with `/`.
    pub path: String,
}

impl Location {
    /// `None` for whatever is no plain `https` URL: another scheme, credentials, odd characters.
    pub fn parse(url: &str) -> Option<Location> {
        if url.len() > LONGEST || !url.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(fine) {
            return None;
        }
        let port = if port.is_empty() { 443 } else { port.parse().ok().filter(|port| *port > 0)? };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Location { host: host.to_ascii_lowercase(), port, path })
    }

    /// As a Host header names it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// The hosts that certificates may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Names or addresses; empty: any host of the public Internet.
    pub fn new(listed: &[String]) -> Hosts {
        Hosts(listed.iter().map(|host| host.to_ascii_lowercase()).collect())
    }

    /// True where it may be asked, as far as its name tells.
    pub fn allow(&self, location: &Location) -> bool {
        if !self.0.is_empty() {
            return self.0.contains(&location.host);
        }
        let address = location.host.parse::<IpAddr>();
        USUAL_PORTS.contains(&location.port) && address.map_or(true, is_public)
    }

    /// True where an address that the name led to may be connected to: one that was listed may stand inside.
    pub fn allow_address(&self, address: IpAddr) -> bool {
        !self.0.is_empty() || is_public(address)
    }
}

/// False for addresses that lead to ourselves, our own networks, or nowhere (RFC 6890 and its successors).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            // Only 2000::/3 is given out, and of that not what tunnels and documents use.
            let tunnel = match v6.segments() {
                [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
                }
                _ => None,
            };
            match tunnel {
                Some(inside) => is_public_v4(inside),
                None => {
                    first & 0xe000 == 0x2000
                        && !(first == 0x2001 && v6.segments()[1] < 0x0200)
                        && !is_example(v6)
                }
            }
        }
    }
}

fn is_example(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    (segments[0] == 0x2001 && segments[1] == 0x0db8) || segments[0] == 0x3fff
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Location {
        Location::parse(url).unwrap_or_else(|| panic!("{url}"))
    }

    #[test]
    fn https_urls_are_taken_apart() {
        let plain = Location { host: "cert.example.org".into(), port: 443, path: "/a/b.pem?v=1".into() };
        assert_eq!(at("https://Cert.Example.org/a/b.pem?v=1#x"), plain);
        assert_eq!(at("HTTPS://h:8443").port, 8443);
        assert_eq!(at("https://h?x").path, "/?x");
        let v6 = at("https://[2001:DB8::1]:444/x");
        assert_eq!(
            (v6.host.as_str(), v6.port, v6.authority()),
            ("2001:db8::1", 444, "[2001:db8::1]:444".into())
        );
        assert_eq!(at("https://h/").authority(), "h");
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("https://h/{}", "x".repeat(2_000));
        for bad in [
            "http://h/c.pem",
            "ftp://h/c",
            "file:///etc/passwd",
            "https://",
            "https:///c",
            "https://user:secret@h/c",
            "https://h:0/",
            "https://h:99999/",
            "https://h/a b",
            "https://h/\r\nX: y",
            "https://[::1/",
            "https://[nonsense]/",
            "https://[::1]x/",
            "//h/c",
            &long,
        ] {
            assert_eq!(Location::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_listed_hosts_count_where_there_is_a_list() {
        let listed = Hosts::new(&["Cert.example.org".into(), "127.0.0.1".into()]);
        for (url, allowed) in [
            ("https://cert.example.org/x", true),
            ("https://cert.example.org:9999/x", true),
            ("https://127.0.0.1/x", true),
            ("https://a.cert.example.org/x", false),
            ("https://other.example/x", false),
        ] {
            assert_eq!(listed.allow(&at(url)), allowed, "{url}");
        }
        assert!(listed.allow_address(Ipv4Addr::LOCALHOST.into()), "whoever lists a host knows where it is");
    }

    #[test]
    fn without_a_list_only_the_public_internet_is_asked() {
        let any = Hosts::default();
        for (url, allowed) in [
            ("https://cert.example.org/x", true),
            ("https://cert.example.org:8443/x", true),
            ("https://cert.example.org:22/x", false),
            ("https://8.8.8.8/x", true),
            ("https://127.0.0.1/x", false),
            ("https://[::1]/x", false),
            ("https://10.1.2.3/x", false),
        ] {
            assert_eq!(any.allow(&at(url)), allowed, "{url}");
        }
        let inside = [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "2002:0a00:0001::",
            "64:ff9b::10.0.0.1",
            "2001:db8::1",
            "2001::1",
            "ff02::1",
        ];
        for address in inside {
            assert!(!any.allow_address(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "2a00:1450::1"] {
            assert!(any.allow_address(address.parse().unwrap()), "{address}");
        }
    }
}
