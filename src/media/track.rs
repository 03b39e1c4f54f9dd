//! Says where each packet of a received stream belongs in the stream we make of it, and what is missing before it.

use super::rtp::{Arrival, timestamp_distance};
use super::timeline::Timeline;
use super::transmit::{from_clock, in_clock};
use std::time::{Duration, Instant};

/// Timestamps that run ahead of the wall clock by more than this mean a new source behind the same numbers.
const BREAK: Duration = Duration::from_secs(1);
/// More than this is never played late: what a stall of the network held up for longer is left out, and a sender whose
/// timestamps run behind its packets is followed anew.
const MAX_SHIFT: Duration = Duration::from_millis(400);
/// A packet that comes so much later than the one before it ends a stall; the stall is over once packets come so close
/// to their time again.
const STALL: Duration = Duration::from_millis(100);
const CAUGHT_UP: Duration = Duration::from_millis(20);
/// Packets that were held up come faster than they were made. Where so long after a stall they do not, it was none: a
/// source began anew, or its way became longer.
const WATCH: Duration = Duration::from_millis(100);

/// The place of the next samples on our timeline. Packets that arrive in order are always played, at their true time if
/// it has not passed, else right behind what was played; the delay this builds up is given back at the next gap.
#[derive(Debug, Clone)]
pub struct Track {
    from_rate: u32,
    to_rate: u32,
    timeline: Option<Timeline>,
    /// Right behind everything played so far, in units of our clock.
    position: u32,
    /// By how much the stream is played behind its true time.
    shift: u32,
    begun: bool,
    /// Arrival and timestamp of the last packet.
    last: Option<(Instant, u32)>,
    stall: Option<Stall>,
}

/// Packets that come late all at once.
#[derive(Debug, Clone, Copy)]
struct Stall {
    /// How much later they come than before the stall.
    lag: Duration,
    /// The same when we last looked whether it falls.
    watched: (Instant, Duration),
}

/// The verdict about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Play it after filling so many units of our clock.
    Play { missing: u32 },
    /// The same, but it has nothing to do with what was before.
    Restart { missing: u32 },
    /// Its time has passed.
    TooLate,
}

impl Track {
    pub fn new(from_rate: u32, to_rate: u32) -> Track {
        Track {
            from_rate,
            to_rate,
            timeline: None,
            position: 0,
            shift: 0,
            begun: false,
            last: None,
            stall: None,
        }
    }

    /// Forgets the relation of the two streams; the next packet establishes it anew.
    pub fn forget(&mut self) {
        self.timeline = None;
        self.last = None;
        self.stall = None;
        self.shift = 0;
        self.begun = false;
    }

    /// Goes on with a stream that was passed on as it is, unless it has begun: its last packet, when it came, its
    /// timestamp and its place in our stream, which has reached `position`.
    pub fn go_on(&mut self, (came, timestamp, place): (Instant, u32, u32), position: u32) {
        if !self.begun {
            self.timeline = Some(Timeline::new(self.from_rate, self.to_rate, timestamp, place));
            self.last = Some((came, timestamp));
            self.begin(position);
        }
    }

    /// Lets the stream begin at `wall` with sound of our own, unless it has begun.
    pub fn begin(&mut self, wall: u32) {
        if !self.begun {
            self.position = wall;
            self.begun = true;
        }
    }

    /// Right behind everything played so far, where the stream begins at `wall` if it has not begun.
    pub fn position_or(&mut self, wall: u32) -> u32 {
        self.begin(wall);
        self.position
    }

    /// Right behind everything played so far.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Notes that something was played.
    pub fn played(&mut self, units: u32) {
        self.position = self.position.wrapping_add(units);
    }

    /// By how many units of our clock the stream is played behind its true time.
    #[inline]
    pub fn behind(&self) -> u32 {
        self.shift
    }

    /// Takes back so much of the delay: so many samples stay unplayed.
    pub fn give_back(&mut self, units: u32) {
        self.shift = self.shift.saturating_sub(units);
    }

    /// Goes so much further behind the true time; false, changing nothing, where that is more than is ever played late.
    pub fn fall_behind(&mut self, units: u32) -> bool {
        let fits = self.shift + units <= self.latest();
        if fits {
            self.shift += units;
        }
        fits
    }

    /// The most that is played late, in units of our clock.
    fn latest(&self) -> u32 {
        self.to_rate / 1000 * MAX_SHIFT.as_millis() as u32
    }

    /// How much is missing between what was played and a timestamp of the received stream; negative if that has passed.
    pub fn missing_before(&self, timestamp: u32) -> Option<i32> {
        self.map(timestamp).map(|place| timestamp_distance(self.position, place))
    }

    /// Where a timestamp of the received stream lies in ours, if that is known.
    pub fn map(&self, timestamp: u32) -> Option<u32> {
        self.timeline.map(|timeline| timeline.map(timestamp).wrapping_add(self.shift))
    }

    /// Places a packet; `wall` is where our stream stands by the clock on the wall, used when nothing else is known.
    pub fn place(&mut self, timestamp: u32, arrival: Arrival, now: Instant, wall: u32) -> Place {
        if arrival == Arrival::Late {
            return Place::TooLate;
        }
        let parted = self.parts_from_wall(timestamp, now);
        let broken = arrival == Arrival::First || parted.is_some();
        let Some(mut timeline) = self.timeline.filter(|_| !broken) else {
            let lag = parted.filter(|lag| !lag.is_zero() && arrival != Arrival::First).zip(self.timeline);
            let due = lag.map(|(lag, old)| old.map(timestamp).wrapping_add(in_clock(lag, self.to_rate)));
            return self.restart(timestamp, due.unwrap_or(wall));
        };
        timeline.advance(timestamp);
        self.timeline = Some(timeline);
        let target = timeline.map(timestamp).wrapping_add(self.shift);
        let ahead = timestamp_distance(self.position, target);
        if ahead >= 0 {
            let given_back = self.shift.min(ahead as u32);
            self.shift -= given_back;
            return Place::Play { missing: ahead as u32 - given_back };
        }
        let shift = self.shift + ahead.unsigned_abs();
        if shift <= self.latest() {
            self.shift = shift;
        } else if self.stall.is_some() {
            return Place::TooLate;
        } else {
            self.timeline = Some(Timeline::new(self.from_rate, self.to_rate, timestamp, self.position));
            self.shift = 0;
        }
        Place::Play { missing: 0 }
    }

    fn restart(&mut self, timestamp: u32, wall: u32) -> Place {
        self.begin(wall);
        let missing = timestamp_distance(self.position, wall).max(0) as u32;
        let place = self.position.wrapping_add(missing);
        self.timeline = Some(Timeline::new(self.from_rate, self.to_rate, timestamp, place));
        self.shift = 0;
        self.stall = None;
        Place::Restart { missing }
    }

    /// Compares the steps of both clocks. A packet that has nothing to do with those before it gives by how much it is
    /// late for its timestamp: zero where that can't be said.
    #[inline]
    fn parts_from_wall(&mut self, timestamp: u32, now: Instant) -> Option<Duration> {
        let (then, before) = self.last.replace((now, timestamp))?;
        let stepped = timestamp_distance(before, timestamp);
        if stepped < 0 {
            return Some(Duration::ZERO);
        }
        let (stepped, passed) =
            (from_clock(stepped as u32, self.from_rate), now.saturating_duration_since(then));
        if stepped > passed + BREAK {
            return Some(Duration::ZERO);
        }
        if self.stall.is_none() && passed <= stepped + STALL {
            return None;
        }
        self.follow_stall(passed, stepped, now)
    }

    /// After a stall; gives by how much packets are late for good if it was none.
    #[cold]
    fn follow_stall(&mut self, passed: Duration, stepped: Duration, now: Instant) -> Option<Duration> {
        let known = self.stall.take();
        let lag = (known.map_or(Duration::ZERO, |stall| stall.lag) + passed).saturating_sub(stepped);
        if lag <= CAUGHT_UP {
            return None;
        }
        let fresh = Stall { lag, watched: (now, lag) };
        let Some(known) = known.filter(|_| passed <= stepped + STALL) else {
            self.stall = Some(fresh);
            return None;
        };
        let (since, then) = known.watched;
        let watched = now.saturating_duration_since(since);
        if watched < WATCH {
            self.stall = Some(Stall { lag, ..known });
        } else if lag + watched / 4 <= then {
            self.stall = Some(fresh);
        } else {
            return Some(lag).filter(|lag| *lag > MAX_SHIFT);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Played {
        track: Track,
        start: Instant,
    }

    impl Played {
        /// Opus to G.711, the first packet at timestamp 0 played at 1000.
        fn new() -> Played {
            let mut track = Track::new(48_000, 8_000);
            let start = Instant::now();
            assert_eq!(track.place(0, Arrival::First, start, 1000), Place::Restart { missing: 0 });
            track.played(160);
            Played { track, start }
        }

        fn packet(&mut self, number: u32, arrival: Arrival, late: Duration) -> Place {
            let now = self.start + 20 * MS * number + late;
            let place = self.track.place(number * 960, arrival, now, 0);
            match place {
                Place::Play { missing } | Place::Restart { missing } => self.track.played(missing + 160),
                Place::TooLate => {}
            }
            place
        }
    }

    #[test]
    fn packets_in_order_follow_each_other_and_a_gap_is_exactly_as_long_as_it_is() {
        let mut played = Played::new();
        assert_eq!(played.packet(1, Arrival::Next, 5 * MS), Place::Play { missing: 0 });
        assert_eq!(played.packet(4, Arrival::Gap(2), MS), Place::Play { missing: 320 });
        assert_eq!(played.packet(3, Arrival::Late, 30 * MS), Place::TooLate);
        assert_eq!(played.packet(5, Arrival::Next, MS), Place::Play { missing: 0 });
        assert_eq!(played.track.position(), 1000 + 6 * 160);
    }

    #[test]
    fn a_pause_without_loss_is_missing_time_too() {
        let mut played = Played::new();
        assert_eq!(played.packet(21, Arrival::Next, MS), Place::Play { missing: 3200 });
    }

    #[test]
    fn what_was_filled_too_early_is_played_behind_and_given_back_at_the_next_gap() {
        let mut played = Played::new();
        played.track.played(320); // two frames of filling, then the packets come after all
        assert_eq!(played.packet(1, Arrival::Next, 60 * MS), Place::Play { missing: 0 });
        assert_eq!(played.packet(2, Arrival::Next, 60 * MS), Place::Play { missing: 0 });
        assert_eq!(played.track.position(), 1000 + 5 * 160);
        assert_eq!(
            played.packet(6, Arrival::Next, MS),
            Place::Play { missing: 160 },
            "320 of 480 given back"
        );
        assert_eq!(played.track.position(), 1000 + 7 * 160, "on time again");
    }

    #[test]
    fn a_jump_of_the_timestamps_that_no_time_explains_restarts_without_a_gap() {
        let mut played = Played::new();
        assert_eq!(played.packet(1, Arrival::Next, MS), Place::Play { missing: 0 });
        let now = played.start + 40 * MS;
        assert_eq!(played.track.place(9_000_000, Arrival::Next, now, 1420), Place::Restart { missing: 100 });
        played.track.played(100);
        played.track.played(160);
        let backwards = played.track.place(5, Arrival::Next, now + 20 * MS, 1580);
        assert_eq!(backwards, Place::Restart { missing: 0 });
    }

    #[test]
    fn a_long_silence_that_time_explains_keeps_its_length() {
        let mut played = Played::new();
        let pause = played.packet(50 * 30, Arrival::Next, Duration::ZERO);
        assert_eq!(pause, Place::Play { missing: (50 * 30 - 1) * 160 });
    }

    #[test]
    fn a_sender_whose_timestamps_run_behind_its_packets_is_followed() {
        let mut track = Track::new(8_000, 8_000);
        let start = Instant::now();
        track.place(0, Arrival::First, start, 0);
        track.played(240);
        // 30 ms of sound each, but timestamps that step by 20 ms.
        for n in 1..1000u32 {
            let place = track.place(n * 160, Arrival::Next, start + 30 * MS * n, 0);
            assert_ne!(place, Place::TooLate);
            track.played(240);
        }
        assert!(track.shift <= 3200);
    }
}
