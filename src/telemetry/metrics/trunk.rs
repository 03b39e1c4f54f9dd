//! What is counted per trunk: attempts, outcomes, set-up times, quality of both legs, health.

use super::{counters, gauges, histograms};
use crate::types::{Attestation, AudioFault, Direction, LegKind, LegReport, Outcome, StirResult};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

/// Set-up times in seconds. 4 is a bound because the alert asks for PDD above 4 s.
const SETUP_BUCKETS: &[f64] =
    &[0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0, 60.0];
/// Call durations in seconds, from a misdial to four hours.
const DURATION_BUCKETS: &[f64] =
    &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0];
/// MOS, dense where telephony lives. 3.6 is a bound because the alert asks for a tenth percentile below it.
const MOS_BUCKETS: &[f64] = &[1.0, 1.5, 2.0, 2.6, 3.1, 3.4, 3.6, 3.8, 4.0, 4.1, 4.2, 4.3, 4.35, 4.4, 4.5];
/// Interarrival jitter in seconds, from a quiet LAN to what no jitter buffer saves.
const JITTER_BUCKETS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5];
/// Round trips in seconds, from the same rack to a satellite.
const RTT_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0];
/// Fraction of packets lost. 0.01 is a bound because the alert asks for a 95th percentile above it.
const LOSS_BUCKETS: &[f64] = &[0.0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0];

const LEGS: [LegKind; 2] = [LegKind::App, LegKind::Trunk];

/// The labelled families, from which [`TrunkMetrics`] are cut.
pub(super) struct Families {
    active: IntGaugeVec,
    attempts: IntCounterVec,
    ended: IntCounterVec,
    setup: HistogramVec,
    duration: HistogramVec,
    one_way: IntCounterVec,
    silent: IntCounterVec,
    measured: IntCounterVec,
    failovers: IntCounterVec,
    stir_verified: IntCounterVec,
    stir_signed: IntCounterVec,
    emergency: IntCounterVec,
    mos_lq: HistogramVec,
    mos_cq: HistogramVec,
    jitter: HistogramVec,
    rtt: HistogramVec,
    loss: HistogramVec,
    unrepaired: HistogramVec,
    up: IntGaugeVec,
    blocked: IntGaugeVec,
    draining: IntGaugeVec,
    channels_limit: IntGaugeVec,
    options_rtt: HistogramVec,
}

impl Families {
    pub(super) fn new(registry: &Registry) -> Families {
        let trunk = &["trunk"];
        let leg = &["trunk", "leg"];
        Families {
            active: gauges(
                registry,
                "tandem_calls_active",
                "Calls now between attempt and end.",
                &["trunk", "direction"],
            ),
            attempts: counters(
                registry,
                "tandem_call_attempts_total",
                "Call attempts; a fail-over counts once on each trunk tried. Trunk is empty where none was chosen.",
                &["trunk", "direction"],
            ),
            ended: counters(
                registry,
                "tandem_calls_ended_total",
                "Ended call attempts by outcome; a fail-over counts once on each trunk tried.",
                &["trunk", "direction", "outcome"],
            ),
            setup: histograms(
                registry,
                "tandem_call_setup_seconds",
                "Post-dial delay per trunk attempt: INVITE to the first 180, 183 or 200.",
                trunk,
                SETUP_BUCKETS,
            ),
            duration: histograms(
                registry,
                "tandem_call_duration_seconds",
                "Answer to end of answered calls.",
                trunk,
                DURATION_BUCKETS,
            ),
            one_way: counters(
                registry,
                "tandem_media_one_way_total",
                "Answered calls in which no packets came from one side while the other was heard, or a side reported that it hears nothing (a trunk whose reports never have a block is not believed).",
                trunk,
            ),
            silent: counters(
                registry,
                "tandem_media_silent_total",
                "Answered calls in which packets of one side came and held nothing while the other talked.",
                trunk,
            ),
            measured: counters(
                registry,
                "tandem_calls_measured_total",
                "Answered calls whose quality was measured on both legs.",
                trunk,
            ),
            failovers: counters(
                registry,
                "tandem_trunk_failovers_total",
                "Attempts that ended on this trunk, by outcome, and went on at the next one of the route.",
                &["trunk", "outcome"],
            ),
            stir_verified: counters(
                registry,
                "tandem_stir_verified_total",
                "Calls from the trunk whose signed caller identity was checked, by result (STIR/SHAKEN).",
                &["trunk", "result"],
            ),
            stir_signed: counters(
                registry,
                "tandem_stir_signed_total",
                "Calls to the trunk whose caller we signed, by attestation (STIR/SHAKEN).",
                &["trunk", "attestation"],
            ),
            emergency: counters(
                registry,
                "tandem_emergency_calls_total",
                "Ended emergency calls by outcome, each once; the trunk is the one that had it last.",
                &["trunk", "outcome"],
            ),
            mos_lq: histograms(
                registry,
                "tandem_media_mos_lq",
                "Listening quality per leg and answered call (ITU-T G.107 narrowband, 1 to 4.5).",
                leg,
                MOS_BUCKETS,
            ),
            mos_cq: histograms(
                registry,
                "tandem_media_mos_cq",
                "Conversational quality per leg and answered call, where the round trip is known.",
                leg,
                MOS_BUCKETS,
            ),
            jitter: histograms(
                registry,
                "tandem_media_jitter_seconds",
                "Interarrival jitter per leg and answered call (RFC 3550).",
                leg,
                JITTER_BUCKETS,
            ),
            rtt: histograms(
                registry,
                "tandem_media_rtt_seconds",
                "RTCP round trip per leg and answered call, where the far end reports it.",
                leg,
                RTT_BUCKETS,
            ),
            loss: histograms(
                registry,
                "tandem_media_loss_ratio",
                "Share of packets lost on the way to us, per leg and answered call.",
                leg,
                LOSS_BUCKETS,
            ),
            up: gauges(
                registry,
                "tandem_trunk_up",
                "1 while calls go to the trunk, also before it is known to work; 0 while it is down.",
                trunk,
            ),
            unrepaired: histograms(
                registry,
                "tandem_media_unrepaired_ratio",
                "Share of packets the listener missed after repair, per leg and answered call.",
                leg,
                LOSS_BUCKETS,
            ),
            blocked: gauges(
                registry,
                "tandem_trunk_blocked",
                "1 while an operator or a failure blocks the trunk.",
                trunk,
            ),
            draining: gauges(
                registry,
                "tandem_trunk_draining",
                "1 while the trunk gets no new calls.",
                trunk,
            ),
            channels_limit: gauges(
                registry,
                "tandem_trunk_channels_limit",
                "Calls the trunk may carry at once; 0 is unlimited.",
                trunk,
            ),
            options_rtt: histograms(
                registry,
                "tandem_trunk_options_rtt_seconds",
                "OPTIONS to its answer.",
                trunk,
                RTT_BUCKETS,
            ),
        }
    }

    /// Cuts the handles of one trunk, which exports their zeros.
    pub(super) fn handles(&self, trunk: &str) -> TrunkMetrics {
        // A call between app users never has a trunk, so no named trunk exports that direction.
        let label = |direction: Direction| match direction {
            Direction::AppToApp => super::NO_TRUNK,
            Direction::AppToTrunk | Direction::TrunkToApp | Direction::TrunkToTrunk => trunk,
        };
        let per_leg =
            |family: &HistogramVec| LEGS.map(|leg| family.with_label_values(&[trunk, leg.as_str()]));
        // Health belongs to a real trunk only; calls without one keep handles nobody exports.
        let health = |family: &IntGaugeVec| match trunk {
            super::NO_TRUNK => IntGauge::new("unexported", "unexported").expect("a valid constant name"),
            _ => family.with_label_values(&[trunk]),
        };
        // Calls go to it until it is known to be down, and nobody asks a trunk without OPTIONS.
        let up = health(&self.up);
        up.set(1);
        TrunkMetrics {
            active: Direction::ALL.map(|d| self.active.with_label_values(&[label(d), d.as_str()])),
            attempts: Direction::ALL.map(|d| self.attempts.with_label_values(&[label(d), d.as_str()])),
            ended: Direction::ALL.map(|d| {
                Outcome::ALL.map(|o| self.ended.with_label_values(&[label(d), d.as_str(), o.as_str()]))
            }),
            setup: self.setup.with_label_values(&[trunk]),
            duration: self.duration.with_label_values(&[trunk]),
            one_way: self.one_way.with_label_values(&[trunk]),
            silent: self.silent.with_label_values(&[trunk]),
            measured: self.measured.with_label_values(&[trunk]),
            failovers: Outcome::ALL.map(|o| self.failovers.with_label_values(&[trunk, o.as_str()])),
            stir_verified: StirResult::ALL
                .map(|r| self.stir_verified.with_label_values(&[trunk, r.as_str()])),
            stir_signed: Attestation::ALL.map(|a| self.stir_signed.with_label_values(&[trunk, a.as_str()])),
            emergency: Outcome::ALL.map(|o| self.emergency.with_label_values(&[trunk, o.as_str()])),
            mos_lq: per_leg(&self.mos_lq),
            mos_cq: per_leg(&self.mos_cq),
            jitter: per_leg(&self.jitter),
            rtt: per_leg(&self.rtt),
            loss: per_leg(&self.loss),
            up,
            unrepaired: per_leg(&self.unrepaired),
            blocked: health(&self.blocked),
            draining: health(&self.draining),
            channels_limit: health(&self.channels_limit),
            options_rtt: self.options_rtt.with_label_values(&[trunk]),
        }
    }

    /// Takes one trunk out of the exposition.
    pub(super) fn remove(&self, trunk: &str) {
        // A series that was never made is not an error worth hearing of.
        for direction in Direction::ALL.iter().filter(|d| **d != Direction::AppToApp) {
            let labels = [trunk, direction.as_str()];
            let _ = self.active.remove_label_values(&labels);
            let _ = self.attempts.remove_label_values(&labels);
            for outcome in Outcome::ALL {
                let _ = self.ended.remove_label_values(&[trunk, direction.as_str(), outcome.as_str()]);
            }
        }
        for family in [&self.setup, &self.duration, &self.options_rtt] {
            let _ = family.remove_label_values(&[trunk]);
        }
        for family in [&self.one_way, &self.silent, &self.measured] {
            let _ = family.remove_label_values(&[trunk]);
        }
        for outcome in Outcome::ALL {
            let _ = self.failovers.remove_label_values(&[trunk, outcome.as_str()]);
            let _ = self.emergency.remove_label_values(&[trunk, outcome.as_str()]);
        }
        for result in StirResult::ALL {
            let _ = self.stir_verified.remove_label_values(&[trunk, result.as_str()]);
        }
        for attestation in Attestation::ALL {
            let _ = self.stir_signed.remove_label_values(&[trunk, attestation.as_str()]);
        }
        for family in [&self.up, &self.blocked, &self.draining, &self.channels_limit] {
            let _ = family.remove_label_values(&[trunk]);
        }
        for family in [&self.mos_lq, &self.mos_cq, &self.jitter, &self.rtt, &self.loss, &self.unrepaired] {
            for leg in LEGS {
                let _ = family.remove_label_values(&[trunk, leg.as_str()]);
            }
        }
    }
}

/// The handles of one trunk (or of calls without one).
pub struct TrunkMetrics {
    active: [IntGauge; 4],
    attempts: [IntCounter; 4],
    ended: [[IntCounter; 12]; 4],
    setup: Histogram,
    duration: Histogram,
    one_way: IntCounter,
    silent: IntCounter,
    measured: IntCounter,
    stir_verified: [IntCounter; StirResult::ALL.len()],
    stir_signed: [IntCounter; Attestation::ALL.len()],
    failovers: [IntCounter; 12],
    emergency: [IntCounter; 12],
    mos_lq: [Histogram; 2],
    mos_cq: [Histogram; 2],
    jitter: [Histogram; 2],
    rtt: [Histogram; 2],
    loss: [Histogram; 2],
    unrepaired: [Histogram; 2],
    up: IntGauge,
    blocked: IntGauge,
    draining: IntGauge,
    channels_limit: IntGauge,
    options_rtt: Histogram,
}

impl TrunkMetrics {
    /// An attempt starts here. Each one is closed by exactly one [`ended`](Self::ended) or
    /// [`failed_over`](Self::failed_over) on the same handles.
    pub fn attempt(&self, direction: Direction) {
        self.attempts[direction as usize].inc();
        self.active[direction as usize].inc();
    }

    /// An attempt ends here.
    pub fn ended(&self, direction: Direction, outcome: Outcome) {
        self.ended[direction as usize][outcome as usize].inc();
        self.active[direction as usize].dec();
    }

    /// An attempt ends here and the call goes on at the next trunk, so that ended attempts minus fail-overs are calls.
    pub fn failed_over(&self, direction: Direction, outcome: Outcome) {
        self.failovers[outcome as usize].inc();
        self.ended(direction, outcome);
    }

    /// The signed identity of a call from the trunk was checked.
    pub fn stir_verified(&self, result: StirResult) {
        self.stir_verified[result as usize].inc();
    }

    /// We signed who calls.
    pub fn stir_signed(&self, attestation: Attestation) {
        self.stir_signed[attestation as usize].inc();
    }

    /// An emergency call ends here.
    pub fn emergency(&self, outcome: Outcome) {
        self.emergency[outcome as usize].inc();
    }

    /// INVITE to the first 180, 183 or 200, in seconds; 182 does not count.
    pub fn setup(&self, seconds: f64) {
        self.setup.observe(seconds);
    }

    /// Answer to end of an answered call, in seconds.
    pub fn duration(&self, seconds: f64) {
        self.duration.observe(seconds);
    }

    /// One side of an answered call was not heard, or held nothing, while the other was.
    pub fn fault(&self, fault: AudioFault) {
        match fault {
            AudioFault::Missing | AudioFault::Unheard => self.one_way.inc(),
            AudioFault::Silent => self.silent.inc(),
        }
    }

    /// Both legs of an answered call that has ended, whatever stands at their ends. What a report doesn't know is not
    /// observed; the call counts as measured where the quality of both legs is known. What the trunk sent that the call
    /// came from, `ingress`, is told of that one, whichever the call is counted for.
    pub fn measured(
        &self,
        ingress: Option<&TrunkMetrics>,
        caller: Option<&(LegKind, LegReport)>,
        callee: Option<&(LegKind, LegReport)>,
    ) {
        for (trunk, leg) in [(ingress.unwrap_or(self), caller), (self, callee)] {
            if let Some((kind, report)) = leg {
                trunk.leg(*kind, report);
            }
        }
        let known = |leg: Option<&(LegKind, LegReport)>| leg.is_some_and(|(_, r)| r.mos_lq.is_some());
        if known(caller) && known(callee) {
            self.measured.inc();
        }
    }

    fn leg(&self, leg: LegKind, report: &LegReport) {
        let leg = leg as usize;
        if let Some(mos) = report.mos_lq {
            self.mos_lq[leg].observe(decimal(mos));
        }
        if let Some(mos) = report.mos_cq {
            self.mos_cq[leg].observe(decimal(mos));
        }
        if let Some(jitter) = report.jitter_ms {
            self.jitter[leg].observe(decimal(jitter) / 1000.0);
        }
        if let Some(rtt) = report.rtt_ms {
            self.rtt[leg].observe(decimal(rtt) / 1000.0);
        }
        let expected = report.packets_received + report.packets_lost;
        if expected > 0 {
            self.loss[leg].observe(report.packets_lost as f64 / expected as f64);
            if let Some(unrepaired) = report.packets_unrepaired {
                self.unrepaired[leg].observe(unrepaired.min(expected) as f64 / expected as f64);
            }
        }
    }

    /// Whether the trunk takes calls.
    pub fn set_up(&self, up: bool) {
        self.up.set(up.into());
    }

    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.set(blocked.into());
    }

    pub fn set_draining(&self, draining: bool) {
        self.draining.set(draining.into());
    }

    /// Calls the trunk may carry at once; 0 is unlimited.
    pub fn set_channels_limit(&self, channels: u32) {
        self.channels_limit.set(channels.into());
    }

    /// OPTIONS to its answer, in seconds.
    pub fn options_rtt(&self, seconds: f64) {
        self.options_rtt.observe(seconds);
    }
}

/// Widens through the shortest decimal, so that a measured 3.6 falls into the bucket "up to 3.6" and not, as
/// 3.5999999 or 3.6000001 would, beside it.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
