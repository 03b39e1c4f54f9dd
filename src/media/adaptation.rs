//! How frugal to be towards an app, by what it reports of our stream: bit rate and packet length, step by step.
//!
//! A network that is full shows it by a round trip that grows; what is only lost on the air is the redundancy's matter.

use super::config::OpusSettings;
use std::time::{Duration, Instant};

/// What is asked of the encoder: at most this share of the configured bit rate, packets at least this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diet {
    pub bitrate_percent: u32,
    pub ptime_ms: u8,
}

/// From all there is to the least a voice needs. Headers of 40 bytes cost 16 kb/s at 20 ms, 8 at 40 and 5.3 at 60: they
/// go first. Below 18 kb/s libopus leaves out the redundancy, which a network that loses needs most: the rate goes last.
const STEPS: [Diet; 5] = [
    Diet { bitrate_percent: 100, ptime_ms: 10 },
    Diet { bitrate_percent: 100, ptime_ms: 40 },
    Diet { bitrate_percent: 80, ptime_ms: 40 },
    Diet { bitrate_percent: 80, ptime_ms: 60 },
    Diet { bitrate_percent: 50, ptime_ms: 60 },
];
/// A narrow voice stays understandable down to this.
const LEAST_BITRATE: u32 = 8_000;
/// Loss, in percent, that no network has unless it is full.
const FULL: u8 = 15;
/// Loss that means the same when the round trip has grown too.
const SUSPICIOUS: u8 = 3;
/// Loss below which a network is called calm.
const CALM: u8 = 2;
/// The round trip over the shortest one: beyond this a queue stands somewhere, or an endless one.
const QUEUE: Duration = Duration::from_millis(50);
const LONG_QUEUE: Duration = Duration::from_millis(300);
/// Peers report about every five seconds (RFC 3550 §6.2), some every second: those that come within so long are judged
/// together, so that nobody's ladder is climbed faster.
const TOGETHER: Duration = Duration::from_millis(2_500);
/// Of fewer packets than this nothing is judged, unless a long queue speaks for itself: of the dozen that an encoder sends
/// in five seconds of a silence, two are lost on any air now and then.
const ENOUGH: u32 = 80;
/// So many calm judgements in a row allow a step back, and up to so many after steps back that did not last.
const PATIENCE: u8 = 3;
const MOST_PATIENCE: u8 = 24;
/// A step back that is undone within so many reports did not last.
const TRIAL: u8 = 4;

/// The ladder and where on it a leg stands.
#[derive(Debug, Clone, Copy)]
pub struct Adaptation {
    step: usize,
    calm: u8,
    patience: u8,
    /// Reports since the last step back; `None` if it has lasted.
    trial: Option<u8>,
    shortest: Option<Duration>,
    /// When we judged last, and what was reported since: percent lost times packets, and the packets.
    judged: Option<Instant>,
    lost: u32,
    packets: u32,
}

impl Default for Adaptation {
    fn default() -> Adaptation {
        Adaptation {
            step: 0,
            calm: 0,
            patience: PATIENCE,
            trial: None,
            shortest: None,
            judged: None,
            lost: 0,
            packets: 0,
        }
    }
}

impl Adaptation {
    /// Takes a report: loss since the one before it, in percent, of so many packets, and the round trip if it tells that.
    /// Says what to change to, if to anything.
    pub fn report(
        &mut self,
        loss_percent: u8,
        packets: u32,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Option<Diet> {
        let queue = self.queue(rtt);
        self.lost = self.lost.saturating_add(packets.saturating_mul(loss_percent.into()));
        self.packets = self.packets.saturating_add(packets);
        let early = self.judged.is_some_and(|judged| now.saturating_duration_since(judged) < TOGETHER);
        if early || (self.packets < ENOUGH && queue < LONG_QUEUE) {
            return None;
        }
        self.judged = Some(now);
        let loss_percent = self.lost.checked_div(self.packets).unwrap_or(0) as u8;
        (self.lost, self.packets) = (0, 0);
        self.trial = self.trial.map(|reports| reports + 1).filter(|reports| *reports <= TRIAL);
        let full =
            loss_percent >= FULL || queue >= LONG_QUEUE || (loss_percent >= SUSPICIOUS && queue >= QUEUE);
        if full {
            self.calm = 0;
            if self.trial.take().is_some() {
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
            }
            return self.go(self.step + 1);
        }
        if loss_percent >= CALM || queue >= QUEUE {
            self.calm = 0;
            return None;
        }
        self.calm = self.calm.saturating_add(1);
        if self.step == 0 || self.calm < self.patience {
            return None;
        }
        self.calm = 0;
        self.trial = Some(0);
        self.go(self.step - 1)
    }

    /// The far side is reached another way from now on: its round trip has another length, which is no queue. What the
    /// network before carried holds until this one is known to be calm.
    pub fn expect_another_way(&mut self) {
        self.shortest = None;
    }

    /// What is asked of the encoder at present.
    pub fn current(&self) -> Diet {
        STEPS[self.step]
    }

    fn go(&mut self, step: usize) -> Option<Diet> {
        let step = step.min(STEPS.len() - 1);
        (std::mem::replace(&mut self.step, step) != step).then_some(STEPS[step])
    }

    /// How much longer than the shortest the round trip is. The shortest follows slowly: routes change.
    fn queue(&mut self, rtt: Option<Duration>) -> Duration {
        let Some(rtt) = rtt else { return Duration::ZERO };
        let shortest =
            self.shortest.map_or(rtt, |shortest| rtt.min(shortest + rtt.saturating_sub(shortest) / 64));
        self.shortest = Some(shortest);
        rtt.saturating_sub(shortest)
    }
}

impl Default for Diet {
    fn default() -> Diet {
        STEPS[0]
    }
}

impl Diet {
    /// What becomes of settings and packet length.
    pub fn limit(self, settings: OpusSettings, ptime_ms: u8) -> (OpusSettings, u8) {
        let share = settings.bitrate / 100 * self.bitrate_percent;
        let bitrate = share.max(LEAST_BITRATE).min(settings.bitrate);
        let longer = self.ptime_ms.min(settings.max_ptime_ms);
        (OpusSettings { bitrate, ..settings }, ptime_ms.max(longer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A ladder and reports that come every five seconds.
    struct Reported {
        adaptation: Adaptation,
        now: Instant,
    }

    impl Reported {
        fn new() -> Reported {
            Reported { adaptation: Adaptation::default(), now: Instant::now() }
        }

        fn report(&mut self, loss: u8, rtt: Option<Duration>) -> Option<Diet> {
            self.report_of(250, loss, rtt)
        }

        fn report_of(&mut self, packets: u32, loss: u8, rtt: Option<Duration>) -> Option<Diet> {
            self.now += 5_000 * MS;
            self.adaptation.report(loss, packets, rtt, self.now)
        }
    }

    #[test]
    fn reports_every_second_make_nobody_nervous() {
        let (mut adaptation, start) = (Adaptation::default(), Instant::now());
        let mut steps = 0;
        for second in 0..20 {
            steps += u32::from(adaptation.report(20, 50, None, start + 1_000 * MS * second).is_some());
        }
        assert_eq!(steps, 4, "to the end of the ladder");
        let mut adaptation = Adaptation::default();
        let loss = |second: u32| if second.is_multiple_of(3) { 20 } else { 0 };
        let changed = (1..60).filter(|second| {
            adaptation.report(loss(*second), 50, Some(40 * MS), start + 1_000 * MS * *second).is_some()
        });
        assert_eq!(changed.count(), 0, "a loss of seven percent on the air");
        let mut adaptation = Adaptation::default();
        (0..3).for_each(|report| {
            adaptation.report(20, 250, None, start + 5_000 * MS * report);
        });
        let back =
            (16..40).find(|second| adaptation.report(0, 50, None, start + 1_000 * MS * *second).is_some());
        assert!(back.is_some_and(|second| second >= 18), "{back:?}");
        assert_eq!(adaptation.current(), STEPS[2]);
    }

    #[test]
    fn a_full_network_gets_less_step_by_step_down_to_the_least() {
        let mut adaptation = Reported::new();
        let steps: Vec<_> = (0..6).filter_map(|_| adaptation.report(20, Some(40 * MS))).collect();
        assert_eq!(steps, STEPS[1..]);
    }

    #[test]
    fn loss_on_the_air_alone_changes_nothing() {
        let mut adaptation = Reported::new();
        for loss in [0, 5, 14, 3, 7] {
            assert_eq!(adaptation.report(loss, Some(40 * MS)), None);
        }
        assert_eq!(adaptation.report(5, Some(120 * MS)), Some(STEPS[1]), "loss and a queue");
    }

    #[test]
    fn two_lost_of_the_dozen_packets_of_a_silence_make_no_full_network() {
        let mut adaptation = Reported::new();
        for report in 0..60 {
            let loss = if report % 5 == 0 { 16 } else { 0 };
            assert_eq!(adaptation.report_of(12, loss, Some(40 * MS)), None, "report {report}");
        }
        let first = (0..10).find(|_| adaptation.report_of(12, 25, Some(40 * MS)).is_some());
        assert!(first.is_some(), "a quarter of all that are sent is too much of few ones too");
        let mut adaptation = Reported::new();
        adaptation.report_of(12, 0, Some(40 * MS));
        assert_eq!(adaptation.report_of(12, 0, Some(400 * MS)), Some(STEPS[1]), "and a queue is one");
    }

    #[test]
    fn a_longer_way_after_a_move_is_no_queue() {
        let mut adaptation = Reported::new();
        adaptation.report(0, Some(20 * MS));
        adaptation.adaptation.expect_another_way();
        for _ in 0..20 {
            assert_eq!(adaptation.report(5, Some(400 * MS)), None);
        }
        assert_eq!(adaptation.report(5, Some(480 * MS)), Some(STEPS[1]), "a queue on the new way");
    }

    #[test]
    fn a_queue_alone_is_a_full_network_once_it_is_long() {
        let mut adaptation = Reported::new();
        assert_eq!(adaptation.report(0, Some(40 * MS)), None);
        assert_eq!(adaptation.report(0, Some(200 * MS)), None);
        assert_eq!(adaptation.report(0, Some(400 * MS)), Some(STEPS[1]));
    }

    #[test]
    fn a_calm_network_gets_it_back_after_three_reports_a_step() {
        let mut adaptation = Reported::new();
        adaptation.report(20, None);
        adaptation.report(20, None);
        let back: Vec<_> = (0..9).map(|_| adaptation.report(0, None)).collect();
        let (one, none) = (Some(STEPS[1]), None);
        assert_eq!(back, [none, none, one, none, none, Some(STEPS[0]), none, none, none]);
    }

    #[test]
    fn steps_back_that_do_not_last_are_tried_ever_less_often() {
        let mut adaptation = Reported::new();
        // A network that carries the second step and not the first.
        let mut tries = Vec::new();
        adaptation.report(20, None);
        adaptation.report(20, None);
        for report in 0..120 {
            let loss = if adaptation.adaptation.step < 2 { 20 } else { 0 };
            if adaptation.report(loss, None) == Some(STEPS[1]) {
                tries.push(report);
            }
        }
        let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.is_sorted() && pauses[0] < 10 && *pauses.last().unwrap() > 20, "{tries:?}");
    }

    #[test]
    fn what_is_configured_is_never_exceeded_and_the_voice_stays_understandable() {
        let settings = OpusSettings { bitrate: 24_000, ..OpusSettings::default() };
        assert_eq!(STEPS[0].limit(settings, 20), (settings, 20));
        let (least, ptime) = STEPS[4].limit(settings, 20);
        assert_eq!((least.bitrate, ptime), (12_000, 60));
        let low = OpusSettings { bitrate: 6_000, ..settings };
        assert_eq!(STEPS[4].limit(low, 20).0.bitrate, 6_000);
        let small = OpusSettings { bitrate: 12_000, ..settings };
        assert_eq!(STEPS[4].limit(small, 20).0.bitrate, 8_000);
        let short = OpusSettings { max_ptime_ms: 20, ..settings };
        assert_eq!(STEPS[4].limit(short, 20).1, 20, "the app takes no longer ones");
        assert_eq!(STEPS[2].limit(settings, 60).1, 60, "what the far side wanted longer stays so");
    }
}
