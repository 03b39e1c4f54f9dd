//! A test phone: registers, calls or waits for calls, plays and records speech, and says whether it truly heard.

use super::agent::{AgentSettings, LadderStep, Manner};
use super::conversation::{self, CallReport, Moment, Script};
use super::error::SimulatorError;
use super::io::endpoint::{Endpoint, EndpointOptions, Observer, RegisterOutcome, Visit, VoiceOptions};
use super::io::media::MediaThreads;
use super::stream::StreamPlan;
use super::voice::Speech;
use super::wav::Wav;
use crate::media::OpusSettings;
use crate::sip::auth::Credentials;
use crate::sip::io::{Listener, TlsSettings, TlsTrust};
use crate::sip::message::Uri;
use crate::sip::transaction::Timers;
use crate::types::{AudioCodec, HostPort, NetworkId, Now, Peer, Secret, Transport};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Time given to the far end's last packets and words before hanging up.
const AFTERTHOUGHT: Duration = Duration::from_secs(2);

/// What a phone is to be and to do.
#[derive(Debug, Clone)]
pub struct PhoneOptions {
    /// The gateway: `sip:HOST:PORT;transport=tls`, or `HOST:PORT`.
    pub server: String,
    pub user: String,
    pub password: Secret,
    /// Host part of the address of record; `None`: the server's.
    pub domain: Option<String>,
    /// Authorities the server's certificate is checked against; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// False takes any certificate.
    pub tls_verify: bool,
    /// Where to send and receive; `None`: any address of the server's family.
    pub bind: Option<IpAddr>,
    pub register: bool,
    /// Seconds to register for.
    pub expires: u32,
    pub action: PhoneAction,
    pub voice: VoiceOptions,
    pub opus: OpusSettings,
    /// What to say after the answer; `None`: silence.
    pub play: Option<Arc<Wav>>,
    /// What the far end says; then the report holds the heard-speech check.
    pub expect: Option<Arc<Wav>>,
    /// Where to save what was heard.
    pub record: Option<PathBuf>,
    pub script: Script,
}

/// What a phone does once it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhoneAction {
    /// Calls a number, a user name or a SIP address.
    Call(String),
    /// Answers one call that comes within the time, after letting it ring.
    Answer { within: Duration, ring: Duration },
    /// Refuses one call that comes within the time.
    Refuse { within: Duration, status: u16 },
    /// Only registers.
    Register,
}

impl PhoneOptions {
    /// A phone of `user` at `server`, in silence, with nothing to do but register.
    pub fn new(server: &str, user: &str, password: Secret) -> PhoneOptions {
        PhoneOptions {
            server: server.to_owned(),
            user: user.to_owned(),
            password,
            domain: None,
            tls_ca: None,
            tls_verify: true,
            bind: None,
            register: true,
            expires: 300,
            action: PhoneAction::Register,
            voice: VoiceOptions::default(),
            opus: OpusSettings::default(),
            play: None,
            expect: None,
            record: None,
            script: Script::default(),
        }
    }
}

/// What a phone lived through.
#[derive(Debug, Clone, Serialize)]
pub struct PhoneReport {
    pub registration: Option<RegisterOutcome>,
    /// `None` where no call was made or came.
    pub call: Option<CallReport>,
    /// A call was to be made or to come.
    #[serde(skip)]
    awaited: bool,
}

/// What went wrong, the first thing on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// The registration was refused.
    NotRegistered,
    /// A call was awaited, and none came.
    NotCalled,
    /// Refused, given up, or nobody took it.
    NotAnswered,
    /// The line was silent.
    NothingHeard,
    /// What was heard is not what was expected.
    NotWhatWasSaid,
}

impl PhoneReport {
    /// What was not as it should be; `None` if all that was asked for went well: registered, answered, and heard where
    /// that could be judged.
    pub fn flaw(&self) -> Option<Flaw> {
        if self.registration.as_ref().is_some_and(|outcome| outcome.status >= 300) {
            return Some(Flaw::NotRegistered);
        }
        let Some(call) = &self.call else { return self.awaited.then_some(Flaw::NotCalled) };
        if !call.was_answered() {
            return Some(Flaw::NotAnswered);
        }
        match (&call.heard, &call.sound) {
            (Some(verdict), _) => (!verdict.heard).then_some(Flaw::NotWhatWasSaid),
            (None, Some(sound)) => (!sound.heard).then_some(Flaw::NothingHeard),
            (None, None) => None,
        }
    }
}

/// What a watching caller is told.
#[derive(Debug, Clone)]
pub enum PhoneEvent {
    Registered {
        took_ms: u32,
    },
    /// A call begins: ours, or one that came in.
    Call {
        call_id: String,
        number: String,
    },
    Moment(Moment),
    Ladder(LadderStep),
}

/// Gets what happens, as it happens.
pub type Watch = Arc<dyn Fn(PhoneEvent) + Send + Sync>;

/// Where a server is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Server {
    pub transport: Transport,
    pub address: SocketAddr,
    /// As written, for URIs and certificates.
    pub host: HostPort,
}

impl Server {
    /// Reads `sip:HOST:PORT;transport=…` or `HOST:PORT`, and resolves the name.
    pub async fn resolve(text: &str) -> Result<Server, SimulatorError> {
        let (transport, written) = Server::read(text)?;
        let port = written.port.unwrap_or(transport.default_port());
        let host = written.host.clone();
        let address = match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => {
                let failed = |error| SimulatorError::Resolve { host: host.clone(), error };
                let mut found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(failed)?;
                found.next().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?
            }
        };
        Ok(Server { transport, address, host: written })
    }

    /// What is written, before any name is resolved.
    pub fn read(text: &str) -> Result<(Transport, HostPort), SimulatorError> {
        let wrong = || SimulatorError::Address(text.to_owned());
        let with_scheme = if text.starts_with("sip:") || text.starts_with("sips:") {
            text.to_owned()
        } else {
            format!("sip:{text}")
        };
        let uri = Uri::parse(&with_scheme).map_err(|_| wrong())?;
        let transport = match uri.transport() {
            Some(name) => name.parse().map_err(|()| wrong())?,
            None if with_scheme.starts_with("sips:") => Transport::Tls,
            None => Transport::Udp,
        };
        Ok((transport, uri.host))
    }

    /// The name the certificate must carry; `None` without TLS.
    pub fn tls_name(&self) -> Option<Arc<str>> {
        let is_name = self.host.host.parse::<IpAddr>().is_err();
        (self.transport.is_secure() && is_name).then(|| self.host.host.as_str().into())
    }
}

/// A phone that is on: registered or ready to call.
pub struct Phone {
    endpoint: Endpoint,
    visits: mpsc::UnboundedReceiver<Visit>,
    options: PhoneOptions,
    peer: Peer,
    domain: HostPort,
    watch: Option<Watch>,
    registered: AtomicBool,
}

impl Phone {
    /// Opens the phone's sockets. `media` may be shared by many phones.
    pub async fn start(
        options: PhoneOptions,
        media: MediaThreads,
        watch: Option<Watch>,
    ) -> Result<Phone, SimulatorError> {
        let server = Server::resolve(&options.server).await?;
        let domain = match &options.domain {
            Some(domain) => HostPort { host: domain.clone(), port: None },
            None => HostPort { host: server.host.host.clone(), port: None },
        };
        let any: IpAddr = match server.address {
            SocketAddr::V4(_) => [0, 0, 0, 0].into(),
            SocketAddr::V6(_) => [0u16; 8].into(),
        };
        let bind = SocketAddr::new(options.bind.unwrap_or(any), 0);
        // Over streams nobody connects to a phone: calls come by the connection it registered over.
        let listen = match server.transport {
            Transport::Udp => {
                vec![Listener { transport: Transport::Udp, bind, network: NetworkId::default() }]
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => Vec::new(),
        };
        let tls = TlsSettings {
            authorities: options.tls_ca.clone(),
            trusts: match options.tls_verify {
                true => Vec::new(),
                false => vec![TlsTrust { name: server.host.host.clone(), authorities: None, verify: false }],
            },
            ..TlsSettings::default()
        };
        let observer = watch.clone().map(|watch| -> Observer {
            Arc::new(move |step: &LadderStep| watch(PhoneEvent::Ladder(step.clone())))
        });
        let credentials = Credentials { user: options.user.clone(), password: options.password.clone() };
        let agent = AgentSettings {
            user: options.user.clone(),
            domain: domain.clone(),
            credentials: Some(credentials),
            guard: None,
            product: concat!("tandem-phone/", env!("CARGO_PKG_VERSION")).to_owned(),
            manner: Manner::default(),
            timers: Timers::default(),
        };
        let voice = options.voice.clone();
        let (endpoint, visits) =
            Endpoint::start(EndpointOptions { agent, listen, tls, media, voice, observer }).await?;
        // A server by address is checked by a name only where checking is off, which needs one to be told apart by.
        let tls_name = match options.tls_verify {
            true => server.tls_name(),
            false => server.transport.is_secure().then(|| server.host.host.as_str().into()),
        };
        let peer = endpoint.peer(server.transport, server.address, tls_name);
        Ok(Phone { endpoint, visits, options, peer, domain, watch, registered: AtomicBool::new(false) })
    }

    /// Registers and stays registered.
    pub async fn register(&self) -> Result<RegisterOutcome, SimulatorError> {
        let registrar = Uri::sip(None, self.domain.clone());
        let outcome = self.endpoint.register(self.peer.clone(), registrar, self.options.expires).await?;
        if outcome.status < 300 {
            self.registered.store(true, Ordering::Relaxed);
            self.tell(PhoneEvent::Registered { took_ms: outcome.took_ms });
        }
        Ok(outcome)
    }

    /// Calls a number, a user name or a SIP address, and leads the call to its end.
    pub async fn call(&self, to: &str) -> Result<CallReport, SimulatorError> {
        let uri = match to.starts_with("sip:") || to.starts_with("sips:") || to.starts_with("tel:") {
            true => Uri::parse(to).map_err(|_| SimulatorError::Address(to.to_owned()))?,
            false => Uri::sip(Some(to), self.domain.clone()),
        };
        let started = Now::read();
        let session = self.endpoint.call(self.peer.clone(), uri, None, self.plan()).await?;
        self.tell(PhoneEvent::Call { call_id: session.call_id.clone(), number: to.to_owned() });
        let report =
            conversation::lead(session, started, &self.script(), |moment| self.tell_moment(moment)).await;
        self.finish(report)
    }

    /// Takes the next call that comes, lets it ring, answers, and leads it to its end. `None` if none comes in time.
    pub async fn answer(
        &mut self,
        within: Duration,
        ring: Duration,
    ) -> Result<Option<CallReport>, SimulatorError> {
        let Some(arrival) = self.next_call(within).await else { return Ok(None) };
        let session = arrival.session;
        let number = arrival.incoming.from.uri.user().to_owned();
        self.tell(PhoneEvent::Call { call_id: session.call_id.clone(), number });
        // A refused offer has ended the call; the report says so.
        if session.prepare(self.plan(), self.options.voice.clone()).await.is_ok() {
            session.progress(180, false);
            tokio::time::sleep(ring).await;
            session.answer();
        }
        let script = self.script();
        let report =
            conversation::lead(session, arrival.at, &script, |moment| self.tell_moment(moment)).await;
        self.finish(report).map(Some)
    }

    /// Refuses the next call that comes. `None` if none comes in time.
    pub async fn refuse(
        &mut self,
        within: Duration,
        status: u16,
    ) -> Result<Option<CallReport>, SimulatorError> {
        let Some(arrival) = self.next_call(within).await else { return Ok(None) };
        arrival.session.reject(status, Vec::new());
        let script = Script::default();
        let report = conversation::lead(arrival.session, arrival.at, &script, |_| {}).await;
        self.finish(report).map(Some)
    }

    /// Unregisters, where it was registered, and turns the phone off.
    pub async fn stop(self) {
        if self.registered.load(Ordering::Relaxed) {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.endpoint.unregister()).await;
        }
        self.endpoint.stop().await;
    }

    async fn next_call(&mut self, within: Duration) -> Option<super::io::endpoint::Arrival> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            match tokio::time::timeout_at(deadline, self.visits.recv()).await {
                Ok(Some(Visit::Call(arrival))) => return Some(*arrival),
                Ok(Some(Visit::Binding(_))) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn plan(&self) -> StreamPlan {
        let speech = self.options.play.clone().map(|wav| Speech::Once { wav, after_ms: 500 });
        StreamPlan { speech, record: true, opus: self.options.opus, ..StreamPlan::default() }
    }

    /// Without a time of its own, a phone that speaks hangs up when it has spoken.
    fn script(&self) -> Script {
        let mut script = self.options.script.clone();
        if script.talk.is_none()
            && let Some(wav) = &self.options.play
            && matches!(self.options.action, PhoneAction::Call(_))
        {
            script.talk = Some(Duration::from_secs_f32(wav.seconds() + 0.5) + AFTERTHOUGHT);
        }
        script
    }

    fn finish(&self, mut report: CallReport) -> Result<CallReport, SimulatorError> {
        let own = self.options.play.as_ref();
        report.listen(own.map(Arc::as_ref));
        if let Some(said) = &self.options.expect {
            // Who expects its own words calls an echo number: there they are no fault.
            let own = own.filter(|own| *own != said);
            report.judge(said, own.map(Arc::as_ref));
        }
        if let (Some(path), Some(wav)) = (&self.options.record, &report.wav) {
            wav.write(path)?;
            report.recording = Some(path.clone());
        }
        Ok(report)
    }

    fn tell(&self, event: PhoneEvent) {
        if let Some(watch) = &self.watch {
            watch(event);
        }
    }

    fn tell_moment(&self, moment: Moment) {
        self.tell(PhoneEvent::Moment(moment));
    }
}

/// Runs a phone through its action and turns it off.
pub async fn run(options: PhoneOptions, watch: Option<Watch>) -> Result<PhoneReport, SimulatorError> {
    let media = MediaThreads::start(1).map_err(SimulatorError::Media)?;
    let action = options.action.clone();
    let register = options.register;
    let mut phone = Phone::start(options, media, watch).await?;
    let registration = match register {
        true => Some(phone.register().await?),
        false => None,
    };
    let awaited = action != PhoneAction::Register;
    if registration.as_ref().is_some_and(|outcome| outcome.status >= 300) {
        phone.endpoint.stop().await;
        return Ok(PhoneReport { registration, call: None, awaited });
    }
    let call = match action {
        PhoneAction::Call(to) => phone.call(&to).await.map(Some),
        PhoneAction::Answer { within, ring } => phone.answer(within, ring).await,
        PhoneAction::Refuse { within, status } => phone.refuse(within, status).await,
        PhoneAction::Register => Ok(None),
    };
    phone.stop().await;
    Ok(PhoneReport { registration, call: call?, awaited })
}

/// The codec a command line names; `None` for one nobody here speaks.
pub fn codec_named(name: &str) -> Option<AudioCodec> {
    [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu]
        .into_iter()
        .find(|codec| codec.encoding_name().eq_ignore_ascii_case(name))
}
