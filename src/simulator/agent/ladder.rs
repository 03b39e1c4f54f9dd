//! One line of a SIP ladder: which message passed when, seen from one agent.

use crate::sip::message::{Message, Method, Typed, parse};
use crate::types::{Peer, UnixMillis};
use serde::Serialize;
use std::net::SocketAddr;

/// A message that was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LadderStep {
    /// Milliseconds since the Unix epoch.
    pub at: UnixMillis,
    pub sent: bool,
    pub peer: SocketAddr,
    /// As `udp`.
    pub transport: &'static str,
    /// As `INVITE` or `180 Ringing`.
    pub text: String,
    /// The method of the CSeq.
    pub method: String,
    pub call_id: String,
    pub has_sdp: bool,
}

impl LadderStep {
    pub(super) fn of(message: &Message, sent: bool, peer: &Peer, at: UnixMillis) -> LadderStep {
        let (text, method) = match message {
            Message::Request(request) => (request.method.to_string(), request.method.clone()),
            Message::Response(response) => {
                let method = response.cseq().map_or(Method::Options, |cseq| cseq.method);
                (format!("{} {}", response.status, response.reason), method)
            }
        };
        LadderStep {
            at,
            sent,
            peer: peer.remote,
            transport: peer.transport.as_str(),
            text,
            method: method.to_string(),
            call_id: message.call_id().unwrap_or_default().to_owned(),
            has_sdp: message.sdp().is_some(),
        }
    }

    /// The same of bytes on their way out; `None` if they are no message of ours.
    pub(super) fn of_bytes(bytes: &[u8], peer: &Peer, at: UnixMillis) -> Option<LadderStep> {
        parse(bytes).ok().map(|message| LadderStep::of(&message, true, peer, at))
    }
}
