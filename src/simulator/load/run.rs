//! Runs a load: callers and callees at both ends of a gateway, from the first INVITE to the report.

use super::cost::Cost;
use super::delay::{self, Delays};
use super::report::{Calls, Direction, GatewayCost, METHOD, Report, Spread};
use super::tape::{FRAME_MS, Tape};
use crate::simulator::SimulatorError;
use crate::simulator::agent::{AgentSettings, CallEvent, Manner};
use crate::simulator::io::endpoint::{
    Arrival, Endpoint, EndpointOptions, Session, SessionEvent, Visit, VoiceOptions,
};
use crate::simulator::io::media::MediaThreads;
use crate::simulator::phone::Server;
use crate::simulator::speech;
use crate::simulator::stream::{StreamOutcome, StreamPlan};
use crate::simulator::voice::Speech;
use crate::sip::auth::Credentials;
use crate::sip::io::{Listener, TlsSettings};
use crate::sip::message::Uri;
use crate::sip::transaction::Timers;
use crate::types::{AudioCodec, HostPort, NetworkId, Now, Peer, Secret, Transport};
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// What a load is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway, as app users reach it: `sip:HOST:PORT;transport=tcp` or `HOST:PORT`.
    pub server: String,
    /// Host part of the users' addresses; `None`: the server's.
    pub domain: Option<String>,
    pub user: String,
    pub password: Secret,
    /// So many users, named by `user` and a number from 1; `None`: `user` alone.
    pub users: Option<u32>,
    /// Where the gateway's trunk finds the called side.
    pub operator: SocketAddr,
    /// The number of the first call; each call dials the next one.
    pub number: u64,
    pub calls: usize,
    /// New calls a second.
    pub rate: f64,
    /// How long all calls stay up together.
    pub hold: Duration,
    /// The gateway's process.
    pub pid: Option<u32>,
    pub app_codec: AudioCodec,
    pub trunk_codec: AudioCodec,
    /// Calls whose delay is measured at most; the others only count packets.
    pub measured: usize,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many calls are up or have failed.
    SettingUp(usize),
    /// All calls are up since then.
    Holding(Duration),
    /// So many calls have ended.
    HangingUp(usize),
    Measuring,
}

/// A far end that answers nothing is given up by RFC 3261's Timer B, 32 s, and its refusal may follow others.
const PATIENCE: Duration = Duration::from_secs(40);
/// From our BYE to the last word of a call.
const FAREWELL: Duration = Duration::from_secs(10);
/// Calls end faster than they begin: a gateway must stand that, and nobody waits for it.
const END_RATE: f64 = 100.0;
const TICK: Duration = Duration::from_millis(100);
/// Called numbers are told apart by so many digits, whatever a trunk's format puts before them.
const TOLD_APART: u64 = 1_000_000_000;

/// What came of one end of a call.
#[derive(Debug, Default)]
struct End {
    /// Milliseconds from INVITE to 200, at the caller's end.
    setup_us: Option<u64>,
    failure: Option<String>,
    dropped: bool,
    media: StreamOutcome,
}

/// Runs a load to its end; `stop` ends it early, with what was found until then.
///
/// # Errors
/// What keeps it from starting. Calls that fail are in the report.
pub async fn run(
    options: Options,
    mut progress: impl FnMut(Progress),
    stop: impl Future<Output = ()>,
) -> Result<Report, SimulatorError> {
    if options.calls == 0 || !(options.rate > 0.0 && options.rate.is_finite()) {
        return Err(SimulatorError::Option("a load needs at least one call, and a rate above zero"));
    }
    let look = |pid| Cost::of(pid).map_err(|error| SimulatorError::Process { pid, error });
    let before = options.pid.map(look).transpose()?;
    let plans = Plans::new(&options)?;
    let media = MediaThreads::start(1).map_err(SimulatorError::Media)?;
    let callees = Callees::start(&options, &plans, &media).await?;
    let callers = Callers::start(&options, &media).await?;

    let mut stop = pin!(stop);
    let (up, mut ups) = mpsc::channel(options.calls);
    let (hang_up, hung_up) = watch::channel(0);
    let mut running = JoinSet::new();
    let mut decided = 0;
    let mut stopped = false;

    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / options.rate));
    // A tool that was held up goes on at the rate asked for: a burst would be a load nobody asked for.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while running.len() < options.calls && !stopped {
        tokio::select! {
            _ = pace.tick() => {
                let index = running.len();
                let call = callers.call(index, plans.of(index).app.clone(), &options);
                running.spawn(lead_caller(index, call, up.clone(), hung_up.clone()));
            }
            Some(()) = ups.recv() => decided += 1,
            () = &mut stop => stopped = true,
        }
        progress(Progress::SettingUp(decided));
    }
    let placed = running.len();
    let patience = Instant::now() + PATIENCE;
    while decided < placed && !stopped {
        tokio::select! {
            Some(()) = ups.recv() => decided += 1,
            () = tokio::time::sleep_until(patience) => break,
            () = &mut stop => stopped = true,
        }
        progress(Progress::SettingUp(decided));
    }

    let (held_from, held_at) = (Held::look(&options)?, Instant::now());
    let mut tick = tokio::time::interval(TICK);
    while held_at.elapsed() < options.hold && !stopped {
        tokio::select! {
            _ = tick.tick() => progress(Progress::Holding(held_at.elapsed())),
            () = &mut stop => stopped = true,
        }
    }
    let (held_to, held) = (Held::look(&options)?, held_at.elapsed());

    let mut ends: Vec<End> = (0..placed).map(|_| End::default()).collect();
    let end_at = Instant::now();
    let allowed = placed as f64 / options.rate.max(END_RATE);
    let mut done = 0;
    while !running.is_empty() && end_at.elapsed() < Duration::from_secs_f64(allowed) + FAREWELL {
        let due = (end_at.elapsed().as_secs_f64() * options.rate.max(END_RATE)) as usize + 1;
        hang_up.send_if_modified(|until| std::mem::replace(until, due.min(placed)) != due.min(placed));
        tokio::select! {
            _ = tick.tick() => {}
            Some(ended) = running.join_next() => {
                done += 1;
                if let Ok((index, end)) = ended {
                    ends[index] = end;
                }
            }
        }
        progress(Progress::HangingUp(done));
    }
    running.shutdown().await;
    callers.stop().await;
    let heard = callees.finish(placed).await;

    progress(Progress::Measuring);
    let cost = Costs { before, held_from, held_to, held };
    Ok(report(&options, &plans, ends, heard, cost))
}

/// What each call says and notes.
struct Plans {
    app_tape: Tape,
    trunk_tape: Tape,
    every: usize,
}

struct Plan {
    app: StreamPlan,
    trunk: StreamPlan,
}

impl Plans {
    fn new(options: &Options) -> Result<Plans, SimulatorError> {
        Ok(Plans {
            app_tape: Tape::record(&speech::caller(), options.app_codec)?,
            trunk_tape: Tape::record(&speech::callee(), options.trunk_codec)?,
            every: options.calls.div_ceil(options.measured.max(1)),
        })
    }

    fn is_measured(&self, index: usize) -> bool {
        index.is_multiple_of(self.every)
    }

    fn of(&self, index: usize) -> Plan {
        let measured = self.is_measured(index);
        let plan = |tape: &Tape| StreamPlan {
            speech: Some(Speech::Frames(tape.frames.clone())),
            early: true,
            record: measured,
            clock: measured,
            ..StreamPlan::default()
        };
        Plan { app: plan(&self.app_tape), trunk: plan(&self.trunk_tape) }
    }
}

fn voice(codec: AudioCodec) -> VoiceOptions {
    VoiceOptions { codecs: vec![codec], ptime_ms: FRAME_MS, ..VoiceOptions::default() }
}

fn agent(user: &str, domain: HostPort, credentials: Option<Credentials>) -> AgentSettings {
    AgentSettings {
        user: user.to_owned(),
        domain,
        credentials,
        guard: None,
        product: concat!("tandem-load/", env!("CARGO_PKG_VERSION")).to_owned(),
        manner: Manner::default(),
        timers: Timers::default(),
    }
}

/// The app users.
struct Callers {
    endpoints: Vec<Endpoint>,
    peers: Vec<Peer>,
    domain: HostPort,
}

impl Callers {
    async fn start(options: &Options, media: &MediaThreads) -> Result<Callers, SimulatorError> {
        let server = Server::resolve(&options.server).await?;
        let domain = options.domain.clone().unwrap_or_else(|| server.host.host.clone());
        let domain = HostPort { host: domain, port: None };
        let any: IpAddr = if server.address.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let names: Vec<String> = match options.users {
            Some(count) => (1..=count.max(1)).map(|n| format!("{}{n}", options.user)).collect(),
            None => vec![options.user.clone()],
        };
        let mut callers = Callers { endpoints: Vec::new(), peers: Vec::new(), domain };
        for user in names {
            let credentials = Credentials { user: user.clone(), password: options.password.clone() };
            let bind = SocketAddr::new(any, 0);
            let listen = match server.transport {
                Transport::Udp => vec![listener(Transport::Udp, bind)],
                Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => Vec::new(),
            };
            let (endpoint, _) = Endpoint::start(EndpointOptions {
                agent: agent(&user, callers.domain.clone(), Some(credentials)),
                listen,
                tls: TlsSettings::default(),
                media: media.clone(),
                voice: voice(options.app_codec),
                observer: None,
            })
            .await?;
            callers.peers.push(endpoint.peer(server.transport, server.address, server.tls_name()));
            callers.endpoints.push(endpoint);
        }
        Ok(callers)
    }

    /// Places a call; nothing happens before the future runs.
    fn call(
        &self,
        index: usize,
        plan: StreamPlan,
        options: &Options,
    ) -> impl Future<Output = Result<Session, SimulatorError>> + use<> {
        let at = index % self.endpoints.len();
        let (endpoint, peer) = (self.endpoints[at].clone(), self.peers[at].clone());
        let number = format!("+{}", options.number + index as u64);
        let to = Uri::sip(Some(&number), self.domain.clone());
        async move { endpoint.call(peer, to, None, plan).await }
    }

    async fn stop(self) {
        for endpoint in self.endpoints {
            endpoint.stop().await;
        }
    }
}

fn listener(transport: Transport, bind: SocketAddr) -> Listener {
    Listener { transport, bind, network: NetworkId::default() }
}

/// Leads one call from its INVITE to its last packet.
async fn lead_caller(
    index: usize,
    call: impl Future<Output = Result<Session, SimulatorError>>,
    up: mpsc::Sender<()>,
    mut hung_up: watch::Receiver<usize>,
) -> (usize, End) {
    let started = Now::read();
    let mut end = End::default();
    let mut session = match call.await {
        Ok(session) => session,
        Err(error) => {
            end.failure = Some(error.to_string());
            let _ = up.send(()).await;
            return (index, end);
        }
    };
    let mut leaving = false;
    loop {
        let event = tokio::select! {
            event = session.next() => event,
            _ = hung_up.wait_for(|until| *until > index), if !leaving => {
                leaving = true;
                session.hang_up(480);
                continue;
            }
        };
        match event {
            Some(SessionEvent::Call(CallEvent::Answered { .. }, at)) => {
                let setup = at.instant.saturating_duration_since(started.instant);
                end.setup_us = Some(setup.as_micros() as u64);
                let _ = up.send(()).await;
            }
            Some(SessionEvent::Call(CallEvent::Ended(ending), _)) => match end.setup_us {
                Some(_) => end.dropped = !leaving,
                None => {
                    end.failure = Some(format!("{} {}", ending.status, ending.phrase));
                    let _ = up.send(()).await;
                }
            },
            Some(SessionEvent::Call(_, _)) => {}
            Some(SessionEvent::Media(media)) => {
                end.media = *media;
                return (index, end);
            }
            None => return (index, end),
        }
    }
}

/// The called side.
struct Callees {
    endpoint: Endpoint,
    ended: mpsc::Receiver<(usize, StreamOutcome)>,
}

impl Callees {
    async fn start(
        options: &Options,
        plans: &Plans,
        media: &MediaThreads,
    ) -> Result<Callees, SimulatorError> {
        let transports = [Transport::Udp, Transport::Tcp];
        let (endpoint, mut visits) = Endpoint::start(EndpointOptions {
            agent: agent("", HostPort::from(options.operator), None),
            listen: transports.into_iter().map(|transport| listener(transport, options.operator)).collect(),
            tls: TlsSettings::default(),
            media: media.clone(),
            voice: voice(options.trunk_codec),
            observer: None,
        })
        .await?;
        let (tell, ended) = mpsc::channel(options.calls);
        let (first, calls, codec) = (options.number, options.calls, options.trunk_codec);
        let plans: Vec<StreamPlan> = (0..calls).map(|index| plans.of(index).trunk).collect();
        tokio::spawn(async move {
            while let Some(visit) = visits.recv().await {
                match visit {
                    Visit::Call(arrival) => {
                        let called = arrival.incoming.uri.subscriber();
                        let Some(index) = index_of(&called, first).filter(|index| *index < calls) else {
                            arrival.session.reject(404, Vec::new());
                            continue;
                        };
                        tokio::spawn(lead_callee(index, *arrival, plans[index].clone(), codec, tell.clone()));
                    }
                    Visit::Binding(_) => {}
                }
            }
        });
        Ok(Callees { endpoint, ended })
    }

    /// What the called side heard of each call, once its calls have ended or it is too late.
    async fn finish(mut self, calls: usize) -> HashMap<usize, StreamOutcome> {
        let mut heard = HashMap::new();
        let deadline = Instant::now() + FAREWELL;
        while heard.len() < calls {
            match tokio::time::timeout_at(deadline, self.ended.recv()).await {
                Ok(Some((index, outcome))) => drop(heard.insert(index, outcome)),
                Ok(None) | Err(_) => break,
            }
        }
        self.endpoint.stop().await;
        heard
    }
}

/// Which call a called number belongs to.
fn index_of(called: &str, first: u64) -> Option<usize> {
    let digits: String = called.chars().filter(char::is_ascii_digit).collect();
    let tail = digits.get(digits.len().saturating_sub(9)..)?;
    let number: u64 = tail.parse().ok()?;
    usize::try_from((number + TOLD_APART - first % TOLD_APART) % TOLD_APART).ok()
}

/// Answers one call and leads it to its end. A call that fails is the caller's to report.
async fn lead_callee(
    index: usize,
    arrival: Arrival,
    plan: StreamPlan,
    codec: AudioCodec,
    ended: mpsc::Sender<(usize, StreamOutcome)>,
) {
    let mut session = arrival.session;
    if session.prepare(plan, voice(codec)).await.is_ok() {
        session.progress(180, false);
        session.answer();
    }
    while let Some(event) = session.next().await {
        match event {
            SessionEvent::Call(_, _) => {}
            SessionEvent::Media(media) => {
                let _ = ended.send((index, *media)).await;
            }
        }
    }
}

/// One look at the gateway and at ourselves.
struct Held {
    gateway: Option<Cost>,
    own: Option<Cost>,
}

impl Held {
    fn look(options: &Options) -> Result<Held, SimulatorError> {
        let look = |pid| Cost::of(pid).map_err(|error| SimulatorError::Process { pid, error });
        Ok(Held { gateway: options.pid.map(look).transpose()?, own: Cost::of(std::process::id()).ok() })
    }
}

struct Costs {
    before: Option<Cost>,
    held_from: Held,
    held_to: Held,
    held: Duration,
}

fn report(
    options: &Options,
    plans: &Plans,
    mut ends: Vec<End>,
    mut heard: HashMap<usize, StreamOutcome>,
    cost: Costs,
) -> Report {
    let mut calls = Calls { asked: options.calls, ..Calls::default() };
    for end in &mut ends {
        match (&end.setup_us, &end.failure) {
            (Some(_), _) => calls.set_up += 1,
            (None, failure) => {
                calls.failed += 1;
                let why = failure.clone().unwrap_or_else(|| "never answered".to_owned());
                *calls.failures.entry(why).or_default() += 1;
            }
        }
        calls.dropped += usize::from(end.dropped);
    }
    calls.held_seconds = cost.held.as_secs_f64();
    calls.setup_ms = Spread::of(ends.iter().filter_map(|end| end.setup_us));

    let mut ways = [Way::default(), Way::default()];
    for (index, end) in ends.iter().enumerate() {
        let callee = heard.remove(&index).unwrap_or_default();
        let [to_trunk, to_app] = &mut ways;
        let measured = plans.is_measured(index);
        to_trunk.add(measured.then_some(&plans.app_tape), &end.media, &callee);
        to_app.add(measured.then_some(&plans.trunk_tape), &callee, &end.media);
    }
    let [app_to_trunk, trunk_to_app] = ways.map(Way::finish);
    let call_seconds = calls.set_up.saturating_sub(calls.dropped) as f64 * cost.held.as_secs_f64();
    let per_call_second = |cpu: f64| (call_seconds > 0.0).then(|| cpu * 1_000.0 / call_seconds);
    let cpu = |from: &Cost, to: &Cost| to.cpu.saturating_sub(from.cpu).as_secs_f64();
    let gateway = match (options.pid, cost.before, cost.held_from.gateway, cost.held_to.gateway) {
        (Some(pid), Some(before), Some(from), Some(to)) => Some(GatewayCost {
            pid,
            cpu_seconds: cpu(&from, &to),
            cpu_ms_per_call_second: per_call_second(cpu(&from, &to)),
            memory_before_kib: before.memory / 1_024,
            memory_held_kib: to.memory / 1_024,
            memory_kib_per_call: (calls.set_up > 0)
                .then(|| (to.memory as f64 - before.memory as f64) / 1_024.0 / calls.set_up as f64),
        }),
        _ => None,
    };
    let own = cost.held_from.own.zip(cost.held_to.own);
    Report {
        calls,
        app_to_trunk,
        trunk_to_app,
        gateway,
        own_cpu_ms_per_call_second: own.and_then(|(from, to)| per_call_second(cpu(&from, &to))),
        method: METHOD,
    }
}

/// One direction, as it is added up.
#[derive(Default)]
struct Way {
    direction: Direction,
    packet: Vec<u32>,
    content: Vec<u32>,
}

impl Way {
    fn add(&mut self, tape: Option<&Tape>, sender: &StreamOutcome, receiver: &StreamOutcome) {
        let way = &mut self.direction;
        way.packets_sent += sender.report.packets_sent;
        way.packets_received += receiver.report.packets_received;
        way.packets_lost += receiver.report.packets_lost;
        way.calls_heard += usize::from(receiver.report.packets_received > 0);
        if let Some(tape) = tape {
            let Delays { packet, content, recognised, unrecognised } = delay::measure(tape, sender, receiver);
            way.calls_measured += usize::from(recognised > 0);
            way.unrecognised += unrecognised;
            self.packet.extend(packet);
            self.content.extend(content);
        }
    }

    fn finish(self) -> Direction {
        let Way { mut direction, packet, content } = self;
        let expected = direction.packets_received + direction.packets_lost;
        direction.loss_ratio = (expected > 0).then(|| direction.packets_lost as f64 / expected as f64);
        direction.packet_delay_ms = Spread::of(packet.into_iter().map(u64::from));
        direction.content_delay_ms = Spread::of(content.into_iter().map(u64::from));
        direction
    }
}
