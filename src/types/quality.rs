//! What the media path measured on one leg, as every record and view of it carries it.

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
    /// Packets that came too late or twice.
    pub packets_late: u64,
    /// Packets dropped unheard: wrong source, bad SRTP tag, not RTP.
    pub packets_discarded: u64,
    /// Interarrival jitter in milliseconds (RFC 3550 §6.4.1), the latest value.
    pub jitter_ms: Option<f32>,
    /// Round trip by RTCP in milliseconds.
    pub rtt_ms: Option<f32>,
    /// Listening quality of what was received, ITU-T G.107 narrowband.
    pub mos_lq: Option<f32>,
    /// Conversational quality; unknown without a round trip.
    pub mos_cq: Option<f32>,
    /// What the far end reported of our stream by RTCP: fraction lost of all packets, 0 to 1.
    pub remote_loss: Option<f32>,
    /// What the far end reported of our stream by RTCP, in milliseconds.
    pub remote_jitter_ms: Option<f32>,
    /// Time of the last media packet heard, milliseconds since the epoch.
    pub last_media_at: Option<i64>,
}
