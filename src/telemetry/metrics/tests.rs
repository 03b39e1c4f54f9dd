//! Each handle moves the series its name promises.

use super::*;
use crate::types::{AudioFault, Direction, LegKind, LegReport, Money, Outcome, Transport};

fn metrics() -> Metrics {
    Metrics::new(&["operator-a".to_owned(), "operator-b".to_owned()])
}

/// The value of the series written exactly as `series` in the exposition.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    metrics.render().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_known_trunk_exports_zero_for_every_outcome_before_the_first_call() {
    let text = metrics().render();
    for trunk in ["operator-a", "operator-b"] {
        for direction in ["app_to_trunk", "trunk_to_app"] {
            for outcome in Outcome::ALL {
                let outcome = outcome.as_str();
                let series = format!(
                    "tandem_calls_ended_total{{direction=\"{direction}\",outcome=\"{outcome}\",trunk=\"{trunk}\"}} 0"
                );
                assert!(text.lines().any(|line| line == series), "{series}");
            }
        }
        assert!(text.contains(&format!("tandem_trunk_up{{trunk=\"{trunk}\"}} 1")));
        assert!(!text.contains(&format!("direction=\"app_to_app\",trunk=\"{trunk}\"")));
    }
    assert!(
        text.contains("tandem_calls_ended_total{direction=\"app_to_app\",outcome=\"answered\",trunk=\"\"} 0")
    );
    assert!(!text.contains("tandem_trunk_up{trunk=\"\"}"));
}

#[test]
fn every_metric_of_the_contract_is_there_from_the_start() {
    let text = metrics().render();
    for name in [
        "calls_active",
        "call_attempts_total",
        "calls_ended_total",
        "call_setup_seconds",
        "call_duration_seconds",
        "media_mos_lq",
        "media_mos_cq",
        "media_packets_total",
        "media_lost_packets_total",
        "media_late_packets_total",
        "media_recovered_packets_total",
        "media_jitter_seconds",
        "media_rtt_seconds",
        "media_transcode_seconds",
        "media_one_way_total",
        "media_silent_total",
        "media_unrepaired_ratio",
        "trunk_up",
        "trunk_options_rtt_seconds",
        "registrations_active",
        "sip_requests_total",
        "sip_responses_total",
        "sip_retransmissions_total",
        "cdr_journal_records",
        "cdr_journal_age_seconds",
        "cdr_stored_total",
        "billing_charged_total",
        "billing_margin_total",
        "media_ports_free",
    ] {
        assert!(text.contains(&format!("# TYPE tandem_{name} ")), "{name}");
    }
    assert!(text.contains("process_resident_memory_bytes "));
}

#[test]
fn an_attempt_is_active_until_it_ends() {
    let metrics = metrics();
    let trunk = metrics.trunk("operator-a");
    trunk.attempt(Direction::AppToTrunk);
    let active = "tandem_calls_active{direction=\"app_to_trunk\",trunk=\"operator-a\"}";
    assert_eq!(value(&metrics, active), Some(1.0));
    trunk.ended(Direction::AppToTrunk, Outcome::Busy);
    assert_eq!(value(&metrics, active), Some(0.0));
    let ended = "tandem_calls_ended_total{direction=\"app_to_trunk\",outcome=\"busy\",trunk=\"operator-a\"}";
    assert_eq!(value(&metrics, ended), Some(1.0));
}

#[test]
fn a_fail_over_ends_the_attempt_and_is_told_apart_from_the_end_of_a_call() {
    let metrics = metrics();
    metrics.trunk("operator-a").attempt(Direction::AppToTrunk);
    metrics.trunk("operator-a").failed_over(Direction::AppToTrunk, Outcome::TrunkFailure);
    let ended =
        "tandem_calls_ended_total{direction=\"app_to_trunk\",outcome=\"trunk_failure\",trunk=\"operator-a\"}";
    assert_eq!(value(&metrics, ended), Some(1.0));
    let left = "tandem_trunk_failovers_total{outcome=\"trunk_failure\",trunk=\"operator-a\"}";
    assert_eq!(value(&metrics, left), Some(1.0));
    let active = "tandem_calls_active{direction=\"app_to_trunk\",trunk=\"operator-a\"}";
    assert_eq!(value(&metrics, active), Some(0.0));
}

#[test]
fn what_was_not_measured_is_not_observed() {
    let metrics = metrics();
    let trunk = metrics.trunk("operator-a");
    let heard = LegReport {
        packets_received: 96,
        packets_lost: 4,
        packets_unrepaired: Some(1),
        mos_lq: Some(3.6),
        ..LegReport::default()
    };
    let unheard = (LegKind::Trunk, LegReport::default());
    trunk.measured(None, Some(&(LegKind::App, heard.clone())), Some(&unheard));
    let series = |name: &str, leg: &str| format!("tandem_{name}{{leg=\"{leg}\",trunk=\"operator-a\"}}");
    assert_eq!(value(&metrics, &series("media_mos_lq_count", "app")), Some(1.0));
    assert_eq!(value(&metrics, &series("media_mos_lq_count", "trunk")), Some(0.0));
    assert_eq!(value(&metrics, &series("media_mos_cq_count", "app")), Some(0.0));
    assert_eq!(value(&metrics, &series("media_loss_ratio_sum", "app")), Some(0.04));
    assert_eq!(value(&metrics, &series("media_unrepaired_ratio_sum", "app")), Some(0.01));
    assert_eq!(value(&metrics, "tandem_calls_measured_total{trunk=\"operator-a\"}"), Some(0.0));
    let at_bound = "tandem_media_mos_lq_bucket{leg=\"app\",trunk=\"operator-a\",le=\"3.6\"}";
    assert_eq!(value(&metrics, at_bound), Some(1.0), "3.6 belongs to the bucket up to 3.6");
    trunk.measured(None, Some(&(LegKind::App, heard.clone())), Some(&(LegKind::Trunk, heard)));
    assert_eq!(value(&metrics, "tandem_calls_measured_total{trunk=\"operator-a\"}"), Some(1.0));
}

#[test]
fn a_call_between_two_trunks_or_two_users_is_measured_on_both_its_legs() {
    let metrics = metrics();
    let heard = |leg| (leg, LegReport { packets_received: 9, mos_lq: Some(4.0), ..LegReport::default() });
    let [from, to] = ["operator-a", "operator-b"].map(|name| metrics.trunk(name));
    to.measured(Some(&from), Some(&heard(LegKind::Trunk)), Some(&heard(LegKind::Trunk)));
    // Each trunk has sent what its own leg heard; the call is the one's that it was counted for.
    for (trunk, calls) in [("operator-a", 0.0), ("operator-b", 1.0)] {
        let legs = format!("tandem_media_mos_lq_count{{leg=\"trunk\",trunk=\"{trunk}\"}}");
        assert_eq!(value(&metrics, &legs), Some(1.0), "{trunk}");
        let measured = format!("tandem_calls_measured_total{{trunk=\"{trunk}\"}}");
        assert_eq!(value(&metrics, &measured), Some(calls), "{trunk}");
    }
    metrics.trunk("").measured(None, Some(&heard(LegKind::App)), Some(&heard(LegKind::App)));
    assert_eq!(value(&metrics, "tandem_media_mos_lq_count{leg=\"app\",trunk=\"\"}"), Some(2.0));
    assert_eq!(value(&metrics, "tandem_calls_measured_total{trunk=\"\"}"), Some(1.0));
}

#[test]
fn one_way_and_silent_audio_are_counted_apart() {
    let metrics = metrics();
    let count = |name: &str| value(&metrics, &format!("tandem_media_{name}_total{{trunk=\"operator-a\"}}"));
    metrics.trunk("operator-a").fault(AudioFault::Missing);
    assert_eq!((count("one_way"), count("silent")), (Some(1.0), Some(0.0)));
    metrics.trunk("operator-a").fault(AudioFault::Silent);
    assert_eq!((count("one_way"), count("silent")), (Some(1.0), Some(1.0)));
    metrics.trunk("operator-a").fault(AudioFault::Unheard);
    assert_eq!((count("one_way"), count("silent")), (Some(2.0), Some(1.0)));
}

#[test]
fn a_removed_trunk_leaves_and_a_new_one_starts_at_zero() {
    let metrics = metrics();
    let old = metrics.trunk("operator-b");
    metrics.set_trunks(&["operator-a".to_owned(), "operator-c".to_owned()]);
    old.attempt(Direction::TrunkToApp);
    let text = metrics.render();
    assert!(!text.contains("operator-b"), "nothing of a removed trunk stays");
    assert!(text.contains("tandem_trunk_up{trunk=\"operator-c\"} 1"));
}

#[test]
fn messages_count_by_method_and_an_invented_method_makes_no_series() {
    let metrics = metrics();
    metrics.sip.request("INVITE", Transport::Tls, Flow::Received);
    metrics.sip.request("X-SCAN-1", Transport::Udp, Flow::Received);
    metrics.sip.response(486, "INVITE");
    metrics.sip.retransmission();
    metrics.sip.refused(Refused::Malformed);
    let invite = "tandem_sip_requests_total{flow=\"received\",method=\"INVITE\",transport=\"tls\"}";
    assert_eq!(value(&metrics, invite), Some(1.0));
    let other = "tandem_sip_requests_total{flow=\"received\",method=\"other\",transport=\"udp\"}";
    assert_eq!(value(&metrics, other), Some(1.0));
    assert_eq!(value(&metrics, "tandem_sip_responses_total{class=\"4xx\",method=\"INVITE\"}"), Some(1.0));
    assert_eq!(value(&metrics, "tandem_sip_retransmissions_total"), Some(1.0));
    assert_eq!(value(&metrics, "tandem_sip_refused_total{reason=\"malformed\"}"), Some(1.0));
    assert!(!metrics.render().contains("X-SCAN"));
}

#[test]
fn media_totals_are_copied_at_the_scrape_and_never_go_back() {
    let metrics = metrics();
    let totals = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(500));
    let source = totals.clone();
    metrics.at_scrape(move |metrics| {
        let received = source.load(std::sync::atomic::Ordering::Relaxed);
        metrics.media.update(&MediaSnapshot {
            app: MediaLegSnapshot { packets_received: received, ..MediaLegSnapshot::default() },
            recovered: [1, 0, 4],
            transcode: HistogramSnapshot { bounds: vec![0.001, 0.003], counts: vec![5, 3, 2], sum: 0.02 },
            ..MediaSnapshot::default()
        });
    });
    let received = "tandem_media_packets_total{flow=\"received\",leg=\"app\"}";
    assert_eq!(value(&metrics, received), Some(500.0));
    totals.store(400, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(value(&metrics, received), Some(500.0));
    assert_eq!(value(&metrics, "tandem_media_recovered_packets_total{method=\"plc\"}"), Some(4.0));
    assert_eq!(value(&metrics, "tandem_media_transcode_seconds_bucket{le=\"0.003\"}"), Some(8.0));
    assert_eq!(value(&metrics, "tandem_media_transcode_seconds_bucket{le=\"+Inf\"}"), Some(10.0));
}

#[test]
fn a_margin_needs_both_sides_in_one_currency() {
    let metrics = metrics();
    let money = |micros, currency: &str| Some(Money { micros, currency: currency.parse().unwrap() });
    metrics.system.charged(money(250_000, "EUR"), None);
    assert_eq!(value(&metrics, "tandem_billing_margin_total{currency=\"EUR\"}"), Some(0.0));
    metrics.system.charged(money(250_000, "EUR"), money(500_000, "EUR"));
    assert_eq!(value(&metrics, "tandem_billing_margin_total{currency=\"EUR\"}"), Some(-0.25));
    metrics.system.charged(money(250_000, "EUR"), money(100_000, "USD"));
    assert_eq!(value(&metrics, "tandem_billing_margin_total{currency=\"EUR\"}"), Some(-0.25));
    assert_eq!(value(&metrics, "tandem_billing_charged_total{currency=\"EUR\",side=\"sell\"}"), Some(0.75));
    assert_eq!(value(&metrics, "tandem_billing_charged_total{currency=\"USD\",side=\"buy\"}"), Some(0.1));
}

#[test]
fn journal_depth_and_disk_are_shown() {
    let metrics = metrics();
    metrics.system.set_journal(3, Some(10_000), 12_500);
    metrics.system.read_journal_disk(std::path::Path::new("/"));
    assert_eq!(value(&metrics, "tandem_cdr_journal_records"), Some(3.0));
    assert_eq!(value(&metrics, "tandem_cdr_journal_age_seconds"), Some(2.5));
    assert!(value(&metrics, "tandem_cdr_journal_disk_size_bytes").unwrap() > 1e6);
}
