//! Turns the voice of one leg into the other's codec, straight at 8 kHz, packet by packet as it arrives.
//!
//! Nothing is held back: a packet's sound leaves in the call that brings it, unless the packet lengths of the two sides
//! do not divide. Packets come here in order: `recovery` stands before it.

pub mod decode;
pub mod encode;
pub mod packer;
pub mod reframe;

pub use decode::OpusToG711;
pub use encode::G711ToOpus;
pub use reframe::G711ToG711;

use super::codec::g711::Law;
use super::level::Level;
use super::recovery::reorder;
use super::recovery::spread::Slack;
use super::rtp::{Arrival, RtpPacket};
use crate::types::AudioCodec;
use std::time::{Duration, Instant};

/// A received packet and when it is handled.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub packet: RtpPacket<'a>,
    pub arrival: Arrival,
    pub now: Instant,
    /// How much longer others of its stream may be on their way.
    pub slack: Slack,
}

/// How much longer than its way may take the rest of a frame is waited for.
const REST_GRACE: Duration = Duration::from_millis(10);
/// A network that scatters packets more than this is not waited for: the rest goes ahead.
const REST_SLACK: Duration = Duration::from_millis(60);

/// Where the next packet is lost, the one behind it brings what fills the frame: that one is waited for too unless it is
/// further away than this, else each packet lost would make a frame shorter.
const ONE_MORE: Duration = Duration::from_millis(40);

/// When what waits behind so many samples goes out without the rest of its frame: nobody speaks on.
fn rest_due(now: Instant, samples: usize, slack: Duration) -> Instant {
    let packet = Duration::from_micros(samples as u64 * 125);
    now + packet + packet.min(ONE_MORE) + slack.min(REST_SLACK) + REST_GRACE
}

/// How many of the packets lost before one of `length` samples so much made-up sound stands for: who skips numbers and
/// no time has lost nothing that was to be heard.
fn made_up(lost: u16, samples: usize, length: usize) -> u16 {
    let packets = (samples + length / 2).checked_div(length).unwrap_or(0);
    lost.min(u16::try_from(packets).unwrap_or(u16::MAX))
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lost packets before it made up for from its redundancy.
    pub recovered_fec: u16,
    /// Lost packets before it made up for by concealment.
    pub recovered_plc: u16,
    /// Its time had passed: it is not heard.
    pub too_late: bool,
    /// It is not what its codec allows: it is not heard.
    pub unusable: bool,
    /// It was decoded and encoded.
    pub transcoded: bool,
    /// What it held, where somebody looked.
    pub level: Level,
    /// For how many milliseconds at most it waits for a packet before it; what becomes of it is told later.
    pub waits_ms: u16,
}

impl Outcome {
    pub const NOTHING: Outcome = Outcome {
        recovered_fec: 0,
        recovered_plc: 0,
        too_late: false,
        unusable: false,
        transcoded: false,
        level: Level::Unknown,
        waits_ms: 0,
    };
    pub const TOO_LATE: Outcome = Outcome { too_late: true, ..Outcome::NOTHING };
    pub const UNUSABLE: Outcome = Outcome { unusable: true, ..Outcome::NOTHING };

    /// What became of a packet and of those that waited for it.
    #[inline]
    pub fn and(self, waited: Outcome) -> Outcome {
        Outcome {
            recovered_fec: self.recovered_fec.saturating_add(waited.recovered_fec),
            recovered_plc: self.recovered_plc.saturating_add(waited.recovered_plc),
            too_late: self.too_late || waited.too_late,
            unusable: self.unusable || waited.unusable,
            transcoded: self.transcoded || waited.transcoded,
            level: self.level.max(waited.level),
            waits_ms: self.waits_ms.max(waited.waits_ms),
        }
    }
}

/// Outcomes of packets that waited, with their sequence numbers; as many as can wait and come at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Untold {
    outcomes: [(u16, Outcome); reorder::SLOTS],
    len: usize,
}

impl Untold {
    pub fn note(&mut self, sequence: u16, outcome: Outcome) {
        match self.outcomes.get_mut(self.len) {
            Some(place) => {
                *place = (sequence, outcome);
                self.len += 1;
            }
            // Nobody asked for long: the last place tells of all the others.
            None => self.outcomes[self.len - 1].1 = self.outcomes[self.len - 1].1.and(outcome),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &(u16, Outcome)> {
        self.outcomes[..self.len].iter()
    }
}

/// The companding law of a codec; `None` for Opus.
pub fn law(codec: AudioCodec) -> Option<Law> {
    match codec {
        AudioCodec::Pcma => Some(Law::A),
        AudioCodec::Pcmu => Some(Law::Mu),
        AudioCodec::Opus => None,
    }
}
