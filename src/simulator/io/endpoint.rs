//! Runs one user agent: its sockets, its clock, its media; gives each call a handle to steer and to listen to.

use super::media::{MediaThreads, StreamId, StreamSockets};
use super::{random, stream_seed};
use crate::sdp::{Capability, OpusParams, SrtpPolicy};
use crate::simulator::SimulatorError;
use crate::simulator::agent::{
    AgentSettings, CallEvent, CallHandle, Incoming, Invitation, LadderStep, Output, Quirks, UserAgent,
};
use crate::simulator::stream::{StreamOutcome, StreamPlan};
use crate::sip::io::{Listener, TlsSettings, TransportEvent, TransportSettings, Transports};
use crate::sip::message::{HeaderName, NameAddr, Uri};
use crate::types::{AudioCodec, MediaDirection, NetworkId, Now, Peer, SrtpSuite, Transport};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Gets every message that passes.
pub type Observer = Arc<dyn Fn(&LadderStep) + Send + Sync>;

/// Messages that may wait to be handled.
const INBOX: usize = 4_096;

/// What an endpoint is made of.
pub struct EndpointOptions {
    pub agent: AgentSettings,
    pub listen: Vec<Listener>,
    pub tls: TlsSettings,
    pub media: MediaThreads,
    pub voice: VoiceOptions,
    /// `None`: messages are not shown to anybody, which saves work under load.
    pub observer: Option<Observer>,
}

/// What an endpoint offers and accepts.
#[derive(Debug, Clone)]
pub struct VoiceOptions {
    /// Best first.
    pub codecs: Vec<AudioCodec>,
    pub opus: OpusParams,
    pub srtp: SrtpPolicy,
    pub ptime_ms: u8,
    pub dtmf: bool,
    /// Where media is received; `None`: at the address the signalling has.
    pub media_ip: Option<IpAddr>,
}

impl Default for VoiceOptions {
    fn default() -> VoiceOptions {
        VoiceOptions {
            codecs: vec![AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu],
            opus: OpusParams::default(),
            srtp: SrtpPolicy::Off,
            ptime_ms: 20,
            dtmf: true,
            media_ip: None,
        }
    }
}

/// What came of a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RegisterOutcome {
    pub status: u16,
    pub phrase: String,
    /// Seconds granted.
    pub expires: u32,
    /// From the first REGISTER to the final answer.
    pub took_ms: u32,
}

/// What a session tells.
#[derive(Debug)]
pub enum SessionEvent {
    Call(CallEvent, Now),
    /// The last one: what the media found out.
    Media(Box<StreamOutcome>),
}

/// A call that came in.
#[derive(Debug)]
pub struct Arrival {
    pub incoming: Incoming,
    pub at: Now,
    pub session: Session,
}

/// Somebody registered here.
#[derive(Debug, Clone)]
pub struct Binding {
    pub user: String,
    pub contact: Uri,
    /// Seconds; 0 takes it back.
    pub expires: u32,
    pub peer: Peer,
}

/// What comes to an endpoint unasked.
#[derive(Debug)]
pub enum Visit {
    Call(Box<Arrival>),
    Binding(Box<Binding>),
}

enum Command {
    Register {
        peer: Peer,
        registrar: Uri,
        expires: u32,
        reply: oneshot::Sender<RegisterOutcome>,
    },
    Unregister {
        reply: oneshot::Sender<RegisterOutcome>,
    },
    Call {
        invitation: Box<Invitation>,
        plan: Box<StreamPlan>,
        reply: oneshot::Sender<Result<Session, SimulatorError>>,
    },
    Steer(CallHandle, Steer),
    Stop {
        reply: oneshot::Sender<()>,
    },
}

enum Steer {
    Prepare(Box<StreamPlan>, VoiceOptions, oneshot::Sender<Result<(), SimulatorError>>),
    Progress(u16, bool),
    Answer,
    Reject(u16, Vec<(HeaderName, String)>),
    HangUp(u16),
    Update(MediaDirection, oneshot::Sender<bool>),
    Press(String),
    Quirks(Quirks),
    Ignore,
    IsDone(oneshot::Sender<bool>),
}

/// A running agent. Cheap to clone; ends with [`stop`](Self::stop).
#[derive(Clone)]
pub struct Endpoint {
    commands: mpsc::UnboundedSender<Command>,
    transports: Transports,
    voice: Arc<VoiceOptions>,
}

/// One call of an endpoint: its [`Controls`] and what happens to it.
#[derive(Debug)]
pub struct Session {
    pub call_id: String,
    controls: Controls,
    events: mpsc::UnboundedReceiver<SessionEvent>,
}

/// Steers one call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Controls {
    handle: CallHandle,
    commands: mpsc::UnboundedSender<Command>,
}

impl Deref for Session {
    type Target = Controls;
    fn deref(&self) -> &Controls {
        &self.controls
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

impl Endpoint {
    /// Opens the listeners and starts the agent. What comes unasked goes to the receiver; once that is dropped, calls
    /// are refused with 480.
    pub async fn start(
        options: EndpointOptions,
    ) -> Result<(Endpoint, mpsc::UnboundedReceiver<Visit>), SimulatorError> {
        let (inbox, events) = mpsc::channel(INBOX);
        let settings =
            TransportSettings { listeners: options.listen, tls: options.tls, ..TransportSettings::default() };
        let transports = Transports::bind(settings, inbox)?;
        let (commands, orders) = mpsc::unbounded_channel();
        let (visits, visitors) = mpsc::unbounded_channel();
        let voice = Arc::new(options.voice);
        let agent = UserAgent::new(options.agent, Box::new(random));
        let agent = if options.observer.is_some() { agent } else { agent.without_ladder() };
        let task = Task {
            agent,
            transports: transports.clone(),
            media: options.media,
            voice: Arc::clone(&voice),
            observer: options.observer,
            calls: HashMap::new(),
            registering: None,
            visits,
            commands: commands.clone(),
        };
        tokio::spawn(task.run(events, orders));
        Ok((Endpoint { commands, transports, voice }, visitors))
    }

    /// The listeners with the ports they really have.
    pub fn local_addresses(&self) -> &[Listener] {
        self.transports.local_addresses()
    }

    /// The far end at an address.
    pub fn peer(&self, transport: Transport, remote: SocketAddr, tls_name: Option<Arc<str>>) -> Peer {
        self.transports.peer_for(NetworkId::default(), transport, remote, tls_name)
    }

    /// What this endpoint offers and accepts by default.
    pub fn voice(&self) -> &VoiceOptions {
        &self.voice
    }

    /// Registers and stays registered. The answer may be a refusal.
    pub async fn register(
        &self,
        peer: Peer,
        registrar: Uri,
        expires: u32,
    ) -> Result<RegisterOutcome, SimulatorError> {
        let (reply, answer) = oneshot::channel();
        self.order(Command::Register { peer, registrar, expires, reply })?;
        answer.await.map_err(|_| SimulatorError::Stopped)
    }

    /// Takes the registration back.
    pub async fn unregister(&self) -> Result<RegisterOutcome, SimulatorError> {
        let (reply, answer) = oneshot::channel();
        self.order(Command::Unregister { reply })?;
        answer.await.map_err(|_| SimulatorError::Stopped)
    }

    /// Calls somebody.
    pub async fn call(
        &self,
        peer: Peer,
        to: Uri,
        from: Option<NameAddr>,
        plan: StreamPlan,
    ) -> Result<Session, SimulatorError> {
        let (reply, answer) = oneshot::channel();
        let invitation = Box::new(Invitation { peer, to, from });
        self.order(Command::Call { invitation, plan: Box::new(plan), reply })?;
        answer.await.map_err(|_| SimulatorError::Stopped)?
    }

    /// Ends the agent with all its calls, without a word to the far ends.
    pub async fn stop(self) {
        let (reply, done) = oneshot::channel();
        if self.order(Command::Stop { reply }).is_ok() {
            let _ = done.await;
        }
        self.transports.shutdown(Duration::from_millis(500)).await;
    }

    fn order(&self, command: Command) -> Result<(), SimulatorError> {
        self.commands.send(command).map_err(|_| SimulatorError::Stopped)
    }
}

impl Session {
    /// The next thing that happens; `None` after [`SessionEvent::Media`].
    pub async fn next(&mut self) -> Option<SessionEvent> {
        self.events.recv().await
    }

    /// For those who steer while somebody else listens.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }
}

impl Controls {
    /// Opens media for an incoming call and decides on its offer. A refused offer has ended the call with 488.
    pub async fn prepare(&self, plan: StreamPlan, voice: VoiceOptions) -> Result<(), SimulatorError> {
        let (reply, answer) = oneshot::channel();
        self.steer(Steer::Prepare(Box::new(plan), voice, reply));
        answer.await.map_err(|_| SimulatorError::Stopped)?
    }

    /// Sends a provisional response, with media or without.
    pub fn progress(&self, status: u16, with_media: bool) {
        self.steer(Steer::Progress(status, with_media));
    }

    pub fn answer(&self) {
        self.steer(Steer::Answer);
    }

    pub fn reject(&self, status: u16, headers: Vec<(HeaderName, String)>) {
        self.steer(Steer::Reject(status, headers));
    }

    /// Ends the call whatever it is doing; `status` is for one that still waits for our answer.
    pub fn hang_up(&self, status: u16) {
        self.steer(Steer::HangUp(status));
    }

    /// Hold and resume. False if the call is in no state for it.
    pub async fn update(&self, direction: MediaDirection) -> bool {
        let (reply, answer) = oneshot::channel();
        self.steer(Steer::Update(direction, reply));
        answer.await.unwrap_or(false)
    }

    /// Presses keys, as telephone events.
    pub fn press(&self, keys: &str) {
        self.steer(Steer::Press(keys.to_owned()));
    }

    pub fn set_quirks(&self, quirks: Quirks) {
        self.steer(Steer::Quirks(quirks));
    }

    /// Drops an incoming call without a word, as a dead far end would.
    pub fn ignore(&self) {
        self.steer(Steer::Ignore);
    }

    /// True once everything is said and pressed.
    pub async fn is_done(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.steer(Steer::IsDone(reply));
        answer.await.unwrap_or(true)
    }

    fn steer(&self, steer: Steer) {
        // An agent that has stopped has ended its sessions too, which shows in `next`.
        let _ = self.commands.send(Command::Steer(self.handle, steer));
    }
}

struct Attached {
    events: mpsc::UnboundedSender<SessionEvent>,
    stream: Option<StreamId>,
}

struct Registering {
    reply: oneshot::Sender<RegisterOutcome>,
    since: Now,
}

struct Task {
    agent: UserAgent,
    transports: Transports,
    media: MediaThreads,
    voice: Arc<VoiceOptions>,
    observer: Option<Observer>,
    calls: HashMap<CallHandle, Attached>,
    registering: Option<Registering>,
    visits: mpsc::UnboundedSender<Visit>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Task {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<TransportEvent>,
        mut orders: mpsc::UnboundedReceiver<Command>,
    ) {
        let stopped = loop {
            let deadline = self.agent.poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take_event(event),
                    None => break None,
                },
                order = orders.recv() => match order {
                    Some(Command::Stop { reply }) => break Some(reply),
                    Some(order) => self.take_order(order),
                    None => break None,
                },
                () = timer => self.agent.handle_timeout(Now::read()),
            }
            self.drain();
        };
        let handles: Vec<CallHandle> = self.calls.keys().copied().collect();
        for handle in handles {
            self.release(handle);
        }
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    fn take_event(&mut self, event: TransportEvent) {
        let now = Now::read();
        match event {
            TransportEvent::Message { peer, message, tls_names: _, turn: _ } => {
                self.agent.handle_message(now, peer, message);
            }
            TransportEvent::Malformed { peer, fault: _, refusal, turn: _ } => {
                if let Some(refusal) = refusal {
                    self.transports.send(&peer, refusal, 0);
                }
            }
            TransportEvent::Failed { peer: _, ticket, failure: _ } => {
                self.agent.handle_transport_failure(now, ticket);
            }
            TransportEvent::Closed { connection: _, peer: _ } => {}
        }
    }

    fn take_order(&mut self, order: Command) {
        let now = Now::read();
        match order {
            Command::Register { peer, registrar, expires, reply } => {
                self.registering = Some(Registering { reply, since: now });
                self.agent.register(now, peer, registrar, expires);
            }
            Command::Unregister { reply } => {
                self.registering = Some(Registering { reply, since: now });
                self.agent.unregister(now);
            }
            Command::Call { invitation, plan, reply } => {
                let session = self.call(now, *invitation, *plan);
                let _ = reply.send(session);
            }
            Command::Steer(handle, steer) => self.steer(now, handle, steer),
            Command::Stop { reply } => drop(reply),
        }
    }

    fn call(
        &mut self,
        now: Now,
        invitation: Invitation,
        plan: StreamPlan,
    ) -> Result<Session, SimulatorError> {
        let voice = Arc::clone(&self.voice);
        let (stream, capability) = self.open(&voice, invitation.peer.local.ip(), plan)?;
        let handle = self.agent.call(now, invitation, capability);
        let session = self.attach(handle);
        if let Some(attached) = self.calls.get_mut(&handle) {
            attached.stream = Some(stream);
        }
        Ok(session)
    }

    /// Opens a stream and says what to offer for it.
    fn open(
        &self,
        voice: &VoiceOptions,
        signalling: IpAddr,
        plan: StreamPlan,
    ) -> Result<(StreamId, Capability), SimulatorError> {
        let sockets =
            StreamSockets::open(voice.media_ip.unwrap_or(signalling)).map_err(SimulatorError::Media)?;
        let capability = Capability {
            codecs: voice.codecs.clone(),
            opus: voice.opus,
            dtmf: voice.dtmf,
            comfort_noise: false,
            srtp: voice.srtp,
            suites: vec![SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32],
            address: sockets.address,
            rtcp_port: sockets.rtcp_port,
            rtcp_mux: false,
            ptime_ms: voice.ptime_ms,
            direction: MediaDirection::SendRecv,
        };
        Ok((self.media.open(sockets, plan, stream_seed()), capability))
    }

    fn attach(&mut self, handle: CallHandle) -> Session {
        let (sender, events) = mpsc::unbounded_channel();
        self.calls.insert(handle, Attached { events: sender, stream: None });
        let call_id = self.agent.call_id(handle).unwrap_or_default().to_owned();
        let controls = Controls { handle, commands: self.commands.clone() };
        Session { call_id, controls, events }
    }

    fn steer(&mut self, now: Now, handle: CallHandle, steer: Steer) {
        let stream = self.calls.get(&handle).and_then(|attached| attached.stream);
        match steer {
            Steer::Prepare(plan, voice, reply) => {
                let _ = reply.send(self.prepare(now, handle, *plan, &voice));
            }
            // A call that has ended meanwhile shows as ended to the one who steers.
            Steer::Progress(status, with_media) => {
                let _ = self.agent.progress(now, handle, status, with_media);
            }
            Steer::Answer => {
                let _ = self.agent.answer(now, handle);
            }
            Steer::Reject(status, headers) => self.agent.reject(now, handle, status, &headers),
            Steer::HangUp(status) => self.agent.hang_up(now, handle, status),
            Steer::Update(direction, reply) => {
                let _ = reply.send(self.agent.update(now, handle, direction).is_ok());
            }
            Steer::Press(keys) => {
                if let Some(stream) = stream {
                    self.media.press(stream, &keys);
                }
            }
            Steer::Quirks(quirks) => self.agent.set_quirks(handle, quirks),
            Steer::Ignore => {
                self.agent.ignore(handle);
                self.release(handle);
            }
            Steer::IsDone(reply) => match stream {
                Some(stream) => self.media.is_done(stream, |done| {
                    let _ = reply.send(done);
                }),
                None => {
                    let _ = reply.send(true);
                }
            },
        }
    }

    fn prepare(
        &mut self,
        now: Now,
        handle: CallHandle,
        plan: StreamPlan,
        voice: &VoiceOptions,
    ) -> Result<(), SimulatorError> {
        let local = self.agent.local_ip(handle).ok_or(SimulatorError::CallOver)?;
        let (stream, capability) = self.open(voice, local, plan)?;
        if let Some(attached) = self.calls.get_mut(&handle) {
            attached.stream = Some(stream);
        }
        Ok(self.agent.prepare(now, handle, capability)?)
    }

    fn drain(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Transmit { peer, bytes, ticket } => self.transports.send(&peer, bytes, ticket),
                Output::Call { handle, event } => self.tell(handle, event),
                Output::Registered { status, phrase, expires } => {
                    if let Some(Registering { reply, since }) = self.registering.take() {
                        let took_ms = since.instant.elapsed().as_millis() as u32;
                        let _ = reply.send(RegisterOutcome { status, phrase, expires, took_ms });
                    }
                }
                Output::Registration { user, contact, expires, peer } => {
                    let _ =
                        self.visits.send(Visit::Binding(Box::new(Binding { user, contact, expires, peer })));
                }
                Output::Ladder(step) => {
                    if let Some(observer) = &self.observer {
                        observer(&step);
                    }
                }
            }
        }
    }

    fn tell(&mut self, handle: CallHandle, event: CallEvent) {
        let now = Now::read();
        if let CallEvent::Incoming(incoming) = event {
            let session = self.attach(handle);
            let arrival = Box::new(Arrival { incoming: *incoming, at: now, session });
            if self.visits.send(Visit::Call(arrival)).is_err() {
                self.agent.reject(now, handle, 480, &[]);
            }
            return;
        }
        let Some(attached) = self.calls.get(&handle) else { return };
        let media = match &event {
            CallEvent::Progress { media: Some(media), .. }
            | CallEvent::Answered { media }
            | CallEvent::Updated { media, .. } => Some(media),
            CallEvent::Progress { media: None, .. }
            | CallEvent::Incoming(_)
            | CallEvent::Acknowledged
            | CallEvent::UpdateRefused { .. }
            | CallEvent::Ended(_) => None,
        };
        if let (Some(media), Some(stream)) = (media, attached.stream) {
            self.media.configure(stream, (**media).clone());
            if matches!(event, CallEvent::Answered { .. }) {
                self.media.begin(stream);
            }
        }
        let over = matches!(event, CallEvent::Ended(_));
        let _ = attached.events.send(SessionEvent::Call(event, now));
        if over {
            self.release(handle);
        }
    }

    /// Closes a call's media; what it found out is the session's last event.
    fn release(&mut self, handle: CallHandle) {
        let Some(Attached { events, stream }) = self.calls.remove(&handle) else { return };
        match stream {
            Some(stream) => self.media.close(stream, move |outcome| {
                let _ = events.send(SessionEvent::Media(Box::new(outcome)));
            }),
            None => {
                let _ = events.send(SessionEvent::Media(Box::default()));
            }
        }
    }
}
