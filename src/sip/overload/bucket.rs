//! A token bucket as one moment: when it is full again (GCRA, ITU-T I.371).

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    /// Takes one of `burst` that come back at `rate` a second. False where none is there.
    pub(super) fn take(&mut self, now: Instant, rate: f64, burst: f64) -> bool {
        // Slower than one in a quarter of an hour is not at all, and too long for a `Duration` is far from it.
        let cost = Duration::from_secs_f64((1.0 / rate.max(1e-3)).max(0.0));
        let depth = cost.mul_f64(burst.clamp(1.0, 1e6));
        // A bucket that grew is empty at most, whatever it owed when it was small.
        self.full_at = self.full_at.clamp(now, now + depth);
        let full_at = self.full_at + cost;
        let fits = full_at - now <= depth;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}
