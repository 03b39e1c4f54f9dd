//! Two layers over a bad wire with bad users: every transaction ends once and nothing is left behind.
//!
//! The wire loses, repeats, delays and reorders; the users cancel, dawdle and never answer. The seed is in
//! the message of each failure.

use super::*;
use crate::sip::answer_retransmit::{AnswerRetransmit, AnswerStep};
use crate::sip::transaction::ClientFailure;
use std::collections::{BTreeMap, HashMap, HashSet};

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Clone, Copy)]
struct Wire {
    transport: Transport,
    loss: u64,
    doubled: u64,
    delay_ms: u64,
    transport_failures: u64,
}

#[derive(Debug)]
enum Event {
    Arrives { at_caller: bool, bytes: Vec<u8> },
    Start,
    Cancel(ClientKey),
    Respond { key: ServerKey, request: Box<Request>, status: u16 },
    Repeat(ServerKey),
    TransportFails { of_caller: bool, ticket: u64 },
}

/// What the caller's user has heard of a request of its own.
#[derive(Default)]
struct Heard {
    invite: bool,
    successes: u32,
    failures: u32,
    given_up: Option<ClientFailure>,
}

struct World {
    seed: u64,
    wire: Wire,
    random: Random,
    now: Instant,
    caller: TransactionLayer,
    callee: TransactionLayer,
    events: BTreeMap<(Instant, u64), Event>,
    serial: u64,
    heard: HashMap<ClientKey, Heard>,
    answers: HashMap<ServerKey, (Response, AnswerRetransmit)>,
    /// Requests the callee's user was given, by branch and method.
    given: HashSet<(String, Method)>,
    acks: u32,
}

const CALLER: &str = "198.51.100.1:5060";

impl World {
    fn new(seed: u64, wire: Wire) -> World {
        World {
            seed,
            wire,
            random: Random(seed),
            now: Instant::now(),
            caller: TransactionLayer::new(Timers::default(), Marks::new(seed.into())),
            callee: TransactionLayer::new(Timers::default(), Marks::new((!seed).into())),
            events: BTreeMap::new(),
            serial: 0,
            heard: HashMap::new(),
            answers: HashMap::new(),
            given: HashSet::new(),
            acks: 0,
        }
    }

    fn peer(&self, of_caller: bool) -> Peer {
        let (local, remote) = if of_caller { (CALLER, FAR) } else { (FAR, CALLER) };
        let local = local.parse().unwrap();
        Peer { transport: self.wire.transport, local, ..udp(remote) }
    }

    fn later(&mut self, after_ms: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + ms(after_ms), self.serial), event);
    }

    fn transmit(&mut self, from_caller: bool, bytes: &[u8], ticket: u64) {
        if self.random.percent(self.wire.transport_failures) {
            self.later(5, Event::TransportFails { of_caller: from_caller, ticket });
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.wire.doubled));
        for _ in 0..copies {
            if !self.random.percent(self.wire.loss) {
                let delay = self.random.below(self.wire.delay_ms) + 1;
                self.later(delay, Event::Arrives { at_caller: !from_caller, bytes: bytes.to_vec() });
            }
        }
    }

    fn start(&mut self) {
        self.serial += 1;
        let invite = self.random.percent(70);
        let method = if invite { Method::Invite } else { Method::Options };
        let mut request = own_request(method);
        request.headers.set(HeaderName::CallId, format!("call-{}", self.serial));
        let key = self.caller.send_request(self.now, self.peer(true), request);
        self.heard.insert(key, Heard { invite, ..Heard::default() });
        if invite {
            // Some users give up early, all of them in the end.
            let patience = if self.random.percent(40) { self.random.below(4_000) } else { 60_000 };
            self.later(patience, Event::Cancel(key));
        }
    }

    fn drain_caller(&mut self) {
        while let Some(output) = self.caller.poll_output() {
            match output {
                Output::Transmit { bytes, ticket, .. } => self.transmit(true, &bytes, ticket),
                Output::Response { key, response, .. } => {
                    // The CANCEL's own responses are of no interest.
                    let Some(heard) = self.heard.get_mut(&key) else { continue };
                    assert_eq!(heard.given_up, None, "seed {}: a response after the end", self.seed);
                    match response.status {
                        ..=199 => {
                            let finals = heard.failures + heard.successes;
                            assert_eq!(finals, 0, "seed {}: provisional after final", self.seed);
                        }
                        200..=299 => {
                            heard.successes += 1;
                            assert!(heard.invite || heard.successes == 1, "seed {}", self.seed);
                            if heard.invite {
                                let mut ack = own_request(Method::Ack);
                                let call_id = response.call_id().unwrap();
                                ack.headers.set(HeaderName::CallId, call_id);
                                self.caller.send_ack_2xx(self.now, self.peer(true), ack);
                            }
                        }
                        300.. => {
                            heard.failures += 1;
                            assert_eq!((heard.failures, heard.successes), (1, 0), "seed {}", self.seed);
                        }
                    }
                }
                Output::Failed { key, failure } => {
                    let Some(heard) = self.heard.get_mut(&key) else { continue };
                    assert_eq!(heard.given_up, None, "seed {}: ended twice", self.seed);
                    assert_eq!(heard.failures + heard.successes, 0, "seed {}: failed after final", self.seed);
                    heard.given_up = Some(failure);
                }
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
    }

    fn drain_callee(&mut self) {
        while let Some(output) = self.callee.poll_output() {
            match output {
                Output::Transmit { bytes, ticket, .. } => self.transmit(false, &bytes, ticket),
                Output::Request { key, request, .. } => self.requested(key, request),
                Output::Cancel { key, invite, request, .. } => {
                    let status = if invite.is_some() { 200 } else { 481 };
                    let response = Response::to_request(&request, status).with_tag("t");
                    self.callee.respond(self.now, key, response);
                    if let Some(invite) = invite.filter(|invite| self.callee.is_pending(*invite)) {
                        let mut request = request;
                        request.headers.set(HeaderName::CSeq, "17 INVITE");
                        let response = Response::to_request(&request, 487).with_tag("t");
                        self.callee.respond(self.now, invite, response);
                    }
                }
                Output::Ack { request, .. } => {
                    self.acks += 1;
                    let call_id = request.call_id().unwrap();
                    for (response, answer) in self.answers.values_mut() {
                        if response.call_id().unwrap() == call_id {
                            answer.acknowledged();
                        }
                    }
                }
                Output::AckMissing { .. } => {}
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
    }

    fn requested(&mut self, key: ServerKey, request: Request) {
        let id = (request.branch().unwrap().to_owned(), request.method.clone());
        // The last copy leaves 500 ms before the far end's shortest memory ends; these wires are faster.
        assert!(self.given.insert(id), "seed {}: a retransmission was given to the user", self.seed);
        if request.method != Method::Invite {
            if self.random.percent(80) {
                let delay = self.random.below(3_000);
                self.later(delay, Event::Respond { key, request: Box::new(request), status: 200 });
            }
            return;
        }
        let ring = self.random.below(2_000);
        if self.random.percent(70) {
            self.later(ring, Event::Respond { key, request: Box::new(request.clone()), status: 180 });
        }
        let status = [200, 200, 486, 503, 408][self.random.below(5) as usize];
        let delay = if status == 408 { 70_000 } else { ring + self.random.below(8_000) };
        self.later(delay, Event::Respond { key, request: Box::new(request), status });
    }

    fn answered(&mut self, key: ServerKey, response: Response) {
        let answer = AnswerRetransmit::new(self.now, &Timers::default());
        let wait = answer.poll_timeout().unwrap() - self.now;
        self.answers.insert(key, (response, answer));
        self.later(wait.as_millis() as u64, Event::Repeat(key));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives { at_caller: true, bytes } => {
                self.caller.handle_message(self.now, self.peer(true), parse(&bytes).unwrap());
            }
            Event::Arrives { at_caller: false, bytes } => {
                self.callee.handle_message(self.now, self.peer(false), parse(&bytes).unwrap());
            }
            Event::Start => self.start(),
            Event::Cancel(key) => drop(self.caller.send_cancel(self.now, key)),
            Event::Respond { key, request, status } => {
                if self.callee.is_pending(key) {
                    let response = Response::to_request(&request, status).with_tag("t");
                    self.callee.respond(self.now, key, response.clone());
                    if status == 200 && request.method == Method::Invite {
                        self.answered(key, response);
                    }
                }
            }
            Event::Repeat(key) => {
                let Some((response, answer)) = self.answers.get_mut(&key) else { return };
                if answer.handle_timeout(self.now) == AnswerStep::Repeat {
                    let response = response.clone();
                    self.callee.respond(self.now, key, response);
                }
                if let Some(at) = self.answers[&key].1.poll_timeout() {
                    self.serial += 1;
                    self.events.insert((at, self.serial), Event::Repeat(key));
                }
            }
            Event::TransportFails { of_caller: true, ticket } => {
                self.caller.handle_transport_failure(self.now, ticket);
            }
            Event::TransportFails { of_caller: false, ticket } => {
                self.callee.handle_transport_failure(self.now, ticket);
            }
        }
    }

    /// Jumps from event to event until nothing is left to happen.
    fn run(&mut self) {
        let begin = self.now;
        loop {
            self.drain_caller();
            self.drain_callee();
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timers = [self.caller.poll_timeout(), self.callee.poll_timeout()];
            let Some(next) = timers.into_iter().chain([event]).flatten().min() else { break };
            assert!(next - begin < Duration::from_secs(600), "seed {}: it never ends", self.seed);
            self.now = self.now.max(next);
            // Whether a message or a timer comes first is left to chance.
            if self.random.percent(50) {
                self.caller.handle_timeout(self.now);
                self.callee.handle_timeout(self.now);
            }
            match self.events.first_entry() {
                Some(entry) if entry.key().0 <= self.now => {
                    let event = entry.remove();
                    self.happen(event);
                }
                Some(_) | None => {
                    self.caller.handle_timeout(self.now);
                    self.callee.handle_timeout(self.now);
                }
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        assert_eq!((self.caller.active(), self.callee.active()), (0, 0), "seed {seed}: transactions left");
        assert!(
            self.caller.holds_nothing() && self.callee.holds_nothing(),
            "seed {seed}: index entries left"
        );
        for (key, heard) in &self.heard {
            let ends = heard.successes.min(1) + heard.failures + u32::from(heard.given_up.is_some());
            assert_eq!(ends, 1, "seed {seed}: {key:?} ended {ends} times");
        }
    }
}

fn run_worlds(seeds: std::ops::Range<u64>, wire: impl Fn(u64) -> Wire) -> (u32, u32, u32) {
    let mut totals = (0, 0, 0);
    for seed in seeds {
        let mut world = World::new(seed, wire(seed));
        for _ in 0..60 {
            let at = world.random.below(20_000);
            world.later(at, Event::Start);
        }
        world.run();
        world.check();
        for heard in world.heard.values() {
            totals.0 += heard.successes.min(1);
            totals.1 += heard.failures;
            totals.2 += u32::from(heard.given_up.is_some());
        }
    }
    totals
}

#[test]
fn over_a_lossy_wire_every_transaction_ends_once_and_nothing_is_left() {
    let totals = run_worlds(0..48, |seed| Wire {
        transport: Transport::Udp,
        loss: [0, 10, 30, 60, 90, 100][seed as usize % 6],
        doubled: 15,
        delay_ms: [1, 300, 450][seed as usize % 3],
        transport_failures: [0, 2][seed as usize % 2],
    });
    assert!(totals.0 > 100 && totals.1 > 100 && totals.2 > 100, "the wires try all ways to end: {totals:?}");
}

#[test]
fn over_streams_that_break_every_transaction_ends_once_and_nothing_is_left() {
    let totals = run_worlds(100..124, |seed| Wire {
        transport: Transport::Tcp,
        loss: 0,
        doubled: 0,
        delay_ms: 200,
        transport_failures: [0, 5, 30][seed as usize % 3],
    });
    assert!(totals.0 > 100 && totals.1 > 100 && totals.2 > 20, "the wires try all ways to end: {totals:?}");
}
