//! Notices that one side of a conversation is not heard while the other is: its packets stay out (one-way audio), or
//! come and hold nothing (silent audio).
//!
//! Judged on the packets of the side that is heard, so that no timer is needed. What is no fault: a hold or a stream
//! in one direction (nobody judges then), whatever comes before the answer, a sender that described its silence (RFC
//! 3389: it may then be silent for as long as it likes) unless nothing but a dead line came before, one that pauses in
//! Opus and says so every 400 ms, and a side that has been heard alive and then falls silent, for that is a muted
//! microphone.

use super::level::Level;
use crate::types::AudioFault;
use std::time::{Duration, Instant};

/// How often is judged, at least: a side with DTX sends a packet every 400 ms in its pauses, and is judged on every
/// second one.
const PERIOD: Duration = Duration::from_millis(600);
/// Whoever sent nothing for longer than this was not there to miss anybody.
const LONGEST_PERIOD: Duration = Duration::from_millis(1_500);
/// Periods of so much time are a fault: it is noticed 3.6 to 4.8 seconds after it begins.
const SURE: Duration = Duration::from_millis(3_500);
/// Packets in a period from which somebody talks.
const TALKING: u64 = 3;
/// Packets of nothing at all that no microphone gives while it opens; an encoder says ten before it pauses.
const DEAD: u64 = 8;

/// What came from one side, in packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Voice, events and comfort noise.
    packets: u64,
    talk: u64,
    /// The last word was what its silence sounds like.
    described: bool,
    /// Something other than a dead line was heard.
    sounded: bool,
    /// Packets of a dead line: enough of them, and the sender's microphone is not merely said to pause.
    dead: u64,
}

impl Tally {
    /// Counts a packet that was taken.
    #[inline]
    pub fn note_packet(&mut self) {
        self.packets += 1;
    }

    /// Notes what a packet held.
    #[inline]
    pub fn note_level(&mut self, level: Level) {
        match level {
            Level::Unknown => {}
            Level::Pause => self.described = false,
            Level::Dead | Level::Quiet | Level::Talk => {
                self.described = false;
                self.sounded |= level != Level::Dead;
                self.dead += u64::from(level == Level::Dead);
                self.talk += u64::from(level == Level::Talk);
            }
        }
    }

    /// Notes a description of silence, and that a pause begins which needs no further word.
    #[inline]
    pub fn note_description(&mut self, payload: &[u8]) {
        self.note_level(Level::of_description(payload));
        self.described = true;
    }

    /// Somebody else speaks from now on: what was heard of the one before does not count.
    pub fn forget_sound(&mut self) {
        (self.sounded, self.dead) = (false, 0);
    }
}

/// One leg's watch over the leg it talks to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watch {
    /// `None` until the first packet of a conversation.
    period: Option<Period>,
    missing: Findings,
    silent: Findings,
}

/// What both sides had counted when the period began.
#[derive(Debug, Clone, Copy)]
struct Period {
    began: Instant,
    own: Tally,
    peer: Tally,
}

/// How long the findings of one kind in a row have lasted, and how much of that was not told yet.
#[derive(Debug, Clone, Copy, Default)]
struct Findings {
    lasted: Duration,
    untold: Duration,
}

/// What is wrong with a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    pub fault: AudioFault,
    /// Time to be added to what was found before.
    pub lasted: Duration,
}

impl Watch {
    /// The conversation pauses, is over or begins anew: nothing before counts.
    pub fn reset(&mut self) {
        *self = Watch::default();
    }

    /// Whether it is time to [`judge`](Self::judge).
    #[inline]
    pub fn is_due(&self, now: Instant) -> bool {
        self.period.is_none_or(|period| now.saturating_duration_since(period.began) >= PERIOD)
    }

    /// Judges the peer by what both sides have counted since the period began, and begins another.
    pub fn judge(&mut self, now: Instant, own: Tally, peer: Tally) -> Option<Finding> {
        let period = self.period.replace(Period { began: now, own, peer })?;
        let took = now.saturating_duration_since(period.began);
        if took > LONGEST_PERIOD {
            if peer.packets > period.peer.packets {
                self.missing = Findings::default();
            }
            return None;
        }
        let own_talk = own.talk - period.own.talk;
        let packets = peer.packets - period.peer.packets;

        if packets > 0 || peer.described {
            self.missing = Findings::default();
        } else {
            self.missing.add(took);
        }
        // A room is heard before its first pause; who begins with nothing and then pauses has no microphone.
        let mute = peer.dead >= DEAD && (packets > 0 || peer.described);
        if peer.sounded {
            self.silent = Findings::default();
        } else if mute && own_talk >= TALKING {
            self.silent.add(took);
        }
        let missing = self.missing.take(AudioFault::Missing);
        missing.or_else(|| self.silent.take(AudioFault::Silent))
    }
}

impl Findings {
    fn add(&mut self, took: Duration) {
        self.lasted += took;
        self.untold += took;
    }

    /// The time not yet told, once there is enough to be sure.
    fn take(&mut self, fault: AudioFault) -> Option<Finding> {
        (self.lasted >= SURE && self.untold > Duration::ZERO)
            .then(|| Finding { fault, lasted: std::mem::take(&mut self.untold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    /// A watch and the two sides it knows, over time in packets of 20 ms.
    struct Scene {
        watch: Watch,
        start: Instant,
        now: Instant,
        own: Tally,
        peer: Tally,
        found: Vec<(Duration, Finding)>,
    }

    impl Scene {
        fn new() -> Scene {
            let (now, tally) = (Instant::now(), Tally::default());
            Scene { watch: Watch::default(), start: now, now, own: tally, peer: tally, found: Vec::new() }
        }

        /// Both sides send what they send (`None`: nothing) for so long; of a pause only a sign of life every 400 ms.
        fn run(&mut self, seconds: u32, own: Option<Level>, peer: Option<Level>) -> &mut Scene {
            for n in 0..seconds * 50 {
                self.now += TICK;
                let sent = |level: Option<Level>| level.filter(|level| *level != Level::Pause || n % 20 == 0);
                let (own, peer) = (sent(own), sent(peer));
                for (tally, level) in [(&mut self.own, own), (&mut self.peer, peer)] {
                    if let Some(level) = level {
                        tally.note_packet();
                        tally.note_level(level);
                    }
                }
                if own.is_some() && self.watch.is_due(self.now) {
                    let found = self.watch.judge(self.now, self.own, self.peer);
                    self.found.extend(found.map(|finding| (self.now - self.start, finding)));
                }
            }
            self
        }

        fn fault(&self) -> Option<AudioFault> {
            self.found.first().map(|(_, finding)| finding.fault)
        }
    }

    const TALK: Option<Level> = Some(Level::Talk);
    const QUIET: Option<Level> = Some(Level::Quiet);
    const DEAD: Option<Level> = Some(Level::Dead);
    const PAUSE: Option<Level> = Some(Level::Pause);

    #[test]
    fn a_side_that_never_sends_is_missed_within_five_seconds_and_its_time_counted() {
        let mut scene = Scene::new();
        scene.run(10, QUIET, None);
        let (after, first) = scene.found[0];
        assert!(after < Duration::from_secs(5), "{after:?}");
        assert_eq!(first.fault, AudioFault::Missing);
        let lasted: Duration = scene.found.iter().map(|(_, finding)| finding.lasted).sum();
        assert!(lasted > Duration::from_secs(9) && lasted <= Duration::from_secs(10), "{lasted:?}");
    }

    #[test]
    fn a_side_that_only_listens_with_dtx_misses_the_other_within_five_seconds_too() {
        for listens in 2..6 {
            let mut scene = Scene::new();
            // Both talk, the other one stops at any moment of the first's pause.
            scene.run(3, TALK, TALK).run(listens, PAUSE, TALK);
            let stopped = scene.now - scene.start;
            scene.run(6, PAUSE, None);
            assert_eq!(scene.fault(), Some(AudioFault::Missing));
            let after = scene.found[0].0 - stopped;
            assert!(after < Duration::from_secs(5), "{after:?}");
        }
    }

    #[test]
    fn who_says_hello_and_waits_with_dtx_is_told_that_nobody_is_there() {
        let mut scene = Scene::new();
        scene.run(1, TALK, None).run(5, PAUSE, None);
        assert_eq!(scene.fault(), Some(AudioFault::Missing));
        assert!(scene.found[0].0 < Duration::from_secs(5), "{:?}", scene.found[0].0);
    }

    #[test]
    fn a_microphone_that_is_dead_from_the_first_packet_is_found_behind_dtx_and_a_quiet_room_is_not_dead() {
        let mut scene = Scene::new();
        scene.run(1, TALK, DEAD).run(5, TALK, PAUSE);
        assert_eq!(scene.fault(), Some(AudioFault::Silent));
        assert!(scene.found[0].0 < Duration::from_secs(5), "{:?}", scene.found[0].0);
        let mut scene = Scene::new();
        scene.run(1, TALK, DEAD).run(1, TALK, QUIET).run(60, TALK, PAUSE);
        assert_eq!(scene.fault(), None);
        // A microphone that only opens is not dead.
        let mut scene = Scene::new();
        (0..5).for_each(|_| scene.peer.note_level(Level::Dead));
        scene.run(60, TALK, PAUSE);
        assert_eq!(scene.fault(), None);
    }

    #[test]
    fn what_was_missed_before_a_long_pause_of_ours_is_forgotten_where_the_other_was_heard_in_it() {
        let mut scene = Scene::new();
        scene.run(1, TALK, TALK).run(3, TALK, None).run(20, None, TALK).run(1, TALK, None);
        assert_eq!(scene.fault(), None);
    }

    #[test]
    fn a_side_that_stops_in_the_middle_is_missed_too_and_one_that_pauses_shortly_is_not() {
        let mut scene = Scene::new();
        for _ in 0..5 {
            scene.run(3, TALK, TALK).run(3, TALK, None);
        }
        assert_eq!(scene.fault(), None);
        let stopped = scene.run(1, TALK, TALK).now - scene.start;
        scene.run(6, TALK, None);
        assert_eq!(scene.fault(), Some(AudioFault::Missing));
        assert!(scene.found[0].0 - stopped < Duration::from_secs(5));
    }

    #[test]
    fn packets_that_hold_nothing_while_the_other_talks_are_silent_audio_within_five_seconds() {
        let mut scene = Scene::new();
        scene.run(6, TALK, DEAD);
        assert_eq!(scene.fault(), Some(AudioFault::Silent));
        assert!(scene.found[0].0 < Duration::from_secs(5));
    }

    #[test]
    fn nobody_is_silent_while_nobody_talks_to_them() {
        assert_eq!(Scene::new().run(60, QUIET, DEAD).fault(), None);
        assert_eq!(Scene::new().run(60, DEAD, DEAD).fault(), None);
    }

    #[test]
    fn pauses_of_the_talker_do_not_hide_a_dead_line() {
        let mut scene = Scene::new();
        for _ in 0..4 {
            scene.run(2, TALK, DEAD).run(2, QUIET, DEAD);
        }
        assert_eq!(scene.fault(), Some(AudioFault::Silent));
    }

    #[test]
    fn who_was_heard_once_may_mute_the_microphone() {
        assert_eq!(Scene::new().run(1, TALK, QUIET).run(60, TALK, DEAD).fault(), None);
    }

    #[test]
    fn a_sender_that_says_it_pauses_is_neither_missing_nor_silent() {
        let mut scene = Scene::new();
        scene.run(1, TALK, QUIET).peer.note_description(&[60]);
        assert_eq!(scene.run(60, TALK, None).fault(), None, "once is enough for RFC 3389");
        assert_eq!(Scene::new().run(60, TALK, PAUSE).fault(), None);
    }

    #[test]
    fn who_dies_in_a_pause_of_opus_is_missed_within_five_seconds_too() {
        for paused in 1..4 {
            let mut scene = Scene::new();
            scene.run(2, TALK, QUIET).run(paused, TALK, PAUSE);
            let stopped = scene.now - scene.start;
            scene.run(6, TALK, None);
            assert_eq!(scene.fault(), Some(AudioFault::Missing));
            let after = scene.found[0].0 - stopped;
            assert!(after < Duration::from_secs(5), "{after:?}");
        }
        // A pause that is said anew counts for more than a description from before it.
        let mut scene = Scene::new();
        scene.run(1, TALK, QUIET).peer.note_description(&[60]);
        scene.run(1, TALK, PAUSE).run(6, TALK, None);
        assert_eq!(scene.fault(), Some(AudioFault::Missing));
    }

    #[test]
    fn what_was_before_a_new_beginning_does_not_count() {
        let mut scene = Scene::new();
        for _ in 0..10 {
            scene.run(3, TALK, None).watch.reset();
        }
        assert_eq!(scene.fault(), None);
    }

    #[test]
    fn two_sides_that_are_both_quiet_are_no_fault() {
        let mut scene = Scene::new();
        scene.run(60, None, None).run(1, TALK, None);
        assert_eq!(scene.fault(), None);
        let mut scene = Scene::new();
        scene.run(3, TALK, TALK).run(60, None, None).run(1, TALK, None);
        assert_eq!(scene.fault(), None);
    }
}
