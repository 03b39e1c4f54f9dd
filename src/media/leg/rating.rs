//! How a leg sounded over all its time: means of what changes from moment to moment, and each part of it by its own codecs.

use crate::media::bursts::Losses;
use crate::media::quality::{self, Heard, Impairment};
use std::time::Duration;

/// A mean of values that do not weigh the same.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// The same with one more value.
    fn with(self, value: f32, weight: f64) -> Mean {
        Mean { sum: self.sum + f64::from(value) * weight, weight: self.weight + weight }
    }

    /// `None` of nothing.
    fn value(self) -> Option<f32> {
        (self.weight > 0.0).then(|| (self.sum / self.weight) as f32)
    }
}

/// What is kept to rate a leg.
#[derive(Debug, Default)]
pub(super) struct Rating {
    /// How it is heard at present; `None` before anybody hears it.
    row: Option<Impairment>,
    /// R without delay of the parts that were heard otherwise, by their packets, and what was counted by their end.
    over: Mean,
    before: Losses,
    /// Milliseconds, by the packets of each step.
    jitter: Mean,
    /// Milliseconds of each round trip that was measured.
    rtt: Mean,
}

impl Rating {
    /// The leg is heard like this from now on, where so much was counted.
    #[inline]
    pub(super) fn turn(&mut self, row: Impairment, losses: impl FnOnce() -> Losses) {
        if let Some(old) = self.row.replace(row).filter(|old| *old != row) {
            let losses = losses();
            self.over = self.all(old, losses);
            self.before = losses;
        }
    }

    /// True once somebody hears it.
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        self.row.is_some()
    }

    /// R without delay over all packets counted, the last of which were heard as `row`; `None` without packets.
    pub(super) fn listening_r(&self, row: Impairment, losses: Losses) -> Option<f32> {
        self.all(row, losses).value()
    }

    fn all(&self, row: Impairment, losses: Losses) -> Mean {
        let part = losses.since(&self.before);
        match heard(part) {
            Some(heard) => self.over.with(quality::listening_r(row, heard), part.packets as f64),
            None => self.over,
        }
    }

    pub(super) fn note_jitter(&mut self, jitter_ms: Option<f32>, packets: u64) {
        self.jitter = self.jitter_with(jitter_ms, packets);
    }

    /// The mean jitter, where it is this since the last step and so many packets.
    pub(super) fn jitter_ms(&self, now_ms: Option<f32>, packets: u64) -> Option<f32> {
        self.jitter_with(now_ms, packets).value()
    }

    fn jitter_with(&self, jitter_ms: Option<f32>, packets: u64) -> Mean {
        jitter_ms.map_or(self.jitter, |jitter| self.jitter.with(jitter, packets as f64))
    }

    pub(super) fn note_round_trip(&mut self, rtt: Duration) {
        self.rtt = self.rtt.with(rtt.as_secs_f32() * 1_000.0, 1.0);
    }

    pub(super) fn rtt_ms(&self) -> Option<f32> {
        self.rtt.value()
    }
}

/// What the E-model is told; `None` where there was nothing to hear.
pub(super) fn heard(losses: Losses) -> Option<Heard> {
    losses.share().map(|loss| Heard { loss, burst_ratio: losses.burst_ratio() })
}
