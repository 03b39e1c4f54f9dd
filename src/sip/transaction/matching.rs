//! How a message finds its transaction (RFC 3261 §17.1.3, §17.2.3) and a response its way back.

use crate::sip::mark::Marks;
use crate::sip::message::{Method, Request, Typed, Via};
use crate::types::{Peer, Transport};
use std::sync::Arc;

/// What every branch of a sender that follows RFC 3261 starts with (§8.1.1.7).
const COOKIE: &str = "z9hG4bK";

/// Makes branches that are unique for ever and can't be guessed, and reads our number back out of them.
#[derive(Debug, Clone)]
pub(super) struct Branches {
    tag: String,
    /// Whoever has not seen the request can't answer it.
    marks: Marks,
}

impl Branches {
    /// `tag` names gateway and shard, so that a response can be dispatched by looking at it.
    pub fn new(tag: &str, marks: Marks) -> Branches {
        let tag = tag.chars().filter(char::is_ascii_alphanumeric).collect();
        Branches { tag, marks }
    }

    pub fn with_tag(&self, tag: &str) -> Branches {
        Branches::new(tag, self.marks.clone())
    }

    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    pub fn write(&self, number: u64) -> String {
        self.marks.branch(format!("{COOKIE}{}-{number:x}", self.tag))
    }

    /// The number of a branch that we wrote, `None` for all others.
    pub fn read(&self, branch: &str) -> Option<u64> {
        let says = std::str::from_utf8(self.marks.branch_says(branch.as_bytes())?).ok()?;
        let number = says.strip_prefix(COOKIE)?.strip_prefix(self.tag.as_str())?.strip_prefix('-')?;
        u64::from_str_radix(number, 16).ok()
    }

    /// The number of the branch in the beginning of a request that we wrote, which may be cut off anywhere, and
    /// whether the request is a CANCEL.
    pub fn read_quoted(&self, quoted: &[u8]) -> Option<(u64, bool)> {
        let at = quoted.windows(COOKIE.len()).position(|part| part == COOKIE.as_bytes())?;
        let branch = quoted[at..].split(|octet| matches!(octet, b';' | b',' | b'\r' | b'\n')).next()?;
        let number = self.read(std::str::from_utf8(branch).ok()?)?;
        Some((number, quoted.starts_with(b"CANCEL ")))
    }
}

/// What the server transactions of one request and its relatives are found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerId {
    /// Of the request itself; of an ACK, the INVITE's.
    pub own: Arc<str>,
    /// True for a peer of RFC 2543, whose branch proves nothing: its ACK must carry our To tag as well.
    pub legacy: bool,
}

impl ServerId {
    /// `None` if the request lacks what it needs.
    pub fn of(request: &Request, peer: &Peer, via: &Via) -> Option<ServerId> {
        let method = match &request.method {
            Method::Ack => Method::Invite,
            other => other.clone(),
        };
        ServerId::of_method(request, peer, via, &method)
    }

    /// The INVITE that a CANCEL is about (RFC 3261 §9.2).
    pub fn of_cancelled(request: &Request, peer: &Peer, via: &Via) -> Option<ServerId> {
        ServerId::of_method(request, peer, via, &Method::Invite)
    }

    fn of_method(request: &Request, peer: &Peer, via: &Via, method: &Method) -> Option<ServerId> {
        let network = peer.network.0;
        let port = via.sent_by.port.unwrap_or(peer.transport.default_port());
        let host = via.sent_by.host.to_ascii_lowercase();
        let branch = via.branch().unwrap_or_default();
        if branch.strip_prefix(COOKIE).is_some_and(|rest| !rest.is_empty()) {
            let own = format!("{network} {method} {host}:{port} {branch}").into();
            return Some(ServerId { own, legacy: false });
        }
        // RFC 3261 §17.2.3, for senders of RFC 2543: the To tag is left to the caller, since an ACK has ours.
        let from_tag = request.from_tag().unwrap_or_default();
        let (call_id, number, uri) = (request.call_id().ok()?, request.cseq().ok()?.number, &request.uri);
        let own =
            format!("{network} {method} {host}:{port} {branch} {from_tag} {call_id} {number} {uri}").into();
        Some(ServerId { own, legacy: true })
    }
}

/// What copies of one request have in common that came on different ways (RFC 3261 §8.2.2.2). `None` for a
/// request inside a dialog, which can't be merged.
pub(super) fn merge_id(marks: &Marks, request: &Request) -> Option<u64> {
    if request.to_tag().is_some() {
        return None;
    }
    let cseq = request.cseq().ok()?;
    Some(marks.hash_of((
        request.from_tag().unwrap_or_default(),
        request.call_id().ok()?,
        cseq.number,
        cseq.method.as_str(),
    )))
}

/// Where a response to a request that came from `peer` goes (RFC 3261 §18.2.2): the same connection of a
/// stream; over UDP to the source port if the sender asked for that (RFC 3581 §4), else to the port it named,
/// at the source address. A `maddr` is not followed: it would let a sender point our responses at others.
pub(super) fn reply_peer(peer: &Peer, via: &Via) -> Peer {
    let mut reply = peer.clone();
    if peer.transport == Transport::Udp && !via.params.has("rport") {
        let port = via.sent_by.port.unwrap_or(peer.transport.default_port());
        if port != 0 {
            reply.remote.set_port(port);
        }
    }
    reply
}
