//! Passes packets on as they are: only the numbers around the payload become ours. G.711 may change its law.

use super::codec::g711::Law;
use super::codec::opus::{CLOCK_RATE, packet_samples};
use super::rtp::{Arrival, sequence_distance, timestamp_distance};
use super::transcoder::{Incoming, Outcome};
use super::transmit::{Chunk, Out, Transmitter};
use std::time::Instant;

/// No packet counts as late that so many others have overtaken.
const LATEST: i16 = 64;
/// A gap of more packets, 20 seconds of them, is not kept. Were every gap, a source that counts on while nothing of it
/// is sent would lead our numbers around their circle, to some that were used before.
const LONGEST_GAP: i16 = 1_000;

/// What is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Opus of any length and number of frames, untouched.
    Opus,
    /// G.711 in packets of `frame` samples; others need to be cut anew.
    G711 { from: Law, to: Law, frame: usize },
}

/// One direction of a bridge whose sides speak the same codec. Gaps in the sequence numbers stay gaps: the far side
/// conceals them, or recovers them from the redundancy it gets untouched.
pub struct Relay {
    passing: Passing,
    anchor: Option<Anchor>,
    /// Our last number that is not the source's to fill: of a packet that was put in, or of the one before the anchor.
    taken: Option<u16>,
    /// The last packet had another length, or there was none yet.
    odd: bool,
}

/// What is added to the numbers of the received stream to make them ours.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    /// Our stream that it leads to.
    ssrc: u32,
    sequence: u16,
    /// `None` until the first voice packet: telephone events may count in another clock.
    timestamp: Option<u32>,
    fresh: bool,
}

impl Relay {
    pub fn new(passing: Passing) -> Relay {
        Relay { passing, anchor: None, taken: None, odd: true }
    }

    /// Changes the length of the G.711 packets the far side wants.
    pub fn set_ptime(&mut self, ptime_ms: u8) {
        if let Passing::G711 { frame, .. } = &mut self.passing {
            *frame = usize::from(ptime_ms.clamp(10, 60)) * 8;
        }
    }

    /// True where this is the second packet in a row that has not the length this relay needs: all are to be cut anew. A
    /// single one in between, such as the last before a pause, goes as it is.
    pub fn misfit(&mut self, payload: &[u8]) -> bool {
        match self.passing {
            Passing::Opus => false,
            Passing::G711 { frame, .. } => {
                let odd = payload.len() != frame;
                let again = std::mem::replace(&mut self.odd, odd);
                odd && again
            }
        }
    }

    /// Sends a packet on.
    #[inline]
    pub fn voice(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        let Incoming { packet, arrival, now, .. } = incoming;
        let duration = match self.passing {
            Passing::Opus => match packet_samples(packet.payload, CLOCK_RATE) {
                Some(samples) => samples as u32,
                None => return Outcome::UNUSABLE,
            },
            Passing::G711 { .. } => packet.payload.len() as u32,
        };
        let Some((sequence, timestamp, fresh)) =
            self.place(packet.sequence, packet.timestamp, arrival, now, tx)
        else {
            return Outcome::TOO_LATE;
        };
        let work = &mut *out.work;
        let payload = match self.passing {
            Passing::Opus => packet.payload,
            Passing::G711 { from, to, .. } if from == to => packet.payload,
            Passing::G711 { from, to, .. } => {
                let len = from.translate_into(to, packet.payload, &mut work.coded);
                &work.coded[..len]
            }
        };
        let chunk = Chunk { timestamp, marker: packet.marker || fresh, duration, payload };
        tx.send_voice_as(now, sequence, chunk, out.wire, &mut work.packet);
        Outcome::default()
    }

    fn place(
        &mut self,
        sequence: u16,
        timestamp: u32,
        arrival: Arrival,
        now: Instant,
        tx: &Transmitter,
    ) -> Option<(u16, u32, bool)> {
        let sequence = self.sequence_for(sequence, arrival, tx)?;
        let anchor = self.anchor.as_mut()?;
        let offset = *anchor.timestamp.get_or_insert_with(|| tx.position_at(now).wrapping_sub(timestamp));
        let fresh = std::mem::take(&mut anchor.fresh);
        Some((sequence, timestamp.wrapping_add(offset), fresh))
    }

    /// Our sequence number for one of theirs; `None` for a packet that comes late where no number is free for it.
    pub fn sequence_for(&mut self, sequence: u16, arrival: Arrival, tx: &Transmitter) -> Option<u16> {
        let next = tx.next_sequence();
        let anchor = self.anchor.filter(|anchor| arrival != Arrival::First && anchor.ssrc == tx.ssrc());
        let ours = anchor.map(|anchor| sequence.wrapping_add(anchor.sequence));
        let ahead = ours.map(|ours| sequence_distance(next, ours));
        if let Some(taken) = self.taken
            && ours.is_some_and(|ours| sequence_distance(taken, ours) > LATEST)
        {
            // What is overtaken by more comes no more.
            self.taken = None;
        }
        if arrival == Arrival::Late {
            let free = |ours: &u16| self.taken.is_none_or(|taken| sequence_distance(taken, *ours) > 0);
            let near = ahead.is_some_and(|ahead| (-LATEST..=LATEST).contains(&ahead));
            return ours.filter(|_| near).filter(free);
        }
        if ahead.is_some_and(|ahead| (0..=LONGEST_GAP).contains(&ahead)) {
            return ours;
        }
        // Where our stream alone began anew, its timestamps go on.
        let timestamp = self.anchor.filter(|_| arrival != Arrival::First).and_then(|old| old.timestamp);
        let offset = next.wrapping_sub(sequence);
        self.anchor = Some(Anchor { ssrc: tx.ssrc(), sequence: offset, timestamp, fresh: true });
        self.taken = Some(next.wrapping_sub(1));
        Some(next)
    }

    /// The number of a packet of our own: those of the source count on behind it.
    pub fn insert(&mut self, tx: &Transmitter) -> u16 {
        let ours = tx.next_sequence();
        if let Some(anchor) = &mut self.anchor {
            anchor.sequence = anchor.sequence.wrapping_add(1);
        }
        self.taken = Some(ours);
        ours
    }

    /// Sends a description of silence on to a side that takes it.
    pub fn comfort_noise(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Incoming { packet, arrival, now, .. } = incoming;
        let Some((sequence, timestamp, _)) = self.place(packet.sequence, packet.timestamp, arrival, now, tx)
        else {
            return;
        };
        let chunk = Chunk { timestamp, marker: false, duration: 0, payload: packet.payload };
        tx.send_comfort_noise(now, sequence, chunk, out.wire, &mut out.work.packet);
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile.
    pub fn forget(&mut self) {
        self.anchor = None;
    }

    /// Where a timestamp of the source lies in our stream.
    pub fn map(&self, timestamp: u32) -> Option<u32> {
        self.anchor.and_then(|anchor| anchor.timestamp).map(|offset| timestamp.wrapping_add(offset))
    }

    /// Sends sound of our own making (a key press as tones) in place of the voice; Opus has no place for it here.
    pub fn inject(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.put_in(tx.position_at(now), samples, now, tx, out);
    }

    /// The same right behind what was put in last, whenever that was: a key that goes on sounding has no holes, however
    /// the news of it come.
    pub fn go_on(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.put_in(tx.next_timestamp(), samples, now, tx, out);
    }

    fn put_in(&mut self, at: u32, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Passing::G711 { to, frame, .. } = self.passing else { return };
        // The voice has to find its place again behind it.
        self.forget();
        let begins = tx.heard_by(now);
        let work = &mut *out.work;
        let coded = to.compress_into(&work.pcm[..samples], &mut work.coded);
        let mut timestamp = at;
        for payload in work.coded[..coded].chunks(frame.max(80)) {
            let duration = payload.len() as u32;
            let chunk = Chunk { timestamp, marker: false, duration, payload };
            tx.send_voice(now, chunk, out.wire, &mut work.packet);
            timestamp = timestamp.wrapping_add(duration);
        }
        // Its packets leave together and are heard one after the other.
        tx.skip(begins, at, coded as u32);
    }
}

/// True if two timestamps of one clock are less than `limit` units apart.
pub fn is_near(a: u32, b: u32, limit: u32) -> bool {
    timestamp_distance(a, b).unsigned_abs() < limit
}
