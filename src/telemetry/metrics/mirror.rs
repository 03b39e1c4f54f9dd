//! Media counts, which the workers keep in atomics of their own and a scrape copies into the registry.

use super::{Flow, counters, gauge, register};
use crate::types::LegKind;
use prometheus::{Gauge, IntCounter, IntGauge, Registry, core::Collector, core::Desc, proto};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How a lost packet was made up for; the value of the `method` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecoveryMethod {
    Fec,
    Dred,
    Plc,
}

impl RecoveryMethod {
    pub const ALL: [RecoveryMethod; 3] = [RecoveryMethod::Fec, RecoveryMethod::Dred, RecoveryMethod::Plc];

    pub fn as_str(self) -> &'static str {
        match self {
            RecoveryMethod::Fec => "fec",
            RecoveryMethod::Dred => "dred",
            RecoveryMethod::Plc => "plc",
        }
    }
}

/// Totals of all legs of one kind since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaLegSnapshot {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub packets_late: u64,
    pub packets_discarded: u64,
}

/// Totals of all media workers since the start of the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MediaSnapshot {
    pub app: MediaLegSnapshot,
    pub trunk: MediaLegSnapshot,
    /// Packets made up for, by [`RecoveryMethod`] in the order of its `ALL`.
    pub recovered: [u64; 3],
    /// Arrival to departure of a transcoded packet, in seconds.
    pub transcode: HistogramSnapshot,
    /// Share of its time that the busiest media thread spends.
    pub load: f64,
    /// Highest complexity an Opus encoder may have on the thread that saves most.
    pub complexity: u8,
}

/// A histogram as someone else keeps it: counts per bucket, not cumulative.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bounds in ascending order, without infinity.
    pub bounds: Vec<f64>,
    /// One count per bound and a last one for what is above all of them.
    pub counts: Vec<u64>,
    pub sum: f64,
}

/// Handles for media counts.
pub struct MediaMetrics {
    legs: [LegCounters; 2],
    recovered: [IntCounter; 3],
    transcode: MirroredHistogram,
    load: Gauge,
    complexity: IntGauge,
    refused: IntCounter,
    ports_free: IntGauge,
    ports: IntGauge,
    ports_rushed: IntCounter,
    ports_disturbed: IntCounter,
}

struct LegCounters {
    packets: [IntCounter; 2],
    lost: IntCounter,
    late: IntCounter,
    discarded: IntCounter,
}

impl MediaMetrics {
    pub(super) fn new(registry: &Registry) -> MediaMetrics {
        let packets = counters(
            registry,
            "tandem_media_packets_total",
            "RTP packets received and sent.",
            &["leg", "flow"],
        );
        let lost = counters(
            registry,
            "tandem_media_lost_packets_total",
            "RTP packets that never came, by sequence numbers.",
            &["leg"],
        );
        let late = counters(
            registry,
            "tandem_media_late_packets_total",
            "RTP packets that came too late or twice.",
            &["leg"],
        );
        let discarded = counters(
            registry,
            "tandem_media_discarded_packets_total",
            "Packets dropped unheard: wrong source, bad SRTP tag, not RTP.",
            &["leg"],
        );
        let recovered = counters(
            registry,
            "tandem_media_recovered_packets_total",
            "Lost packets made up for in the output.",
            &["method"],
        );
        let transcode = MirroredHistogram::new(
            "tandem_media_transcode_seconds",
            "Arrival to departure of a transcoded packet inside the gateway.",
        );
        register(registry, transcode.clone());
        MediaMetrics {
            legs: [LegKind::App, LegKind::Trunk].map(|leg| LegCounters {
                packets: Flow::ALL.map(|flow| packets.with_label_values(&[leg.as_str(), flow.as_str()])),
                lost: lost.with_label_values(&[leg.as_str()]),
                late: late.with_label_values(&[leg.as_str()]),
                discarded: discarded.with_label_values(&[leg.as_str()]),
            }),
            recovered: RecoveryMethod::ALL.map(|method| recovered.with_label_values(&[method.as_str()])),
            transcode,
            load: super::registered(
                registry,
                Gauge::new(
                    "tandem_media_load_ratio",
                    "Share of its time that the busiest media thread spends; calls are refused above media.load_limit.",
                ),
            ),
            complexity: gauge(
                registry,
                "tandem_media_complexity",
                "Highest complexity an Opus encoder may have at present; 10 is no limit.",
            ),
            refused: super::counter(
                registry,
                "tandem_media_refused_calls_total",
                "Calls refused because all media threads have as much to do as they may.",
            ),
            ports_free: gauge(
                registry,
                "tandem_media_ports_free",
                "Media port pairs that a new leg could take now.",
            ),
            ports: gauge(registry, "tandem_media_ports", "Media port pairs configured in all networks."),
            ports_rushed: super::counter(
                registry,
                "tandem_media_ports_rushed_total",
                "Freed media port pairs used again before their full rest, because no other was left.",
            ),
            ports_disturbed: super::counter(
                registry,
                "tandem_media_ports_disturbed_total",
                "Rests of freed media port pairs that began anew, because somebody still sent to them.",
            ),
        }
    }

    /// Copies in the workers' totals. Counters never go back: a smaller total is ignored.
    pub fn update(&self, snapshot: &MediaSnapshot) {
        for (counters, totals) in self.legs.iter().zip([&snapshot.app, &snapshot.trunk]) {
            raise(&counters.packets[Flow::Received as usize], totals.packets_received);
            raise(&counters.packets[Flow::Sent as usize], totals.packets_sent);
            raise(&counters.lost, totals.packets_lost);
            raise(&counters.late, totals.packets_late);
            raise(&counters.discarded, totals.packets_discarded);
        }
        for (counter, total) in self.recovered.iter().zip(snapshot.recovered) {
            raise(counter, total);
        }
        self.transcode.set(snapshot.transcode.clone());
        self.load.set(snapshot.load);
        self.complexity.set(snapshot.complexity.into());
    }

    /// A call was refused because the media threads have enough to do.
    pub fn refused_call(&self) {
        self.refused.inc();
    }

    /// Port pairs: free now and configured in all; reused early and disturbed at rest since the start.
    pub fn set_ports(&self, free: usize, configured: usize, rushed_total: u64, disturbed_total: u64) {
        self.ports_free.set(free as i64);
        self.ports.set(configured as i64);
        raise(&self.ports_rushed, rushed_total);
        raise(&self.ports_disturbed, disturbed_total);
    }
}

/// Lifts a counter to a total that is kept elsewhere.
pub(super) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// A histogram without observations of its own: it shows the last snapshot it was given.
#[derive(Clone)]
struct MirroredHistogram {
    desc: Desc,
    snapshot: Arc<Mutex<HistogramSnapshot>>,
}

impl MirroredHistogram {
    fn new(name: &str, help: &str) -> MirroredHistogram {
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())
            .expect("a valid constant name");
        MirroredHistogram { desc, snapshot: Arc::default() }
    }

    fn set(&self, snapshot: HistogramSnapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

impl Collector for MirroredHistogram {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cumulative = 0;
        let buckets = snapshot.bounds.iter().zip(&snapshot.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(snapshot.counts.iter().sum());
        histogram.set_sample_sum(snapshot.sum);
        let mut metric = proto::Metric::from_label(Vec::new());
        metric.set_histogram(histogram);
        vec![family(&self.desc, proto::MetricType::HISTOGRAM, metric)]
    }
}

/// One family with one metric, for collectors that build theirs by hand.
pub(super) fn family(desc: &Desc, kind: proto::MetricType, metric: proto::Metric) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}
