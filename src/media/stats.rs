//! Totals of all legs a worker ever had, kept in atomics that a scrape reads without stopping it.

use super::leg::Counts;
use super::load::{self, Verdict};
use crate::types::LegKind;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the arrival-to-departure histogram in microseconds.
pub const DELAY_BOUNDS_US: [u64; 12] =
    [50, 100, 200, 400, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Totals of one worker. Written by it alone; nobody waits.
#[derive(Debug, Default)]
pub struct WorkerStats {
    app: LegStats,
    trunk: LegStats,
    recovered_fec: AtomicU64,
    recovered_plc: AtomicU64,
    delay: DelayHistogram,
    unsent: AtomicU64,
    load: LoadStats,
}

#[derive(Debug)]
struct LoadStats {
    permille: AtomicU32,
    complexity: AtomicU8,
    admits: AtomicBool,
}

impl Default for LoadStats {
    fn default() -> LoadStats {
        LoadStats {
            permille: AtomicU32::new(0),
            complexity: AtomicU8::new(load::UNLIMITED),
            admits: AtomicBool::new(true),
        }
    }
}

#[derive(Debug, Default)]
struct LegStats {
    received: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    discarded: AtomicU64,
}

#[derive(Debug, Default)]
struct DelayHistogram {
    counts: [AtomicU64; DELAY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// Totals of legs of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LegTotals {
    pub received: u64,
    pub sent: u64,
    pub lost: u64,
    /// Too late, or twice.
    pub late: u64,
    pub discarded: u64,
}

/// Totals of all workers at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaTotals {
    pub app: LegTotals,
    pub trunk: LegTotals,
    pub recovered_fec: u64,
    pub recovered_plc: u64,
    /// Arrival to departure of transcoded packets: how many fell under each of [`DELAY_BOUNDS_US`] but not the one
    /// below, and last those above all.
    pub delay_counts: [u64; DELAY_BOUNDS_US.len() + 1],
    pub delay_sum_us: u64,
    /// Packets the kernel did not take.
    pub unsent: u64,
    /// Share of its time that the busiest worker spends.
    pub load: f64,
    /// Highest complexity an encoder may have on the worker that has to save most.
    pub complexity: u8,
}

impl Default for MediaTotals {
    fn default() -> MediaTotals {
        MediaTotals {
            app: LegTotals::default(),
            trunk: LegTotals::default(),
            recovered_fec: 0,
            recovered_plc: 0,
            delay_counts: [0; DELAY_BOUNDS_US.len() + 1],
            delay_sum_us: 0,
            unsent: 0,
            load: 0.0,
            complexity: load::UNLIMITED,
        }
    }
}

impl WorkerStats {
    /// Adds what a leg counted since `before`. Loss may shrink when a late packet comes; totals wait until it grows.
    pub fn add(&self, kind: LegKind, before: &mut Counts, now: &Counts) {
        let leg = match kind {
            LegKind::App => &self.app,
            LegKind::Trunk => &self.trunk,
        };
        let grow = |total: &AtomicU64, before: &mut u64, now: u64| {
            if now > *before {
                total.fetch_add(now - *before, Relaxed);
                *before = now;
            }
        };
        grow(&leg.received, &mut before.packets_received, now.packets_received);
        grow(&leg.sent, &mut before.packets_sent, now.packets_sent);
        grow(&leg.lost, &mut before.lost, now.lost);
        grow(&leg.late, &mut before.late, now.late);
        grow(&leg.discarded, &mut before.discarded, now.discarded);
        grow(&self.recovered_fec, &mut before.recovered_fec, now.recovered_fec);
        grow(&self.recovered_plc, &mut before.recovered_plc, now.recovered_plc);
    }

    /// Notes how long a transcoded packet was inside.
    #[inline]
    pub fn note_delay(&self, inside: Duration) {
        let micros = inside.as_micros() as u64;
        let bucket = DELAY_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.delay.counts[bucket].fetch_add(1, Relaxed);
        self.delay.sum_us.fetch_add(micros, Relaxed);
    }

    /// Notes a packet the kernel did not take.
    pub fn note_unsent(&self) {
        self.unsent.fetch_add(1, Relaxed);
    }

    /// Notes how busy the worker is.
    pub fn note_load(&self, verdict: Verdict) {
        self.load.permille.store((verdict.load * 1_000.0) as u32, Relaxed);
        self.load.complexity.store(verdict.complexity, Relaxed);
        self.load.admits.store(verdict.admits, Relaxed);
    }

    /// Whether the worker takes new calls.
    pub fn admits(&self) -> bool {
        self.load.admits.load(Relaxed)
    }

    /// Adds this worker's totals to `totals`.
    pub fn add_to(&self, totals: &mut MediaTotals) {
        for (leg, sum) in [(&self.app, &mut totals.app), (&self.trunk, &mut totals.trunk)] {
            sum.received += leg.received.load(Relaxed);
            sum.sent += leg.sent.load(Relaxed);
            sum.lost += leg.lost.load(Relaxed);
            sum.late += leg.late.load(Relaxed);
            sum.discarded += leg.discarded.load(Relaxed);
        }
        totals.recovered_fec += self.recovered_fec.load(Relaxed);
        totals.recovered_plc += self.recovered_plc.load(Relaxed);
        totals.unsent += self.unsent.load(Relaxed);
        totals.load = totals.load.max(f64::from(self.load.permille.load(Relaxed)) / 1_000.0);
        totals.complexity = totals.complexity.min(self.load.complexity.load(Relaxed));
        totals.delay_sum_us += self.delay.sum_us.load(Relaxed);
        for (sum, count) in totals.delay_counts.iter_mut().zip(&self.delay.counts) {
            *sum += count.load(Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_grow_by_differences_and_never_shrink() {
        let stats = WorkerStats::default();
        let mut before = Counts::default();
        let mut now = Counts { packets_received: 10, lost: 2, ..Counts::default() };
        stats.add(LegKind::App, &mut before, &now);
        now.packets_received = 15;
        now.lost = 1; // a late packet came
        stats.add(LegKind::App, &mut before, &now);
        now.lost = 3;
        stats.add(LegKind::App, &mut before, &now);
        let mut totals = MediaTotals::default();
        stats.add_to(&mut totals);
        assert_eq!(totals.app, LegTotals { received: 15, lost: 3, ..LegTotals::default() });
        assert_eq!(totals.trunk, LegTotals::default());
    }

    #[test]
    fn delays_fall_into_their_buckets() {
        let stats = WorkerStats::default();
        for micros in [10, 50, 51, 1_000, 500_000] {
            stats.note_delay(Duration::from_micros(micros));
        }
        let mut totals = MediaTotals::default();
        stats.add_to(&mut totals);
        assert_eq!(totals.delay_counts, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(totals.delay_sum_us, 501_111);
    }
}
