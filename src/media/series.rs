//! The recent past of a leg's quality, in steps of five seconds.

use super::bursts::Losses;
use crate::types::QualitySample;
use std::time::{Duration, Instant};

/// Length of a step.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps kept: five minutes, in 3 KB a leg.
const KEPT: usize = 60;

/// A bounded ring of samples, and the counts the next one is measured from.
#[derive(Debug)]
pub struct Series {
    next: Instant,
    before: Totals,
    samples: Vec<QualitySample>,
    /// Where the next sample goes once the ring is full: the oldest one.
    oldest: usize,
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
            self.samples.push(sample);
        } else {
            self.samples[self.oldest] = sample;
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }

    /// The samples kept, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &QualitySample> {
        let (newer, older) = self.samples.split_at(self.oldest);
        older.iter().chain(newer)
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
