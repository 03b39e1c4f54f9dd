//! Requests of far ends: tells new ones from repetitions, sends and repeats the answers.

use super::super::amplification::bounded;
use super::super::matching::{ServerId, merge_id, reply_peer};
use super::super::output::{Output, ServerKey};
use super::super::server_invite::{self, ServerInvite};
use super::super::server_non_invite::{self, ServerNonInvite};
use super::{TransactionLayer, reschedule};
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::types::Peer;
use bytes::Bytes;
use std::time::Instant;

/// One request of a far end.
pub(super) struct Server {
    machine: ServerMachine,
    method: Method,
    reply_to: Peer,
    /// Where the answers go once they can't go there.
    returns: Option<Box<Peer>>,
    id: ServerId,
    merge: Option<Merge>,
    /// The response that is repeated, and its status. For INVITE at first the 100 that may become due.
    response: Option<(Bytes, u16)>,
    /// Octets of the request, where its source may be forged; no more than so many are sent back until it is proven.
    received: Option<u32>,
    /// The To tag we answered a legacy peer with.
    legacy_tag: Option<String>,
    deadline: Option<Instant>,
}

/// What copies of one request are known by.
#[derive(Debug, Clone, Copy)]
struct Merge {
    id: u64,
    /// Of the Request-URI.
    uri: u64,
}

enum ServerMachine {
    Invite(ServerInvite),
    Other(ServerNonInvite),
}

impl TransactionLayer {
    /// True if the request is a copy of an earlier one that came on another way and is still known: answered
    /// 482 (RFC 3261 §8.2.2.2).
    pub fn is_merged(&self, key: ServerKey) -> bool {
        let merge = self.servers.get(&key.0).and_then(|server| server.merge);
        merge.and_then(|merge| self.servers_by_merge.get(&merge.id)).is_some_and(|first| *first != key.0)
    }

    /// Notes the request that later ones may be copies of. Whoever tries one place after the other (RFC 3261 §16.6) sends
    /// the same request elsewhere once it was refused: that one is new.
    fn note_merge(&mut self, number: u64, merge: Merge) {
        let first = self.servers_by_merge.get(&merge.id).copied();
        let stands = first.and_then(|first| Some((first, self.servers.get(&first)?.merge?)));
        let is_copy =
            stands.is_some_and(|(first, known)| known.uri == merge.uri || self.is_pending(ServerKey(first)));
        if !is_copy {
            self.servers_by_merge.insert(merge.id, number);
        }
    }

    /// True until the far end's request has a final response, or is gone.
    pub fn is_pending(&self, key: ServerKey) -> bool {
        self.servers.get(&key.0).is_some_and(|server| match &server.machine {
            ServerMachine::Invite(machine) => machine.is_pending(),
            ServerMachine::Other(machine) => machine.is_pending(),
        })
    }

    pub(super) fn handle_request(&mut self, now: Instant, peer: Peer, mut request: Request) {
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
        // A stream's far end is where it says.
        let head = request.headers.source().filter(|_| !peer.transport.is_reliable());
        let received = head.map(|head| (head.len() + request.body.len()) as u32);
        via.note_source(peer.remote);
        request.headers.replace_first(&HeaderName::Via, &via.to_string());
        if !self.has_room(&request) {
            self.refuse(reply_to, &request, received);
            return;
        }

        let number = self.next_number();
        let reliable = peer.transport.is_reliable();
        let machine = if request.method == Method::Invite {
            ServerMachine::Invite(ServerInvite::new(now, &self.timers, reliable))
        } else {
            ServerMachine::Other(ServerNonInvite::new(now, &self.timers, reliable))
        };
        let response =
            (request.method == Method::Invite).then(|| (Response::to_request(&request, 100).to_bytes(), 100));
        let marks = self.branches.marks();
        let uri = || marks.hash_of(request.uri.to_string());
        let merge = merge_id(marks, &request).map(|id| Merge { id, uri: uri() });
        if let Some(merge) = merge {
            self.note_merge(number, merge);
        }
        self.servers_by_id.insert(id.own.clone(), number);
        let method = request.method.clone();
        let invite = if method == Method::Cancel {
            ServerId::of_cancelled(&request, &peer, &via)
                .and_then(|id| self.servers_by_id.get(&id.own).copied())
        } else {
            None
        };
        let server = Server {
            machine,
            method,
            reply_to,
            returns: None,
            id,
            merge,
            response,
            received,
            legacy_tag: None,
            deadline: None,
        };
        self.servers.insert(number, Box::new(server));
        self.settle_server(number);
        let key = ServerKey(number);
        self.outputs.push_back(if request.method == Method::Cancel {
            Output::Cancel { key, invite: invite.map(ServerKey), peer, request }
        } else {
            Output::Request { key, peer, request }
        });
    }

    fn has_room(&self, request: &Request) -> bool {
        let in_dialog = request.method == Method::Cancel || request.to_tag().is_some();
        let reserved = if in_dialog { self.limits.reserved_for_dialogs } else { 0 };
        self.servers.len() < self.limits.requests + reserved
    }

    /// Answers without remembering (RFC 3261 §8.2.7): 503, with a time to come back (§21.5.4).
    fn refuse(&mut self, reply_to: Peer, request: &Request, received: Option<u32>) {
        self.counters.refused += 1;
        let response =
            Response::to_request(request, 503).with_header(HeaderName::RetryAfter, "10").with_stateless_tag();
        let Some(bytes) = to_unproven(response, received) else { return };
        self.outputs.push_back(Output::Transmit {
            peer: reply_to,
            bytes,
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
            if request.to_tag() != server.legacy_tag.as_deref() {
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

    /// Answers a far end's request. A second 2xx to an INVITE is the user repeating its answer; any other
    /// response after a final one, and one for a request that is gone, is not sent.
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
                server.legacy_tag = response.to_tag().map(str::to_owned);
            }
            server.response = Some((response.to_bytes(), status));
            self.transmit_response(key.0, again);
        }
        self.settle_server(key.0);
    }

    /// Says where the answer to a request goes if the stream is gone that it came by (RFC 3261 §18.2.2). It is kept as an
    /// answer to a datagram is: that it was written to a stream does not say that it arrived.
    pub fn set_return(&mut self, key: ServerKey, peer: Peer) {
        let Some(server) = self.servers.get_mut(&key.0) else { return };
        server.returns = Some(Box::new(peer));
        if let ServerMachine::Other(machine) = &mut server.machine {
            machine.keep_answer();
        }
    }

    /// An answer could not be delivered: it goes another way once, where there is one. Without it nothing changes: the far
    /// end repeats its request, and the timers end the transaction (RFC 6026 §7.1, §8.7).
    pub(super) fn return_elsewhere(&mut self, number: u64) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let Some(peer) = server.returns.take() else { return };
        server.reply_to = *peer;
        // A 2xx to an INVITE is not kept here: its user repeats it, to the new place from now on.
        self.transmit_response(number, true);
    }

    /// Forgets a request without a word, as a flood deserves.
    pub fn ignore(&mut self, key: ServerKey) {
        self.remove_server(key.0);
    }

    /// Answers a request and forgets it: for challenges and refusals to those who have proven nothing. They
    /// cost no memory, and a forged source is sent one response for one request (RFC 3261 §8.2.7, §26.3.2.4).
    /// If the request comes again, it is a new one; give it the same To tag (`Response::with_stateless_tag`).
    /// False where the answer would make us an amplifier, and is not given.
    pub fn respond_stateless(&mut self, key: ServerKey, response: Response) -> bool {
        let Some(server) = self.servers.get_mut(&key.0) else { return false };
        let status = response.status;
        let bytes = to_unproven(response, server.received);
        let given = bytes.is_some();
        if let Some(bytes) = bytes {
            server.response = Some((bytes, status));
            self.transmit_response(key.0, false);
        }
        self.remove_server(key.0);
        given
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

    pub(super) fn server_timeout(&mut self, now: Instant, number: u64) {
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
            && self.servers_by_merge.get(&merge.id) == Some(&number)
        {
            self.servers_by_merge.remove(&merge.id);
        }
    }
}

/// An answer to somebody who has proven nothing with a request of this length, or where that proves an address.
fn to_unproven(response: Response, received: Option<u32>) -> Option<Bytes> {
    match received {
        Some(received) => bounded(response, received as usize),
        None => Some(response.to_bytes()),
    }
}
