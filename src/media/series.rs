//! The recent past of a leg's quality, in steps of five seconds.

use super::bursts::Losses;
use crate::types::{QualitySample, UnixMillis};
use std::time::{Duration, Instant};

/// Length of a step.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps kept: five minutes, in 1.2 KB a leg.
const KEPT: usize = 60;

/// A bounded ring of samples, and the counts the next one is measured from.
#[derive(Debug)]
pub struct Series {
    next: Instant,
    before: Totals,
    samples: Vec<Packed>,
    /// Where the next sample goes once the ring is full: the oldest one.
    oldest: usize,
    /// When the last sample was taken.
    newest: UnixMillis,
}

/// A sample in little room, since every call has 120.
#[derive(Debug, Clone, Copy)]
struct Packed {
    /// The lower half of its time; the newest sample's tells the rest.
    at: u32,
    loss: Fixed<50_000>,
    jitter_ms: Fixed<10>,
    rtt_ms: Fixed<10>,
    mos_lq: Fixed<1_000>,
    bytes_received: u32,
    bytes_sent: u32,
}

/// A measured value in steps of 1/`STEPS`, all finer than anybody measures; the highest number stands for what was not.
#[derive(Debug, Clone, Copy)]
struct Fixed<const STEPS: u16>(u16);

impl<const STEPS: u16> Fixed<STEPS> {
    fn of(value: Option<f32>) -> Fixed<STEPS> {
        let most = f32::from(u16::MAX - 1);
        Fixed(value.map_or(u16::MAX, |value| (value * f32::from(STEPS)).round().min(most) as u16))
    }

    fn value(self) -> Option<f32> {
        (self.0 != u16::MAX).then(|| f32::from(self.0) / f32::from(STEPS))
    }
}

impl From<QualitySample> for Packed {
    fn from(sample: QualitySample) -> Packed {
        Packed {
            at: sample.at as u32,
            loss: Fixed::of(sample.loss),
            jitter_ms: Fixed::of(sample.jitter_ms),
            rtt_ms: Fixed::of(sample.rtt_ms),
            mos_lq: Fixed::of(sample.mos_lq),
            bytes_received: sample.bytes_received,
            bytes_sent: sample.bytes_sent,
        }
    }
}

impl Packed {
    /// `newest` is the time of a sample not 24 days from it.
    fn unpack(&self, newest: UnixMillis) -> QualitySample {
        QualitySample {
            at: newest - i64::from((newest as u32).wrapping_sub(self.at) as i32),
            loss: self.loss.value(),
            jitter_ms: self.jitter_ms.value(),
            rtt_ms: self.rtt_ms.value(),
            mos_lq: self.mos_lq.value(),
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
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
        Series {
            next: now + STEP,
            before: Totals::default(),
            samples: Vec::with_capacity(KEPT),
            oldest: 0,
            newest: 0,
        }
    }

    /// When the next sample is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Packets since the last sample.
    pub fn packets_since(&self, losses: &Losses) -> u64 {
        losses.packets.saturating_sub(self.before.losses.packets)
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
        self.newest = sample.at;
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
        older.iter().chain(newer).map(|packed| packed.unpack(self.newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_five_minutes_are_kept_in_order_without_growing() {
        let mut series = Series::new(Instant::now());
        let room = series.samples.capacity();
        // The lower half of the time overflows on the way.
        let start = (410i64 << 32) - 120;
        for at in start..start + 150 {
            series.push(QualitySample { at, ..QualitySample::default() });
        }
        let kept: Vec<i64> = series.samples().map(|sample| sample.at).collect();
        assert_eq!(kept, (start + 90..start + 150).collect::<Vec<_>>());
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
        let beyond = QualitySample { rtt_ms: Some(20_000.0), ..whole };
        series.push(beyond);
        assert_eq!(
            series.samples().last().and_then(|sample| sample.rtt_ms),
            Some(6_553.4),
            "long, not unknown"
        );
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
