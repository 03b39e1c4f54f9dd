//! Names of what a media stream carries and how it is protected; no coding is done here.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The voice codecs the gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AudioCodec {
    /// RFC 7587: always `opus/48000/2` in SDP, whatever is inside.
    #[serde(rename = "opus", alias = "OPUS", alias = "Opus")]
    Opus,
    /// G.711 A-law, static payload type 8 (RFC 3551).
    #[serde(rename = "PCMA", alias = "pcma")]
    Pcma,
    /// G.711 µ-law, static payload type 0 (RFC 3551).
    #[serde(rename = "PCMU", alias = "pcmu")]
    Pcmu,
}

impl AudioCodec {
    /// The encoding name as SDP writes it.
    pub fn encoding_name(self) -> &'static str {
        match self {
            AudioCodec::Opus => "opus",
            AudioCodec::Pcma => "PCMA",
            AudioCodec::Pcmu => "PCMU",
        }
    }

    /// RTP clock rate in Hz. For Opus this is not the sample rate of what is inside (RFC 7587 §4.1).
    pub fn clock_rate(self) -> u32 {
        match self {
            AudioCodec::Opus => 48_000,
            AudioCodec::Pcma | AudioCodec::Pcmu => 8_000,
        }
    }
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding_name())
    }
}

/// Which way media may flow on a leg, seen from the gateway (RFC 3264 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaDirection {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl MediaDirection {
    pub fn sends(self) -> bool {
        matches!(self, MediaDirection::SendRecv | MediaDirection::SendOnly)
    }
    pub fn receives(self) -> bool {
        matches!(self, MediaDirection::SendRecv | MediaDirection::RecvOnly)
    }
    /// The same direction seen from the other end.
    pub fn reversed(self) -> MediaDirection {
        match self {
            MediaDirection::SendOnly => MediaDirection::RecvOnly,
            MediaDirection::RecvOnly => MediaDirection::SendOnly,
            MediaDirection::SendRecv | MediaDirection::Inactive => self,
        }
    }
}

/// How key presses travel on a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtmfMode {
    /// As telephone-event packets (RFC 4733).
    Rfc4733,
    /// As tones in the voice.
    Inband,
}

/// SRTP protection suites offered in SDES (RFC 4568 §6.2, RFC 6188, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpSuite {
    AesCm128HmacSha1_80,
    AesCm128HmacSha1_32,
    AesCm256HmacSha1_80,
    AesCm256HmacSha1_32,
    AeadAes128Gcm,
    AeadAes256Gcm,
}

impl SrtpSuite {
    pub const ALL: [SrtpSuite; 6] = [
        SrtpSuite::AesCm128HmacSha1_80,
        SrtpSuite::AesCm128HmacSha1_32,
        SrtpSuite::AesCm256HmacSha1_80,
        SrtpSuite::AesCm256HmacSha1_32,
        SrtpSuite::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm,
    ];
    /// What is offered where nobody says otherwise: what every SRTP stack has (RFC 4568 §6.2).
    pub const USUAL: [SrtpSuite; 2] = [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32];

    /// Length of master key and master salt in octets.
    pub fn key_and_salt_len(self) -> (usize, usize) {
        match self {
            SrtpSuite::AesCm128HmacSha1_80 | SrtpSuite::AesCm128HmacSha1_32 => (16, 14),
            SrtpSuite::AesCm256HmacSha1_80 | SrtpSuite::AesCm256HmacSha1_32 => (32, 14),
            SrtpSuite::AeadAes128Gcm => (16, 12),
            SrtpSuite::AeadAes256Gcm => (32, 12),
        }
    }
    /// The name in `a=crypto`.
    pub fn as_str(self) -> &'static str {
        match self {
            SrtpSuite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpSuite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            SrtpSuite::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            SrtpSuite::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            SrtpSuite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            SrtpSuite::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }
}

/// Master keys of one leg: what we protect with and what we check with. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    pub suite: SrtpSuite,
    /// Master key followed by master salt, for packets we send.
    pub local: Vec<u8>,
    /// Master key followed by master salt, for packets we receive.
    pub remote: Vec<u8>,
    /// Identifiers of the two keys, as they stand in each packet (RFC 3711 §3.1); empty where none does.
    pub local_mki: Vec<u8>,
    pub remote_mki: Vec<u8>,
}

impl SrtpKeys {
    /// Keys without identifiers.
    pub fn new(suite: SrtpSuite, local: Vec<u8>, remote: Vec<u8>) -> SrtpKeys {
        SrtpKeys { suite, local, remote, local_mki: Vec::new(), remote_mki: Vec::new() }
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpKeys({})", self.suite.as_str())
    }
}
