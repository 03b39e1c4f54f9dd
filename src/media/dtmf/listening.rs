//! Looks for key presses in G.711 and makes them events, each in the place of a voice packet.

use super::Event;
use super::detector::{Detector, Found};
use crate::media::codec::g711::Law;
use crate::media::config::LegConfig;
use crate::media::transcoder::{Incoming, law};
use crate::types::DtmfMode;

/// The tones of one source.
pub struct Listening {
    law: Law,
    detector: Detector,
    /// Timestamp of the present press in the received stream.
    began: Option<u32>,
    /// The end of a press, and how often it is still to be said (RFC 4733 §2.5.1.4).
    ended: Option<(Event, u8)>,
}

/// The level that is stated for presses that were found, in −dBm0.
const FOUND_VOLUME: u8 = 10;
/// The end of an event is sent three times: it may be lost.
const END_AGAIN: u8 = 2;

impl Listening {
    /// `None` where the source says its presses itself, speaks a codec that tones do not survive, or the far side takes
    /// no events either. A source that agreed to no events has its presses in the voice, whatever the trunk is said to do.
    pub fn to(from: &LegConfig, to: &LegConfig) -> Option<Box<Listening>> {
        let sounds = from.dtmf_mode == DtmfMode::Inband || from.dtmf.is_none();
        let told = to.dtmf_mode == DtmfMode::Rfc4733 && to.dtmf.is_some();
        let law = law(from.codec).filter(|_| sounds && told)?;
        Some(Box::new(Listening { law, detector: Detector::default(), began: None, ended: None }))
    }

    /// Another source: what was heard of the one before says nothing of it.
    pub fn forget(&mut self) {
        *self = Listening { law: self.law, detector: Detector::default(), began: None, ended: None };
    }

    /// The event to be told instead of a voice packet, and its timestamp in the received stream.
    pub fn hear(&mut self, incoming: Incoming<'_>, pcm: &mut [i16]) -> Option<(Event, u32)> {
        let samples = self.law.expand_into(incoming.packet.payload, pcm);
        let Some(Found { code, duration, ended }) = self.detector.hear(&pcm[..samples]) else {
            let ((event, again), began) = (self.ended?, self.began?);
            self.ended = (again > 1).then_some((event, again - 1));
            if self.ended.is_none() {
                self.began = None;
            }
            return Some((event, began));
        };
        let event = Event { code, end: ended, volume: FOUND_VOLUME, duration: duration.min(0xffff) as u16 };
        let fresh = self.began.is_none() || self.ended.is_some();
        if fresh {
            let sounded = incoming.packet.timestamp.wrapping_add(samples as u32).wrapping_sub(duration);
            self.began = Some(sounded);
        }
        self.ended = ended.then_some((event, END_AGAIN));
        self.began.map(|began| (event, began))
    }
}
