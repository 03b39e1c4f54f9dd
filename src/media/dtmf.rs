//! Key presses as telephone-event packets (RFC 4733): read, carried from one clock to another, written.

pub mod detector;
pub mod listening;

use super::timeline::rescale;

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
}

/// How often the end of a press is said: a far side that misses it hears the key for ever (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;

/// Carries events from one leg to the other.
#[derive(Debug, Clone, Default)]
pub struct EventCarrier {
    current: Option<Carried>,
    /// The end of the last press, and how often it is still to be said.
    owed: Option<(Outgoing, u8)>,
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
        let mut current = match self.current {
            Some(known) if known.from == timestamp && known.code == event.code => known,
            Some(known) if known.goes_on_at(timestamp, event.code) => Carried {
                from: timestamp,
                before: known.before.saturating_add(timestamp.wrapping_sub(known.from)),
                last_duration: 0,
                ..known
            },
            Some(known) if (timestamp.wrapping_sub(known.from) as i32) < 0 => return None,
            Some(_) | None => {
                marker = true;
                let code = event.code;
                Carried { code, from: timestamp, before: 0, to: start, ended: false, last_duration: 0 }
            }
        };
        // Within an event time only grows; a reordered packet adds nothing (RFC 4733 §2.5.2.2), an ended one is over.
        let stale = event.duration < current.last_duration || (current.ended && !event.end);
        if stale {
            return None;
        }
        current.ended = event.end;
        current.last_duration = event.duration;
        self.current = Some(current);
        let total = rescale(current.before.saturating_add(event.duration.into()), from_rate, to_rate);
        // A finer clock runs out of its 16 bits sooner: whole segments before this one.
        let segments = total.saturating_sub(1) / SEGMENT;
        let outgoing = Outgoing {
            event: Event { duration: (total - segments * SEGMENT) as u16, ..event },
            timestamp: current.to.wrapping_add(segments * SEGMENT),
            marker,
            total,
        };
        self.owed = match self.owed {
            Some((owed, left)) if event.end && owed.timestamp == outgoing.timestamp => {
                Some((owed, left.checked_sub(1)?))
            }
            Some(_) | None => event.end.then_some((Outgoing { marker: false, ..outgoing }, ENDS - 1)),
        };
        Some(outgoing)
    }

    /// An end that the source did not repeat, or under the same sequence number only, which counts as one packet: to be
    /// said once more now.
    pub fn owed_end(&mut self) -> Option<Outgoing> {
        let (outgoing, left) = self.owed.as_mut().filter(|(_, left)| *left > 0)?;
        *left -= 1;
        Some(*outgoing)
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
}

impl Carried {
    /// A long press goes on in a segment that starts where the one before ran full.
    fn goes_on_at(&self, timestamp: u32, code: u8) -> bool {
        let ahead = timestamp.wrapping_sub(self.from);
        !self.ended && code == self.code && ahead == u32::from(self.last_duration) && ahead > SEGMENT / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: u8, duration: u16, end: bool) -> Event {
        Event { code, end, volume: 10, duration }
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
            let owed: Vec<_> = std::iter::from_fn(|| carrier.owed_end()).collect();
            assert_eq!(owed, vec![end; 2 - repeated]);
        }
        let mut carrier = EventCarrier::default();
        carrier.carry(press(1, 160, true), 0, 0, 8_000, 8_000).unwrap();
        carrier.carry(press(2, 160, false), 4_000, 4_000, 8_000, 8_000).unwrap();
        assert_eq!(carrier.owed_end(), None, "the next key is pressed");
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
    fn a_long_press_fills_segments_of_the_finer_clock() {
        let mut carrier = EventCarrier::default();
        let mut last = 0;
        for step in 1..=100u16 {
            let out = carrier.carry(press(3, 160 * step, false), 0, 1_000, 8_000, 48_000).unwrap();
            let reached = out.timestamp.wrapping_sub(1_000) + u32::from(out.event.duration);
            assert_eq!(reached, 960 * u32::from(step), "two seconds are two seconds");
            assert_eq!((out.timestamp - 1_000) % SEGMENT, 0);
            assert_eq!(out.marker, step == 1);
            assert!(reached > last);
            last = reached;
        }
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
