//! What a leg can do, what both sides agreed on, and why they could not.

use super::opus_fmtp::{OpusParams, OpusRemote};
use crate::types::{AudioCodec, MediaDirection, SrtpKeys, SrtpSuite};
use std::net::SocketAddr;

/// Fills a buffer with random bytes; given by the shell, so that this file stays free of randomness.
pub type Randomness<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Whether a leg's media is protected by SRTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpPolicy {
    /// Plain RTP; keys in an `RTP/AVP` offer are passed over, `RTP/SAVP` is refused.
    Off,
    /// Keys in `a=crypto` (RFC 4568), required: a description without usable keys is refused. Offered as `RTP/SAVP`;
    /// an `RTP/AVP` offer that carries keys is taken too and answered in kind, as phones with optional SRTP expect.
    Sdes,
}

/// What a loopback address in the far side's description means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// The far side is on this machine: it is where it says.
    Reached,
    /// Only the far side itself is reached there. Its packets will show where it is; until then there is nowhere to send.
    Unknown,
    /// The same, and its packets are not followed: the description is of no use.
    Refused,
}

/// What we are able and willing to do on a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Best first. In an answer this order decides, not the offer's.
    pub codecs: Vec<AudioCodec>,
    pub opus: OpusParams,
    /// Offer and accept `telephone-event` (RFC 4733), at each codec's clock rate.
    pub dtmf: bool,
    /// Offer and accept comfort noise (RFC 3389) beside G.711.
    pub comfort_noise: bool,
    pub srtp: SrtpPolicy,
    /// Suites offered and accepted, best first. In an answer the offer's order decides (RFC 4568 §5.1.2).
    pub suites: Vec<SrtpSuite>,
    /// Where we receive RTP, as the far side can reach it.
    pub address: SocketAddr,
    /// Where we receive RTCP; written as `a=rtcp` only where it is not the next port.
    pub rtcp_port: u16,
    /// Offer and accept RTCP on the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Whether the far side may say that it is on a loopback address.
    pub loopback: Loopback,
    /// Milliseconds of media we like to receive in a packet, and send where the far side has no wish.
    pub ptime_ms: u8,
    /// What we want the stream to do, seen from us.
    pub direction: MediaDirection,
}

impl Capability {
    /// Plain RTP with every codec, 20 ms and events, at an address.
    pub fn new(address: SocketAddr) -> Capability {
        Capability {
            codecs: vec![AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu],
            opus: OpusParams::default(),
            dtmf: true,
            comfort_noise: false,
            srtp: SrtpPolicy::Off,
            suites: SrtpSuite::USUAL.to_vec(),
            address,
            rtcp_port: address.port().saturating_add(1),
            rtcp_mux: false,
            loopback: Loopback::Reached,
            ptime_ms: 20,
            direction: MediaDirection::SendRecv,
        }
    }
}

/// Payload types and clock rate of telephone-event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtmfFormat {
    pub send_payload_type: u8,
    pub receive_payload_type: u8,
    /// Hz. Some app stacks pair 8000 with Opus, so it is not always the codec's.
    pub clock_rate: u32,
}

/// What offer and answer agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub codec: AudioCodec,
    pub send_payload_type: u8,
    pub receive_payload_type: u8,
    /// Where the answer took both laws of G.711: the number under which the far side may speak the other one.
    pub other_law: Option<u8>,
    pub dtmf: Option<DtmfFormat>,
    /// Both sides take comfort noise, payload type 13, beside this codec.
    pub comfort_noise: bool,
    /// The far side says that this codec carries what its modem says (V.152): nothing is to be done to it.
    pub clear: bool,
    /// Unspecified (`0.0.0.0`) where the far side holds the old way, and then `direction` doesn't send; or where only its
    /// packets can tell ([`Loopback::Unknown`]).
    pub remote_rtp: SocketAddr,
    pub remote_rtcp: SocketAddr,
    pub rtcp_mux: bool,
    /// The far side asks for VoIP metrics in its RTCP (RFC 3611 §5.1). We always ask for them.
    pub voip_metrics: bool,
    /// Seen from us.
    pub direction: MediaDirection,
    /// Milliseconds of media in a packet we send, 10 to 60.
    pub ptime_ms: u8,
    pub srtp: Option<SrtpKeys>,
    pub opus_fmtp: OpusRemote,
    /// The far side holds by `c=0.0.0.0` (RFC 2543 §B.5) instead of by a direction.
    pub on_hold_address: bool,
}

/// Why an offer can't be answered. SIP status 488 with the Warning of [`warning`](Refusal::warning).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no audio stream offered")]
    NoAudio,
    #[error("no audio codec in common")]
    NoSharedCodec,
    #[error("transport profile not supported")]
    Profile,
    #[error("SRTP is required here")]
    SrtpRequired,
    #[error("SRTP is not supported here")]
    SrtpUnsupported,
    #[error("no usable SRTP key offered")]
    BadCrypto,
    #[error("no usable media address offered")]
    BadAddress,
}

impl Refusal {
    /// Code of the Warning header (RFC 3261 §20.43); its text is the error's.
    pub fn warning(self) -> u16 {
        match self {
            Refusal::BadAddress => 301,
            Refusal::Profile | Refusal::SrtpUnsupported => 302,
            Refusal::NoAudio => 304,
            Refusal::NoSharedCodec => 305,
            Refusal::SrtpRequired | Refusal::BadCrypto => 306,
        }
    }
}

/// Why an answer doesn't fit what we offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer came before any offer")]
    NoOffer,
    #[error("the answer has no audio stream where the offer has it")]
    NoAudio,
    #[error("the answer refuses the audio stream")]
    AudioRefused,
    #[error("the answer has no codec that was offered")]
    CodecNotOffered,
    #[error("the answer changes the transport profile")]
    Profile,
    #[error("the answer has no usable SRTP key")]
    BadCrypto,
    #[error("the answer has no usable media address")]
    BadAddress,
}
