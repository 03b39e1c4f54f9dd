//! One leg of a call: a dialog with one far end, from its INVITE to its BYE.

pub mod again;
pub mod early;
pub mod extensions;
pub mod invite;
pub mod media;
pub mod progress;
pub mod rules;
pub mod session;
pub mod unanswered;
pub mod way;

use self::again::Again;
use self::early::EarlyDialogs;
use self::media::LegMedia;
use self::progress::ReliableProgress;
use self::rules::LegRules;
use self::session::LegSession;
use self::unanswered::Unanswered;
use self::way::Astray;
use super::core::{Core, Owner, Purpose};
use super::event::{Event, Output, Target};
use super::settings::Trunk;
use crate::routing::Channel;
use crate::sip::answer_retransmit::AnswerRetransmit;
use crate::sip::auth::ClientAuth;
use crate::sip::dialog::Dialog;
use crate::sip::header_rules::Kind;
use crate::sip::message::{HeaderName, Method, NameAddr, Reason, Request, Response, Typed, Uri};
use crate::sip::transaction::{ClientKey, ServerKey};
use crate::types::{CallId, EndCause, HostPort, LegId, LegKind, MediaDirection, Now, Peer, Transport};
use std::sync::Arc;
use std::time::Instant;

/// Who stands at the far end.
#[derive(Debug, Clone)]
pub enum Party {
    User {
        name: Arc<str>,
    },
    /// With the settings it had when the call reached it: a reload does not change a running call.
    Trunk(Arc<Trunk>),
}

impl Party {
    pub fn kind(&self) -> LegKind {
        match self {
            Party::User { .. } => LegKind::App,
            Party::Trunk(_) => LegKind::Trunk,
        }
    }
    /// False for a leg of an app's network and one of a phone network: they never hear each other.
    pub fn may_meet(&self, other: &Party) -> bool {
        match (self, other) {
            (Party::Trunk(one), Party::Trunk(other)) => one.config.app_side == other.config.app_side,
            (Party::User { .. }, _) | (_, Party::User { .. }) => true,
        }
    }
    pub fn trunk(&self) -> Option<&Trunk> {
        match self {
            Party::User { .. } => None,
            Party::Trunk(trunk) => Some(trunk),
        }
    }
    pub fn trunk_name(&self) -> Option<Arc<str>> {
        match self {
            Party::User { .. } => None,
            Party::Trunk(trunk) => Some(trunk.name.clone()),
        }
    }
    pub fn user_name(&self) -> Option<Arc<str>> {
        match self {
            Party::User { name } => Some(name.clone()),
            Party::Trunk(_) => None,
        }
    }
}

/// Where a leg stands.
#[derive(Debug)]
pub enum LegState {
    /// A callee's leg that waits for its media ports.
    Allocating,
    /// Our INVITE is out.
    Inviting {
        /// When a target that answered nothing at all is left; `None` once something came back.
        leave_at: Option<Instant>,
    },
    /// We took the INVITE back and wait for its end.
    Cancelling,
    /// The callee's 2xx is here and waits for the journal; it is not acknowledged yet.
    AnswerHeld {
        response: Box<Response>,
    },
    /// A caller's INVITE without a final answer.
    Incoming {
        server: ServerKey,
        request: Box<Request>,
    },
    /// We sent 2xx to the caller and wait for its ACK (RFC 3261 §13.3.1.4).
    Accepted {
        server: ServerKey,
        response: Box<Response>,
        retransmit: AnswerRetransmit,
        then_bye: bool,
    },
    Established,
    /// Our BYE is out.
    Releasing,
    /// Nothing more will be sent or is expected.
    Gone,
}

/// Our own re-INVITE inside the leg's dialog.
#[derive(Debug)]
pub enum Modification {
    None,
    /// Sent, no final answer yet. Its ACK repeats the credentials it was sent with (RFC 3261 §13.2.2.4).
    Pending {
        client: ClientKey,
        credentials: Vec<(HeaderName, String)>,
        /// What the far end was told before, and in which description.
        before: MediaDirection,
        described: Option<String>,
        /// It changes nothing and only shows that the session lives (RFC 4028 §7.4).
        refresh: bool,
    },
    /// Refused for now: tried once more then (RFC 3261 §14.1, §14.2).
    RetryAt {
        at: Instant,
    },
}

/// One leg.
#[derive(Debug)]
pub struct Leg {
    pub id: LegId,
    pub party: Party,
    pub peer: Peer,
    /// A trunk's leg by a stream, once that is gone or could not be made.
    pub astray: Option<Box<Astray>>,
    pub state: LegState,
    pub dialog: Option<Dialog>,
    pub call_id: String,
    pub local_tag: String,
    pub media: LegMedia,
    /// The transaction of our INVITE towards a callee.
    pub client: Option<ClientKey>,
    /// Our INVITE as sent last, until its answer is acknowledged.
    pub invite: Option<Box<Request>>,
    pub modification: Modification,
    /// A re-INVITE of the far end that we answered and whose ACK is still to come.
    pub reinvite: Option<Box<Reinvited>>,
    /// What makes the ACK we sent for the answer; one goes out for each repeated 2xx.
    pub ack: Option<Acknowledgement>,
    /// Our last re-INVITE that was answered 2xx, and the ACK that is repeated for each repetition of that.
    pub reinvite_ack: Option<Box<(ClientKey, Request)>>,
    /// A callee's leg: what was asked and what came of it.
    pub attempt: Option<Box<Attempt>>,
    /// What we prove ourselves with to a trunk, and what it asked so far.
    pub auth: Option<Box<ClientAuth>>,
    /// How often its far end made us repeat what we ask.
    pub again: Again,
    pub session: LegSession,
    /// A callee's leg before its answer: who spoke so far.
    pub early: EarlyDialogs,
    /// A caller's leg whose provisional responses have to arrive.
    pub reliable: Option<Box<ReliableProgress>>,
    /// What header rules on this leg know, where there are any.
    pub rules: Option<Box<LegRules>>,
    /// Reports and BYEs of forks that have no answer yet.
    pub unanswered: Vec<Unanswered>,
}

/// What an ACK says beside what its dialog knows.
#[derive(Debug)]
pub struct Acknowledgement {
    /// Of the INVITE (RFC 3261 §13.2.2.4), with its credentials.
    cseq: u32,
    credentials: Vec<(HeaderName, String)>,
}

/// A re-INVITE we answered with 2xx.
#[derive(Debug)]
pub struct Reinvited {
    pub server: ServerKey,
    /// Its sequence number: the ACK carries the same.
    pub cseq: Option<u32>,
    /// It had no offer: ours is in the 2xx, and the ACK brings the answer (RFC 3261 §14.2).
    pub offered: bool,
    pub response: Box<Response>,
    pub retransmit: AnswerRetransmit,
}

/// One attempt towards a callee, as the CDR tells it.
#[derive(Debug)]
pub struct Attempt {
    pub called: String,
    pub calling: String,
    /// The caller's own number as the trunk wants it.
    pub network: Option<String>,
    pub target: Option<Target>,
    pub started: Now,
    pub ringing: Option<Now>,
    pub answered: Option<Now>,
    pub ended: Option<(Now, u16, EndCause)>,
    pub progressed: bool,
    /// It was taken as a sign that the trunk lives, once.
    pub lives: bool,
    /// The trunk's channel this attempt uses.
    pub channel: Option<Channel>,
    /// Its end was told to the counters.
    pub counted: bool,
}

impl Leg {
    /// A leg that has said nothing yet, under a Call-ID and a tag.
    pub fn new(
        id: LegId,
        party: Party,
        peer: Peer,
        state: LegState,
        (call_id, local_tag): (String, String),
        media: LegMedia,
    ) -> Leg {
        Leg {
            id,
            session: LegSession::new(&party),
            auth: party.trunk().and_then(Trunk::client_auth).map(Box::new),
            again: Again::default(),
            party,
            peer,
            astray: None,
            state,
            dialog: None,
            call_id,
            local_tag,
            media,
            client: None,
            invite: None,
            modification: Modification::None,
            reinvite: None,
            ack: None,
            reinvite_ack: None,
            attempt: None,
            early: EarlyDialogs::default(),
            reliable: None,
            rules: None,
            unanswered: Vec::new(),
        }
    }

    /// The INVITE of a caller that has no answer yet.
    pub fn request(&self) -> Option<&Request> {
        match &self.state {
            LegState::Incoming { request, .. } => Some(request),
            LegState::Allocating
            | LegState::Inviting { .. }
            | LegState::Cancelling
            | LegState::AnswerHeld { .. }
            | LegState::Accepted { .. }
            | LegState::Established
            | LegState::Releasing
            | LegState::Gone => None,
        }
    }

    /// Says under which Call-ID this leg's messages pass.
    pub fn known(&self) -> Event {
        let party = match &self.party {
            Party::User { name } => format!("user {name}"),
            Party::Trunk(trunk) => format!("trunk {}", trunk.name),
        };
        Event::LegKnown { leg: self.id, party: party.into(), call_id: self.call_id.clone() }
    }

    /// The value for the Contact header: where requests of this dialog reach us.
    pub fn contact(peer: &Peer, user: Option<&str>) -> String {
        NameAddr::new(Leg::contact_uri(peer, user)).to_string()
    }

    /// The Contact of a registration for all of our numbers (RFC 6140 §5.2): "bulk number contact".
    pub fn bulk_contact(peer: &Peer) -> String {
        NameAddr::new(Leg::contact_uri(peer, None).with_param("bnc", None)).to_string()
    }

    fn contact_uri(peer: &Peer, user: Option<&str>) -> Uri {
        let uri = Uri::sip(user, HostPort::from(peer.local));
        match peer.transport {
            Transport::Udp => uri,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                uri.with_param("transport", Some(peer.transport.as_str()))
            }
        }
    }

    pub fn is_gone(&self) -> bool {
        matches!(self.state, LegState::Gone)
    }

    /// True while an INVITE of ours has no final answer and was not taken back.
    pub fn is_inviting(&self) -> bool {
        matches!(self.state, LegState::Allocating | LegState::Inviting { .. })
    }

    /// The next moment something is due on this leg by itself.
    pub fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            LegState::Inviting { leave_at } => *leave_at,
            LegState::Accepted { retransmit, .. } => retransmit.poll_timeout(),
            LegState::Allocating
            | LegState::Cancelling
            | LegState::AnswerHeld { .. }
            | LegState::Incoming { .. }
            | LegState::Established
            | LegState::Releasing
            | LegState::Gone => None,
        };
        let reinvite = self.reinvite.as_ref().and_then(|pending| pending.retransmit.poll_timeout());
        let retry = match &self.modification {
            Modification::RetryAt { at } => Some(*at),
            Modification::None | Modification::Pending { .. } => None,
        };
        // Before both ends have the answer there is no session to refresh.
        let session = self.session.timer.as_ref().filter(|_| matches!(self.state, LegState::Established));
        let session = session.map(|timer| timer.poll_timeout());
        let progress = self.reliable.as_ref().and_then(|reliable| reliable.sent.poll_timeout());
        [state, reinvite, retry, session, progress].into_iter().flatten().min()
    }

    /// Forgets the leg's place in the indexes; the leg sends nothing any more.
    pub fn vanish(&mut self, core: &mut Core) {
        core.forget_dialog(&self.call_id, &self.local_tag);
        if let LegState::Incoming { server, .. } | LegState::Accepted { server, .. } = &self.state {
            core.forget_invite(*server);
        }
        self.invite = None;
        if let Some(client) = self.client.take() {
            core.forget_client(client);
        }
        self.stop_modifying(core);
        self.forget_reports();
        if let Some(reliable) = self.reliable.as_mut() {
            reliable.stop();
        }
        self.state = LegState::Gone;
    }

    /// Nothing of a session that ends is changed any more.
    fn stop_modifying(&mut self, core: &mut Core) {
        if let Modification::Pending { client, .. } =
            std::mem::replace(&mut self.modification, Modification::None)
        {
            core.forget_client(client);
        }
        if let Some(answered) = self.reinvite_ack.take() {
            core.forget_client(answered.0);
        }
        self.reinvite = None;
    }

    /// Asks for media ports of the family that the far end signals by, on the thread of another call where it may have
    /// to be joined with that.
    pub fn open_media(&mut self, core: &mut Core, beside: Option<CallId>) {
        self.media.opening = true;
        let (network, address) = (self.peer.network, self.peer.local.ip());
        core.emit(Output::OpenMedia { leg: self.id, kind: self.party.kind(), network, address, beside });
    }

    /// Tells the worker to close the leg's media, once.
    pub fn close_media(&mut self, core: &mut Core) {
        if self.media.ports.is_some() && !self.media.closing {
            self.media.closing = true;
            core.emit(Output::CloseMedia { leg: self.id });
        }
    }

    /// Tells the worker what was agreed last.
    pub fn configure_media(&self, core: &mut Core) {
        if let Some(config) = self.media.config() {
            core.emit(Output::ConfigureMedia { leg: self.id, config: Box::new(config) });
        }
    }

    /// Ends the leg's dialog from our side, in the way its state allows. `reason` is the value of the Reason header.
    pub fn release(&mut self, core: &mut Core, now: Now, reason: &str) {
        match std::mem::replace(&mut self.state, LegState::Gone) {
            LegState::Allocating => self.vanish(core),
            LegState::Inviting { .. } => {
                if let Some(client) = self.client {
                    core.cancel(now, client, reason);
                }
                self.state = LegState::Cancelling;
            }
            LegState::AnswerHeld { response } => {
                self.acknowledge(core, now, &response);
                self.send_bye(core, now, reason);
            }
            LegState::Accepted { server, response, retransmit, then_bye: _ } => {
                // RFC 3261 §15: the callee must not send BYE before its answer was acknowledged.
                self.state = LegState::Accepted { server, response, retransmit, then_bye: true };
            }
            LegState::Established => self.send_bye(core, now, reason),
            state @ (LegState::Cancelling
            | LegState::Incoming { .. }
            | LegState::Releasing
            | LegState::Gone) => self.state = state,
        }
    }

    /// Sends BYE with the reason of the end (RFC 3326).
    pub fn send_bye(&mut self, core: &mut Core, now: Now, reason: &str) {
        let Some(mut bye) = self.dialog.as_mut().map(|dialog| dialog.request(Method::Bye, None)) else {
            self.vanish(core);
            return;
        };
        bye.headers.set(HeaderName::Reason, reason);
        self.authorize(core, &mut bye);
        // A change of ours that is on its way may still be taken: that answer wants its ACK.
        if matches!(self.modification, Modification::RetryAt { .. }) {
            self.modification = Modification::None;
        }
        self.reinvite = None;
        self.send(core, now, Purpose::Bye, self.next_hop(), bye);
        self.state = LegState::Releasing;
    }

    /// Sends a request to the leg's far end. A device sits behind NAT: it is reached only the way it came.
    pub fn send(
        &self,
        core: &mut Core,
        now: Now,
        purpose: Purpose,
        peer: Peer,
        mut request: Request,
    ) -> ClientKey {
        self.dress(Kind::Request(&request.method), &mut request.headers);
        let owner = Owner::Leg { leg: self.id, purpose };
        match &self.party {
            Party::User { .. } => core.send_by_flow(now, owner, peer, request),
            Party::Trunk(_) => core.send(now, owner, peer, request),
        }
    }

    /// Acknowledges the callee's 2xx, making the dialog from it.
    pub fn acknowledge(&mut self, core: &mut Core, now: Now, answer: &Response) {
        let Some(invite) = &self.invite else { return };
        // An early dialog has used numbers of its own already.
        let early = answer.to_tag().and_then(|tag| self.early.take(tag)).map(|early| {
            let mut dialog = early.dialog;
            // Its numbers go on also where it can only be hung up on.
            let _ = dialog.confirm(answer);
            dialog
        });
        let dialog = early.map_or_else(|| Dialog::uac(invite, answer), Ok);
        let dialog = dialog.or_else(|_| Dialog::uac_at_request_uri(invite, answer));
        let (Ok(cseq), Ok(dialog)) = (invite.cseq(), dialog) else { return };
        self.ack = Some(Acknowledgement { cseq: cseq.number, credentials: credentials_of(invite) });
        self.dialog = Some(dialog);
        self.invite = None;
        self.session.granted(now, answer);
        self.forget_heard();
        self.send_ack(core, now);
    }

    /// Sends the ACK of the answer, or sends it again.
    pub fn send_ack(&self, core: &mut Core, now: Now) {
        if let Some(dialog) = &self.dialog {
            self.send_ack_in(core, now, dialog, self.next_hop());
        }
    }

    /// The same in the dialog of another fork of the INVITE.
    pub fn send_ack_in(&self, core: &mut Core, now: Now, dialog: &Dialog, peer: Peer) {
        let Some(acknowledged) = &self.ack else { return };
        let mut ack = dialog.ack(acknowledged.cseq);
        for (name, value) in &acknowledged.credentials {
            ack.headers.push(name.clone(), value.as_str());
        }
        core.send_ack(now, peer, ack);
    }

    /// True where a request from a far end with this tag is inside the leg's dialog, or in one of its early dialogs.
    pub fn knows(&self, tag: &str) -> bool {
        match (&self.dialog, &self.state) {
            (Some(dialog), _) => dialog.remote_tag == tag,
            (None, LegState::Incoming { request, .. }) => request.from_tag().unwrap_or_default() == tag,
            (None, LegState::AnswerHeld { response }) => response.to_tag().unwrap_or_default() == tag,
            (None, LegState::Inviting { .. }) => self.early.knows(tag),
            (
                None,
                LegState::Allocating
                | LegState::Cancelling
                | LegState::Accepted { .. }
                | LegState::Established
                | LegState::Releasing
                | LegState::Gone,
            ) => false,
        }
    }

    /// The dialog, confirmed or early, with a far end of this tag.
    pub fn dialog_with(&mut self, tag: &str) -> Option<&mut Dialog> {
        match self.dialog.as_mut() {
            Some(dialog) => Some(dialog).filter(|dialog| dialog.remote_tag == tag),
            None => self.early.find(tag).map(|early| &mut early.dialog),
        }
    }
}

/// What a request proves itself with: its ACK repeats it (RFC 3261 §13.2.2.4).
pub fn credentials_of(request: &Request) -> Vec<(HeaderName, String)> {
    [HeaderName::Authorization, HeaderName::ProxyAuthorization]
        .into_iter()
        .flat_map(|name| {
            let values: Vec<String> = request.headers.all(&name).map(str::to_owned).collect();
            values.into_iter().map(move |value| (name.clone(), value))
        })
        .collect()
}

/// Why a device is not rung any more when another one of its user was faster (RFC 3326 §3.1): it shows no missed call.
pub fn answered_elsewhere() -> String {
    Reason::sip(200, "Call completed elsewhere").to_string()
}

/// A Reason header value of a cause (RFC 3326, RFC 6432).
pub fn reason(cause: EndCause) -> String {
    Reason::q850(cause.q850(), cause.meaning()).to_string()
}

/// How many seconds a refused caller should wait where waiting helps (RFC 3261 §20.33).
pub fn retry_after(cause: EndCause) -> Option<u32> {
    if matches!(cause, EndCause::Draining | EndCause::TrunkUnavailable | EndCause::JournalFailed) {
        Some(30)
    } else if matches!(cause, EndCause::GatewayCongested | EndCause::TrunkCongested) {
        Some(5)
    } else {
        None
    }
}
