//! What the transports tell the layer above.

use super::gate::Waiting;
use crate::sip::message::{Message, Method, ParseErrorKind};
use crate::sip::overload::{Line, Queue};
use crate::types::{ConnectionId, Peer};
use bytes::Bytes;
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;

/// The place a message takes among those that wait. Dropped with the event, it lets a stream read on.
#[derive(Debug, Default)]
pub struct Turn {
    /// Since when it waits, where it begins something: what belongs to a running call goes before it.
    pub(super) newcomer: Option<Waiting>,
    /// Among those of its stream, and among those of all streams.
    _permits: Option<[OwnedSemaphorePermit; 2]>,
}

impl Turn {
    pub(super) fn of_datagram(newcomer: Option<Waiting>) -> Turn {
        Turn { newcomer, _permits: None }
    }

    pub(super) fn of_stream(newcomer: Option<Waiting>, permits: [OwnedSemaphorePermit; 2]) -> Turn {
        Turn { newcomer, _permits: Some(permits) }
    }
}

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportFailure {
    #[error("no socket for this transport, network and address family")]
    NoSocket,
    #[error("transport not supported")]
    Unsupported,
    #[error("not sent: {0}")]
    Send(std::io::ErrorKind),
    #[error("no connection: {0}")]
    Connect(std::io::ErrorKind),
    #[error("connection not made in time")]
    ConnectTimeout,
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    #[error("connection closed")]
    Closed,
    #[error("far end does not read")]
    SlowReader,
}

/// What happened on a socket.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most are messages, and each would cost an allocation")]
pub enum TransportEvent {
    /// A message arrived. Answers to it go to `peer`.
    Message {
        peer: Peer,
        message: Message,
        /// Names asked for ([`TlsSettings::client_names`](super::TlsSettings::client_names)) that the far end's
        /// verified certificate carries.
        tls_names: Arc<[String]>,
        turn: Turn,
    },
    /// Something arrived that is no message. `refusal`, where there is one, is the answer to send to `peer`: over UDP
    /// it is never larger than one and a half times what came. A stream that can't be followed on has been answered and
    /// is closed.
    Malformed { peer: Peer, fault: ParseErrorKind, refusal: Option<Bytes>, turn: Turn },
    /// What was sent with `ticket` did not reach the far end.
    Failed { peer: Peer, ticket: u64, failure: TransportFailure },
    /// A datagram to `remote` came back as undeliverable (RFC 3261 §18.4); `quoted` is how it began, as much of it as
    /// the one who returned it said.
    Undelivered { remote: SocketAddr, quoted: Bytes },
    /// A stream has ended; registrations over it are lost.
    Closed { connection: ConnectionId, peer: Peer },
}

impl TransportEvent {
    /// Where it waits until all that belongs to running calls is done, if it is a request outside any dialog.
    pub fn line(&self) -> Option<Line> {
        match self {
            TransportEvent::Message { turn, .. } | TransportEvent::Malformed { turn, .. } => {
                turn.newcomer.as_ref().map(|waiting| waiting.line)
            }
            TransportEvent::Failed { .. }
            | TransportEvent::Undelivered { .. }
            | TransportEvent::Closed { .. } => None,
        }
    }

    /// The line of one that waits which this may be about, so that it is nothing before it: the end of the stream it came
    /// by, and a CANCEL from where it came.
    pub fn goes_behind(&self, waiting: &Queue<TransportEvent>) -> Option<Line> {
        let remote = match self {
            TransportEvent::Closed { peer, .. } => peer.remote,
            TransportEvent::Message { peer, message: Message::Request(request), .. }
                if request.method == Method::Cancel =>
            {
                peer.remote
            }
            TransportEvent::Message { .. }
            | TransportEvent::Malformed { .. }
            | TransportEvent::Failed { .. }
            | TransportEvent::Undelivered { .. } => return None,
        };
        waiting.line_of_last(|event| event.comes_from() == Some(remote))
    }

    fn comes_from(&self) -> Option<SocketAddr> {
        match self {
            TransportEvent::Message { peer, .. } | TransportEvent::Malformed { peer, .. } => {
                Some(peer.remote)
            }
            TransportEvent::Failed { .. }
            | TransportEvent::Undelivered { .. }
            | TransportEvent::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::parse;
    use crate::types::{NetworkId, Transport};

    fn event(method: &str, remote: &str) -> TransportEvent {
        let text = format!(
            "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n\r\n"
        );
        let peer = Peer {
            network: NetworkId(0),
            transport: Transport::Udp,
            remote: remote.parse().unwrap(),
            local: "192.0.2.1:5060".parse().unwrap(),
            connection: None,
            tls_name: None,
        };
        TransportEvent::Message {
            peer,
            message: parse(text.as_bytes()).unwrap(),
            tls_names: Arc::default(),
            turn: Turn::default(),
        }
    }

    #[test]
    fn a_cancel_does_not_overtake_the_invite_that_waits() {
        let (one, other) = ("198.51.100.1:5060", "198.51.100.2:5060");
        let mut waiting = Queue::default();
        assert_eq!(event("CANCEL", one).goes_behind(&waiting), None);
        waiting.push(Line::STRANGERS, event("INVITE", one));
        assert_eq!(event("CANCEL", one).goes_behind(&waiting), Some(Line::STRANGERS));
        assert_eq!(event("CANCEL", other).goes_behind(&waiting), None, "nothing of it waits");
        assert_eq!(event("BYE", one).goes_behind(&waiting), None, "what runs goes before");
        let TransportEvent::Message { peer, .. } = event("INVITE", one) else { panic!() };
        let closed = TransportEvent::Closed { connection: ConnectionId(1), peer };
        assert_eq!(closed.goes_behind(&waiting), Some(Line::STRANGERS));
    }
}
