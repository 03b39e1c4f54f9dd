//! Opus to G.711: a steady stream on a true timeline, whatever the app's side leaves out.

use super::packer::Packer;
use super::{Incoming, Outcome, made_up};
use crate::media::codec::background::Background;
use crate::media::codec::comfort_noise::NoiseEstimator;
use crate::media::codec::g711::{Law, SAMPLE_RATE};
use crate::media::codec::opus::{
    CLOCK_RATE, Decoder, OpusError, frame_samples, has_redundancy, packet_samples,
};
use crate::media::dtmf::PRESS_TIMEOUT;
use crate::media::level::Level;
use crate::media::recovery::catch_up::CatchUp;
use crate::media::rtp::{Arrival, timestamp_distance};
use crate::media::track::{Place, Track};
use crate::media::transmit::{Chunk, Out, Transmitter};
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
/// What that grows to where packets that were given up keep coming.
const GRACE_LONGEST: Duration = Duration::from_millis(120);
/// How overdue it is where the last one held nothing but background: an app that stops sending there (DTX) has nothing
/// to say.
const GRACE_QUIET: Duration = Duration::from_millis(40);
/// The same while the app is silent, beyond what its packets' transit times differ by: the next one may be hundreds of
/// milliseconds away, and what is filled too early is cut out of the first syllable.
const GRACE_SILENT: Duration = Duration::from_millis(10);
const GRACE_SILENT_MOST: Duration = Duration::from_millis(60);
/// So many frames made up in the middle of a voice, one by one as each is given up, are a silence too.
const SILENT_AFTER: u8 = 3;
/// So many packets in time end a silence, and so does a voice.
const TALKING_AFTER: u8 = 5;
/// So many in time, five seconds of them, end the longer patience.
const CALM_AFTER: u8 = u8::MAX;
/// A silence is described anew after so many frames, a fifth of a second.
const DESCRIBE_EVERY: u8 = 10;
/// After a standstill of the machine at most so many frames are made up; the rest of the time is skipped.
const MAX_CATCH_UP: u32 = 5;

/// The decoder of one direction and the pace at which its gaps are filled.
pub struct OpusToG711 {
    /// Created by the first packet: a leg that is only held costs no codec.
    decoder: Option<Decoder>,
    track: Track,
    packer: Packer,
    catch_up: CatchUp,
    pace: Option<Pace>,
    /// How overdue a packet may be while the app talks.
    patience: Duration,
    background: Background,
    /// By how much the next packet may be late by what is known of the network.
    slack: Duration,
    /// Samples in the last packet, and the timestamp right behind it.
    length: usize,
    ended: u32,
    /// The last packet held no voice.
    quiet: bool,
    silent: bool,
    /// Frames made up since the last packet.
    made_up: u8,
    in_time: u8,
    /// The app's silence for a trunk that takes descriptions of it, and frames since the last one.
    silence: NoiseEstimator,
    described: Option<u8>,
    /// Key presses took the place of the voice since the last packet, or a hold did: the gap is theirs.
    pressed: bool,
    pressing: Option<Pressing>,
    /// A modem speaks: its time is not cut, its pauses are no silence to be described.
    clear: bool,
}

/// When the next frame is due, and how long it is waited for.
#[derive(Debug, Clone, Copy)]
struct Pace {
    slot: Instant,
    grace: Duration,
}

/// A key press in the voice's place.
#[derive(Debug, Clone, Copy)]
struct Pressing {
    /// When the voice is due again, by what is known of the press so far.
    over: Instant,
    /// It is heard as tones, which take their own time.
    sounds: bool,
}

impl OpusToG711 {
    pub fn new(law: Law, ptime_ms: u8) -> OpusToG711 {
        OpusToG711 {
            decoder: None,
            track: Track::new(CLOCK_RATE, SAMPLE_RATE),
            packer: Packer::new(law, ptime_ms),
            catch_up: CatchUp::default(),
            pace: None,
            patience: GRACE_TALKING,
            background: Background::default(),
            slack: Duration::ZERO,
            length: FRAME,
            ended: 0,
            quiet: false,
            silent: false,
            made_up: 0,
            in_time: 0,
            silence: NoiseEstimator::default(),
            described: None,
            pressed: false,
            pressing: None,
            clear: false,
        }
    }

    /// Cuts and describes nothing from now on.
    pub fn set_clear(&mut self) {
        self.clear = true;
    }

    /// Changes the length of the packets sent, from the next one on.
    pub fn set_ptime(&mut self, ptime_ms: u8) {
        self.packer.set_ptime(ptime_ms);
    }

    /// Decodes a packet and sends what it holds, after what is missing before it.
    pub fn voice(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        let Incoming { packet, arrival, now, slack } = incoming;
        let Some(samples) = packet_samples(packet.payload, SAMPLE_RATE) else {
            return Outcome::UNUSABLE;
        };
        let behind = self.track.behind();
        let skipped = timestamp_distance(self.ended, packet.timestamp).max(0) as u32;
        let (missing, gap) = match self.track.place(packet.timestamp, arrival, now, tx.position_at(now)) {
            Place::TooLate => return Outcome::TOO_LATE,
            Place::Play { missing } => (missing as usize, (skipped / (CLOCK_RATE / SAMPLE_RATE)) as usize),
            Place::Restart { missing } => (missing as usize, missing as usize),
        };
        let mut outcome = Outcome { transcoded: true, ..Outcome::default() };
        let in_time = missing == 0;
        let room = self.room_for_redundancy(missing, &incoming);
        let missing = missing + room;
        let fills = missing <= MAX_BURST && !self.pressed;
        if fills {
            if missing >= STEP {
                self.fill_gap(missing - missing % STEP, incoming, tx, out);
            }
            self.track.played((missing % STEP) as u32);
        } else {
            self.track.played(missing as u32);
        }
        if let (Arrival::Gap(lost), false) = (arrival, self.pressed) {
            // For less than one of its frames libopus leaves the redundancy aside and conceals; and one is all it has:
            // of a packet of several most is concealed.
            let frame = frame_samples(packet.payload, SAMPLE_RATE);
            let length = samples.min(gap / usize::from(lost.max(1)));
            let whole = fills && missing - missing % STEP >= frame && frame >= length;
            let recovered = whole && has_redundancy(packet.payload);
            outcome.recovered_fec = u16::from(recovered);
            // The rest of the gap was filled now or as time passed, but for what is left unsent.
            let unsent = if fills { 0 } else { missing };
            let concealed = gap.saturating_sub(unsent + if recovered { samples } else { 0 });
            outcome.recovered_plc = made_up(lost - outcome.recovered_fec, concealed, samples);
        }
        self.pressed = false;
        self.pressing = None;
        match self.decode(packet.payload, now, tx, out) {
            Ok(level) => outcome.level = level,
            Err(_) => return Outcome { transcoded: false, unusable: true, ..outcome },
        }
        self.note_pace(in_time, self.track.behind() > behind + room as u32);
        self.made_up = 0;
        self.described = None;
        (self.slack, self.length) = (slack.after, samples);
        self.ended = packet.timestamp.wrapping_add(samples as u32 * (CLOCK_RATE / SAMPLE_RATE));
        let duration = self.packet_time();
        let grace = match (self.silent, self.quiet) {
            (true, _) => self.grace_silent(),
            (false, true) => GRACE_QUIET.max(self.grace_silent()),
            // One that is lost is repaired whole from the redundancy of the one behind it, if that finds nothing made up.
            (false, false) => self.patience.max(duration + GRACE_SILENT + self.slack).min(GRACE_LONGEST),
        };
        self.pace = Some(Pace { slot: now + duration, grace });
        outcome
    }

    /// What is lost behind a silence is in the redundancy of the packet behind it, and its time was filled as it passed,
    /// however long the packets are. It is played late, as it would be had it come late itself. In the middle of a voice
    /// what was made up for it stays. Gives the samples that room was made for.
    fn room_for_redundancy(&mut self, missing: usize, incoming: &Incoming<'_>) -> usize {
        let payload = incoming.packet.payload;
        let lost = matches!(incoming.arrival, Arrival::Gap(_)) && (self.silent || self.quiet);
        if !lost || self.pressed || self.clear || self.decoder.is_none() || !has_redundancy(payload) {
            return 0;
        }
        let room = frame_samples(payload, SAMPLE_RATE).saturating_sub(missing - missing % STEP);
        if self.track.fall_behind(room as u32) { room } else { 0 }
    }

    /// The length of the last packet.
    fn packet_time(&self) -> Duration {
        Duration::from_micros(self.length as u64 * 125)
    }

    fn grace_silent(&self) -> Duration {
        (GRACE_SILENT + self.slack).min(GRACE_SILENT_MOST)
    }

    /// Learns from a packet whether the app talks, and whether its network needs more patience.
    fn note_pace(&mut self, in_time: bool, given_up_too_early: bool) {
        self.in_time = if in_time { self.in_time.saturating_add(1) } else { 0 };
        if self.in_time == CALM_AFTER {
            self.patience = GRACE_TALKING;
        } else if given_up_too_early && self.made_up > 0 && !self.quiet {
            self.patience = (self.patience + FRAME_TIME).min(GRACE_LONGEST);
        }
        if !self.quiet || self.in_time >= TALKING_AFTER {
            self.silent = false;
        }
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
        self.play(samples, incoming.now, tx, out);
    }

    fn decode(
        &mut self,
        payload: &[u8],
        now: Instant,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) -> Result<Level, OpusError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new(SAMPLE_RATE)?),
        };
        let samples = decoder.decode(payload, &mut out.work.pcm)?;
        let level = Level::of_samples(&out.work.pcm[..samples]);
        self.quiet = self.background.is_all_of(&out.work.pcm[..samples]);
        self.play(samples, now, tx, out);
        Ok(level)
    }

    /// Sends the source's own sound; where it is behind its time, less what can be left out of it.
    #[inline]
    fn play(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let behind = self.track.behind() as usize;
        if behind == 0 || self.clear {
            return self.emit(samples, now, tx, out);
        }
        let kept = self.catch_up.shorten(&mut out.work.pcm[..samples], behind);
        self.track.give_back((samples - kept) as u32);
        self.emit(kept, now, tx, out);
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
        self.note_taken(samples as u32);
    }

    /// Right behind everything played so far, or `wall` at the beginning.
    pub fn position_or(&mut self, wall: u32) -> u32 {
        self.track.position_or(wall)
    }

    /// Leaves out so many samples' time.
    pub fn skip(&mut self, samples: u32) {
        self.track.played(samples);
        self.note_taken(samples);
    }

    /// So much of the voice's time is taken by something else: it is due later.
    fn note_taken(&mut self, samples: u32) {
        self.pressed = true;
        if let Some(pace) = &mut self.pace {
            pace.slot += Duration::from_micros(u64::from(samples) * 125);
        }
    }

    /// A key press takes the voice's place: its absence is no gap. Behind the press nothing is filled before the voice
    /// could be back; nor while it lasts, unless its packets stop. `sounds`: the far side hears it as tones.
    pub fn pause_for_press(&mut self, now: Instant, lasts: bool, sounds: bool) {
        self.pressed = true;
        self.described = None;
        let over = now + if lasts { PRESS_TIMEOUT } else { self.packet_time() };
        self.pressing = Some(Pressing { over, sounds });
    }

    /// The source stopped on purpose (hold): nothing is filled until its next packet.
    pub fn pause(&mut self) {
        self.pace = None;
        self.pressed = true;
        self.pressing = None;
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile. What waited is older than that.
    pub fn forget(&mut self) {
        self.track.forget();
        self.packer.clear();
        self.pace = None;
        self.pressing = None;
        self.silent = false;
        self.made_up = 0;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let pace = self.pace?;
        let due = self.pressing.map_or(pace.slot, |pressing| pressing.over.max(pace.slot));
        Some(due + pace.grace)
    }

    /// Fills what is overdue: the far side hears concealment, then comfort noise, and no hole.
    pub fn handle_timeout(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let due = self.poll_timeout().is_some_and(|due| due <= now);
        let Some(mut pace) = self.pace.filter(|_| due) else { return };
        self.in_time = 0;
        if let Some(pressing) = self.pressing.take() {
            // What the press took is no silence, unless it was sound itself. Behind it there is none to conceal.
            let taken = pressing.over.saturating_duration_since(pace.slot);
            let frames = (taken.as_millis() / FRAME_TIME.as_millis()) as u32;
            if !pressing.sounds {
                self.track.played(frames * FRAME as u32);
                pace.slot += FRAME_TIME * frames;
            }
            self.pressed = false;
            self.made_up = SILENT_AFTER;
        }
        if !self.quiet && self.made_up < SILENT_AFTER {
            // Perhaps it is only late: no more is made up than has to be.
            while pace.slot + pace.grace <= now && self.made_up < SILENT_AFTER {
                self.fill_frame(now, tx, out);
                self.made_up += 1;
                pace.slot += FRAME_TIME;
            }
            self.pace = Some(pace);
            return;
        }
        self.silent = true;
        pace.grace = self.grace_silent();
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
        // What follows a voice that broke off is concealment; what follows a pause is the pause.
        if tx.takes_comfort_noise() && self.silent && self.quiet && !self.clear {
            self.describe_silence(now, tx, out);
        } else {
            self.emit(FRAME, now, tx, out);
        }
    }

    /// Tells the trunk what silence sounds like instead of sending it (RFC 3389 §4).
    fn describe_silence(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let work = &mut *out.work;
        self.silence.note(&work.pcm[..FRAME]);
        let (timestamp, duration) = (self.track.position(), FRAME as u32);
        let since = self.described.map_or(DESCRIBE_EVERY, |since| since + 1);
        if since >= DESCRIBE_EVERY {
            let payload = self.silence.payload();
            let chunk = Chunk { timestamp, marker: false, duration, payload: &payload };
            // What still waits for its packet to be full is older.
            self.packer.finish(now, tx, out.wire, &mut work.packet);
            tx.send_comfort_noise(now, tx.next_sequence(), chunk, out.wire, &mut work.packet);
            self.described = Some(0);
        } else {
            tx.skip(now, timestamp, duration);
            self.described = Some(since);
        }
        self.track.played(duration);
    }

    /// True if a frame of filling fits before a packet and so many others that are missing before it.
    pub fn has_room_before(&self, timestamp: u32, lost: u16) -> bool {
        let wanted = FRAME as i32 + i32::from(lost) * self.length as i32;
        self.track.missing_before(timestamp).is_some_and(|missing| missing >= wanted)
    }

    /// Where a timestamp of the source lies in our stream.
    pub fn map(&self, timestamp: u32) -> Option<u32> {
        self.track.map(timestamp)
    }
}
