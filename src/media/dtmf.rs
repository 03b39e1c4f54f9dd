//! Key presses as telephone-event packets (RFC 4733): read, carried from one clock to another, written.

pub mod detector;
pub mod listening;

use super::timeline::rescale;
use std::time::Duration;

/// Length of the payload.
pub const EVENT_LEN: usize = 4;
/// The longest duration one packet can state; a longer press goes on in the next segment (RFC 4733 §2.5.1.3).
const SEGMENT: u32 = 0xffff;

/// The payload of a telephone-event packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// 0–9 the digits, 10 *, 11 #, 12–15 A–D, 16 flash.
    pub code: u8,
    pub end: bool,
    /// Minus dBm0, 0 to 63.
    pub volume: u8,
    /// Since the event's timestamp, in units of the format's clock.
    pub duration: u16,
}

impl Event {
    /// Reads the first event of a payload; `None` if it is shorter than one.
    pub fn parse(payload: &[u8]) -> Option<Event> {
        let [code, flags, high, low, ..] = *payload else { return None };
        let duration = u16::from_be_bytes([high, low]);
        Some(Event { code, end: flags & 0x80 != 0, volume: flags & 0x3f, duration })
    }

    pub fn to_bytes(self) -> [u8; EVENT_LEN] {
        let [high, low] = self.duration.to_be_bytes();
        [self.code, u8::from(self.end) << 7 | self.volume & 0x3f, high, low]
    }
}

/// One event of the received stream that is being carried over.
#[derive(Debug, Clone, Copy)]
struct Carried {
    code: u8,
    /// Timestamp of its present segment in the received stream.
    from: u32,
    /// Duration of its earlier segments in the received clock.
    before: u32,
    /// Its timestamp in our stream.
    to: u32,
    ended: bool,
    last_duration: u16,
    /// Segments of ours that are full, and what was said last of the present one.
    full: u32,
    said: u32,
}

/// A press of which nothing more came for so long is over (RFC 4733 §2.5.2.3 leaves it to us).
pub const PRESS_TIMEOUT: Duration = Duration::from_millis(200);
/// How often the end of a press is said: a far side that misses it hears the key for ever (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
/// No packet of an event is overtaken by so many seconds. What lies further behind the present event is of a source
/// that counts from elsewhere.
const OVERTAKEN: u32 = 5;

/// Carries events from one leg to the other.
#[derive(Debug, Clone, Default)]
pub struct EventCarrier {
    current: Option<Carried>,
    /// Not all was heard that was said since: the next event may be of another source.
    doubtful: bool,
    /// What was carried last.
    last: Option<Outgoing>,
    owed: Option<Owed>,
}

/// The end of the last press, and how often it is still to be said.
#[derive(Debug, Clone, Copy)]
struct Owed {
    end: Outgoing,
    left: u8,
    /// Its source never said it.
    given_up: bool,
}

/// What to send for a received event packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    pub event: Event,
    /// Of the event (segment): the same for all its packets.
    pub timestamp: u32,
    /// The first packet of an event.
    pub marker: bool,
    /// Length of the whole press so far, in units of the outgoing clock.
    pub total: u32,
}

impl EventCarrier {
    /// `timestamp` is the packet's own; `start` is where the event begins in our stream if it is new. `None` for a
    /// packet of an event before the present one, for an ended event that claims to go on, and for an end that has been
    /// said often enough.
    pub fn carry(
        &mut self,
        event: Event,
        timestamp: u32,
        start: u32,
        from_rate: u32,
        to_rate: u32,
    ) -> Option<Outgoing> {
        let mut marker = false;
        let doubtful = std::mem::take(&mut self.doubtful);
        let overtaken = 1..=from_rate.saturating_mul(OVERTAKEN);
        let mut current = match self.current {
            Some(known) if known.from == timestamp && known.code == event.code => known,
            Some(known) if known.goes_on_at(timestamp, event.code) => Carried {
                from: timestamp,
                before: known.before.saturating_add(timestamp.wrapping_sub(known.from)),
                last_duration: 0,
                ..known
            },
            Some(known) if !doubtful && overtaken.contains(&known.from.wrapping_sub(timestamp)) => {
                return None;
            }
            Some(_) | None => {
                marker = true;
                Carried::begin(event.code, timestamp, start)
            }
        };
        // Within an event time only grows; a reordered packet adds nothing (RFC 4733 §2.5.2.2), an ended one is over.
        let stale = event.duration < current.last_duration || (current.ended && !event.end);
        if stale {
            return None;
        }
        current.ended = event.end;
        current.last_duration = event.duration;
        let total = rescale(current.before.saturating_add(event.duration.into()), from_rate, to_rate);
        let (whole, closes) = current.reach(total);
        let segment = |full: u32, duration: u32, end: bool| Outgoing {
            event: Event { duration: duration as u16, end, ..event },
            timestamp: current.to.wrapping_add(full * SEGMENT),
            marker,
            total,
        };
        let outgoing = segment(current.full, current.said, event.end && !closes);
        let end = match closes {
            false => outgoing,
            true => segment(whole, total - whole * SEGMENT, event.end),
        };
        self.current = Some(current);
        self.last = Some(outgoing);
        self.owed = match self.owed {
            Some(owed) if outgoing.event.end && owed.end.timestamp == outgoing.timestamp => {
                Some(Owed { left: owed.left.checked_sub(1)?, ..owed })
            }
            Some(_) | None => event.end.then_some(Owed {
                end: Outgoing { marker: false, ..end },
                left: ENDS - u8::from(!closes),
                given_up: false,
            }),
        };
        Some(outgoing)
    }

    /// An end that the source did not repeat, or under the same sequence number only, which counts as one packet: to be
    /// said once more now. `given_up`: only one that the source never said.
    pub fn owed_end(&mut self, given_up: bool) -> Option<Outgoing> {
        let owed = self.owed.as_mut().filter(|owed| owed.left > 0 && (owed.given_up || !given_up))?;
        owed.left -= 1;
        Some(owed.end)
    }

    /// True between the first packet of an event and its first end packet.
    pub fn is_active(&self) -> bool {
        self.current.is_some_and(|carried| !carried.ended)
    }

    /// Gives up an event whose end never came.
    pub fn abandon(&mut self) {
        if let Some(carried) = &mut self.current {
            carried.ended = true;
        }
    }

    /// The same where the far side counts on being told of the end: all of that is owed.
    pub fn give_up(&mut self) {
        if let Some(last) = self.last.filter(|_| self.is_active()) {
            let end = Outgoing { event: Event { end: true, ..last.event }, marker: false, ..last };
            self.owed = Some(Owed { end, left: ENDS, given_up: true });
        }
        self.abandon();
    }

    /// What comes now is not heard for a while: behind it a press may go on, and is the same one then, or its source may
    /// be another.
    pub fn interrupt(&mut self) {
        self.doubtful = true;
    }

    /// Another source counts from elsewhere, and says no more of what the one before it pressed.
    pub fn forget_source(&mut self) {
        self.give_up();
        self.current = None;
    }
}

impl Carried {
    fn begin(code: u8, from: u32, to: u32) -> Carried {
        Carried { code, from, before: 0, to, ended: false, last_duration: 0, full: 0, said: 0 }
    }

    /// A long press goes on in a segment that starts where the one before ran full, whose last packets may be lost.
    fn goes_on_at(&self, timestamp: u32, code: u8) -> bool {
        let ahead = timestamp.wrapping_sub(self.from);
        let unheard = ahead.wrapping_sub(self.last_duration.into());
        let full = ahead == SEGMENT || (ahead < SEGMENT && ahead > SEGMENT / 2 && unheard < SEGMENT / 8);
        !self.ended && code == self.code && full
    }

    /// A finer clock runs out of its 16 bits sooner. Gives the segments that are full before `total`, and whether the
    /// present one is to be closed first: with all the duration there is, and no end (RFC 4733 §2.5.1.3).
    fn reach(&mut self, total: u32) -> (u32, bool) {
        let whole = total.saturating_sub(1) / SEGMENT;
        if self.full < whole && self.said == SEGMENT {
            self.full += 1;
        }
        let closes = self.full < whole;
        self.said = if closes { SEGMENT } else { total.saturating_sub(self.full * SEGMENT) };
        (whole, closes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: u8, duration: u16, end: bool) -> Event {
        Event { code, end, volume: 10, duration }
    }

    #[test]
    fn a_press_that_was_interrupted_goes_on_or_gives_way_to_any_other() {
        let mut carrier = EventCarrier::default();
        assert!(carrier.carry(press(5, 160, false), 9_600, 500, 8_000, 8_000).unwrap().marker);
        carrier.interrupt();
        let on = carrier.carry(press(5, 800, false), 9_600, 7_000, 8_000, 8_000).unwrap();
        assert_eq!((on.timestamp, on.marker, on.event.duration), (500, false, 800));
        assert_eq!(carrier.carry(press(6, 160, false), 9_440, 7_000, 8_000, 8_000), None, "overtaken");
        carrier.interrupt();
        let other = carrier.carry(press(6, 160, false), 9_440, 7_000, 8_000, 8_000).unwrap();
        assert_eq!((other.timestamp, other.marker), (7_000, true), "another source may count behind it");
        assert_eq!(carrier.carry(press(5, 960, true), 9_280, 7_000, 8_000, 8_000), None, "no doubt is left");
    }

    #[test]
    fn payload_reads_and_writes() {
        let bytes = [5, 0x8a, 0x03, 0x20];
        let event = Event::parse(&bytes).unwrap();
        assert_eq!(event, press(5, 800, true));
        assert_eq!(event.to_bytes(), bytes);
        assert_eq!(Event::parse(&[5, 0, 0]), None);
    }

    #[test]
    fn one_timestamp_one_marker_and_durations_in_the_new_clock() {
        let mut carrier = EventCarrier::default();
        let mut carry = |duration, end| carrier.carry(press(1, duration, end), 9_600, 500, 48_000, 8_000);
        let first = carry(960, false).unwrap();
        assert_eq!((first.timestamp, first.marker, first.event.duration), (500, true, 160));
        for step in 2..=5u16 {
            let next = carry(960 * step, false).unwrap();
            assert_eq!((next.timestamp, next.marker, next.event.duration), (500, false, 160 * step));
        }
        for _ in 0..3 {
            let end = carry(4_800, true).unwrap();
            assert_eq!((end.timestamp, end.event.end, end.event.duration), (500, true, 800));
        }
        assert!(!carrier.is_active());
    }

    #[test]
    fn an_end_is_said_three_times_whoever_says_it() {
        for repeated in 0..=2 {
            let mut carrier = EventCarrier::default();
            let mut carry = |duration, end| carrier.carry(press(1, duration, end), 0, 40, 48_000, 8_000);
            carry(960, false).unwrap();
            let end = carry(1_920, true).unwrap();
            for _ in 0..repeated {
                carry(1_920, true).unwrap();
            }
            let owed: Vec<_> = std::iter::from_fn(|| carrier.owed_end(false)).collect();
            assert_eq!(owed, vec![end; 2 - repeated]);
        }
        let mut carrier = EventCarrier::default();
        carrier.carry(press(1, 160, true), 0, 0, 8_000, 8_000).unwrap();
        carrier.carry(press(2, 160, false), 4_000, 4_000, 8_000, 8_000).unwrap();
        assert_eq!(carrier.owed_end(false), None, "the next key is pressed");
    }

    #[test]
    fn reordered_and_foreign_packets_add_nothing() {
        let mut carrier = EventCarrier::default();
        carrier.carry(press(1, 320, false), 1000, 0, 8000, 8000).unwrap();
        assert_eq!(carrier.carry(press(1, 160, false), 1000, 0, 8000, 8000), None);
        carrier.carry(press(1, 480, true), 1000, 0, 8000, 8000).unwrap();
        assert_eq!(carrier.carry(press(1, 640, false), 1000, 0, 8000, 8000), None, "it has ended");
        assert!(carrier.carry(press(2, 160, false), 3000, 77, 8000, 8000).unwrap().marker);
        assert_eq!(carrier.carry(press(1, 480, true), 1000, 0, 8000, 8000), None, "of the one before");
    }

    #[test]
    fn a_long_press_fills_segments_of_the_finer_clock_and_closes_each() {
        let mut carrier = EventCarrier::default();
        let mut sent = Vec::new();
        for step in 1..=100u16 {
            sent.push(carrier.carry(press(3, 160 * step, step == 100), 0, 1_000, 8_000, 48_000).unwrap());
        }
        assert_eq!(sent.iter().filter(|out| out.marker).count(), 1);
        let reached = |out: &Outgoing| out.timestamp - 1_000 + u32::from(out.event.duration);
        for (step, out) in (1..).zip(&sent) {
            assert_eq!((out.timestamp - 1_000) % SEGMENT, 0);
            assert_eq!(out.total, 960 * step, "two seconds are two seconds");
            let closes = u32::from(out.event.duration) == SEGMENT;
            assert!(closes || reached(out) == out.total, "packet {step}");
        }
        for pair in sent.windows(2) {
            let closed = u32::from(pair[0].event.duration) == SEGMENT && !pair[0].event.end;
            assert_eq!(pair[1].timestamp != pair[0].timestamp, closed, "a full segment, then the next");
        }
        let last = sent.last().unwrap();
        assert_eq!((last.timestamp, last.event.end), (1_000 + SEGMENT, true));
    }

    #[test]
    fn an_end_that_falls_behind_a_full_segment_is_said_after_that_is_closed() {
        let mut carrier = EventCarrier::default();
        carrier.carry(press(3, 10_900, false), 0, 0, 8_000, 48_000).unwrap();
        let closing = carrier.carry(press(3, 11_040, true), 0, 0, 8_000, 48_000).unwrap();
        assert_eq!((closing.timestamp, closing.event.duration, closing.event.end), (0, 0xffff, false));
        let repeated = carrier.carry(press(3, 11_040, true), 0, 0, 8_000, 48_000).unwrap();
        assert_eq!((repeated.timestamp, repeated.event.duration, repeated.event.end), (SEGMENT, 705, true));
        let owed: Vec<_> = std::iter::from_fn(|| carrier.owed_end(false)).collect();
        assert_eq!(owed, vec![repeated; 2]);
    }

    #[test]
    fn a_long_press_stays_one_press_through_a_finer_clock_whichever_packet_is_lost() {
        for lost in 0..75 {
            let (mut there, mut back) = (EventCarrier::default(), EventCarrier::default());
            let mut heard = Vec::new();
            for step in 1..=77u16 {
                let event = press(3, 160 * step.min(75), step >= 75);
                let fine = there.carry(event, 500, 7_000, 8_000, 48_000).unwrap();
                if step != lost + 1 {
                    heard.extend(back.carry(fine.event, fine.timestamp, 40, 48_000, 8_000));
                }
            }
            assert_eq!(heard.iter().filter(|out| out.marker).count(), 1, "{lost} lost");
            let last = heard.last().unwrap();
            assert_eq!(
                (last.timestamp, last.event.duration, last.event.end),
                (40, 12_000, true),
                "{lost} lost"
            );
        }
    }

    #[test]
    fn the_same_key_soon_after_a_press_without_an_end_is_another_press() {
        let mut carrier = EventCarrier::default();
        carrier.carry(press(3, 36_000, false), 0, 0, 48_000, 8_000).unwrap();
        assert!(carrier.carry(press(3, 960, false), 48_000, 8_000, 48_000, 8_000).unwrap().marker);
    }

    #[test]
    fn only_what_was_overtaken_is_refused() {
        let pressed = || {
            let mut carrier = EventCarrier::default();
            carrier.carry(press(1, 800, true), 90_000, 0, 8_000, 8_000).unwrap();
            carrier
        };
        assert_eq!(pressed().carry(press(2, 160, false), 51_000, 9, 8_000, 8_000), None, "4.9 s behind");
        assert!(pressed().carry(press(2, 160, false), 49_000, 9, 8_000, 8_000).unwrap().marker);
        let elsewhere = 90_000u32.wrapping_sub(1 << 30);
        assert!(pressed().carry(press(2, 160, false), elsewhere, 9, 8_000, 8_000).unwrap().marker);
        let mut another = pressed();
        another.forget_source();
        assert!(another.carry(press(2, 160, false), 89_000, 9, 8_000, 8_000).unwrap().marker);
    }

    #[test]
    fn an_end_that_never_came_is_said_three_times() {
        let mut carrier = EventCarrier::default();
        carrier.carry(press(1, 160, false), 0, 40, 8_000, 8_000).unwrap();
        carrier.carry(press(1, 320, false), 0, 40, 8_000, 8_000).unwrap();
        assert_eq!(carrier.owed_end(false), None, "it goes on");
        carrier.give_up();
        carrier.give_up();
        assert!(!carrier.is_active());
        let owed: Vec<_> = std::iter::from_fn(|| carrier.owed_end(true)).collect();
        assert_eq!(owed.len(), 3);
        assert!(
            owed.iter().all(|out| out.event == press(1, 320, true) && out.timestamp == 40 && !out.marker)
        );
    }

    #[test]
    fn segments_of_the_finer_clock_become_one_event_of_the_coarser() {
        let mut carrier = EventCarrier::default();
        let mut carry = |timestamp, duration, end| {
            carrier.carry(press(3, duration, end), timestamp, 40, 48_000, 8_000).unwrap()
        };
        carry(0, 960, false);
        let full = carry(0, 0xffff, false);
        assert_eq!((full.timestamp, full.event.duration), (40, 10_923));
        let second = carry(0xffff, 960, false);
        assert_eq!((second.timestamp, second.event.duration, second.marker), (40, 11_083, false));
        assert_eq!(carry(0xffff, 1_920, true).event.duration, 11_243);
    }
}
