//! Counters of the transports.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the start; read them with `Ordering::Relaxed`.
#[derive(Debug, Default)]
pub struct TransportStats {
    /// Datagrams dropped because the layer above was behind.
    pub udp_inbox_full: AtomicU64,
    /// Requests refused or dropped at the door because the gateway was behind.
    pub shed: AtomicU64,
    /// Messages dropped unread because their source is muted.
    pub muted: AtomicU64,
    /// Datagrams dropped because the socket's send buffer was full.
    pub udp_send_full: AtomicU64,
    /// Datagrams that came back as undeliverable.
    pub undelivered: AtomicU64,
    /// Messages refused or dropped as malformed.
    pub malformed: AtomicU64,
    /// Streams accepted.
    pub accepted: AtomicU64,
    /// Streams turned away at a limit.
    pub turned_away: AtomicU64,
    /// Streams opened.
    pub opened: AtomicU64,
    /// TLS handshakes that failed or took too long, in both roles.
    pub handshakes_failed: AtomicU64,
    /// Streams closed because they brought no whole message in time.
    pub stalled: AtomicU64,
    /// Streams closed because the far end did not read.
    pub slow_readers: AtomicU64,
    /// Messages that were not sent.
    pub failures: AtomicU64,
}

impl TransportStats {
    /// Messages that were turned away because there were too many.
    pub fn turned_away(&self) -> u64 {
        [&self.udp_inbox_full, &self.shed, &self.muted]
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn add(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
