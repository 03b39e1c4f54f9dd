//! Whose packets are heard and where ours go: the SDP's address, or once the address the media really comes from.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After an SDP that names another address the far end goes on from the old one until it has our answer, which may be
/// lost once (RFC 3261 §17.1.1.1, T1) and is then as long on its way.
const STILL_COMES: Duration = Duration::from_secs(1);

/// The far end of one port. Strict but for one moment: with latching on, the first source that proves to be media
/// after (re-)arming fixes its address for good (symmetric RTP, RFC 4961; against RTP bleed, CVE-2017-14099).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latch {
    /// What the SDP says.
    announced: SocketAddr,
    /// Where packets go now.
    remote: SocketAddr,
    state: State,
    /// Where they went before the SDP named another address, and until when what comes from there is only still on its
    /// way.
    left: Option<(SocketAddr, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only `remote` is heard.
    Strict,
    /// The next packet that proves to be media decides.
    Armed,
    /// One came from `remote`, where nobody announced anything: a second one decides (RFC 3550 A.1), so that no stray
    /// packet cuts off who speaks.
    Tried,
}

/// What a proven packet did to the latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latched {
    /// Nothing new: it comes from where we send, or from where the far end is leaving.
    Unchanged,
    /// From now on this address, which is not the one the SDP said.
    Moved(SocketAddr),
}

impl Latch {
    pub fn new(announced: SocketAddr, latching: bool) -> Latch {
        let state = if latching { State::Armed } else { State::Strict };
        Latch { announced, remote: announced, state, left: None }
    }

    /// Applies a new SDP: arms again if `latching`. While the announced address stays the same, packets keep going
    /// where they went, so that a re-INVITE does not cut a latched leg off; and a leg that is heard there stays strict
    /// unless the source may be another (`fresh`: other keys, or a long silence). A session refresh or a hold is no new
    /// SDP in that sense: else whoever provokes one lets a stranger in (CVE-2017-14099).
    pub fn renew(&mut self, announced: SocketAddr, latching: bool, fresh: bool, now: Instant) {
        let same = announced == self.announced;
        let stays = same && latching;
        let state = match (self.state, latching) {
            (State::Strict | State::Armed | State::Tried, false) => State::Strict,
            (State::Strict, true) if stays && !fresh => State::Strict,
            (State::Tried, true) if stays && !fresh => State::Tried,
            (State::Strict | State::Armed | State::Tried, true) => State::Armed,
        };
        let remote = if stays { self.remote } else { announced };
        // Who holds the old way names no place (RFC 2543 §B.5), and has gone nowhere when it is back.
        let moves = !announced.ip().is_unspecified() && !self.announced.ip().is_unspecified();
        let left = if same { self.left } else { moves.then_some((self.remote, now + STILL_COMES)) };
        *self = Latch { announced, remote, state, left };
    }

    /// Whether this is the address the SDP says.
    pub fn is_announced(&self, from: SocketAddr) -> bool {
        same_end(from, self.announced)
    }

    /// Whether a packet from there is worth looking at.
    #[inline]
    pub fn may_hear(&self, from: SocketAddr) -> bool {
        match self.state {
            State::Strict => same_end(from, self.remote),
            State::Armed | State::Tried => true,
        }
    }

    /// Whether a packet from there may be one of the source that is heard: while that is being tried it has one address.
    #[inline]
    pub fn may_go_on(&self, from: SocketAddr) -> bool {
        match self.state {
            State::Strict | State::Armed => true,
            State::Tried => same_end(from, self.remote),
        }
    }

    /// Told of a packet that proved to be media: right version, agreed payload type, right SRTP tag. `sure`: its sender
    /// has shown that it is the far end (it has the key, or knows our stream), and need not be tried.
    #[inline]
    pub fn heard(&mut self, from: SocketAddr, sure: bool, now: Instant) -> Latched {
        match self.state {
            State::Strict => Latched::Unchanged,
            State::Armed | State::Tried => self.settle(from, sure, now),
        }
    }

    #[cold]
    fn settle(&mut self, from: SocketAddr, sure: bool, now: Instant) -> Latched {
        if same_end(from, self.remote) {
            self.state = State::Strict;
            return Latched::Unchanged;
        }
        if self.left.is_some_and(|(left, until)| same_end(from, left) && now < until) {
            return Latched::Unchanged;
        }
        // Another port of the host that was announced is that host's own doing.
        let sure = sure || from.ip() == self.announced.ip();
        self.state = if sure { State::Strict } else { State::Tried };
        self.remote = from;
        Latched::Moved(from)
    }

    /// Where packets go.
    #[inline]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// True once media was heard from somewhere else than the SDP said.
    pub fn has_moved(&self) -> bool {
        !same_end(self.remote, self.announced)
    }
}

/// Flow labels and scopes of IPv6 are no part of who someone is.
#[inline]
fn same_end(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip() == b.ip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_latching_only_the_announced_address_is_heard() {
        let mut latch = Latch::new(at("192.0.2.1:4000"), false);
        assert!(latch.may_hear(at("192.0.2.1:4000")));
        assert!(!latch.may_hear(at("192.0.2.1:4001")));
        assert!(!latch.may_hear(at("198.51.100.1:4000")));
        assert_eq!(latch.heard(at("192.0.2.1:4000"), false, Instant::now()), Latched::Unchanged);
    }

    #[test]
    fn it_latches_once_and_is_strict_afterwards() {
        let now = Instant::now();
        for sure in [true, false] {
            let mut latch = Latch::new(at("10.0.0.1:4000"), true);
            assert!(latch.may_hear(at("203.0.113.9:7777")));
            let moved = latch.heard(at("203.0.113.9:7777"), sure, now);
            assert_eq!(moved, Latched::Moved(at("203.0.113.9:7777")));
            assert_eq!(latch.may_hear(at("198.51.100.1:4000")), !sure, "one packet may be a stray");
            assert!(latch.may_go_on(at("203.0.113.9:7777")));
            assert_eq!(latch.may_go_on(at("198.51.100.1:4000")), sure);
            assert_eq!(latch.heard(at("203.0.113.9:7777"), sure, now), Latched::Unchanged);
            assert!(latch.has_moved());
            assert!(!latch.may_hear(at("198.51.100.1:4000")), "a second source");
            assert!(!latch.may_hear(at("10.0.0.1:4000")), "not even the announced one");
            assert_eq!(latch.remote(), at("203.0.113.9:7777"));
        }
    }

    #[test]
    fn another_port_of_the_announced_host_needs_no_second_packet() {
        let mut latch = Latch::new(at("203.0.113.9:4000"), true);
        let real = at("203.0.113.9:7777");
        assert_eq!(latch.heard(real, false, Instant::now()), Latched::Moved(real));
        assert!(!latch.may_hear(at("203.0.113.9:7778")));
    }

    #[test]
    fn who_is_proven_after_a_stray_packet_takes_its_place() {
        let (now, stray, real) = (Instant::now(), at("203.0.113.66:1"), at("203.0.113.9:7777"));
        let mut latch = Latch::new(at("10.0.0.1:4000"), true);
        assert_eq!(latch.heard(stray, false, now), Latched::Moved(stray));
        assert_eq!(latch.heard(real, false, now), Latched::Moved(real));
        assert_eq!(latch.heard(real, false, now), Latched::Unchanged);
        assert!(latch.may_hear(real) && !latch.may_hear(stray));
    }

    #[test]
    fn a_new_sdp_arms_again_and_keeps_sending_where_it_did() {
        let now = Instant::now();
        let mut latch = Latch::new(at("10.0.0.1:4000"), true);
        latch.heard(at("203.0.113.9:7777"), true, now);
        latch.renew(at("10.0.0.1:4000"), true, false, now);
        assert_eq!(latch.remote(), at("203.0.113.9:7777"));
        assert!(!latch.may_hear(at("203.0.113.10:1")), "nothing new was said");
        latch.renew(at("10.0.0.1:4000"), true, true, now);
        assert_eq!(latch.remote(), at("203.0.113.9:7777"));
        assert!(latch.may_hear(at("203.0.113.10:1")));
        latch.renew(at("10.0.0.1:4000"), true, false, now);
        assert!(latch.may_hear(at("203.0.113.10:1")), "it was still to be fixed");
        latch.renew(at("10.0.0.1:5000"), true, false, now);
        assert_eq!(latch.remote(), at("10.0.0.1:5000"), "a new announced address is used at once");
        assert!(latch.may_hear(at("203.0.113.10:1")));
    }

    #[test]
    fn what_still_comes_from_the_old_address_does_not_keep_the_far_end_there() {
        let now = Instant::now();
        let (old, new) = (at("203.0.113.9:7777"), at("198.51.100.4:8888"));
        for sure in [true, false] {
            let mut latch = Latch::new(at("10.0.0.1:4000"), true);
            latch.heard(old, true, now);
            latch.renew(at("10.8.0.2:4000"), true, true, now);
            assert!(latch.may_hear(old), "it is no gap");
            assert_eq!(latch.heard(old, sure, now + STILL_COMES / 2), Latched::Unchanged);
            assert_eq!(latch.heard(new, sure, now + STILL_COMES / 2), Latched::Moved(new));
            // Where only the SDP has changed, what goes on coming is the far end.
            let mut latch = Latch::new(at("10.0.0.1:4000"), true);
            latch.heard(old, true, now);
            latch.renew(at("10.8.0.2:4000"), true, true, now);
            assert_eq!(latch.heard(old, sure, now + STILL_COMES), Latched::Moved(old));
        }
        // What is announced now is where it came from all the time.
        let mut latch = Latch::new(at("10.0.0.1:4000"), true);
        latch.heard(old, true, now);
        latch.renew(old, true, true, now);
        assert_eq!(latch.heard(old, false, now), Latched::Unchanged);
        assert!(!latch.may_hear(new));
    }

    #[test]
    fn who_held_without_naming_a_place_is_followed_at_once_when_it_is_back() {
        let now = Instant::now();
        let (announced, real) = (at("10.0.0.1:4000"), at("203.0.113.9:7777"));
        let mut latch = Latch::new(announced, true);
        latch.heard(real, true, now);
        latch.renew(at("0.0.0.0:4000"), true, false, now);
        assert_eq!(latch.heard(real, true, now), Latched::Moved(real), "its music is heard");
        latch.renew(announced, true, false, now);
        assert_eq!(latch.remote(), announced);
        assert_eq!(latch.heard(real, true, now), Latched::Moved(real));
    }

    #[test]
    fn latching_can_be_switched_on_and_off() {
        let now = Instant::now();
        let mut latch = Latch::new(at("10.0.0.1:4000"), false);
        latch.renew(at("10.0.0.1:4000"), true, false, now);
        assert!(!latch.may_hear(at("203.0.113.10:1")), "it is heard where it said");
        latch.renew(at("10.0.0.1:4000"), false, true, now);
        assert!(!latch.may_hear(at("203.0.113.10:1")));
    }
}
