//! The exchange: every message, timer and report goes in here, finds its machine, and comes out as orders.
//!
//! It owns all signalling state of one shard and touches no clock, socket or thread.

use super::admission::FormFault;
use super::core::{Core, Owner, Purpose, Random, response};
use super::emergency::Callbacks;
use super::event::{Event, Input, Output, RefusedFor};
use super::leg::Leg;
use super::leg::extensions::Capabilities;
use super::machine::{Asked, Call, FarReason, Note};
use super::peer::{registration, trunk};
use super::provenance::Known;
use super::settings::{Settings, Trunk};
use super::trunks::{Trunks, trunk_index};
use crate::access::{Directory, FloodGuard, LoginGuard, Registrar, Source};
use crate::routing::{AdminState, Dialplan, PeerTable};
use crate::sip::auth::Challenger;
use crate::sip::message::{HeaderName, Message, Method, Request, Response, Typed};
use crate::sip::transaction::{self, ClientKey, ServerKey, TransactionLayer};
use crate::types::{CallId, ConnectionId, EndCause, LegId, Now, Peer};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Calls that one person handles at once: two to talk and to consult, and some that wait.
const HANDFUL: usize = 4;

/// A user's part in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Calls,
    IsCalled,
}

/// All machines of one signalling shard.
pub struct Exchange {
    pub(super) core: Core,
    /// Boxed: a table keeps room for twice its entries, and grows by moving them.
    pub(super) calls: HashMap<CallId, Box<Call>>,
    pub(super) trunks: Trunks,
    /// Which addresses and names are whose trunk.
    pub(super) peers: PeerTable,
    pub(super) registrar: Registrar,
    pub(super) directory: Arc<Directory>,
    pub(super) dialplan: Arc<Dialplan>,
    pub(super) challenger: Challenger,
    pub(super) login_guard: LoginGuard,
    pub(super) flood_guard: FloodGuard,
    /// Names in the verified certificates of those who connected to us.
    pub(super) tls_names: HashMap<ConnectionId, Arc<[String]>>,
    /// Certificates and signatures of those who sign their calls.
    pub(super) known: Known,
    /// Who made an emergency call and may be called back.
    pub(super) callbacks: Callbacks,
    pub(super) draining: bool,
    /// The media workers have as much to do as they may.
    pub(super) media_busy: bool,
    /// Calls that have not ended, in all and of each calling user.
    live: usize,
    /// Whether they call or are called.
    live_of: HashMap<Arc<str>, Vec<(CallId, Role)>>,
    /// What calls have to tell each other.
    notes: VecDeque<(CallId, Note)>,
    /// When each call wants to be woken, soonest first.
    wake: BTreeSet<(Instant, CallId)>,
    wake_of: HashMap<CallId, Instant>,
}

/// What an exchange is made of at the start.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub directory: Arc<Directory>,
    pub dialplan: Arc<Dialplan>,
    pub transactions: TransactionLayer,
    pub challenger: Challenger,
    pub registrar: Registrar,
    pub login_guard: LoginGuard,
    pub flood_guard: FloodGuard,
    pub random: Random,
}

impl Exchange {
    pub fn new(parts: Parts, now: Now) -> Exchange {
        let numbers = parts.dialplan.numbers.clone();
        Exchange {
            trunks: Trunks::new(&parts.settings, now),
            peers: parts.settings.peer_table(),
            core: Core::new(parts.transactions, parts.settings, Arc::new(numbers), parts.random),
            calls: HashMap::new(),
            registrar: parts.registrar,
            directory: parts.directory,
            dialplan: parts.dialplan,
            challenger: parts.challenger,
            login_guard: parts.login_guard,
            flood_guard: parts.flood_guard,
            tls_names: HashMap::new(),
            known: Known::default(),
            callbacks: Callbacks::default(),
            draining: false,
            media_busy: false,
            live: 0,
            live_of: HashMap::new(),
            notes: VecDeque::new(),
            wake: BTreeSet::new(),
            wake_of: HashMap::new(),
        }
    }

    /// Takes in one thing that happened.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Sip { peer, message, tls_names } => {
                if let (Some(connection), false) = (peer.connection, tls_names.is_empty()) {
                    self.tls_names.insert(connection, tls_names);
                }
                let received = received(&peer, &message);
                let absorbed = self.core.sip.counters().absorbed;
                self.core.sip.handle_message(now.instant, peer, message);
                // A repetition was counted when it came first.
                if self.core.sip.counters().absorbed == absorbed {
                    self.core.event(received);
                }
            }
            Input::TransportFailed { ticket } => self.core.sip.handle_transport_failure(now.instant, ticket),
            Input::Undelivered { remote, quoted } => {
                self.core.sip.handle_undelivered(now.instant, remote, &quoted);
            }
            Input::ConnectionClosed { connection } => {
                self.tls_names.remove(&connection);
                self.registrar.handle_connection_lost(connection);
                for call in self.calls.values_mut() {
                    call.on_connection_closed(&self.core, connection);
                }
            }
            Input::Reserved { call, reserved } => {
                self.with_call(call, |call, core, trunks| call.on_reserved(core, trunks, now, reserved));
            }
            Input::MediaOpened { leg, result } => {
                self.with_call(leg.call, |call, core, trunks| {
                    call.on_media_opened(core, trunks, now, leg, result);
                });
            }
            Input::MediaClosed { leg, report } => {
                self.with_call(leg.call, |call, core, _| call.on_media_closed(core, now, leg, report));
            }
            Input::MediaReport { leg, report } => {
                self.with_call(leg.call, |call, core, _| call.on_media_report(core, now, leg, report));
            }
            Input::MediaFault { leg, fault } => {
                self.with_call(leg.call, |call, core, _| call.on_media_fault(core, leg, fault));
            }
            Input::MediaTimedOut { leg } => {
                self.with_call(leg.call, |call, core, _| call.on_media_timeout(core, now));
            }
            Input::Recorded { call, step, durable } => {
                self.with_call(call, |call, core, _| call.on_recorded(core, now, step, durable));
            }
            Input::CertificateFetched { url, fetched } => self.on_certificate(now, &url, fetched),
            Input::TrunkResolved { trunk, targets } => {
                if let Some(index) = self.trunks.resolved(&trunk, targets) {
                    self.take_places(index);
                }
            }
        }
        self.settle(now);
    }

    /// Does all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.core.sip.handle_timeout(now.instant);
        while let Some((at, id)) = self.wake.first().copied() {
            if at > now.instant {
                break;
            }
            self.wake.remove(&(at, id));
            self.wake_of.remove(&id);
            self.with_call(id, |call, core, trunks| call.handle_timeout(core, trunks, now));
        }
        if self.registrar.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.registrar.handle_timeout(now);
        }
        trunk::handle_timeout(self, now);
        self.settle(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.wake.first().map(|(at, _)| *at);
        [calls, self.core.sip.poll_timeout(), self.registrar.poll_timeout(), self.trunks.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.pop_output()
    }

    /// Runs the transaction layer's outputs through the machines until nothing is left to do.
    fn settle(&mut self, now: Now) {
        loop {
            trunk::settle(self, now);
            self.settle_registrar();
            while let Some((call, note)) = self.notes.pop_front() {
                self.on_note(now, call, note);
            }
            let Some(output) = self.core.sip.poll_output() else { return };
            self.on_transaction(now, output);
        }
    }

    fn on_transaction(&mut self, now: Now, output: transaction::Output) {
        match output {
            transaction::Output::Transmit { peer, bytes, ticket, retransmission, what } => {
                match (retransmission, what) {
                    (true, _) => self.core.event(Event::Retransmission),
                    (false, (method, None)) => {
                        let transport = peer.transport;
                        self.core.event(Event::Request { method, transport, received: false });
                    }
                    // The transaction's own; all others are counted where they are given.
                    (false, (method, Some(100))) => self.core.event(Event::Response { status: 100, method }),
                    (false, (_, Some(_))) => {}
                }
                self.core.emit(Output::Transmit { peer, bytes, ticket });
            }
            transaction::Output::Request { key, peer, request } => self.on_request(now, key, peer, request),
            transaction::Output::Cancel { key, invite, peer, request } => {
                self.on_cancel(now, key, invite, &peer, &request);
            }
            transaction::Output::Ack { peer, request } => self.on_ack(now, &peer, &request),
            transaction::Output::Response { key, peer, response } => {
                self.on_response(now, key, peer, response);
            }
            transaction::Output::Failed { key, failure } => {
                let Some(owner) = self.core.owner(key) else { return };
                self.core.forget_client(key);
                match owner {
                    Owner::Leg { leg, purpose } => self.with_call(leg.call, |call, core, trunks| {
                        call.on_request_lost(core, trunks, now, leg.index, purpose, failure);
                    }),
                    Owner::TrunkHealth { trunk } => trunk::on_options_lost(self, now, &trunk, key),
                    Owner::TrunkRegistration { trunk } => trunk::on_register_lost(self, now, &trunk),
                }
            }
            // The refused caller never acknowledged; its call ended long ago.
            transaction::Output::AckMissing { .. } => {}
        }
    }

    fn on_response(&mut self, now: Now, key: ClientKey, peer: Peer, mut response: Response) {
        let Some(owner) = self.core.owner(key) else {
            self.core.refuse_late_answer(now, peer, &response);
            return;
        };
        // After a 2xx to an INVITE more of them may come, repeated or of other forks; the leg forgets it at its end.
        let invite = matches!(owner, Owner::Leg { purpose: Purpose::Invite | Purpose::Reinvite, .. });
        if response.status >= 300 || (response.status >= 200 && !invite) {
            self.core.forget_client(key);
        }
        match owner {
            Owner::Leg { leg, purpose } => {
                self.hold_to_its_place(leg, &peer, &mut response);
                self.with_call(leg.call, |call, core, trunks| {
                    call.on_response(core, trunks, now, leg.index, purpose, response);
                });
            }
            Owner::TrunkHealth { trunk } => trunk::on_options_response(self, now, &trunk, key, response),
            Owner::TrunkRegistration { trunk } => trunk::on_register_response(self, now, &trunk, response),
        }
    }

    /// Lets a call do something, then looks after what it left: channels, wake-up, its own end.
    pub(super) fn with_call(&mut self, id: CallId, act: impl FnOnce(&mut Call, &mut Core, &mut Trunks)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let was_live = call.is_live();
        act(call, &mut self.core, &mut self.trunks);
        if was_live && !call.is_live() {
            self.live -= 1;
            Exchange::emergency_ended(
                &mut self.callbacks,
                call,
                self.core.settings.limits.emergency_callback,
            );
            for user in [call.caller.party.user_name(), call.callee_user.clone()].into_iter().flatten() {
                if let Entry::Occupied(mut live) = self.live_of.entry(user) {
                    live.get_mut().retain(|(live, _)| *live != id);
                    if live.get().is_empty() {
                        live.remove();
                    }
                }
            }
        }
        self.notes.extend(call.notes.drain(..).map(|note| (id, note)));
        for channel in call.freed_channels.drain(..) {
            self.trunks.release(channel);
        }
        if call.is_finished() {
            self.calls.remove(&id);
            self.sleep(id, None);
            self.core.emit(Output::Forget { call: id });
        } else {
            let at = call.poll_timeout();
            self.sleep(id, at);
        }
    }

    fn sleep(&mut self, id: CallId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.wake_of.insert(id, at),
            None => self.wake_of.remove(&id),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.wake.remove(&(before, id));
        }
        if let Some(at) = at {
            self.wake.insert((at, id));
        }
    }

    /// A new request. Inside a dialog it belongs to a leg; outside it opens something or is refused.
    fn on_request(&mut self, now: Now, key: ServerKey, peer: Peer, request: Request) {
        if let Some(leg) = self.core.leg_of(&request) {
            self.on_dialog_request(now, leg, Asked { key, peer, request });
            return;
        }
        let trunk = self.trunk_of(&peer, &request);
        if let (Some(trunk), Method::Invite) = (trunk.as_deref(), &request.method) {
            self.mind_return(key, &peer, &request, trunk);
        }
        let helped = trunk.is_none()
            && self.is_call_for_help(&peer, &request)
            && self.flood_guard.admit_urgent(now.instant, Source::of(&peer));
        let held = trunk.is_none() && !helped;
        if held && !self.admit(now, key, &peer, &request) {
            return;
        }
        // OPTIONS too (RFC 3261 §12.2.2): who keeps a call alive by them must learn that it is gone.
        if request.to_tag().is_some() && request.method != Method::Register {
            self.refuse(key, &request, 481, RefusedFor::UnknownDialog);
            return;
        }
        match &request.method {
            Method::Invite => self.on_invite(now, key, peer, request, trunk),
            Method::Register | Method::Options => match FormFault::of_head(&request) {
                Some(fault) => self.refuse_unproven(key, &request, fault),
                None if request.method == Method::Register => {
                    registration::on_register(self, now, key, peer, &request);
                }
                None => self.on_options(now, key, &request, trunk.as_deref()),
            },
            // ACK and CANCEL come by ways of their own and have no answer here.
            Method::Ack | Method::Cancel => {}
            // They have their place inside a dialog, and this is none.
            Method::Bye | Method::Info | Method::Prack | Method::Update => {
                self.refuse(key, &request, 481, RefusedFor::UnknownDialog);
            }
            // Which call it would move nobody can tell.
            Method::Refer => self.refuse(key, &request, 403, RefusedFor::Unsupported),
            Method::Message | Method::Notify | Method::Publish | Method::Subscribe => {
                self.refuse_method(key, &request, trunk.as_deref(), 405);
            }
            Method::Other(_) => self.refuse_method(key, &request, trunk.as_deref(), 501),
        }
    }

    fn on_dialog_request(&mut self, now: Now, leg: LegId, asked: Asked) {
        let Some(known) = self.calls.get(&leg.call).and_then(|call| call.leg(leg.index)) else { return };
        // RFC 3261 §12.2.2: both tags name the dialog.
        if !known.knows(asked.request.from_tag().unwrap_or_default()) {
            self.refuse(asked.key, &asked.request, 481, RefusedFor::UnknownDialog);
            return;
        }
        if !self.is_far_end(known, &asked.peer, &asked.request) {
            // Tags alone prove nothing: whoever heard them could end other people's calls.
            self.refuse(asked.key, &asked.request, 403, RefusedFor::Stranger);
            return;
        }
        self.mind_stream(leg, &asked);
        if asked.request.method == Method::Refer {
            // It reaches beyond its own call.
            self.on_refer(now, leg, asked);
        } else {
            self.with_call(leg.call, |call, core, _| call.on_request(core, now, leg.index, asked));
        }
    }

    /// True for a request from where a leg's far end is, or from another place of the same trunk, over no less than carries
    /// its calls. Another node of an operator's cluster that comes by less is a stranger though it knows Call-ID and both
    /// tags: those stand in records, captures and traces on both sides, and the source of a datagram is what its sender
    /// wrote. `calls_over` says where an operator does that.
    fn is_far_end(&self, leg: &Leg, peer: &Peer, request: &Request) -> bool {
        leg.peer.remote.ip() == peer.remote.ip() || self.is_same_party(&leg.party, peer, request)
    }

    fn on_cancel(
        &mut self,
        now: Now,
        key: ServerKey,
        invite: Option<ServerKey>,
        peer: &Peer,
        request: &Request,
    ) {
        let Some(invite) = invite else {
            self.refuse(key, request, 481, RefusedFor::UnknownDialog);
            return;
        };
        let Some(leg) = self.core.invite_leg(invite) else {
            // Its INVITE has a final answer already: RFC 3261 §9.2 has it answered, and nothing happens.
            self.core.respond_stateless(
                key,
                &Method::Cancel,
                response(request, 200, "").with_stateless_tag(),
            );
            return;
        };
        let caller = self.calls.get(&leg.call).map(|call| &call.caller);
        // A CANCEL carries no credentials: it must come from where its INVITE came from.
        let Some(caller) = caller.filter(|caller| caller.peer.remote.ip() == peer.remote.ip()) else {
            self.refuse(key, request, 481, RefusedFor::Stranger);
            return;
        };
        let answer = response(request, 200, &caller.local_tag);
        self.core.respond(now, key, &Method::Cancel, answer);
        let said = FarReason::of(request);
        self.with_call(leg.call, |call, core, _| call.on_cancel(core, now, said));
    }

    fn on_ack(&mut self, now: Now, peer: &Peer, request: &Request) {
        let Some(leg) = self.core.leg_of(request) else { return };
        let known = self.calls.get(&leg.call).and_then(|call| call.leg(leg.index));
        let same = known.is_some_and(|known| {
            known.knows(request.from_tag().unwrap_or_default()) && self.is_far_end(known, peer, request)
        });
        if same {
            self.follow(leg, peer, request);
            self.with_call(leg.call, |call, core, _| call.on_ack(core, now, leg.index, request));
        }
    }

    /// OPTIONS outside a dialog: can we take a call? (RFC 3261 §11.2)
    fn on_options(&mut self, now: Now, key: ServerKey, request: &Request, trunk: Option<&Trunk>) {
        let status = if self.draining { 503 } else { 200 };
        let mut answer = response(request, status, "").with_stateless_tag();
        self.capabilities(trunk).describe(&mut answer.headers);
        if self.draining {
            answer.headers.push(HeaderName::RetryAfter, "30");
        }
        if trunk.is_some() {
            // An address that is known is told everything, however short its question is.
            self.core.respond(now, key, &Method::Options, answer);
            return;
        }
        self.core.sign(&mut answer);
        self.core.respond_stateless(key, &Method::Options, answer);
    }

    /// What a peer is told that it may use.
    fn capabilities<'a>(&'a self, trunk: Option<&'a Trunk>) -> Capabilities<'a> {
        Capabilities::of(trunk.map(|trunk| &trunk.config), &self.core.settings)
    }

    fn refuse_method(&mut self, key: ServerKey, request: &Request, trunk: Option<&Trunk>, status: u16) {
        let mut answer = response(request, status, "");
        self.capabilities(trunk).tell_methods(&mut answer.headers);
        self.refuse_with(key, request, answer, RefusedFor::Unsupported);
    }

    /// Refuses a request that opened nothing.
    pub(super) fn refuse(&mut self, key: ServerKey, request: &Request, status: u16, why: RefusedFor) {
        self.refuse_with(key, request, response(request, status, ""), why);
    }

    /// The same with a response that says more. It is forgotten at once: what proves nothing costs no memory, and the
    /// same request gets the same answer again.
    pub(super) fn refuse_with(
        &mut self,
        key: ServerKey,
        request: &Request,
        mut answer: Response,
        why: RefusedFor,
    ) {
        self.core.sign(&mut answer);
        let method = request.method.clone();
        self.core.event(Event::Refused { method: method.clone(), status: answer.status, why });
        self.core.respond_stateless(key, &method, answer.with_stateless_tag());
    }

    pub(super) fn add_call(&mut self, call: Call) {
        let id = call.id;
        self.live += 1;
        let parties =
            [(call.caller.party.user_name(), Role::Calls), (call.callee_user.clone(), Role::IsCalled)];
        for (user, role) in parties {
            if let Some(user) = user {
                self.live_of.entry(user).or_default().push((id, role));
            }
        }
        self.calls.insert(id, Box::new(call));
        self.with_call(id, |_, _, _| {});
    }

    /// Calls a user has made that have not ended.
    pub(super) fn live_calls_of(&self, user: &str) -> usize {
        self.live_of.get(user).map_or(0, |live| live.iter().filter(|(_, role)| *role == Role::Calls).count())
    }

    /// A call that a user is part of, where the user is a person: one with more calls than a person handles is a machine,
    /// whose calls are spread over all media threads.
    pub(super) fn some_call_of(&self, user: &str) -> Option<CallId> {
        let live = self.live_of.get(user).filter(|live| live.len() <= HANDFUL)?;
        live.first().map(|(call, _)| *call)
    }

    /// Ends one call by order. False when there is none.
    pub fn hang_up(&mut self, now: Now, id: CallId, cause: EndCause) -> bool {
        let live = self.calls.get(&id).is_some_and(|call| call.is_live());
        self.with_call(id, |call, core, _| call.hang_up(core, now, cause));
        self.settle(now);
        live
    }

    /// Ends all calls, as at the deadline of a drain. A call for help outlives a journal that can't be written.
    pub fn hang_up_all(&mut self, now: Now, cause: EndCause) {
        let spared = |call: &Call| cause == EndCause::JournalFailed && call.emergency.is_some();
        let ids: Vec<CallId> = self.calls.values().filter(|call| !spared(call)).map(|call| call.id).collect();
        for id in ids {
            self.with_call(id, |call, core, _| call.hang_up(core, now, cause));
        }
        self.settle(now);
    }

    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Tells whether media has room for new calls.
    pub fn set_media_busy(&mut self, busy: bool) {
        self.media_busy = busy;
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(Box::as_ref)
    }

    pub fn call(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id).map(Box::as_ref)
    }

    pub fn live_calls(&self) -> usize {
        self.live
    }

    pub fn trunks(&self) -> &Trunks {
        &self.trunks
    }

    /// Blocks, drains or opens a trunk. False when there is none of this name.
    pub fn set_trunk(&mut self, now: Now, name: &str, admin: AdminState) -> bool {
        let Some(index) = self.trunks.index_of(name) else { return false };
        self.trunks.table().set_admin(trunk_index(index), admin);
        self.core.event(Event::TrunkAdmin { trunk: name.into(), admin });
        trunk::tell_blocks(self, now);
        self.settle(now);
        true
    }

    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.core.settings
    }

    pub fn dialplan(&self) -> &Arc<Dialplan> {
        &self.dialplan
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Takes up other users. One that is gone keeps its running calls and loses its registration.
    pub fn set_directory(&mut self, now: Now, directory: Arc<Directory>) {
        let gone: Vec<Arc<str>> = self
            .registrar
            .iter()
            .map(|(user, _)| user.clone())
            .filter(|user| directory.get(user).is_none())
            .collect();
        for user in gone {
            self.registrar.remove_user(&user);
        }
        self.directory = directory;
        self.settle(now);
    }

    /// Takes up a new configuration as a whole. Running calls keep what they have.
    pub fn reload(
        &mut self,
        now: Now,
        settings: Arc<Settings>,
        directory: Arc<Directory>,
        dialplan: Arc<Dialplan>,
    ) {
        self.trunks.reload(&settings, now);
        self.peers = settings.peer_table();
        self.core.forget_places();
        for index in 0..self.trunks.len() {
            self.take_places(index);
        }
        self.registrar.set(settings.registrar_settings());
        self.login_guard.set(settings.guard_settings());
        self.flood_guard.set(settings.flood_settings());
        self.core.settings = settings;
        self.forget_certificates();
        self.core.numbers = Arc::new(dialplan.numbers.clone());
        self.dialplan = dialplan;
        self.set_directory(now, directory);
    }

    /// What is still held when no call goes on: a leak shows here.
    pub fn held(&self) -> usize {
        self.calls.len()
            + self.live
            + self.live_of.len()
            + self.wake.len()
            + self.wake_of.len()
            + self.core.held()
    }
}

/// What a message that came counts as.
fn received(peer: &Peer, message: &Message) -> Event {
    match message {
        Message::Request(request) => {
            Event::Request { method: request.method.clone(), transport: peer.transport, received: true }
        }
        Message::Response(response) => Event::Response {
            status: response.status,
            method: response.cseq().map_or(Method::Options, |cseq| cseq.method),
        },
    }
}
