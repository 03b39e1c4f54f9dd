//! G.711 to Opus: each packet is encoded as it comes, gaps are concealed before the encoder, silence is not sent.

use super::{Incoming, Outcome, REST_SLACK, made_up, rest_due};
use crate::media::codec::concealment::Concealer;
use crate::media::codec::g711::{Law, SAMPLE_RATE};
use crate::media::codec::opus::{CLOCK_RATE, Encoded, Encoder, MAX_ENCODED, OpusError};
use crate::media::config::OpusSettings;
use crate::media::recovery::catch_up::Overrun;
use crate::media::rtp::Arrival;
use crate::media::track::{Place, Track};
use crate::media::transmit::{Chunk, Out, Transmitter};
use std::time::Instant;

/// The longest Opus frame made: 60 ms.
const MAX_FRAME: usize = 480;
/// The shortest made, and the others; all are 10 ms and more (RFC 6716 §2.1.4: below that there is no voice mode).
const FRAMES: [usize; 4] = [MAX_FRAME, 320, 160, MIN_FRAME];
const MIN_FRAME: usize = 80;
/// Clock units of Opus per sample of G.711.
const UNITS: u32 = CLOCK_RATE / SAMPLE_RATE;
/// Comfort noise is sent for 200 ms, then one frame every 400 ms, as libopus does in DTX.
const COMFORT_TOLD: u32 = 10;
const COMFORT_EVERY: u32 = 20;
/// So much of the packet behind a gap is used to fill it.
const BEHIND: usize = 160;
/// The longest gap that is concealed; a longer one is left to the listener's own decoder.
const MAX_CONCEALED: usize = 480;

/// The encoder of one direction.
pub struct G711ToOpus {
    law: Law,
    settings: OpusSettings,
    /// Created by the first packet: a leg that is only held costs no codec.
    encoder: Option<Encoder>,
    expected_loss: u8,
    track: Track,
    concealer: Concealer,
    overrun: Overrun,
    frame: usize,
    /// The length of the frames from the next one on.
    next_frame: usize,
    waiting: [i16; MAX_FRAME],
    len: usize,
    /// Timestamp of the first sample waiting.
    start: u32,
    /// When what waits for the rest of its frame goes out without it.
    rest_due: Option<Instant>,
    /// The next packet begins a talk spurt (RFC 7587 §4.1).
    marker: bool,
    /// Frames of comfort noise since the trunk spoke.
    comforted: u32,
    /// A modem speaks: what is lost stays silent.
    clear: bool,
}

impl G711ToOpus {
    pub fn new(law: Law, ptime_ms: u8, settings: OpusSettings) -> G711ToOpus {
        G711ToOpus {
            law,
            settings,
            encoder: None,
            expected_loss: 0,
            track: Track::new(SAMPLE_RATE, CLOCK_RATE),
            concealer: Concealer::default(),
            overrun: Overrun::default(),
            frame: frame_samples(ptime_ms),
            next_frame: frame_samples(ptime_ms),
            waiting: [0; MAX_FRAME],
            len: 0,
            start: 0,
            rest_due: None,
            marker: true,
            comforted: 0,
            clear: false,
        }
    }

    /// Makes up no sound from now on.
    pub fn set_clear(&mut self) {
        self.clear = true;
    }

    /// Changes the encoder's settings from the next frame on.
    pub fn configure(&mut self, settings: OpusSettings) {
        self.settings = settings;
        if let Some(encoder) = &mut self.encoder {
            // The values are clamped to what libopus takes.
            let _ = encoder.configure(settings);
        }
    }

    /// Changes the length of the packets sent, from the next one on.
    pub fn set_ptime(&mut self, ptime_ms: u8) {
        self.next_frame = frame_samples(ptime_ms);
        if self.len == 0 {
            self.frame = self.next_frame;
        }
    }

    /// Tells how much the app loses, in percent: redundancy follows it.
    pub fn set_expected_loss(&mut self, percent: u8) {
        self.expected_loss = percent;
        if let Some(encoder) = &mut self.encoder {
            encoder.set_expected_loss(percent);
        }
    }

    /// Encodes a packet and sends what is full, after what is missing before it.
    pub fn voice(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        let Incoming { packet, arrival, now, slack } = incoming;
        if packet.payload.is_empty() || packet.payload.len() > out.work.pcm.len() {
            return Outcome::UNUSABLE;
        }
        let behind = self.track.behind();
        let missing = match self.track.place(packet.timestamp, arrival, now, tx.position_at(now)) {
            Place::TooLate => return Outcome::TOO_LATE,
            Place::Play { missing } | Place::Restart { missing } => missing,
        };
        self.overrun.note_voice(self.track.behind() > behind);
        self.comforted = 0;
        let mut outcome = Outcome { transcoded: true, ..Outcome::default() };
        if missing > 0 {
            outcome.recovered_plc = self.fill_gap(missing, incoming, tx, out);
        }
        let mut samples = self.law.expand_into(packet.payload, &mut out.work.pcm);
        self.rest_due = Some(rest_due(now, samples, slack.after));
        if !self.clear {
            self.concealer.heard(&mut out.work.pcm[..samples]);
            let behind = (self.track.behind() / UNITS) as usize;
            let kept = self.overrun.shorten(&mut out.work.pcm[..samples], behind);
            self.track.give_back((samples - kept) as u32 * UNITS);
            samples = kept;
        }
        self.push(samples, now, tx, out);
        outcome
    }

    /// A gap with lost packets is concealed; one without them was the trunk's own silence and is not sent either.
    fn fill_gap(
        &mut self,
        missing: u32,
        incoming: Incoming<'_>,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) -> u16 {
        let samples = (missing / UNITS) as usize;
        match incoming.arrival {
            Arrival::Gap(_) if self.clear && samples <= MAX_CONCEALED => {
                out.work.pcm[..samples].fill(0);
                self.push(samples, incoming.now, tx, out);
                0
            }
            Arrival::Gap(lost) if samples <= MAX_CONCEALED => {
                let mut next = [0; BEHIND];
                let known = self.law.expand_into(incoming.packet.payload, &mut next);
                self.concealer.bridge(&mut out.work.pcm[..samples], &next[..known]);
                self.push(samples, incoming.now, tx, out);
                made_up(lost, samples, incoming.packet.payload.len())
            }
            Arrival::Gap(_)
            | Arrival::First
            | Arrival::Next
            | Arrival::Late
            | Arrival::Duplicate
            | Arrival::Suspect => {
                self.track.played(missing);
                0
            }
        }
    }

    /// Encodes what lies in the first samples of the workspace.
    fn push(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let position = self.track.position();
        if self.start.wrapping_add(self.len as u32 * UNITS) != position {
            // A hole in time: what was before it is sent, as far as a frame can be so short.
            self.finish(now, tx, out);
            self.len = 0;
            self.frame = self.next_frame;
            self.start = position;
            self.marker = true;
        }
        let mut from = 0;
        while from < samples {
            let taken = (self.frame - self.len).min(samples - from);
            self.waiting[self.len..self.len + taken].copy_from_slice(&out.work.pcm[from..from + taken]);
            self.len += taken;
            from += taken;
            if self.len == self.frame {
                self.encode(now, tx, out);
            }
        }
        self.track.played(samples as u32 * UNITS);
    }

    fn encode(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let timestamp = self.start;
        let duration = self.frame as u32 * UNITS;
        self.start = self.start.wrapping_add(duration);
        self.len = 0;
        let work = &mut *out.work;
        match self.encode_waiting(work.complexity, &mut work.coded) {
            Ok(Encoded::Packet(len)) => {
                let payload = &work.coded[..len];
                let chunk = Chunk { timestamp, marker: self.marker, duration, payload };
                tx.send_voice(now, chunk, out.wire, &mut work.packet);
                self.marker = false;
            }
            Ok(Encoded::Silence) | Err(_) => {
                tx.skip(now, timestamp, duration);
                self.marker = true;
            }
        }
        self.frame = self.next_frame;
    }

    /// When a part of a frame that nothing fills is due.
    pub fn rest_due(&self) -> Option<Instant> {
        self.rest_due.filter(|_| self.len >= MIN_FRAME)
    }

    /// Sends what waits for the rest of its frame, in shorter ones: the end of a word is no less heard than its
    /// beginning. Less than the shortest goes on waiting.
    pub fn finish(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        while let Some(frame) = FRAMES.into_iter().find(|frame| *frame <= self.len) {
            let waiting = self.len;
            self.frame = frame;
            self.encode(now, tx, out);
            self.waiting.copy_within(frame..waiting, 0);
            self.len = waiting - frame;
        }
    }

    #[inline]
    fn encode_waiting(&mut self, complexity: u8, coded: &mut [u8]) -> Result<Encoded, OpusError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let mut encoder = Encoder::new(SAMPLE_RATE, self.settings)?;
                encoder.set_expected_loss(self.expected_loss);
                none.insert(encoder)
            }
        };
        encoder.limit_complexity(complexity);
        encoder.encode(&self.waiting[..self.frame], &mut coded[..MAX_ENCODED])
    }

    /// Sends sound of our own making (a key press as tones) in place of the voice.
    pub fn inject(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.track.begin(tx.position_at(now));
        self.overrun.note_ours();
        self.rest_due = Some(rest_due(now, samples, REST_SLACK));
        self.push(samples, now, tx, out);
    }

    /// Right behind everything played so far, or `wall` at the beginning.
    pub fn position_or(&mut self, wall: u32) -> u32 {
        self.track.position_or(wall)
    }

    /// Leaves out so many samples' time.
    pub fn skip(&mut self, samples: u32) {
        self.track.played(samples * UNITS);
    }

    /// Sends a frame of comfort noise that the trunk described: an app with DTX learns from the first ones and from one
    /// now and then what the silence sounds like, as from an encoder that hears it.
    pub fn comfort(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.comforted += 1;
        let told = self.comforted <= COMFORT_TOLD || self.comforted.is_multiple_of(COMFORT_EVERY);
        if told || !self.settings.dtx {
            return self.inject(samples, now, tx, out);
        }
        self.overrun.note_ours();
        let (position, units) = (self.track.position(), samples as u32 * UNITS);
        tx.skip(now, position, units);
        self.track.played(units);
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile. What waited is older than that.
    pub fn forget(&mut self) {
        self.track.forget();
        self.len = 0;
        self.frame = self.next_frame;
        self.rest_due = None;
        self.concealer = Concealer::default();
    }

    /// Samples missing before a timestamp of the source; negative if that has passed.
    pub fn missing_before(&self, timestamp: u32) -> i32 {
        self.track.missing_before(timestamp).map_or(0, |missing| missing / UNITS as i32)
    }

    /// Takes back from a pause what is played behind its time, up to so many samples; gives how many stay unplayed.
    pub fn take_back(&mut self, most: usize) -> usize {
        let samples = ((self.track.behind() / UNITS) as usize).min(most);
        self.track.give_back(samples as u32 * UNITS);
        samples
    }

    /// Where a timestamp of the source lies in our stream.
    pub fn map(&self, timestamp: u32) -> Option<u32> {
        self.track.map(timestamp)
    }
}

/// The longest frame Opus has that is not longer than `ptime_ms` (RFC 6716 §2.1.4); at least 10 ms.
fn frame_samples(ptime_ms: u8) -> usize {
    let frame_ms = [60, 40, 20].into_iter().find(|ms| *ms <= ptime_ms).unwrap_or(10);
    usize::from(frame_ms) * (SAMPLE_RATE as usize / 1000)
}
