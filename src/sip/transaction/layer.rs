//! All transactions of one shard: matches messages to their machines, keeps their clocks, carries out their acts.

use super::client_invite::{self, ClientInvite};
use super::client_non_invite::{self, ClientNonInvite};
use super::matching::{Branches, ServerId, merge_id, reply_peer};
use super::output::{ClientFailure, ClientKey, Counters, Output, ServerKey};
use super::server_invite::{self, ServerInvite};
use super::server_non_invite::{self, ServerNonInvite};
use super::timers::Timers;
use crate::sip::message::{CSeq, HeaderName, Message, Method, Request, Response, Typed, Via};
use crate::types::Peer;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// How many requests of far ends are held at once. Beyond that a request is refused without being remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests outside dialogs. The default serves 3,000 new calls a second, each remembered for 32 s.
    pub requests: usize,
    /// Room on top for requests inside dialogs and for CANCEL, so that a flood of new calls can't keep running ones
    /// from ending.
    pub reserved_for_dialogs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { requests: 100_000, reserved_for_dialogs: 50_000 }
    }
}

/// The transaction layer of one signalling shard.
pub struct TransactionLayer {
    timers: Timers,
    limits: Limits,
    branches: Branches,
    /// Numbers clients, servers and branches alike; 0 is nobody's.
    last_number: u64,
    clients: HashMap<u64, Client>,
    /// By the number in the branch, and whether it is the CANCEL or the request it shares the branch with.
    clients_by_branch: HashMap<(u64, bool), u64>,
    servers: HashMap<u64, Server>,
    servers_by_id: HashMap<Arc<str>, u64>,
    /// The first of the requests that may be copies of each other.
    servers_by_merge: HashMap<u64, u64>,
    /// The next deadline of each transaction that has one.
    deadlines: BTreeSet<(Instant, u64)>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

struct Client {
    machine: ClientMachine,
    method: Method,
    peer: Peer,
    branch: (u64, bool),
    /// What a timer or a repeated failure makes us send again: the request, later the ACK.
    wire: Option<Bytes>,
    deadline: Option<Instant>,
}

enum ClientMachine {
    Invite {
        machine: ClientInvite,
        /// As sent, kept while it may need an ACK or a CANCEL.
        request: Option<Box<Request>>,
        cancel: Cancel,
    },
    Other(ClientNonInvite),
}

/// A CANCEL must not overtake its INVITE: it waits for the first provisional response (RFC 3261 §9.1).
enum Cancel {
    NotAsked,
    Held { number: u64, reason: Option<String> },
    Sent { number: u64 },
}

struct Server {
    machine: ServerMachine,
    method: Method,
    reply_to: Peer,
    id: ServerId,
    merge: Option<u64>,
    /// The response that is repeated, and its status. For INVITE at first the 100 that may become due.
    response: Option<(Bytes, u16)>,
    /// The To tag we answered a legacy peer with.
    legacy_tag: Option<String>,
    deadline: Option<Instant>,
}

enum ServerMachine {
    Invite(ServerInvite),
    Other(ServerNonInvite),
}

impl TransactionLayer {
    /// `branch_seed` is random: it keeps our branches from being guessed.
    pub fn new(timers: Timers, branch_seed: u64) -> TransactionLayer {
        TransactionLayer {
            timers,
            limits: Limits::default(),
            branches: Branches::new("", branch_seed),
            last_number: 0,
            clients: HashMap::new(),
            clients_by_branch: HashMap::new(),
            servers: HashMap::new(),
            servers_by_id: HashMap::new(),
            servers_by_merge: HashMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Puts letters and digits that name this gateway and shard into every branch.
    pub fn with_tag(mut self, tag: &str) -> TransactionLayer {
        self.branches = self.branches.with_tag(tag);
        self
    }

    pub fn with_limits(mut self, limits: Limits) -> TransactionLayer {
        self.limits = limits;
        self
    }

    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Transactions alive, ours and the far ends'.
    pub fn active(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    pub fn active_clients(&self) -> usize {
        self.clients.len()
    }

    pub fn active_servers(&self) -> usize {
        self.servers.len()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// True if the request is a copy of an earlier one that came on another way and is still known: answered 482
    /// (RFC 3261 §8.2.2.2).
    pub fn is_merged(&self, key: ServerKey) -> bool {
        let merge = self.servers.get(&key.0).and_then(|server| server.merge);
        merge.and_then(|merge| self.servers_by_merge.get(&merge)).is_some_and(|first| *first != key.0)
    }

    /// True until the far end's request has a final response, or is gone.
    pub fn is_pending(&self, key: ServerKey) -> bool {
        self.servers.get(&key.0).is_some_and(|server| match &server.machine {
            ServerMachine::Invite(machine) => machine.is_pending(),
            ServerMachine::Other(machine) => machine.is_pending(),
        })
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A message came from the network.
    pub fn handle_message(&mut self, now: Instant, peer: Peer, message: Message) {
        match message {
            Message::Request(request) => self.handle_request(now, peer, request),
            Message::Response(response) => self.handle_response(now, peer, response),
        }
    }

    /// Runs every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, number)) = self.deadlines.first() {
            if at > now {
                break;
            }
            if self.clients.contains_key(&number) {
                self.client_timeout(now, number);
            } else if self.servers.contains_key(&number) {
                self.server_timeout(now, number);
            } else {
                self.deadlines.pop_first();
            }
        }
    }

    /// The transport could not send what had this ticket. A response's failure changes nothing: the far end repeats
    /// its request, and the timers end the transaction (RFC 6026 §7.1, §8.7).
    pub fn handle_transport_failure(&mut self, _now: Instant, ticket: u64) {
        let Some(client) = self.clients.get_mut(&ticket) else { return };
        let failed = match &mut client.machine {
            ClientMachine::Invite { machine, .. } => machine.handle_transport_failure(),
            ClientMachine::Other(machine) => machine.handle_transport_failure(),
        };
        if failed {
            self.outputs
                .push_back(Output::Failed { key: ClientKey(ticket), failure: ClientFailure::Transport });
            self.settle_client(ticket);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    // Requests of ours

    /// Sends a request in a transaction of its own, under a Via added here. `peer` says where to, and what we call
    /// ourselves there. An ACK or CANCEL has its own way: [`send_ack_2xx`](Self::send_ack_2xx),
    /// [`send_cancel`](Self::send_cancel).
    pub fn send_request(&mut self, now: Instant, peer: Peer, mut request: Request) -> ClientKey {
        let number = self.next_number();
        self.add_via(&peer, &mut request, number);
        let bytes = request.to_bytes();
        let method = request.method.clone();
        let reliable = peer.transport.is_reliable();
        let machine = match method {
            Method::Invite => ClientMachine::Invite {
                machine: ClientInvite::new(now, &self.timers, reliable),
                request: Some(Box::new(request)),
                cancel: Cancel::NotAsked,
            },
            _ => ClientMachine::Other(ClientNonInvite::new(now, &self.timers, reliable)),
        };
        self.start_client(number, (number, false), peer, method, machine, bytes);
        ClientKey(number)
    }

    /// Sends the ACK of a 2xx: no transaction, since its reception is proven by the 2xx not coming again
    /// (RFC 3261 §13.2.2.4).
    pub fn send_ack_2xx(&mut self, _now: Instant, peer: Peer, mut request: Request) {
        let number = self.next_number();
        self.add_via(&peer, &mut request, number);
        self.outputs.push_back(Output::Transmit {
            bytes: request.to_bytes(),
            peer,
            ticket: 0,
            retransmission: false,
            what: (request.method, None),
        });
    }

    /// Cancels an INVITE as soon as the far end has shown that it has it. `None` if a final response was faster or
    /// the transaction is over. The INVITE itself then ends by its final response, which may still be a 2xx, or by
    /// a failure after 64*T1.
    pub fn send_cancel(&mut self, now: Instant, invite: ClientKey) -> Option<ClientKey> {
        self.send_cancel_because(now, invite, None)
    }

    /// The same with the value of a Reason header (RFC 3326).
    pub fn send_cancel_because(
        &mut self,
        now: Instant,
        invite: ClientKey,
        reason: Option<&str>,
    ) -> Option<ClientKey> {
        let number = self.last_number + 1;
        let client = self.clients.get_mut(&invite.0)?;
        let ClientMachine::Invite { machine, cancel, .. } = &mut client.machine else { return None };
        if !machine.is_pending() {
            return None;
        }
        match cancel {
            Cancel::NotAsked => *cancel = Cancel::Held { number, reason: reason.map(str::to_owned) },
            Cancel::Held { number, .. } | Cancel::Sent { number } => return Some(ClientKey(*number)),
        }
        self.last_number = number;
        self.release_cancel(now, invite.0);
        Some(ClientKey(number))
    }

    /// Sends a CANCEL that was asked for, if the INVITE has had a provisional response and no final one.
    fn release_cancel(&mut self, now: Instant, invite: u64) {
        let Some(client) = self.clients.get_mut(&invite) else { return };
        let ClientMachine::Invite { machine, request: Some(request), cancel } = &mut client.machine else {
            return;
        };
        let Cancel::Held { number, reason } = cancel else { return };
        if machine.is_calling() || !machine.is_pending() {
            return;
        }
        let (number, reason) = (*number, reason.take());
        *cancel = Cancel::Sent { number };
        machine.cancelled(now, &self.timers);
        let mut request = hop_by_hop(request, Method::Cancel, None);
        if let Some(reason) = reason {
            request.headers.push(HeaderName::Reason, reason);
        }
        let peer = client.peer.clone();
        let machine = ClientNonInvite::new(now, &self.timers, peer.transport.is_reliable());
        let branch = (client.branch.0, true);
        self.settle_client(invite);
        let bytes = request.to_bytes();
        self.start_client(number, branch, peer, Method::Cancel, ClientMachine::Other(machine), bytes);
    }

    fn start_client(
        &mut self,
        number: u64,
        branch: (u64, bool),
        peer: Peer,
        method: Method,
        machine: ClientMachine,
        bytes: Bytes,
    ) {
        self.outputs.push_back(Output::Transmit {
            peer: peer.clone(),
            bytes: bytes.clone(),
            ticket: number,
            retransmission: false,
            what: (method.clone(), None),
        });
        let wire = (!peer.transport.is_reliable()).then_some(bytes);
        self.clients.insert(number, Client { machine, method, peer, branch, wire, deadline: None });
        self.clients_by_branch.insert(branch, number);
        self.settle_client(number);
    }

    fn add_via(&self, peer: &Peer, request: &mut Request, number: u64) {
        let via = Via::new(peer.transport, peer.local.into(), &self.branches.write(number));
        request.headers.push_front(HeaderName::Via, via.to_string());
    }

    fn handle_response(&mut self, now: Instant, peer: Peer, response: Response) {
        // RFC 3261 §8.1.3.3: a response with a second Via is not for us.
        let vias = response.headers.list(&HeaderName::Via).take(2).count();
        let (Ok(via), Ok(cseq)) = (response.via(), response.cseq()) else {
            self.counters.unmatchable += 1;
            return;
        };
        let branch = via.branch().and_then(|branch| self.branches.read(branch));
        let number = branch
            .filter(|_| vias == 1)
            .and_then(|branch| self.clients_by_branch.get(&(branch, cseq.method == Method::Cancel)).copied());
        let client = number.and_then(|number| self.clients.get_mut(&number));
        let (Some(number), Some(client)) = (number, client) else {
            self.counters.stray_responses += 1;
            return;
        };
        if client.method != cseq.method {
            self.counters.stray_responses += 1;
            return;
        }
        match &mut client.machine {
            ClientMachine::Invite { .. } => self.invite_response(now, number, peer, response),
            ClientMachine::Other(machine) => {
                match machine.handle_response(now, &self.timers, response.status) {
                    client_non_invite::Act::Deliver => {
                        if !machine.is_pending() {
                            client.wire = None;
                        }
                        self.outputs.push_back(Output::Response { key: ClientKey(number), peer, response });
                    }
                    client_non_invite::Act::Absorb
                    | client_non_invite::Act::Repeat
                    | client_non_invite::Act::TimedOut
                    | client_non_invite::Act::Finish => self.counters.absorbed += 1,
                }
                self.settle_client(number);
            }
        }
    }

    fn invite_response(&mut self, now: Instant, number: u64, peer: Peer, response: Response) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let ClientMachine::Invite { machine, request, .. } = &mut client.machine else { return };
        let act = machine.handle_response(now, &self.timers, response.status);
        let (mut deliver, mut repeated) = (false, false);
        match act {
            client_invite::Act::Deliver => {
                deliver = true;
                if !machine.is_completed() {
                    client.wire = None;
                }
                if response.status >= 200 {
                    *request = None;
                }
            }
            client_invite::Act::AckAndDeliver => {
                deliver = true;
                let to = response.headers.get(&HeaderName::To);
                client.wire = request.take().map(|sent| hop_by_hop(&sent, Method::Ack, to).to_bytes());
            }
            client_invite::Act::AckAgain => repeated = true,
            client_invite::Act::Absorb
            | client_invite::Act::Repeat
            | client_invite::Act::TimedOut
            | client_invite::Act::Finish => self.counters.absorbed += 1,
        }
        if matches!(act, client_invite::Act::AckAndDeliver | client_invite::Act::AckAgain)
            && let Some(bytes) = &client.wire
        {
            self.counters.retransmitted += u64::from(repeated);
            self.outputs.push_back(Output::Transmit {
                peer: client.peer.clone(),
                bytes: bytes.clone(),
                ticket: 0,
                retransmission: repeated,
                what: (Method::Ack, None),
            });
        }
        if deliver {
            self.outputs.push_back(Output::Response { key: ClientKey(number), peer, response });
        }
        self.settle_client(number);
        self.release_cancel(now, number);
    }

    fn client_timeout(&mut self, now: Instant, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let (repeat, timed_out) = match &mut client.machine {
            ClientMachine::Invite { machine, .. } => {
                let act = machine.handle_timeout(now);
                (act == client_invite::Act::Repeat, act == client_invite::Act::TimedOut)
            }
            ClientMachine::Other(machine) => {
                let act = machine.handle_timeout(now);
                (act == client_non_invite::Act::Repeat, act == client_non_invite::Act::TimedOut)
            }
        };
        if repeat && let Some(bytes) = &client.wire {
            self.counters.retransmitted += 1;
            self.outputs.push_back(Output::Transmit {
                peer: client.peer.clone(),
                bytes: bytes.clone(),
                ticket: number,
                retransmission: true,
                what: (client.method.clone(), None),
            });
        }
        if timed_out {
            self.outputs
                .push_back(Output::Failed { key: ClientKey(number), failure: ClientFailure::TimedOut });
        }
        self.settle_client(number);
    }

    /// Brings the deadline of a client up to date, or forgets the client if it is over.
    fn settle_client(&mut self, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let (terminated, deadline) = match &client.machine {
            ClientMachine::Invite { machine, .. } => (machine.is_terminated(), machine.poll_timeout()),
            ClientMachine::Other(machine) => (machine.is_terminated(), machine.poll_timeout()),
        };
        reschedule(&mut self.deadlines, number, &mut client.deadline, deadline);
        if terminated && let Some(client) = self.clients.remove(&number) {
            self.clients_by_branch.remove(&client.branch);
        }
    }

    // Requests of far ends

    fn handle_request(&mut self, now: Instant, peer: Peer, mut request: Request) {
        let Ok(mut via) = request.via() else {
            self.counters.unmatchable += 1;
            return;
        };
        let Some(id) = ServerId::of(&request, &peer, &via) else {
            self.counters.unmatchable += 1;
            return;
        };
        let known = self.servers_by_id.get(&id.own).copied();
        if request.method == Method::Ack {
            match known {
                Some(number) => self.handle_ack(now, number, peer, request),
                None => self.outputs.push_back(Output::Ack { peer, request }),
            }
            return;
        }
        if let Some(number) = known {
            self.handle_repeated(number);
            return;
        }
        let reply_to = reply_peer(&peer, &via);
        via.note_source(peer.remote);
        request.headers.replace_first(&HeaderName::Via, &via.to_string());
        if !self.has_room(&request) {
            self.refuse(reply_to, &request);
            return;
        }

        let number = self.next_number();
        let reliable = peer.transport.is_reliable();
        let machine = match request.method {
            Method::Invite => ServerMachine::Invite(ServerInvite::new(now, &self.timers, reliable)),
            _ => ServerMachine::Other(ServerNonInvite::new(now, &self.timers, reliable)),
        };
        let response =
            (request.method == Method::Invite).then(|| (Response::to_request(&request, 100).to_bytes(), 100));
        let merge = merge_id(&self.branches, &request);
        if let Some(merge) = merge {
            self.servers_by_merge.entry(merge).or_insert(number);
        }
        self.servers_by_id.insert(id.own.clone(), number);
        let method = request.method.clone();
        let invite = match method {
            Method::Cancel => ServerId::of_cancelled(&request, &peer, &via)
                .and_then(|id| self.servers_by_id.get(&id.own).copied()),
            _ => None,
        };
        let server =
            Server { machine, method, reply_to, id, merge, response, legacy_tag: None, deadline: None };
        self.servers.insert(number, server);
        self.settle_server(number);
        let key = ServerKey(number);
        self.outputs.push_back(match request.method {
            Method::Cancel => Output::Cancel { key, invite: invite.map(ServerKey), peer, request },
            _ => Output::Request { key, peer, request },
        });
    }

    fn has_room(&self, request: &Request) -> bool {
        let in_dialog = request.method == Method::Cancel || request.to().is_ok_and(|to| to.tag().is_some());
        let reserved = if in_dialog { self.limits.reserved_for_dialogs } else { 0 };
        self.servers.len() < self.limits.requests + reserved
    }

    /// Answers without remembering (RFC 3261 §8.2.7): 503, with a time to come back (§21.5.4).
    fn refuse(&mut self, reply_to: Peer, request: &Request) {
        self.counters.refused += 1;
        let response =
            Response::to_request(request, 503).with_header(HeaderName::RetryAfter, "10").with_stateless_tag();
        self.outputs.push_back(Output::Transmit {
            peer: reply_to,
            bytes: response.to_bytes(),
            ticket: 0,
            retransmission: false,
            what: (request.method.clone(), Some(503)),
        });
    }

    fn handle_ack(&mut self, now: Instant, number: u64, peer: Peer, request: Request) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let ServerMachine::Invite(machine) = &mut server.machine else { return };
        if server.id.legacy {
            // RFC 3261 §17.2.3: the To tag must be that of our response.
            let to = request.to().ok();
            if to.as_ref().and_then(|to| to.tag()) != server.legacy_tag.as_deref() {
                self.counters.unmatchable += 1;
                return;
            }
        }
        match machine.handle_ack(now, &self.timers) {
            server_invite::Act::DeliverAck => self.outputs.push_back(Output::Ack { peer, request }),
            server_invite::Act::Absorb
            | server_invite::Act::Send
            | server_invite::Act::SendAgain
            | server_invite::Act::Repeat
            | server_invite::Act::SendTrying
            | server_invite::Act::AckMissing
            | server_invite::Act::Finish => {}
        }
        self.settle_server(number);
    }

    fn handle_repeated(&mut self, number: u64) {
        self.counters.absorbed += 1;
        let Some(server) = self.servers.get(&number) else { return };
        let repeat = match &server.machine {
            ServerMachine::Invite(machine) => machine.handle_invite() == server_invite::Act::Repeat,
            ServerMachine::Other(machine) => machine.handle_request() == server_non_invite::Act::Repeat,
        };
        if repeat {
            self.transmit_response(number, true);
        }
    }

    /// Answers a far end's request. A second 2xx to an INVITE is the user repeating its answer; any other response
    /// after a final one, and one for a request that is gone, is not sent.
    pub fn respond(&mut self, now: Instant, key: ServerKey, response: Response) {
        let Some(server) = self.servers.get_mut(&key.0) else { return };
        let status = response.status;
        let (send, again) = match &mut server.machine {
            ServerMachine::Invite(machine) => {
                let act = machine.respond(now, &self.timers, status);
                let again = act == server_invite::Act::SendAgain;
                (again || act == server_invite::Act::Send, again)
            }
            ServerMachine::Other(machine) => {
                (machine.respond(now, &self.timers, status) == server_non_invite::Act::Send, false)
            }
        };
        if send {
            if server.id.legacy && status > 100 {
                server.legacy_tag = response.to().ok().and_then(|to| to.tag().map(str::to_owned));
            }
            server.response = Some((response.to_bytes(), status));
            self.transmit_response(key.0, again);
        }
        self.settle_server(key.0);
    }

    /// Answers a request and forgets it: for challenges and refusals to those who have proven nothing. They cost no
    /// memory, and a forged source is sent one response for one request (RFC 3261 §8.2.7, §26.3.2.4). If the request
    /// comes again, it is a new one; give it the same To tag (`Response::with_stateless_tag`).
    pub fn respond_stateless(&mut self, key: ServerKey, response: Response) {
        let Some(server) = self.servers.get_mut(&key.0) else { return };
        server.response = Some((response.to_bytes(), response.status));
        self.transmit_response(key.0, false);
        self.remove_server(key.0);
    }

    fn transmit_response(&mut self, number: u64, retransmission: bool) {
        let Some(server) = self.servers.get(&number) else { return };
        let Some((bytes, status)) = &server.response else { return };
        self.counters.retransmitted += u64::from(retransmission);
        self.outputs.push_back(Output::Transmit {
            peer: server.reply_to.clone(),
            bytes: bytes.clone(),
            ticket: number,
            retransmission,
            what: (server.method.clone(), Some(*status)),
        });
    }

    fn server_timeout(&mut self, now: Instant, number: u64) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        match &mut server.machine {
            ServerMachine::Invite(machine) => match machine.handle_timeout(now) {
                server_invite::Act::SendTrying => self.transmit_response(number, false),
                server_invite::Act::Repeat => self.transmit_response(number, true),
                server_invite::Act::AckMissing => {
                    self.outputs.push_back(Output::AckMissing { key: ServerKey(number) });
                }
                server_invite::Act::Absorb
                | server_invite::Act::Send
                | server_invite::Act::SendAgain
                | server_invite::Act::DeliverAck
                | server_invite::Act::Finish => {}
            },
            ServerMachine::Other(machine) => {
                let pending = machine.is_pending();
                if machine.handle_timeout(now) == server_non_invite::Act::Finish && pending {
                    self.counters.unanswered += 1;
                }
            }
        }
        self.settle_server(number);
    }

    /// Brings the deadline of a server up to date, or forgets the server if it is over.
    fn settle_server(&mut self, number: u64) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let (terminated, deadline, keeps_response) = match &server.machine {
            ServerMachine::Invite(machine) => {
                (machine.is_terminated(), machine.poll_timeout(), machine.keeps_response())
            }
            ServerMachine::Other(machine) => (machine.is_terminated(), machine.poll_timeout(), true),
        };
        if !keeps_response {
            server.response = None;
        }
        if terminated {
            self.remove_server(number);
        } else {
            reschedule(&mut self.deadlines, number, &mut server.deadline, deadline);
        }
    }

    fn remove_server(&mut self, number: u64) {
        let Some(mut server) = self.servers.remove(&number) else { return };
        reschedule(&mut self.deadlines, number, &mut server.deadline, None);
        self.servers_by_id.remove(&server.id.own);
        if let Some(merge) = server.merge
            && self.servers_by_merge.get(&merge) == Some(&number)
        {
            self.servers_by_merge.remove(&merge);
        }
    }
}

fn reschedule(
    deadlines: &mut BTreeSet<(Instant, u64)>,
    number: u64,
    current: &mut Option<Instant>,
    wanted: Option<Instant>,
) {
    if *current == wanted {
        return;
    }
    if let Some(at) = current.take() {
        deadlines.remove(&(at, number));
    }
    if let Some(at) = wanted {
        deadlines.insert((at, number));
    }
    *current = wanted;
}

/// The ACK of a failure (RFC 3261 §17.1.1.3) and the CANCEL (§9.1): requests that go the INVITE's way to the next hop
/// only, with the INVITE's own Via. `to` is the response's for an ACK, the INVITE's for a CANCEL.
fn hop_by_hop(invite: &Request, method: Method, to: Option<&str>) -> Request {
    let mut request = Request::new(method, invite.uri.clone());
    let copy = |request: &mut Request, name: HeaderName| {
        if let Some(value) = invite.headers.get(&name) {
            request.headers.push(name, value);
        }
    };
    copy(&mut request, HeaderName::Via);
    for route in invite.headers.all(&HeaderName::Route) {
        request.headers.push(HeaderName::Route, route);
    }
    request.headers.push(HeaderName::MaxForwards, "70");
    copy(&mut request, HeaderName::From);
    match to {
        Some(to) => request.headers.push(HeaderName::To, to),
        None => copy(&mut request, HeaderName::To),
    }
    copy(&mut request, HeaderName::CallId);
    if let Ok(cseq) = invite.cseq() {
        let cseq = CSeq { number: cseq.number, method: request.method.clone() };
        request.headers.push(HeaderName::CSeq, cseq.to_string());
    }
    request
}
