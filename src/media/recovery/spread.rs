//! How long other packets of a stream may still be on their way when one has come: the longest transit of the last two
//! seconds against its own.

use std::time::{Duration, Instant};

/// The past in parts, of which the oldest is forgotten when a new one begins.
const PARTS: usize = 8;
const PART: Duration = Duration::from_millis(250);
/// A part has at least so many packets: in a pause with a sign of life every 400 ms the memory reaches further back.
const LEAST: u8 = 4;
/// What may be late beyond the latest that was seen.
const MARGIN: Duration = Duration::from_millis(3);

/// The latest transits, in units of a clock whose zero is the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The longest transit of each part; the present one is at `now`.
    longest: [i32; PARTS],
    now: u8,
    used: u8,
    packets: u8,
    began: Instant,
    /// Of all parts.
    latest: i32,
}

/// How much longer than a packet took others may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slack {
    /// The packet behind it, beyond the time between the two.
    pub after: Duration,
    /// The packet before it, if it is not there yet; zero where none can be overtaken.
    pub before: Duration,
}

impl Slack {
    /// `after` the packet that came, for packets that are sent so far apart.
    pub fn of(after: Duration, packet: Duration) -> Slack {
        Slack { after, before: (after + MARGIN).saturating_sub(packet) }
    }

    /// What is left of it after some time.
    pub fn later(self, time: Duration) -> Slack {
        Slack { after: self.after.saturating_sub(time), before: self.before.saturating_sub(time) }
    }
}

impl Spread {
    /// The first packet of a stream.
    pub fn new(transit: i32, arrival: Instant) -> Spread {
        Spread { longest: [transit; PARTS], now: 0, used: 1, packets: 1, began: arrival, latest: transit }
    }

    /// A packet with this transit came; gives by how much the longest is longer. A step beyond `second` is a clock that
    /// was set, or the end of a long stall: what was before says nothing any more.
    #[inline]
    pub fn note(&mut self, transit: i32, arrival: Instant, second: u32) -> u32 {
        if transit.wrapping_sub(self.latest).unsigned_abs() > second {
            *self = Spread::new(transit, arrival);
            return 0;
        }
        if self.packets >= LEAST && arrival.saturating_duration_since(self.began) >= PART {
            self.turn(transit, arrival);
        }
        self.packets = self.packets.saturating_add(1);
        let present = &mut self.longest[usize::from(self.now)];
        if transit.wrapping_sub(*present) > 0 {
            *present = transit;
        }
        if transit.wrapping_sub(self.latest) > 0 {
            self.latest = transit;
        }
        self.latest.wrapping_sub(transit) as u32
    }

    /// Begins a new part in the place of the oldest.
    #[cold]
    fn turn(&mut self, transit: i32, arrival: Instant) {
        self.now = (self.now + 1) % PARTS as u8;
        self.used = (self.used + 1).min(PARTS as u8);
        self.longest[usize::from(self.now)] = transit;
        (self.packets, self.began) = (0, arrival);
        self.latest = self.longest[..usize::from(self.used)]
            .iter()
            .fold(transit, |latest, part| if part.wrapping_sub(latest) > 0 { *part } else { latest });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_longest_transit_of_two_seconds_is_remembered() {
        let start = Instant::now();
        let mut spread = Spread::new(i32::MAX - 5, start);
        let mut at = |n: u32, transit: i32| {
            spread.note((i32::MAX - 5).wrapping_add(transit), start + 20 * MS * n, 8_000)
        };
        assert_eq!(at(1, 0), 0);
        assert_eq!(at(2, 320), 0, "the latest itself, beyond the end of the numbers");
        assert_eq!(at(3, 0), 320);
        assert_eq!(at(80, 100), 220);
        (81..220).for_each(|n| {
            at(n, 40);
        });
        assert_eq!(at(221, 0), 40, "forgotten");
        assert_eq!(at(222, -9_000), 0, "another clock");
        assert_eq!(at(223, -9_100), 100);
    }

    #[test]
    fn in_a_pause_the_memory_reaches_further_back() {
        let start = Instant::now();
        let mut spread = Spread::new(0, start);
        spread.note(320, start + 20 * MS, 8_000);
        for n in 1..15 {
            assert_eq!(spread.note(0, start + 400 * MS * n, 8_000), 320, "{n}");
        }
    }

    #[test]
    fn a_packet_is_waited_for_until_the_latest_would_be_here() {
        let slack = Slack::of(40 * MS, 20 * MS);
        assert_eq!((slack.after, slack.before), (40 * MS, 23 * MS));
        assert_eq!(slack.later(30 * MS), Slack { after: 10 * MS, before: Duration::ZERO });
        assert_eq!(Slack::of(10 * MS, 20 * MS).before, Duration::ZERO, "none can be overtaken");
    }
}
