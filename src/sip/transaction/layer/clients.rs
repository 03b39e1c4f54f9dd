//! Requests of ours: sends and repeats them, matches responses to them, cancels them.

use super::super::client_invite::{self, ClientInvite};
use super::super::client_non_invite::{self, ClientNonInvite};
use super::super::output::{ClientFailure, ClientKey, Output};
use super::{TransactionLayer, reschedule};
use crate::sip::message::{CSeq, HeaderName, Method, Request, Response, Typed, Via};
use crate::types::{Peer, Transport};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Instant;

/// One request of ours.
pub(super) struct Client {
    machine: ClientMachine,
    method: Method,
    peer: Peer,
    branch: (u64, bool),
    /// What a timer or a repeated failure makes us send again: the request, later the ACK.
    wire: Option<Bytes>,
    /// The same request as a datagram, while it may turn out that the far end takes no stream.
    datagram: Option<Box<Datagram>>,
    deadline: Option<Instant>,
}

/// A request that was too large for a datagram, for the case that it has to go as one.
struct Datagram {
    peer: Peer,
    request: Request,
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

impl TransactionLayer {
    /// Sends a request in a transaction of its own, under a Via added here. `peer` says where to, and what we
    /// call ourselves there; a request too large for a datagram leaves it for TCP (RFC 3261 §18.1.1). An ACK or CANCEL
    /// has its own way: [`send_ack_2xx`](Self::send_ack_2xx), [`send_cancel`](Self::send_cancel).
    pub fn send_request(&mut self, now: Instant, peer: Peer, mut request: Request) -> ClientKey {
        let number = self.next_number();
        self.add_via(&peer, &mut request, number);
        let bytes = request.to_bytes();
        match self.large.stream_for(now, &peer, bytes.len()) {
            None => self.start_request(now, number, peer, request, bytes, None),
            Some(stream) => {
                let datagram = Box::new(Datagram { peer, request: request.clone() });
                request.headers.replace_first(&HeaderName::Via, &self.via(&stream, number));
                let bytes = request.to_bytes();
                self.start_request(now, number, stream, request, bytes, Some(datagram));
            }
        }
        ClientKey(number)
    }

    /// The same on the flow that the far end opened, whatever the size: behind a NAT nothing else reaches it (RFC 5626
    /// §5.3).
    pub fn send_request_by_flow(&mut self, now: Instant, peer: Peer, mut request: Request) -> ClientKey {
        let number = self.next_number();
        self.add_via(&peer, &mut request, number);
        let bytes = request.to_bytes();
        self.start_request(now, number, peer, request, bytes, None);
        ClientKey(number)
    }

    fn start_request(
        &mut self,
        now: Instant,
        number: u64,
        peer: Peer,
        request: Request,
        bytes: Bytes,
        datagram: Option<Box<Datagram>>,
    ) {
        let method = request.method.clone();
        let reliable = peer.transport.is_reliable();
        let machine = if method == Method::Invite {
            ClientMachine::Invite {
                machine: ClientInvite::new(now, &self.timers, reliable),
                request: Some(Box::new(request)),
                cancel: Cancel::NotAsked,
            }
        } else {
            ClientMachine::Other(ClientNonInvite::new(now, &self.timers, reliable))
        };
        self.start_client(number, (number, false), peer, method, machine, bytes);
        if let Some(client) = self.clients.get_mut(&number) {
            client.datagram = datagram;
        }
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

    /// Cancels an INVITE as soon as the far end has shown that it has it. `None` if a final response was
    /// faster or the transaction is over. The INVITE itself then ends by its final response, which may still
    /// be a 2xx, or by a failure after 64*T1.
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
        let client = Client { machine, method, peer, branch, wire, datagram: None, deadline: None };
        self.clients.insert(number, Box::new(client));
        self.clients_by_branch.insert(branch, number);
        self.settle_client(number);
    }

    fn add_via(&self, peer: &Peer, request: &mut Request, number: u64) {
        request.headers.push_front(HeaderName::Via, self.via(peer, number));
    }

    fn via(&self, peer: &Peer, number: u64) -> String {
        Via::new(peer.transport, peer.local.into(), &self.branches.write(number)).to_string()
    }

    pub(super) fn handle_response(&mut self, now: Instant, peer: Peer, response: Response) {
        // RFC 3261 §8.1.3.3: a response with a second Via is not for us.
        let vias = response.headers.list(&HeaderName::Via).take(2).count();
        let Ok(cseq) = response.cseq() else {
            self.counters.unmatchable += 1;
            return;
        };
        let branch = response.branch().and_then(|branch| self.branches.read(branch));
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
        // It takes streams.
        client.datagram = None;
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

    pub(super) fn client_timeout(&mut self, now: Instant, number: u64) {
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

    /// Stops repeating a request whose answer nobody waits for any more. An INVITE has to be cancelled instead.
    pub fn abandon(&mut self, key: ClientKey) {
        let waits = self.clients.get_mut(&key.0).filter(|client| client.method != Method::Invite);
        let Some(client) = waits else { return };
        reschedule(&mut self.deadlines, key.0, &mut client.deadline, None);
        if let Some(client) = self.clients.remove(&key.0) {
            self.clients_by_branch.remove(&client.branch);
        }
    }

    /// The transport could not send what had this ticket. A request that left the datagram for its size goes as one
    /// after all (RFC 3261 §18.1.1), and a response where [`set_return`](Self::set_return) has it.
    pub fn handle_transport_failure(&mut self, now: Instant, ticket: u64) {
        let Some(client) = self.clients.get_mut(&ticket) else {
            self.return_elsewhere(ticket);
            return;
        };
        if let Some(datagram) = client.datagram.take() {
            self.send_as_datagram(now, ticket, *datagram);
            return;
        }
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

    /// A datagram to `remote` was returned as undeliverable, `quoted` is how it began (RFC 3261 §18.4). Anybody may
    /// claim that, so only who shows a branch of ours, which can't be guessed, is believed.
    pub fn handle_undelivered(&mut self, now: Instant, remote: SocketAddr, quoted: &[u8]) {
        let number =
            self.branches.read_quoted(quoted).and_then(|branch| self.clients_by_branch.get(&branch).copied());
        let client = number.and_then(|number| self.clients.get(&number));
        if let (Some(number), Some(client)) = (number, client)
            && client.peer.transport == Transport::Udp
            && client.peer.remote == remote
        {
            self.handle_transport_failure(now, number);
        }
    }

    /// Begins anew with a request that no stream was taken for. It keeps its branch: had the far end got it before the
    /// stream broke, it would take this one for what it is, a repetition.
    fn send_as_datagram(&mut self, now: Instant, number: u64, datagram: Datagram) {
        let Datagram { peer, request } = datagram;
        self.large.refused(now, &peer);
        let Some(client) = self.clients.get_mut(&number) else { return };
        let bytes = request.to_bytes();
        match &mut client.machine {
            ClientMachine::Invite { machine, request: sent, cancel: _ } => {
                *machine = ClientInvite::new(now, &self.timers, false);
                *sent = Some(Box::new(request));
            }
            ClientMachine::Other(machine) => *machine = ClientNonInvite::new(now, &self.timers, false),
        }
        client.peer = peer.clone();
        client.wire = Some(bytes.clone());
        self.outputs.push_back(Output::Transmit {
            peer,
            bytes,
            ticket: number,
            retransmission: false,
            what: (client.method.clone(), None),
        });
        self.settle_client(number);
    }
}

/// The ACK of a failure (RFC 3261 §17.1.1.3) and the CANCEL (§9.1): requests that go the INVITE's way to the
/// next hop only, with the INVITE's own Via. `to` is the response's for an ACK, the INVITE's for a CANCEL.
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
