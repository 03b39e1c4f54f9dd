//! Runs an operator: its SIP sockets, its media threads, its ledger file and its clock.

use super::ledger::{Entry, Ledger, Media};
use super::machine::{Line, Operator, Order, Output, PLACED, Say, Settings};
use crate::media::tone::TonePlayer;
use crate::media::{Ringing, Tone};
use crate::simulator::io::media::{MediaThreads, StreamId, StreamSockets};
use crate::simulator::io::{random, stream_seed};
use crate::simulator::stream::{StreamOutcome, StreamPlan};
use crate::simulator::voice::Speech;
use crate::simulator::wav::Wav;
use crate::sip::io::{BindError, Listener, TlsSettings, TransportEvent, TransportSettings, Transports};
use crate::sip::message::Uri;
use crate::types::{HostPort, NetworkId, Now, Peer, Transport, UnixMillis};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant as TokioInstant;

/// Everything an operator is told.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// UDP and TCP both listen here, or TLS alone; port 0 takes one that is free.
    pub listen: SocketAddr,
    /// Signalling over TLS, and over nothing else.
    pub tls: Option<TlsSettings>,
    pub machine: Settings,
    /// What is said into answered calls, over and over.
    pub speech: Wav,
    /// The folder that gets what was heard of each call.
    pub record: Option<PathBuf>,
    pub ledger: Option<PathBuf>,
    /// Calls to place at once. The operator ends when they have ended.
    pub orders: Vec<OrderPlan>,
    /// A call in which nothing is heard for this long is hung up.
    pub media_timeout: Duration,
}

/// One call to place.
#[derive(Debug, Clone)]
pub struct OrderPlan {
    pub number: String,
    pub from: String,
    /// The caller does not want to be shown.
    pub withheld: bool,
    /// Where the gateway listens; `None`: where it registers or asks from.
    pub via: Option<(Transport, SocketAddr)>,
    pub talk: Option<Duration>,
    pub patience: Duration,
}

/// What the operator tells while it runs.
#[derive(Debug)]
pub enum Notice {
    /// Calls are taken from now on.
    Listening(SocketAddr),
    /// The gateway registered; `expires` in seconds, 0 when it takes that back.
    Registered { user: String, contact: String, expires: u32 },
    /// The gateway was asked whether it lives, and said this.
    Alive { status: u16 },
    /// A call has ended.
    Call(Box<Entry>),
}

/// Why an operator could not run on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("can't start media threads: {0}")]
    Threads(io::Error),
    #[error("can't use the ledger {path}: {error}")]
    Ledger { path: PathBuf, error: io::Error },
    #[error("can't make the folder {path}: {error}")]
    Record { path: PathBuf, error: io::Error },
}

/// Times a port is looked for that is free for UDP and TCP both.
const PORT_TRIES: usize = 20;
/// Messages that may wait; more is lost on UDP as by any overloaded far end.
const INBOX: usize = 4_096;
/// How long the far ends may take to agree to the end of all calls.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often silent calls are looked for.
const WATCH: Duration = Duration::from_secs(1);
/// Silence before and behind the speech: the first packets find a far end that is still setting its ports up.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until `stop` is done, or until all ordered calls have ended.
///
/// # Errors
/// What keeps it from starting, or from writing its ledger. Needs a tokio runtime around it.
pub async fn run(
    settings: RunSettings,
    mut notice: impl FnMut(Notice),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (events, mut inbox) = mpsc::channel(INBOX);
    let (transports, address) = listen(settings.listen, settings.tls.as_ref(), &events)?;
    let mut house = House::open(settings, transports, address)?;
    notice(Notice::Listening(address));
    let mut stop = pin!(stop);
    house.place_orders(Now::read(), None);
    house.carry_out(&mut notice)?;
    let mut farewell = None;
    let mut watch = tokio::time::interval(WATCH);
    loop {
        let deadline = house.operator.poll_timeout().map(TokioInstant::from_std);
        let deadline = [deadline, farewell].into_iter().flatten().min();
        tokio::select! {
            event = receive(&mut inbox) => house.on_transport(Now::read(), event),
            Some((line, outcome)) = house.closed.recv() => house.on_closed(line, outcome),
            Some((line, heard_at)) = house.heard.recv() => house.on_heard(Now::read(), line, heard_at),
            () = sleep_until(deadline) => {}
            _ = watch.tick() => house.watch(),
            () = &mut stop, if farewell.is_none() => {
                house.operator.stop(Now::read());
                farewell = Some(TokioInstant::now() + FAREWELL);
            }
        }
        house.operator.handle_timeout(Now::read());
        house.carry_out(&mut notice)?;
        if house.is_done() && farewell.is_none() {
            house.operator.stop(Now::read());
            house.carry_out(&mut notice)?;
            farewell = Some(TokioInstant::now() + FAREWELL);
        }
        let Some(until) = farewell else { continue };
        if TokioInstant::now() >= until {
            house.operator.abandon(Now::read());
            house.carry_out(&mut notice)?;
        }
        if house.operator.active_calls() == 0 {
            break;
        }
    }
    house.transports.shutdown(Duration::from_millis(200)).await;
    Ok(())
}

fn listen(
    address: SocketAddr,
    tls: Option<&TlsSettings>,
    events: &mpsc::Sender<TransportEvent>,
) -> Result<(Transports, SocketAddr), RunError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match listen_once(address, tls, events) {
            Err(BindError::Address { .. }) if tries > 0 => {}
            result => return result.map_err(RunError::from),
        }
    }
}

fn listen_once(
    address: SocketAddr,
    tls: Option<&TlsSettings>,
    events: &mpsc::Sender<TransportEvent>,
) -> Result<(Transports, SocketAddr), BindError> {
    let listener = |transport, bind| Listener { transport, bind, network: NetworkId::default() };
    let mut address = address;
    if address.port() == 0 {
        // A free TCP port, which UDP then tries too: nobody holds more than one of them for long.
        let failed = |source| BindError::Address { listener: listener(Transport::Tcp, address), source };
        let probe = std::net::TcpListener::bind(address).map_err(failed)?;
        address = probe.local_addr().map_err(failed)?;
    }
    let listeners = match tls {
        Some(_) => vec![listener(Transport::Tls, address)],
        None => vec![listener(Transport::Udp, address), listener(Transport::Tcp, address)],
    };
    let tls = tls.cloned().unwrap_or_default();
    let settings = TransportSettings { listeners, tls, ..TransportSettings::default() };
    Ok((Transports::bind(settings, events.clone())?, address))
}

async fn receive(inbox: &mut mpsc::Receiver<TransportEvent>) -> TransportEvent {
    match inbox.recv().await {
        Some(event) => event,
        // The transports live as long as the operator.
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<TokioInstant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A call's media.
struct Studio {
    stream: StreamId,
    name: String,
    saying: Option<Say>,
    /// Since when something should be heard.
    listening: Option<UnixMillis>,
}

/// The operator with all it owns.
struct House {
    settings: RunSettings,
    operator: Operator,
    transports: Transports,
    media: MediaThreads,
    studios: HashMap<Line, Studio>,
    closing: mpsc::Sender<(Line, StreamOutcome)>,
    closed: mpsc::Receiver<(Line, StreamOutcome)>,
    hearing: mpsc::Sender<(Line, Option<UnixMillis>)>,
    heard: mpsc::Receiver<(Line, Option<UnixMillis>)>,
    ledger: Option<Ledger>,
    speech: Arc<Wav>,
    ringback: Arc<Wav>,
    /// Ordered calls that wait for the gateway to register, or to ask whether we live.
    waiting: Vec<OrderPlan>,
    orders_left: usize,
    ordered: bool,
}

impl House {
    fn open(settings: RunSettings, transports: Transports, address: SocketAddr) -> Result<House, RunError> {
        if let Some(path) = &settings.record {
            let failed = |error| RunError::Record { path: path.clone(), error };
            std::fs::create_dir_all(path).map_err(failed)?;
        }
        let ledger = match &settings.ledger {
            Some(path) => {
                Some(Ledger::open(path).map_err(|error| RunError::Ledger { path: path.clone(), error })?)
            }
            None => None,
        };
        let media = MediaThreads::start(1).map_err(RunError::Threads)?;
        let (closing, closed) = mpsc::channel(INBOX);
        let (hearing, heard) = mpsc::channel(INBOX);
        let operator = Operator::new(settings.machine.clone(), HostPort::from(address), Box::new(random));
        Ok(House {
            operator,
            transports,
            media,
            studios: HashMap::new(),
            closing,
            closed,
            hearing,
            heard,
            ledger,
            speech: Arc::new(between_pauses(&settings.speech)),
            ringback: Arc::new(ringback()),
            waiting: settings.orders.clone(),
            orders_left: settings.orders.len(),
            ordered: !settings.orders.is_empty(),
            settings,
        })
    }

    /// True once all ordered calls have ended.
    fn is_done(&self) -> bool {
        self.ordered && self.orders_left == 0
    }

    /// Places the calls whose way is known; `registered` is the gateway's.
    fn place_orders(&mut self, now: Now, registered: Option<(&Peer, &Uri)>) {
        for plan in std::mem::take(&mut self.waiting) {
            let (peer, host) = match (plan.via, registered) {
                (Some((transport, remote)), _) => {
                    let peer = self.transports.peer_for(NetworkId::default(), transport, remote, None);
                    (peer, HostPort::from(remote))
                }
                (None, Some((peer, contact))) => (peer.clone(), contact.host.clone()),
                (None, None) => {
                    self.waiting.push(plan);
                    continue;
                }
            };
            let number =
                self.settings.machine.interconnect.map_or(&*plan.number, |kind| kind.number(&plan.number));
            let mut to = Uri::sip(Some(number), host);
            if peer.transport != Transport::Udp {
                to.params.set("transport", Some(peer.transport.as_str()));
            }
            let OrderPlan { number: _, from, withheld, via: _, talk, patience } = plan;
            self.operator.place(now, Order { peer, to, from, withheld, talk, patience });
        }
    }

    fn on_transport(&mut self, now: Now, event: TransportEvent) {
        match event {
            TransportEvent::Message { peer, message, tls_names: _, turn: _ } => {
                self.operator.handle_message(now, peer, message);
            }
            TransportEvent::Malformed { peer, fault: _, refusal, turn: _ } => {
                if let Some(refusal) = refusal {
                    self.transports.send(&peer, refusal, 0);
                }
            }
            TransportEvent::Failed { peer: _, ticket, failure: _ } => {
                self.operator.handle_transport_failure(now, ticket);
            }
            TransportEvent::Undelivered { remote, quoted } => {
                self.operator.handle_undelivered(now, remote, &quoted);
            }
            TransportEvent::Closed { connection: _, peer: _ } => {}
        }
    }

    fn carry_out(&mut self, notice: &mut impl FnMut(Notice)) -> Result<(), RunError> {
        while let Some(output) = self.operator.poll_output() {
            match output {
                Output::Transmit { peer, bytes, ticket } => self.transports.send(&peer, bytes, ticket),
                Output::OpenMedia { line, local, mute } => self.open_media(line, local, mute),
                Output::StartMedia { line, agreed, say } => {
                    if let Some(studio) = self.studios.get_mut(&line) {
                        let listens = agreed.direction.receives() && say == Say::Speech;
                        studio.listening = listens.then(|| Now::read().unix_ms);
                        // A re-INVITE does not make anybody begin anew.
                        if studio.saying.replace(say) != Some(say) {
                            let wav = match say {
                                Say::Ringback => &self.ringback,
                                Say::Speech => &self.speech,
                            };
                            self.media.say(studio.stream, Speech::Loop(Arc::clone(wav)));
                        }
                        self.media.configure(studio.stream, *agreed);
                    }
                }
                Output::CloseMedia { line } => self.close_media(line),
                Output::Registration { user, contact, expires, peer } => {
                    notice(Notice::Registered { user, contact: contact.to_string(), expires });
                    if expires > 0 {
                        self.place_orders(Now::read(), Some((&peer, &contact)));
                    }
                }
                Output::Alive { status } => notice(Notice::Alive { status }),
                Output::Polled { peer } => {
                    // A stream that the gateway opened leads back to it; its own port there is nobody's.
                    let host = Uri::sip(None, HostPort::from(peer.remote));
                    self.place_orders(Now::read(), Some((&peer, &host)));
                }
                Output::Ledger(entry) => {
                    if entry.treatment == PLACED {
                        self.orders_left = self.orders_left.saturating_sub(1);
                    }
                    if let (Some(ledger), Some(path)) = (&mut self.ledger, &self.settings.ledger) {
                        let failed = |error| RunError::Ledger { path: path.clone(), error };
                        ledger.write(&entry).map_err(failed)?;
                    }
                    notice(Notice::Call(entry));
                }
            }
        }
        Ok(())
    }

    /// Asks every stream that should hear something when it last did.
    fn watch(&self) {
        for (line, studio) in self.studios.iter().filter(|(_, studio)| studio.listening.is_some()) {
            let (line, hearing) = (*line, self.hearing.clone());
            // An answer that finds no room is asked for again in a second.
            self.media.heard_at(studio.stream, move |at| {
                let _ = hearing.try_send((line, at));
            });
        }
    }

    fn on_heard(&mut self, now: Now, line: Line, heard_at: Option<UnixMillis>) {
        let Some(since) = self.studios.get(&line).and_then(|studio| studio.listening) else { return };
        let quiet = now.unix_ms - heard_at.unwrap_or(since).max(since);
        if u128::try_from(quiet).is_ok_and(|quiet| quiet > self.settings.media_timeout.as_millis()) {
            self.operator.media_lost(now, line);
        }
    }

    fn open_media(&mut self, line: Line, local: std::net::IpAddr, mute: bool) {
        let now = Now::read();
        let address = match StreamSockets::open(local) {
            Ok(sockets) => {
                let address = sockets.address;
                let plan = StreamPlan {
                    early: true,
                    mute,
                    record: self.settings.record.is_some(),
                    ..StreamPlan::default()
                };
                let stream = self.media.open(sockets, plan, stream_seed());
                let name = format!("{}-{}.wav", now.unix_ms, line.0);
                self.studios.insert(line, Studio { stream, name, saying: None, listening: None });
                Some(address)
            }
            Err(error) => {
                tracing::warn!(%error, "no port for media");
                None
            }
        };
        self.operator.media_opened(now, line, address);
    }

    fn close_media(&mut self, line: Line) {
        let Some(studio) = self.studios.get(&line) else {
            return self.operator.media_closed(line, Media::default(), None);
        };
        let closing = self.closing.clone();
        self.media.close(studio.stream, move |outcome| {
            // Nobody waits for it once the operator is gone.
            let _ = closing.blocking_send((line, outcome));
        });
    }

    fn on_closed(&mut self, line: Line, outcome: StreamOutcome) {
        let report = outcome.report;
        let media = Media {
            packets_heard: report.packets_received,
            bytes_heard: report.bytes_received,
            packets_lost: report.packets_lost,
            packets_sent: report.packets_sent,
            bytes_sent: report.bytes_sent,
            jitter_ms: report.jitter_ms,
            last_heard_at: report.last_media_at,
            keys: outcome.keys,
        };
        let studio = self.studios.remove(&line);
        let recording = match (&self.settings.record, studio, outcome.recording) {
            (Some(folder), Some(studio), Some(wav)) if !wav.samples.is_empty() => {
                let path = folder.join(studio.name);
                match wav.write(&path) {
                    Ok(()) => Some(path.display().to_string()),
                    Err(error) => {
                        tracing::warn!(%error, "a recording is lost");
                        None
                    }
                }
            }
            (None | Some(_), _, _) => None,
        };
        self.operator.media_closed(line, media, recording);
    }
}

/// Speech with a breath before and behind it.
fn between_pauses(speech: &Wav) -> Wav {
    let pause = vec![0; (speech.rate as u64 * PAUSE.as_millis() as u64 / 1_000) as usize];
    Wav { rate: speech.rate, samples: [&pause, &speech.samples[..], &pause].concat() }
}

/// One period of the tone of early media: a second on, four off.
fn ringback() -> Wav {
    let mut samples = vec![0; 5 * 8_000];
    TonePlayer::new(Tone::Ringback(Ringing::Europe)).fill(&mut samples);
    Wav { rate: 8_000, samples }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
