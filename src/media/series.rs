//! The recent past of a leg's quality, in steps of five seconds.

use super::bursts::Losses;
use crate::types::{QualitySample, UnixMillis};
use std::time::{Duration, Instant};

/// Length of a step.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps kept: five minutes, in 2 KB a leg.
const KEPT: usize = 60;

/// A bounded ring of samples, and the counts the next one is measured from.
#[derive(Debug)]
pub struct Series {
    next: Instant,
    before: Totals,
    samples: Vec<Packed>,
    /// Where the next sample goes once the ring is full: the oldest one.
    oldest: usize,
}

/// A sample in two thirds of its room, of which every call has 120: what was not measured is no number.
#[derive(Debug, Clone, Copy)]
struct Packed {
    at: UnixMillis,
    loss: f32,
    jitter_ms: f32,
    rtt_ms: f32,
    mos_lq: f32,
    bytes_received: u32,
    bytes_sent: u32,
}

impl From<QualitySample> for Packed {
    fn from(sample: QualitySample) -> Packed {
        let number = |value: Option<f32>| value.unwrap_or(f32::NAN);
        Packed {
            at: sample.at,
            loss: number(sample.loss),
            jitter_ms: number(sample.jitter_ms),
            rtt_ms: number(sample.rtt_ms),
            mos_lq: number(sample.mos_lq),
            bytes_received: sample.bytes_received,
            bytes_sent: sample.bytes_sent,
        }
    }
}

impl From<&Packed> for QualitySample {
    fn from(packed: &Packed) -> QualitySample {
        let measured = |value: f32| (!value.is_nan()).then_some(value);
        QualitySample {
            at: packed.at,
            loss: measured(packed.loss),
            jitter_ms: measured(packed.jitter_ms),
            rtt_ms: measured(packed.rtt_ms),
            mos_lq: measured(packed.mos_lq),
            bytes_received: packed.bytes_received,
            bytes_sent: packed.bytes_sent,
        }
    }
}

/// What a leg has counted since its opening.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub losses: Losses,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

impl Series {
    /// Everything is allocated here.
    pub fn new(now: Instant) -> Series {
        Series { next: now + STEP, before: Totals::default(), samples: Vec::with_capacity(KEPT), oldest: 0 }
    }

    /// When the next sample is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Counts since the last sample; the next one is due a step later.
    pub fn step(&mut self, now: Instant, totals: Totals) -> Totals {
        // After a standstill of the machine one sample covers it.
        while self.next <= now {
            self.next += STEP;
        }
        let before = std::mem::replace(&mut self.before, totals);
        Totals {
            losses: totals.losses.since(&before.losses),
            bytes_received: totals.bytes_received - before.bytes_received,
            bytes_sent: totals.bytes_sent - before.bytes_sent,
        }
    }

    /// Keeps a sample in place of the oldest.
    pub fn push(&mut self, sample: QualitySample) {
        if self.samples.len() < KEPT {
            self.samples.push(sample.into());
        } else {
            self.samples[self.oldest] = sample.into();
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }

    /// The samples kept, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = QualitySample> {
        let (newer, older) = self.samples.split_at(self.oldest);
        older.iter().chain(newer).map(QualitySample::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_five_minutes_are_kept_in_order_without_growing() {
        let mut series = Series::new(Instant::now());
        let room = series.samples.capacity();
        for at in 0..150 {
            series.push(QualitySample { at, ..QualitySample::default() });
        }
        let kept: Vec<i64> = series.samples().map(|sample| sample.at).collect();
        assert_eq!(kept, (90..150).collect::<Vec<_>>());
        assert_eq!(series.samples.capacity(), room);
    }

    #[test]
    fn what_was_not_measured_comes_back_as_nothing_and_what_was_as_it_was() {
        let mut series = Series::new(Instant::now());
        let partly = QualitySample {
            at: 1,
            loss: Some(0.25),
            mos_lq: Some(4.1),
            bytes_sent: 7,
            ..QualitySample::default()
        };
        let whole = QualitySample { jitter_ms: Some(3.5), rtt_ms: Some(0.0), bytes_received: 9, ..partly };
        series.push(partly);
        series.push(whole);
        assert_eq!(series.samples().collect::<Vec<_>>(), [partly, whole]);
    }

    #[test]
    fn a_step_counts_since_the_one_before_and_a_standstill_costs_one() {
        let start = Instant::now();
        let mut series = Series::new(start);
        let totals = |packets: u64| Totals {
            losses: Losses { packets, missed: packets / 10, ..Losses::default() },
            bytes_received: packets * 172,
            bytes_sent: 0,
        };
        series.step(start + STEP, totals(250));
        let second = series.step(start + 4 * STEP, totals(1_000));
        assert_eq!((second.losses.packets, second.losses.missed), (750, 75));
        assert_eq!(second.bytes_received, 750 * 172);
        assert_eq!(series.poll_timeout(), start + 5 * STEP);
    }
}
