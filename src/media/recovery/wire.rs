//! What recovery is there for: a wire that loses, delays, overtakes and doubles packets, and whose sender keeps another
//! time, the same way for the same seed. It carries nothing itself: it says when a packet that is sent at a given time arrives. Tests and measurements use it.

use std::time::Duration;

/// What the wire does to packets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Impairments {
    pub loss: Loss,
    /// Each packet is delayed by a random time up to this.
    pub jitter: Duration,
    /// Jitter never lets a packet overtake another, as in one queue.
    pub in_order: bool,
    /// Share of packets, 0 to 1, that arrive so much later than the others.
    pub detour: (f64, Duration),
    /// Share of packets, 0 to 1, that arrive a second time, 5 ms later.
    pub doubled: f64,
    /// By how many millionths the sender's clock is slow: its packets come ever later. One that is fast (below zero) has
    /// them come ever earlier.
    pub drift_ppm: i32,
}

/// Which packets are lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Loss {
    #[default]
    None,
    /// Each with the same probability, 0 to 1.
    Random(f64),
    /// The same share in runs of a mean length (the Gilbert model).
    Bursts { share: f64, mean_run: f64 },
}

/// One direction between two ends.
#[derive(Debug, Clone)]
pub struct ImpairedWire {
    impairments: Impairments,
    random: u64,
    losing: bool,
    last: Duration,
}

impl ImpairedWire {
    pub fn new(impairments: Impairments, seed: u64) -> ImpairedWire {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        ImpairedWire { impairments, random, losing: false, last: Duration::ZERO }
    }

    /// When the packet sent at `sent`, by the sender's clock, arrives: never, once or twice.
    pub fn carry(&mut self, sent: Duration) -> impl Iterator<Item = Duration> + use<> {
        let lost = self.loses();
        let delay = self.impairments.jitter.mul_f64(self.chance());
        let (share, longer) = self.impairments.detour;
        let detour = if self.chance() < share { longer } else { Duration::ZERO };
        let doubled = self.chance() < self.impairments.doubled;
        let mut arrives = by_true_time(sent, self.impairments.drift_ppm) + delay;
        if self.impairments.in_order {
            arrives = arrives.max(self.last);
            self.last = arrives;
        }
        arrives += detour;
        let first = (!lost).then_some(arrives);
        let second = (!lost && doubled).then_some(arrives + Duration::from_millis(5));
        first.into_iter().chain(second)
    }

    fn loses(&mut self) -> bool {
        let chance = self.chance();
        match self.impairments.loss {
            Loss::None => false,
            Loss::Random(share) => chance < share,
            Loss::Bursts { share, mean_run } => {
                let ends = 1.0 / mean_run.max(1.0);
                let begins = ends * share / (1.0 - share).max(1e-9);
                self.losing = if self.losing { chance >= ends } else { chance < begins };
                self.losing
            }
        }
    }

    /// Evenly between 0 and 1 (Marsaglia's xorshift).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a clock that is slow by so many millionths shows, on one that is right.
fn by_true_time(shown: Duration, slow_ppm: i32) -> Duration {
    let moved = shown.as_nanos() as i64 / 1_000 * i64::from(slow_ppm) / 1_000;
    let distance = Duration::from_nanos(moved.unsigned_abs());
    if moved < 0 { shown - distance } else { shown + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn carried(impairments: Impairments, packets: u32) -> Vec<Vec<Duration>> {
        let mut wire = ImpairedWire::new(impairments, 7);
        (0..packets).map(|n| wire.carry(20 * MS * n).collect()).collect()
    }

    #[test]
    fn a_perfect_wire_takes_no_time_and_a_seed_repeats() {
        let perfect = carried(Impairments::default(), 100);
        assert!(perfect.iter().enumerate().all(|(n, at)| *at == [20 * MS * n as u32]));
        let rough =
            Impairments { loss: Loss::Random(0.2), jitter: 60 * MS, doubled: 0.1, ..Impairments::default() };
        assert_eq!(carried(rough, 500), carried(rough, 500));
    }

    #[test]
    fn the_share_of_loss_is_what_was_asked_and_bursts_are_longer() {
        let runs = |loss| {
            let lost: Vec<bool> = carried(Impairments { loss, ..Impairments::default() }, 50_000)
                .iter()
                .map(Vec::is_empty)
                .collect();
            let share = lost.iter().filter(|lost| **lost).count() as f64 / lost.len() as f64;
            let begins = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
            (share, share * lost.len() as f64 / begins as f64)
        };
        let (share, run) = runs(Loss::Random(0.1));
        assert!((0.09..0.11).contains(&share) && (1.0..1.2).contains(&run), "{share}, {run}");
        let (share, run) = runs(Loss::Bursts { share: 0.1, mean_run: 4.0 });
        assert!((0.085..0.115).contains(&share) && (3.7..4.3).contains(&run), "{share}, {run}");
    }

    #[test]
    fn jitter_stays_within_its_bound_and_order_where_it_is_kept() {
        for in_order in [false, true] {
            let at = carried(Impairments { jitter: 60 * MS, in_order, ..Impairments::default() }, 1_000);
            let at: Vec<Duration> = at.into_iter().flatten().collect();
            assert!(
                at.iter()
                    .enumerate()
                    .all(|(n, at)| (20 * n as u32 * MS..=(20 * n as u32 + 60) * MS).contains(at))
            );
            assert_eq!(at.is_sorted(), in_order);
        }
    }

    #[test]
    fn a_clock_that_is_off_moves_every_packet_a_little_more_than_the_one_before() {
        const HOUR: u32 = 180_000;
        for (drift_ppm, after_an_hour) in [(200, 3_600_720), (-200, 3_599_280), (0, 3_600_000)] {
            let at = carried(Impairments { drift_ppm, ..Impairments::default() }, HOUR + 1);
            assert_eq!(at[HOUR as usize], [MS * after_an_hour], "{drift_ppm} ppm");
            let steps: Vec<Duration> = at.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
            let step = 20 * MS * (1_000_000 + drift_ppm) as u32 / 1_000_000;
            assert!(steps.iter().all(|found| found.abs_diff(step).as_nanos() <= 1), "{drift_ppm} ppm");
        }
    }

    #[test]
    fn detours_and_doubles_come_in_their_share() {
        let impairments = Impairments { detour: (0.1, 30 * MS), doubled: 0.05, ..Impairments::default() };
        let at = carried(impairments, 10_000);
        let late = at.iter().enumerate().filter(|(n, at)| at[0] > 20 * MS * *n as u32).count();
        let twice = at.iter().filter(|at| at.len() == 2).count();
        assert!((800..1_200).contains(&late) && (400..600).contains(&twice), "{late}, {twice}");
    }
}
