//! The Via header: who sent a request and where its responses go (RFC 3261 §18, §20.42, RFC 3581).

use super::grammar;
use super::params::{self, Params, RawParams};
use super::uri::{own_host, parse_host_port, parse_port};
use crate::types::{HostPort, Transport};
use std::{fmt, net::IpAddr, net::SocketAddr, str::FromStr};

/// Text that is not a Via value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed Via")]
pub struct ViaError;

/// The transport a Via names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViaTransport {
    Known(Transport),
    /// One we do not have, such as SCTP; as written.
    Other(String),
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pub transport: ViaTransport,
    pub sent_by: HostPort,
    pub params: Params,
}

impl Via {
    /// A Via of our own, asking for the response to come back the way the request went (RFC 3581 §3).
    pub fn new(transport: Transport, sent_by: HostPort, branch: &str) -> Via {
        let mut params = Params::new();
        params.set("branch", Some(branch));
        params.set("rport", None);
        Via { transport: ViaTransport::Known(transport), sent_by, params }
    }

    pub fn parse(text: &str) -> Result<Via, ViaError> {
        ViaRef::parse(text).map(ViaRef::to_via)
    }

    pub fn branch(&self) -> Option<&str> {
        self.params.value("branch")
    }

    /// The source address noted by the receiver. IPv6 stands without brackets (RFC 5118 §4.5), but both are met.
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.value("received")?;
        text.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// `None`: not asked for; `Some(None)`: asked for; `Some(Some(port))`: the source port noted by the receiver.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|port| port.and_then(|port| port.parse().ok()))
    }

    /// Notes where the request came from: `received` where it differs from sent-by or rport was asked for
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn note_source(&mut self, source: SocketAddr) {
        let wants_port = self.params.has("rport");
        let same_host = self.sent_by.host.parse::<IpAddr>().is_ok_and(|host| host == source.ip());
        // What the sender wrote there itself is never believed.
        self.params.remove("received");
        if wants_port || !same_host {
            self.params.set("received", Some(&source.ip().to_string()));
        }
        if wants_port {
            self.params.set("rport", Some(&source.port().to_string()));
        }
    }
}

impl FromStr for Via {
    type Err = ViaError;
    fn from_str(text: &str) -> Result<Via, ViaError> {
        Via::parse(text)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match &self.transport {
            ViaTransport::Known(transport) => transport.via_name(),
            ViaTransport::Other(name) => name,
        };
        write!(f, "SIP/2.0/{transport} {}{}", self.sent_by, self.params)
    }
}

/// A Via's parts inside the text they were read from: checked, nothing allocated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ViaRef<'a> {
    transport: &'a str,
    host: &'a str,
    port: Option<u16>,
    params: &'a str,
}

impl<'a> ViaRef<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<ViaRef<'a>, ViaError> {
        let rest = match text.strip_prefix("SIP/2.0/") {
            Some(rest) => rest,
            // White space may stand around both slashes.
            None => {
                let (name, rest) = grammar::split_once(text, b'/').ok_or(ViaError)?;
                let (version, rest) = grammar::split_once(rest, b'/').ok_or(ViaError)?;
                if !grammar::trim(name).eq_ignore_ascii_case("SIP") || grammar::trim(version) != "2.0" {
                    return Err(ViaError);
                }
                rest
            }
        };
        let rest = grammar::trim_start(rest);
        let transport_end = grammar::find_space(rest).ok_or(ViaError)?;
        let (transport, rest) = rest.split_at(transport_end);
        let params_start = grammar::find(rest, b';').unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at(params_start);
        let sent_by = grammar::trim(sent_by);
        if !grammar::is_token(transport) || RawParams::new(params).any(|param| param.is_none()) {
            return Err(ViaError);
        }
        let (host, port) = match grammar::find_space(sent_by) {
            None => parse_host_port(sent_by).map_err(|_| ViaError)?,
            // "host : port"
            Some(_) => {
                let (host, port) = sent_by.rsplit_once(':').ok_or(ViaError)?;
                let (host, inner) = parse_host_port(grammar::trim(host)).map_err(|_| ViaError)?;
                let port = parse_port(grammar::trim(port));
                if inner.is_some() || port.is_none() {
                    return Err(ViaError);
                }
                (host, port)
            }
        };
        Ok(ViaRef { transport, host, port, params })
    }

    pub(crate) fn branch(&self) -> Option<&'a str> {
        params::raw_value(self.params, "branch")
    }

    pub(crate) fn to_via(self) -> Via {
        let transport = match self.transport.parse() {
            Ok(transport) => ViaTransport::Known(transport),
            Err(()) => ViaTransport::Other(self.transport.to_owned()),
        };
        Via {
            transport,
            sent_by: HostPort { host: own_host(self.host), port: self.port },
            params: Params::parse_header(self.params).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Via {
        Via::parse(text).unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn parts_are_found() {
        let via = parse("SIP/2.0/UDP 192.0.2.1:5070;rport;branch=z9hG4bK1;received=192.0.2.9");
        assert_eq!(via.transport, ViaTransport::Known(Transport::Udp));
        assert_eq!(via.sent_by.to_string(), "192.0.2.1:5070");
        assert_eq!((via.branch(), via.rport()), (Some("z9hG4bK1"), Some(None)));
        assert_eq!(via.received(), Some("192.0.2.9".parse().unwrap()));
    }

    #[test]
    fn white_space_ipv6_and_unknown_transports_are_understood() {
        let spaced = parse("SIP  /   2.0  /UDP    192.0.2.2 : 5061 ;branch=1");
        assert_eq!((spaced.sent_by.port, spaced.branch()), (Some(5061), Some("1")));
        let six = parse("SIP/2.0/TLS [2001:db8::9:1]:6050;received=2001:db8::9:255;branch=z");
        assert_eq!(six.sent_by.host, "2001:db8::9:1");
        assert_eq!(six.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(
            parse("SIP/2.0/UDP h;received=[2001:db8::1]").received(),
            Some("2001:db8::1".parse().unwrap())
        );
        assert_eq!(parse("SIP/2.0/SCTP h;branch=z").transport, ViaTransport::Other("SCTP".into()));
        assert_eq!(six.to_string(), "SIP/2.0/TLS [2001:db8::9:1]:6050;received=2001:db8::9:255;branch=z");
    }

    #[test]
    fn malformed_vias_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/2.0/UDP h x",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h : 0",
            "SIP/2.0/U;DP h",
        ] {
            assert_eq!(Via::parse(bad), Err(ViaError), "{bad}");
        }
    }

    #[test]
    fn the_source_is_noted_as_rfc_3581_says() {
        let source = "203.0.113.7:40000".parse().unwrap();
        let mut behind_nat = parse("SIP/2.0/UDP 10.0.0.1:5060;branch=z;rport;received=1.1.1.1");
        behind_nat.note_source(source);
        assert_eq!((behind_nat.received(), behind_nat.rport()), (Some(source.ip()), Some(Some(40000))));

        let mut plain = parse("SIP/2.0/UDP 203.0.113.7;branch=z");
        plain.note_source(source);
        assert_eq!((plain.received(), plain.rport()), (None, None));

        let mut named = parse("SIP/2.0/UDP host.example;branch=z");
        named.note_source(source);
        assert_eq!(named.received(), Some(source.ip()));
    }
}
