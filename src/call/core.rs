//! What every machine of this room works with: the transaction layer, who owns what in it, and the way out.

use super::event::{Event, Output};
use super::settings::Settings;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::sip::transaction::{ClientKey, ServerKey, Timers, TransactionLayer};
use crate::types::{LegId, Now, Peer};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What a client transaction was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Invite,
    Reinvite,
    Bye,
    Cancel,
    /// The BYE of a dialog nobody wanted: a second fork's answer.
    Stray,
}

/// Who gets the responses of a client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Leg { leg: LegId, purpose: Purpose },
    TrunkHealth { trunk: usize },
    TrunkRegistration { trunk: usize },
}

/// The methods this gateway acts on, as its Allow header lists them.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REGISTER";

/// Fills a buffer with unpredictable octets; seeded in tests.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// Shared ground of the call, registration and trunk machines.
pub struct Core {
    pub sip: TransactionLayer,
    pub settings: Arc<Settings>,
    /// T1, T2, T4 as configured, for what repeats outside transactions.
    pub timers: Timers,
    owners: HashMap<ClientKey, Owner>,
    /// INVITE server transactions of callers, so that a CANCEL finds its call.
    invites: HashMap<ServerKey, LegId>,
    /// Legs by Call-ID and our tag, so that a request inside a dialog finds its leg.
    dialogs: HashMap<(String, String), LegId>,
    outputs: VecDeque<Output>,
    random: Random,
}

impl Core {
    pub fn new(sip: TransactionLayer, settings: Arc<Settings>, random: Random) -> Core {
        Core {
            timers: *sip.timers(),
            sip,
            settings,
            owners: HashMap::new(),
            invites: HashMap::new(),
            dialogs: HashMap::new(),
            outputs: VecDeque::new(),
            random,
        }
    }

    pub fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub fn event(&mut self, event: Event) {
        self.emit(Output::Event(event));
    }

    pub fn pop_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Fresh random octets.
    pub fn octets<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        (self.random)(&mut octets);
        octets
    }

    /// The source of key material for SDES.
    pub fn randomness(&mut self) -> &mut (dyn FnMut(&mut [u8]) + Send) {
        &mut *self.random
    }

    /// A tag or Call-ID: 96 random bits, well over the 32 that RFC 3261 §19.3 asks for.
    pub fn token(&mut self) -> String {
        use std::fmt::Write;
        self.octets::<12>().iter().fold(String::with_capacity(24), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        })
    }

    /// Sends a request in a transaction of its own and remembers who wants the answers.
    pub fn send(&mut self, now: Now, owner: Owner, peer: Peer, mut request: Request) -> ClientKey {
        if !self.settings.sip.user_agent.is_empty() {
            request.headers.set(HeaderName::UserAgent, self.settings.sip.user_agent.clone());
        }
        self.event(Event::Request {
            method: request.method.clone(),
            transport: peer.transport,
            received: false,
        });
        let key = self.sip.send_request(now.instant, peer, request);
        self.owners.insert(key, owner);
        key
    }

    /// Takes back an INVITE that has no final answer yet (RFC 3261 §9.1).
    pub fn cancel(&mut self, now: Now, leg: LegId, invite: ClientKey, reason: &str) {
        if let Some(key) = self.sip.send_cancel_because(now.instant, invite, Some(reason)) {
            self.owners.insert(key, Owner::Leg { leg, purpose: Purpose::Cancel });
        }
    }

    pub fn respond(&mut self, now: Now, key: ServerKey, method: &Method, mut response: Response) {
        self.sign(&mut response);
        self.event(Event::Response { status: response.status, method: method.clone() });
        self.sip.respond(now.instant, key, response);
    }

    /// Sends a 2xx again, word for word (RFC 3261 §13.3.1.4).
    pub fn repeat(&mut self, now: Now, key: ServerKey, response: &Response) {
        self.event(Event::Retransmission);
        self.sip.respond(now.instant, key, response.clone());
    }

    /// Says who answers, where the configuration wants it said.
    pub fn sign(&self, response: &mut Response) {
        if !self.settings.sip.user_agent.is_empty() {
            response.headers.set(HeaderName::Server, self.settings.sip.user_agent.clone());
        }
    }

    /// Answers and forgets: challenges cost no memory.
    pub fn respond_stateless(&mut self, key: ServerKey, method: &Method, response: Response) {
        self.event(Event::Response { status: response.status, method: method.clone() });
        self.sip.respond_stateless(key, response);
    }

    pub fn send_ack(&mut self, now: Now, peer: Peer, ack: Request) {
        self.sip.send_ack_2xx(now.instant, peer, ack);
    }

    pub fn owner(&self, key: ClientKey) -> Option<Owner> {
        self.owners.get(&key).copied()
    }

    pub fn forget_client(&mut self, key: ClientKey) {
        self.owners.remove(&key);
    }

    pub fn remember_invite(&mut self, key: ServerKey, leg: LegId) {
        self.invites.insert(key, leg);
    }

    pub fn invite_leg(&self, key: ServerKey) -> Option<LegId> {
        self.invites.get(&key).copied()
    }

    pub fn forget_invite(&mut self, key: ServerKey) {
        self.invites.remove(&key);
    }

    pub fn remember_dialog(&mut self, call_id: &str, local_tag: &str, leg: LegId) {
        self.dialogs.insert((call_id.to_owned(), local_tag.to_owned()), leg);
    }

    pub fn forget_dialog(&mut self, call_id: &str, local_tag: &str) {
        self.dialogs.remove(&(call_id.to_owned(), local_tag.to_owned()));
    }

    /// The leg whose dialog a request belongs to: its To tag is ours.
    pub fn leg_of(&self, request: &Request) -> Option<LegId> {
        let to = request.to().ok()?;
        let call_id = request.call_id().ok()?;
        self.dialogs.get(&(call_id.to_owned(), to.tag()?.to_owned())).copied()
    }

    /// True when a dialog of ours already has this Call-ID: our own request came back to us.
    pub fn is_own_call_id(&self, call_id: &str) -> bool {
        self.dialogs.keys().any(|(known, _)| known == call_id)
    }

    /// How many things are still held; all zero when nothing goes on.
    pub fn held(&self) -> usize {
        self.owners.len() + self.invites.len() + self.dialogs.len()
    }
}

/// A response to `request`, carrying a To tag unless the request has one.
pub fn response(request: &Request, status: u16, tag: &str) -> Response {
    let response = Response::to_request(request, status);
    if tag.is_empty() || request.to_tag().is_some() { response } else { response.with_tag(tag) }
}
