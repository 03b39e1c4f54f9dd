//! Every number the gateway publishes, as handles that are looked up once and counted without a lock.
//!
//! Values that live elsewhere (media workers' atomics, the journal's depth) are copied in by hooks that run just
//! before a scrape, see [`Metrics::at_scrape`]. No label ever carries a user, a number, a Call-ID or an address.

mod mirror;
mod process;
mod sip;
mod system;
mod trunk;

pub use mirror::{HistogramSnapshot, MediaLegSnapshot, MediaMetrics, MediaSnapshot, RecoveryMethod};
pub use sip::{Flow, Refused, SipMetrics};
pub use system::SystemMetrics;
pub use trunk::TrunkMetrics;

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The value of the `trunk` label where a call has none: calls between app users, and calls refused before a trunk
/// was chosen. Prometheus treats an empty label as an absent one.
pub const NO_TRUNK: &str = "";

type ScrapeHook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// All metrics of one gateway. Created once, shared by `Arc`.
pub struct Metrics {
    registry: Registry,
    trunk_families: trunk::Families,
    trunks: RwLock<BTreeMap<String, Arc<TrunkMetrics>>>,
    no_trunk: Arc<TrunkMetrics>,
    pub sip: SipMetrics,
    pub media: MediaMetrics,
    pub system: SystemMetrics,
    hooks: Mutex<Vec<ScrapeHook>>,
}

impl Metrics {
    /// Registers every family and exports zeros for each of the `trunks`, so that a rate exists before the first call.
    pub fn new(trunks: &[String]) -> Metrics {
        let registry = Registry::new();
        let trunk_families = trunk::Families::new(&registry);
        let no_trunk = Arc::new(trunk_families.handles(NO_TRUNK));
        let metrics = Metrics {
            sip: SipMetrics::new(&registry),
            media: MediaMetrics::new(&registry),
            system: SystemMetrics::new(&registry),
            registry,
            trunk_families,
            trunks: RwLock::new(BTreeMap::new()),
            no_trunk,
            hooks: Mutex::new(Vec::new()),
        };
        register(&metrics.registry, process::ProcessCollector::new());
        metrics.set_trunks(trunks);
        metrics
    }

    /// The handles of one trunk, made with zeros if it was not known. Keep the `Arc`: this takes a lock.
    pub fn trunk(&self, name: &str) -> Arc<TrunkMetrics> {
        if name == NO_TRUNK {
            return self.no_trunk.clone();
        }
        if let Some(known) = self.trunks.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known.clone();
        }
        let mut trunks = self.trunks.write().unwrap_or_else(PoisonError::into_inner);
        trunks.entry(name.to_owned()).or_insert_with(|| Arc::new(self.trunk_families.handles(name))).clone()
    }

    /// The handles of calls that have no trunk.
    pub fn no_trunk(&self) -> Arc<TrunkMetrics> {
        self.no_trunk.clone()
    }

    /// Makes the exported trunks exactly `names`: new ones start at zero, removed ones leave the exposition. Calls
    /// still running on a removed trunk keep counting on their own handles, unseen.
    pub fn set_trunks(&self, names: &[String]) {
        let mut trunks = self.trunks.write().unwrap_or_else(PoisonError::into_inner);
        trunks.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                self.trunk_families.remove(name);
            }
            stays
        });
        for name in names.iter().filter(|name| *name != NO_TRUNK) {
            trunks.entry(name.clone()).or_insert_with(|| Arc::new(self.trunk_families.handles(name)));
        }
    }

    /// Runs `hook` before each scrape, to copy in values that other rooms keep. It must not block.
    pub fn at_scrape(&self, hook: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// The text exposition, with the type [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        // The lock also keeps two scrapes from copying the same difference into a counter twice.
        let hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        for hook in hooks.iter() {
            hook(self);
        }
        let mut text = Vec::with_capacity(32 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be encoded");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Names are constants of this room; a name used twice shows in the first test that builds [`Metrics`].
fn register<C: Collector + 'static>(registry: &Registry, collector: C) {
    registry.register(Box::new(collector)).expect("each metric name is registered once");
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, made: Result<C, prometheus::Error>) -> C {
    let collector = made.expect("metric names and labels are valid constants");
    register(registry, collector.clone());
    collector
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn float_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    registered(registry, GaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    registered(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}

#[cfg(test)]
mod tests;
