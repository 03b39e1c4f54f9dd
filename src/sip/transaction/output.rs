//! What the transaction layer tells the outside: messages to send, and messages and failures for its user.

use crate::sip::message::{Method, Request, Response};
use crate::types::Peer;
use bytes::Bytes;

/// A request of ours. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(pub(super) u64);

/// A far end's request. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey(pub(super) u64);

/// Why a request of ours got no final response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFailure {
    /// Timer B or F, or a cancelled INVITE whose far end never ended it (RFC 3261 §9.1). Stands for a 408.
    TimedOut,
    /// The transport could not deliver it. Stands for a 503 (RFC 3261 §8.1.3.1).
    Transport,
}

/// What the layer wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes. A transport that can't reports the ticket to
    /// [`handle_transport_failure`](super::TransactionLayer::handle_transport_failure); ticket 0 is nobody's.
    Transmit {
        peer: Peer,
        bytes: Bytes,
        ticket: u64,
        /// True if the same bytes went out before.
        retransmission: bool,
        /// The method of the CSeq, and the status of a response.
        what: (Method, Option<u16>),
    },
    /// A new request, never a retransmission. It waits for [`respond`](super::TransactionLayer::respond).
    Request { key: ServerKey, peer: Peer, request: Request },
    /// A CANCEL. The user answers it by `key`: 200 if `invite` is a transaction of its own, else 481, and
    /// then the INVITE with 487 if that has no final response yet (RFC 3261 §9.2). The user also checks that
    /// `peer` may do that: matching goes by the branch alone.
    Cancel { key: ServerKey, invite: Option<ServerKey>, peer: Peer, request: Request },
    /// The ACK of a 2xx, or of nothing: the user finds its dialog.
    Ack { peer: Peer, request: Request },
    /// Each provisional response, the final one, and for INVITE every 2xx, of any fork, also repeated or
    /// late: the user acknowledges each, and hangs up those it does not want (RFC 3261 §13.2.2.4). A failure
    /// of an INVITE is acknowledged already and comes once.
    Response { key: ClientKey, peer: Peer, response: Response },
    /// There will be no final response; the transaction is over.
    Failed { key: ClientKey, failure: ClientFailure },
    /// The far end never acknowledged our failure response (Timer H); the transaction is over.
    AckMissing { key: ServerKey },
}

/// What the layer did since it was made, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages we sent again by a timer, or because the far end repeated its request.
    pub retransmitted: u64,
    /// Requests and responses that came again and were absorbed here.
    pub absorbed: u64,
    /// Responses to nothing we sent, or too late to matter; dropped.
    pub stray_responses: u64,
    /// Messages without a Via, CSeq or tag one could match; dropped.
    pub unmatchable: u64,
    /// Requests refused with 503 because the table was full, or dropped because even that was too much.
    pub refused: u64,
    /// Requests nobody answered in 64*T1.
    pub unanswered: u64,
}
