//! The operator as one machine: treats calls that come in, places calls, and closes each with a ledger entry.

mod acts;

use super::interconnect::Interconnect;
use super::ledger::{Entry, Media, ReleasedBy, Side};
use super::treatment::{Decision, Progress, Treatment};
use crate::sdp::{Capability, Negotiated, OpusParams, SrtpPolicy};
use crate::simulator::agent::{
    Admission, AgentSettings, CallEvent, CallHandle, Demand, Doorkeeper, Guard, Incoming, Invitation, Manner,
    Output as Act, Random, UserAgent,
};
use crate::sip::message::{Message, Method, NameAddr, Request, Uri};
use crate::sip::transaction::Timers;
use crate::types::{AudioCodec, HostPort, Now, Peer, Secret};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What the operator is like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For calls whose number asks for nothing special.
    pub treatment: Treatment,
    /// Whether the end of a called number may ask for a treatment.
    pub by_number: bool,
    /// Best first.
    pub codecs: Vec<AudioCodec>,
    /// What a challenge demands.
    pub user: String,
    pub password: Secret,
    pub realm: String,
    /// Registrations are challenged too.
    pub guard_registrations: bool,
    /// The kind of interconnect that is played; `None`: plain SIP.
    pub interconnect: Option<&'static Interconnect>,
    /// The host that calls towards such an interconnect have in From, where that is agreed.
    pub from_host: Option<String>,
    pub timers: Timers,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            treatment: Treatment::default(),
            by_number: true,
            codecs: vec![AudioCodec::Pcma, AudioCodec::Pcmu],
            user: "tandem".to_owned(),
            password: Secret::new("tandem"),
            realm: "operator.example".to_owned(),
            guard_registrations: false,
            interconnect: None,
            from_host: None,
            timers: Timers::default(),
        }
    }
}

/// The ledger's word for calls of our own.
pub const PLACED: &str = "placed";

/// Names one call of the operator, from its INVITE to its ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line(pub u64);

/// What the operator says into a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// The tone of early media.
    Ringback,
    Speech,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Output {
    /// Send; a failure comes back by the ticket.
    Transmit { peer: Peer, bytes: Bytes, ticket: u64 },
    /// Open a socket for media at this address, and tell by [`Operator::media_opened`].
    /// `mute`: nothing is sent on it.
    OpenMedia { line: Line, local: IpAddr, mute: bool },
    /// Send and hear by what was agreed from now on. May come again for the same line.
    StartMedia { line: Line, agreed: Box<Negotiated>, say: Say },
    /// Stop, and tell what was heard by [`Operator::media_closed`].
    CloseMedia { line: Line },
    /// A call is over.
    Ledger(Box<Entry>),
    /// The gateway was asked whether it lives, and said this.
    Alive { status: u16 },
    /// The gateway asked whether we live, and is reached there.
    Polled { peer: Peer },
    /// The gateway registered, and is reached there.
    Registration { user: String, contact: Uri, expires: u32, peer: Peer },
}

/// A call to place.
#[derive(Debug, Clone)]
pub struct Order {
    pub peer: Peer,
    /// Where the call goes: a DID at the gateway.
    pub to: Uri,
    /// The number it comes from.
    pub from: String,
    /// The caller does not want to be shown.
    pub withheld: bool,
    /// Hang up so long after the answer; `None`: the far end does.
    pub talk: Option<Duration>,
    /// Give up so long after the INVITE without an answer.
    pub patience: Duration,
}

/// Where a line stands.
#[derive(Debug)]
enum Stage {
    /// The media socket is being opened.
    Opening(Begin),
    /// Nothing was said yet; the first word follows at that time.
    Waiting {
        at: Instant,
    },
    /// It rings here; the decision falls at that time, or never.
    Deciding {
        at: Option<Instant>,
    },
    /// It rings there.
    Calling {
        give_up_at: Instant,
    },
    Talking {
        hang_up_at: Option<Instant>,
    },
    /// Over; what was heard is still to come.
    Closing,
}

#[derive(Debug)]
enum Begin {
    Treat,
    Place(Box<Order>),
}

#[derive(Debug)]
struct Call {
    handle: Option<CallHandle>,
    stage: Stage,
    treatment: Treatment,
    talk: Option<Duration>,
    /// What we call ourselves there.
    local: SocketAddr,
    started: Instant,
    answered: Option<Instant>,
    released: Option<Instant>,
    has_media: bool,
    entry: Entry,
}

/// The operator with all its calls.
pub struct Operator {
    settings: Settings,
    agent: UserAgent,
    calls: BTreeMap<Line, Call>,
    lines: HashMap<CallHandle, Line>,
    /// Calls that never got a word, until the far end has surely given up.
    ignored: VecDeque<(Instant, CallHandle)>,
    outputs: VecDeque<Output>,
    last_line: u64,
}

impl Operator {
    /// `local` is the host part of our identity; `random` serves tags, branches, Call-IDs and keys.
    pub fn new(settings: Settings, local: HostPort, random: Random) -> Operator {
        let agent = UserAgent::new(agent_settings(&settings, local), random)
            .without_ladder()
            .with_doorkeeper(doorkeeper(settings.clone()));
        Operator {
            settings,
            agent,
            calls: BTreeMap::new(),
            lines: HashMap::new(),
            ignored: VecDeque::new(),
            outputs: VecDeque::new(),
            last_line: 0,
        }
    }

    pub fn handle_message(&mut self, now: Now, peer: Peer, message: Message) {
        self.agent.handle_message(now, peer, message);
        self.drain(now);
    }

    pub fn handle_transport_failure(&mut self, now: Now, ticket: u64) {
        self.agent.handle_transport_failure(now, ticket);
        self.drain(now);
    }

    /// A datagram came back as undeliverable; `quoted` is how it began.
    pub fn handle_undelivered(&mut self, now: Now, remote: SocketAddr, quoted: &[u8]) {
        self.agent.handle_undelivered(now, remote, quoted);
        self.drain(now);
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.agent.handle_timeout(now);
        self.drain(now);
        let due: Vec<Line> = self
            .calls
            .iter()
            .filter(|(_, call)| call.deadline().is_some_and(|at| at <= now.instant))
            .map(|(line, _)| *line)
            .collect();
        for line in due {
            self.act(now, line);
        }
        while let Some((_, handle)) = self.ignored.pop_front_if(|(until, _)| *until <= now.instant) {
            self.agent.ignore(handle);
        }
        self.drain(now);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(Call::deadline).min();
        let ignored = self.ignored.front().map(|(until, _)| *until);
        [self.agent.poll_timeout(), calls, ignored].into_iter().flatten().min()
    }

    /// Calls without a ledger entry yet.
    pub fn active_calls(&self) -> usize {
        self.calls.len()
    }

    /// Places a call.
    pub fn place(&mut self, now: Now, order: Order) -> Line {
        let entry = Entry {
            side: Side::Caller,
            transport: order.peer.transport.as_str().to_owned(),
            calling: order.from.clone(),
            called: order.to.user().to_owned(),
            treatment: PLACED.to_owned(),
            ..blank(now)
        };
        let treatment = Treatment { talk: order.talk, ..Treatment::default() };
        let local = order.peer.local;
        self.open(now, None, treatment, entry, Begin::Place(Box::new(order)), local)
    }

    /// The media socket of a line is open at `address`, or could not be opened.
    pub fn media_opened(&mut self, now: Now, line: Line, address: Option<SocketAddr>) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        let Stage::Opening(begin) = std::mem::replace(&mut call.stage, Stage::Closing) else { return };
        call.has_media = address.is_some();
        let capability = address.map(|address| capability(&self.settings, address));
        match (begin, capability) {
            (Begin::Treat, Some(capability)) => self.treat(now, line, capability),
            (Begin::Treat, None) => {
                if let Some(handle) = call.handle {
                    self.agent.reject(now, handle, 500, &[]);
                }
            }
            (Begin::Place(order), Some(capability)) => {
                call.stage = Stage::Calling { give_up_at: now.instant + order.patience };
                let host = HostPort::from(order.peer.local);
                let fields = self.settings.interconnect.map_or_else(Vec::new, |interconnect| {
                    interconnect.fields(&order.from, &host, &format!("{line:?}"), order.withheld)
                });
                let from = if order.withheld {
                    // RFC 3323 §4.1.1.3.
                    let nowhere = HostPort { host: "anonymous.invalid".to_owned(), port: None };
                    Uri::sip(Some("anonymous"), nowhere)
                } else {
                    Uri::sip(Some(&order.from), host)
                };
                let from = Some(NameAddr::new(from));
                let invitation = Invitation { peer: order.peer, to: order.to, from, fields };
                let handle = self.agent.call(now, invitation, capability);
                if let Some(call) = self.calls.get_mut(&line) {
                    call.handle = Some(handle);
                    call.entry.call_id = self.agent.call_id(handle).unwrap_or_default().to_owned();
                }
                self.lines.insert(handle, line);
            }
            (Begin::Place(_), None) => {
                call.entry.reason = Some("no port for media".to_owned());
                self.close(now, line);
            }
        }
        self.drain(now);
    }

    /// The media of a line is closed; this is what passed.
    pub fn media_closed(&mut self, line: Line, media: Media, recording: Option<String>) {
        if let Some(mut call) = self.calls.remove(&line) {
            call.entry.media = media;
            call.entry.recording = recording;
            self.outputs.push_back(Output::Ledger(Box::new(call.entry)));
        }
    }

    /// Nothing has been heard on a line for too long: it is hung up.
    pub fn media_lost(&mut self, now: Now, line: Line) {
        let Some(call) = self.calls.get_mut(&line) else { return };
        if matches!(call.stage, Stage::Talking { .. }) {
            call.entry.reason.get_or_insert_with(|| "no media".to_owned());
            self.hang_up(now, line);
            self.drain(now);
        }
    }

    /// Ends every call; their entries follow.
    pub fn stop(&mut self, now: Now) {
        let lines: Vec<Line> = self.calls.keys().copied().collect();
        for line in lines {
            if let Some(call) = self.calls.get_mut(&line)
                && !matches!(call.stage, Stage::Closing)
            {
                call.entry.reason.get_or_insert_with(|| "operator stopped".to_owned());
                self.hang_up(now, line);
            }
        }
        self.drain(now);
    }

    /// Closes what is still open without waiting for the far ends.
    pub fn abandon(&mut self, now: Now) {
        let lines: Vec<Line> = self.calls.keys().copied().collect();
        for line in lines {
            self.close(now, line);
        }
    }

    fn drain(&mut self, now: Now) {
        while let Some(act) = self.agent.poll_output() {
            match act {
                Act::Transmit { peer, bytes, ticket } => {
                    self.outputs.push_back(Output::Transmit { peer, bytes, ticket });
                }
                Act::Call { handle, event } => self.on_event(now, handle, event),
                Act::Registration { user, contact, expires, peer } => {
                    self.outputs.push_back(Output::Registration { user, contact, expires, peer });
                }
                Act::Polled { peer } => {
                    if self.settings.interconnect.is_some_and(|interconnect| interconnect.asks_back) {
                        self.agent.ask_alive(now, peer.clone());
                    }
                    self.outputs.push_back(Output::Polled { peer });
                }
                Act::Alive { status } => self.outputs.push_back(Output::Alive { status }),
                Act::Registered { .. } | Act::Ladder(_) => {}
            }
        }
    }

    fn on_event(&mut self, now: Now, handle: CallHandle, event: CallEvent) {
        let line = self.lines.get(&handle).copied();
        match (event, line) {
            (CallEvent::Incoming(incoming), _) => self.on_incoming(now, handle, *incoming),
            (CallEvent::Progress { status, phrase: _, media }, Some(line)) => {
                let Some(call) = self.calls.get_mut(&line) else { return };
                if matches!(status, 180 | 183) {
                    call.entry.ringing_at.get_or_insert(now.unix_ms);
                }
                if let Some(agreed) = media {
                    let say = match call.entry.side {
                        Side::Callee => Say::Ringback,
                        Side::Caller => Say::Speech,
                    };
                    call.entry.codec = Some(agreed.codec);
                    self.outputs.push_back(Output::StartMedia { line, agreed, say });
                }
            }
            (CallEvent::Answered { media: agreed }, Some(line)) => {
                let Some(call) = self.calls.get_mut(&line) else { return };
                call.note_answer(now);
                call.entry.codec = Some(agreed.codec);
                self.outputs.push_back(Output::StartMedia { line, agreed, say: Say::Speech });
            }
            (CallEvent::Updated { media: agreed, by_us: _ }, Some(line)) => {
                self.outputs.push_back(Output::StartMedia { line, agreed, say: Say::Speech });
            }
            (CallEvent::Acknowledged, Some(line)) => {
                if let Some(call) = self.calls.get_mut(&line) {
                    call.entry.acknowledged = true;
                }
            }
            (CallEvent::Ended(ending), Some(line)) => self.on_ended(now, line, ending),
            (
                CallEvent::Progress { .. }
                | CallEvent::Answered { .. }
                | CallEvent::Updated { .. }
                | CallEvent::UpdateRefused { .. }
                | CallEvent::Acknowledged
                | CallEvent::Ended(_),
                _,
            ) => {}
        }
    }

    fn on_incoming(&mut self, now: Now, handle: CallHandle, incoming: Incoming) {
        let mut treatment = treatment_of(&self.settings, &incoming.uri);
        let host = self.settings.from_host.as_deref();
        let unfit =
            self.settings.interconnect.and_then(|interconnect| interconnect.refusal(&incoming.request, host));
        if let Some((status, _)) = &unfit {
            treatment = Treatment::refuse(*status);
        }
        let entry = Entry {
            side: Side::Callee,
            call_id: incoming.call_id,
            transport: incoming.peer.transport.as_str().to_owned(),
            calling: incoming.asserted.unwrap_or_else(|| incoming.from.uri.user().to_owned()),
            called: incoming.uri.user().to_owned(),
            treatment: treatment.name.clone(),
            reason: unfit.map(|(_, why)| why),
            ..blank(now)
        };
        self.agent.set_quirks(handle, treatment.quirks.clone());
        let refusal = match treatment.decision {
            Decision::Refuse { status, retry_after } if treatment.after.is_zero() => {
                Some((status, retry_after))
            }
            Decision::Refuse { .. } | Decision::Answer | Decision::Never => None,
        };
        if treatment.progress == Progress::Silent || refusal.is_some() {
            let line = self.insert(
                now,
                Some(handle),
                treatment,
                entry,
                Stage::Deciding { at: None },
                incoming.peer.local,
            );
            match refusal {
                Some((status, retry_after)) => self.refuse(now, line, status, retry_after),
                // Nothing more will be known of a call that never gets a word.
                None => {
                    self.close(now, line);
                    self.ignored.push_back((now.instant + self.settings.timers.life(), handle));
                }
            }
            return;
        }
        self.open(now, Some(handle), treatment, entry, Begin::Treat, incoming.peer.local);
    }

    fn open(
        &mut self,
        now: Now,
        handle: Option<CallHandle>,
        treatment: Treatment,
        entry: Entry,
        begin: Begin,
        local: SocketAddr,
    ) -> Line {
        let mute = treatment.mute;
        let line = self.insert(now, handle, treatment, entry, Stage::Opening(begin), local);
        self.outputs.push_back(Output::OpenMedia { line, local: local.ip(), mute });
        line
    }

    fn insert(
        &mut self,
        now: Now,
        handle: Option<CallHandle>,
        treatment: Treatment,
        entry: Entry,
        stage: Stage,
        local: SocketAddr,
    ) -> Line {
        self.last_line += 1;
        let line = Line(self.last_line);
        if let Some(handle) = handle {
            self.lines.insert(handle, line);
        }
        let call = Call {
            handle,
            stage,
            talk: treatment.talk,
            treatment,
            local,
            started: now.instant,
            answered: None,
            released: None,
            has_media: false,
            entry: Entry { call: line.0, ..entry },
        };
        self.calls.insert(line, call);
        line
    }
}

impl Call {
    fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting { at } => Some(*at),
            Stage::Deciding { at } => *at,
            Stage::Calling { give_up_at } => Some(*give_up_at),
            Stage::Talking { hang_up_at } => *hang_up_at,
            Stage::Opening(_) | Stage::Closing => None,
        }
    }

    fn note_answer(&mut self, now: Now) {
        if self.answered.is_none() {
            self.stage = Stage::Talking { hang_up_at: self.talk.map(|talk| now.instant + talk) };
            self.answered = Some(now.instant);
            self.entry.answered_at = Some(now.unix_ms);
            self.entry.setup_ms =
                Some(now.instant.saturating_duration_since(self.started).as_millis() as u64);
            self.entry.status = 200;
        }
    }
}

/// What a line can do with media: as its kind of interconnect wants it, or as plain as it gets.
fn capability(settings: &Settings, address: SocketAddr) -> Capability {
    let secure = settings.interconnect.is_some_and(|interconnect| interconnect.secure);
    Capability {
        codecs: settings.codecs.clone(),
        // What an app's network asks for; a telephone has no use for it.
        opus: OpusParams { max_average_bitrate: 20_000, max_playback_rate: 16_000, ..OpusParams::default() },
        srtp: if secure { SrtpPolicy::Sdes } else { SrtpPolicy::Off },
        ..Capability::new(address)
    }
}

fn blank(now: Now) -> Entry {
    Entry {
        call: 0,
        side: Side::Callee,
        call_id: String::new(),
        transport: String::new(),
        calling: String::new(),
        called: String::new(),
        treatment: String::new(),
        started_at: now.unix_ms,
        ringing_at: None,
        answered_at: None,
        released_at: now.unix_ms,
        setup_ms: None,
        duration_ms: 0,
        status: 0,
        released_by: ReleasedBy::Nobody,
        reason: None,
        acknowledged: false,
        codec: None,
        media: Media::default(),
        recording: None,
    }
}

fn treatment_of(settings: &Settings, called: &Uri) -> Treatment {
    let asked = settings.by_number.then(|| Treatment::of_number(&called.subscriber())).flatten();
    asked.unwrap_or_else(|| settings.treatment.clone())
}

/// The agent under the operator. It never says 100 by itself: whether the far end hears of its call at all is the
/// treatment's to decide.
fn agent_settings(settings: &Settings, local: HostPort) -> AgentSettings {
    let never = settings.timers.life() * 100;
    AgentSettings {
        user: String::new(),
        domain: local,
        credentials: None,
        guard: Some(Guard {
            realm: settings.realm.clone(),
            user: settings.user.clone(),
            password: settings.password.clone(),
        }),
        product: "tandem-operator".to_owned(),
        manner: settings.interconnect.map_or_else(Manner::default, |interconnect| interconnect.manner()),
        timers: Timers { trying: never, ..settings.timers },
    }
}

/// Who must prove what, and who gets no answer.
fn doorkeeper(settings: Settings) -> Doorkeeper {
    Box::new(move |request: &Request| {
        let dead = settings.treatment.progress == Progress::Silent;
        let challenge = if request.method == Method::Invite {
            treatment_of(&settings, &request.uri).challenge
        } else if request.method == Method::Register && settings.guard_registrations {
            Some(Demand::Server)
        } else {
            None
        };
        match challenge {
            Some(demand) => Admission::Challenge(demand),
            // A dead operator hears calls, so that its ledger has them; it is silent to all else.
            None if dead && request.method != Method::Invite => Admission::Ignore,
            None => Admission::Admit,
        }
    })
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
