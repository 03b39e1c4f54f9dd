//! Slows down password guessing by source and user, in a way that can't lock a user out.

use super::source::Source;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardSettings {
    /// Wrong passwords that are answered at once.
    pub free_failures: u32,
    /// First pause after them; each further failure doubles it.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// A source that was quiet for this long is forgotten.
    pub forget_after: Duration,
    /// Entries kept; when all are taken, the one that fails least recently goes.
    pub capacity: usize,
}

impl Default for GuardSettings {
    fn default() -> GuardSettings {
        GuardSettings {
            free_failures: 5,
            first_pause: Duration::from_secs(2),
            longest_pause: Duration::from_secs(900),
            forget_after: Duration::from_secs(3_600),
            // About 10 MB; a botnet that is larger is met by the flood guard.
            capacity: 65_536,
        }
    }
}

/// What to do with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Check the password.
    Check,
    /// Don't look at it; the answer is the one for a wrong password.
    Refuse { for_another: Duration },
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    last: Instant,
    paused_until: Option<Instant>,
}

/// Counts wrong passwords per source and user, and per source over all users.
///
/// The user alone is never a key: who guesses from one address pauses only itself. The owner, who comes from
/// another address or has proven itself from this one before, is not affected.
#[derive(Debug)]
pub struct LoginGuard {
    settings: GuardSettings,
    pairs: HashMap<(Source, String), Entry>,
    /// A source that tries many names is paused whatever name it tries next.
    sources: HashMap<Source, Entry>,
    /// Who proved itself from where, and when: that pair is only paused for its own failures.
    proven: HashMap<(Source, String), Instant>,
}

/// A source may fail with this many times as many names as one user may have wrong passwords: an office with one
/// address and one mistyped phone must not silence its other phones.
const SOURCE_SHARE: u32 = 10;

impl LoginGuard {
    pub fn new(settings: GuardSettings) -> LoginGuard {
        LoginGuard { settings, pairs: HashMap::new(), sources: HashMap::new(), proven: HashMap::new() }
    }

    pub fn set(&mut self, settings: GuardSettings) {
        self.settings = settings;
    }

    /// Asked before a password is checked.
    pub fn verdict(&self, now: Instant, source: Source, user: &str) -> Verdict {
        let key = (source, user.to_owned());
        let own = self.pairs.get(&key).and_then(|entry| entry.paused_until);
        let shared = if self.proven.contains_key(&key) {
            None
        } else {
            self.sources.get(&key.0).and_then(|entry| entry.paused_until)
        };
        match [own, shared].into_iter().flatten().max() {
            Some(until) if now < until => Verdict::Refuse { for_another: until - now },
            Some(_) | None => Verdict::Check,
        }
    }

    /// A wrong password, or a user that does not exist: the same to the outside.
    pub fn failed(&mut self, now: Instant, source: Source, user: &str) {
        let settings = self.settings;
        let own = count(&mut self.pairs, (source, user.to_owned()), now, &settings, settings.free_failures);
        // Failures beyond a user's free ones are one guesser's; a source counts names that fail, not their number.
        if own <= settings.free_failures {
            count(
                &mut self.sources,
                source,
                now,
                &settings,
                settings.free_failures.saturating_mul(SOURCE_SHARE),
            );
        }
    }

    /// The right password.
    pub fn succeeded(&mut self, now: Instant, source: Source, user: &str) {
        let key = (source, user.to_owned());
        self.pairs.remove(&key);
        make_room(&mut self.proven, &key, self.settings.capacity, |at| *at);
        self.proven.insert(key, now);
    }

    /// Forgets who has been quiet; to be called now and then.
    pub fn forget(&mut self, now: Instant) {
        let old = |at: Instant| now.saturating_duration_since(at) >= self.settings.forget_after;
        self.pairs.retain(|_, entry| !old(entry.last));
        self.sources.retain(|_, entry| !old(entry.last));
        // A proof outlives the usual refresh of a registration many times.
        let day = Duration::from_secs(86_400);
        self.proven.retain(|_, at| now.saturating_duration_since(*at) < day);
    }

    /// Sources and users that are paused now.
    pub fn paused(&self, now: Instant) -> usize {
        let paused = |entry: &&Entry| entry.paused_until.is_some_and(|until| now < until);
        self.pairs.values().filter(paused).count() + self.sources.values().filter(paused).count()
    }
}

/// Counts a failure and pauses beyond the free ones; gives the failures so far.
fn count<K: std::hash::Hash + Eq + Clone>(
    entries: &mut HashMap<K, Entry>,
    key: K,
    now: Instant,
    settings: &GuardSettings,
    free: u32,
) -> u32 {
    make_room(entries, &key, settings.capacity, |entry| entry.last);
    let entry = entries.entry(key).or_insert(Entry { failures: 0, last: now, paused_until: None });
    if now.saturating_duration_since(entry.last) >= settings.forget_after {
        *entry = Entry { failures: 0, last: now, paused_until: None };
    }
    entry.failures = entry.failures.saturating_add(1);
    entry.last = now;
    if entry.failures > free {
        let doublings = (entry.failures - free - 1).min(31);
        let pause = settings.first_pause.saturating_mul(1 << doublings).min(settings.longest_pause);
        entry.paused_until = Some(now + pause);
    }
    entry.failures
}

/// Drops the oldest eighth where a map is full and the key is new, so that the search is rare.
fn make_room<K: std::hash::Hash + Eq + Clone, V>(
    map: &mut HashMap<K, V>,
    key: &K,
    capacity: usize,
    age: impl Fn(&V) -> Instant,
) {
    if map.len() < capacity || map.contains_key(key) {
        return;
    }
    let mut ages: Vec<Instant> = map.values().map(&age).collect();
    let nth = (ages.len() / 8).min(ages.len().saturating_sub(1));
    let (_, limit, _) = ages.select_nth_unstable(nth);
    let limit = *limit;
    map.retain(|_, value| age(value) > limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u8) -> Source {
        Source::datagram([192, 0, 2, last].into())
    }

    #[test]
    fn pauses_begin_after_the_free_failures_and_double_to_the_longest() {
        let mut now = Instant::now();
        let mut guard = LoginGuard::new(GuardSettings::default());
        for _ in 0..5 {
            guard.failed(now, ip(1), "alice");
            assert_eq!(guard.verdict(now, ip(1), "alice"), Verdict::Check);
        }
        for expected in [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            guard.failed(now, ip(1), "alice");
            let expected = Duration::from_secs(expected);
            assert_eq!(guard.verdict(now, ip(1), "alice"), Verdict::Refuse { for_another: expected });
            now += expected;
            assert_eq!(guard.verdict(now, ip(1), "alice"), Verdict::Check);
        }
    }

    #[test]
    fn a_guesser_cannot_lock_the_owner_out() {
        let now = Instant::now();
        let mut guard = LoginGuard::new(GuardSettings::default());
        guard.succeeded(now, ip(1), "bob");
        for _ in 0..1_000 {
            guard.failed(now, ip(1), "alice");
        }
        assert!(matches!(guard.verdict(now, ip(1), "alice"), Verdict::Refuse { .. }));
        assert_eq!(guard.verdict(now, ip(2), "alice"), Verdict::Check, "the owner at another address");
        assert_eq!(guard.verdict(now, ip(1), "bob"), Verdict::Check, "a colleague behind the same address");
        assert_eq!(guard.verdict(now, ip(1), "carol"), Verdict::Check, "a colleague who comes first now");
    }

    #[test]
    fn a_source_that_tries_many_names_is_paused_but_not_who_proved_itself_there() {
        let now = Instant::now();
        let mut guard = LoginGuard::new(GuardSettings::default());
        guard.succeeded(now, ip(1), "alice");
        for name in 0..60 {
            guard.failed(now, ip(1), &format!("{name}"));
        }
        assert!(matches!(guard.verdict(now, ip(1), "fresh"), Verdict::Refuse { .. }));
        assert_eq!(guard.verdict(now, ip(1), "alice"), Verdict::Check);
        assert_eq!(guard.verdict(now, ip(2), "fresh"), Verdict::Check);
    }

    #[test]
    fn wrong_passwords_in_datagrams_that_say_they_come_from_the_address_of_a_stream_pause_only_datagrams() {
        let now = Instant::now();
        let mut guard = LoginGuard::new(GuardSettings::default());
        let phone = Source::stream([192, 0, 2, 1].into());
        guard.succeeded(now, phone, "alice");
        (0..60).for_each(|_| guard.failed(now, ip(1), "alice"));
        (0..60).for_each(|name| guard.failed(now, ip(1), &name.to_string()));
        for user in ["alice", "bob"] {
            assert!(matches!(guard.verdict(now, ip(1), user), Verdict::Refuse { .. }), "{user}");
            assert_eq!(guard.verdict(now, phone, user), Verdict::Check, "{user}");
        }
        (0..7).for_each(|_| guard.failed(now, phone, "carol"));
        assert!(matches!(guard.verdict(now, phone, "carol"), Verdict::Refuse { .. }), "it pauses itself");
    }

    #[test]
    fn the_right_password_ends_the_count_and_quiet_is_forgotten() {
        let now = Instant::now();
        let mut guard = LoginGuard::new(GuardSettings::default());
        for _ in 0..5 {
            guard.failed(now, ip(1), "alice");
        }
        guard.succeeded(now, ip(1), "alice");
        guard.failed(now, ip(1), "alice");
        assert_eq!(guard.verdict(now, ip(1), "alice"), Verdict::Check);
        for _ in 0..50 {
            guard.failed(now, ip(2), "alice");
        }
        assert_eq!(guard.paused(now), 1);
        let later = now + Duration::from_secs(86_400);
        guard.forget(later);
        assert!(guard.pairs.is_empty() && guard.sources.is_empty() && guard.proven.is_empty());
    }

    #[test]
    fn a_whole_ipv6_subnet_is_one_source() {
        let now = Instant::now();
        let mut guard = LoginGuard::new(GuardSettings::default());
        for host in 0..10u16 {
            guard.failed(now, Source::stream([0x2001, 0xdb8, 1, 1, 0, 0, 0, host].into()), "alice");
        }
        assert!(matches!(
            guard.verdict(now, Source::stream("2001:db8:1:1::ffff".parse().unwrap()), "alice"),
            Verdict::Refuse { .. }
        ));
        let other = Source::stream("2001:db8:1:2::1".parse().unwrap());
        assert_eq!(guard.verdict(now, other, "alice"), Verdict::Check);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_latest_failure_is_kept(
            tries in prop::collection::vec((0u8..40, 0u8..20, 0u64..50), 1..300),
        ) {
            let mut now = Instant::now();
            let settings = GuardSettings { capacity: 16, free_failures: 0, ..GuardSettings::default() };
            let mut guard = LoginGuard::new(settings);
            for (source, user, wait) in tries {
                now += Duration::from_millis(wait);
                let user = format!("{user}");
                if wait % 7 == 0 { guard.succeeded(now, ip(source), &user) } else {
                    guard.failed(now, ip(source), &user);
                    let refused = matches!(guard.verdict(now, ip(source), &user), Verdict::Refuse { .. });
                    prop_assert!(refused);
                }
                prop_assert!(guard.pairs.len() <= 16 && guard.sources.len() <= 16 && guard.proven.len() <= 16);
            }
        }
    }
}
