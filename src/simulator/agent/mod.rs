//! A user agent that is not the gateway: registers, calls, is called; a pure machine over `sip` and `sdp`.
//!
//! Test phone, operator and load are made of it. It shares the message and transaction layers with the gateway, but
//! none of its call logic, so that a call between them is a call between two minds.

mod call;
mod incoming;
mod ladder;
mod machine;
mod outgoing;
mod registration;

pub use ladder::LadderStep;
pub use machine::UserAgent;

use crate::sdp::{Negotiated, Refusal, Session};
use crate::sip::auth::Credentials;
use crate::sip::message::{HeaderName, NameAddr, Request, Response, Uri};
use crate::sip::transaction::Timers;
use crate::types::{HostPort, Peer, Secret};
use bytes::Bytes;

/// Names one call of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallHandle(pub u32);

/// Fills a buffer with random bytes.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// Who the agent is.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// User part of From and Contact; empty for a trunk without one.
    pub user: String,
    /// Host part of From.
    pub domain: HostPort,
    /// What to answer challenges with.
    pub credentials: Option<Credentials>,
    /// If set, every INVITE and REGISTER from outside must prove this, unless a [`Doorkeeper`] decides otherwise.
    pub guard: Option<Guard>,
    /// Value of User-Agent and Server.
    pub product: String,
    pub manner: Manner,
    pub timers: Timers,
}

/// What an agent speaks beside plain SIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// Value of Allow.
    pub allow: &'static str,
    /// Progress that has to arrive, both ways, where the far end takes part (RFC 3262).
    pub reliable: bool,
    /// Early media is permitted in words where the far end asks (RFC 5009).
    pub p_early_media: bool,
    /// The session interval that is asked for and granted, in seconds (RFC 4028); the far end refreshes.
    pub session_timer: Option<u32>,
    /// Registrations are for all numbers of an account at once (RFC 6140), and tell the way of its calls (RFC 3608).
    pub bulk: bool,
}

impl Default for Manner {
    /// Without UPDATE and PRACK, as many app stacks.
    fn default() -> Manner {
        Manner {
            allow: "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO",
            reliable: false,
            p_early_media: false,
            session_timer: None,
            bulk: false,
        }
    }
}

/// Credentials demanded of others.
#[derive(Debug, Clone)]
pub struct Guard {
    pub realm: String,
    pub user: String,
    pub password: Secret,
}

/// Which status demands credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// 401, as a server or registrar asks.
    Server,
    /// 407, as a proxy asks.
    Proxy,
}

/// What becomes of a request from outside any dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admit,
    /// It has to prove the [`Guard`]'s credentials.
    Challenge(Demand),
    /// Not a word, as from a dead far end.
    Ignore,
}

/// Decides on requests from outside any dialog.
pub type Doorkeeper = Box<dyn FnMut(&Request) -> Admission + Send>;

/// What to call.
#[derive(Debug, Clone)]
pub struct Invitation {
    pub peer: Peer,
    pub to: Uri,
    /// `None`: the agent itself.
    pub from: Option<NameAddr>,
    /// What the INVITE says beside.
    pub fields: Vec<(HeaderName, String)>,
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// This agent.
    Us,
    /// The far end.
    Them,
    /// Nobody: a timer ran out or the transport failed.
    Failure,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub by: EndedBy,
    /// The final SIP status; 200 for an answered call.
    pub status: u16,
    /// The reason phrase, or the failure in words.
    pub phrase: String,
    /// The Reason header of the message that ended it.
    pub reason: Option<String>,
}

/// A call that came in.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub peer: Peer,
    /// Request-URI.
    pub uri: Uri,
    pub from: NameAddr,
    /// User part of P-Asserted-Identity, or of P-Preferred-Identity, of which an operator makes the former.
    pub asserted: Option<String>,
    pub call_id: String,
    pub request: Box<Request>,
    /// The offer; `None` where the INVITE has none.
    pub offer: Option<Session>,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum CallEvent {
    Incoming(Box<Incoming>),
    /// Any 1xx; with media if it carries a usable answer.
    Progress {
        status: u16,
        phrase: String,
        media: Option<Box<Negotiated>>,
    },
    /// A 2xx was received or sent.
    Answered {
        media: Box<Negotiated>,
    },
    /// Our 2xx was acknowledged.
    Acknowledged,
    /// A re-INVITE changed the media.
    Updated {
        media: Box<Negotiated>,
        by_us: bool,
    },
    /// A re-INVITE of ours was refused; the media stays.
    UpdateRefused {
        status: u16,
    },
    /// Key presses by INFO (not sent by us).
    Ended(Ending),
}

/// What the machine wants done or known.
#[derive(Debug)]
pub enum Output {
    /// Send; a failure comes back by the ticket.
    Transmit {
        peer: Peer,
        bytes: Bytes,
        ticket: u64,
    },
    Call {
        handle: CallHandle,
        event: CallEvent,
    },
    /// Our REGISTER got its final answer; `expires` is what was granted, in seconds, 0 after taking it back.
    Registered {
        status: u16,
        phrase: String,
        expires: u32,
    },
    /// Somebody registered with us.
    Registration {
        user: String,
        contact: Uri,
        expires: u32,
        peer: Peer,
    },
    /// What the far end said when it was asked whether it lives.
    Alive {
        status: u16,
    },
    /// Somebody asked whether we live.
    Polled {
        peer: Peer,
    },
    /// A message passed, for the ladder.
    Ladder(LadderStep),
}

/// Deliberate misbehaviour of one call, for gateways that must stand it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quirks {
    /// ACKs are not noticed: the 2xx is repeated until it is given up.
    pub deaf_to_ack: bool,
    /// BYEs are not answered.
    pub deaf_to_bye: bool,
    /// The 200 has no session description.
    pub answer_without_sdp: bool,
    /// The 200 names a codec nobody offered.
    pub answer_with_foreign_codec: bool,
    /// A CANCEL is answered, and the call too.
    pub answer_after_cancel: bool,
    /// The status every re-INVITE gets.
    pub refuse_updates: Option<u16>,
    /// The session interval that the 200 grants whatever was asked, and that nobody here refreshes, in seconds.
    pub grants: Option<u32>,
    /// Behind the answer comes a BYE of somebody who does not know the dialog's tags.
    pub spoofed_bye: bool,
}

/// Why a command could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("there is no such call, or it is in no state for that")]
    WrongState,
    #[error("the offer can't be answered: {0}")]
    Refused(#[from] Refusal),
}

fn phrase_of(response: &Response) -> String {
    response.reason.clone()
}

#[cfg(test)]
mod tests;
