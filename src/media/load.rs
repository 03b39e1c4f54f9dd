//! How busy a media thread is, and what follows: packets gather, encoders spend less, new calls go elsewhere.
//!
//! A thread near its limit must not let delay grow. Three things happen before that, in this order: it wakes up less
//! often, encodes more cheaply step by step, and takes no new calls. Steps take seconds; on a busy thread a packet that
//! has waited too long already is encoded as cheaply as can be at once, so that no queue lasts.

use super::codec::opus::MAX_COMPLEXITY;
use std::time::{Duration, Instant};

/// How often a judgement is made.
const WINDOW: Duration = Duration::from_millis(100);
/// Over how long load is averaged: shorter than a ramp of calls takes, longer than one hiccup of the machine.
const SMOOTHING: Duration = Duration::from_millis(500);
/// The effect of one step is awaited before the next.
const SETTLE: Duration = Duration::from_millis(500);
/// Sound gets better again only after so long a calm, so that no listener hears it come and go.
const CALM: Duration = Duration::from_secs(5);
/// A packet that waited longer than this for its turn came late: the most that a listener should ever be made to wait.
const LATE: Duration = Duration::from_millis(20);
/// A packet that waited longer than this on a busy thread is encoded at the last step: twice the time that packets
/// gather.
const PRESSED: Duration = Duration::from_millis(2);
/// Highest complexity of an encoder at each step: what libopus spends falls to about 60 % from 5 to 0.
const STEPS: [u8; 5] = [UNLIMITED, 5, 3, 1, 0];
/// Encoders have what they are set to.
pub const UNLIMITED: u8 = MAX_COMPLEXITY;
/// Below this share of its time a thread wakes for every packet; there is room, and nothing is heard sooner.
const ROOM: f32 = 0.02;
/// From this share on packets gather for the full time.
const BUSY: f32 = 0.03;
/// The longest that packets gather. It is all the delay that batching costs.
const GATHER: Duration = Duration::from_millis(1);

/// How much of its time a thread may spend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadLimit(f32);

impl LoadLimit {
    /// `share` of a thread's time, above 0 and up to 1.
    pub fn new(share: f32) -> LoadLimit {
        LoadLimit(share.clamp(0.001, 1.0))
    }

    /// Encoders become cheaper above it: well before calls are refused.
    fn easing(self) -> f32 {
        self.0 * 0.88
    }

    /// Encoders get their complexity back below it; one step costs less than the distance to `easing`.
    fn relief(self) -> f32 {
        self.0 * 0.6
    }

    /// New calls are taken again below it.
    fn readmission(self) -> f32 {
        self.0 * 0.94
    }

    /// Above it new calls are refused whatever the encoders still could save.
    fn alarm(self) -> f32 {
        (self.0 + 1.0) / 2.0
    }
}

impl Default for LoadLimit {
    fn default() -> LoadLimit {
        // Packets that come at random wait for less than three others here on average (M/D/1), and a hiccup of 100 ms
        // is made up for in less than a second.
        LoadLimit(0.85)
    }
}

/// What a thread does at present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Share of its time that is spent; 1 also where packets come late for other reasons.
    pub load: f32,
    /// Highest complexity an encoder may have.
    pub complexity: u8,
    /// Whether it takes new calls.
    pub admits: bool,
}

/// Measures one thread and judges it.
#[derive(Debug, Clone)]
pub struct Load {
    limit: LoadLimit,
    since: Instant,
    busy: Duration,
    packets: u32,
    late: u32,
    load: f32,
    /// What encoders are set to: a step that leaves them that saves nothing.
    usual: u8,
    step: usize,
    stepped: Instant,
    /// Since when there was so little to do that encoders could have more.
    calm: Option<Instant>,
    admits: bool,
}

impl Load {
    pub fn new(limit: LoadLimit, now: Instant) -> Load {
        Load {
            limit,
            since: now,
            busy: Duration::ZERO,
            packets: 0,
            late: 0,
            load: 0.0,
            usual: UNLIMITED,
            step: 0,
            stepped: now,
            calm: None,
            admits: true,
        }
    }

    /// Notes the complexity that encoders are set to.
    pub fn set_usual(&mut self, complexity: u8) {
        self.usual = complexity.min(UNLIMITED);
    }

    /// Notes a packet that waited so long for its turn; gives the highest complexity it may be encoded with.
    #[inline]
    pub fn heard(&mut self, waited: Duration) -> u8 {
        self.packets += 1;
        self.late += u32::from(waited > LATE);
        // On a thread with time to spare it waited for the machine, and nobody waits for it.
        let pressed = waited > PRESSED && self.load > self.limit.relief();
        let step = if pressed { STEPS.len() - 1 } else { self.step };
        STEPS[step]
    }

    /// Notes a turn of work, by the clock on the wall: what others take of the core is not ours to spend either.
    #[inline]
    pub fn worked(&mut self, took: Duration) {
        self.busy += took;
    }

    /// How long packets gather after a turn began before the next one does.
    #[inline]
    pub fn gathering(&self) -> Duration {
        GATHER.mul_f32(((self.load - ROOM) / (BUSY - ROOM)).clamp(0.0, 1.0))
    }

    /// When a judgement is due; `None` while there is nothing to judge.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at_rest = self.load < 0.001 && self.step == 0 && self.admits && self.busy.is_zero();
        (!at_rest).then(|| self.since + WINDOW)
    }

    /// Judges what was since the last judgement, if that is long enough ago.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Verdict> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return None;
        }
        // A tenth of the packets late means that the core is not ours, whatever our own clock says.
        let strained = self.late * 10 > self.packets;
        let spent = self.busy.as_secs_f32() / elapsed.as_secs_f32();
        let measured = if strained { 1.0 } else { spent.min(1.0) };
        let weight = elapsed.as_secs_f32() / (elapsed + SMOOTHING).as_secs_f32();
        self.load += (measured - self.load) * weight;
        (self.since, self.busy, self.packets, self.late) = (now, Duration::ZERO, 0, 0);
        self.choose_complexity(now);
        self.choose_admission();
        Some(self.verdict())
    }

    pub fn verdict(&self) -> Verdict {
        Verdict { load: self.load, complexity: STEPS[self.step], admits: self.admits }
    }

    /// The next step that encoders notice.
    fn cheaper(&self) -> Option<usize> {
        (self.step + 1..STEPS.len()).find(|step| STEPS[*step] < self.usual)
    }

    /// The step before this one that encoders notice.
    fn better(&self) -> Option<usize> {
        (0..self.step).rev().find(|step| *step == 0 || STEPS[*step] < self.usual)
    }

    fn choose_complexity(&mut self, now: Instant) {
        self.calm = (self.load < self.limit.relief()).then(|| self.calm.unwrap_or(now));
        let for_at_least = |since: Instant, time| now.saturating_duration_since(since) >= time;
        let strained = self.load > self.limit.easing() && for_at_least(self.stepped, SETTLE);
        let calm = self.calm.is_some_and(|calm| for_at_least(calm.max(self.stepped), CALM));
        let next = match (strained, calm) {
            (true, _) => self.cheaper(),
            (false, true) => self.better(),
            (false, false) => None,
        };
        if let Some(step) = next {
            self.step = step;
            self.stepped = now;
        }
    }

    fn choose_admission(&mut self) {
        let exhausted = self.cheaper().is_none() && self.load > self.limit.0;
        if exhausted || self.load > self.limit.alarm() {
            self.admits = false;
        } else if self.load < self.limit.readmission() {
            self.admits = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A thread in virtual time.
    struct Thread {
        load: Load,
        now: Instant,
    }

    impl Thread {
        fn new(limit: f32) -> Thread {
            let now = Instant::now();
            Thread { load: Load::new(LoadLimit::new(limit), now), now }
        }

        /// Spends a share of `time` at work.
        fn work(&mut self, share: f32, time: Duration) -> Verdict {
            for _ in 0..time.as_millis() / 10 {
                self.now += 10 * MS;
                self.load.heard(Duration::ZERO);
                self.load.worked((10 * MS).mul_f32(share));
                self.load.handle_timeout(self.now);
            }
            self.load.verdict()
        }
    }

    #[test]
    fn packets_gather_only_as_load_grows() {
        let mut thread = Thread::new(0.85);
        thread.work(0.015, Duration::from_secs(5));
        assert_eq!(thread.load.gathering(), Duration::ZERO, "there is room");
        thread.work(0.025, Duration::from_secs(5));
        let half = thread.load.gathering();
        assert!(half > 400 * MS / 1000 && half < 600 * MS / 1000, "{half:?}");
        thread.work(0.30, Duration::from_secs(5));
        assert_eq!(thread.load.gathering(), MS, "never more");
    }

    #[test]
    fn encoders_become_cheaper_before_calls_are_refused() {
        let mut thread = Thread::new(0.85);
        let mut seen = vec![UNLIMITED];
        let mut share = 0.70;
        let refused_at = loop {
            let verdict = thread.work(share, 200 * MS);
            if *seen.last().unwrap() != verdict.complexity {
                seen.push(verdict.complexity);
            }
            if !verdict.admits {
                break verdict;
            }
            share += 0.005;
        };
        assert_eq!(seen, STEPS, "each step was taken");
        assert!(refused_at.load > 0.85 && refused_at.load < 0.93, "{refused_at:?}");
    }

    #[test]
    fn a_step_that_leaves_encoders_what_they_are_set_to_is_left_out_both_ways() {
        let all = [UNLIMITED, 5, 3, 1, 0];
        for usual in [10, 5, 1, 0] {
            let steps: Vec<u8> = all.into_iter().filter(|most| *most == UNLIMITED || *most < usual).collect();
            let mut thread = Thread::new(0.85);
            thread.load.set_usual(usual);
            let mut seen = vec![UNLIMITED];
            let mut note = |verdict: Verdict| {
                if seen.last() != Some(&verdict.complexity) {
                    seen.push(verdict.complexity);
                }
                verdict
            };
            while note(thread.work(0.87, 200 * MS)).admits {}
            for _ in 0..150 {
                note(thread.work(0.30, 200 * MS));
            }
            let mut expected = steps.clone();
            expected.extend(steps.iter().rev().skip(1));
            assert_eq!(seen, expected, "encoders are set to {usual}");
        }
    }

    #[test]
    fn a_packet_that_waited_on_a_busy_thread_is_encoded_cheaply_at_once_and_the_next_one_well_again() {
        let mut thread = Thread::new(0.85);
        thread.work(0.30, Duration::from_secs(5));
        assert_eq!(thread.load.heard(30 * MS), UNLIMITED, "it waited for the machine");
        thread.work(0.70, Duration::from_secs(5));
        assert_eq!(thread.load.heard(2 * MS), UNLIMITED, "packets gather, and wait for others");
        assert_eq!(thread.load.heard(3 * MS), 0);
        assert_eq!(thread.load.heard(MS), UNLIMITED);
    }

    #[test]
    fn a_steep_ramp_is_stopped_though_the_encoders_could_still_save() {
        let mut thread = Thread::new(0.85);
        thread.work(0.5, Duration::from_secs(2));
        let verdict = thread.work(1.0, 1_200 * MS);
        assert!(!verdict.admits && verdict.complexity > 0, "{verdict:?}");
    }

    #[test]
    fn load_between_the_thresholds_changes_nothing() {
        let mut thread = Thread::new(0.85);
        let before = thread.work(0.80, Duration::from_secs(10));
        assert_eq!((before.complexity, before.admits), (0, true));
        let after = thread.work(0.60, Duration::from_secs(60));
        assert_eq!((after.complexity, after.admits), (0, true), "no coming and going");
        let calm = thread.work(0.30, Duration::from_secs(6));
        assert_eq!(calm.complexity, 1, "one step after five seconds of calm");
        assert_eq!(thread.work(0.30, Duration::from_secs(16)).complexity, UNLIMITED);
    }

    #[test]
    fn refused_calls_are_taken_again_only_below_the_limit() {
        let mut thread = Thread::new(0.85);
        assert!(!thread.work(0.95, Duration::from_secs(5)).admits);
        assert!(!thread.work(0.83, Duration::from_secs(5)).admits);
        assert!(thread.work(0.75, Duration::from_secs(5)).admits);
    }

    #[test]
    fn packets_that_come_late_are_load_though_the_thread_did_little() {
        let mut thread = Thread::new(0.85);
        thread.work(0.10, Duration::from_secs(1));
        for _ in 0..30 {
            thread.now += 100 * MS;
            for packet in 0..10 {
                thread.load.heard(if packet < 3 { 30 * MS } else { MS });
            }
            thread.load.handle_timeout(thread.now);
        }
        assert!(!thread.load.verdict().admits);
    }

    #[test]
    fn one_stall_of_the_machine_refuses_nobody() {
        let mut thread = Thread::new(0.85);
        thread.work(0.30, Duration::from_secs(3));
        thread.now += 200 * MS;
        for _ in 0..10 {
            thread.load.heard(100 * MS);
        }
        let verdict = thread.load.handle_timeout(thread.now).unwrap();
        assert_eq!((verdict.admits, verdict.complexity), (true, UNLIMITED));
    }

    #[test]
    fn a_thread_whose_calls_are_gone_comes_to_rest() {
        let mut thread = Thread::new(0.85);
        assert!(!thread.work(1.0, Duration::from_secs(5)).admits);
        let mut judged = 0;
        while let Some(due) = thread.load.poll_timeout() {
            thread.now = due;
            thread.load.handle_timeout(due);
            judged += 1;
            assert!(judged < 1_000);
        }
        assert_eq!(thread.load.verdict().complexity, UNLIMITED);
        assert!(thread.load.verdict().admits && thread.load.verdict().load < 0.001);
    }
}
