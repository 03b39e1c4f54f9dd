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
use super::rtp::{Arrival, RtpPacket};
use crate::types::AudioCodec;
use std::time::Instant;

/// A received packet and when it is handled.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub packet: RtpPacket<'a>,
    pub arrival: Arrival,
    pub now: Instant,
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
}

impl Outcome {
    pub const NOTHING: Outcome = Outcome {
        recovered_fec: 0,
        recovered_plc: 0,
        too_late: false,
        unusable: false,
        transcoded: false,
        level: Level::Unknown,
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
        }
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
