//! Whose packets are heard and where ours go: the SDP's address, or once the address the media really comes from.

use std::net::SocketAddr;

/// The far end of one port. Strict but for one moment: with latching on, the first packet that proves to be media
/// after (re-)arming fixes its source for good (symmetric RTP, RFC 4961; against RTP bleed, CVE-2017-14099).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latch {
    /// What the SDP says.
    announced: SocketAddr,
    /// Where packets go now.
    remote: SocketAddr,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only `remote` is heard.
    Strict,
    /// The next packet that proves to be media decides.
    Armed,
}

/// What a proven packet did to the latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latched {
    /// Nothing new: it comes from where we send.
    Unchanged,
    /// From now on this address, which is not the one the SDP said.
    Moved(SocketAddr),
}

impl Latch {
    pub fn new(announced: SocketAddr, latching: bool) -> Latch {
        let state = if latching { State::Armed } else { State::Strict };
        Latch { announced, remote: announced, state }
    }

    /// Applies a new SDP: arms again if `latching`. While the announced address stays the same, packets keep going
    /// where they went, so that a re-INVITE does not cut a latched leg off; and a leg that is heard there stays strict
    /// unless the source may be another (`fresh`: other keys, or a long silence). A session refresh or a hold is no new
    /// SDP in that sense: else whoever provokes one lets a stranger in (CVE-2017-14099).
    pub fn renew(&mut self, announced: SocketAddr, latching: bool, fresh: bool) {
        let stays = announced == self.announced && latching;
        let strict = stays && self.state == State::Strict && !fresh;
        let remote = if stays { self.remote } else { announced };
        *self = Latch { remote, ..Latch::new(announced, latching && !strict) };
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
            State::Armed => true,
        }
    }

    /// Told of a packet that proved to be media: right version, agreed payload type, right SRTP tag.
    #[inline]
    pub fn heard(&mut self, from: SocketAddr) -> Latched {
        match self.state {
            State::Strict => Latched::Unchanged,
            State::Armed => {
                self.state = State::Strict;
                if same_end(from, self.remote) {
                    return Latched::Unchanged;
                }
                self.remote = from;
                Latched::Moved(from)
            }
        }
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
        assert_eq!(latch.heard(at("192.0.2.1:4000")), Latched::Unchanged);
    }

    #[test]
    fn it_latches_once_and_is_strict_afterwards() {
        let mut latch = Latch::new(at("10.0.0.1:4000"), true);
        assert!(latch.may_hear(at("203.0.113.9:7777")));
        assert_eq!(latch.heard(at("203.0.113.9:7777")), Latched::Moved(at("203.0.113.9:7777")));
        assert!(latch.has_moved());
        assert!(!latch.may_hear(at("198.51.100.1:4000")), "a second source");
        assert!(!latch.may_hear(at("10.0.0.1:4000")), "not even the announced one");
        assert_eq!(latch.remote(), at("203.0.113.9:7777"));
    }

    #[test]
    fn a_new_sdp_arms_again_and_keeps_sending_where_it_did() {
        let mut latch = Latch::new(at("10.0.0.1:4000"), true);
        latch.heard(at("203.0.113.9:7777"));
        latch.renew(at("10.0.0.1:4000"), true, false);
        assert_eq!(latch.remote(), at("203.0.113.9:7777"));
        assert!(!latch.may_hear(at("203.0.113.10:1")), "nothing new was said");
        latch.renew(at("10.0.0.1:4000"), true, true);
        assert_eq!(latch.remote(), at("203.0.113.9:7777"));
        assert!(latch.may_hear(at("203.0.113.10:1")));
        latch.renew(at("10.0.0.1:4000"), true, false);
        assert!(latch.may_hear(at("203.0.113.10:1")), "it was still to be fixed");
        latch.renew(at("10.0.0.1:5000"), true, false);
        assert_eq!(latch.remote(), at("10.0.0.1:5000"), "a new announced address is used at once");
        assert!(latch.may_hear(at("203.0.113.10:1")));
    }

    #[test]
    fn latching_can_be_switched_on_and_off() {
        let mut latch = Latch::new(at("10.0.0.1:4000"), false);
        latch.renew(at("10.0.0.1:4000"), true, false);
        assert!(!latch.may_hear(at("203.0.113.10:1")), "it is heard where it said");
        latch.renew(at("10.0.0.1:4000"), false, true);
        assert!(!latch.may_hear(at("203.0.113.10:1")));
    }
}
