//! Whether the far side hears us, by what its reports say of our stream. How soon that shows is a matter of its reports:
//! they come every five seconds or so (RFC 3550 §6.2).

use crate::media::rtcp::Received;
use std::time::{Duration, Instant};

/// Nothing is said of fewer packets than this, two seconds of voice: they may still be on their way.
const ENOUGH: u32 = 100;
/// Of so many packets at least one arrives where anybody can be said to hear us.
const ONE_OF: u64 = 40;
/// So many reports in a row: one may be of the moment before the first packet, or about the stream before this one.
const SURE: u8 = 2;
/// How far back a report may lag behind what we had sent when we began to ask.
const LAG: u16 = 3_000;

/// Our stream as far as it has gone out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub ssrc: u32,
    pub packets: u32,
    pub next_sequence: u16,
}

/// What the far side was last known to have heard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hearing {
    ssrc: u32,
    /// Packets of ours that had gone out by then, or when we began to ask.
    packets: u32,
    /// The highest number it had by then, or that it could have.
    highest: u16,
    /// Reports since then that say it hears nothing, and when the last of them came.
    deaf: u8,
    told: Option<Instant>,
}

impl Hearing {
    /// Asks from now on.
    pub(super) fn new(stream: Stream) -> Hearing {
        let Stream { ssrc, packets, next_sequence } = stream;
        Hearing { ssrc, packets, highest: next_sequence.wrapping_sub(1), ..Hearing::default() }
    }

    /// Takes what a peer says of our stream; `tells`: it has blocks where it hears, so that a report without one is a
    /// word too. Gives the time since its last word where it surely hears nothing.
    pub(super) fn judge(
        &mut self,
        received: &Received,
        tells: bool,
        stream: Stream,
        now: Instant,
    ) -> Option<Duration> {
        let blocks = received.blocks.filter(|_| !received.bye)?;
        if stream.ssrc != self.ssrc {
            *self = Hearing::new(stream);
        }
        let passed = stream.packets.wrapping_sub(self.packets);
        match received.about_us {
            Some(block) => {
                // Who gets nothing has nothing to count: by RFC 3550 A.3 it tells a loss of zero, and its highest
                // number stands still.
                let highest = block.reception.highest_sequence as u16;
                let step = highest.wrapping_sub(self.highest);
                let step = if step > u16::MAX - LAG { 0 } else { u64::from(step) };
                let arrived = step * (256 - u64::from(block.reception.fraction_lost)) / 256;
                if arrived * ONE_OF >= u64::from(passed) {
                    *self = Hearing { highest, ..Hearing::new(stream) };
                    return None;
                }
            }
            // It hears somebody: perhaps the stream before this one, or ours under another name.
            None if blocks > 0 => return None,
            // Only who was heard since the last report has a block (RFC 3550 §6.4). Some never send any.
            None if !tells => return None,
            None => {}
        }
        if passed < ENOUGH {
            return None;
        }
        self.deaf = self.deaf.saturating_add(1);
        let since = self.told.replace(now);
        since.filter(|_| self.deaf >= SURE).map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::reception::Reception;
    use crate::media::rtcp::Report;

    fn block(highest: u32, fraction_lost: u8) -> Received {
        let reception =
            Reception { ssrc: 1, fraction_lost, cumulative_lost: 0, highest_sequence: highest, jitter: 0 };
        let about_us = Some(Report { reception, last_sr: 0, delay_since_last_sr: 0 });
        Received { about_us, blocks: Some(1), ..Received::default() }
    }

    fn nothing() -> Received {
        Received { blocks: Some(0), ..Received::default() }
    }

    fn stream(ssrc: u32, packets: u32) -> Stream {
        Stream { ssrc, packets, next_sequence: 1 }
    }

    const NONE: [usize; 0] = [];

    /// Reports five seconds apart, each with how many packets had gone out; gives which of them were findings.
    fn findings(reports: &[(Received, u32)]) -> Vec<usize> {
        let (mut hearing, start) = (Hearing::new(stream(1, 0)), Instant::now());
        let mut judge = |n: usize, received: &Received, packets: u32| {
            let now = start + Duration::from_secs(5) * n as u32;
            let found = hearing.judge(received, true, stream(1, packets), now);
            assert!(found.is_none_or(|lasted| lasted == Duration::from_secs(5)));
            found.is_some()
        };
        (0..reports.len()).filter(|n| judge(*n, &reports[*n].0, reports[*n].1)).collect()
    }

    #[test]
    fn two_reports_without_a_word_of_us_are_needed_and_packets_to_speak_of() {
        assert_eq!(
            findings(&[(nothing(), 40), (nothing(), 290), (nothing(), 540), (nothing(), 790)]),
            [2, 3]
        );
        assert_eq!(findings(&[(nothing(), 10), (nothing(), 20), (nothing(), 30), (nothing(), 99)]), NONE);
        assert_eq!(
            findings(&[(block(250, 0), 250), (nothing(), 500), (block(750, 0), 750), (nothing(), 1_000)]),
            NONE
        );
    }

    #[test]
    fn a_number_that_stands_still_is_nothing_heard_whatever_loss_is_told() {
        let stalled = block(65_600, 0);
        assert_eq!(
            findings(&[(block(60_000, 0), 250), (stalled, 500), (stalled, 750), (stalled, 1_000)]),
            [3]
        );
        // One packet in two hundred gets through.
        let starved: Vec<_> = (1..5).map(|n| (block(250 * n, 254), 250 * n)).collect();
        assert_eq!(findings(&starved), [1, 2, 3]);
    }

    #[test]
    fn who_hears_little_hears_and_a_silence_of_ours_is_not_to_be_heard() {
        // Nine of ten are lost.
        let bad: Vec<_> = (1..9).map(|n| (block(250 * n, 230), 250 * n)).collect();
        assert_eq!(findings(&bad), NONE);
        // A relay skipped what its source lost: few packets, far apart.
        let skipped: Vec<_> = (1..9).map(|n| (block(5_000 * n, 250), 110 * n)).collect();
        assert_eq!(findings(&skipped), NONE);
        // Our own pause: two packets a second.
        let quiet: Vec<_> = (1..40).map(|n| (block(12 * n, 0), 12 * n)).collect();
        assert_eq!(findings(&quiet), NONE);
    }

    #[test]
    fn who_speaks_of_others_only_and_who_says_goodbye_is_not_judged() {
        let others = Received { blocks: Some(1), ..Received::default() };
        assert_eq!(findings(&[(others, 500), (others, 1_000), (others, 1_500)]), NONE);
        let bye = Received { bye: true, ..nothing() };
        assert_eq!(findings(&[(nothing(), 500), (bye, 1_000)]), NONE);
        assert_eq!(findings(&[(Received::default(), 500), (Received::default(), 1_000)]), NONE, "no reports");
    }

    #[test]
    fn another_stream_of_ours_begins_anew() {
        let (mut hearing, start) = (Hearing::new(stream(1, 0)), Instant::now());
        assert_eq!(hearing.judge(&nothing(), true, stream(1, 500), start), None);
        assert_eq!(hearing.judge(&nothing(), true, stream(2, 50), start), None);
        assert_eq!(hearing.judge(&nothing(), true, stream(2, 200), start), None);
        assert!(hearing.judge(&nothing(), true, stream(2, 400), start).is_some());
    }
}
