//! The base times of RFC 3261 and the timers that follow from them.

use std::time::{Duration, Instant};

/// The three times everything in RFC 3261 §17 is computed from. Both ends of a link should agree on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// An estimate of the round trip; the first retransmission comes after it.
    pub t1: Duration,
    /// The longest pause between retransmissions of a non-INVITE request or of a final response to INVITE.
    pub t2: Duration,
    /// The longest time a message stays in the network.
    pub t4: Duration,
    /// How long an INVITE may stay without any answer before the gateway says 100 Trying for itself.
    pub trying: Duration,
}

impl Default for Timers {
    /// The values of RFC 3261 §17.1.1.1 and, for `trying`, §17.2.1.
    fn default() -> Timers {
        Timers {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            trying: Duration::from_millis(200),
        }
    }
}

impl Timers {
    /// 64 × T1: how long a transaction is tried or remembered (timers B, D, F, H, J, L and M). Timer D may be
    /// any time of at least 32 s (RFC 3261 §17.1.1.2), which is this one where T1 has its default.
    pub fn life(&self) -> Duration {
        self.t1 * 64
    }
}

/// A message that is repeated with growing pauses over a transport that loses packets (timers A, E, G).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repetition {
    pub at: Instant,
    pause: Duration,
    longest: Duration,
}

impl Repetition {
    /// The first repetition comes `pause` from now; each following pause is twice the last, never over
    /// `longest`.
    pub fn starting(now: Instant, pause: Duration, longest: Duration) -> Repetition {
        Repetition { at: now + pause, pause, longest }
    }

    /// The pause after the next repetition is the longest one.
    pub fn slow_down(&mut self) {
        self.pause = self.longest;
    }

    /// Notes that the message was repeated.
    pub fn advance(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(self.longest);
        self.at = now + self.pause;
    }
}

/// The earlier of a repetition and an end.
pub(crate) fn earlier(repetition: Option<Repetition>, end: Instant) -> Instant {
    match repetition {
        Some(repetition) => repetition.at.min(end),
        None => end,
    }
}
