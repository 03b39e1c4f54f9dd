//! Opus to G.711: a steady stream on a true timeline, whatever the app's side leaves out.

use super::packer::Packer;
use super::{Incoming, Outcome};
use crate::media::codec::g711::{Law, SAMPLE_RATE};
use crate::media::codec::opus::{CLOCK_RATE, Decoder, OpusError, has_redundancy, packet_samples};
use crate::media::rtp::Arrival;
use crate::media::track::{Place, Track};
use crate::media::transmit::{Out, Transmitter};
use std::time::{Duration, Instant};

/// The most that is filled in one go when a packet comes back after a gap; a longer one was filled as time passed, or
/// leaves the rest of its time unsent.
const MAX_BURST: usize = 960;
/// libopus fills in steps of 2.5 ms.
const STEP: usize = 20;
/// One frame of filling.
const FRAME: usize = 160;
const FRAME_TIME: Duration = Duration::from_millis(20);
/// How overdue a packet is before the gap is filled while the app talks: most networks' jitter stays below it, and what
/// is filled too early delays what follows.
const GRACE_TALKING: Duration = Duration::from_millis(60);
/// The same while the app is silent (DTX): the next packet may be hundreds of milliseconds away.
const GRACE_SILENT: Duration = Duration::from_millis(10);
/// So many packets in time end a silence.
const TALKING_AFTER: u8 = 5;
/// After a standstill of the machine at most so many frames are made up; the rest of the time is skipped.
const MAX_CATCH_UP: u32 = 5;

/// The decoder of one direction and the pace at which its gaps are filled.
pub struct OpusToG711 {
    /// Created by the first packet: a leg that is only held costs no codec.
    decoder: Option<Decoder>,
    track: Track,
    packer: Packer,
    pace: Option<Pace>,
    silent: bool,
    in_time: u8,
    /// Key presses took the place of the voice since the last packet: the gap is theirs.
    pressed: bool,
}

/// Below −48 dBm0 a frame more or less is not noticed.
fn is_quiet(pcm: &[i16]) -> bool {
    pcm.iter().all(|sample| sample.unsigned_abs() < 90)
}

/// When the next frame is due, and how long it is waited for.
#[derive(Debug, Clone, Copy)]
struct Pace {
    slot: Instant,
    grace: Duration,
}

impl OpusToG711 {
    pub fn new(law: Law, ptime_ms: u8) -> OpusToG711 {
        OpusToG711 {
            decoder: None,
            track: Track::new(CLOCK_RATE, SAMPLE_RATE),
            packer: Packer::new(law, ptime_ms),
            pace: None,
            silent: false,
            in_time: 0,
            pressed: false,
        }
    }

    /// Decodes a packet and sends what it holds, after what is missing before it.
    pub fn voice(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        let Incoming { packet, arrival, now } = incoming;
        let Some(samples) = packet_samples(packet.payload, SAMPLE_RATE) else {
            return Outcome::UNUSABLE;
        };
        let missing = match self.track.place(packet.timestamp, arrival, now, tx.position_at(now)) {
            Place::TooLate => return Outcome::TOO_LATE,
            Place::Restart => 0,
            Place::Play { missing } => missing as usize,
        };
        let mut outcome = Outcome { transcoded: true, ..Outcome::default() };
        if missing <= MAX_BURST && !self.pressed {
            if missing >= STEP {
                self.fill_gap(missing - missing % STEP, incoming, tx, out);
            }
            self.track.played((missing % STEP) as u32);
            if let Arrival::Gap(lost) = arrival {
                outcome.recovered_fec = u16::from(missing >= STEP && has_redundancy(packet.payload));
                outcome.recovered_plc = lost - outcome.recovered_fec;
            }
        } else {
            self.track.played(missing as u32);
        }
        self.pressed = false;
        if self.decode(packet.payload, now, tx, out).is_err() {
            return Outcome::UNUSABLE;
        }
        self.in_time = if missing == 0 { self.in_time.saturating_add(1) } else { 0 };
        if self.in_time >= TALKING_AFTER {
            self.silent = false;
        }
        let grace = if self.silent { GRACE_SILENT } else { GRACE_TALKING };
        let duration = Duration::from_micros(samples as u64 * 125);
        self.pace = Some(Pace { slot: now + duration, grace });
        outcome
    }

    /// Fills the gap before a packet: from its redundancy if packets were lost, else as the silence it was.
    fn fill_gap(&mut self, samples: usize, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Some(decoder) = &mut self.decoder else { return };
        let pcm = &mut out.work.pcm[..samples];
        let filled = match incoming.arrival {
            Arrival::Gap(_) => decoder.recover(incoming.packet.payload, pcm),
            Arrival::First | Arrival::Next | Arrival::Late | Arrival::Duplicate | Arrival::Suspect => {
                decoder.conceal(pcm)
            }
        };
        if filled.is_err() {
            pcm.fill(0);
        }
        self.emit(samples, incoming.now, tx, out);
    }

    fn decode(
        &mut self,
        payload: &[u8],
        now: Instant,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) -> Result<(), OpusError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new(SAMPLE_RATE)?),
        };
        let samples = decoder.decode(payload, &mut out.work.pcm)?;
        // Delay that a hiccup of the network left behind is given back where nobody hears it: in a pause.
        if !(is_quiet(&out.work.pcm[..samples]) && self.track.give_back(samples as u32)) {
            self.emit(samples, now, tx, out);
        }
        Ok(())
    }

    /// Sends what lies in the first samples of the workspace.
    fn emit(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let work = &mut *out.work;
        self.packer.seek(self.track.position(), now, tx, out.wire, &mut work.packet);
        self.packer.push(&work.pcm[..samples], now, tx, out.wire, &mut work.packet);
        self.track.played(samples as u32);
    }

    /// Sends sound of our own making (a key press as tones) in place of the voice.
    pub fn inject(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.track.begin(tx.position_at(now));
        self.emit(samples, now, tx, out);
        self.pressed = true;
        self.pace = None;
    }

    /// Key presses take the voice's place: its absence is no gap.
    pub fn pause_for_press(&mut self) {
        self.pressed = true;
        self.pace = None;
    }

    /// The source stopped on purpose (hold): nothing is filled until its next packet.
    pub fn pause(&mut self) {
        self.pace = None;
        self.pressed = true;
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile.
    pub fn forget(&mut self) {
        self.track.forget();
        self.pace = None;
        self.silent = false;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pace.map(|pace| pace.slot + pace.grace)
    }

    /// Fills what is overdue: the far side hears concealment, then comfort noise, and no hole.
    pub fn handle_timeout(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Some(mut pace) = self.pace.filter(|pace| pace.slot + pace.grace <= now) else { return };
        self.silent = true;
        self.in_time = 0;
        pace.grace = GRACE_SILENT;
        let overdue = now.saturating_duration_since(pace.slot + pace.grace);
        let behind = (overdue.as_millis() / FRAME_TIME.as_millis()) as u32;
        if let Some(skipped) = behind.checked_sub(MAX_CATCH_UP) {
            self.track.played(skipped * FRAME as u32);
            pace.slot += FRAME_TIME * skipped;
        }
        while pace.slot + pace.grace <= now {
            self.fill_frame(now, tx, out);
            pace.slot += FRAME_TIME;
        }
        self.pace = Some(pace);
    }

    fn fill_frame(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Some(decoder) = &mut self.decoder else { return };
        if decoder.conceal(&mut out.work.pcm[..FRAME]).is_err() {
            out.work.pcm[..FRAME].fill(0);
        }
        self.emit(FRAME, now, tx, out);
    }

    /// Where a timestamp of the source lies in our stream.
    pub fn map(&self, timestamp: u32) -> Option<u32> {
        self.track.map(timestamp)
    }
}
