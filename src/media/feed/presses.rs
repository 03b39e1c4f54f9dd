//! Key presses on their way to one leg: told as events, found in a voice, or sounded.

use super::{Feed, Path};
use crate::media::dtmf::{Event, Outgoing, PRESS_TIMEOUT};
use crate::media::relay::is_near;
use crate::media::rtp::{Arrival, RtpPacket, timestamp_distance};
use crate::media::tone::KeyTone;
use crate::media::transcoder::{Incoming, Outcome};
use crate::media::transmit::{Chunk, Out, Transmitter};
use std::time::Instant;

/// So many samples of silence at least part two presses that go out as sound: 40 ms, which every receiver takes for a
/// pause (ITU-T Q.24).
const PAUSE: u32 = 320;
/// The most silence that is made in front of a press; a longer pause is left to the listener.
const MOST_SILENCE: u32 = 800;

/// A key press that goes out as sound.
pub(super) struct Press {
    tone: Option<KeyTone>,
    /// Samples sent so far.
    sounded: u32,
    last: Instant,
    /// Right behind them in our stream, where that has a place of its own.
    reached: u32,
}

impl Feed {
    /// Another source counts its presses from elsewhere.
    #[inline]
    pub(super) fn meet_source(&mut self, arrival: Arrival) {
        if arrival == Arrival::First {
            self.carrier.forget_source();
            if let Some(listening) = &mut self.listening {
                listening.forget();
            }
        }
    }

    /// Goes on with the press of a feed whose place this one takes. Where our stream goes on too, in the other law, the far
    /// side would hear it twice.
    #[cold]
    pub(super) fn keep_press(&mut self, old: Feed) {
        if old.shape.to.clock_rate() != self.shape.to.clock_rate() {
            return;
        }
        (self.carrier, self.press, self.told) = (old.carrier, old.press, old.told);
        if old.event_rate != self.event_rate {
            self.carrier.forget_source();
        }
        if self.listening.is_some() && old.listening.is_some() && old.shape.from == self.shape.from {
            self.listening = old.listening;
        }
    }

    /// Looks for a press in a voice packet; true if an event went out in its place.
    pub(super) fn hear_press(
        &mut self,
        incoming: Incoming<'_>,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) -> bool {
        let (Some(format), Some(listening)) = (tx.dtmf(), &mut self.listening) else { return false };
        let Some((event, began)) = listening.hear(incoming, &mut out.work.pcm) else { return false };
        let packet = RtpPacket { timestamp: began, ..incoming.packet };
        self.event_as_event(Incoming { packet, ..incoming }, event, format.clock_rate, tx, out);
        true
    }

    /// While a press goes out as sound, the voice beside it stays out.
    pub(super) fn press_sounds(&mut self, now: Instant) -> bool {
        let Some(press) = &self.press else { return false };
        if self.carrier.is_active() && now.saturating_duration_since(press.last) < PRESS_TIMEOUT {
            return true;
        }
        self.carrier.abandon();
        self.press = None;
        false
    }

    /// Sends a telephone event on, or sounds it where the far side takes none.
    pub fn event(
        &mut self,
        incoming: Incoming<'_>,
        event: Event,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) -> Outcome {
        while self.release_one(incoming.now, true, tx, out) {}
        self.comfort.pressed |= self.comfort.next.take().is_some();
        self.meet_source(incoming.arrival);
        let format = tx.dtmf();
        match format {
            Some(format) => self.event_as_event(incoming, event, format.clock_rate, tx, out),
            None => self.event_as_sound(incoming, event, tx, out),
        }
        if let Path::Decode(decode) = &mut self.path {
            decode.pause_for_press(incoming.now, self.carrier.is_active(), format.is_none());
        }
        self.resume_comfort(incoming.now, tx);
        Outcome::NOTHING
    }

    fn event_as_event(
        &mut self,
        incoming: Incoming<'_>,
        event: Event,
        to_rate: u32,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) {
        let Incoming { packet, arrival, now, .. } = incoming;
        let relayed = match &mut self.path {
            Path::Relay(relay) => match relay.sequence_for(packet.sequence, arrival, tx) {
                Some(sequence) => Some(sequence),
                None => return,
            },
            Path::Reframe(_) | Path::Decode(_) | Path::Encode(_) => None,
        };
        let wall = tx.position_at(now);
        let start = self.start_of(packet.timestamp, wall, tx).unwrap_or(wall);
        let Some(carried) = self.carrier.carry(event, packet.timestamp, start, self.event_rate, to_rate)
        else {
            return;
        };
        // A packet that is not carried must leave no gap.
        let sequence = relayed.unwrap_or_else(|| tx.next_sequence());
        self.told = Some(now);
        send_carried(carried, now, sequence, tx, out);
    }

    /// Where a press begins in our stream: exactly where the source says if its events count in the clock of its voice.
    fn start_of(&self, timestamp: u32, wall: u32, tx: &Transmitter) -> Option<u32> {
        Some(timestamp)
            .filter(|_| self.event_rate == self.shape.from.clock_rate())
            .and_then(|timestamp| self.map(timestamp))
            .filter(|start| is_near(*start, wall, tx.clock_rate() / 5))
    }

    /// Says the end of the last press once more beside the voice that follows, where its source did not. Nor is a press
    /// left without an end where all that its source said of it is lost.
    #[inline]
    pub(super) fn repeat_end(
        &mut self,
        arrival: Arrival,
        now: Instant,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) {
        if arrival == Arrival::Late || tx.dtmf().is_none() {
            return;
        }
        let silent = |told| now.saturating_duration_since(told) >= PRESS_TIMEOUT;
        if self.carrier.is_active() && self.told.is_some_and(silent) {
            self.carrier.give_up();
        }
        // A relay leaves it to the source to repeat an end.
        let Some(carried) = self.carrier.owed_end(matches!(self.path, Path::Relay(_))) else { return };
        let sequence = match &mut self.path {
            Path::Relay(relay) => relay.insert(tx),
            Path::Reframe(_) | Path::Decode(_) | Path::Encode(_) => tx.next_sequence(),
        };
        send_carried(carried, now, sequence, tx, out);
    }

    fn event_as_sound(
        &mut self,
        incoming: Incoming<'_>,
        event: Event,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) {
        let Incoming { packet, now, .. } = incoming;
        let Some(carried) = self.carrier.carry(event, packet.timestamp, 0, self.event_rate, 8_000) else {
            return;
        };
        self.leave_relay(tx);
        if carried.marker {
            let wall = tx.position_at(now);
            let sounded = carried.total.saturating_mul(tx.clock_rate() / 8_000);
            let start = self.start_of(packet.timestamp, wall, tx).unwrap_or(wall.wrapping_sub(sounded));
            let reached = self.part_from_last(start, now, tx, out);
            self.press = Some(Press { tone: KeyTone::new(event.code), sounded: 0, last: now, reached });
        }
        let Some(press) = &mut self.press else { return };
        press.last = now;
        let samples = (carried.total.saturating_sub(press.sounded) as usize).min(out.work.pcm.len());
        press.sounded += samples as u32;
        let Some(tone) = press.tone.as_mut().filter(|_| samples > 0) else { return };
        tone.fill(&mut out.work.pcm[..samples]);
        self.inject(samples, now, tx, out);
        if let (Some(reached), Some(press)) = (self.position_or(0), &mut self.press) {
            press.reached = reached;
        }
    }

    /// Goes on to where a press begins, and in any case so far behind the one before it that they are heard as two.
    /// Gives the place of the press.
    fn part_from_last(&mut self, start: u32, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) -> u32 {
        // Opus that is passed on has no place for sound.
        let Some(position) = self.position_or(tx.position_at(now)) else { return start };
        let units = tx.clock_rate() / 8_000;
        let since = self.press.as_ref().map(|press| timestamp_distance(press.reached, position));
        let pause = (PAUSE * units) as i32;
        let least = since.filter(|since| (0..pause).contains(since)).map_or(0, |since| pause - since);
        let gap = timestamp_distance(position, start).max(least).max(0) as u32 / units;
        let silence = match since {
            _ if gap <= MOST_SILENCE => gap,
            Some(_) => PAUSE,
            None => 0,
        };
        if silence > 0 {
            out.work.pcm[..silence as usize].fill(0);
            self.inject(silence as usize, now, tx, out);
        }
        self.skip(gap - silence);
        position.wrapping_add(gap * units)
    }

    /// Right behind what was played, or `wall` at the beginning.
    pub(super) fn position_or(&mut self, wall: u32) -> Option<u32> {
        match &mut self.path {
            Path::Relay(_) => None,
            Path::Reframe(reframe) => Some(reframe.position_or(wall)),
            Path::Decode(decode) => Some(decode.position_or(wall)),
            Path::Encode(encode) => Some(encode.position_or(wall)),
        }
    }
}

fn send_carried(carried: Outgoing, now: Instant, sequence: u16, tx: &mut Transmitter, out: &mut Out<'_>) {
    let payload = carried.event.to_bytes();
    let chunk =
        Chunk { timestamp: carried.timestamp, marker: carried.marker, duration: 0, payload: &payload };
    tx.send_event(now, sequence, chunk, out.wire, &mut out.work.packet);
}
