//! What a receiver learns from the numbers of the packets of one stream (RFC 3550 A.1, A.3, A.8).

mod claims;

use super::bursts::{Bursts, Losses};
use super::recovery::spread::{Slack, Spread};
use super::rtp::{Arrival, sequence_distance, timestamp_distance};
use super::transmit::from_clock;
use claims::Claims;
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
/// With each packet the longest pause counts for so much less: one stall of the network is forgotten in a minute or two,
/// while a voice that pauses shows its pauses again and again.
const GAP_FADES: u32 = 2_048;
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
/// The shortest packet of voice there is (RFC 6716 §2.1.4), also as a part of a second.
const SHORTEST_PACKET: Duration = Duration::from_micros(2_500);
const SHORTEST_PART: u32 = 400;
/// Packets of voice a second, of which each is the shortest that telephones send: 10 ms.
const SHORTEST_USUAL: u32 = 100;
/// No packet holds more: the longest step of the timestamps that is a packet's length and not a pause.
const LONGEST_PACKET: Duration = Duration::from_millis(120);

/// Statistics of one received stream, going on over changes of its source.
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    source: Option<Source>,
    /// The sources and positions that strange packets claim.
    claims: Claims,
    /// The source that the present one displaced, its highest number and when it was last heard.
    former: Option<(u32, u16, Instant)>,
    /// Another source is expected until then.
    expected_until: Option<Instant>,
    /// The last one that was announced.
    announced: Option<u32>,
    /// Each packet brings its own proof of who sent it (SRTP).
    authentic: bool,
    last_arrival: Option<Instant>,
    /// The longest time between two packets of this source that followed each other, of late.
    longest_gap: Duration,
    /// Transit time of the last packet in clock units and when counting began.
    transit: Option<(i32, Instant)>,
    /// Transit times of late, and by how many clock units the last packet's was shorter than the longest.
    spread: Option<Spread>,
    slack: u32,
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
            claims: Claims::default(),
            former: None,
            expected_until: None,
            announced: None,
            authentic: false,
            last_arrival: None,
            longest_gap: Duration::ZERO,
            transit: None,
            spread: None,
            slack: 0,
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
            self.spread = None;
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
                    let gap = arrival.saturating_duration_since(last);
                    self.longest_gap = gap.max(self.longest_gap - self.longest_gap / GAP_FADES);
                }
                self.last_arrival = Some(arrival);
                if let Some(timestamp) = timestamp {
                    self.note_transit(timestamp, arrival);
                }
                self.note_length(timestamp, verdict == Arrival::Next);
            }
            Arrival::Late => {
                self.last_arrival = Some(arrival);
                if let (Some(timestamp), Some((_, epoch))) = (timestamp, self.transit) {
                    self.note_spread(self.transit_of(timestamp, arrival, epoch), arrival);
                }
            }
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
            // A source that began close to zero has nothing below it: what would be is of the round before.
            let number = source.highest.checked_add_signed(ahead.into());
            let before_start = number.is_none_or(|number| number < source.base);
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
        self.claims.clear();
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
        // One that was announced, or has the key, does not give way to what is still on its way from the one before.
        let announced = self.expected_until.take().is_some_and(|until| arrival <= until) || self.authentic;
        let displaced = self.source.filter(|source| source.ssrc != ssrc && !announced);
        self.former =
            displaced.zip(self.last_arrival).map(|(old, last)| (old.ssrc, old.highest as u16, last));
        self.start(ssrc, sequence)
    }

    /// RFC 3550 A.1: two in a row are needed before a stream restarts, so that strays change nothing. Here they also
    /// have to keep time, and the known source has to be gone, unless a new SDP has announced another or the sender has
    /// the key: then it is the far side, and a switch there changes sources when it likes.
    fn is_proven(&mut self, ssrc: u32, sequence: u16, timestamp: Option<u32>, arrival: Instant) -> bool {
        let Some(claim) = self.claims.note(ssrc, sequence, timestamp, arrival) else { return false };
        if self.authentic || self.expected_until.is_some_and(|until| arrival <= until) {
            return true;
        }
        let waited = claim.waited;
        if let (Some(first), Some(latest)) = (claim.first_timestamp, timestamp) {
            let units = timestamp_distance(first, latest).max(0) as u32;
            let media = from_clock(units, self.clock_rate);
            let too_fast = media > waited + PROOF_JITTER || media < SHORTEST_PACKET * (claim.packets - 1);
            if too_fast || waited > media + 2 * PROOF_JITTER {
                self.claims.restart(claim, timestamp);
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

    /// The far side says that it speaks no more from this source: where it is the one heard, another comes next.
    pub fn note_goodbye(&mut self, ssrc: u32, now: Instant) {
        if self.ssrc() == Some(ssrc) {
            self.expect_change(now);
        }
    }

    /// The far side reports as this source: where another is heard, this one comes next. Said again it is no news: some
    /// report from another source than they speak from all the time.
    pub fn announce(&mut self, ssrc: u32, now: Instant) {
        let another = self.ssrc().is_some_and(|heard| heard != ssrc);
        if another && self.announced.replace(ssrc) != Some(ssrc) {
            self.expect_change(now);
        }
    }

    /// Says whether each packet was proven to come from the far side before it is recorded.
    pub fn set_authentic(&mut self, authentic: bool) {
        self.authentic = authentic;
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
        self.claims.clear();
        self.longest_gap = Duration::ZERO;
        self.transit = None;
        self.spread = None;
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

    /// The redundancy of a packet made up for so many others: for the last ones missed before it, for it reaches back no
    /// further than that.
    #[inline]
    pub fn note_recovered(&mut self, sequence: u16, packets: u16) {
        if packets == 0 {
            return;
        }
        let Some(source) = &mut self.source else { return };
        let behind = sequence_distance(sequence, source.highest as u16).clamp(0, MAX_MISORDER);
        let older = u64::MAX.checked_shl(behind as u32).unwrap_or(0);
        for _ in 0..packets.min(u64::BITS as u16) {
            let missed = !source.heard & (u64::MAX >> (u64::BITS - source.window())) & older;
            source.heard |= missed & missed.wrapping_neg();
        }
    }

    /// RFC 3550 A.8. Arrival is counted in microseconds, finer than any timestamp clock here needs.
    fn note_transit(&mut self, timestamp: u32, arrival: Instant) {
        let epoch = self.transit.map_or(arrival, |(_, epoch)| epoch);
        let transit = self.transit_of(timestamp, arrival, epoch);
        if let Some((before, _)) = self.transit {
            let step = transit.wrapping_sub(before).unsigned_abs();
            // A step beyond a second is the sender's clock being set, not the network.
            if step < self.clock_rate {
                self.jitter_q4 = (self.jitter_q4 + step).saturating_sub((self.jitter_q4 + 8) >> 4);
                self.jitter_known = true;
            }
        }
        self.transit = Some((transit, epoch));
        self.note_spread(transit, arrival);
    }

    fn transit_of(&self, timestamp: u32, arrival: Instant, epoch: Instant) -> i32 {
        let micros = arrival.saturating_duration_since(epoch).as_micros() as u64;
        let units = (micros * u64::from(self.clock_rate) / 1_000_000) as u32;
        units.wrapping_sub(timestamp) as i32
    }

    fn note_spread(&mut self, transit: i32, arrival: Instant) {
        let spread = self.spread.get_or_insert_with(|| Spread::new(transit, arrival));
        self.slack = spread.note(transit, arrival, self.clock_rate);
    }

    /// How much longer than the last packet others may be on their way.
    #[inline]
    pub fn slack(&self) -> Slack {
        let length = self.packet_units.unwrap_or(self.clock_rate / 50);
        Slack::of(from_clock(self.slack, self.clock_rate), from_clock(length, self.clock_rate))
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
        let mut next = after(stepped.max(clock_rate / SHORTEST_PART));
        if next > arrival + MOST_AHEAD {
            // Timestamps that jumped are a clock that was set anew, and some senders never step by what they send.
            next = after(length.min(clock_rate / SHORTEST_USUAL));
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
mod tests;
