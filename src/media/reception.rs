//! What a receiver learns from the numbers of the packets of one stream (RFC 3550 A.1, A.3, A.8).

use super::bursts::{Bursts, Losses};
use super::rtp::{Arrival, sequence_distance, timestamp_distance};
use super::transmit::from_clock;
use std::time::{Duration, Instant};

/// A jump forward up to here is loss; 3,000 packets are a minute (RFC 3550 A.1).
const MAX_DROPOUT: i16 = 3_000;
/// A packet this far behind is still a late one of this stream; also the width of the duplicate window.
const MAX_MISORDER: i16 = 64;
/// A new source is not believed, however well it counts, while the known one goes on: who floods a port with packets
/// of his own making takes over nobody's stream. It goes on for at least so long behind each packet, and for this share
/// of its packets' length or of its longest pause, whichever is longest.
const SOURCE_ALIVE: Duration = Duration::from_millis(35);
const ALIVE_PACKETS: f32 = 1.75;
const ALIVE_PAUSES: f32 = 1.25;
/// No encoder stays silent for longer without a sign of life (Opus: 400 ms).
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A new source has to keep time for so long, its timestamps within so much of the clock on the wall.
const PROOF: Duration = Duration::from_millis(40);
const PROOF_JITTER: Duration = Duration::from_millis(60);
/// A source that another one has displaced is believed at once if it comes back within this time.
const REMEMBERED: Duration = Duration::from_secs(10);
/// After a new SDP another source is expected for so long.
const EXPECTED: Duration = Duration::from_secs(2);
/// No more sound is heard from a source than time passes, but for so much; what a stall of the network held up comes
/// on top.
const MOST_AHEAD: Duration = Duration::from_secs(1);
const LONGEST_STALL: Duration = Duration::from_secs(5);
/// The shortest packet of voice anybody sends.
const SHORTEST_PACKET: Duration = Duration::from_millis(5);
/// No packet holds more: the longest step of the timestamps that is a packet's length and not a pause.
const LONGEST_PACKET: Duration = Duration::from_millis(120);

/// Statistics of one received stream, going on over changes of its source.
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    source: Option<Source>,
    /// The source or position that the last strange packets claimed.
    claimed: Option<Claim>,
    /// The source that the present one displaced, its highest number and when it was last heard.
    former: Option<(u32, u16, Instant)>,
    /// Another source is expected until then.
    expected_until: Option<Instant>,
    last_arrival: Option<Instant>,
    /// The longest time between two packets of this source that followed each other.
    longest_gap: Duration,
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

/// Packets in a row that are not of the present source.
#[derive(Debug, Clone, Copy)]
struct Claim {
    ssrc: u32,
    /// The number that confirms it.
    next: u16,
    since: Instant,
    timestamp: Option<u32>,
    packets: u32,
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
    /// Timestamp of the last voice, and when that would be due had all its sound been heard at the pace of time.
    pace: Option<(u32, Instant)>,
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
            former: None,
            expected_until: None,
            last_arrival: None,
            longest_gap: Duration::ZERO,
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
        let verdict = self.place(ssrc, sequence, timestamp, arrival);
        match verdict {
            Arrival::First | Arrival::Next | Arrival::Gap(_) => {
                if let (Arrival::Next, Some(last)) = (verdict, self.last_arrival) {
                    self.longest_gap = self.longest_gap.max(arrival.saturating_duration_since(last));
                }
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

    fn place(&mut self, ssrc: u32, sequence: u16, timestamp: Option<u32>, arrival: Instant) -> Arrival {
        let Some(source) = self.source.as_mut() else {
            return self.start(ssrc, sequence);
        };
        let ahead = sequence_distance(source.highest as u16, sequence);
        if ssrc != source.ssrc || !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            return self.meet_other(ssrc, sequence, timestamp, arrival);
        }
        if let Some(timestamp) = timestamp.filter(|_| ahead > 0) {
            let length = self.packet_units.unwrap_or(self.clock_rate / 50);
            if !source.keeps_pace(timestamp, arrival, length, self.clock_rate) {
                return Arrival::Suspect;
            }
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

    /// A packet that is not of the present source, or is somewhere else in its numbers.
    #[cold]
    fn meet_other(&mut self, ssrc: u32, sequence: u16, timestamp: Option<u32>, arrival: Instant) -> Arrival {
        let returns = self.former.is_some_and(|(former, highest, heard)| {
            former == ssrc
                && (1..=MAX_DROPOUT).contains(&sequence_distance(highest, sequence))
                && arrival.saturating_duration_since(heard) <= REMEMBERED
        });
        if returns {
            // Who had displaced it has to prove itself anew.
            self.former = None;
            return self.start(ssrc, sequence);
        }
        if !self.is_proven(ssrc, sequence, timestamp, arrival) {
            return Arrival::Suspect;
        }
        self.expected_until = None;
        let displaced = self.source.filter(|source| source.ssrc != ssrc);
        self.former =
            displaced.zip(self.last_arrival).map(|(old, last)| (old.ssrc, old.highest as u16, last));
        self.start(ssrc, sequence)
    }

    /// RFC 3550 A.1: two in a row are needed before a stream restarts, so that strays change nothing. Here they also
    /// have to keep time, and the known source has to be gone, unless a new SDP has announced another.
    fn is_proven(&mut self, ssrc: u32, sequence: u16, timestamp: Option<u32>, arrival: Instant) -> bool {
        let begun = Claim { ssrc, next: sequence.wrapping_add(1), since: arrival, timestamp, packets: 1 };
        let known = self.claimed.filter(|claim| (claim.ssrc, claim.next) == (ssrc, sequence));
        let Some(mut claim) = known.filter(|claim| claim.timestamp.is_some() == timestamp.is_some()) else {
            self.claimed = Some(begun);
            return false;
        };
        claim.next = begun.next;
        claim.packets += 1;
        self.claimed = Some(claim);
        if self.expected_until.is_some_and(|until| arrival <= until) {
            return true;
        }
        let waited = arrival.saturating_duration_since(claim.since);
        if let (Some(first), Some(timestamp)) = (claim.timestamp, timestamp) {
            let units = timestamp_distance(first, timestamp).max(0) as u32;
            let media = from_clock(units, self.clock_rate);
            let too_fast = media > waited + PROOF_JITTER || media < SHORTEST_PACKET * (claim.packets - 1);
            if too_fast || waited > media + 2 * PROOF_JITTER {
                self.claimed = Some(begun);
                return false;
            }
            if media < PROOF {
                return false;
            }
        }
        let quiet = self.last_arrival.map_or(Duration::MAX, |last| arrival.saturating_duration_since(last));
        waited >= PROOF && quiet > self.alive()
    }

    /// How long the present source may be quiet without being gone.
    fn alive(&self) -> Duration {
        let packet = self.packet_ms().unwrap_or(0.0) * ALIVE_PACKETS;
        let pause = self.longest_gap.min(LONGEST_PAUSE).mul_f32(ALIVE_PAUSES);
        SOURCE_ALIVE.max(Duration::from_secs_f32(packet / 1000.0)).max(pause)
    }

    /// A new SDP may bring another source: it needs no proof but two packets in a row.
    pub fn expect_change(&mut self, now: Instant) {
        self.expected_until = Some(now + EXPECTED);
    }

    /// True if nothing was heard for so long.
    pub fn is_quiet(&self, now: Instant, time: Duration) -> bool {
        self.last_arrival.is_none_or(|last| now.saturating_duration_since(last) >= time)
    }

    fn start(&mut self, ssrc: u32, sequence: u16) -> Arrival {
        if let Some(old) = self.source.take() {
            self.expected_before += old.expected();
            self.unique_before += old.unique;
            old.settle(&mut self.bursts);
        }
        let first = u32::from(sequence);
        let begun = Source {
            ssrc,
            base: first,
            highest: first,
            seen: 1,
            heard: 1,
            unique: 1,
            received: 1,
            pace: None,
        };
        self.source = Some(begun);
        self.claimed = None;
        self.longest_gap = Duration::ZERO;
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

    /// False for voice that is more than any ear could have heard in the time that passed.
    #[inline]
    fn keeps_pace(&mut self, timestamp: u32, arrival: Instant, length: u32, clock_rate: u32) -> bool {
        let Some((before, due)) = self.pace else {
            self.pace = Some((timestamp, arrival));
            return true;
        };
        // A clock may run fast by a thousandth.
        let after = |units: u32| due + from_clock(units - units / 1024, clock_rate);
        let stepped = timestamp_distance(before, timestamp).max(0) as u32;
        let shortest = clock_rate / 1000 * SHORTEST_PACKET.as_millis() as u32;
        let mut next = after(stepped.max(shortest));
        if next > arrival + MOST_AHEAD {
            // Timestamps that jumped are a clock that was set anew.
            next = after(length);
            if next > arrival + MOST_AHEAD {
                return false;
            }
        }
        let earliest = arrival.checked_sub(LONGEST_STALL).unwrap_or(next);
        self.pace = Some((timestamp, next.max(earliest)));
        true
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
    fn a_stray_source_changes_nothing_and_a_new_one_is_believed_once_it_keeps_time() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        stats.record(1, 100, Some(0), now);
        for stray in 0..1000u32 {
            let verdict = stats.record(stray + 10, (stray * 7) as u16, Some(stray), now);
            assert_eq!(verdict, Arrival::Suspect);
        }
        assert_eq!(stats.record(1, 101, Some(160), now + 20 * MS), Arrival::Next);
        let mut at =
            |n: u16| stats.record(2, 5000 + n, Some(u32::from(n) * 160), now + MS * (30 + 20 * u32::from(n)));
        assert_eq!((at(0), at(1), at(2)), (Arrival::Suspect, Arrival::Suspect, Arrival::First));
        assert_eq!(at(3), Arrival::Next);
        assert_eq!(stats.lost(), 0);
        assert_eq!(
            stats.record(1, 102, Some(320), now + 95 * MS),
            Arrival::First,
            "the old one was there after all"
        );
    }

    #[test]
    fn a_jump_within_a_source_restarts_it_without_counting_loss() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        stats.record(1, 0, Some(0), now);
        let mut at = |n: u16| {
            stats.record(1, 20_000 + n, Some(u32::from(n) * 160), now + MS * (20 + 20 * u32::from(n)))
        };
        assert_eq!((at(0), at(1), at(2)), (Arrival::Suspect, Arrival::Suspect, Arrival::First));
        assert_eq!((stats.lost(), stats.expected()), (0, 2));
    }

    #[test]
    fn who_counts_well_but_keeps_no_time_is_not_believed_in_any_pause() {
        for gap in [20u32, 40, 60, 400] {
            let mut stats = ReceiveStats::new(8000);
            let start = Instant::now();
            let mut number = 0u16;
            for n in 0..100u32 {
                let now = start + MS * gap * n;
                let arrival = stats.record(1, n as u16, Some(n * gap * 8), now);
                assert_eq!(arrival, if n == 0 { Arrival::First } else { Arrival::Next }, "{gap} ms");
                for k in 0..gap * 10 {
                    number = number.wrapping_add(1);
                    // Timestamps that stand still, and ones that run away.
                    let timestamp = if n % 2 == 0 { 77 } else { u32::from(number) * 160 };
                    let verdict = stats.record(2, number, Some(timestamp), now + MS * k / 10);
                    assert_eq!(verdict, Arrival::Suspect, "{gap} ms, packet {n}, {k}");
                }
            }
            assert_eq!((stats.lost(), stats.unique()), (0, 100));
        }
    }

    #[test]
    fn a_source_that_is_known_to_pause_is_waited_for_and_comes_back_at_once() {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        let say = |stats: &mut ReceiveStats, ssrc, n: u16, ms: u32| {
            stats.record(ssrc, n, Some(ms * 8), start + MS * ms)
        };
        for n in 0..5u16 {
            say(&mut stats, 1, n, 400 * u32::from(n));
        }
        // Somebody keeps time well in its next pause.
        for n in 0..18u16 {
            assert_eq!(say(&mut stats, 2, n, 1_620 + 20 * u32::from(n)), Arrival::Suspect, "{n}");
        }
        assert_eq!(say(&mut stats, 1, 5, 2_000), Arrival::Next);
        // Now it is gone for good: the other one is believed after all.
        let believed =
            (0..50u16).find(|n| say(&mut stats, 2, 100 + n, 2_020 + 20 * u32::from(*n)) == Arrival::First);
        assert!(believed.is_some_and(|n| n <= 26), "{believed:?}");
        assert_eq!(say(&mut stats, 1, 7, 2_800), Arrival::First);
    }

    #[test]
    fn a_new_sdp_has_another_source_believed_with_its_second_packet() {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        stats.record(1, 0, Some(0), start);
        stats.record(1, 1, Some(160), start + 20 * MS);
        stats.expect_change(start + 20 * MS);
        assert_eq!(stats.record(2, 9, Some(7), start + 25 * MS), Arrival::Suspect);
        assert_eq!(stats.record(2, 10, Some(167), start + 45 * MS), Arrival::First);
        assert_eq!(stats.record(3, 9, Some(7), start + 50 * MS), Arrival::Suspect);
        assert_eq!(stats.record(3, 10, Some(167), start + 55 * MS), Arrival::Suspect, "once");
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
