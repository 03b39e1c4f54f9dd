//! The addresses of one trunk: which one a call tries next, and which are left alone for a while (RFC 3263 §4.3).

use super::event::Target;
use crate::sip::locate::draw_by_weight;
use crate::types::{Peer, Transport};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// An address that failed is left alone for this long, twice as long after each further failure: calls must not pay for
/// it one after the other.
const FIRST_REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What tells two addresses of a trunk apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub transport: Transport,
    pub remote: SocketAddr,
}

impl Route {
    pub fn of(peer: &Peer) -> Route {
        Route { transport: peer.transport, remote: peer.remote }
    }
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    route: Route,
    until: Instant,
    failures: u32,
    /// It asked for the pause itself: it is not tried even where there is no other.
    asked_until: Option<Instant>,
}

/// The last good answer to where a trunk is, and what calls and OPTIONS have learnt of each address.
#[derive(Debug, Default)]
pub struct Targets {
    list: Vec<Target>,
    rests: Vec<Rest>,
}

impl Targets {
    /// Takes a new answer. What is known of addresses that stay is kept.
    pub fn set(&mut self, mut list: Vec<Target>) {
        list.sort_by_key(|target| target.rank);
        self.rests.retain(|rest| list.iter().any(|target| Route::of(&target.peer) == rest.route));
        self.list = list;
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All addresses, best rank first.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.list.iter()
    }

    /// The address to try next, after those `tried`: of the best rank that is not resting, by weight; one that rests
    /// after a failure only where there is no other, one that asked for a pause not at all. `draw` is uniform over
    /// `u32`.
    pub fn choose(&self, now: Instant, tried: &[Route], draw: u32) -> Option<&Target> {
        self.choose_among(now, tried, draw, false)
    }

    /// The address of this route, where it is one and neither rests nor asked for a pause.
    pub fn open(&self, now: Instant, route: Route) -> Option<&Target> {
        let target = self.list.iter().find(|target| Route::of(&target.peer) == route)?;
        let open = !self.is_resting(now, route) && self.paused_until(now, route).is_none();
        open.then_some(target)
    }

    /// As [`choose`](Self::choose), but one that asked for a pause comes last rather than never: for emergency calls.
    pub fn choose_anyway(&self, now: Instant, tried: &[Route], draw: u32) -> Option<&Target> {
        self.choose_among(now, tried, draw, false).or_else(|| self.choose_among(now, tried, draw, true))
    }

    fn choose_among(&self, now: Instant, tried: &[Route], draw: u32, paused: bool) -> Option<&Target> {
        let left = || {
            let untried = self.list.iter().filter(|target| !tried.contains(&Route::of(&target.peer)));
            untried.filter(move |target| paused || self.paused_until(now, Route::of(&target.peer)).is_none())
        };
        let key = |target: &Target| (self.is_resting(now, Route::of(&target.peer)), target.rank);
        let best = left().map(key).min()?;
        let equals: Vec<&Target> = left().filter(|target| key(target) == best).collect();
        let weights: Vec<u16> = equals.iter().map(|target| target.weight).collect();
        equals.get(draw_by_weight(&weights, draw)?).copied()
    }

    /// The `nth` address counted over and over, resting ones last, those that asked for a pause only where there are no
    /// others: for what tries one after the other without end.
    pub fn nth(&self, now: Instant, nth: u32) -> Option<&Target> {
        let open = |target: &&Target| self.paused_until(now, Route::of(&target.peer)).is_none();
        let mut order: Vec<&Target> = self.list.iter().filter(open).collect();
        if order.is_empty() {
            order.extend(&self.list);
        }
        order.sort_by_key(|target| self.is_resting(now, Route::of(&target.peer)));
        order.get(nth as usize % order.len().max(1)).copied()
    }

    pub fn is_resting(&self, now: Instant, route: Route) -> bool {
        self.rests.iter().any(|rest| rest.route == route && rest.until > now)
    }

    /// An address did not answer, or has no room; `known` is how long it rests where that is not for us to guess. Returns
    /// false where it is the trunk's only one that was not resting: then the trunk itself has failed.
    pub fn failed(&mut self, now: Instant, route: Route, known: Option<Duration>) -> bool {
        if !self.list.iter().any(|target| Route::of(&target.peer) == route) {
            return true;
        }
        let rest = self.rest_of(route, now);
        rest.failures = rest.failures.saturating_add(1);
        let doubled = FIRST_REST.saturating_mul(1 << (rest.failures - 1).min(8)).min(LONGEST_REST);
        rest.until = rest.until.max(now + known.unwrap_or(doubled));
        self.list.iter().any(|target| !self.is_resting(now, Route::of(&target.peer)))
    }

    /// An address works. A pause that it asked for lasts all the same.
    pub fn answered(&mut self, route: Route) {
        self.rests.retain(|rest| rest.route != route || rest.asked_until.is_some());
    }

    /// An address asked to be left alone.
    pub fn pause(&mut self, route: Route, until: Instant) {
        self.rest_of(route, until).asked_until = Some(until);
    }

    /// When the first address may be asked again, if all of them asked to be left alone.
    pub fn all_paused_until(&self, now: Instant) -> Option<Instant> {
        let pauses = self.list.iter().map(|target| self.paused_until(now, Route::of(&target.peer)));
        pauses.collect::<Option<Vec<Instant>>>()?.into_iter().min()
    }

    fn paused_until(&self, now: Instant, route: Route) -> Option<Instant> {
        let rest = self.rests.iter().find(|rest| rest.route == route)?;
        rest.asked_until.filter(|until| *until > now)
    }

    fn rest_of(&mut self, route: Route, until: Instant) -> &mut Rest {
        let place = self.rests.iter().position(|rest| rest.route == route).unwrap_or_else(|| {
            self.rests.push(Rest { route, until, failures: 0, asked_until: None });
            self.rests.len() - 1
        });
        &mut self.rests[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::event::Rank;
    use crate::types::{HostPort, NetworkId};

    fn target(port: u16, priority: u16, weight: u16) -> Target {
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        let peer = Peer {
            network: NetworkId(0),
            transport: Transport::Udp,
            remote,
            local: SocketAddr::from(([192, 0, 2, 9], 5060)),
            connection: None,
            tls_name: None,
        };
        Target {
            host: HostPort { host: "sbc.example".into(), port: None },
            peer,
            rank: Rank { proxy: 0, priority, address: 0 },
            weight,
        }
    }

    fn port(target: Option<&Target>) -> Option<u16> {
        target.map(|target| target.peer.remote.port())
    }

    fn route(port: u16) -> Route {
        Route::of(&target(port, 0, 0).peer)
    }

    fn two() -> (Targets, Instant) {
        let mut targets = Targets::default();
        targets.set(vec![target(2, 20, 0), target(1, 10, 0)]);
        (targets, Instant::now())
    }

    #[test]
    fn the_best_rank_goes_first_and_each_is_tried_once() {
        let (targets, now) = two();
        assert_eq!(port(targets.choose(now, &[], 0)), Some(1));
        assert_eq!(port(targets.choose(now, &[route(1)], 0)), Some(2));
        assert_eq!(port(targets.choose(now, &[route(1), route(2)], 0)), None);
    }

    #[test]
    fn equals_share_by_weight() {
        let mut targets = Targets::default();
        targets.set(vec![target(1, 10, 75), target(2, 10, 25)]);
        let now = Instant::now();
        let draws = (0..1000u32).map(|n| n * 4_294_967);
        let first = draws.filter(|draw| port(targets.choose(now, &[], *draw)) == Some(1)).count();
        assert!((740..=760).contains(&first), "{first} of 1000");
    }

    #[test]
    fn what_failed_rests_so_that_the_next_call_does_not_pay_and_longer_each_time() {
        let (mut targets, now) = two();
        assert!(targets.failed(now, route(1), None), "another one is left");
        assert_eq!(port(targets.choose(now, &[], 0)), Some(2));
        assert_eq!(port(targets.choose(now + FIRST_REST, &[], 0)), Some(1), "tried again after its rest");
        let later = now + FIRST_REST;
        targets.failed(later, route(1), None);
        assert_eq!(port(targets.choose(later + FIRST_REST, &[], 0)), Some(2), "the second rest is longer");
        targets.answered(route(1));
        assert_eq!(port(targets.choose(later, &[], 0)), Some(1));
    }

    #[test]
    fn where_all_rest_they_are_tried_all_the_same() {
        let (mut targets, now) = two();
        targets.failed(now, route(1), None);
        assert!(!targets.failed(now, route(2), None), "none is left");
        assert_eq!(port(targets.choose(now, &[], 0)), Some(1));
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_even_where_there_is_no_other() {
        let (mut targets, now) = two();
        let later = |seconds| now + Duration::from_secs(seconds);
        targets.pause(route(1), later(5));
        assert_eq!(targets.all_paused_until(now), None);
        assert_eq!(port(targets.choose(later(4), &[], 0)), Some(2));
        targets.pause(route(2), later(9));
        assert_eq!(port(targets.choose(later(4), &[], 0)), None);
        assert_eq!(targets.all_paused_until(later(4)), Some(later(5)));
        assert_eq!(
            port(targets.choose_anyway(later(4), &[], 0)),
            Some(1),
            "an emergency call asks all the same"
        );
        targets.answered(route(1));
        assert_eq!(port(targets.choose(later(4), &[], 0)), None, "an answer to OPTIONS does not end it");
        assert_eq!(port(targets.choose(later(5), &[], 0)), Some(1));
    }

    #[test]
    fn a_new_answer_keeps_what_is_known_and_forgets_what_is_gone() {
        let (mut targets, now) = two();
        targets.failed(now, route(1), None);
        targets.set(vec![target(1, 10, 0), target(3, 20, 0)]);
        assert_eq!(port(targets.choose(now, &[], 0)), Some(3));
        targets.set(vec![target(3, 20, 0)]);
        targets.set(vec![target(1, 10, 0), target(3, 20, 0)]);
        assert_eq!(port(targets.choose(now, &[], 0)), Some(1));
    }

    #[test]
    fn counting_goes_round_and_leaves_resting_ones_to_the_end() {
        let (mut targets, now) = two();
        targets.failed(now, route(1), None);
        let order: Vec<_> = (0..3).map(|nth| port(targets.nth(now, nth))).collect();
        assert_eq!(order, [Some(2), Some(1), Some(2)]);
        assert_eq!(Targets::default().nth(now, 3), None);
        targets.pause(route(2), now + Duration::from_secs(9));
        let order: Vec<_> = (0..2).map(|nth| port(targets.nth(now, nth))).collect();
        assert_eq!(order, [Some(1), Some(1)], "it asked to be left alone");
        targets.pause(route(1), now + Duration::from_secs(9));
        assert_eq!(port(targets.nth(now, 0)), Some(1), "none is open");
    }
}
