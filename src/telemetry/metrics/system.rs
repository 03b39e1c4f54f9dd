//! What is counted of the gateway itself: records, database, charges, reloads, draining, logs.

use super::mirror::raise;
use super::{counter, counters, float_gauges, gauge, gauges, registered};
use crate::types::{Currency, Money, UnixMillis};
use prometheus::{CounterVec, Gauge, GaugeVec, IntCounter, IntGauge, Opts, Registry};
use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path};

/// Values of the `side` label: what we charge the account, and what the carrier charges us.
const SELL: &str = "sell";
const BUY: &str = "buy";

/// Handles for everything that is neither a trunk, nor SIP, nor media.
pub struct SystemMetrics {
    journal_records: IntGauge,
    journal_age: Gauge,
    journal_disk_free: IntGauge,
    journal_disk_size: IntGauge,
    cdr_stored: IntCounter,
    cdr_not_rated: IntCounter,
    charged: CounterVec,
    margin: GaugeVec,
    database_up: IntGauge,
    draining: IntGauge,
    reloads: [IntCounter; 2],
    certificate_expiry: Gauge,
    stir_certificate_expiry: Gauge,
    log_dropped: IntCounter,
}

impl SystemMetrics {
    pub(super) fn new(registry: &Registry) -> SystemMetrics {
        let build =
            gauges(registry, "tandem_build_info", "Always 1; the label tells the version.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let charged = registered(
            registry,
            CounterVec::new(
                Opts::new(
                    "tandem_billing_charged_total",
                    "Charges of ended calls, in units of the currency.",
                ),
                &["side", "currency"],
            ),
        );
        // A margin may be negative, so this is a gauge whatever its contracted name suggests.
        let margin = float_gauges(
            registry,
            "tandem_billing_margin_total",
            "Sell minus buy charges of ended calls, in units of the currency.",
            &["currency"],
        );
        let reloads = counters(registry, "tandem_reloads_total", "Configuration reloads.", &["result"]);
        let metrics = SystemMetrics {
            journal_records: gauge(
                registry,
                "tandem_cdr_journal_records",
                "Records in the journal that the database has not confirmed.",
            ),
            journal_age: float_gauge(
                registry,
                "tandem_cdr_journal_age_seconds",
                "Age of the oldest record that the database has not confirmed; 0 without one.",
            ),
            journal_disk_free: gauge(
                registry,
                "tandem_cdr_journal_disk_free_bytes",
                "Room left on the disk that holds the journal.",
            ),
            journal_disk_size: gauge(
                registry,
                "tandem_cdr_journal_disk_size_bytes",
                "Size of the disk that holds the journal.",
            ),
            cdr_stored: counter(
                registry,
                "tandem_cdr_stored_total",
                "Final CDRs the database has confirmed.",
            ),
            cdr_not_rated: counter(
                registry,
                "tandem_cdr_not_rated_total",
                "Answered calls between a user and a trunk that no price was found for.",
            ),
            charged,
            margin,
            database_up: gauge(registry, "tandem_database_up", "1 while the database answers, else 0."),
            draining: gauge(registry, "tandem_draining", "1 while the gateway takes no new calls."),
            reloads: ["ok", "refused"].map(|result| reloads.with_label_values(&[result])),
            certificate_expiry: float_gauge(
                registry,
                "tandem_certificate_expiry_timestamp_seconds",
                "End of validity of the TLS certificate, seconds since the epoch; 0 without one.",
            ),
            stir_certificate_expiry: float_gauge(
                registry,
                "tandem_stir_certificate_expiry_timestamp_seconds",
                "End of validity of the chain that callers are signed with, seconds since the epoch; 0 without one.",
            ),
            log_dropped: counter(
                registry,
                "tandem_log_lines_dropped_total",
                "Log lines given up because their reader was too slow.",
            ),
        };
        metrics.known_currency(Currency::EUR);
        metrics
    }

    /// Exports zeros for a currency of the rate deck.
    pub fn known_currency(&self, currency: Currency) {
        for side in [SELL, BUY] {
            self.charged.with_label_values(&[side, currency.as_str()]);
        }
        self.margin.with_label_values(&[currency.as_str()]);
    }

    /// Journal depth, and when its oldest unconfirmed record was written.
    pub fn set_journal(&self, records: u64, oldest: Option<UnixMillis>, now: UnixMillis) {
        self.journal_records.set(records as i64);
        self.journal_age.set(oldest.map_or(0.0, |oldest| (now - oldest).max(0) as f64 / 1000.0));
    }

    /// Looks up the disk that holds `directory`; leaves the figures as they are if it can't be asked.
    pub fn read_journal_disk(&self, directory: &Path) {
        if let Some((free, size)) = disk_space(directory) {
            self.journal_disk_free.set(free as i64);
            self.journal_disk_size.set(size as i64);
        }
    }

    pub fn cdrs_stored(&self, count: u64) {
        self.cdr_stored.inc_by(count);
    }

    /// As [`cdrs_stored`](Self::cdrs_stored), for a shell that keeps the total itself.
    pub fn set_cdrs_stored(&self, total: u64) {
        raise(&self.cdr_stored, total);
    }

    pub fn not_rated(&self) {
        self.cdr_not_rated.inc();
    }

    /// What an ended call costs. A side that is not rated is absent; a margin needs both, in one currency.
    pub fn charged(&self, sell: Option<Money>, buy: Option<Money>) {
        for (side, money) in [(SELL, sell), (BUY, buy)] {
            if let Some(money) = money.filter(|money| money.micros > 0) {
                let counter = self.charged.with_label_values(&[side, money.currency.as_str()]);
                counter.inc_by(units(money.micros));
            }
        }
        if let (Some(sell), Some(buy)) = (sell, buy)
            && sell.currency == buy.currency
        {
            self.margin.with_label_values(&[sell.currency.as_str()]).add(units(sell.micros - buy.micros));
        }
    }

    pub fn set_database_up(&self, up: bool) {
        self.database_up.set(up.into());
    }

    pub fn set_draining(&self, draining: bool) {
        self.draining.set(draining.into());
    }

    pub fn reloaded(&self, accepted: bool) {
        self.reloads[usize::from(!accepted)].inc();
    }

    /// End of validity of the TLS certificate in use, seconds since the epoch; `None` without one.
    pub fn set_stir_certificate_expiry(&self, unix_seconds: Option<i64>) {
        self.stir_certificate_expiry.set(unix_seconds.unwrap_or(0) as f64);
    }

    pub fn set_certificate_expiry(&self, unix_seconds: Option<i64>) {
        self.certificate_expiry.set(unix_seconds.unwrap_or(0) as f64);
    }

    /// Log lines given up since the start of the process.
    pub fn set_log_dropped(&self, total: u64) {
        raise(&self.log_dropped, total);
    }
}

fn float_gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    registered(registry, Gauge::new(name, help))
}

/// Millionths as units of the currency: a metric is for watching, not for paying.
fn units(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// Free (to us, not to root) and total bytes of the file system that holds `directory`.
fn disk_space(directory: &Path) -> Option<(u64, u64)> {
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string that outlives the call; statvfs fills the struct when it returns 0.
    let stat = unsafe {
        if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}
