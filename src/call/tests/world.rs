//! A world in virtual time around one exchange: the network, the journal, the media path and the clock are stand-ins
//! that do what the test says.

mod records;
mod streams;
mod talks;

use self::streams::Stream;
use super::far::name;
pub use super::lab::{Dice, config, dialplan, directory};
use crate::access::{FloodGuard, LoginGuard, Registrar};
use crate::billing::{Cdr, JournalRecord};
use crate::call::event::{Event, Input, MediaPorts, Output, PortsExhausted, Rank, RecordStep, Target};
use crate::call::{Exchange, Parts, Settings};
use crate::config::Config;
use crate::media::LegConfig;
use crate::media::Line as ServedLine;
use crate::sip::auth::Challenger;
use crate::sip::mark::Marks;
use crate::sip::message::{Message, Method, Request, Response, parse};
use crate::sip::transaction::{Timers, TransactionLayer};
use crate::types::{
    CallId, Direction, EndCause, HostPort, LegId, LegReport, NetworkId, Now, Peer, Transport,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const GATEWAY: &str = "192.0.2.1:5060";
/// Trunks `a` and `b`; some tests give `a` a second address.
pub const A: &str = "203.0.113.1:5060";
pub const A2: &str = "203.0.113.2:5060";
pub const B: &str = "203.0.113.9:5060";
pub const ALICE: &str = "198.51.100.10:5060";
pub const BOB: &str = "198.51.100.21:5060";
pub const BOB2: &str = "198.51.100.22:5060";
pub const BOB3: &str = "198.51.100.23:5060";
pub const CAROL: &str = "198.51.100.30:5060";
pub const STRANGER: &str = "198.51.100.66:5060";

/// What a phone offers.
pub const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 111 8 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
/// What an operator or a phone answers that takes G.711.
pub const ANSWER: &str = "v=0\r\no=- 7 7 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n";
/// What a phone answers that takes Opus under the number it was offered.
pub const OPUS_ANSWER: &str = "v=0\r\no=- 7 7 IN IP4 198.51.100.21\r\ns=-\r\nc=IN IP4 198.51.100.21\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na=sendrecv\r\n";

/// The same description with another direction.
pub fn directed(sdp: &str, direction: &str) -> String {
    sdp.replace("a=sendrecv", &format!("a={direction}"))
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What becomes of a record that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Durable(Duration),
    Fails,
    /// The disk never answers.
    Hangs,
}

/// The journal: what it will say, and what was written.
pub struct JournalStub {
    pub has_room: bool,
    pub answer: Verdict,
    pub end: Verdict,
    pub written: Vec<(Instant, JournalRecord)>,
    reserved: Vec<CallId>,
}

/// One leg's media as the worker would know it.
#[derive(Debug, Default)]
pub struct MediaLeg {
    pub config: Option<LegConfig>,
    /// How often it was configured.
    pub configured: usize,
    pub timeout: Option<Duration>,
    /// Both sides are to be heard.
    pub conversing: bool,
    pub bridged_to: Option<LegId>,
    /// The test line that answers on it.
    pub line: Option<ServedLine>,
    /// The tone that plays on it, and the leg whose voice ends it.
    pub tone: Option<Option<LegId>>,
    /// The call whose thread it was to go to.
    pub beside: Option<CallId>,
    /// The thread that has it.
    pub worker: usize,
    pub closed: bool,
}

/// The media path: how many ports there are, how long it takes, and what it was told.
pub struct MediaStub {
    pub free: usize,
    pub opens_after: Duration,
    pub closes_after: Option<Duration>,
    pub report: LegReport,
    pub legs: BTreeMap<LegId, MediaLeg>,
    /// Bridges ordered, repeated ones too.
    pub bridges: usize,
    /// The thread that the next call goes to, and those of the calls there are.
    pub worker: usize,
    pub homes: HashMap<CallId, usize>,
    /// Legs that were brought to another thread.
    pub moves: usize,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Line {
    pub at: Instant,
    /// True for what the gateway sent.
    pub sent: bool,
    pub far: SocketAddr,
    pub message: Message,
    pub ticket: u64,
    /// How the gateway sent it.
    pub to: Option<Peer>,
}

pub struct World {
    pub exchange: Exchange,
    pub now: Now,
    pub start: Instant,
    pub journal: JournalStub,
    pub media: MediaStub,
    pub trace: Vec<Line>,
    pub events: Vec<Event>,
    /// What the gateway keeps over a restart: stored and removed bindings by contact.
    pub bindings: Vec<String>,
    /// Certificates that were asked for.
    pub fetches: Vec<String>,
    /// Far ends over streams.
    pub streams: BTreeMap<SocketAddr, Stream>,
    /// Ports that streams came from: nobody listens there.
    ephemeral: Vec<SocketAddr>,
    agenda: BTreeMap<(Instant, u64), Input>,
    inboxes: HashMap<SocketAddr, VecDeque<Message>>,
    /// Far ends that nothing can be sent to.
    pub unreachable: Vec<SocketAddr>,
    forgotten: Vec<CallId>,
    pub muted: Vec<std::net::IpAddr>,
    numbers: u64,
    /// Named when a test fails: its seed.
    pub label: String,
}

impl World {
    pub fn new() -> World {
        World::with(|_| {})
    }

    /// A world with another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> World {
        let mut config = config();
        change(&mut config);
        World::seeded(config, 1)
    }

    pub fn seeded(config: Config, seed: u64) -> World {
        // 2026-01-05 12:00 UTC.
        let now = Now { instant: Instant::now(), unix_ms: 1_767_614_400_000 };
        let (directory, dialplan) = (directory(&config), dialplan(&config));
        let settings = Arc::new(Settings::new(config));
        let mut dice = Dice(seed);
        let parts = Parts {
            directory,
            dialplan,
            transactions: TransactionLayer::new(Timers::default(), Marks::new(seed.into())),
            challenger: Challenger::new([7; 32], &settings.sip.realm, settings.guard.nonce_lifetime),
            registrar: Registrar::new(settings.registrar_settings()),
            login_guard: LoginGuard::new(settings.guard_settings()),
            flood_guard: FloodGuard::new(settings.flood_settings()),
            random: Box::new(move |octets| dice.fill(octets)),
            settings,
        };
        let mut world = World {
            exchange: Exchange::new(parts, now),
            start: now.instant,
            now,
            journal: JournalStub {
                has_room: true,
                answer: Verdict::Durable(Duration::ZERO),
                end: Verdict::Durable(Duration::ZERO),
                written: Vec::new(),
                reserved: Vec::new(),
            },
            media: MediaStub {
                free: 1_000,
                opens_after: Duration::ZERO,
                closes_after: Some(Duration::ZERO),
                report: LegReport { packets_received: 50, ..LegReport::default() },
                legs: BTreeMap::new(),
                bridges: 0,
                worker: 0,
                homes: HashMap::new(),
                moves: 0,
            },
            trace: Vec::new(),
            events: Vec::new(),
            bindings: Vec::new(),
            fetches: Vec::new(),
            streams: BTreeMap::new(),
            ephemeral: Vec::new(),
            agenda: BTreeMap::new(),
            inboxes: HashMap::new(),
            unreachable: Vec::new(),
            forgotten: Vec::new(),
            muted: Vec::new(),
            numbers: 0,
            label: String::new(),
        };
        world.resolve();
        world
    }

    /// Tells the exchange where all configured trunks are.
    pub fn resolve(&mut self) {
        for trunk in self.exchange.settings().trunks.clone() {
            let target = |(place, proxy): (usize, &HostPort)| {
                let remote = SocketAddr::new(proxy.host.parse().unwrap(), proxy.port.unwrap_or(5060));
                let peer = Peer { transport: trunk.config.transport, ..peer(remote) };
                let rank = Rank { proxy: place as u16, ..Rank::default() };
                Target { host: proxy.clone(), peer, rank, weight: 0 }
            };
            let targets = trunk.config.proxy.iter().enumerate().map(target).collect();
            self.input(Input::TrunkResolved { trunk: trunk.name.clone(), targets });
        }
    }

    /// A number nobody had before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn phone_of(&self, user: &str) -> SocketAddr {
        match user {
            "alice" => ALICE,
            "bob" => BOB,
            "carol" => CAROL,
            other => panic!("nobody is called {other}"),
        }
        .parse()
        .unwrap()
    }

    /// The gateway gets an input and does all that follows at once.
    pub fn input(&mut self, input: Input) {
        self.exchange.handle_input(self.now, input);
        self.settle();
    }

    /// A message of a far end reaches the gateway.
    pub fn send(&mut self, at: SocketAddr, message: impl Into<Message>) {
        let input = self.arrival(at, message.into());
        self.input(input);
    }

    /// A message as it comes to the gateway from the wire.
    pub fn arrival(&mut self, at: SocketAddr, message: Message) -> Input {
        let message = parse(&message.to_bytes()).unwrap_or_else(|error| panic!("{error:?} in {message:?}"));
        let instant = self.now.instant;
        let line = Line { at: instant, sent: false, far: at, message: message.clone(), ticket: 0, to: None };
        self.trace.push(line);
        let (mut from, mut tls_names) = (peer(at), Vec::new());
        if let Some(stream) = self.streams.get(&at) {
            from.transport = stream.transport;
            from.connection = Some(stream.connection);
            from.remote = stream.from;
            tls_names.clone_from(&stream.tls_names);
        }
        Input::Sip { peer: from, message, tls_names: tls_names.into() }
    }

    /// The gateway gets an input at a later time.
    pub fn later(&mut self, after: Duration, due: Input) {
        let number = self.number();
        self.agenda.insert((self.now.instant + after, number), due);
    }

    /// Lets time pass, doing all that is due on the way.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now.instant + time;
        self.settle();
        while let Some(next) = self.next_due().filter(|next| *next <= until) {
            self.now = self.now.after(next.saturating_duration_since(self.now.instant));
            self.settle();
        }
        self.now = self.now.after(until - self.now.instant);
        self.settle();
    }

    /// When something happens next.
    pub fn next_due(&self) -> Option<Instant> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        agenda.into_iter().chain(self.exchange.poll_timeout()).min()
    }

    /// Does all that is due now.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.carry_out();
            let due =
                self.agenda.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= self.now.instant);
            if let Some(due) = due.and_then(|key| self.agenda.remove(&key)) {
                self.exchange.handle_input(self.now, due);
            } else if self.exchange.poll_timeout().is_some_and(|at| at <= self.now.instant) {
                self.exchange.handle_timeout(self.now);
            } else {
                return;
            }
        }
        panic!("the exchange makes no progress: due since {:?}", self.exchange.poll_timeout());
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.exchange.poll_output() {
            self.carry_out_one(output);
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Transmit { peer, bytes, ticket } => {
                let message = parse(&bytes).unwrap_or_else(|error| panic!("sent {error:?}: {bytes:?}"));
                let reached = self.reached(&peer);
                let (at, far, to) = (self.now.instant, reached.unwrap_or(peer.remote), Some(peer));
                self.trace.push(Line { at, sent: true, far, message: message.clone(), ticket, to });
                match reached {
                    Some(far) => self.inboxes.entry(far).or_default().push_back(message),
                    None => self.later(Duration::ZERO, Input::TransportFailed { ticket }),
                }
            }
            Output::Reserve { call } => {
                let reserved = self.journal.has_room;
                if reserved {
                    self.journal.reserved.push(call);
                }
                self.later(Duration::ZERO, Input::Reserved { call, reserved });
            }
            Output::OpenMedia { leg, beside, .. } => {
                let result = if self.media.free == 0 {
                    Err(PortsExhausted)
                } else {
                    self.media.free -= 1;
                    let rtp = 20_000 + 2 * self.media.legs.len() as u16;
                    let worker = *self.media.homes.entry(leg.call).or_insert(self.media.worker);
                    let media = MediaLeg { beside, worker, ..MediaLeg::default() };
                    assert!(self.media.legs.insert(leg, media).is_none(), "{leg} opened twice");
                    Ok(MediaPorts { rtp, rtcp: rtp + 1, worker })
                };
                self.later(self.media.opens_after, Input::MediaOpened { leg, result });
            }
            Output::ConfigureMedia { leg, config } => {
                let media = self.open_leg(leg);
                media.config = Some(*config);
                media.configured += 1;
            }
            Output::Bridge { caller, callee } => {
                self.media.bridges += 1;
                let home = self.open_leg(caller).worker;
                assert_eq!(self.open_leg(callee).worker, home, "no packet waits for another thread");
                self.open_leg(caller).bridged_to = Some(callee);
                self.open_leg(callee).bridged_to = Some(caller);
            }
            Output::Serve { leg, line } => {
                let media = self.open_leg(leg);
                assert!(media.config.is_some(), "a line without an agreed session");
                media.line = Some(line);
            }
            Output::PlayTone { leg, unless, .. } => {
                let media = self.open_leg(leg);
                assert!(media.config.is_some(), "a tone without an agreed session");
                media.tone = Some(unless);
            }
            Output::StopTone { leg } => self.open_leg(leg).tone = None,
            Output::MoveMedia { leg, beside } => {
                let home = self.open_leg(beside).worker;
                let media = self.open_leg(leg);
                assert_ne!(media.worker, home, "{leg} is there already");
                media.worker = home;
                self.media.moves += 1;
            }
            Output::SetMediaTimeout { leg, after } => self.open_leg(leg).timeout = after,
            Output::SetConversation { leg, on } => self.open_leg(leg).conversing = on,
            Output::ReportMedia { leg } => {
                self.open_leg(leg);
                let report = self.media.report.clone();
                self.later(Duration::ZERO, Input::MediaReport { leg, report });
            }
            Output::CloseMedia { leg } => {
                self.open_leg(leg).closed = true;
                self.media.free += 1;
                let report = self.media.report.clone();
                if let Some(after) = self.media.closes_after {
                    self.later(after, Input::MediaClosed { leg, report });
                }
            }
            Output::Record { call, record, wait } => {
                self.journal.written.push((self.now.instant, record));
                let Some(step) = wait else { return };
                let verdict = match step {
                    RecordStep::Answer => self.journal.answer,
                    RecordStep::End => self.journal.end,
                };
                match verdict {
                    Verdict::Durable(after) => {
                        self.later(after, Input::Recorded { call, step, durable: true });
                    }
                    Verdict::Fails => {
                        let failed = Input::Recorded { call, step, durable: false };
                        self.later(Duration::ZERO, failed);
                    }
                    Verdict::Hangs => {}
                }
            }
            Output::Forget { call } => self.forgotten.push(call),
            Output::FetchCertificate { url } => self.fetches.push(url),
            Output::BindingStored(binding) => {
                self.bindings.retain(|known| *known != binding.contact);
                self.bindings.push(binding.contact.clone());
            }
            Output::BindingRemoved { contact, .. } => self.bindings.retain(|known| *known != contact),
            Output::Mute { source } => self.muted.push(source),
            Output::Event(event) => self.events.push(event),
        }
    }

    /// A leg that the worker knows: orders for any other are a fault.
    fn open_leg(&mut self, leg: LegId) -> &mut MediaLeg {
        let media = self.media.legs.get_mut(&leg).unwrap_or_else(|| panic!("{leg} was never opened"));
        assert!(!media.closed, "{leg} is closed");
        media
    }

    /// The names of all that reached a far end since the last look.
    pub fn heard(&mut self, at: &str) -> Vec<String> {
        let inbox = self.inboxes.entry(at.parse().unwrap()).or_default();
        inbox.drain(..).map(|message| name(&message)).collect()
    }

    /// What a far end has not looked at yet.
    pub fn inbox(&mut self, at: SocketAddr) -> &mut VecDeque<Message> {
        self.inboxes.entry(at).or_default()
    }

    /// The next message at a far end.
    pub fn next(&mut self, at: SocketAddr) -> Option<Message> {
        self.inboxes.entry(at).or_default().pop_front()
    }

    /// The next message at a far end, which is this request.
    pub fn request(&mut self, at: SocketAddr, method: Method) -> Request {
        match self.next(at) {
            Some(Message::Request(request)) if request.method == method => request,
            other => panic!("{at} waits for {method} and gets {:?}", other.as_ref().map(name)),
        }
    }

    /// The next message at a far end, which is a response of this status; provisional ones before a final one are
    /// passed over.
    pub fn response(&mut self, at: SocketAddr, status: u16) -> Response {
        if status >= 200 {
            let inbox = self.inboxes.entry(at).or_default();
            while matches!(inbox.front(), Some(Message::Response(response)) if response.status < 200) {
                inbox.pop_front();
            }
        }
        match self.next(at) {
            Some(Message::Response(response)) if response.status == status => response,
            other => panic!("{at} waits for {status} and gets {:?}", other.as_ref().map(name)),
        }
    }

    pub fn any_response(&mut self, at: SocketAddr) -> Response {
        match self.next(at) {
            Some(Message::Response(response)) => response,
            other => panic!("{at} waits for a response and gets {:?}", other.as_ref().map(name)),
        }
    }

    /// The last request of a method that went to a far end, whether it was looked at or not.
    pub fn last_request(&self, at: SocketAddr, method: &Method) -> Request {
        let requests = self.trace.iter().rev().filter(|line| line.sent && line.far == at);
        requests
            .filter_map(|line| match &line.message {
                Message::Request(request) if request.method == *method => Some(request.clone()),
                Message::Request(_) | Message::Response(_) => None,
            })
            .next()
            .unwrap_or_else(|| panic!("{at} never got {method}"))
    }

    /// The last response of a status that went to a far end.
    pub fn last_response(&self, at: &str, status: u16) -> Response {
        let at: SocketAddr = at.parse().unwrap();
        let responses = self.trace.iter().rev().filter(|line| line.sent && line.far == at);
        responses
            .filter_map(|line| match &line.message {
                Message::Response(response) if response.status == status => Some(response.clone()),
                Message::Request(_) | Message::Response(_) => None,
            })
            .next()
            .unwrap_or_else(|| panic!("{at} never got {status}"))
    }

    /// Everything that reached far ends since the last look.
    pub fn everything(&mut self) -> Vec<(SocketAddr, Message)> {
        let mut all: Vec<(SocketAddr, Message)> = Vec::new();
        for (at, inbox) in &mut self.inboxes {
            all.extend(inbox.drain(..).map(|message| (*at, message)));
        }
        // The map has no order of its own; a seed must play the same piece each time.
        all.sort_by_key(|(at, _)| *at);
        all
    }

    /// When messages of this name went to a far end, in milliseconds after a moment.
    pub fn sent_times(&self, at: &str, what: &str, since: Instant) -> Vec<u128> {
        let at: SocketAddr = at.parse().unwrap();
        self.trace
            .iter()
            .filter(|line| line.sent && line.far == at && line.at >= since && name(&line.message) == what)
            .map(|line| (line.at - since).as_millis())
            .collect()
    }

    /// The only call.
    pub fn call(&self) -> &crate::call::machine::Call {
        let mut calls = self.exchange.calls();
        let call = calls.next().expect("a call");
        assert!(calls.next().is_none(), "one call");
        call
    }

    /// A leg of the only call at the media worker.
    pub fn leg(&self, index: u8) -> &MediaLeg {
        self.media
            .legs
            .iter()
            .find_map(|(leg, media)| (leg.index == index).then_some(media))
            .unwrap_or_else(|| panic!("leg {index} has no media"))
    }

    /// Runs all timers out, makes sure that nothing is left, and gives the only call's end.
    pub fn finish(&mut self) -> Cdr {
        self.finish_all();
        self.end()
    }

    /// As [`finish`](Self::finish) for any number of calls.
    pub fn finish_all(&mut self) {
        self.pass(secs(200));
        self.assert_nothing_left();
    }

    pub fn assert_nothing_left(&self) {
        let calls: Vec<_> = self.exchange.calls().map(|call| (call.phase(), call.poll_timeout())).collect();
        assert!(calls.is_empty(), "calls left: {calls:?}");
        assert_eq!(self.exchange.held(), 0, "things still held");
        assert_eq!(self.exchange.core.sip.active(), 0, "transactions left");
        for (side, view) in self.exchange.trunks().iter() {
            assert_eq!(view.channels_in_use, 0, "channels of {} left", side.settings.name);
        }
        let open: Vec<_> = self.media.legs.iter().filter(|(_, media)| !media.closed).collect();
        assert!(open.is_empty(), "media left open: {open:?}");
        let mut started: Vec<CallId> = Vec::new();
        for (_, record) in &self.journal.written {
            if let JournalRecord::Start(cdr) = record {
                assert!(!started.contains(&cdr.id), "two Start records of a call");
                started.push(cdr.id);
            }
        }
        let ended: Vec<CallId> = self.ends().iter().map(|cdr| cdr.id).collect();
        for call in &started {
            assert_eq!(ended.iter().filter(|ended| *ended == call).count(), 1, "one End record per call");
        }
        for call in &self.journal.reserved {
            assert_eq!(self.forgotten.iter().filter(|id| *id == call).count(), 1, "room is given back once");
        }
        let mut attempts: HashMap<(Option<Arc<str>>, Direction), i64> = HashMap::new();
        for event in &self.events {
            if let Event::AttemptStarted { trunk, direction } = event {
                *attempts.entry((trunk.clone(), *direction)).or_default() += 1;
            }
            if let Event::AttemptEnded { trunk, direction, .. } = event {
                let going = attempts.entry((trunk.clone(), *direction)).or_default();
                *going -= 1;
                assert!(*going >= 0, "an attempt ended that never began: {event:?}");
            }
        }
        assert!(attempts.values().all(|going| *going == 0), "attempts without an end: {attempts:?}");
        for call in &self.forgotten {
            let after = self.journal.written.iter().filter(|(_, record)| is_of(record, *call)).count();
            assert!(after > 0, "a call left no record at all");
        }
    }

    /// Why the only call ended.
    pub fn cause(&self) -> EndCause {
        self.end().end_cause.expect("an end has a cause")
    }
}

/// A far end over UDP on the default network.
pub fn peer(remote: SocketAddr) -> Peer {
    Peer {
        network: NetworkId(0),
        transport: Transport::Udp,
        remote,
        local: GATEWAY.parse().unwrap(),
        connection: None,
        tls_name: None,
    }
}

fn is_of(record: &JournalRecord, call: CallId) -> bool {
    match record {
        JournalRecord::Start(cdr)
        | JournalRecord::Answer(cdr)
        | JournalRecord::Interim(cdr)
        | JournalRecord::End(cdr) => cdr.id == call,
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Message {
        Message::Request(request)
    }
}

impl From<&Request> for Message {
    fn from(request: &Request) -> Message {
        Message::Request(request.clone())
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Message {
        Message::Response(response)
    }
}

/// Shows the whole conversation of a failed test.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("{}", self.label);
        for line in &self.trace {
            let arrow = if line.sent { "gateway →" } else { "gateway ←" };
            eprintln!(
                "{:>9.3} {arrow} {:<21} {}",
                (line.at - self.start).as_secs_f64(),
                line.far,
                name(&line.message)
            );
        }
    }
}
