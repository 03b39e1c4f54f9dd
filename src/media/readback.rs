//! The digits line: remembers the keys that are pressed and plays them back when the caller pauses.

use super::codec::g711::Law;
use super::config::{DtmfFormat, LegConfig};
use super::dtmf::detector::Detector;
use super::dtmf::{Event, EventCarrier};
use super::leg::Heard;
use super::rtp::Arrival;
use super::tone::KeyTone;
use super::transcoder::law;
use std::time::{Duration, Instant};

/// Keys of one turn; what is pressed beyond them is not played back.
const MOST: usize = 32;
/// A caller that presses nothing for so long waits for its keys.
const PAUSE: Duration = Duration::from_millis(1_500);
/// How long each key sounds, and the silence behind it, in samples at 8 kHz: 120 and 100 ms. Every receiver knows keys
/// of 40 ms and pauses of 40 ms (ITU-T Q.24).
const PRESS: usize = 960;
const REST: usize = 800;
/// The end of an event is said three times: it may be lost (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
/// How loud an event says the key is, in −dBm0.
const VOLUME: u8 = 10;
/// So long after our own tones what is heard may be their echo.
const DEAF: Duration = Duration::from_millis(500);

/// What one line has heard, and how far it is in saying it.
pub struct Readback {
    /// Clock of the events received, in Hz.
    event_rate: u32,
    law: Option<Law>,
    carrier: EventCarrier,
    detector: Detector,
    /// A tone is going on.
    sounding: bool,
    keys: [u8; MOST],
    len: usize,
    last_heard: Option<Instant>,
    playing: Option<Playing>,
    deaf_until: Option<Instant>,
}

/// A key being played back.
struct Playing {
    key: usize,
    /// Samples of it that have passed.
    at: usize,
    tone: Option<KeyTone>,
    /// Where its event lies in our stream.
    timestamp: u32,
    ends: u8,
}

/// What the line sends in one packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saying {
    /// What was filled in.
    Sound,
    Event {
        event: Event,
        timestamp: u32,
        marker: bool,
    },
    /// Nothing: the pause between two events.
    Nothing,
}

impl Readback {
    pub fn new(config: &LegConfig) -> Readback {
        Readback {
            event_rate: config.dtmf.map_or(8_000, |format| format.clock_rate),
            law: law(config.codec),
            carrier: EventCarrier::default(),
            detector: Detector::default(),
            sounding: false,
            keys: [0; MOST],
            len: 0,
            last_heard: None,
            playing: None,
            deaf_until: None,
        }
    }

    /// Goes on under another description; what was pressed is kept.
    pub fn renew(&mut self, config: &LegConfig) {
        let fresh = Readback::new(config);
        (self.event_rate, self.law, self.carrier) = (fresh.event_rate, fresh.law, fresh.carrier);
        self.playing = None;
    }

    /// Takes what the caller sends. `events`: its presses are agreed to come as events; else they are looked for in its
    /// voice.
    pub fn hear(&mut self, heard: Heard<'_>, events: bool, now: Instant, pcm: &mut [i16]) {
        match (heard, self.law) {
            (Heard::Event(packet, arrival, event), _) => {
                if arrival == Arrival::First {
                    self.carrier.forget_source();
                }
                let rate = self.event_rate;
                if let Some(press) = self.carrier.carry(event, packet.timestamp, 0, rate, rate) {
                    self.note(event.code, press.marker, now);
                }
            }
            (Heard::Voice(packet, _), Some(law)) if !events => {
                if self.playing.is_some() || self.deaf_until.is_some_and(|until| now < until) {
                    return;
                }
                let samples = law.expand_into(packet.payload, pcm);
                match self.detector.hear(&pcm[..samples]) {
                    Some(found) => {
                        self.note(found.code, !self.sounding, now);
                        self.sounding = !found.ended;
                    }
                    None => self.sounding = false,
                }
            }
            (Heard::Voice(..) | Heard::Noise(..), _) => {}
        }
    }

    fn note(&mut self, code: u8, begins: bool, now: Instant) {
        self.last_heard = Some(now);
        if !begins || KeyTone::new(code).is_none() {
            return;
        }
        if self.playing.take().is_some() {
            // Whoever goes on pressing has heard enough.
            self.len = 0;
        }
        if let Some(place) = self.keys.get_mut(self.len) {
            *place = code;
            self.len += 1;
        }
    }

    /// What goes out in the packet time that begins at `slot`. `wall` is where our stream stands; `format` is how
    /// presses are sent, `None` where they are sounds.
    pub fn say(&mut self, slot: Instant, wall: u32, format: Option<DtmfFormat>, pcm: &mut [i16]) -> Saying {
        let waits = self.len > 0 && self.playing.is_none();
        if waits && self.last_heard.is_none_or(|heard| heard + PAUSE <= slot) {
            self.playing = Some(Playing::of(&self.keys, 0));
        }
        let saying = match (format, &mut self.playing) {
            (_, None) => {
                pcm.fill(0);
                return Saying::Sound;
            }
            (Some(format), Some(playing)) => playing.as_event(self.keys, wall, format, pcm.len()),
            (None, Some(_)) => {
                self.deaf_until = Some(slot + DEAF);
                self.sound(pcm);
                Saying::Sound
            }
        };
        if let Some(playing) = self.playing.take_if(|playing| playing.at >= PRESS + REST) {
            self.next_key(playing.key + 1);
        }
        saying
    }

    fn sound(&mut self, pcm: &mut [i16]) {
        let mut rest = pcm;
        while let Some(playing) = self.playing.as_mut().filter(|_| !rest.is_empty()) {
            let until = if playing.at < PRESS { PRESS } else { PRESS + REST };
            let (now, later) = rest.split_at_mut(rest.len().min(until - playing.at));
            match &mut playing.tone {
                Some(tone) if playing.at < PRESS => tone.fill(now),
                Some(_) | None => now.fill(0),
            }
            playing.at += now.len();
            rest = later;
            let done = playing.at >= PRESS + REST;
            let next = playing.key + 1;
            if done && !rest.is_empty() {
                self.next_key(next);
            }
        }
        rest.fill(0);
    }

    fn next_key(&mut self, key: usize) {
        self.playing = (key < self.len).then(|| Playing::of(&self.keys, key));
        if self.playing.is_none() {
            self.len = 0;
        }
    }
}

impl Playing {
    fn of(keys: &[u8; MOST], key: usize) -> Playing {
        Playing { key, at: 0, tone: KeyTone::new(keys[key]), timestamp: 0, ends: ENDS }
    }

    fn as_event(&mut self, keys: [u8; MOST], wall: u32, format: DtmfFormat, samples: usize) -> Saying {
        let marker = self.at == 0;
        if marker {
            self.timestamp = wall;
        }
        self.at += samples;
        let end = self.at >= PRESS;
        if end && self.ends == 0 {
            return Saying::Nothing;
        }
        self.ends -= u8::from(end);
        let duration = self.at.min(PRESS) * (format.clock_rate / 8_000) as usize;
        let event = Event { code: keys[self.key], end, volume: VOLUME, duration: duration as u16 };
        Saying::Event { event, timestamp: self.timestamp, marker }
    }
}
