//! Values written as texts: listeners, hosts, port ranges, DSCP names, secrets. Each error says what to write instead.

use super::source::Section;
use crate::media::Ringing;
use crate::routing::PeerMatch;
use crate::types::{AudioCodec, HostPort, NetworkId, Secret, SrtpSuite, Transport};
use ipnet::IpNet;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::Path,
};

/// A socket that SIP is received on: `udp:0.0.0.0:5060@network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listen {
    pub transport: Transport,
    /// Port 0 takes any free port.
    pub bind: SocketAddr,
    pub network: NetworkId,
}

/// Reads a listener and the name of its network, `default` where none is written.
pub fn listen(text: &str) -> Result<(Transport, SocketAddr, String), String> {
    let wrong = || {
        format!(
            "\"{text}\" is no listener; write transport:address:port, as \"udp:0.0.0.0:5060\" or \"tls:[::]:5061@ipx\""
        )
    };
    let (socket, network) = text.split_once('@').unwrap_or((text, DEFAULT_NETWORK));
    let (transport, bind) = socket.split_once(':').ok_or_else(wrong)?;
    let transport: Transport = transport.parse().map_err(|()| wrong())?;
    let bind: SocketAddr = bind.parse().map_err(|_| wrong())?;
    if network.is_empty() {
        return Err(wrong());
    }
    Ok((transport, bind, network.to_owned()))
}

/// The network that exists without being written.
pub const DEFAULT_NETWORK: &str = "default";

/// A host name or address with an optional port: `sbc.example`, `192.0.2.7:5060`, `[2001:db8::1]:5060`, `2001:db8::1`.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    let wrong = || {
        format!("\"{text}\" is no host; write \"sbc.example\", \"192.0.2.7:5060\" or \"[2001:db8::1]:5060\"")
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(wrong()) } else { Ok(address.into()) };
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(HostPort { host: address.to_string(), port: None });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => {
            let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
            (host, Some(port))
        }
        None => (text, None),
    };
    if is_host_name(host) { Ok(HostPort { host: host.to_ascii_lowercase(), port }) } else { Err(wrong()) }
}

/// RFC 1123 §2.1, and not digits and dots alone: those would be a mistyped address.
pub fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    name.len() <= 253
        && name.split('.').all(label)
        && !name.rsplit('.').next().unwrap_or("").bytes().all(|b| b.is_ascii_digit())
}

/// Where a trunk's calls come from: an address, a CIDR, or an address with its port.
pub fn peer(text: &str) -> Result<PeerMatch, String> {
    if let Some(exact) = text.parse::<SocketAddr>().ok().filter(|exact| exact.port() != 0) {
        return Ok(PeerMatch::Exact(exact));
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return if network.addr() == network.network() {
            Ok(PeerMatch::Cidr(network))
        } else {
            Err(format!("\"{text}\" has address bits behind its mask; write \"{}\"", network.trunc()))
        };
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(PeerMatch::Cidr(address.into())),
        Err(_) => Err(format!(
            "\"{text}\" is no address; write \"192.0.2.7\", \"192.0.2.0/28\" or \"192.0.2.7:5060\" \
             (a host name can't say where calls come from)"
        )),
    }
}

/// `AES_256_CM_HMAC_SHA1_80`, as `a=crypto` names it.
pub fn suite(text: &str) -> Result<SrtpSuite, String> {
    let same = |suite: &SrtpSuite| suite.as_str().eq_ignore_ascii_case(text);
    SrtpSuite::ALL.into_iter().find(same).ok_or_else(|| {
        let all: Vec<&str> = SrtpSuite::ALL.iter().map(|suite| suite.as_str()).collect();
        format!("\"{text}\" is no SRTP suite; there are {}", all.join(", "))
    })
}

/// The key `srtp_suites`: each suite once, and at least one.
pub fn suites(s: &Section<'_>, default: Vec<SrtpSuite>) -> Vec<SrtpSuite> {
    if s.is_empty_list("srtp_suites") {
        s.error(
            s.place("srtp_suites"),
            "srtp_suites is empty; write srtp_suites = [\"AES_CM_128_HMAC_SHA1_80\"]",
        );
    }
    let mut suites = s.values("srtp_suites", default, suite);
    let mut seen = Vec::new();
    suites.retain(|suite| {
        let new = !seen.contains(suite);
        seen.push(*suite);
        new
    });
    suites
}

/// `192.0.2.53` or `192.0.2.53:5353`
pub fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
    address.ok().filter(|address: &SocketAddr| address.port() > 0).ok_or_else(|| {
        format!("\"{text}\" is no address of a DNS server; write \"192.0.2.53\" or \"192.0.2.53:53\"")
    })
}

/// `+3225550`: the beginning of E.164 numbers.
pub fn number_prefix(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let fine = (1..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" begins no E.164 number; write \"+3225550\""))
    }
}

/// `20000-29999`
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = |why: &str| format!("\"{text}\" {why}; write first-last, as \"20000-29999\"");
    let (first, last) = text.split_once('-').ok_or_else(|| wrong("is no port range"))?;
    let port = |part: &str| part.trim().parse::<u16>().map_err(|_| wrong("is no port range"));
    let (first, last) = (port(first)?, port(last)?);
    if first < 1024 {
        return Err(wrong("starts below 1024"));
    }
    // RTP takes an even port and RTCP the odd one above it (RFC 3550 §11).
    let pairs = (u32::from(last) + 1).saturating_sub(u32::from(first).div_ceil(2) * 2) / 2;
    if pairs == 0 {
        return Err(wrong("holds no pair of an even and an odd port"));
    }
    Ok(first..=last)
}

/// A DiffServ code point by its name (RFC 4594) or number.
pub fn dscp(text: &str) -> Result<u8, String> {
    let lower = text.to_ascii_lowercase();
    let value = match lower.as_str() {
        "default" | "be" | "df" => Some(0),
        "ef" => Some(46),
        "va" | "voice-admit" => Some(44),
        _ => match lower.strip_prefix("cs") {
            Some(class) => class.parse::<u8>().ok().filter(|class| *class <= 7).map(|class| class * 8),
            None => match lower.strip_prefix("af").map(str::as_bytes) {
                Some([class @ b'1'..=b'4', drop @ b'1'..=b'3']) => {
                    Some((class - b'0') * 8 + (drop - b'0') * 2)
                }
                Some(_) => None,
                None => lower.parse::<u8>().ok().filter(|value| *value <= 63),
            },
        },
    };
    value.ok_or_else(|| format!("\"{text}\" is no DSCP; write ef, cs0 to cs7, af11 to af43, or 0 to 63"))
}

pub fn codec(text: &str) -> Result<AudioCodec, String> {
    [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu]
        .into_iter()
        .find(|codec| codec.encoding_name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("\"{text}\" is no codec of this gateway; write opus, PCMA or PCMU"))
}

pub fn ringing(text: &str) -> Result<Ringing, String> {
    word(
        text,
        &[
            ("eu", Ringing::Europe),
            ("fr", Ringing::France),
            ("uk", Ringing::UnitedKingdom),
            ("us", Ringing::NorthAmerica),
        ],
    )
}

/// Where secrets that are not in the file come from.
pub struct SecretSources<'a> {
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Directory of the configuration file.
    pub base: &'a Path,
}

impl SecretSources<'_> {
    /// A secret: `env:NAME`, `file:PATH` (its first line), or the text itself.
    pub fn read(&self, text: &str) -> Result<Secret, String> {
        if let Some(name) = text.strip_prefix("env:") {
            return match (self.environment)(name) {
                Some(value) if !value.is_empty() => Ok(Secret::new(value)),
                Some(_) => Err(format!("the environment variable {name} is empty; set it before the start")),
                None => Err(format!("the environment variable {name} is not set; set it before the start")),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = self.base.join(path);
            let content = std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}; write the secret into that file", path.display()))?;
            let line = content.lines().next().unwrap_or("");
            return if line.is_empty() {
                Err(format!("{} is empty; write the secret into its first line", path.display()))
            } else {
                Ok(Secret::new(line))
            };
        }
        Ok(Secret::new(text))
    }
}

/// One of a closed set of words.
pub fn word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("\"{text}\" is not known; write {}", or_list(&all))
    })
}

/// `a, b or c`
pub fn or_list<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(T::to_string).collect();
            format!("{} or {last}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_have_transport_address_port_and_network() {
        let read = |text| listen(text).unwrap();
        assert_eq!(
            read("udp:0.0.0.0:5060"),
            (Transport::Udp, "0.0.0.0:5060".parse().unwrap(), "default".into())
        );
        assert_eq!(read("tls:[::]:5061@ipx"), (Transport::Tls, "[::]:5061".parse().unwrap(), "ipx".into()));
        for bad in ["", "5060", "udp:5060", "udp:host:5060", "sctp:0.0.0.0:5060", "udp:0.0.0.0:5060@"] {
            assert!(listen(bad).unwrap_err().contains("udp:0.0.0.0:5060"), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_of_both_families() {
        let read = |text| host_port(text).unwrap().to_string();
        assert_eq!(read("SBC1.operator-a.example"), "sbc1.operator-a.example");
        assert_eq!(read("sbc:5070"), "sbc:5070");
        assert_eq!(read("192.0.2.7"), "192.0.2.7");
        assert_eq!(read("[2001:db8::1]:5061"), "[2001:db8::1]:5061");
        assert_eq!(read("2001:db8::1"), "[2001:db8::1]");
        for bad in ["", "a b", "192.0.2.300", "host:0", "host:x", "-a.example", "sip:host", "1.2.3.4:99999"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn peers_are_addresses_networks_or_sockets() {
        assert_eq!(peer("192.0.2.7:5060"), Ok(PeerMatch::Exact("192.0.2.7:5060".parse().unwrap())));
        assert_eq!(peer("192.0.2.0/28"), Ok(PeerMatch::Cidr("192.0.2.0/28".parse().unwrap())));
        assert_eq!(peer("2001:db8::1"), Ok(PeerMatch::Cidr("2001:db8::1/128".parse().unwrap())));
        assert!(peer("192.0.2.7/28").unwrap_err().contains("192.0.2.0/28"));
        assert!(peer("sbc.example").unwrap_err().contains("host name"));
    }

    #[test]
    fn port_ranges_hold_at_least_one_pair() {
        assert_eq!(port_range("20000-29999"), Ok(20000..=29999));
        assert_eq!(port_range("20000-20001"), Ok(20000..=20001));
        assert_eq!(port_range("65534-65535"), Ok(65534..=65535));
        for bad in ["", "20000", "20001-20002", "30000-20000", "80-90", "20000-70000"] {
            assert!(port_range(bad).unwrap_err().contains("20000-29999"), "{bad}");
        }
    }

    #[test]
    fn dscp_names_have_the_values_of_rfc_4594() {
        let cases = [("ef", 46), ("EF", 46), ("cs3", 24), ("cs0", 0), ("af41", 34), ("af11", 10), ("26", 26)];
        for (name, value) in cases {
            assert_eq!(dscp(name), Ok(value), "{name}");
        }
        for bad in ["", "cs8", "af44", "af51", "64", "gold"] {
            assert!(dscp(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_come_from_the_text_the_environment_or_a_file() {
        let directory = std::env::temp_dir().join(format!("tandem-secret-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("password"), "from file\nsecond line\n").unwrap();
        std::fs::write(directory.join("empty"), "\n").unwrap();
        let environment = |name: &str| (name == "SET").then(|| "from env".to_owned());
        let sources = SecretSources { environment: &environment, base: &directory };
        let read = |text| sources.read(text).map(|secret| secret.expose().to_owned());
        assert_eq!(read("literal"), Ok("literal".to_owned()));
        assert_eq!(read("env:SET"), Ok("from env".to_owned()));
        assert_eq!(read("file:password"), Ok("from file".to_owned()));
        assert!(read("env:UNSET").unwrap_err().contains("UNSET is not set"));
        assert!(read("file:missing").unwrap_err().contains("missing"));
        assert!(read("file:empty").unwrap_err().contains("is empty"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
