//! Signers' certificates that were fetched: kept as long as their server allows, each asked for once at a time.

use super::certificate::{Authorities, Certificate, CertificateFault};
use crate::types::{CallId, StirResult};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Certificates that are kept. A few hundred providers sign in a whole country.
const MOST: usize = 2_000;
/// Fetches that may be under way: more means that somebody sends junk.
const MOST_FETCHES: usize = 64;
/// Of them for calls of one trunk: its junk must not keep the callers of others from being checked.
const MOST_OF_ONE: usize = 16;
/// Calls that may wait for one certificate.
const MOST_WAITING: usize = 1_000;
/// A server that failed is left alone for this long, so that not each call waits for it.
const FAILURE_HOLDS: Duration = Duration::from_secs(20);
/// What a server may ask for, and what holds where it asks for nothing.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
const USUAL: Duration = Duration::from_secs(3_600);

/// What is known of a certificate.
pub type Known = Result<Arc<Certificate>, StirResult>;

#[derive(Debug)]
enum Kept {
    /// For calls that wait; `asker` is the trunk whose call was the first.
    Fetching {
        waiting: Vec<CallId>,
        asker: Arc<str>,
    },
    Known {
        known: Known,
        until: Instant,
    },
}

/// What a fetched chain is worth.
///
/// # Errors
/// What a call hears that was signed with it.
pub fn judge(pem: &[u8], authorities: &Authorities, now: i64) -> Known {
    Certificate::trusted(pem, authorities, now).map(Arc::new).map_err(|fault| match fault {
        CertificateFault::Expired => StirResult::Expired,
        CertificateFault::Unreadable | CertificateFault::NotP256 | CertificateFault::Untrusted => {
            StirResult::Untrusted
        }
    })
}

/// What a call that needs a certificate has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup {
    Known(Known),
    /// It waits, and the certificate has to be fetched.
    Fetch,
    /// It waits for what was asked for already.
    Waits,
    /// Too much is being fetched.
    Full,
}

/// By URL.
#[derive(Debug, Default)]
pub struct Certificates {
    kept: HashMap<String, Kept>,
    /// How many fetches are under way, by asker.
    fetching: HashMap<Arc<str>, usize>,
}

impl Certificates {
    pub fn look_up(&mut self, now: Instant, url: &str, call: CallId, asker: &Arc<str>) -> Lookup {
        match self.kept.get_mut(url) {
            Some(Kept::Known { known, until }) if *until > now => return Lookup::Known(known.clone()),
            Some(Kept::Fetching { waiting, .. }) => {
                if waiting.len() >= MOST_WAITING {
                    return Lookup::Full;
                }
                if !waiting.contains(&call) {
                    waiting.push(call);
                }
                return Lookup::Waits;
            }
            Some(Kept::Known { .. }) | None => {}
        }
        let of_asker = self.fetching.get(asker).copied().unwrap_or(0);
        if of_asker >= MOST_OF_ONE || self.fetching.values().sum::<usize>() >= MOST_FETCHES {
            return Lookup::Full;
        }
        self.fetching.insert(asker.clone(), of_asker + 1);
        self.kept.insert(url.to_owned(), Kept::Fetching { waiting: vec![call], asker: asker.clone() });
        Lookup::Fetch
    }

    /// Takes what was fetched; `max_age` is how long its server lets it be kept. Gives the calls that waited.
    pub fn fetched(
        &mut self,
        now: Instant,
        url: &str,
        known: Known,
        max_age: Option<Duration>,
    ) -> Vec<CallId> {
        let Some(Kept::Fetching { waiting, asker }) = self.kept.remove(url) else { return Vec::new() };
        if let Some(fetches) = self.fetching.get_mut(&asker) {
            *fetches -= 1;
            if *fetches == 0 {
                self.fetching.remove(&asker);
            }
        }
        let holds = match known {
            Ok(_) => max_age.unwrap_or(USUAL).clamp(SHORTEST, LONGEST),
            Err(_) => FAILURE_HOLDS,
        };
        if self.kept.len() >= MOST {
            self.make_room(now);
        }
        self.kept.insert(url.to_owned(), Kept::Known { known, until: now + holds });
        waiting
    }

    /// Forgets all that is known: other authorities count now.
    pub fn forget(&mut self) {
        self.kept.retain(|_, kept| matches!(kept, Kept::Fetching { .. }));
    }

    fn make_room(&mut self, now: Instant) {
        self.kept.retain(|_, kept| match kept {
            Kept::Fetching { .. } => true,
            Kept::Known { until, .. } => *until > now,
        });
        let soonest = self.kept.iter().filter_map(|(url, kept)| match kept {
            Kept::Fetching { .. } => None,
            Kept::Known { until, .. } => Some((*until, url)),
        });
        if self.kept.len() >= MOST
            && let Some(url) = soonest.min().map(|(_, url)| url.clone())
        {
            self.kept.remove(&url);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u8) -> CallId {
        CallId::from_parts(0, [number; 10])
    }

    fn trunk(number: usize) -> Arc<str> {
        Arc::from(format!("trunk-{number}"))
    }

    fn good() -> Known {
        Ok(Arc::new(Certificate {
            key: vec![4],
            not_before: 0,
            not_after: 1,
            entries: None,
            constraints: Vec::new(),
        }))
    }

    #[test]
    fn one_fetch_serves_all_calls_that_wait_and_those_that_come() {
        let (mut certificates, now) = (Certificates::default(), Instant::now());
        assert_eq!(certificates.look_up(now, "a", call(1), &trunk(0)), Lookup::Fetch);
        assert_eq!(certificates.look_up(now, "a", call(2), &trunk(0)), Lookup::Waits);
        assert_eq!(certificates.look_up(now, "b", call(3), &trunk(0)), Lookup::Fetch);
        assert_eq!(certificates.fetched(now, "a", good(), None), [call(1), call(2)]);
        assert_eq!(certificates.look_up(now, "a", call(4), &trunk(0)), Lookup::Known(good()));
        assert!(certificates.fetched(now, "a", good(), None).is_empty(), "nobody asked");
    }

    #[test]
    fn it_is_kept_as_long_as_its_server_says_within_reason() {
        for (max_age, holds) in [
            (None, USUAL),
            (Some(0), SHORTEST),
            (Some(120), Duration::from_secs(120)),
            (Some(9_999_999), LONGEST),
        ] {
            let (mut certificates, now) = (Certificates::default(), Instant::now());
            certificates.look_up(now, "a", call(1), &trunk(0));
            certificates.fetched(now, "a", good(), max_age.map(Duration::from_secs));
            let last = now + holds - Duration::from_secs(1);
            assert_eq!(
                certificates.look_up(last, "a", call(2), &trunk(0)),
                Lookup::Known(good()),
                "{max_age:?}"
            );
            assert_eq!(
                certificates.look_up(now + holds, "a", call(2), &trunk(0)),
                Lookup::Fetch,
                "{max_age:?}"
            );
        }
    }

    #[test]
    fn a_dead_server_is_left_alone_for_a_while() {
        let (mut certificates, now) = (Certificates::default(), Instant::now());
        certificates.look_up(now, "a", call(1), &trunk(0));
        certificates.fetched(now, "a", Err(StirResult::Unreachable), None);
        assert_eq!(
            certificates.look_up(now, "a", call(2), &trunk(0)),
            Lookup::Known(Err(StirResult::Unreachable))
        );
        assert_eq!(certificates.look_up(now + FAILURE_HOLDS, "a", call(2), &trunk(0)), Lookup::Fetch);
    }

    #[test]
    fn neither_fetches_nor_what_is_kept_grow_without_end() {
        let (mut certificates, now) = (Certificates::default(), Instant::now());
        for n in 0..MOST_FETCHES {
            let asker = trunk(n / MOST_OF_ONE);
            assert_eq!(certificates.look_up(now, &n.to_string(), call(1), &asker), Lookup::Fetch);
        }
        assert_eq!(certificates.look_up(now, "more", call(1), &trunk(99)), Lookup::Full);
        for n in 0..MOST_FETCHES {
            certificates.fetched(now, &n.to_string(), good(), None);
        }
        for n in 0..MOST + 50 {
            let url = format!("url{n}");
            certificates.look_up(now, &url, call(1), &trunk(0));
            certificates.fetched(now, &url, good(), None);
            assert!(certificates.kept.len() <= MOST);
        }
    }

    #[test]
    fn one_trunk_s_junk_leaves_room_for_the_callers_of_others() {
        let (mut certificates, now) = (Certificates::default(), Instant::now());
        for n in 0..MOST_OF_ONE {
            assert_eq!(certificates.look_up(now, &n.to_string(), call(1), &trunk(1)), Lookup::Fetch);
        }
        assert_eq!(certificates.look_up(now, "more", call(1), &trunk(1)), Lookup::Full);
        assert_eq!(certificates.look_up(now, "0", call(2), &trunk(1)), Lookup::Waits, "that is under way");
        assert_eq!(certificates.look_up(now, "more", call(3), &trunk(2)), Lookup::Fetch);
        certificates.fetched(now, "0", good(), None);
        assert_eq!(certificates.look_up(now, "another", call(1), &trunk(1)), Lookup::Fetch, "one has ended");
    }
}
