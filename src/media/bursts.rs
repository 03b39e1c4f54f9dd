//! How losses are spread: runs of them, and the bursts and gaps of RFC 3611 §4.7.2.

/// So many packets heard in a row end a burst (RFC 3611 §4.7.2 recommends 16).
pub const GMIN: u8 = 16;

/// Packets of a stream in their order, each heard or missed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bursts {
    packets: u64,
    missed: u64,
    runs: u64,
    /// Heard since the last one missed.
    since: u64,
    /// The misses that are less than [`GMIN`] apart, the last of them being the last missed so far.
    cluster: Cluster,
    bursts: u64,
    burst_packets: u64,
    burst_missed: u64,
    /// The stream began with a burst.
    leads: bool,
}

/// From one missed packet to another.
#[derive(Debug, Clone, Copy, Default)]
struct Cluster {
    start: u64,
    packets: u64,
    missed: u64,
}

/// What was missed of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// All there should have been.
    pub packets: u64,
    pub missed: u64,
    /// Maximal rows of packets missed.
    pub runs: u64,
    /// Periods that begin and end with a miss and have no [`GMIN`] packets in a row heard.
    pub bursts: u64,
    pub burst_packets: u64,
    pub burst_missed: u64,
    /// Periods between, before and behind bursts.
    pub gaps: u64,
}

impl Bursts {
    /// The next packet.
    #[inline]
    pub fn note(&mut self, heard: bool) {
        if heard {
            self.since += 1;
        } else {
            self.miss();
        }
        self.packets += 1;
    }

    fn miss(&mut self) {
        self.missed += 1;
        if self.since > 0 || self.packets == 0 {
            self.runs += 1;
        }
        if self.cluster.missed > 0 && self.since < u64::from(GMIN) {
            self.cluster.packets += self.since + 1;
            self.cluster.missed += 1;
        } else {
            self.end_cluster();
            self.cluster = Cluster { start: self.packets, packets: 1, missed: 1 };
        }
        self.since = 0;
    }

    /// A lonely miss belongs to the gap around it.
    fn end_cluster(&mut self) {
        let Cluster { start, packets, missed } = self.cluster;
        if missed > 1 {
            self.leads |= start == 0;
            self.bursts += 1;
            self.burst_packets += packets;
            self.burst_missed += missed;
        }
    }

    /// All so far, the last burst as far as it has come.
    pub fn losses(mut self) -> Losses {
        let ends = self.cluster.missed > 1 && self.since == 0;
        self.end_cluster();
        let gaps = if self.packets == self.burst_packets {
            0
        } else {
            (self.bursts + 1).saturating_sub(u64::from(self.leads) + u64::from(ends))
        };
        Losses {
            packets: self.packets,
            missed: self.missed,
            runs: self.runs,
            bursts: self.bursts,
            burst_packets: self.burst_packets,
            burst_missed: self.burst_missed,
            gaps,
        }
    }
}

impl Losses {
    /// Share of packets missed, 0 to 1; `None` without packets.
    pub fn share(&self) -> Option<f32> {
        share(self.missed, self.packets)
    }

    /// Mean run of misses over what random loss of the same share would give (G.107's BurstR), at least 1. Of a part of a
    /// stream that has misses and no run of its own, they are the rest of the run it began in.
    pub fn burst_ratio(&self) -> f32 {
        let (Some(mean), Some(share)) = (share(self.missed, self.runs.max(1)), self.share()) else {
            return 1.0;
        };
        (mean * (1.0 - share)).max(1.0)
    }

    /// Share of packets missed within bursts, 0 where there were none (RFC 3611 §4.7.2).
    pub fn burst_density(&self) -> f32 {
        share(self.burst_missed, self.burst_packets).unwrap_or(0.0)
    }

    /// Share of packets missed within gaps, 0 where there were none.
    pub fn gap_density(&self) -> f32 {
        share(self.missed - self.burst_missed, self.packets - self.burst_packets).unwrap_or(0.0)
    }

    /// Mean length of a burst in packets, 0 where there were none.
    pub fn burst_length(&self) -> f32 {
        share(self.burst_packets, self.bursts).unwrap_or(0.0)
    }

    /// Mean length of a gap in packets, 0 where there were none.
    pub fn gap_length(&self) -> f32 {
        share(self.packets - self.burst_packets, self.gaps).unwrap_or(0.0)
    }

    /// What was missed since `before`.
    pub fn since(&self, before: &Losses) -> Losses {
        Losses {
            packets: self.packets.saturating_sub(before.packets),
            missed: self.missed.saturating_sub(before.missed),
            runs: self.runs.saturating_sub(before.runs),
            bursts: self.bursts.saturating_sub(before.bursts),
            burst_packets: self.burst_packets.saturating_sub(before.burst_packets),
            burst_missed: self.burst_missed.saturating_sub(before.burst_missed),
            gaps: self.gaps.saturating_sub(before.gaps),
        }
    }
}

fn share(part: u64, whole: u64) -> Option<f32> {
    (whole > 0).then(|| part as f32 / whole as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `.` is heard, `x` is missed.
    fn losses(stream: &str) -> Losses {
        let mut bursts = Bursts::default();
        stream.chars().for_each(|packet| bursts.note(packet == '.'));
        bursts.losses()
    }

    const GAP: &str = "................";

    #[test]
    fn a_lonely_loss_is_no_burst() {
        let got = losses(&format!("{GAP}x{GAP}x{GAP}"));
        assert_eq!((got.missed, got.runs, got.bursts, got.gaps), (2, 2, 0, 1));
        assert_eq!(got.gap_density(), 2.0 / 50.0);
        assert_eq!((got.burst_density(), got.burst_length()), (0.0, 0.0));
    }

    #[test]
    fn fifteen_packets_between_two_losses_hold_a_burst_together_and_sixteen_part_it() {
        let together = losses(&format!("{GAP}x{}x{GAP}", &GAP[1..]));
        assert_eq!((together.bursts, together.burst_packets, together.burst_missed), (1, 17, 2));
        let apart = losses(&format!("{GAP}x{GAP}x{GAP}"));
        assert_eq!(apart.bursts, 0);
    }

    #[test]
    fn bursts_and_gaps_have_their_densities_and_lengths() {
        let got = losses(&format!("{GAP}xx.x{GAP}{GAP}xxxx{GAP}"));
        assert_eq!((got.bursts, got.gaps), (2, 3));
        assert_eq!(got.burst_density(), 7.0 / 8.0);
        assert_eq!(got.burst_length(), 4.0);
        assert_eq!(got.gap_density(), 0.0);
        assert_eq!(got.gap_length(), 64.0 / 3.0);
    }

    #[test]
    fn a_burst_at_either_end_leaves_no_gap_there() {
        assert_eq!(losses(&format!("xx{GAP}xx")).gaps, 1);
        assert_eq!(losses("xxx").gaps, 0);
        assert_eq!(losses(&format!("xx{GAP}xx.")).gaps, 2);
        assert_eq!(losses("").gaps, 0);
    }

    #[test]
    fn burst_ratio_is_one_for_scattered_loss_and_more_for_runs() {
        let scattered = losses(&".........x".repeat(100));
        assert_eq!(scattered.burst_ratio(), 1.0);
        let runs = losses(&format!("{}xxxxx", ".".repeat(45)).repeat(20));
        // Runs of five at 10 % loss, where chance would give runs of 1 / 0.9.
        assert!((runs.burst_ratio() - 4.5).abs() < 0.01, "{}", runs.burst_ratio());
        assert_eq!(losses("").burst_ratio(), 1.0);
    }

    #[test]
    fn a_run_that_goes_on_into_the_next_part_is_a_run_there_too() {
        let before = losses(&format!("{}xxxxx", ".".repeat(245)));
        let whole = losses(&format!("{}xxxxxxxxxx{}", ".".repeat(245), ".".repeat(245)));
        let part = whole.since(&before);
        assert_eq!((part.packets, part.missed), (250, 5));
        assert!((part.burst_ratio() - 4.9).abs() < 0.01, "{}", part.burst_ratio());
    }

    proptest! {
        #[test]
        fn chance_alone_gives_a_burst_ratio_near_one(seed in any::<u64>()) {
            let mut bursts = Bursts::default();
            let mut state = seed | 1;
            for _ in 0..50_000 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bursts.note(state >> 33 & 7 != 0);
            }
            let ratio = bursts.losses().burst_ratio();
            prop_assert!((1.0..1.06).contains(&ratio), "{}", ratio);
        }

        #[test]
        fn parts_never_exceed_the_whole(stream in proptest::collection::vec(any::<bool>(), 0..300)) {
            let mut bursts = Bursts::default();
            stream.iter().for_each(|heard| bursts.note(*heard));
            let got = bursts.losses();
            prop_assert_eq!(got.packets as usize, stream.len());
            prop_assert_eq!(got.missed as usize, stream.iter().filter(|heard| !**heard).count());
            prop_assert!(got.burst_missed <= got.missed && got.burst_packets <= got.packets);
            prop_assert!(got.burst_missed <= got.burst_packets && got.runs <= got.missed);
        }
    }
}
