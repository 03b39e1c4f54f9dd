//! How many calls a trunk takes at once and in a second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The limits of one trunk; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Calls at once, both directions.
    pub channels: Option<u32>,
    /// Calls we send within any second.
    pub cps: Option<u32>,
    /// Calls it sends us within any second.
    pub cps_in: Option<u32>,
}

/// Why a trunk takes no further call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    #[error("all its channels are in use")]
    Channels,
    #[error("its calls per second are used up")]
    Cps,
}

/// Counts the calls of one trunk.
///
/// Calls per second are counted in a window that slides, not in a bucket: a bucket lets twice the rate through in
/// the second after a pause, which is what operators bar trunks for.
#[derive(Debug, Clone, Default)]
pub struct TrunkLimits {
    limits: Limits,
    in_use: u32,
    /// When the calls of the last second were sent, and when those came that it sent us.
    sent: Second,
    received: Second,
    /// When it was refused calls that came in spite of a limit, the last ones.
    refused: Second,
}

/// The calls of the last second, as many as the limit has.
#[derive(Debug, Clone, Default)]
struct Second(VecDeque<Instant>);

impl Second {
    fn take(&mut self, now: Instant, limit: Option<u32>) -> Result<(), LimitReached> {
        let Some(limit) = limit else { return Ok(()) };
        self.has_room(now, limit)?;
        self.0.push_back(now);
        Ok(())
    }

    fn has_room(&mut self, now: Instant, limit: u32) -> Result<(), LimitReached> {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        if self.0.len() < limit as usize { Ok(()) } else { Err(LimitReached::Cps) }
    }

    fn take_anyway(&mut self, now: Instant, limit: Option<u32>) {
        let Some(limit) = limit else { return };
        self.0.push_back(now);
        while self.0.len() > limit as usize {
            self.0.pop_front();
        }
    }
}

const WINDOW: Duration = Duration::from_secs(1);

/// Refused calls of a second that are worth more than their refusal: an operator that looks into it finds them in the
/// records. More than that is no traffic.
const REFUSED: u32 = 50;

impl TrunkLimits {
    pub fn new(limits: Limits) -> TrunkLimits {
        TrunkLimits { limits, ..TrunkLimits::default() }
    }

    /// Changes the limits; running calls stay counted and none is ended.
    pub fn set(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Channels in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Takes a channel for a call we send.
    pub fn take(&mut self, now: Instant) -> Result<(), LimitReached> {
        self.channel_free()?;
        self.sent.take(now, self.limits.cps)?;
        self.in_use += 1;
        Ok(())
    }

    /// Whether [`take`](Self::take) would find a channel.
    pub fn would_take(&mut self, now: Instant) -> Result<(), LimitReached> {
        self.channel_free()?;
        self.limits.cps.map_or(Ok(()), |limit| self.sent.has_room(now, limit))
    }

    /// Takes a channel for a call the trunk sends us.
    pub fn take_incoming(&mut self, now: Instant) -> Result<(), LimitReached> {
        self.channel_free()?;
        self.received.take(now, self.limits.cps_in)?;
        self.in_use += 1;
        Ok(())
    }

    /// Whether a call the trunk sends us would find a channel.
    pub fn would_take_incoming(&mut self, now: Instant) -> Result<(), LimitReached> {
        self.channel_free()?;
        self.limits.cps_in.map_or(Ok(()), |limit| self.received.has_room(now, limit))
    }

    /// Counts a call the trunk sends us that goes nowhere. What a contract limits is what is offered, whatever becomes of it:
    /// an INVITE costs both sides the same work before anybody knows that it is in vain, and an operator whose own switch
    /// holds the rate counts all it sends. Its good calls lose nothing that way but what it brought too much.
    pub fn count_incoming(&mut self, now: Instant) -> Result<(), LimitReached> {
        self.received.take(now, self.limits.cps_in)
    }

    /// Notes that a call of the trunk was refused for a limit, its own or the gateway's.
    pub fn note_refused(&mut self, now: Instant) {
        self.refused.take_anyway(now, Some(REFUSED));
    }

    /// True while the trunk brings so many calls in spite of a limit that one more is not worth a record.
    pub fn is_deaf(&mut self, now: Instant) -> bool {
        self.refused.has_room(now, REFUSED).is_err()
    }

    /// Takes a channel though none may be free, for an emergency call. It counts like any other.
    pub fn take_anyway(&mut self, now: Instant) {
        self.sent.take_anyway(now, self.limits.cps);
        self.in_use += 1;
    }

    /// The same for one that the trunk sends us.
    pub fn take_incoming_anyway(&mut self, now: Instant) {
        self.received.take_anyway(now, self.limits.cps_in);
        self.in_use += 1;
    }

    /// Gives a channel back.
    pub fn release(&mut self) {
        debug_assert!(self.in_use > 0, "a channel was given back twice");
        self.in_use = self.in_use.saturating_sub(1);
    }

    fn channel_free(&self) -> Result<(), LimitReached> {
        match self.limits.channels {
            Some(channels) if self.in_use >= channels => Err(LimitReached::Channels),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_trunk_is_deaf_while_it_was_refused_fifty_times_within_a_second() {
        let mut limits = TrunkLimits::new(Limits { channels: Some(0), cps_in: Some(1), ..Limits::default() });
        let start = Instant::now();
        for nth in 0..REFUSED {
            let now = start + Duration::from_millis(u64::from(nth));
            assert!(!limits.is_deaf(now), "{nth}");
            assert_eq!(limits.would_take_incoming(now), Err(LimitReached::Channels));
            limits.note_refused(now);
        }
        assert!(limits.is_deaf(start + Duration::from_millis(999)));
        assert!(!limits.is_deaf(start + Duration::from_millis(1_000)));
        limits.set(Limits { cps_in: Some(1), ..Limits::default() });
        assert_eq!(limits.take_incoming(start), Ok(()));
        assert_eq!(limits.would_take_incoming(start), Err(LimitReached::Cps));
        assert_eq!(limits.would_take_incoming(start + WINDOW), Ok(()));
    }

    #[test]
    fn channels_are_shared_by_both_directions_and_come_back() {
        let now = Instant::now();
        let mut limits = TrunkLimits::new(Limits { channels: Some(2), ..Limits::default() });
        assert_eq!(limits.take(now), Ok(()));
        assert_eq!(limits.take_incoming(now), Ok(()));
        assert_eq!(limits.take(now), Err(LimitReached::Channels));
        assert_eq!(limits.take_incoming(now), Err(LimitReached::Channels));
        limits.release();
        assert_eq!(limits.take(now), Ok(()));
    }

    #[test]
    fn a_lowered_limit_ends_no_call_but_takes_no_new_one() {
        let now = Instant::now();
        let mut limits = TrunkLimits::new(Limits::default());
        for _ in 0..3 {
            limits.take_incoming(now).unwrap();
        }
        limits.set(Limits { channels: Some(2), ..Limits::default() });
        assert_eq!(limits.in_use(), 3);
        limits.release();
        assert_eq!(limits.take_incoming(now), Err(LimitReached::Channels));
        limits.release();
        assert_eq!(limits.take_incoming(now), Ok(()));
    }

    #[test]
    fn an_emergency_call_takes_a_channel_where_none_is_free_and_counts() {
        let now = Instant::now();
        let mut limits = TrunkLimits::new(Limits { channels: Some(1), cps: Some(1), cps_in: None });
        limits.take(now).unwrap();
        limits.take_anyway(now);
        assert_eq!((limits.in_use(), limits.take_incoming(now)), (2, Err(LimitReached::Channels)));
        limits.release();
        limits.release();
        assert_eq!(limits.take(now), Err(LimitReached::Cps));
        assert_eq!(limits.take(now + WINDOW), Ok(()));
    }

    #[test]
    fn a_call_refused_for_its_rate_takes_no_channel() {
        let now = Instant::now();
        let mut limits = TrunkLimits::new(Limits { channels: Some(9), cps: Some(1), cps_in: None });
        limits.take(now).unwrap();
        assert_eq!(limits.would_take(now), Err(LimitReached::Cps));
        assert_eq!(limits.take(now + Duration::from_millis(999)), Err(LimitReached::Cps));
        assert_eq!(limits.in_use(), 1);
        assert_eq!(limits.would_take(now + WINDOW), Ok(()));
        assert_eq!(limits.in_use(), 1, "asking takes nothing");
        assert_eq!(limits.take(now + WINDOW), Ok(()));
    }

    #[test]
    fn calls_that_come_are_counted_apart_from_those_that_go_and_an_emergency_is_never_refused() {
        let now = Instant::now();
        let mut limits = TrunkLimits::new(Limits { channels: None, cps: Some(1), cps_in: Some(2) });
        assert_eq!((limits.take(now), limits.take(now)), (Ok(()), Err(LimitReached::Cps)));
        assert_eq!((limits.take_incoming(now), limits.take_incoming(now)), (Ok(()), Ok(())));
        assert_eq!(limits.take_incoming(now), Err(LimitReached::Cps));
        limits.take_incoming_anyway(now + WINDOW / 2);
        assert_eq!(limits.in_use(), 4, "what was refused took no channel");
        let later = now + WINDOW;
        assert_eq!(
            (limits.take_incoming(later), limits.take_incoming(later)),
            (Ok(()), Err(LimitReached::Cps))
        );
    }

    proptest! {
        #[test]
        fn no_second_ever_holds_more_than_cps(cps in 1u32..20, steps in prop::collection::vec(0u64..400, 1..200)) {
            let mut limits = TrunkLimits::new(Limits { cps: Some(cps), ..Limits::default() });
            let mut now = Instant::now();
            let mut taken: Vec<Instant> = Vec::new();
            let mut refused: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                if limits.take(now).is_ok() { taken.push(now) } else { refused.push(now) }
            }
            for (index, at) in taken.iter().enumerate() {
                let within = taken[index..].iter().filter(|other| **other < *at + WINDOW).count();
                prop_assert!(within <= cps as usize);
            }
            for at in refused {
                let before = taken.iter().filter(|other| **other <= at && at - **other < WINDOW).count();
                prop_assert!(before >= cps as usize, "refused without need");
            }
        }
    }
}
