//! What the media path measured on one leg, as every record and view of it carries it.

use super::UnixMillis;
use serde::{Deserialize, Serialize};

/// Counts and quality of one leg from its opening to its end. What was not measured is `None`, never a default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LegReport {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Packets that never came, by sequence numbers (RFC 3550 A.3); late ones are not lost.
    pub packets_lost: u64,
    /// Packets the listener had to do without after repair: lost, too late or refused by their codec, and not recovered
    /// from redundancy. What a far decoder recovers from packets that are passed on untouched is not known here.
    #[serde(default)]
    pub packets_unrepaired: Option<u64>,
    /// Packets that came too late or twice.
    pub packets_late: u64,
    /// Packets dropped unheard: wrong source, bad SRTP tag, not RTP.
    pub packets_discarded: u64,
    /// Mean run of unrepaired packets over what chance would give (G.107's BurstR), at least 1.
    #[serde(default)]
    pub burst_ratio: Option<f32>,
    /// Share of packets missed within bursts and within gaps, 0 to 1 (RFC 3611 §4.7.2, Gmin 16).
    #[serde(default)]
    pub burst_density: Option<f32>,
    #[serde(default)]
    pub gap_density: Option<f32>,
    /// Mean length of bursts and of gaps, in milliseconds.
    #[serde(default)]
    pub burst_ms: Option<f32>,
    #[serde(default)]
    pub gap_ms: Option<f32>,
    /// Interarrival jitter in milliseconds (RFC 3550 §6.4.1), the mean over the packets.
    pub jitter_ms: Option<f32>,
    /// Round trip by RTCP in milliseconds, the mean of those measured; where none was, the last one the far end told.
    pub rtt_ms: Option<f32>,
    /// Listening quality of what was received, ITU-T G.107 narrowband; each part of the call by the codecs it had.
    pub mos_lq: Option<f32>,
    /// Conversational quality; unknown without a round trip.
    pub mos_cq: Option<f32>,
    /// What the far end reported of our stream by RTCP: fraction lost of all packets, 0 to 1.
    pub remote_loss: Option<f32>,
    /// What the far end reported of our stream by RTCP, in milliseconds.
    pub remote_jitter_ms: Option<f32>,
    /// What the far end reported of our stream by RTCP XR (RFC 3611 §4.7): the share its jitter buffer threw away, and
    /// the quality its listener has.
    #[serde(default)]
    pub remote_discard: Option<f32>,
    #[serde(default)]
    pub remote_mos_lq: Option<f32>,
    #[serde(default)]
    pub remote_mos_cq: Option<f32>,
    /// What was wrong with the audio that came from here while the other leg was heard, or with what went there; the first
    /// fault found, but `missing` in place of `unheard`.
    #[serde(default)]
    pub fault: Option<AudioFault>,
    /// For how long that fault lasted, in all.
    #[serde(default)]
    pub fault_ms: u64,
    /// A fax or a modem was heard from here; it is kept with the call, as [`Fax`].
    #[serde(skip)]
    pub fax: bool,
    /// Time of the last media packet heard, milliseconds since the epoch.
    pub last_media_at: Option<i64>,
}

/// How a call showed that it carries a fax or a modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fax {
    /// Its tones or its first bits were heard, where something is done to the sound.
    Heard,
    /// A far end asked to move to T.38, and was refused so that the call went on in G.711.
    T38,
}

impl Fax {
    pub const ALL: [Fax; 2] = [Fax::Heard, Fax::T38];

    pub fn as_str(self) -> &'static str {
        match self {
            Fax::Heard => "heard",
            Fax::T38 => "t38",
        }
    }
}

/// What can be wrong with the audio of one leg of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioFault {
    /// No packets came: one-way audio.
    Missing,
    /// Packets came and held nothing but a constant, while the other leg talked.
    Silent,
    /// Its far end reports by RTCP that nothing of what we send arrives: one-way audio. Its reports come every five seconds
    /// or so, and two are needed. A trunk's report without a block counts only where it has had one about us before.
    Unheard,
}

impl AudioFault {
    pub const ALL: [AudioFault; 3] = [AudioFault::Missing, AudioFault::Silent, AudioFault::Unheard];

    /// True where one side of a call does not hear the other at all.
    pub fn is_one_way(self) -> bool {
        match self {
            AudioFault::Missing | AudioFault::Unheard => true,
            AudioFault::Silent => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            AudioFault::Missing => "missing",
            AudioFault::Silent => "silent",
            AudioFault::Unheard => "unheard",
        }
    }
}

/// Five seconds of one leg. What was not measured is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct QualitySample {
    /// When the step ended, milliseconds since the epoch.
    pub at: UnixMillis,
    /// Share of packets missed after repair, 0 to 1.
    pub loss: Option<f32>,
    pub jitter_ms: Option<f32>,
    /// The last round trip told in these five seconds: reports come every five or so, and not in each.
    pub rtt_ms: Option<f32>,
    pub mos_lq: Option<f32>,
    pub bytes_received: u32,
    pub bytes_sent: u32,
}
