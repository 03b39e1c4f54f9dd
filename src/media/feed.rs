//! One direction of a bridge: puts the packets of one leg in order and makes them into those of the other.

mod presses;

use super::adaptation::Diet;
use super::codec::comfort_noise::NoiseGenerator;
use super::config::{LegConfig, OpusSettings};
use super::dtmf::EventCarrier;
use super::dtmf::listening::Listening;
use super::fax::Ear;
use super::recovery::reorder::{Reorder, Turn};
use super::relay::{Passing, Relay};
use super::rtp::{Arrival, timestamp_distance};
use super::transcoder::{G711ToG711, G711ToOpus, Incoming, OpusToG711, Outcome, Untold, law};
use super::transmit::{Out, Transmitter};
use crate::types::AudioCodec;
use presses::Press;
use std::time::{Duration, Instant};

/// Bit rate of Opus for the sound of a modem, in bit/s; what a voice needs is no measure for it.
const CLEAR_BITRATE: u32 = 64_000;

/// The way of the voice and of key presses towards one leg.
pub struct Feed {
    shape: Shape,
    /// How Opus is encoded where the network carries it, and what it carries.
    opus: OpusSettings,
    diet: Diet,
    /// Clock of the events received, in Hz.
    event_rate: u32,
    order: Reorder,
    path: Path,
    spare: Option<Spare>,
    carrier: EventCarrier,
    press: Option<Press>,
    /// When a press was last told as an event.
    told: Option<Instant>,
    /// Where the source presses its keys as tones in the voice.
    listening: Option<Box<Listening>>,
    comfort: Comfort,
    /// Listens for a fax or a modem where something is done to the sound of G.711.
    ear: Option<Box<Ear>>,
    /// One was heard, or the far side said so: nothing more is done to its sound than the laws ask for.
    clear: bool,
    /// One was heard on this way.
    heard: bool,
    /// What became of packets that waited, until somebody asks.
    untold: Untold,
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

/// What takes the place of a relay of G.711 where packets of another length come, or sound of our own making goes
/// between them: made before any packet comes.
struct Spare {
    reframe: Box<G711ToG711>,
    ear: Box<Ear>,
}

/// The source's silence as it described it, where the far side wants to hear it.
#[derive(Default)]
struct Comfort {
    noise: NoiseGenerator,
    /// When the next frame has been heard whole; `None` while the source speaks.
    next: Option<Instant>,
    /// A key was pressed in a silence: behind the press it goes on.
    pressed: bool,
}

impl Comfort {
    fn stop(&mut self) {
        (self.next, self.pressed) = (None, false);
    }
}

/// One frame of comfort noise.
const COMFORT: usize = 160;
const COMFORT_TIME: Duration = Duration::from_millis(20);
/// The most of it that is made at once between the last frame and the voice that follows; after a longer standstill of
/// the machine it goes on from now.
const MOST_COMFORT: usize = 800;
/// So far from where the source describes it the noise may be, 60 ms; a place that is further than a second is another's.
const MOST_APART: i32 = 480;
const ANOTHERS: i32 = 8_000;

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
        let spare = law(from.codec).zip(law(to.codec)).map(|(from, to_law)| Spare {
            reframe: Box::new(G711ToG711::new(from, to_law, to.ptime_ms)),
            ear: Box::new(Ear::new(from)),
        });
        let event_rate = event_rate(from);
        let mut feed = Feed {
            shape,
            opus: to.opus,
            diet: Diet::default(),
            event_rate,
            order: Reorder::default(),
            path,
            spare,
            carrier: EventCarrier::default(),
            press: None,
            told: None,
            listening: Listening::to(from, to),
            comfort: Comfort::default(),
            ear: None,
            clear: false,
            heard: false,
            untold: Untold::default(),
        };
        feed.open_ear(from.comfort_noise);
        if from.clear || to.clear {
            feed.set_clear();
        }
        feed
    }

    /// Listens for machines where there is anything to be undone; a relay does nothing to the sound.
    fn open_ear(&mut self, takes_noise: bool) {
        let meddles = !matches!(self.path, Path::Relay(_)) || self.listening.is_some() || takes_noise;
        match law(self.shape.from).filter(|_| meddles && !self.clear) {
            Some(law) => {
                self.ear.get_or_insert_with(|| Box::new(Ear::new(law)));
            }
            None => self.ear = None,
        }
    }

    /// A fax or a modem speaks, on this way or back: its sound passes clear to the end of the call.
    pub fn set_clear(&mut self) {
        self.clear = true;
        self.ear = None;
        self.listening = None;
        self.comfort.stop();
        match &mut self.path {
            Path::Relay(_) => {}
            Path::Reframe(reframe) => reframe.set_clear(),
            Path::Decode(decode) => decode.set_clear(),
            Path::Encode(encode) => encode.set_clear(),
        }
        self.apply_wishes();
    }

    #[inline]
    pub fn is_clear(&self) -> bool {
        self.clear
    }

    /// True once the source was heard to be a fax or a modem.
    pub fn heard_machine(&self) -> bool {
        self.heard
    }

    /// Applies new configurations; what need not change goes on undisturbed.
    pub fn renew(&mut self, from: &LegConfig, to: &LegConfig) {
        if (self.shape.from, self.shape.to) != (from.codec, to.codec) {
            let old = std::mem::replace(self, Feed::between(from, to));
            self.set_diet(old.diet);
            if old.clear {
                self.set_clear();
            }
            self.keep_press(old);
            return;
        }
        self.shape.ptime_ms = to.ptime_ms;
        self.opus = to.opus;
        self.apply_wishes();
        self.event_rate = event_rate(from);
        let fresh = Listening::to(from, to).filter(|_| !self.clear);
        if self.listening.is_some() != fresh.is_some() {
            self.listening = fresh;
        }
        self.open_ear(from.comfort_noise);
        if !self.clear && (from.clear || to.clear) {
            self.set_clear();
        }
    }

    /// Sends in the length and at the rate that the far side wants and its network carries.
    fn apply_wishes(&mut self) {
        let ptime_ms = self.shape.ptime_ms;
        match &mut self.path {
            Path::Relay(relay) => relay.set_ptime(ptime_ms),
            Path::Reframe(reframe) => reframe.set_ptime(ptime_ms),
            Path::Decode(decode) => decode.set_ptime(ptime_ms),
            Path::Encode(encode) => {
                let opus = match self.clear {
                    false => self.opus,
                    true => OpusSettings {
                        bitrate: CLEAR_BITRATE.min(self.opus.most_bitrate).max(self.opus.bitrate),
                        fec: false,
                        dtx: false,
                        ..self.opus
                    },
                };
                let (settings, ptime_ms) = self.diet.limit(opus, ptime_ms);
                encode.configure(settings);
                encode.set_ptime(ptime_ms);
            }
        }
    }

    /// True if losses of the received voice are concealed here and not left to the far side.
    pub fn conceals(&self) -> bool {
        match self.path {
            Path::Relay(_) => false,
            Path::Reframe(_) | Path::Encode(_) => !self.clear,
            Path::Decode(_) => true,
        }
    }

    /// Sends a voice packet on when its turn comes, and what waited for it.
    #[inline]
    pub fn voice(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        if let Path::Relay(_) = self.path {
            // What may take its place needs room to put packets in order.
            if self.spare.is_some() {
                self.order.prepare(incoming.now);
            }
            // A relay leaves the order as it is: the far side's own buffer is the better place to mend it.
            return self.play(incoming, tx, out);
        }
        self.order.prepare(incoming.now);
        let outcome = loop {
            match self.order.arrive(&incoming) {
                Turn::Play(arrival) => break self.play(Incoming { arrival, ..incoming }, tx, out),
                Turn::Held(waits) => {
                    let waits_ms = waits.as_millis() as u16;
                    break Outcome { waits_ms, ..Outcome::NOTHING };
                }
                Turn::TooLate => break Outcome::TOO_LATE,
                Turn::MakeRoom => self.release_one(incoming.now, true, tx, out),
            };
        };
        if !self.order.is_empty() {
            while self.release_one(incoming.now, false, tx, out) {}
        }
        outcome
    }

    /// What became of packets that waited, since the last call; `None` if there is nothing to tell.
    #[inline]
    pub fn take_untold(&mut self) -> Option<Untold> {
        (!self.untold.is_empty()).then(|| std::mem::take(&mut self.untold))
    }

    /// Plays the next packet that waited, if it need not wait any longer; false if none did.
    fn release_one(&mut self, now: Instant, at_once: bool, tx: &mut Transmitter, out: &mut Out<'_>) -> bool {
        let Some((held, arrival)) = self.order.release(now, at_once) else { return false };
        let outcome = self.play(held.incoming(arrival, now), tx, out);
        // How long it was inside says nothing about our speed.
        self.untold.note(held.sequence(), Outcome { transcoded: false, ..outcome });
        true
    }

    #[inline]
    fn play(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) -> Outcome {
        self.meet_source(incoming.arrival);
        if self.press_sounds(incoming.now) {
            return Outcome::NOTHING;
        }
        self.repeat_end(incoming.arrival, incoming.now, tx, out);
        self.comfort.pressed = false;
        if self.comfort.next.is_some() {
            self.end_comfort(incoming, tx, out);
        }
        if self.ear.as_mut().is_some_and(|ear| ear.hear(incoming.packet.payload)) {
            self.heard = true;
            self.set_clear();
        }
        if self.listening.is_some() && self.hear_press(incoming, tx, out) {
            return Outcome::NOTHING;
        }
        if let Path::Relay(relay) = &mut self.path
            && relay.misfit(incoming.packet.payload)
        {
            // Once two packets of another length came in a row, all are cut anew.
            self.leave_relay(tx);
        }
        match &mut self.path {
            Path::Decode(decode) => decode.voice(incoming, tx, out),
            Path::Encode(encode) => encode.voice(incoming, tx, out),
            Path::Reframe(reframe) => reframe.voice(incoming, tx, out),
            Path::Relay(relay) => relay.voice(incoming, tx, out),
        }
    }

    /// A relay of G.711 has no timeline of its own: where packets are to be cut anew, or sound of our own making goes
    /// between them, it gives way to what has one. Every packet keeps its place.
    fn leave_relay(&mut self, tx: &Transmitter) {
        let Path::Relay(relay) = &self.path else { return };
        let last = relay.last();
        let Some(Spare { mut reframe, ear }) = self.spare.take() else { return };
        reframe.set_ptime(self.shape.ptime_ms);
        if self.clear {
            reframe.set_clear();
        } else {
            self.ear.get_or_insert(ear);
        }
        if let Some(last) = last {
            reframe.go_on(last, tx.reached());
        }
        self.path = Path::Reframe(reframe);
    }

    /// The source describes its silence: that is passed on, or made to be heard. Opus has its own way to be silent: an
    /// encoder that hears a silence sends nothing.
    pub fn comfort_noise(
        &mut self,
        incoming: Incoming<'_>,
        tx: &mut Transmitter,
        out: &mut Out<'_>,
    ) -> Outcome {
        while self.release_one(incoming.now, true, tx, out) {}
        self.meet_source(incoming.arrival);
        self.repeat_end(incoming.arrival, incoming.now, tx, out);
        match (&mut self.path, incoming.arrival) {
            (_, Arrival::Late | Arrival::Duplicate | Arrival::Suspect) | (Path::Decode(_), _) => {}
            (Path::Relay(relay), Arrival::First | Arrival::Next | Arrival::Gap(_))
                if tx.takes_comfort_noise() =>
            {
                relay.comfort_noise(incoming, tx, out);
            }
            (
                Path::Relay(_) | Path::Reframe(_) | Path::Encode(_),
                Arrival::First | Arrival::Next | Arrival::Gap(_),
            ) => {
                // No noise is made up beside a modem's sound.
                if self.clear {
                    return Outcome::NOTHING;
                }
                self.leave_relay(tx);
                self.comfort.noise.describe(incoming.packet.payload);
                match self.comfort.next {
                    None => self.begin_comfort(incoming, tx, out),
                    Some(_) => self.follow_clock(incoming, tx, out),
                }
            }
        }
        Outcome::NOTHING
    }

    /// The noise begins where the source says. What is missing before that, a voice that was lost or what described the
    /// silence first, is not left to its end: all of the noise would come so much too late for its place.
    fn begin_comfort(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Incoming { packet, arrival, now, .. } = incoming;
        self.comfort.next = Some(now + COMFORT_TIME);
        self.comfort.pressed = false;
        if arrival == Arrival::First {
            return;
        }
        let missing = (self.missing_before(packet.timestamp).max(0) as usize).min(self.unsent(now, tx));
        if missing > MOST_COMFORT {
            self.skip(missing as u32);
        } else if missing > 0 {
            self.comfort.noise.fill(&mut out.work.pcm[..missing]);
            self.inject(missing, now, tx, out);
        }
    }

    /// The source's clock may be off: that its voice finds its place behind a pause of any length, the noise goes on to
    /// about where each description lies, a frame more or less at a time.
    fn follow_clock(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.comfort(incoming.now, tx, out);
        if incoming.arrival == Arrival::First {
            return;
        }
        let missing = self.missing_before(incoming.packet.timestamp);
        if (MOST_APART..ANOTHERS).contains(&missing) {
            self.make_noise(COMFORT, incoming.now, tx, out);
        } else if (-ANOTHERS..=-MOST_APART).contains(&missing)
            && let Some(next) = &mut self.comfort.next
        {
            *next += COMFORT_TIME;
        }
    }

    /// Samples that time has passed for since the last one was sent.
    fn unsent(&mut self, now: Instant, tx: &Transmitter) -> usize {
        let wall = tx.position_at(now);
        let ahead = self.position_or(wall).map_or(0, |position| timestamp_distance(position, wall));
        ahead.max(0) as usize / (tx.clock_rate() / 8_000) as usize
    }

    /// Behind a key press the silence goes on, though the source says nothing more of it.
    fn resume_comfort(&mut self, now: Instant, tx: &Transmitter) {
        if self.comfort.pressed && !self.carrier.is_active() {
            self.comfort.pressed = false;
            self.comfort.next = Some(now + COMFORT_TIME);
            let taken = self.unsent(now, tx);
            self.skip(taken as u32);
        }
    }

    /// Makes the comfort noise that has been due.
    fn comfort(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        let Some(mut next) = self.comfort.next else { return };
        let overdue = (now.saturating_duration_since(next).as_millis() / COMFORT_TIME.as_millis()) as u32;
        if overdue as usize > MOST_COMFORT / COMFORT {
            // That time has passed for the listener too.
            next += COMFORT_TIME * overdue;
            self.skip(overdue * COMFORT as u32);
        }
        while next <= now {
            // It belongs where its time began, however late we wake.
            let began = next - COMFORT_TIME;
            next += COMFORT_TIME;
            // A voice that was played late has had some of its pause's time.
            let samples = COMFORT - self.take_back(COMFORT);
            if samples == 0 {
                continue;
            }
            self.make_noise(samples, began, tx, out);
        }
        self.comfort.next = Some(next);
    }

    /// Goes on with the noise.
    fn make_noise(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.comfort.noise.fill(&mut out.work.pcm[..samples]);
        match &mut self.path {
            Path::Encode(encode) => encode.comfort(samples, now, tx, out),
            Path::Relay(_) | Path::Reframe(_) | Path::Decode(_) => self.inject(samples, now, tx, out),
        }
    }

    /// Takes back from a pause what is played behind its time; gives the samples that stay unplayed.
    fn take_back(&mut self, most: usize) -> usize {
        match &mut self.path {
            Path::Reframe(reframe) => reframe.take_back(most),
            Path::Encode(encode) => encode.take_back(most),
            // Beside Opus no noise is made here.
            Path::Relay(_) | Path::Decode(_) => 0,
        }
    }

    /// The source speaks again: the noise goes on to right before it.
    fn end_comfort(&mut self, incoming: Incoming<'_>, tx: &mut Transmitter, out: &mut Out<'_>) {
        self.comfort(incoming.now, tx, out);
        self.comfort.next = None;
        let missing = self.missing_before(incoming.packet.timestamp).max(0) as usize;
        if (1..=MOST_COMFORT).contains(&missing) {
            self.comfort.noise.fill(&mut out.work.pcm[..missing]);
            self.inject(missing, incoming.now, tx, out);
        }
    }

    /// Samples missing before a timestamp of a source that describes its silence; negative if that has passed.
    fn missing_before(&self, timestamp: u32) -> i32 {
        match &self.path {
            Path::Reframe(reframe) => reframe.missing_before(timestamp),
            Path::Encode(encode) => encode.missing_before(timestamp),
            Path::Relay(_) | Path::Decode(_) => 0,
        }
    }

    /// Leaves out so many samples' time.
    fn skip(&mut self, samples: u32) {
        match &mut self.path {
            Path::Relay(_) => {}
            Path::Reframe(reframe) => reframe.skip(samples),
            Path::Decode(decode) => decode.skip(samples),
            Path::Encode(encode) => encode.skip(samples),
        }
    }

    /// Sends sound of our own making in place of the voice.
    fn inject(&mut self, samples: usize, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        match &mut self.path {
            // Opus that is passed on has no place for it.
            Path::Relay(_) => {}
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

    /// Tells what the far side's network carries.
    pub fn set_diet(&mut self, diet: Diet) {
        self.diet = diet;
        self.apply_wishes();
    }

    /// The source is not heard on purpose (hold), whether it goes on or not: nothing is filled until its next packet.
    pub fn pause(&mut self) {
        self.order.clear();
        self.comfort.stop();
        match &mut self.path {
            // What it sends meanwhile has no number in our stream.
            Path::Relay(relay) => relay.forget(),
            Path::Decode(decode) => decode.pause(),
            Path::Reframe(_) | Path::Encode(_) => {}
        }
    }

    /// Starts anew with the next packet, right behind what the leg sent meanwhile. A press that goes on is still the same
    /// one; of one that sounds the rest stays out, for it would be heard as another.
    pub fn forget(&mut self) {
        self.order.clear();
        self.comfort.stop();
        self.carrier.interrupt();
        self.press = None;
        match &mut self.path {
            Path::Relay(relay) => relay.forget(),
            Path::Reframe(reframe) => reframe.forget(),
            Path::Decode(decode) => decode.forget(),
            Path::Encode(encode) => encode.forget(),
        }
    }

    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let filling = self.filling_due();
        match self.order.poll_timeout() {
            Some(given_up) => Some(filling.map_or(given_up, |filling| filling.min(given_up))),
            None => match (filling, self.rest_due()) {
                (Some(filling), Some(rest)) => Some(filling.min(rest)),
                (filling, rest) => filling.or(rest),
            },
        }
    }

    /// When a part of a packet goes out that nothing fills.
    fn rest_due(&self) -> Option<Instant> {
        match &self.path {
            Path::Reframe(reframe) => reframe.rest_due(),
            Path::Encode(encode) => encode.rest_due(),
            Path::Relay(_) | Path::Decode(_) => None,
        }
    }

    /// True if a frame can be made up before a packet and those missing before it.
    fn silence_before(&self, timestamp: u32, lost: u16) -> bool {
        match &self.path {
            Path::Decode(decode) => decode.has_room_before(timestamp, lost),
            Path::Relay(_) | Path::Reframe(_) | Path::Encode(_) => false,
        }
    }

    /// When sound of our own is due where packets fail to come.
    fn filling_due(&self) -> Option<Instant> {
        match &self.path {
            Path::Decode(decode) => decode.poll_timeout(),
            Path::Relay(_) | Path::Reframe(_) | Path::Encode(_) => self.comfort.next,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant, tx: &mut Transmitter, out: &mut Out<'_>) {
        // Nothing is made up while there is something real to play, unless it is the silence before what is waited for.
        let filling = self.filling_due().is_some_and(|due| due <= now);
        let early = filling && self.order.lowest().is_some_and(|(at, lost)| self.silence_before(at, lost));
        while self.release_one(now, filling && !early, tx, out) {}
        if filling {
            self.repeat_end(Arrival::Next, now, tx, out);
        }
        match &mut self.path {
            Path::Decode(decode) => decode.handle_timeout(now, tx, out),
            Path::Relay(_) | Path::Reframe(_) | Path::Encode(_) => self.comfort(now, tx, out),
        }
        // While packets wait there is something to come.
        if self.order.is_empty() && self.rest_due().is_some_and(|due| due <= now) {
            match &mut self.path {
                Path::Reframe(reframe) => reframe.finish(now, tx, out),
                Path::Encode(encode) => encode.finish(now, tx, out),
                Path::Relay(_) | Path::Decode(_) => {}
            }
        }
    }
}

fn event_rate(from: &LegConfig) -> u32 {
    from.dtmf.map_or(8_000, |format| format.clock_rate)
}
