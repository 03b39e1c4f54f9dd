//! A session description: read within limits, looked into by typed questions, written back (RFC 8866).
//!
//! The façade over `sdp-types`; no other file names it.

use crate::types::MediaDirection;
use std::{fmt, net::IpAddr};

/// The largest description taken. Chrome's with video and data stays under 10 KiB; a SIP message is limited to 32 KiB.
pub const MAX_BYTES: usize = 16 * 1024;
/// Real offers have at most a handful of streams; each one in an offer costs a line of the answer.
pub const MAX_MEDIA: usize = 64;
/// Attributes per stream and at session level: a WebRTC audio stream has about 40.
pub const MAX_ATTRIBUTES: usize = 256;
/// RTP payload types are seven bits wide.
pub const MAX_FORMATS: usize = 128;

/// Why a body is not a session description. Answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("the session description is {0} bytes long, more than {MAX_BYTES}")]
    TooLarge(usize),
    #[error("the session description has {0} media lines, more than {MAX_MEDIA}")]
    TooManyMedia(usize),
    #[error("the session description has {0} attributes in one section, more than {MAX_ATTRIBUTES}")]
    TooManyAttributes(usize),
    #[error("a media line has {0} formats, more than {MAX_FORMATS}")]
    TooManyFormats(usize),
    #[error("not a session description: {0}")]
    Malformed(String),
}

/// A whole session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    inner: sdp_types::Session,
}

/// One stream to be written: its `m=` line and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDraft {
    /// `audio`, `image`, `video`, …
    pub kind: String,
    /// 0 refuses the stream.
    pub port: u16,
    /// As `RTP/AVP`.
    pub protocol: String,
    /// The formats, separated by spaces.
    pub formats: String,
    pub attributes: Vec<(&'static str, Option<String>)>,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Audio,
    Video,
    /// Fax over T.38.
    Image,
    Other,
}

/// The transport profile of a stream (RFC 3551, 3711, 4585, 5124, 5764).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Plain RTP, `RTP/AVP` or `RTP/AVPF`.
    Plain,
    /// SRTP with keys in the description, `RTP/SAVP` or `RTP/SAVPF`.
    Secure,
    /// SRTP with keys by DTLS, `UDP/TLS/RTP/SAVP` or `UDP/TLS/RTP/SAVPF`.
    Dtls,
    Other,
}

/// A connection address (RFC 8866 §5.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Ip(IpAddr),
    /// A host name: legal, never seen from real peers, and not looked up.
    Name(String),
}

/// One RTP format of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The RTP payload type, 0 to 127.
    pub number: u8,
    /// Empty where a dynamic payload type has no `a=rtpmap`.
    pub encoding: &'a str,
    /// Hz.
    pub clock_rate: u32,
    /// 1 where not said.
    pub channels: u8,
}

impl Session {
    /// Reads a body. Bytes that are not UTF-8 (Latin-1 in `s=`) are replaced, trailing NULs are dropped.
    pub fn parse(body: &[u8]) -> Result<Session, SdpError> {
        if body.len() > MAX_BYTES {
            return Err(SdpError::TooLarge(body.len()));
        }
        let text = String::from_utf8_lossy(body);
        let text = text.trim_matches(['\r', '\n', '\0']);
        let mut inner = sdp_types::Session::parse(text.as_bytes())
            .map_err(|error| SdpError::Malformed(error.to_string()))?;
        if inner.medias.len() > MAX_MEDIA {
            return Err(SdpError::TooManyMedia(inner.medias.len()));
        }
        let most = inner.medias.iter().map(|m| m.attributes.len()).chain([inner.attributes.len()]).max();
        if let Some(most) = most.filter(|most| *most > MAX_ATTRIBUTES) {
            return Err(SdpError::TooManyAttributes(most));
        }
        let formats = inner.medias.iter().map(|m| m.fmt.split_ascii_whitespace().count()).max();
        if let Some(formats) = formats.filter(|formats| *formats > MAX_FORMATS) {
            return Err(SdpError::TooManyFormats(formats));
        }
        // It is kept as long as its call, and the reader makes room for more than there is.
        inner.medias.shrink_to_fit();
        inner.medias.iter_mut().for_each(|media| media.attributes.shrink_to_fit());
        Ok(Session { inner })
    }

    /// A description of our own: one address for everything, no end (`t=0 0`).
    pub fn new(session_id: u64, version: u64, address: IpAddr, medias: Vec<MediaDraft>) -> Session {
        let origin = sdp_types::Origin::with_ip_addr(session_id, version, address);
        let mut inner = sdp_types::Session::new(origin, "-");
        inner.set_connection(address);
        inner.add_time(sdp_types::Time::new(0, 0));
        inner.medias = medias
            .into_iter()
            .map(|draft| sdp_types::Media {
                media: draft.kind,
                port: draft.port,
                num_ports: None,
                proto: draft.protocol,
                fmt: draft.formats,
                media_title: None,
                connections: Vec::new(),
                bandwidths: Vec::new(),
                key: None,
                attributes: draft
                    .attributes
                    .into_iter()
                    .map(|(name, value)| sdp_types::Attribute { attribute: name.to_owned(), value })
                    .collect(),
            })
            .collect();
        Session { inner }
    }

    /// `sess-id` and `sess-version` of the `o=` line.
    pub fn origin(&self) -> (&str, u64) {
        (&self.inner.origin.sess_id, self.inner.origin.sess_version)
    }

    /// The description as it goes on the wire.
    pub fn text(&self) -> String {
        // An offer with both codecs has some 300 octets.
        let mut bytes = Vec::with_capacity(384);
        // Writing to memory does not fail.
        let _ = self.inner.write(&mut bytes);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    pub(super) fn set_version(&mut self, version: u64) {
        self.inner.origin.sess_version = version;
    }

    /// The streams, in order; their positions are what offer and answer share (RFC 3264 §6).
    pub fn medias(&self) -> impl ExactSizeIterator<Item = Media<'_>> {
        self.inner.medias.iter().map(|media| Media { session: &self.inner, media })
    }

    /// Where the first audio stream wants its RTP, if it says so: tells the address family a call needs.
    pub fn audio_address(&self) -> Option<IpAddr> {
        let audio = self.medias().find(|m| m.kind() == MediaKind::Audio && m.port() != 0)?;
        match audio.address()? {
            Address::Ip(ip) => Some(ip),
            Address::Name(_) => None,
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// One stream of a description, with what it inherits from the session level.
#[derive(Debug, Clone, Copy)]
pub struct Media<'a> {
    session: &'a sdp_types::Session,
    media: &'a sdp_types::Media,
}

impl<'a> Media<'a> {
    pub fn kind(&self) -> MediaKind {
        let kind = self.media.media.as_str();
        if kind.eq_ignore_ascii_case("audio") {
            MediaKind::Audio
        } else if kind.eq_ignore_ascii_case("video") {
            MediaKind::Video
        } else if kind.eq_ignore_ascii_case("image") {
            MediaKind::Image
        } else {
            MediaKind::Other
        }
    }

    /// 0 where the stream is refused or ended.
    pub fn port(&self) -> u16 {
        self.media.port
    }

    pub fn profile(&self) -> Profile {
        let is = |name: &str| self.media.proto.eq_ignore_ascii_case(name);
        if is("RTP/AVP") || is("RTP/AVPF") {
            Profile::Plain
        } else if is("RTP/SAVP") || is("RTP/SAVPF") {
            Profile::Secure
        } else if is("UDP/TLS/RTP/SAVP") || is("UDP/TLS/RTP/SAVPF") {
            Profile::Dtls
        } else {
            Profile::Other
        }
    }

    /// The profile as written; an answer repeats it.
    pub fn protocol(&self) -> &'a str {
        &self.media.proto
    }

    /// The line that refuses this stream in an answer: the offer's own, with port 0 (RFC 3264 §6).
    pub fn refused(&self) -> MediaDraft {
        MediaDraft {
            kind: self.media.media.clone(),
            port: 0,
            protocol: self.media.proto.clone(),
            formats: self.media.fmt.clone(),
            attributes: Vec::new(),
        }
    }

    /// The stream's own `c=`, else the session's.
    pub fn address(&self) -> Option<Address> {
        let connection = self.media.connections.first().or(self.session.connection.as_ref())?;
        let text = connection.connection_address.split('/').next().unwrap_or_default();
        Some(match text.parse() {
            Ok(ip) => Address::Ip(ip),
            Err(_) => Address::Name(text.to_owned()),
        })
    }

    /// Values of every `a=name:value` of the stream itself.
    pub fn attributes(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        values(&self.media.attributes, name)
    }

    /// The first `a=name:value` of the stream, else of the session.
    pub fn attribute(&self, name: &'static str) -> Option<&'a str> {
        self.attributes(name).next().or_else(|| values(&self.session.attributes, name).next())
    }

    /// Whether the stream itself or the session carries `a=name`.
    pub fn has(&self, name: &str) -> bool {
        self.media.has_attribute(name)
            || self.session.attributes.iter().any(|a| a.attribute.eq_ignore_ascii_case(name))
    }

    /// The direction as its writer sees it; the stream's own word counts before the session's (RFC 8866 §6.7).
    pub fn direction(&self) -> MediaDirection {
        let of = |attributes: &[sdp_types::Attribute]| {
            attributes.iter().find_map(|a| {
                let is = |name: &str| a.attribute.eq_ignore_ascii_case(name);
                if is("sendrecv") {
                    Some(MediaDirection::SendRecv)
                } else if is("sendonly") {
                    Some(MediaDirection::SendOnly)
                } else if is("recvonly") {
                    Some(MediaDirection::RecvOnly)
                } else if is("inactive") {
                    Some(MediaDirection::Inactive)
                } else {
                    None
                }
            })
        };
        of(&self.media.attributes)
            .or_else(|| of(&self.session.attributes))
            .unwrap_or(MediaDirection::SendRecv)
    }

    /// The RTP formats in the order of the `m=` line, each once; what is no payload type is passed over.
    pub fn payloads(&self) -> Vec<Payload<'a>> {
        let mut payloads: Vec<Payload<'a>> = Vec::new();
        for number in self.media.fmt.split_ascii_whitespace().filter_map(|f| f.parse::<u8>().ok()) {
            if number < 128 && payloads.iter().all(|p| p.number != number) {
                payloads.push(self.payload(number));
            }
        }
        payloads
    }

    fn payload(&self, number: u8) -> Payload<'a> {
        let map = self.attributes("rtpmap").find_map(|value| keyed(value, number));
        if let Some(map) = map {
            let mut parts = map.trim().split('/');
            let encoding = parts.next().unwrap_or_default();
            let clock_rate = parts.next().and_then(|rate| rate.trim().parse().ok()).unwrap_or(0);
            let channels = parts.next().and_then(|channels| channels.trim().parse().ok()).unwrap_or(1);
            return Payload { number, encoding, clock_rate, channels };
        }
        // RFC 3551 §6: these mean themselves without a map.
        match number {
            0 => Payload { number, encoding: "PCMU", clock_rate: 8000, channels: 1 },
            8 => Payload { number, encoding: "PCMA", clock_rate: 8000, channels: 1 },
            13 => Payload { number, encoding: "CN", clock_rate: 8000, channels: 1 },
            _ => Payload { number, encoding: "", clock_rate: 0, channels: 1 },
        }
    }

    /// The parameters in `a=fmtp` of a payload type.
    pub fn fmtp(&self, number: u8) -> Option<&'a str> {
        self.attributes("fmtp").find_map(|value| keyed(value, number))
    }

    /// Milliseconds of media the writer wants in a packet: `a=ptime`, bounded by `a=maxptime`.
    pub fn ptime_ms(&self) -> Option<u32> {
        let ptime = self.milliseconds("ptime")?;
        Some(self.milliseconds("maxptime").map_or(ptime, |most| ptime.min(most)) as u32)
    }

    /// The most milliseconds of media the writer takes in a packet: `a=maxptime`.
    pub fn max_ptime_ms(&self) -> Option<u32> {
        self.milliseconds("maxptime").map(|most| most as u32)
    }

    fn milliseconds(&self, name: &'static str) -> Option<f32> {
        self.attribute(name).and_then(|value| value.trim().parse::<f32>().ok()).filter(|ms| *ms > 0.0)
    }

    /// Port and, if given, address of `a=rtcp` (RFC 3605).
    pub fn rtcp(&self) -> Option<(u16, Option<IpAddr>)> {
        let mut words = self.attributes("rtcp").next()?.split_ascii_whitespace();
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        Some((port, words.nth(2).and_then(|address| address.parse().ok())))
    }
}

fn values<'a>(
    attributes: &'a [sdp_types::Attribute],
    name: &'static str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    attributes
        .iter()
        .filter(move |a| a.attribute.eq_ignore_ascii_case(name))
        .filter_map(|a| a.value.as_deref())
}

/// The rest of `NUMBER rest` if the number is the wanted one.
fn keyed(value: &str, number: u8) -> Option<&str> {
    let (key, rest) = value.trim_start().split_once(' ')?;
    (key.parse() == Ok(number)).then_some(rest)
}
