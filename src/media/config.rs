//! What a leg's media looks like once its SDP is agreed, and what the gateway may play into it.

use crate::types::{AudioCodec, DtmfMode, MediaDirection, SrtpKeys};
use std::net::SocketAddr;

/// The agreed media of one leg. Applying it again (a re-INVITE) keeps the stream's SSRC, counters and timeline as
/// far as RTP allows, and re-arms the latch if it says anything new of where the media comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct LegConfig {
    pub codec: AudioCodec,
    /// Payload type of the voice we send: the number the far side asked for (RFC 3264 §5.1).
    pub send_payload_type: u8,
    /// Payload type of the voice we receive: the number we asked for.
    pub receive_payload_type: u8,
    /// The number under which the far side may speak the other law of G.711.
    pub other_law: Option<u8>,
    /// `None` where the far side takes no telephone events; key presses then go as tones in the voice.
    pub dtmf: Option<DtmfFormat>,
    /// The far side takes comfort noise (RFC 3389) in place of a silence that is sent.
    pub comfort_noise: bool,
    pub remote_rtp: SocketAddr,
    pub remote_rtcp: SocketAddr,
    /// RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// The far side asked for VoIP metrics (RFC 3611 §5.1); without that none are sent.
    pub voip_metrics: bool,
    /// Seen from the gateway.
    pub direction: MediaDirection,
    /// Length of the packets we send, 10 to 60 ms. Opus that passes through untouched keeps its own.
    pub ptime_ms: u8,
    pub srtp: Option<SrtpKeys>,
    /// Follow the address the first packet really comes from, once. Without it only `remote_rtp` is heard.
    pub latch: bool,
    pub dtmf_mode: DtmfMode,
    /// How Opus is encoded towards this leg; unused where its codec is G.711.
    pub opus: OpusSettings,
    /// The far side wants nothing done to what its modem says (V.152), from the first packet on.
    pub clear: bool,
}

impl LegConfig {
    /// The least that two sides can agree to: 20 ms of voice both ways with one payload type, RTCP on the same port,
    /// no events, no keys, no latch.
    pub fn plain(codec: AudioCodec, payload_type: u8, remote: SocketAddr) -> LegConfig {
        LegConfig {
            codec,
            send_payload_type: payload_type,
            receive_payload_type: payload_type,
            other_law: None,
            dtmf: None,
            comfort_noise: false,
            remote_rtp: remote,
            remote_rtcp: remote,
            rtcp_mux: true,
            voip_metrics: false,
            direction: MediaDirection::SendRecv,
            ptime_ms: 20,
            srtp: None,
            latch: false,
            dtmf_mode: DtmfMode::Rfc4733,
            opus: OpusSettings::default(),
            clear: false,
        }
    }
}

/// A telephone-event format as negotiated (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtmfFormat {
    pub send_payload_type: u8,
    pub receive_payload_type: u8,
    /// Unit of the durations inside, in Hz: 8000, or 48000 beside Opus.
    pub clock_rate: u32,
}

/// Settings of the Opus encoder towards one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusSettings {
    /// Target bit rate in bit/s, already limited by what the far side asked for (`maxaveragebitrate`).
    pub bitrate: u32,
    /// The most the far side takes, in bit/s (`maxaveragebitrate`), where a modem speaks and not a voice.
    pub most_bitrate: u32,
    /// 0 (cheapest) to 10.
    pub complexity: u8,
    /// In-band forward error correction, sent once the far side reports loss.
    pub fec: bool,
    /// Send nothing while nobody speaks.
    pub dtx: bool,
    /// Packets of one size, as the far side asked for (`cbr`, RFC 7587 §6.1): their lengths tell nothing of what is said
    /// (RFC 6562).
    pub cbr: bool,
    /// The longest packet the far side takes (`maxptime`), 10 to 60 ms.
    pub max_ptime_ms: u8,
}

impl Default for OpusSettings {
    fn default() -> OpusSettings {
        OpusSettings {
            // Beyond 20 kb/s a narrowband voice gains nothing a listener notices; some room for FEC on top.
            bitrate: 24_000,
            most_bitrate: 510_000,
            // 0.02 PESQ below complexity 10 at two thirds of its cost.
            complexity: 5,
            fec: true,
            dtx: true,
            cbr: false,
            max_ptime_ms: 60,
        }
    }
}

/// A sound the gateway makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Somebody is being rung, as it sounds there.
    Ringback(Ringing),
    /// One frequency without a pause, at this level.
    Steady { hertz: u16, dbm0: i8 },
}

/// How ringing sounds to callers of a country (ITU-T E.180 Supplement 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ringing {
    /// 425 Hz, one second on and four off (ETSI TR 101 041): most of Europe.
    #[default]
    Europe,
    /// 440 Hz, one and a half seconds on, three and a half off.
    France,
    /// 400 and 450 Hz, twice 0.4 s with 0.2 s between, two seconds off.
    UnitedKingdom,
    /// 440 and 480 Hz, two seconds on, four off.
    NorthAmerica,
}

/// What answers on a leg that has no other leg behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// What is heard goes back, packet by packet and as it came.
    Echo,
    Tone(Tone),
    /// A recorded voice, again and again.
    Speech,
    /// The keys that were pressed, once the caller pauses.
    Digits,
}
