//! The agent as one machine: takes messages, time and commands; gives messages, events and deadlines.

use super::call::{Answer, Body, Call, InsideKind, Phase};
use super::registration::Registration;
use super::{
    Admission, AgentSettings, CallEvent, CallHandle, Demand, Doorkeeper, EndedBy, Ending, LadderStep, Output,
    Quirks, Random,
};
use crate::sdp::{Local, Negotiated, Session};
use crate::sip::answer_retransmit::AnswerStep;
use crate::sip::auth::Challenger;
use crate::sip::mark::Marks;
use crate::sip::message::{HeaderName, Message, Method, NameAddr, Request, Response, Typed, Uri};
use crate::sip::reliable::ReliableStep;
use crate::sip::transaction::{self, ClientKey, ServerKey, TransactionLayer};
use crate::types::{HostPort, Now, Peer, Transport};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A nonce of ours lives this long.
const NONCE_LIFE: Duration = Duration::from_secs(300);

/// What a request of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Invite(CallHandle),
    Inside(CallHandle),
    Register,
    /// Whether the far end lives.
    Options,
    /// CANCEL, or the BYE of a fork nobody wants: its answer changes nothing.
    Stray,
}

/// One user agent with all its calls.
pub struct UserAgent {
    pub(super) settings: AgentSettings,
    pub(super) layer: TransactionLayer,
    pub(super) calls: HashMap<CallHandle, Call>,
    pub(super) registration: Option<Registration>,
    pub(super) challenger: Option<Challenger>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) clients: HashMap<ClientKey, Purpose>,
    /// Calls whose INVITE waits for our final answer.
    pub(super) servers: HashMap<ServerKey, CallHandle>,
    /// By Call-ID and our tag.
    pub(super) dialogs: HashMap<(String, String), CallHandle>,
    pub(super) doorkeeper: Doorkeeper,
    deadlines: BTreeSet<(Instant, CallHandle)>,
    random: Random,
    next_handle: u32,
    ladder: bool,
}

impl UserAgent {
    /// `random` serves tags, branches, Call-IDs and keys.
    pub fn new(settings: AgentSettings, mut random: Random) -> UserAgent {
        let mut key = [0; 16];
        random(&mut key);
        let mut secret = [0; 32];
        random(&mut secret);
        let challenger =
            settings.guard.as_ref().map(|guard| Challenger::new(secret, &guard.realm, NONCE_LIFE));
        UserAgent {
            layer: TransactionLayer::new(settings.timers, Marks::new(u128::from_ne_bytes(key))),
            settings,
            calls: HashMap::new(),
            registration: None,
            challenger,
            outputs: VecDeque::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            dialogs: HashMap::new(),
            doorkeeper: Box::new(usual_admission),
            deadlines: BTreeSet::new(),
            random,
            next_handle: 1,
            ladder: true,
        }
    }

    /// Without ladder steps, for many calls at once.
    pub fn without_ladder(mut self) -> UserAgent {
        self.ladder = false;
        self
    }

    /// Lets somebody else decide on requests from outside any dialog.
    pub fn with_doorkeeper(mut self, doorkeeper: Doorkeeper) -> UserAgent {
        self.doorkeeper = doorkeeper;
        self
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let registration = self.registration.as_ref().and_then(|registration| registration.refresh_at);
        let call = self.deadlines.first().map(|(at, _)| *at);
        [self.layer.poll_timeout(), registration, call].into_iter().flatten().min()
    }

    /// Calls that are not over.
    pub fn active_calls(&self) -> usize {
        self.calls.values().filter(|call| !matches!(call.phase, Phase::Over)).count()
    }

    /// Sets how a call misbehaves.
    pub fn set_quirks(&mut self, handle: CallHandle, quirks: Quirks) {
        if let Some(call) = self.calls.get_mut(&handle) {
            call.quirks = quirks;
        }
    }

    /// Our own address as the far end of a call reaches it.
    pub fn local_ip(&self, handle: CallHandle) -> Option<std::net::IpAddr> {
        self.calls.get(&handle).map(|call| call.peer.local.ip())
    }

    /// The Call-ID of a call.
    pub fn call_id(&self, handle: CallHandle) -> Option<&str> {
        self.calls.get(&handle).map(|call| call.call_id.as_str())
    }

    pub fn handle_message(&mut self, now: Now, peer: Peer, message: Message) {
        if self.ladder {
            let step = LadderStep::of(&message, false, &peer, now.unix_ms);
            self.outputs.push_back(Output::Ladder(step));
        }
        self.layer.handle_message(now.instant, peer, message);
        self.drain(now);
    }

    pub fn handle_transport_failure(&mut self, now: Now, ticket: u64) {
        self.layer.handle_transport_failure(now.instant, ticket);
        self.drain(now);
    }

    /// A datagram came back as undeliverable; `quoted` is how it began.
    pub fn handle_undelivered(&mut self, now: Now, remote: SocketAddr, quoted: &[u8]) {
        self.layer.handle_undelivered(now.instant, remote, quoted);
        self.drain(now);
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.layer.handle_timeout(now.instant);
        self.drain(now);
        while let Some((at, handle)) = self.deadlines.first().copied() {
            if at > now.instant {
                break;
            }
            self.deadlines.pop_first();
            self.call_timeout(now, handle);
        }
        if self.registration.as_ref().and_then(|r| r.refresh_at).is_some_and(|at| at <= now.instant) {
            self.refresh_registration(now);
        }
        self.drain(now);
    }

    fn call_timeout(&mut self, now: Now, handle: CallHandle) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        call.deadline = None;
        if matches!(call.phase, Phase::Over) {
            self.forget(handle);
            return;
        }
        if let (Phase::Invited { server, .. }, Some(reliable)) = (&call.phase, call.reliable.as_mut()) {
            let server = *server;
            match reliable.handle_timeout(now.instant) {
                ReliableStep::Wait => {}
                ReliableStep::Repeat(response) => {
                    self.layer.respond(now.instant, server, response.clone());
                }
                ReliableStep::GiveUp => {
                    self.reject(now, handle, 504, &[]);
                    return;
                }
            }
            self.reschedule(handle);
            return;
        }
        let Some(answer) = call.answer.as_mut() else { return };
        match answer.clock.handle_timeout(now.instant) {
            AnswerStep::Wait => {}
            AnswerStep::Repeat => self.layer.respond(now.instant, answer.server, answer.response.clone()),
            AnswerStep::GiveUp => {
                call.answer = None;
                self.bye(now, handle);
                let phrase = "the answer was never acknowledged".to_owned();
                self.end(now, handle, Ending { by: EndedBy::Failure, status: 408, phrase, reason: None });
                return;
            }
        }
        self.reschedule(handle);
    }

    /// Empties the transaction layer, acting on what it says.
    pub(super) fn drain(&mut self, now: Now) {
        while let Some(output) = self.layer.poll_output() {
            match output {
                transaction::Output::Transmit { peer, bytes, ticket, retransmission: _, what: _ } => {
                    if self.ladder
                        && let Some(step) = LadderStep::of_bytes(&bytes, &peer, now.unix_ms)
                    {
                        self.outputs.push_back(Output::Ladder(step));
                    }
                    self.outputs.push_back(Output::Transmit { peer, bytes, ticket });
                }
                transaction::Output::Request { key, peer, request } => {
                    self.on_request(now, key, peer, request)
                }
                transaction::Output::Cancel { key, invite, peer: _, request } => {
                    self.on_cancel(now, key, invite, &request);
                }
                transaction::Output::Ack { peer, request } => self.on_ack(now, peer, &request),
                transaction::Output::Response { key, peer, response } => {
                    let last = response.status >= 200;
                    // Further 2xx of an INVITE may follow, so its purpose stays known.
                    let purpose = match self.clients.get(&key).copied() {
                        Some(purpose) if last && !matches!(purpose, Purpose::Invite(_)) => {
                            self.clients.remove(&key);
                            Some(purpose)
                        }
                        other => other,
                    };
                    match purpose {
                        Some(Purpose::Invite(handle)) => {
                            self.on_invite_response(now, handle, key, peer, response)
                        }
                        Some(Purpose::Inside(handle)) => self.on_inside_response(now, handle, key, response),
                        Some(Purpose::Register) => self.on_register_response(now, peer, response),
                        Some(Purpose::Options) => {
                            self.outputs.push_back(Output::Alive { status: response.status })
                        }
                        Some(Purpose::Stray) | None => {}
                    }
                }
                transaction::Output::Failed { key, failure } => {
                    let (status, phrase) = match failure {
                        transaction::ClientFailure::TimedOut => (408, "no answer from the far end"),
                        transaction::ClientFailure::Transport => (503, "the far end can't be reached"),
                    };
                    match self.clients.remove(&key) {
                        Some(Purpose::Invite(handle) | Purpose::Inside(handle)) => {
                            let phrase = phrase.to_owned();
                            self.end(
                                now,
                                handle,
                                Ending { by: EndedBy::Failure, status, phrase, reason: None },
                            );
                        }
                        Some(Purpose::Register) => self.register_failed(status, phrase),
                        Some(Purpose::Options) => self.outputs.push_back(Output::Alive { status }),
                        Some(Purpose::Stray) | None => {}
                    }
                }
                transaction::Output::AckMissing { key: _ } => {}
            }
        }
    }

    /// Hangs up, whatever the call is doing: CANCEL, a refusal with `status`, or BYE.
    pub fn hang_up(&mut self, now: Now, handle: CallHandle, status: u16) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        match &mut call.phase {
            Phase::Inviting { client, cancelled, .. } => {
                *cancelled = true;
                if let Some(cancel) = self.layer.send_cancel(now.instant, *client) {
                    self.clients.insert(cancel, Purpose::Stray);
                }
            }
            Phase::Invited { .. } => self.reject(now, handle, status, &[]),
            Phase::Talking => self.bye(now, handle),
            Phase::HangingUp | Phase::Over => {}
        }
        self.drain(now);
    }

    /// Asks a far end whether it lives; the answer is told.
    pub fn ask_alive(&mut self, now: Now, peer: Peer) {
        let (tag, call_id) = (self.token(), self.token());
        let to = Uri::sip(None, HostPort::from(peer.remote));
        let request = Request::new(Method::Options, to.clone())
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(HeaderName::From, self.identity().with_tag(&tag).to_string())
            .with_header(HeaderName::To, NameAddr::new(to).to_string())
            .with_header(HeaderName::CallId, call_id)
            .with_header(HeaderName::CSeq, "1 OPTIONS")
            .with_header(HeaderName::Contact, NameAddr::new(self.contact(&peer)).to_string())
            .with_header(HeaderName::UserAgent, self.settings.product.clone());
        let client = self.layer.send_request(now.instant, peer, request);
        self.clients.insert(client, Purpose::Options);
        self.drain(now);
    }

    /// Sends a BYE as somebody would who knows a call's Call-ID, but not its tags.
    pub(super) fn spoof_bye(&mut self, now: Now, handle: CallHandle) {
        let tag = self.token();
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Some(dialog) = call.dialog.as_ref() else { return };
        let mut other = dialog.clone();
        let mut request = other.request(Method::Bye, None);
        let Ok(own) = NameAddr::parse(&other.local) else { return };
        let stranger = NameAddr::new(own.uri).with_tag(&tag);
        request.headers.set(HeaderName::From, stranger.to_string());
        let client = self.layer.send_request(now.instant, call.reach(), request);
        self.clients.insert(client, Purpose::Stray);
    }

    /// Sends a BYE in the call's dialog.
    pub(super) fn bye(&mut self, now: Now, handle: CallHandle) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        let Some(dialog) = call.dialog.as_mut() else { return };
        let request = dialog.request(Method::Bye, None);
        call.phase = Phase::HangingUp;
        self.send_inside(now, handle, InsideKind::Bye, request);
    }

    /// Tells how a call ended, once, and keeps it until late repetitions have died out.
    pub(super) fn end(&mut self, now: Now, handle: CallHandle, ending: Ending) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if matches!(call.phase, Phase::Over) {
            return;
        }
        if let Phase::Invited { server, .. } = &call.phase {
            self.servers.remove(server);
        }
        call.phase = Phase::Over;
        call.inside = None;
        call.answer = None;
        if let Some(at) = call.deadline.take() {
            self.deadlines.remove(&(at, handle));
        }
        let at = now.instant + self.settings.timers.life();
        call.deadline = Some(at);
        self.deadlines.insert((at, handle));
        self.outputs.push_back(Output::Call { handle, event: CallEvent::Ended(ending) });
    }

    fn forget(&mut self, handle: CallHandle) {
        if let Some(call) = self.calls.remove(&handle) {
            self.dialogs.remove(&(call.call_id, call.local_tag));
            self.clients.retain(|_, purpose| {
                !matches!(purpose, Purpose::Invite(other) | Purpose::Inside(other) if *other == handle)
            });
        }
    }

    /// Drops a call without a word, as a dead far end would.
    pub fn ignore(&mut self, handle: CallHandle) {
        if let Some(call) = self.calls.get(&handle)
            && let Phase::Invited { server, .. } = &call.phase
        {
            self.layer.ignore(*server);
            self.servers.remove(server);
            self.forget(handle);
        }
    }

    /// Notes the call's next deadline.
    pub(super) fn reschedule(&mut self, handle: CallHandle) {
        let Some(call) = self.calls.get_mut(&handle) else { return };
        if let Some(at) = call.deadline.take() {
            self.deadlines.remove(&(at, handle));
        }
        let answer = call.answer.as_ref().and_then(|answer| answer.clock.poll_timeout());
        let progress = call.reliable.as_ref().and_then(|reliable| reliable.poll_timeout());
        call.deadline = [answer, progress].into_iter().flatten().min();
        if let Some(at) = call.deadline {
            self.deadlines.insert((at, handle));
        }
    }

    pub(super) fn event(&mut self, handle: CallHandle, event: CallEvent) {
        self.outputs.push_back(Output::Call { handle, event });
    }

    pub(super) fn next_handle(&mut self) -> CallHandle {
        let handle = CallHandle(self.next_handle);
        self.next_handle += 1;
        handle
    }

    /// Text nobody can guess: a tag, a Call-ID, a cnonce.
    pub(super) fn token(&mut self) -> String {
        let mut bytes = [0; 8];
        (self.random)(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn new_local(&mut self, capability: crate::sdp::Capability) -> Local {
        let mut id = [0; 8];
        (self.random)(&mut id);
        // Within 63 bits: some stacks read the session id as a signed number.
        Local::new(u64::from_ne_bytes(id) >> 1, capability)
    }

    pub(super) fn offer(&mut self, local: &mut Local) -> String {
        local.offer(&mut self.random)
    }

    pub(super) fn answer_offer(
        &mut self,
        local: &mut Local,
        offer: &Session,
    ) -> Result<(String, Negotiated), crate::sdp::Refusal> {
        local.answer(offer, &mut self.random)
    }

    /// The agent's own address of record.
    pub(super) fn identity(&self) -> NameAddr {
        NameAddr::new(Uri::sip(self.user(), self.settings.domain.clone()))
    }

    fn user(&self) -> Option<&str> {
        Some(self.settings.user.as_str()).filter(|user| !user.is_empty())
    }

    /// Where a peer reaches us.
    pub(super) fn contact(&self, peer: &Peer) -> Uri {
        let uri = Uri::sip(self.user(), HostPort::from(peer.local));
        match peer.transport {
            Transport::Udp => uri,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                uri.with_param("transport", Some(peer.transport.as_str()))
            }
        }
    }

    pub(super) fn response(&self, request: &Request, status: u16, tag: &str) -> Response {
        Response::to_request(request, status)
            .with_tag(tag)
            .with_header(HeaderName::Server, self.settings.product.clone())
    }

    /// Remembers a 2xx of ours until its ACK comes.
    pub(super) fn await_ack(&mut self, handle: CallHandle, answer: Answer) {
        if let Some(call) = self.calls.get_mut(&handle) {
            call.answer = Some(answer);
        }
        self.reschedule(handle);
    }

    /// The description of a message, if it has a readable one.
    pub(super) fn session_of(message: &impl Typed) -> Option<Result<Session, crate::sdp::SdpError>> {
        message.sdp().map(|body| Session::parse(&body))
    }

    /// The 2xx's body: as negotiated, or spoilt by a quirk.
    pub(super) fn answer_body(quirks: &Quirks, body: Option<&Body>) -> Option<String> {
        let text = body?.text.clone();
        if quirks.answer_without_sdp {
            return None;
        }
        if !quirks.answer_with_foreign_codec {
            return Some(text);
        }
        // G.729 (RFC 3551 §6), which no one here offers.
        let lines =
            text.split("\r\n").filter(|line| !line.starts_with("a=rtpmap") && !line.starts_with("a=fmtp"));
        let spoilt = lines.map(|line| match line.strip_prefix("m=audio ") {
            Some(rest) => {
                let port = rest.split(' ').next().unwrap_or("0");
                format!("m=audio {port} RTP/AVP 18\r\na=rtpmap:18 G729/8000")
            }
            None => line.to_owned(),
        });
        Some(spoilt.collect::<Vec<_>>().join("\r\n"))
    }
}

/// A registrar asks for Authorization, a proxy that carries calls for Proxy-Authorization (RFC 3261 §22.1). Without a
/// guard a challenge is passed over.
fn usual_admission(request: &Request) -> Admission {
    if request.method == Method::Register {
        Admission::Challenge(Demand::Server)
    } else if request.method == Method::Invite {
        Admission::Challenge(Demand::Proxy)
    } else {
        Admission::Admit
    }
}
