//! What a load found out, as one JSON document and as text.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Delays of more than a minute count as a minute.
const LONGEST_US: u64 = 60_000_000;

/// How the delays were found; part of the document, so that nobody has to guess what a number means.
pub const METHOD: &str = "Every packet is stamped when it is sent and, by the kernel, when it arrives. Each 4 s, one \
    second of decoded sound is cross-correlated with what was sent, which says which sound an arrival holds. \
    packet_delay_ms runs from sending the last packet whose sound an arrival holds to that arrival; content_delay_ms \
    from a sound's turn at the sender to its arrival, so it has the look-ahead of the gateway's encoder too.";

/// Percentiles of a set of durations, in milliseconds; absent where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub count: u64,
    pub min: f64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of microseconds.
    pub fn of(micros: impl IntoIterator<Item = u64>) -> Option<Spread> {
        let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, LONGEST_US, 3).ok()?;
        for value in micros {
            histogram.saturating_record(value.clamp(1, LONGEST_US));
        }
        let ms = |micros: u64| micros as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| Spread {
            count: histogram.len(),
            min: ms(histogram.min()),
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max().min(LONGEST_US)),
        })
    }
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub calls: Calls,
    pub app_to_trunk: Direction,
    pub trunk_to_app: Direction,
    /// `None` where no process was named.
    pub gateway: Option<GatewayCost>,
    /// Processor time of this tool per call and second of call, in milliseconds.
    pub own_cpu_ms_per_call_second: Option<f64>,
    pub method: &'static str,
}

/// How the calls went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Calls {
    pub asked: usize,
    pub set_up: usize,
    pub failed: usize,
    /// Calls that the far end ended before it was time.
    pub dropped: usize,
    /// How many failed with which status and phrase.
    pub failures: BTreeMap<String, usize>,
    /// Seconds in which all calls that were set up were up together.
    pub held_seconds: f64,
    /// INVITE to 200, milliseconds.
    pub setup_ms: Option<Spread>,
}

/// What happened to the voice on one way.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Direction {
    pub packets_sent: u64,
    pub packets_received: u64,
    /// By sequence numbers at the receiver.
    pub packets_lost: u64,
    /// Of what should have arrived.
    pub loss_ratio: Option<f64>,
    /// Calls in which something was heard.
    pub calls_heard: usize,
    /// Calls whose delay was measured.
    pub calls_measured: usize,
    /// Comparisons in which the sound was not recognised; pauses in the speech are among them.
    pub unrecognised: u32,
    pub packet_delay_ms: Option<Spread>,
    pub content_delay_ms: Option<Spread>,
}

/// What the gateway took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GatewayCost {
    pub pid: u32,
    /// Processor time while all calls were up.
    pub cpu_seconds: f64,
    /// The same per call and second of call, in milliseconds.
    pub cpu_ms_per_call_second: Option<f64>,
    /// Resident memory before the first call and with all calls up, in KiB.
    pub memory_before_kib: u64,
    pub memory_held_kib: u64,
    pub memory_kib_per_call: Option<f64>,
}

impl Report {
    /// True if every call was set up, kept, and heard at both ends.
    pub fn is_clean(&self) -> bool {
        let Calls { asked, set_up, dropped, .. } = self.calls;
        let heard = [&self.app_to_trunk, &self.trunk_to_app].iter().all(|way| way.calls_heard == asked);
        set_up == asked && dropped == 0 && heard
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calls { asked, set_up, failed, dropped, failures, held_seconds, setup_ms } = &self.calls;
        writeln!(
            f,
            "calls     {set_up} of {asked} set up, {failed} failed, {dropped} dropped, held {held_seconds:.1} s"
        )?;
        for (why, count) in failures {
            writeln!(f, "          {count} x {why}")?;
        }
        writeln!(f, "set-up    {}", Shown(*setup_ms))?;
        for (name, way) in [("app to trunk", &self.app_to_trunk), ("trunk to app", &self.trunk_to_app)] {
            let loss =
                way.loss_ratio.map_or("not measured".to_owned(), |loss| format!("{:.3} %", loss * 100.0));
            writeln!(
                f,
                "{name}\n  packets {} sent, {} received, {} lost ({loss})",
                way.packets_sent, way.packets_received, way.packets_lost
            )?;
            writeln!(f, "  delay   {} ({} calls)", Shown(way.packet_delay_ms), way.calls_measured)?;
            writeln!(f, "  content {}", Shown(way.content_delay_ms))?;
        }
        let each = |value: Option<f64>, unit: &str| match value {
            Some(value) => format!("{value:.2} {unit}"),
            None => "not measured".to_owned(),
        };
        match &self.gateway {
            Some(cost) => writeln!(
                f,
                "gateway   {}, {}",
                each(cost.cpu_ms_per_call_second, "CPU-ms per call-second"),
                each(cost.memory_kib_per_call, "KiB per call")
            )?,
            None => writeln!(f, "gateway   not measured (--pid)")?,
        }
        writeln!(f, "this tool {}", each(self.own_cpu_ms_per_call_second, "CPU-ms per call-second"))
    }
}

struct Shown(Option<Spread>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Spread { p50, p99, max, .. }) => {
                write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")
            }
            None => f.write_str("not measured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let way = Direction { calls_heard: 2, ..Direction::default() };
        Report {
            calls: Calls { asked: 2, set_up: 2, ..Calls::default() },
            app_to_trunk: way.clone(),
            trunk_to_app: way,
            gateway: None,
            own_cpu_ms_per_call_second: None,
            method: METHOD,
        }
    }

    #[test]
    fn percentiles_are_in_milliseconds_and_nothing_measured_is_nothing() {
        let spread = Spread::of(1..=1_000).unwrap();
        assert_eq!((spread.count, spread.min, spread.p50, spread.max), (1_000, 0.001, 0.5, 1.0));
        assert!((0.989..=0.991).contains(&spread.p99), "{spread:?}");
        assert_eq!(Spread::of([0, u64::MAX]).unwrap().max, 60_000.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_clean_run_has_every_call_heard_at_both_ends() {
        assert!(report().is_clean());
        let deaf = Direction { calls_heard: 1, ..Direction::default() };
        assert!(!Report { trunk_to_app: deaf, ..report() }.is_clean());
        let dropped = Calls { dropped: 1, ..report().calls };
        assert!(!Report { calls: dropped, ..report() }.is_clean());
        let failed = Calls { set_up: 1, failed: 1, ..report().calls };
        assert!(!Report { calls: failed, ..report() }.is_clean());
    }

    #[test]
    fn what_was_not_measured_is_said_to_be_so() {
        let text = report().to_string();
        assert_eq!(text.matches("not measured").count(), 9, "{text}");
        let json = serde_json::to_value(report()).unwrap();
        assert!(json["gateway"].is_null() && json["app_to_trunk"]["packet_delay_ms"].is_null());
    }
}
