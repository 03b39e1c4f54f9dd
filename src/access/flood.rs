//! Admission before any work: how many requests a source that has proven nothing may send.

use super::source::Source;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodSettings {
    /// Requests a second on average.
    pub rate: u32,
    /// Requests at once.
    pub burst: u32,
    /// Calls for help a second on average that a source may make on top: each is an INVITE and its repetition with
    /// credentials.
    pub urgent_rate: u32,
    /// Calls for help at once.
    pub urgent_burst: u32,
    /// Sources kept; beyond them new sources share one bucket.
    pub capacity: usize,
}

impl Default for FloodSettings {
    fn default() -> FloodSettings {
        FloodSettings { rate: 50, burst: 400, urgent_rate: 5, urgent_burst: 20, capacity: 100_000 }
    }
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admit,
    /// Answer 503 with this Retry-After: the first refusal of a source in a second, so that an honest one learns.
    Refuse {
        retry_after: Duration,
    },
    /// Say nothing: answering a flood feeds it, and the source may be forged.
    Drop,
}

/// A bucket as one number (GCRA, ITU-T I.371): the moment at which it is full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Instant,
    last_refusal: Option<Instant>,
}

/// Token buckets per source.
#[derive(Debug)]
pub struct FloodGuard {
    settings: FloodSettings,
    streams: Table,
    datagrams: Table,
}

/// What is kept of the sources of one kind. Each kind has room of its own: forged addresses fill only that of datagrams.
#[derive(Debug, Default)]
struct Table {
    buckets: HashMap<Source, Bucket>,
    /// Of all sources for which there is no room.
    overflow: Option<Bucket>,
    /// When the allowance for calls for help is full again, of those who made some.
    urgent: HashMap<Source, Instant>,
}

const ONE_SECOND: Duration = Duration::from_secs(1);

impl FloodGuard {
    pub fn new(settings: FloodSettings) -> FloodGuard {
        FloodGuard { settings, streams: Table::default(), datagrams: Table::default() }
    }

    pub fn set(&mut self, settings: FloodSettings) {
        self.settings = settings;
    }

    /// Asked for each new request of a source that is neither a trunk nor a registered flow.
    pub fn admit(&mut self, now: Instant, source: Source) -> Admission {
        let settings = self.settings;
        self.table(source).admit(now, source, &settings)
    }

    /// Asked first for a call for help from where users are registered: a flood from there must not keep it out. False
    /// where there have been so many that they count as any other request.
    pub fn admit_urgent(&mut self, now: Instant, source: Source) -> bool {
        let settings = self.settings;
        self.table(source).admit_urgent(now, source, &settings)
    }

    fn table(&mut self, source: Source) -> &mut Table {
        if source.is_stream() { &mut self.streams } else { &mut self.datagrams }
    }

    /// Forgets sources whose bucket is full; to be called now and then.
    pub fn forget(&mut self, now: Instant) {
        self.streams.forget(now);
        self.datagrams.forget(now);
    }

    /// Sources that are remembered.
    pub fn len(&self) -> usize {
        self.streams.buckets.len() + self.datagrams.buckets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn admit(&mut self, now: Instant, source: Source, settings: &FloodSettings) -> Admission {
        if self.buckets.len() >= settings.capacity && !self.buckets.contains_key(&source) {
            self.forget(now);
        }
        let fresh = Bucket { full_at: now, last_refusal: None };
        let bucket = if self.buckets.len() >= settings.capacity && !self.buckets.contains_key(&source) {
            self.overflow.get_or_insert(fresh)
        } else {
            self.buckets.entry(source).or_insert(fresh)
        };
        let rate = settings.rate.max(1);
        let cost = ONE_SECOND / rate;
        let full_at = bucket.full_at.max(now) + cost;
        let depth = cost * settings.burst.max(1);
        if full_at - now <= depth {
            bucket.full_at = full_at;
            return Admission::Admit;
        }
        let spoke_lately =
            bucket.last_refusal.is_some_and(|at| now.saturating_duration_since(at) < ONE_SECOND);
        if spoke_lately {
            return Admission::Drop;
        }
        bucket.last_refusal = Some(now);
        // A whole burst is possible again then; at least a second, the unit of Retry-After.
        Admission::Refuse { retry_after: (bucket.full_at - now).max(ONE_SECOND) }
    }

    fn admit_urgent(&mut self, now: Instant, source: Source, settings: &FloodSettings) -> bool {
        if self.urgent.len() >= settings.capacity {
            self.urgent.retain(|_, full_at| *full_at > now);
        }
        let known = self.urgent.get(&source).copied();
        if known.is_none() && self.urgent.len() >= settings.capacity {
            return false;
        }
        let cost = ONE_SECOND / settings.urgent_rate.max(1);
        let full_at = known.unwrap_or(now).max(now) + cost;
        let fits = full_at - now <= cost * settings.urgent_burst.max(1);
        if fits {
            self.urgent.insert(source, full_at);
        }
        fits
    }

    fn forget(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| {
            let refused =
                bucket.last_refusal.is_some_and(|at| now.saturating_duration_since(at) < ONE_SECOND);
            bucket.full_at > now || refused
        });
        if self.overflow.is_some_and(|bucket| bucket.full_at <= now) {
            self.overflow = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard(rate: u32, burst: u32) -> FloodGuard {
        FloodGuard::new(FloodSettings { rate, burst, capacity: 4, ..FloodSettings::default() })
    }

    fn ip(last: u8) -> Source {
        Source::datagram([192, 0, 2, last].into())
    }

    fn stream(last: u8) -> Source {
        Source::stream([192, 0, 2, last].into())
    }

    #[test]
    fn a_burst_passes_then_one_refusal_a_second_and_silence() {
        let now = Instant::now();
        let mut guard = guard(10, 5);
        for _ in 0..5 {
            assert_eq!(guard.admit(now, ip(1)), Admission::Admit);
        }
        assert_eq!(guard.admit(now, ip(1)), Admission::Refuse { retry_after: ONE_SECOND });
        assert_eq!(guard.admit(now, ip(1)), Admission::Drop);
        assert_eq!(guard.admit(now, ip(2)), Admission::Admit, "another source is not concerned");
        let later = now + Duration::from_millis(100);
        assert_eq!(guard.admit(later, ip(1)), Admission::Admit);
        assert_eq!(guard.admit(later, ip(1)), Admission::Drop);
        let next_second = now + Duration::from_millis(1_001);
        for _ in 0..5 {
            assert_eq!(guard.admit(next_second, ip(1)), Admission::Admit);
        }
        assert!(matches!(guard.admit(next_second, ip(1)), Admission::Refuse { .. }));
    }

    #[test]
    fn a_flood_from_many_sources_shares_one_bucket_once_memory_is_full() {
        let now = Instant::now();
        let mut guard = guard(1, 2);
        for source in 1..=4 {
            assert_eq!(guard.admit(now, ip(source)), Admission::Admit);
        }
        let admitted = (5..=200).filter(|source| guard.admit(now, ip(*source)) == Admission::Admit).count();
        assert_eq!(admitted, 2);
        assert_eq!(guard.len(), 4);
        assert_eq!(guard.admit(now, ip(1)), Admission::Admit, "known sources keep their own");
        guard.forget(now + Duration::from_secs(10));
        assert!(guard.is_empty());
    }

    #[test]
    fn datagrams_that_say_they_come_from_the_address_of_a_stream_spend_nothing_of_it() {
        let now = Instant::now();
        let mut guard = guard(1, 3);
        // One address is flooded, and then so many that there is no room for more.
        for forged in [1; 100].into_iter().chain(2..=100) {
            guard.admit(now, ip(forged));
            guard.admit_urgent(now, ip(forged));
        }
        assert_ne!(guard.admit(now, ip(1)), Admission::Admit);
        for honest in [1, 200] {
            let admitted = (0..10).filter(|_| guard.admit(now, stream(honest)) == Admission::Admit);
            assert_eq!(admitted.count(), 3, "{honest}");
            assert_eq!((0..100).filter(|_| guard.admit_urgent(now, stream(honest))).count(), 20, "{honest}");
        }
        assert_eq!(guard.len(), 4 + 2);
    }

    #[test]
    fn calls_for_help_pass_a_flood_from_their_own_address_and_are_bounded_themselves() {
        let now = Instant::now();
        let mut guard = guard(1, 1);
        while guard.admit(now, ip(1)) == Admission::Admit {}
        let helped = (0..1_000).filter(|_| guard.admit_urgent(now, ip(1))).count();
        assert_eq!(helped, 20);
        assert!(guard.admit_urgent(now, ip(2)), "one source does not use up another's");
        let later = now + ONE_SECOND;
        assert_eq!((0..1_000).filter(|_| guard.admit_urgent(later, ip(1))).count(), 5);
        // Memory is bounded: who finds no room is held as for any other request.
        assert!(guard.admit_urgent(later, ip(3)) && guard.admit_urgent(later, ip(4)));
        assert!((5..=200).filter(|source| guard.admit_urgent(later, ip(*source))).count() <= 2);
        assert!(guard.datagrams.urgent.len() <= 4);
    }

    proptest! {
        #[test]
        fn no_span_of_time_admits_more_than_burst_and_rate(
            rate in 1u32..50,
            burst in 1u32..50,
            waits in prop::collection::vec(0u64..300, 1..300),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut guard = guard(rate, burst);
            let mut admitted: Vec<Duration> = Vec::new();
            for wait in waits {
                now += Duration::from_millis(wait);
                if guard.admit(now, ip(1)) == Admission::Admit { admitted.push(now - start); }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (count, to) in admitted[first..].iter().enumerate() {
                    let allowed = f64::from(burst) + (*to - *from).as_secs_f64() * f64::from(rate) + 1e-3;
                    prop_assert!((count + 1) as f64 <= allowed);
                }
            }
        }
    }
}
