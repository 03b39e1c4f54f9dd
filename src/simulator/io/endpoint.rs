//! Runs one user agent: its sockets, its clock, its media; gives each call a handle to steer and to listen to.

mod task;

use super::media::MediaThreads;
use super::random;
use crate::sdp::{OpusParams, SrtpPolicy};
use crate::simulator::SimulatorError;
use crate::simulator::agent::{
    AgentSettings, CallEvent, CallHandle, Incoming, Invitation, LadderStep, Quirks, UserAgent,
};
use crate::simulator::stream::{StreamOutcome, StreamPlan};
use crate::sip::io::{Listener, TlsSettings, TransportSettings, Transports};
use crate::sip::message::{HeaderName, NameAddr, Uri};
use crate::types::{AudioCodec, MediaDirection, NetworkId, Now, Peer, Transport};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use task::Task;
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

#[allow(clippy::large_enum_variant, reason = "a few orders a call")]
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
    #[allow(clippy::disallowed_methods, reason = "a test's own orders and visitors, as many as its calls")]
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
        let invitation = Box::new(Invitation { peer, to, from, fields: Vec::new() });
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
