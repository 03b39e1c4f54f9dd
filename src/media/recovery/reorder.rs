//! Puts packets back that others have overtaken. Nothing is held while packets come in order, nor at a gap where no
//! packet can be overtaken by what is known of their transit times, nor has been of late: then the gap is repaired at once.

use super::spread::Slack;
use super::window::{WIDEST, Window};
use crate::media::rtp::{Arrival, RtpPacket, sequence_distance};
use crate::media::transcoder::Incoming;
use std::time::{Duration, Instant};

/// The widest window's worth of 10 ms packets.
pub const SLOTS: usize = 8;
/// Longer payloads are not held: 60 ms of G.711 fit, and Opus of every rate a telephone call uses.
const LONGEST: usize = 512;

/// So many gaps that were given up are remembered: a late packet may belong in an older one.
const GAPS: usize = 4;

/// The stage in front of a decoder.
#[derive(Default)]
pub struct Reorder {
    window: Window,
    /// Created by the first packet, as the codecs are.
    shelf: Option<Box<Shelf>>,
    /// The number to be played next; it means something while packets are held.
    next: u16,
    /// The gaps that were given up last, the oldest of which is replaced next.
    given_up: [Option<GivenUp>; GAPS],
    oldest: usize,
}

/// What to do with a packet that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is the next one, with so much missing before it.
    Play(Arrival),
    /// It waits here for one before it, so long at most.
    Held(Duration),
    /// The gap it belongs in was repaired, or it was here before.
    TooLate,
    /// First release a packet, then ask again.
    MakeRoom,
}

#[derive(Debug, Clone, Copy)]
struct GivenUp {
    first: u16,
    lost: u16,
    seen: Instant,
}

struct Shelf {
    slots: [Held; SLOTS],
    used: usize,
}

/// A packet that waited.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    came: Instant,
    slack: Slack,
    /// When the packets before it are given up.
    until: Instant,
    len: usize,
    payload: [u8; LONGEST],
}

impl Held {
    fn new(packet: &RtpPacket<'_>, came: Instant, slack: Slack, until: Instant) -> Option<Held> {
        let RtpPacket { payload_type, marker, sequence, timestamp, ssrc, payload: bytes } = *packet;
        let mut payload = [0; LONGEST];
        payload.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let len = bytes.len();
        Some(Held { payload_type, marker, sequence, timestamp, ssrc, came, slack, until, len, payload })
    }

    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// The packet as it came, with what is missing before it.
    pub fn incoming(&self, arrival: Arrival, now: Instant) -> Incoming<'_> {
        let Held { payload_type, marker, sequence, timestamp, ssrc, .. } = *self;
        let payload = &self.payload[..self.len];
        Incoming {
            packet: RtpPacket { payload_type, marker, sequence, timestamp, ssrc, payload },
            arrival,
            now,
            slack: self.slack.later(now.saturating_duration_since(self.came)),
        }
    }
}

impl Reorder {
    /// Asks what to do with a packet. After [`Turn::Play`] what became playable is to be [`release`](Self::release)d.
    #[inline]
    pub fn arrive(&mut self, incoming: &Incoming<'_>) -> Turn {
        let Incoming { packet, arrival, now, .. } = incoming;
        match (self.is_empty(), arrival) {
            (_, Arrival::Duplicate | Arrival::Suspect) => Turn::TooLate,
            (true, Arrival::First | Arrival::Next) => Turn::Play(*arrival),
            (true, Arrival::Gap(lost)) => self.meet_gap(incoming, *lost),
            (true, Arrival::Late) => self.come_too_late(packet.sequence, *now),
            (false, Arrival::First) => Turn::MakeRoom,
            (false, Arrival::Next | Arrival::Gap(_) | Arrival::Late) => self.join_those_held(incoming),
        }
    }

    fn meet_gap(&mut self, incoming: &Incoming<'_>, lost: u16) -> Turn {
        let first = incoming.packet.sequence.wrapping_sub(lost);
        let patience = self.patience(incoming);
        if !patience.is_zero() && self.hold(incoming) {
            self.next = first;
            return Turn::Held(patience);
        }
        self.give_up(GivenUp { first, lost, seen: incoming.now });
        Turn::Play(Arrival::Gap(lost))
    }

    /// How long what is missing before a packet is worth waiting for.
    fn patience(&self, incoming: &Incoming<'_>) -> Duration {
        self.window.width().max(incoming.slack.before).min(WIDEST)
    }

    fn give_up(&mut self, gap: GivenUp) {
        self.given_up[self.oldest] = Some(gap);
        self.oldest = (self.oldest + 1) % GAPS;
    }

    fn join_those_held(&mut self, incoming: &Incoming<'_>) -> Turn {
        let Incoming { packet, now, .. } = *incoming;
        let ahead = sequence_distance(self.next, packet.sequence);
        if ahead < 0 {
            return self.come_too_late(packet.sequence, now);
        }
        if let Some(seen) = self.overtaken_at(packet.sequence) {
            self.window.overtaken(now.saturating_duration_since(seen));
        }
        if ahead == 0 {
            self.next = packet.sequence.wrapping_add(1);
            return Turn::Play(Arrival::Next);
        }
        if self.hold(incoming) { Turn::Held(self.patience(incoming)) } else { Turn::MakeRoom }
    }

    fn come_too_late(&mut self, sequence: u16, now: Instant) -> Turn {
        let of_it = |gap: &&GivenUp| sequence.wrapping_sub(gap.first) < gap.lost;
        if let Some(gap) = self.given_up.iter().flatten().find(of_it) {
            self.window.overtaken(now.saturating_duration_since(gap.seen));
        }
        Turn::TooLate
    }

    /// When the first packet behind this one came.
    fn overtaken_at(&self, sequence: u16) -> Option<Instant> {
        let behind = |held: &&Held| sequence_distance(sequence, held.sequence) > 0;
        self.held().iter().filter(behind).map(|held| held.came).min()
    }

    fn hold(&mut self, incoming: &Incoming<'_>) -> bool {
        let Incoming { packet, now, slack, .. } = incoming;
        let until = *now + self.patience(incoming);
        let shelf = self.shelf.get_or_insert_with(|| Shelf::empty(*now));
        let held = Held::new(packet, *now, *slack, until).filter(|_| shelf.used < SLOTS);
        let Some(held) = held else { return false };
        shelf.slots[shelf.used] = held;
        shelf.used += 1;
        true
    }

    fn held(&self) -> &[Held] {
        self.shelf.as_ref().map_or(&[], |shelf| &shelf.slots[..shelf.used])
    }

    /// Timestamp of the lowest packet that waits, and how many are missing before it.
    pub fn lowest(&self) -> Option<(u32, u16)> {
        let ahead = |held: &&Held| sequence_distance(self.next, held.sequence);
        let lowest = self.held().iter().min_by_key(ahead)?;
        Some((lowest.timestamp, ahead(&lowest).max(0) as u16))
    }

    /// True if nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.shelf.as_ref().is_none_or(|shelf| shelf.used == 0)
    }

    /// When the present gap is given up.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.held().iter().map(|held| held.until).min()
    }

    /// The next packet that need not wait any longer, and what is missing before it. `at_once`: none need.
    #[inline]
    pub fn release(&mut self, now: Instant, at_once: bool) -> Option<(Held, Arrival)> {
        if self.is_empty() {
            return None;
        }
        let due = at_once || self.poll_timeout().is_some_and(|due| due <= now);
        let shelf = self.shelf.as_mut()?;
        let ahead = |held: &Held| sequence_distance(self.next, held.sequence);
        let lowest = (0..shelf.used).min_by_key(|slot| ahead(&shelf.slots[*slot]))?;
        let held = shelf.slots[lowest];
        let lost = ahead(&held).max(0) as u16;
        if lost > 0 && !due {
            return None;
        }
        shelf.used -= 1;
        shelf.slots[lowest] = shelf.slots[shelf.used];
        if lost == 0 {
            self.next = held.sequence.wrapping_add(1);
            return Some((held, Arrival::Next));
        }
        self.window.unfilled();
        self.give_up(GivenUp { first: self.next, lost, seen: held.came });
        self.next = held.sequence.wrapping_add(1);
        Some((held, Arrival::Gap(lost)))
    }

    /// Forgets what waits: the stream is interrupted.
    pub fn clear(&mut self) {
        if let Some(shelf) = &mut self.shelf {
            shelf.used = 0;
        }
    }

    /// Makes room before the first packet has to wait: nothing is allocated once a call runs.
    #[inline]
    pub fn prepare(&mut self, now: Instant) {
        if self.shelf.is_none() {
            self.shelf = Some(Shelf::empty(now));
        }
    }
}

impl Shelf {
    fn empty(now: Instant) -> Box<Shelf> {
        let nothing = Held {
            payload_type: 0,
            marker: false,
            sequence: 0,
            timestamp: 0,
            ssrc: 0,
            came: now,
            slack: Slack::default(),
            until: now,
            len: 0,
            payload: [0; LONGEST],
        };
        Box::new(Shelf { slots: [nothing; SLOTS], used: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::reception::ReceiveStats;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    /// A stream of 20 ms packets and what is played of it.
    struct Stream {
        order: Reorder,
        stats: ReceiveStats,
        start: Instant,
        played: Vec<(u16, Arrival, Duration)>,
        late: usize,
        /// Transit times are known.
        timed: bool,
    }

    impl Stream {
        fn new() -> Stream {
            Stream {
                order: Reorder::default(),
                stats: ReceiveStats::new(8_000),
                start: Instant::now(),
                played: Vec::new(),
                late: 0,
                timed: false,
            }
        }

        fn at(&mut self, ms: u64, number: u16) {
            let now = self.start + Duration::from_millis(ms);
            while let Some(due) = self.order.poll_timeout().filter(|due| *due <= now) {
                self.drain(due, false);
            }
            let payload = number.to_be_bytes();
            let packet = RtpPacket {
                payload_type: 8,
                marker: false,
                sequence: number,
                timestamp: u32::from(number) * 160,
                ssrc: 1,
                payload: &payload,
            };
            let timestamp = self.timed.then_some(packet.timestamp);
            let arrival = self.stats.record(1, number, timestamp, now);
            loop {
                match self.order.arrive(&Incoming { packet, arrival, now, slack: self.stats.slack() }) {
                    Turn::Play(arrival) => break self.played.push((number, arrival, now - self.start)),
                    Turn::Held(_) => break,
                    Turn::TooLate => break self.late += 1,
                    Turn::MakeRoom => self.release(now, true),
                }
            }
            self.drain(now, false);
        }

        fn drain(&mut self, now: Instant, at_once: bool) {
            while self.order.release_one(now, at_once, &mut self.played, self.start) {}
        }

        fn release(&mut self, now: Instant, at_once: bool) {
            assert!(self.order.release_one(now, at_once, &mut self.played, self.start));
        }

        fn numbers(&self) -> Vec<u16> {
            self.played.iter().map(|(number, ..)| *number).collect()
        }
    }

    impl Reorder {
        fn release_one(
            &mut self,
            now: Instant,
            at_once: bool,
            played: &mut Vec<(u16, Arrival, Duration)>,
            start: Instant,
        ) -> bool {
            let Some((held, arrival)) = self.release(now, at_once) else { return false };
            let packet = held.incoming(arrival, now).packet;
            assert_eq!(packet.payload, packet.sequence.to_be_bytes(), "its own payload");
            played.push((packet.sequence, arrival, now - start));
            true
        }
    }

    #[test]
    fn without_reordering_a_gap_is_repaired_at_once() {
        let mut stream = Stream::new();
        for n in [0, 1, 2, 4, 5, 8, 9] {
            stream.at(u64::from(n) * 20, n);
        }
        let gaps: Vec<_> = stream.played.iter().map(|(_, arrival, _)| *arrival).collect();
        use Arrival::{First, Gap, Next};
        assert_eq!(gaps, [First, Next, Next, Gap(1), Next, Gap(2), Next]);
        assert!(stream.played.iter().all(|(n, _, at)| *at == 20 * MS * u32::from(*n)), "on arrival");
    }

    #[test]
    fn the_first_packet_that_is_overtaken_teaches_and_the_next_is_put_back() {
        let mut stream = Stream::new();
        stream.at(0, 0);
        stream.at(40, 2);
        stream.at(50, 1); // 10 ms behind: the gap was repaired, the window is now 15 ms
        stream.at(80, 4);
        assert_eq!(stream.numbers(), [0, 2], "4 waits for 3");
        stream.at(90, 3);
        assert_eq!(stream.numbers(), [0, 2, 3, 4]);
        assert_eq!(stream.played[3], (4, Arrival::Next, 90 * MS));
        assert_eq!(stream.late, 1);
    }

    #[test]
    fn a_gap_that_stays_is_given_up_when_the_window_ends() {
        let mut stream = Stream::new();
        for (ms, n) in [(0, 0), (40, 2), (50, 1), (80, 4), (100, 5), (120, 6)] {
            stream.at(ms, n);
        }
        assert_eq!(stream.played[2], (4, Arrival::Gap(1), 95 * MS), "15 ms after 4 came");
        assert_eq!(stream.numbers(), [0, 2, 4, 5, 6]);
        stream.at(130, 3);
        assert_eq!(stream.late, 2, "1 and 3");
        assert_eq!(stream.order.window.width(), 55 * MS, "50 ms after the gap was seen");
    }

    #[test]
    fn transit_times_alone_tell_how_long_to_wait() {
        let mut stream = Stream { timed: true, ..Stream::new() };
        // 1 takes 40 ms longer than 0, and nothing was overtaken yet.
        for (ms, n) in [(0, 0), (60, 1), (61, 2), (80, 4), (85, 3), (100, 5), (140, 7), (151, 8), (158, 6)] {
            stream.at(ms, n);
        }
        assert_eq!(stream.numbers(), [0, 1, 2, 3, 4, 5, 6, 7, 8], "all in order");
        assert_eq!(stream.late, 0);
        stream.at(200, 10);
        stream.at(230, 11);
        assert_eq!(stream.played[9], (10, Arrival::Gap(1), 223 * MS), "9 would have come by 220 ms");
        stream.at(240, 12);
        assert_eq!(stream.played[11], (12, Arrival::Next, 240 * MS));
    }

    #[test]
    fn a_late_packet_teaches_though_other_gaps_were_given_up_since() {
        let mut stream = Stream::new();
        for (ms, n) in [(0, 0), (40, 2), (80, 4), (120, 6), (121, 8), (122, 1)] {
            stream.at(ms, n);
        }
        assert_eq!(stream.order.window.width(), Duration::ZERO, "82 ms are too many");
        let mut stream = Stream::new();
        for (ms, n) in [(0, 0), (40, 2), (41, 4), (42, 6), (43, 8), (50, 1)] {
            stream.at(ms, n);
        }
        assert_eq!(stream.order.window.width(), 15 * MS);
    }

    #[test]
    fn two_gaps_heal_one_after_the_other() {
        let mut stream = Stream::new();
        for (ms, n) in [(0, 0), (40, 2), (90, 1)] {
            stream.at(ms, n);
        }
        for (ms, n) in [(100, 4), (110, 6), (115, 5), (120, 3), (125, 7)] {
            stream.at(ms, n);
        }
        assert_eq!(stream.numbers(), [0, 2, 3, 4, 5, 6, 7]);
        assert!(stream.played[2..].iter().all(|(_, arrival, _)| *arrival == Arrival::Next));
    }

    #[test]
    fn more_than_fits_is_let_go_in_order() {
        let mut stream = Stream::new();
        for (ms, n) in [(0, 0), (40, 2), (110, 1)] {
            stream.at(ms, n);
        }
        for n in 4..4 + SLOTS as u16 + 2 {
            stream.at(200 + u64::from(n), n);
        }
        assert_eq!(stream.numbers()[2], 4);
        assert_eq!(stream.numbers().len(), 2 + SLOTS + 2, "none is lost");
    }

    #[test]
    fn a_payload_that_is_too_long_to_be_held_is_played_behind_those_held() {
        let mut order = Reorder::default();
        let now = Instant::now();
        order.window.overtaken(50 * MS);
        let long = [0; LONGEST + 1];
        let packet = |sequence, payload| RtpPacket {
            payload_type: 111,
            marker: false,
            sequence,
            timestamp: 0,
            ssrc: 1,
            payload,
        };
        let slack = Slack::default();
        let held = Incoming { packet: packet(5, &long[..9]), arrival: Arrival::Gap(1), now, slack };
        assert_eq!(order.arrive(&held), Turn::Held(55 * MS));
        let next = Incoming { packet: packet(6, &long), arrival: Arrival::Next, now, slack };
        assert_eq!(order.arrive(&next), Turn::MakeRoom);
        assert_eq!(order.release(now, true).map(|(_, arrival)| arrival), Some(Arrival::Gap(1)));
        assert_eq!(order.arrive(&next), Turn::Play(Arrival::Next));
    }

    proptest! {
        #[test]
        fn whatever_the_network_does_numbers_only_rise_and_none_vanishes(
            delays in proptest::collection::vec(prop_oneof![3 => 0..70u64, 1 => Just(u64::MAX)], 2..120),
            start in any::<u16>(),
        ) {
            let mut arrivals: Vec<(u64, u16)> = delays.iter().enumerate()
                .filter(|(n, delay)| *n == 0 || **delay != u64::MAX)
                .map(|(n, delay)| (n as u64 * 20 + if n == 0 { 0 } else { *delay }, n as u16))
                .collect();
            arrivals.sort();
            let mut stream = Stream::new();
            for (ms, number) in &arrivals {
                stream.at(*ms, start.wrapping_add(*number));
            }
            stream.drain(stream.start + Duration::from_secs(60), false);
            let numbers: Vec<_> = stream.numbers().iter().map(|n| n.wrapping_sub(start)).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", numbers);
            prop_assert_eq!(numbers.len() + stream.late, arrivals.len());
            // What is said to be missing is exactly what is missing.
            for pair in stream.played.windows(2) {
                let step = pair[1].0.wrapping_sub(pair[0].0) - 1;
                prop_assert_eq!(pair[1].1, if step == 0 { Arrival::Next } else { Arrival::Gap(step) });
            }
        }
    }
}
