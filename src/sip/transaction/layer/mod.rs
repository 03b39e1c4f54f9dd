//! All transactions of one shard: feeds their machines, keeps their clocks, carries out their acts.

mod clients;
mod servers;

use super::large::LargeRequests;
use super::matching::Branches;
use super::output::{Counters, Output};
use super::timers::Timers;
use crate::sip::mark::Marks;
use crate::sip::message::Message;
use crate::types::Peer;
use clients::Client;
use servers::Server;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// How many requests of far ends are held at once. Beyond that a request is refused without being remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at which no more are taken outside dialogs. The default serves 3,000 calls a second, INVITE and BYE each
    /// remembered for 32 s.
    pub requests: usize,
    /// Room on top for requests inside dialogs and for CANCEL, so that a flood of new calls can't keep
    /// running ones from ending.
    pub reserved_for_dialogs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { requests: 200_000, reserved_for_dialogs: 50_000 }
    }
}

/// The transaction layer of one signalling shard.
pub struct TransactionLayer {
    timers: Timers,
    limits: Limits,
    branches: Branches,
    /// Numbers clients, servers and branches alike; 0 is nobody's.
    last_number: u64,
    /// Boxed, as servers are: a table keeps room for twice its entries.
    clients: HashMap<u64, Box<Client>>,
    /// By the number in the branch, and whether it is the CANCEL or the request it shares the branch with.
    clients_by_branch: HashMap<(u64, bool), u64>,
    large: LargeRequests,
    servers: HashMap<u64, Box<Server>>,
    servers_by_id: HashMap<Arc<str>, u64>,
    /// The first of the requests that may be copies of each other, or the last one that is none.
    servers_by_merge: HashMap<u64, u64>,
    /// The next deadline of each transaction that has one.
    deadlines: BTreeSet<(Instant, u64)>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl TransactionLayer {
    /// Our branches carry a mark, which keeps them from being guessed.
    pub fn new(timers: Timers, marks: Marks) -> TransactionLayer {
        TransactionLayer {
            timers,
            limits: Limits::default(),
            branches: Branches::new("", marks),
            last_number: 0,
            clients: HashMap::new(),
            clients_by_branch: HashMap::new(),
            large: LargeRequests::default(),
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

    /// What branches of ours carry, and whatever else is to be known as ours.
    pub fn marks(&self) -> &Marks {
        self.branches.marks()
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

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// True if no table keeps anything of a transaction that is over.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.clients_by_branch.is_empty()
            && self.servers_by_id.is_empty()
            && self.servers_by_merge.is_empty()
            && self.deadlines.is_empty()
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
