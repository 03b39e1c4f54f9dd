//! Requests that were admitted a short while ago, so that their repetitions are not taken for new ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// More than that at once are not remembered; a request repeated then counts as a new one.
const CAPACITY: usize = 65_536;
/// An INVITE without an answer is sent seven times (RFC 3261 §17.1.1.2); whoever repeats more often does not wait.
const REPETITIONS: u8 = 7;

/// Two generations: what is old is forgotten without being looked at.
#[derive(Debug)]
pub(super) struct Recent {
    span: Duration,
    since: Instant,
    young: HashMap<u64, u8>,
    old: HashMap<u64, u8>,
}

impl Recent {
    pub(super) fn new(span: Duration, now: Instant) -> Recent {
        Recent { span, since: now, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn note(&mut self, now: Instant, identity: u64) {
        if now.saturating_duration_since(self.since) >= self.span {
            self.since = now;
            self.old = std::mem::take(&mut self.young);
        }
        if self.young.len() < CAPACITY {
            self.young.entry(identity).or_default();
        }
    }

    /// True for a repetition of what was noted, as often as one may repeat.
    pub(super) fn repeats(&mut self, identity: u64) -> bool {
        let Some(times) = self.young.get_mut(&identity).or_else(|| self.old.get_mut(&identity)) else {
            return false;
        };
        *times = times.saturating_add(1);
        *times <= REPETITIONS
    }
}
