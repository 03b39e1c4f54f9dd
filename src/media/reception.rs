//! What a receiver learns from the numbers of the packets of one stream (RFC 3550 A.1, A.3, A.8).

use super::bursts::{Bursts, Losses};
use super::rtp::{Arrival, sequence_distance, timestamp_distance};
use std::time::{Duration, Instant};

/// A jump forward up to here is loss; 3,000 packets are a minute (RFC 3550 A.1).
const MAX_DROPOUT: i16 = 3_000;
/// A packet this far behind is still a late one of this stream; also the width of the duplicate window.
const MAX_MISORDER: i16 = 64;
/// A new source is believed at once if the known one has been quiet for this long.
const SOURCE_SILENCE: Duration = Duration::from_millis(100);
/// A new source is not believed, however well it counts, while the known one goes on: who floods a port with packets
/// of his own making takes over nobody's stream. Longer than the usual packets of 20 or 30 ms are apart.
const SOURCE_ALIVE: Duration = Duration::from_millis(35);
/// No packet holds more: the longest step of the timestamps that is a packet's length and not a pause.
const LONGEST_PACKET: Duration = Duration::from_millis(120);

/// Statistics of one received stream, going on over changes of its source.
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    source: Option<Source>,
    /// A source or position that one packet claimed; the packet after it confirms it.
    claimed: Option<(u32, u16)>,
    last_arrival: Option<Instant>,
    /// Transit time of the last packet in clock units and when counting began.
    transit: Option<(i32, Instant)>,
    /// Timestamp of the packet before, if it was the one right before.
    last_timestamp: Option<u32>,
    /// Length of a packet in clock units, as the last two showed it.
    packet_units: Option<u32>,
    clock_rate: u32,
    /// Sixteen times the jitter in clock units, as RFC 3550 A.8 keeps it.
    jitter_q4: u32,
    jitter_known: bool,
    /// Of sources before the present one.
    expected_before: u64,
    unique_before: u64,
    duplicates: u64,
    late: u64,
    /// Packets that have left the window, as they were heard.
    bursts: Bursts,
    prior: Interval,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    base: u32,
    /// Highest number seen, with the count of wraps above it.
    highest: u32,
    /// Which of the 64 numbers up to the highest were seen; bit 0 is the highest.
    seen: u64,
    /// Which of them were heard: they came in time and their codec took them, or repair made up for them.
    heard: u64,
    unique: u64,
    /// RFC 3550's `received`: duplicates count.
    received: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    expected: u64,
    received: u64,
}

/// The part of a reception report that describes our receiving (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    pub ssrc: u32,
    pub fraction_lost: u8,
    pub cumulative_lost: i32,
    pub highest_sequence: u32,
    pub jitter: u32,
}

impl ReceiveStats {
    /// `clock_rate` in Hz is the unit of the timestamps.
    pub fn new(clock_rate: u32) -> ReceiveStats {
        ReceiveStats {
            source: None,
            claimed: None,
            last_arrival: None,
            transit: None,
            last_timestamp: None,
            packet_units: None,
            clock_rate,
            jitter_q4: 0,
            jitter_known: false,
            expected_before: 0,
            unique_before: 0,
            duplicates: 0,
            late: 0,
            bursts: Bursts::default(),
            prior: Interval::default(),
        }
    }

    /// Changes the unit of the timestamps; jitter starts anew, counts go on.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        if clock_rate != self.clock_rate {
            self.clock_rate = clock_rate;
            self.transit = None;
            self.last_timestamp = None;
            self.packet_units = None;
            self.jitter_q4 = 0;
            self.jitter_known = false;
        }
    }

    /// Notes a packet and says how it stands to those before it. `timestamp` is `None` for packets whose timestamp
    /// does not advance with time (telephone events).
    pub fn record(&mut self, ssrc: u32, sequence: u16, timestamp: Option<u32>, arrival: Instant) -> Arrival {
        let verdict = self.place(ssrc, sequence, arrival);
        match verdict {
            Arrival::First | Arrival::Next | Arrival::Gap(_) => {
                self.last_arrival = Some(arrival);
                if let Some(timestamp) = timestamp {
                    self.note_transit(timestamp, arrival);
                }
                self.note_length(timestamp, verdict == Arrival::Next);
            }
            Arrival::Late => self.last_arrival = Some(arrival),
            Arrival::Duplicate | Arrival::Suspect => {}
        }
        verdict
    }

    fn place(&mut self, ssrc: u32, sequence: u16, arrival: Instant) -> Arrival {
        let Some(source) = self.source.as_mut() else {
            return self.start(ssrc, sequence);
        };
        let ahead = sequence_distance(source.highest as u16, sequence);
        if ssrc != source.ssrc || !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            let quiet =
                self.last_arrival.map_or(Duration::MAX, |last| arrival.saturating_duration_since(last));
            // RFC 3550 A.1: two in a row are needed before a stream restarts, so that strays change nothing.
            let confirmed = self.claimed == Some((ssrc, sequence)) && quiet > SOURCE_ALIVE;
            if confirmed || (quiet > SOURCE_SILENCE && ssrc != source.ssrc) {
                return self.start(ssrc, sequence);
            }
            self.claimed = Some((ssrc, sequence.wrapping_add(1)));
            return Arrival::Suspect;
        }
        source.received += 1;
        if ahead <= 0 {
            let bit = 1u64.checked_shl(u32::from(ahead.unsigned_abs())).unwrap_or(0);
            let before_start = source.highest.wrapping_add_signed(ahead.into()) < source.base;
            if bit == 0 || source.seen & bit != 0 || before_start {
                self.duplicates += 1;
                return Arrival::Duplicate;
            }
            source.seen |= bit;
            source.unique += 1;
            self.late += 1;
            return Arrival::Late;
        }
        source.advance(ahead as u32, &mut self.bursts);
        self.claimed = None;
        if ahead == 1 { Arrival::Next } else { Arrival::Gap(ahead as u16 - 1) }
    }

    fn start(&mut self, ssrc: u32, sequence: u16) -> Arrival {
        if let Some(old) = self.source.take() {
            self.expected_before += old.expected();
            self.unique_before += old.unique;
            old.settle(&mut self.bursts);
        }
        let first = u32::from(sequence);
        let begun = Source { ssrc, base: first, highest: first, seen: 1, heard: 1, unique: 1, received: 1 };
        self.source = Some(begun);
        self.claimed = None;
        self.transit = None;
        self.last_timestamp = None;
        self.prior = Interval::default();
        Arrival::First
    }

    /// Says whether a packet was heard after all. A packet that came in order is taken for heard until then, one that
    /// came late or never is not.
    #[inline]
    pub fn note_heard(&mut self, sequence: u16, heard: bool) {
        let Some(source) = &mut self.source else { return };
        let behind = sequence_distance(sequence, source.highest as u16);
        if !(0..MAX_MISORDER).contains(&behind) {
            return;
        }
        let bit = 1u64 << behind;
        source.heard = if heard { source.heard | bit } else { source.heard & !bit };
    }

    /// Redundancy made up for so many packets: for the last ones missed, for it reaches back no further than that.
    #[inline]
    pub fn note_recovered(&mut self, packets: u16) {
        let Some(source) = &mut self.source else { return };
        for _ in 0..packets.min(u64::BITS as u16) {
            let missed = !source.heard & (u64::MAX >> (u64::BITS - source.window()));
            source.heard |= missed & missed.wrapping_neg();
        }
    }

    /// RFC 3550 A.8. Arrival is counted in microseconds, finer than any timestamp clock here needs.
    fn note_transit(&mut self, timestamp: u32, arrival: Instant) {
        let epoch = self.transit.map_or(arrival, |(_, epoch)| epoch);
        let micros = arrival.saturating_duration_since(epoch).as_micros() as u64;
        let units = (micros * u64::from(self.clock_rate) / 1_000_000) as u32;
        let transit = units.wrapping_sub(timestamp) as i32;
        if let Some((before, _)) = self.transit {
            let step = transit.wrapping_sub(before).unsigned_abs();
            // A step beyond a second is the sender's clock being set, not the network.
            if step < self.clock_rate {
                self.jitter_q4 = (self.jitter_q4 + step).saturating_sub((self.jitter_q4 + 8) >> 4);
                self.jitter_known = true;
            }
        }
        self.transit = Some((transit, epoch));
    }

    fn note_length(&mut self, timestamp: Option<u32>, follows: bool) {
        if let (true, Some(before), Some(timestamp)) = (follows, self.last_timestamp, timestamp) {
            let step = timestamp_distance(before, timestamp);
            if step > 0 && step as u32 <= self.clock_rate / 1000 * LONGEST_PACKET.as_millis() as u32 {
                self.packet_units = Some(step as u32);
            }
        }
        self.last_timestamp = timestamp;
    }

    /// Packets that never came, of all sources so far.
    pub fn lost(&self) -> u64 {
        let (expected, unique) = self.totals();
        expected.saturating_sub(unique)
    }

    /// Packets there should have been, of all sources so far.
    pub fn expected(&self) -> u64 {
        self.totals().0
    }

    /// Packets that came, each counted once.
    pub fn unique(&self) -> u64 {
        self.totals().1
    }

    /// Packets that came twice.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came behind a later one.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn totals(&self) -> (u64, u64) {
        let (expected, unique) = self.source.map_or((0, 0), |source| (source.expected(), source.unique));
        (self.expected_before + expected, self.unique_before + unique)
    }

    /// What the ear missed, after repair, and how it was spread.
    pub fn losses(&self) -> Losses {
        let mut bursts = self.bursts;
        if let Some(source) = self.source {
            source.settle(&mut bursts);
        }
        bursts.losses()
    }

    /// Length of the packets received, in milliseconds; `None` before two followed each other.
    pub fn packet_ms(&self) -> Option<f32> {
        self.packet_units.map(|units| units as f32 * 1000.0 / self.clock_rate as f32)
    }

    /// Interarrival jitter in milliseconds; `None` before two packets could be compared.
    pub fn jitter_ms(&self) -> Option<f32> {
        self.jitter_known.then(|| (self.jitter_q4 as f32 / 16.0) * 1000.0 / self.clock_rate as f32)
    }

    /// The source heard at present.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.map(|source| source.ssrc)
    }

    /// The next reception report; its loss fraction covers the time since the last call (RFC 3550 A.3).
    pub fn reception(&mut self) -> Option<Reception> {
        let source = self.source?;
        let (expected, received) = (source.expected(), source.received);
        let expected_now = expected.saturating_sub(self.prior.expected);
        let received_now = received.saturating_sub(self.prior.received);
        self.prior = Interval { expected, received };
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now << 8).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let cumulative = (expected as i64 - received as i64).clamp(-0x80_0000, 0x7f_ffff) as i32;
        Some(Reception {
            ssrc: source.ssrc,
            fraction_lost,
            cumulative_lost: cumulative,
            highest_sequence: source.highest,
            jitter: self.jitter_q4 >> 4,
        })
    }
}

impl Source {
    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.base)) + 1
    }

    /// How many bits of the window stand for packets of this source.
    fn window(&self) -> u32 {
        self.expected().min(u64::from(u64::BITS)) as u32
    }

    /// Moves the window up; what leaves it is final.
    #[inline]
    fn advance(&mut self, ahead: u32, bursts: &mut Bursts) {
        let leaving = u64::BITS.saturating_sub(ahead)..self.window();
        leaving.rev().for_each(|bit| bursts.note(self.heard >> bit & 1 == 1));
        // Beyond a whole window nothing can come late any more.
        (u64::BITS..ahead).for_each(|_| bursts.note(false));
        self.highest = self.highest.wrapping_add(ahead);
        self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
        self.heard = self.heard.checked_shl(ahead).unwrap_or(0) | 1;
        self.unique += 1;
    }

    /// Adds what is still in the window.
    fn settle(&self, bursts: &mut Bursts) {
        (0..self.window()).rev().for_each(|bit| bursts.note(self.heard >> bit & 1 == 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn loss_duplicates_and_reordering_are_told_apart() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        let mut at = |sequence: u16| stats.record(1, sequence, None, now);
        assert_eq!(at(65_534), Arrival::First);
        assert_eq!(at(65_535), Arrival::Next);
        assert_eq!(at(2), Arrival::Gap(2));
        assert_eq!(at(1), Arrival::Late);
        assert_eq!(at(1), Arrival::Duplicate);
        assert_eq!(at(2), Arrival::Duplicate);
        assert_eq!(at(65_533), Arrival::Duplicate, "before the first one");
        assert_eq!(at(3), Arrival::Next);
        assert_eq!((stats.lost(), stats.expected(), stats.unique()), (1, 6, 5));
        assert_eq!((stats.late(), stats.duplicates()), (1, 3));
    }

    #[test]
    fn a_stray_source_changes_nothing_and_a_new_one_is_believed_on_its_second_packet() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        stats.record(1, 100, None, now);
        for stray in 0..1000u32 {
            let verdict = stats.record(stray + 10, (stray * 7) as u16, None, now);
            assert_eq!(verdict, Arrival::Suspect);
        }
        assert_eq!(stats.record(1, 101, None, now), Arrival::Next);
        let changed = now + 40 * MS;
        assert_eq!(stats.record(2, 5000, None, changed), Arrival::Suspect);
        assert_eq!(stats.record(2, 5001, None, changed), Arrival::First);
        assert_eq!(stats.lost(), 0);
        assert_eq!(stats.record(3, 1, None, now + 240 * MS), Arrival::First, "the old one has been quiet");
    }

    #[test]
    fn a_jump_within_a_source_restarts_it_without_counting_loss() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        stats.record(1, 0, None, now);
        let jumped = now + 40 * MS;
        assert_eq!(stats.record(1, 20_000, None, jumped), Arrival::Suspect);
        assert_eq!(stats.record(1, 20_001, None, jumped), Arrival::First);
        assert_eq!((stats.lost(), stats.expected()), (0, 2));
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        assert_eq!(stats.jitter_ms(), None);
        // Every other packet is 10 ms late: |D| is always 10 ms, so jitter tends to 10 ms.
        for n in 0..400u32 {
            let late = if n % 2 == 1 { 10 * MS } else { Duration::ZERO };
            stats.record(1, n as u16, Some(n * 160), start + 20 * MS * n + late);
        }
        let jitter = stats.jitter_ms().unwrap();
        assert!((9.0..=10.1).contains(&jitter), "{jitter}");
    }

    #[test]
    fn a_reception_report_covers_its_interval() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        for sequence in (0..100u16).filter(|n| n % 4 != 3) {
            stats.record(1, sequence, None, now);
        }
        let report = stats.reception().unwrap();
        assert_eq!(report.highest_sequence, 98);
        assert_eq!(report.cumulative_lost, 24);
        assert_eq!(report.fraction_lost, (24 * 256 / 99) as u8);
        stats.record(1, 99, None, now);
        assert_eq!(stats.reception().unwrap().fraction_lost, 0, "a new interval");
    }

    #[test]
    fn a_flood_that_counts_well_takes_over_no_stream_that_goes_on() {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        for n in 0..200u32 {
            let now = start + 20 * MS * n;
            let arrival = stats.record(1, n as u16, Some(n * 160), now);
            assert_eq!(arrival, if n == 0 { Arrival::First } else { Arrival::Next });
            for k in 0..200u32 {
                // Another source, or the known one somewhere else in its numbers.
                let (ssrc, sequence) = if n % 2 == 0 { (2, k as u16) } else { (1, 30_000 + k as u16) };
                assert_eq!(stats.record(ssrc, sequence, Some(k), now + MS * k / 11), Arrival::Suspect);
            }
        }
        assert_eq!((stats.lost(), stats.unique()), (0, 200));
    }

    #[test]
    fn the_ear_misses_what_never_came_came_too_late_or_could_not_be_decoded_and_repair_gives_back() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        for n in 0..200u16 {
            if !matches!(n, 20 | 50 | 51 | 80) {
                stats.record(1, n, None, now);
            }
            match n {
                52 => stats.note_recovered(1), // 51, from its redundancy
                81 => assert_eq!(stats.record(1, 80, None, now), Arrival::Late), // too late to be played
                100 => stats.note_heard(100, false), // refused by its decoder
                _ => {}
            }
        }
        assert_eq!(stats.lost(), 3, "20, 50 and 51");
        assert_eq!(stats.losses().missed, 4, "20, 50, 80 and 100");
        assert_eq!(stats.losses().packets, 200);
        stats.record(1, 210, None, now);
        assert_eq!(stats.losses().missed, 4 + 10);
        stats.note_recovered(9);
        assert_eq!((stats.losses().missed, stats.losses().runs), (4 + 1, 5));
        stats.note_recovered(1_000);
        assert_eq!(stats.losses().packets, 211, "no more than was missed");
    }

    #[test]
    fn losses_are_the_same_whether_they_left_the_window_or_not() {
        let now = Instant::now();
        let mut stats = ReceiveStats::new(8000);
        for n in (0..1000u16).filter(|n| n % 50 >= 5) {
            stats.record(1, n, None, now);
        }
        // The first five never were expected.
        let losses = stats.losses();
        assert_eq!((losses.packets, losses.missed, losses.runs), (995, 95, 19));
        stats.record(1, 1100, None, now);
        let losses = stats.losses();
        assert_eq!((losses.packets, losses.missed, losses.runs), (1096, 95 + 100, 20));
    }

    #[test]
    fn the_length_of_packets_shows_in_their_timestamps() {
        let now = Instant::now();
        let mut stats = ReceiveStats::new(48_000);
        stats.record(1, 1, Some(0), now);
        assert_eq!(stats.packet_ms(), None);
        stats.record(1, 2, Some(2_880), now);
        assert_eq!(stats.packet_ms(), Some(60.0));
        stats.record(1, 3, Some(48_000), now);
        stats.record(1, 5, Some(48_960), now);
        assert_eq!(stats.packet_ms(), Some(60.0), "neither a pause nor a gap is a length");
    }

    proptest! {
        #[test]
        fn counts_stay_consistent(sequences in proptest::collection::vec(any::<u16>(), 1..300)) {
            let mut stats = ReceiveStats::new(48_000);
            let now = Instant::now();
            for sequence in sequences {
                stats.record(1, sequence, Some(u32::from(sequence) * 960), now);
                prop_assert!(stats.unique() <= stats.expected());
                prop_assert_eq!(stats.lost(), stats.expected() - stats.unique());
            }
        }
    }
}
