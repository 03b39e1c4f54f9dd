//! One call of an agent: its phase, dialog, descriptions and what waits for an ACK.

use super::Quirks;
use crate::sdp::{Local, Negotiated};
use crate::sip::answer_retransmit::AnswerRetransmit;
use crate::sip::auth::ClientAuth;
use crate::sip::dialog::Dialog;
use crate::sip::message::{Request, Response, Uri};
use crate::sip::reliable::ReliableProvisionals;
use crate::sip::transaction::{ClientKey, ServerKey};
use crate::types::{HostPort, Peer, Transport};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub(super) struct Call {
    pub call_id: String,
    pub local_tag: String,
    /// Where the last message of the far end came from.
    pub peer: Peer,
    /// `None` until the media address is known.
    pub sdp: Option<Local>,
    pub media: Option<Negotiated>,
    pub dialog: Option<Dialog>,
    pub auth: Option<ClientAuth>,
    pub phase: Phase,
    pub quirks: Quirks,
    /// Progress that has to arrive, where both sides want that.
    pub reliable: Option<ReliableProvisionals>,
    /// The number of the last reliable response of the far end that got its PRACK.
    pub rseq: Option<u32>,
    /// A reliable response had the description: the 200 need not repeat it.
    pub described: bool,
    /// Our 2xx that waits for its ACK.
    pub answer: Option<Answer>,
    /// A request of ours inside the dialog.
    pub inside: Option<Inside>,
    /// The ACK of the last 2xx, for when that comes again.
    pub ack: Option<(u32, Request)>,
    /// When this call has something to do next.
    pub deadline: Option<Instant>,
}

#[allow(clippy::large_enum_variant, reason = "one a call")]
pub(super) enum Phase {
    /// Our INVITE has no final response yet.
    Inviting {
        client: ClientKey,
        request: Box<Request>,
        cancelled: bool,
    },
    /// Their INVITE waits for us.
    Invited {
        server: ServerKey,
        request: Box<Request>,
        body: Option<Body>,
    },
    Talking,
    /// Our BYE is on its way.
    HangingUp,
    /// Kept until late repetitions have died out.
    Over,
}

/// The description that goes into our 18x and 200.
#[derive(Clone)]
pub(super) struct Body {
    pub text: String,
    /// `None` where it is an offer of ours; the answer comes in the ACK.
    pub media: Option<Negotiated>,
}

pub(super) struct Answer {
    pub clock: AnswerRetransmit,
    pub server: ServerKey,
    pub response: Response,
    /// The ACK has to bring the answer to the offer in our 2xx.
    pub offered: bool,
    /// False for the 2xx of a re-INVITE.
    pub initial: bool,
}

pub(super) struct Inside {
    pub client: ClientKey,
    pub kind: InsideKind,
    pub request: Box<Request>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsideKind {
    Update,
    Bye,
}

impl Call {
    /// Where a request inside the dialog goes: over UDP to the address its route or target names, else by the
    /// connection the call came by.
    pub fn reach(&self) -> Peer {
        let mut peer = self.peer.clone();
        if peer.transport == Transport::Udp
            && let Some(address) = self.dialog.as_ref().and_then(|dialog| address_of(&dialog.next_hop()))
        {
            peer.remote = address;
        }
        peer
    }
}

/// The address a URI names, if it is a literal.
pub(super) fn address_of(uri: &Uri) -> Option<SocketAddr> {
    let HostPort { host, port } = &uri.host;
    let ip: IpAddr = host.parse().ok()?;
    let transport = uri.transport().and_then(|name| name.parse().ok()).unwrap_or(Transport::Udp);
    Some(SocketAddr::new(ip, port.unwrap_or(transport.default_port())))
}
