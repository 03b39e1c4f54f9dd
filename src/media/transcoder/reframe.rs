//! G.711 to G.711 where the laws or the packet lengths differ.

use super::packer::Packer;
use super::{Incoming, Outcome, REST_SLACK, made_up, rest_due};
use crate::media::codec::concealment::Concealer;
use crate::media::codec::g711::{Law, SAMPLE_RATE};
use crate::media::recovery::catch_up::Overrun;
use crate::media::rtp::Arrival;
use crate::media::track::{Place, Track};
use crate::media::transmit::{Out, Transmitter};
use std::time::Instant;

/// So much of the packet behind a gap is used to fill it.
const BEHIND: usize = 160;
/// The longest gap that is concealed; a longer one is left to the listener.
const MAX_CONCEALED: u32 = 480;

/// Cuts one side's packets into the other's.
pub struct G711ToG711 {
    from: Law,
    to: Law,
    track: Track,
    concealer: Concealer,
    overrun: Overrun,
    packer: Packer,
    /// When what waits for the rest of its packet goes out without it.
    rest_due: Option<Instant>,
    /// A modem speaks: what is lost stays silent.
    clear: bool,
}

impl G711ToG711 {
    pub fn new(from: Law, to: Law, ptime_ms: u8) -> G711ToG711 {
        G711ToG711 {
            from,
            to,
            track: Track::new(SAMPLE_RATE, SAMPLE_RATE),
            concealer: Concealer::default(),
            overrun: Overrun::default(),
            packer: Packer::new(to, ptime_ms),
            rest_due: None,
            clear: false,
        }
    }

    /// Changes the length of the packets sent, from the next one on.
    pub fn set_ptime(&mut self, ptime_ms: u8) {
        self.packer.set_ptime(ptime_ms);
    }

    /// Makes up no sound from now on.
    pub fn set_clear(&mut self) {
        self.clear = true;
    }

    /// Goes on with a stream that was passed on as it is; see [`Track::go_on`].
    pub fn go_on(&mut self, last: (Instant, u32, u32), position: u32) {
        self.track.go_on(last, position);
    }

    /// Sends what a packet fills, after what is missing before it.
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
        let mut outcome = Outcome::default();
        match arrival {
            Arrival::Gap(_) if self.clear && (1..=MAX_CONCEALED).contains(&missing) => {
                // A modem's own error correction finds a silence; a sound that was never sent misleads it.
                out.work.pcm[..missing as usize].fill(0);
                self.emit(missing as usize, now, tx, out);
            }
            Arrival::Gap(lost) if (1..=MAX_CONCEALED).contains(&missing) => {
                let mut next = [0; BEHIND];
                let known = self.from.expand_into(packet.payload, &mut next);
                self.concealer.bridge(&mut out.work.pcm[..missing as usize], &next[..known]);
                self.emit(missing as usize, now, tx, out);
                outcome.recovered_plc = made_up(lost, missing as usize, packet.payload.len());
            }
            Arrival::Gap(_)
            | Arrival::First
            | Arrival::Next
            | Arrival::Late
            | Arrival::Duplicate
            | Arrival::Suspect => self.track.played(missing),
        }
        self.rest_due = Some(rest_due(now, packet.payload.len(), slack.after));
        if self.clear {
            self.pass(packet.payload, now, tx, out);
            return outcome;
        }
        let samples = self.from.expand_into(packet.payload, &mut out.work.pcm);
        self.concealer.heard(&mut out.work.pcm[..samples]);
        let behind = self.track.behind() as usize;
        let kept = self.overrun.shorten(&mut out.work.pcm[..samples], behind);
        self.track.give_back((samples - kept) as u32);
        self.emit(kept, now, tx, out);
        outcome
    }

    /// Sends code words as they are, or as the table of the laws has them.
    fn pass(&mut self, codes: &[u8], now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let work = &mut *out.work;
        let len = self.from.translate_into(self.to, codes, &mut work.coded);
        self.packer.seek(self.track.position(), now, tx, out.wire, &mut work.packet);
        self.packer.push_codes(&work.coded[..len], now, tx, out.wire, &mut work.packet);
        self.track.played(len as u32);
    }

    /// Sends sound of our own making (a key press as tones) in place of the voice.
    pub fn inject(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.track.begin(tx.position_at(now));
        self.overrun.note_ours();
        self.rest_due = Some(rest_due(now, samples, REST_SLACK));
        self.emit(samples, now, tx, out);
    }

    /// Right behind everything played so far, or `wall` at the beginning.
    pub fn position_or(&mut self, wall: u32) -> u32 {
        self.track.position_or(wall)
    }

    /// Leaves out so many samples' time.
    pub fn skip(&mut self, samples: u32) {
        self.track.played(samples);
    }

    /// When a part of a packet that nothing fills is due.
    pub fn rest_due(&self) -> Option<Instant> {
        self.rest_due.filter(|_| !self.packer.is_empty())
    }

    /// Sends what waits for the rest of its packet: the end of a word is no less heard than its beginning.
    pub fn finish(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let work = &mut *out.work;
        self.packer.finish(now, tx, out.wire, &mut work.packet);
    }

    fn emit(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let work = &mut *out.work;
        self.packer.seek(self.track.position(), now, tx, out.wire, &mut work.packet);
        self.packer.push(&work.pcm[..samples], now, tx, out.wire, &mut work.packet);
        self.track.played(samples as u32);
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile. What waited is older than that.
    pub fn forget(&mut self) {
        self.track.forget();
        self.packer.clear();
        self.rest_due = None;
        self.concealer = Concealer::default();
    }

    /// Samples missing before a timestamp of the source; negative if that has passed.
    pub fn missing_before(&self, timestamp: u32) -> i32 {
        self.track.missing_before(timestamp).unwrap_or(0)
    }

    /// Takes back from a pause what is played behind its time, up to so many samples; gives how many stay unplayed.
    pub fn take_back(&mut self, most: usize) -> usize {
        let samples = (self.track.behind() as usize).min(most);
        self.track.give_back(samples as u32);
        samples
    }

    /// Where a timestamp of the source lies in our stream.
    pub fn map(&self, timestamp: u32) -> Option<u32> {
        self.track.map(timestamp)
    }
}
