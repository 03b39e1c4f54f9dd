//! Whether a trunk is alive, by OPTIONS and by its calls: a state machine per trunk.

use std::time::{Duration, Instant};

/// When a trunk is asked and believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSettings {
    /// Between OPTIONS while all is well; `None`: calls alone tell.
    pub interval: Option<Duration>,
    /// An OPTIONS without an answer for this long has failed. Shorter than Timer F, so that a dead trunk shows
    /// within seconds.
    pub probe_timeout: Duration,
    /// Before asking again after a failure, or when one more answer is needed.
    pub recheck: Duration,
    /// Between OPTIONS while it is down.
    pub down_interval: Duration,
    /// Failures in a row that bring it down.
    pub down_after: u32,
    /// Successes in a row that bring it up again.
    pub up_after: u32,
    /// Without OPTIONS, single calls try a trunk that is down: the first after `first_trial`, each later one after
    /// twice the time, and `last_trial` at most. One call that fails costs its caller seconds, a trunk that is left
    /// alone for long costs all of its callers the call.
    pub first_trial: Duration,
    pub last_trial: Duration,
}

impl Default for HealthSettings {
    fn default() -> HealthSettings {
        HealthSettings {
            interval: Some(Duration::from_secs(30)),
            probe_timeout: Duration::from_secs(4),
            recheck: Duration::from_secs(1),
            down_interval: Duration::from_secs(5),
            down_after: 3,
            up_after: 2,
            first_trial: Duration::from_secs(1),
            last_trial: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known yet: calls go to it.
    Unknown,
    Up,
    Down,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// What was learnt of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It answered something that shows it works: OPTIONS, a registration, a call that rings or that somebody decided.
    Alive,
    /// It answered nothing, its transport failed, or it says that it does not work.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthOutput {
    /// An OPTIONS is to be sent; its result comes back as a probe result.
    Probe,
    WentUp,
    WentDown,
}

#[derive(Debug, Clone, Copy)]
enum Probing {
    /// Waiting for the next OPTIONS; `None` where none are sent.
    Idle { next_at: Option<Instant> },
    /// One is out.
    Asked { since: Instant, give_up_at: Instant },
}

/// The next call that may try a trunk that is down and not asked.
#[derive(Debug, Clone, Copy)]
struct Trial {
    at: Instant,
    /// Until the one after it.
    wait: Duration,
}

/// The machine of one trunk.
#[derive(Debug)]
pub struct TrunkHealth {
    settings: HealthSettings,
    health: Health,
    /// Of the kind that contradicts `health`, in a row.
    streak: u32,
    probing: Probing,
    /// When it was asked last.
    asked: Option<Instant>,
    /// Where it is down and not asked.
    trial: Option<Trial>,
    rtt: Option<Duration>,
    outputs: std::collections::VecDeque<HealthOutput>,
}

impl TrunkHealth {
    /// `first_probe_at` lets many trunks be asked one after the other.
    pub fn new(settings: HealthSettings, first_probe_at: Instant) -> TrunkHealth {
        TrunkHealth {
            settings,
            health: Health::Unknown,
            streak: 0,
            probing: Probing::Idle { next_at: settings.interval.map(|_| first_probe_at) },
            asked: None,
            trial: None,
            rtt: None,
            outputs: Default::default(),
        }
    }

    /// Takes new settings after a reload; what is known stays.
    pub fn set(&mut self, settings: HealthSettings, now: Instant) {
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        self.probing = Probing::Idle { next_at: settings.interval.map(|_| now) };
        self.trial = self.trial.or_else(|| self.first_trial(now));
        self.trial = self.trial.filter(|_| settings.interval.is_none());
    }

    /// Whether a call might go to it: [`admits`](Self::admits) without making use of it.
    pub fn would_admit(&self, now: Instant) -> bool {
        self.health != Health::Down || self.trial.as_ref().is_some_and(|trial| trial.at <= now)
    }

    /// Whether a call may go to it. Asked once for each call: where it is down a yes is that call's alone, and what
    /// becomes of the call is to be told by [`handle_call`](Self::handle_call).
    pub fn admits(&mut self, now: Instant) -> bool {
        if self.health != Health::Down {
            return true;
        }
        let last = self.settings.last_trial;
        let Some(trial) = self.trial.as_mut().filter(|trial| trial.at <= now) else { return false };
        *trial = Trial { at: now + trial.wait, wait: (trial.wait * 2).min(last) };
        true
    }

    fn first_trial(&self, now: Instant) -> Option<Trial> {
        let first = self.settings.first_trial;
        let needed = self.health == Health::Down && self.settings.interval.is_none();
        needed.then(|| Trial { at: now + first, wait: (first * 2).min(self.settings.last_trial) })
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Round trip of the last answered OPTIONS.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The OPTIONS that was asked for came back, or failed. One that comes after its time-out still counts as life.
    pub fn handle_probe(&mut self, now: Instant, evidence: Evidence) {
        match (self.probing, evidence) {
            (Probing::Asked { since, .. }, Evidence::Alive) => {
                self.rtt = Some(now.saturating_duration_since(since))
            }
            (Probing::Asked { .. }, Evidence::Failed) | (Probing::Idle { .. }, Evidence::Alive) => {}
            // Counted when it timed out.
            (Probing::Idle { .. }, Evidence::Failed) => return,
        }
        self.learn(now, evidence);
        self.probing = Probing::Idle { next_at: self.next_probe(now, evidence) };
    }

    /// A call, or a registration, showed something.
    pub fn handle_call(&mut self, now: Instant, evidence: Evidence) {
        self.learn(now, evidence);
        match evidence {
            Evidence::Failed => self.ask_at_once(now),
            Evidence::Alive => {}
        }
    }

    /// A call was answered as by a trunk that can't take it: 503, 408. That may be true of the one number that was called;
    /// where OPTIONS are sent, their answer tells.
    pub fn handle_doubt(&mut self, now: Instant) {
        match self.settings.interval {
            Some(_) => self.ask_at_once(now),
            None => self.learn(now, Evidence::Failed),
        }
    }

    /// A call that failed is a reason to ask, though not for each of many: a trunk with too much to do has no time for it.
    fn ask_at_once(&mut self, now: Instant) {
        if let Probing::Idle { next_at: Some(at) } = self.probing {
            let soonest = self.asked.map_or(now, |asked| now.max(asked + self.settings.recheck));
            self.probing = Probing::Idle { next_at: Some(at.min(soonest)) };
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        match self.probing {
            Probing::Idle { next_at: Some(at) } if at <= now => {
                self.probing = Probing::Asked { since: now, give_up_at: now + self.settings.probe_timeout };
                self.asked = Some(now);
                self.outputs.push_back(HealthOutput::Probe);
            }
            Probing::Asked { give_up_at, .. } if give_up_at <= now => {
                self.learn(now, Evidence::Failed);
                self.probing = Probing::Idle { next_at: self.next_probe(now, Evidence::Failed) };
            }
            Probing::Idle { .. } | Probing::Asked { .. } => {}
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.probing {
            Probing::Idle { next_at } => next_at,
            Probing::Asked { give_up_at, .. } => Some(give_up_at),
        }
    }

    pub fn poll_output(&mut self) -> Option<HealthOutput> {
        self.outputs.pop_front()
    }

    fn next_probe(&self, now: Instant, last: Evidence) -> Option<Instant> {
        let interval = self.settings.interval?;
        let wait = match (self.health, last) {
            (Health::Up, Evidence::Alive) => interval,
            (Health::Unknown, _) | (Health::Up, Evidence::Failed) | (Health::Down, Evidence::Alive) => {
                self.settings.recheck
            }
            (Health::Down, Evidence::Failed) => self.settings.down_interval,
        };
        Some(now + wait.min(interval))
    }

    fn learn(&mut self, now: Instant, evidence: Evidence) {
        match (self.health, evidence) {
            (Health::Up, Evidence::Alive) => self.streak = 0,
            // Of calls that tell alone most that fail now went out before it was known to be down.
            (Health::Down, Evidence::Failed) if self.trial.is_some() => {}
            (Health::Down, Evidence::Failed) => self.streak = 0,
            (Health::Unknown, Evidence::Alive) => self.turn(Health::Up),
            (Health::Unknown | Health::Up, Evidence::Failed) => {
                self.streak += 1;
                if self.streak >= self.settings.down_after {
                    self.turn(Health::Down);
                    self.trial = self.first_trial(now);
                }
            }
            (Health::Down, Evidence::Alive) => {
                self.streak += 1;
                // It lives: the call that confirms it need not wait.
                if let Some(trial) = &mut self.trial {
                    trial.at = trial.at.min(now);
                }
                if self.streak >= self.settings.up_after {
                    self.trial = None;
                    self.turn(Health::Up);
                }
            }
        }
    }

    fn turn(&mut self, health: Health) {
        self.health = health;
        self.streak = 0;
        match health {
            Health::Up => self.outputs.push_back(HealthOutput::WentUp),
            Health::Down => self.outputs.push_back(HealthOutput::WentDown),
            Health::Unknown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Evidence::*;
    use proptest::prelude::*;

    fn outputs(health: &mut TrunkHealth) -> Vec<HealthOutput> {
        std::iter::from_fn(|| health.poll_output()).collect()
    }

    /// Runs from deadline to deadline until `until`, answering each probe with `answer`; gives what happened when.
    fn run(
        health: &mut TrunkHealth,
        from: Instant,
        until: Duration,
        mut answer: impl FnMut(Duration) -> Option<Evidence>,
    ) -> Vec<(u64, HealthOutput)> {
        let mut seen = Vec::new();
        while let Some(at) = health.poll_timeout().filter(|at| *at <= from + until) {
            health.handle_timeout(at);
            for output in outputs(health) {
                seen.push(((at - from).as_millis() as u64, output));
                let probe = output == HealthOutput::Probe;
                if let Some(evidence) = probe.then(|| answer(at - from)).flatten() {
                    health.handle_probe(at + Duration::from_millis(20), evidence);
                }
            }
            for output in outputs(health) {
                seen.push(((at - from).as_millis() as u64, output));
            }
        }
        seen
    }

    #[test]
    fn the_first_answer_brings_a_trunk_up_and_it_is_then_asked_at_its_interval() {
        let start = Instant::now();
        let mut health = TrunkHealth::new(HealthSettings::default(), start);
        assert_eq!(health.health(), Health::Unknown);
        let seen = run(&mut health, start, Duration::from_secs(61), |_| Some(Alive));
        let probe = HealthOutput::Probe;
        assert_eq!(seen, [(0, probe), (0, HealthOutput::WentUp), (30_020, probe), (60_040, probe)]);
        assert_eq!(health.rtt(), Some(Duration::from_millis(20)));
    }

    #[test]
    fn three_silent_probes_bring_it_down_within_fifteen_seconds_of_the_first() {
        let start = Instant::now();
        let mut health = TrunkHealth::new(HealthSettings::default(), start);
        health.handle_call(start, Alive);
        outputs(&mut health);
        let seen = run(&mut health, start, Duration::from_secs(20), |_| None);
        let down = seen.iter().find(|(_, output)| *output == HealthOutput::WentDown).unwrap();
        assert_eq!(down.0, 14_000, "{seen:?}");
        assert_eq!(health.health(), Health::Down);
    }

    #[test]
    fn one_lost_probe_changes_nothing() {
        let start = Instant::now();
        let mut health = TrunkHealth::new(HealthSettings::default(), start);
        let seen =
            run(&mut health, start, Duration::from_secs(120), |at| (at.as_secs() != 30).then_some(Alive));
        let changes: Vec<_> = seen.iter().filter(|(_, output)| *output != HealthOutput::Probe).collect();
        assert_eq!(changes, [&(0, HealthOutput::WentUp)]);
    }

    #[test]
    fn it_takes_two_answers_to_come_up_again() {
        let start = Instant::now();
        let mut health = TrunkHealth::new(HealthSettings::default(), start);
        for _ in 0..3 {
            health.handle_call(start, Failed);
        }
        assert_eq!(outputs(&mut health), [HealthOutput::WentDown]);
        let mut answers = [Alive, Failed, Alive, Alive].into_iter();
        let seen = run(&mut health, start, Duration::from_secs(15), |_| answers.next().or(Some(Alive)));
        let up = seen.iter().find(|(_, output)| *output == HealthOutput::WentUp).unwrap();
        // Asked at 0 (alive), 1 (failed), 6 (alive), 7 (alive).
        assert_eq!(up.0 / 1_000, 7, "{seen:?}");
    }

    #[test]
    fn a_failed_call_asks_at_once() {
        for doubt in [false, true] {
            let start = Instant::now();
            let mut health = TrunkHealth::new(HealthSettings::default(), start);
            run(&mut health, start, Duration::from_secs(1), |_| Some(Alive));
            let later = start + Duration::from_secs(10);
            if doubt {
                health.handle_doubt(later)
            } else {
                health.handle_call(later, Failed)
            }
            assert_eq!(health.poll_timeout(), Some(later));
        }
    }

    #[test]
    fn a_call_that_is_answered_as_if_it_were_down_brings_it_down_only_where_nothing_else_tells() {
        let start = Instant::now();
        for (settings, down) in [(HealthSettings::default(), Health::Up), (unasked(), Health::Down)] {
            let mut health = TrunkHealth::new(settings, start);
            health.handle_call(start, Alive);
            for _ in 0..10 {
                health.handle_doubt(start);
            }
            assert_eq!(health.health(), down);
        }
    }

    fn unasked() -> HealthSettings {
        HealthSettings { interval: None, ..HealthSettings::default() }
    }

    #[test]
    fn without_options_calls_bring_it_down_and_two_trial_calls_up_again() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut health = TrunkHealth::new(unasked(), start);
        assert!(health.admits(start));
        for _ in 0..3 {
            health.handle_call(start, Failed);
        }
        assert_eq!((health.health(), health.poll_timeout()), (Health::Down, None));
        assert!(!health.admits(after(999)));
        assert!(health.admits(after(1_000)), "one call tries it");
        assert!(!health.admits(after(1_001)), "and no other");
        health.handle_call(after(1_100), Alive);
        assert!(health.admits(after(1_100)) && !health.admits(after(1_100)), "one that confirms it");
        // A call of before, which fails only now, says nothing about a trunk that has answered since.
        health.handle_call(after(1_150), Failed);
        health.handle_call(after(1_200), Alive);
        health.handle_call(after(1_250), Alive);
        assert_eq!(health.health(), Health::Up);
        assert_eq!(outputs(&mut health), [HealthOutput::WentDown, HealthOutput::WentUp]);
        assert!(health.admits(after(1_300)) && health.admits(after(1_300)));
    }

    #[test]
    fn a_trunk_that_stays_dead_is_tried_less_and_less_often() {
        let start = Instant::now();
        let mut health = TrunkHealth::new(unasked(), start);
        for _ in 0..3 {
            health.handle_call(start, Failed);
        }
        let mut tried = Vec::new();
        for second in 0..180 {
            let now = start + Duration::from_secs(second);
            if health.admits(now) {
                tried.push(second);
                health.handle_call(now, Failed);
            }
        }
        assert_eq!(tried, [1, 3, 7, 15, 31, 61, 91, 121, 151]);
    }

    #[test]
    fn an_answer_after_the_probes_time_out_still_counts_as_life() {
        let start = Instant::now();
        let mut health = TrunkHealth::new(HealthSettings::default(), start);
        health.handle_timeout(start);
        health.handle_timeout(start + Duration::from_secs(4));
        health.handle_probe(start + Duration::from_secs(5), Alive);
        assert_eq!(health.health(), Health::Up);
        health.handle_probe(start + Duration::from_secs(6), Failed);
        assert_eq!(health.health(), Health::Up);
    }

    proptest! {
        #[test]
        fn up_and_down_alternate_and_something_is_always_to_come(
            steps in prop::collection::vec((0u64..10_000, 0u8..5), 1..200),
            asks: bool,
        ) {
            let mut now = Instant::now();
            let interval = asks.then_some(Duration::from_secs(30));
            let mut health = TrunkHealth::new(HealthSettings { interval, ..HealthSettings::default() }, now);
            let mut last = None;
            for (wait, what) in steps {
                now += Duration::from_millis(wait);
                while health.poll_timeout().is_some_and(|at| at <= now) {
                    health.handle_timeout(now);
                }
                match what {
                    0 => health.handle_probe(now, Alive),
                    1 => health.handle_probe(now, Failed),
                    2 => health.handle_call(now, Alive),
                    3 => health.handle_call(now, Failed),
                    _ => {
                        let down = health.health() == Health::Down;
                        let admitted = (0..3).filter(|_| health.admits(now)).count();
                        prop_assert!(admitted == 3 || (down && admitted <= 1));
                    }
                }
                for output in outputs(&mut health) {
                    match output {
                        HealthOutput::Probe => prop_assert!(asks),
                        HealthOutput::WentUp | HealthOutput::WentDown => {
                            prop_assert_ne!(last, Some(output));
                            last = Some(output);
                        }
                    }
                }
                if asks { prop_assert!(health.poll_timeout().is_some()); }
            }
        }
    }
}
