//! What every machine of this room works with: the transaction layer, who owns what in it, and the way out.

use super::event::{Event, Output};
use super::settings::Settings;
use crate::routing::NumberPlan;
use crate::sip::dialog::Dialog;
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::sip::transaction::{ClientKey, ServerKey, Timers, TransactionLayer};
use crate::types::{CallId, LegId, Now, Peer};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// What a client transaction was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Invite,
    Reinvite,
    /// An UPDATE that refreshes the session.
    Update,
    Prack,
    /// A report about a transfer.
    Notify,
    Bye,
    /// The BYE of a dialog nobody wanted: a second fork's answer.
    Stray,
}

impl Purpose {
    pub fn method(self) -> Method {
        match self {
            Purpose::Invite | Purpose::Reinvite => Method::Invite,
            Purpose::Update => Method::Update,
            Purpose::Prack => Method::Prack,
            Purpose::Notify => Method::Notify,
            Purpose::Bye | Purpose::Stray => Method::Bye,
        }
    }
}

/// Who gets the responses of a client transaction. Trunks are named, since a reload moves them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Leg { leg: LegId, purpose: Purpose },
    TrunkHealth { trunk: Arc<str> },
    TrunkRegistration { trunk: Arc<str> },
}

/// The extensions this gateway may be required to know; which of them it uses with whom is configuration.
const EXTENSIONS: [&str; 3] = ["100rel", "timer", "replaces"];

/// Fills a buffer with unpredictable octets; seeded in tests.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// What is known of a dialog without asking its call.
struct Known {
    call_id: String,
    leg: LegId,
}

/// Shared ground of the call, registration and trunk machines.
pub struct Core {
    pub sip: TransactionLayer,
    pub settings: Arc<Settings>,
    /// How numbers are written here.
    pub numbers: Arc<NumberPlan>,
    /// T1, T2, T4 as configured, for what repeats outside transactions.
    pub timers: Timers,
    owners: HashMap<ClientKey, Owner>,
    /// INVITE server transactions of callers, so that a CANCEL finds its call.
    invites: HashMap<ServerKey, LegId>,
    /// Legs by our tag, which is ours alone, so that a request inside a dialog finds its leg.
    dialogs: HashMap<String, Known>,
    /// The Call-IDs of INVITEs of ours, so that one that comes back is known, and whose it is.
    own_call_ids: HashMap<String, LegId>,
    /// Where each trunk was found last, best address first.
    places: HashMap<Arc<str>, Vec<Peer>>,
    outputs: VecDeque<Output>,
    random: Random,
}

impl Core {
    pub fn new(
        sip: TransactionLayer,
        settings: Arc<Settings>,
        numbers: Arc<NumberPlan>,
        random: Random,
    ) -> Core {
        Core {
            timers: *sip.timers(),
            sip,
            settings,
            numbers,
            owners: HashMap::new(),
            invites: HashMap::new(),
            dialogs: HashMap::new(),
            own_call_ids: HashMap::new(),
            places: HashMap::new(),
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

    /// A number to decide a choice with.
    pub fn draw(&mut self) -> u32 {
        u32::from_be_bytes(self.octets())
    }

    /// The source of key material for SDES.
    pub fn randomness(&mut self) -> &mut (dyn FnMut(&mut [u8]) + Send) {
        &mut *self.random
    }

    /// A Call-ID or cnonce, or the tag of what makes no dialog: 96 random bits, well over the 32 that RFC 3261 §19.3
    /// asks for.
    pub fn token(&mut self) -> String {
        data_encoding::HEXLOWER.encode(&self.octets::<12>())
    }

    /// Our tag in a dialog. It is marked, since what belongs to a call passes the door before all else; nobody gets one
    /// who is not part of a call.
    pub fn tag(&mut self) -> String {
        let random = self.octets();
        self.sip.marks().tag(random)
    }

    /// Sends a request in a transaction of its own and remembers who wants the answers.
    pub fn send(&mut self, now: Now, owner: Owner, peer: Peer, request: Request) -> ClientKey {
        self.send_by(TransactionLayer::send_request, now, owner, peer, request)
    }

    /// The same to one that is reached only by the flow it opened.
    pub fn send_by_flow(&mut self, now: Now, owner: Owner, peer: Peer, request: Request) -> ClientKey {
        self.send_by(TransactionLayer::send_request_by_flow, now, owner, peer, request)
    }

    fn send_by(
        &mut self,
        send: fn(&mut TransactionLayer, Instant, Peer, Request) -> ClientKey,
        now: Now,
        owner: Owner,
        peer: Peer,
        mut request: Request,
    ) -> ClientKey {
        if !self.settings.sip.user_agent.is_empty() {
            request.headers.set(HeaderName::UserAgent, self.settings.sip.user_agent.clone());
        }
        let key = send(&mut self.sip, now.instant, peer, request);
        self.owners.insert(key, owner);
        key
    }

    /// Takes back an INVITE that has no final answer yet (RFC 3261 §9.1). What is answered to the CANCEL itself
    /// changes nothing, so nobody waits for it.
    pub fn cancel(&mut self, now: Now, invite: ClientKey, reason: &str) {
        self.sip.send_cancel_because(now.instant, invite, Some(reason));
    }

    pub fn respond(&mut self, now: Now, key: ServerKey, method: &Method, mut response: Response) {
        self.sign(&mut response);
        self.event(Event::Response { status: response.status, method: method.clone() });
        self.sip.respond(now.instant, key, response);
    }

    /// Sends a 2xx again, word for word (RFC 3261 §13.3.1.4).
    pub fn repeat(&mut self, now: Now, key: ServerKey, response: &Response) {
        self.sip.respond(now.instant, key, response.clone());
    }

    /// Says who answers, where the configuration wants it said.
    pub fn sign(&self, response: &mut Response) {
        if !self.settings.sip.user_agent.is_empty() {
            response.headers.set(HeaderName::Server, self.settings.sip.user_agent.clone());
        }
    }

    /// Answers and forgets: challenges cost no memory, and are no longer than one and a half times what asked for them.
    pub fn respond_stateless(&mut self, key: ServerKey, method: &Method, response: Response) {
        let status = response.status;
        if self.sip.respond_stateless(key, response) {
            self.event(Event::Response { status, method: method.clone() });
        }
    }

    pub fn send_ack(&mut self, now: Now, peer: Peer, ack: Request) {
        self.sip.send_ack_2xx(now.instant, peer, ack);
    }

    pub fn owner(&self, key: ClientKey) -> Option<Owner> {
        self.owners.get(&key).cloned()
    }

    /// A 2xx to an INVITE that nobody waits for any more: acknowledged and hung up, so that its phone does not stay
    /// off-hook (RFC 3261 §13.2.2.4). One of a dialog that lives is left to its leg.
    pub fn refuse_late_answer(&mut self, now: Now, peer: Peer, answer: &Response) {
        let Ok(cseq) = answer.cseq() else { return };
        let accepts = (200..300).contains(&answer.status) && cseq.method == Method::Invite;
        if !accepts || answer.from_tag().is_some_and(|tag| self.dialogs.contains_key(tag)) {
            return;
        }
        let Ok(mut dialog) = Dialog::of_answer(answer) else { return };
        self.send_ack(now, peer.clone(), dialog.ack(cseq.number));
        let bye = dialog.request(Method::Bye, None);
        self.sip.send_request(now.instant, peer, bye);
    }

    /// Stops a request whose answer nobody waits for any more.
    pub fn abandon(&mut self, key: ClientKey) {
        self.owners.remove(&key);
        self.sip.abandon(key);
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

    /// The dialog of a leg whose far end called.
    pub fn remember_dialog(&mut self, call_id: &str, local_tag: &str, leg: LegId) {
        self.dialogs.insert(local_tag.to_owned(), Known { call_id: call_id.to_owned(), leg });
    }

    /// The dialog of a leg that we call by.
    pub fn remember_own_dialog(&mut self, call_id: &str, local_tag: &str, leg: LegId) {
        self.remember_dialog(call_id, local_tag, leg);
        self.own_call_ids.insert(call_id.to_owned(), leg);
    }

    pub fn forget_dialog(&mut self, call_id: &str, local_tag: &str) {
        let Some(known) = self.dialogs.remove(local_tag) else { return };
        // The leg by which a request of ours came back has its Call-ID too.
        if self.own_call_ids.get(call_id) == Some(&known.leg) {
            self.own_call_ids.remove(call_id);
        }
    }

    /// The leg whose dialog a request seems to belong to: its Call-ID and To tag are ours. The leg knows the rest.
    pub fn leg_of(&self, request: &Request) -> Option<LegId> {
        self.leg_by(request.call_id().ok()?, request.to_tag()?)
    }

    /// The leg of a dialog by its Call-ID and our tag.
    pub fn leg_by(&self, call_id: &str, local_tag: &str) -> Option<LegId> {
        self.dialogs.get(local_tag).filter(|known| known.call_id == call_id).map(|known| known.leg)
    }

    /// The call that an INVITE of ours with this Call-ID is of: our own request came back to us.
    pub fn own_call(&self, call_id: &str) -> Option<CallId> {
        self.own_call_ids.get(call_id).map(|leg| leg.call)
    }

    /// Where a trunk is, best address first; nothing where that is not known yet.
    pub fn places(&self, trunk: &str) -> &[Peer] {
        self.places.get(trunk).map_or(&[], Vec::as_slice)
    }

    /// A trunk has been found, or found elsewhere.
    pub fn set_places(&mut self, trunk: Arc<str>, places: Vec<Peer>) {
        self.places.insert(trunk, places);
    }

    /// Other trunks are configured.
    pub fn forget_places(&mut self) {
        self.places.clear();
    }

    /// How many things are still held; all zero when nothing goes on.
    pub fn held(&self) -> usize {
        self.owners.len() + self.invites.len() + self.dialogs.len() + self.own_call_ids.len()
    }
}

/// What a request requires and nobody here knows, as the Unsupported header lists it (RFC 3261 §8.2.2.3).
pub fn unsupported(request: &Request) -> Option<String> {
    let known = |option: &str| EXTENSIONS.iter().any(|extension| extension.eq_ignore_ascii_case(option));
    let unknown: Vec<&str> =
        request.headers.list(&HeaderName::Require).filter(|option| !known(option)).collect();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

/// A response to `request`, carrying a To tag unless the request has one.
pub fn response(request: &Request, status: u16, tag: &str) -> Response {
    let response = Response::to_request(request, status);
    if tag.is_empty() || request.to_tag().is_some() { response } else { response.with_tag(tag) }
}
