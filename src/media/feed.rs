//! One direction of a bridge: makes the packets of one leg into those of the other.

use super::config::LegConfig;
use super::dtmf::{Event, EventCarrier};
use super::relay::{Passing, Relay, is_near};
use super::tone::KeyTone;
use super::transcoder::{G711ToG711, G711ToOpus, Incoming, OpusToG711, Outcome, law};
use super::transmit::{Chunk, Out, Transmitter};
use crate::types::AudioCodec;
use std::time::{Duration, Instant};

/// A press whose packets stopped without an end is over after this long (RFC 4733 §2.5.2.3 leaves it to us).
const PRESS_TIMEOUT: Duration = Duration::from_millis(200);

/// The way of the voice and of key presses towards one leg.
pub struct Feed {
    shape: Shape,
    /// Clock of the events received, in Hz.
    event_rate: u32,
    path: Path,
    carrier: EventCarrier,
    press: Option<Press>,
}

/// What a feed was built for; while it stays the same its state does too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    from: AudioCodec,
    to: AudioCodec,
    ptime_ms: u8,
}

enum Path {
    Relay(Relay),
    Reframe(Box<G711ToG711>),
    Decode(Box<OpusToG711>),
    Encode(Box<G711ToOpus>),
}

/// A key press that goes out as sound.
struct Press {
    tone: Option<KeyTone>,
    /// Samples sent so far.
    sounded: u32,
    last: Instant,
}

impl Feed {
    /// Chooses the way by the codecs of both legs.
    pub fn between(from: &LegConfig, to: &LegConfig) -> Feed {
        let shape = Shape { from: from.codec, to: to.codec, ptime_ms: to.ptime_ms };
        let path = match (law(from.codec), law(to.codec)) {
            (None, None) => Path::Relay(Relay::new(Passing::Opus)),
            (Some(from), Some(to_law)) => {
                let frame = usize::from(to.ptime_ms.clamp(10, 60)) * 8;
                Path::Relay(Relay::new(Passing::G711 { from, to: to_law, frame }))
            }
            (None, Some(law)) => Path::Decode(Box::new(OpusToG711::new(law, to.ptime_ms))),
            (Some(law), None) => Path::Encode(Box::new(G711ToOpus::new(law, to.ptime_ms, to.opus))),
        };
        let event_rate = event_rate(from);
        Feed { shape, event_rate, path, carrier: EventCarrier::default(), press: None }
    }

    /// Applies new configurations; what need not change goes on undisturbed.
    pub fn renew(&mut self, from: &LegConfig, to: &LegConfig) {
        if self.shape != (Shape { from: from.codec, to: to.codec, ptime_ms: to.ptime_ms }) {
            *self = Feed::between(from, to);
            return;
        }
        self.event_rate = event_rate(from);
        if let Path::Encode(encode) = &mut self.path {
            encode.configure(to.opus);
        }
    }

    /// True if losses of the received voice are concealed here and not left to the far side.
    pub fn conceals(&self) -> bool {
        match self.path {
            Path::Relay(_) => false,
            Path::Reframe(_) | Path::Decode(_) | Path::Encode(_) => true,
        }
    }

    /// Sends a voice packet on.
    #[inline]
    pub fn voice(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        if self.press_sounds(incoming.now) {
            return Outcome::default();
        }
        match &mut self.path {
            Path::Decode(decode) => decode.voice(incoming, tx, out),
            Path::Encode(encode) => encode.voice(incoming, tx, out),
            Path::Reframe(reframe) => reframe.voice(incoming, tx, out),
            Path::Relay(relay) => match relay.misfit(incoming.packet.payload) {
                None => relay.voice(incoming, tx, out),
                Some((from, to)) => {
                    // Once packets of another length came, all are cut anew.
                    let mut reframe = Box::new(G711ToG711::new(from, to, self.shape.ptime_ms));
                    let outcome = reframe.voice(incoming, tx, out);
                    self.path = Path::Reframe(reframe);
                    outcome
                }
            },
        }
    }

    /// While a press goes out as sound, the voice beside it stays out.
    fn press_sounds(&mut self, now: Instant) -> bool {
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
        match tx.dtmf() {
            Some(format) => self.event_as_event(incoming, event, format.clock_rate, tx, out),
            None => self.event_as_sound(incoming, event, tx, out),
        }
        if let Path::Decode(decode) = &mut self.path {
            decode.pause_for_press();
        }
        Outcome::default()
    }

    fn event_as_event(
        &mut self,
        incoming: Incoming<'_>,
        event: Event,
        to_rate: u32,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) {
        let Incoming { packet, arrival, now } = incoming;
        let sequence = match &mut self.path {
            Path::Relay(relay) => match relay.sequence_for(packet.sequence, arrival, tx) {
                Some(sequence) => sequence,
                None => return,
            },
            Path::Reframe(_) | Path::Decode(_) | Path::Encode(_) => tx.next_sequence(),
        };
        let wall = tx.position_at(now);
        // Exactly where the source says if its events count in the clock of its voice, else where we are.
        let start = Some(packet.timestamp)
            .filter(|_| self.event_rate == self.shape.from.clock_rate())
            .and_then(|timestamp| self.map(timestamp))
            .filter(|start| is_near(*start, wall, tx.clock_rate() / 5))
            .unwrap_or(wall);
        let Some(carried) = self.carrier.carry(event, packet.timestamp, start, self.event_rate, to_rate)
        else {
            return;
        };
        let payload = carried.event.to_bytes();
        let chunk =
            Chunk { timestamp: carried.timestamp, marker: carried.marker, duration: 0, payload: &payload };
        tx.send_event(now, sequence, chunk, out.wire, &mut out.work.packet);
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
        if carried.marker || self.press.is_none() {
            self.press = Some(Press { tone: KeyTone::new(event.code), sounded: 0, last: now });
        }
        let Some(press) = &mut self.press else { return };
        press.last = now;
        let samples = (carried.total.saturating_sub(press.sounded) as usize).min(out.work.pcm.len());
        press.sounded += samples as u32;
        let Some(tone) = press.tone.as_mut().filter(|_| samples > 0) else { return };
        tone.fill(&mut out.work.pcm[..samples]);
        match &mut self.path {
            Path::Relay(relay) => relay.inject(samples, now, tx, out),
            Path::Reframe(reframe) => reframe.inject(samples, now, tx, out),
            Path::Decode(decode) => decode.inject(samples, now, tx, out),
            Path::Encode(encode) => encode.inject(samples, now, tx, out),
        }
    }

    fn map(&self, timestamp: u32) -> Option<u32> {
        match &self.path {
            Path::Relay(relay) => relay.map(timestamp),
            Path::Reframe(reframe) => reframe.map(timestamp),
            Path::Decode(decode) => decode.map(timestamp),
            Path::Encode(encode) => encode.map(timestamp),
        }
    }

    /// Tells how much the far side loses of what we send, in percent.
    pub fn set_expected_loss(&mut self, percent: u8) {
        if let Path::Encode(encode) = &mut self.path {
            encode.set_expected_loss(percent);
        }
    }

    /// The source stopped on purpose (hold): nothing is filled until its next packet.
    pub fn pause(&mut self) {
        if let Path::Decode(decode) = &mut self.path {
            decode.pause();
        }
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile.
    pub fn forget(&mut self) {
        match &mut self.path {
            Path::Relay(relay) => relay.forget(),
            Path::Reframe(reframe) => reframe.forget(),
            Path::Decode(decode) => decode.forget(),
            Path::Encode(encode) => encode.forget(),
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.path {
            Path::Decode(decode) => decode.poll_timeout(),
            Path::Relay(_) | Path::Reframe(_) | Path::Encode(_) => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        if let Path::Decode(decode) = &mut self.path {
            decode.handle_timeout(now, tx, out);
        }
    }
}

fn event_rate(from: &LegConfig) -> u32 {
    from.dtmf.map_or(8_000, |format| format.clock_rate)
}
