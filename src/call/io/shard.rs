//! The signalling shard: one task that feeds the exchange and carries out what it orders.

use super::certificates::CertificateFetcher;
use super::observe::Observer;
use crate::access::StoredBinding;
use crate::billing::io::Journal;
use crate::billing::{JournalEvent, JournalRecord, RateTable};
use crate::call::event::{Input, MediaPorts, Output, PortsExhausted, RecordStep, Target};
use crate::call::exchange::Exchange;
use crate::call::settings::Settings;
use crate::media::io::Family;
use crate::media::{MediaCommand, MediaEvent, MediaWorkers, PortAllocator, WorkerId};
use crate::routing::Dialplan;
use crate::sip::io::{TransportEvent, Transports};
use crate::sip::overload::Queue;
use crate::types::{CallId, EndCause, LegId, LegKind, LegReport, NetworkId, Now, QualitySample, StirResult};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant as TokioInstant;

/// How many waiting inputs are taken before timers and outputs get their turn: enough to save wake-ups under load,
/// few enough that a retransmission is never late by more than a millisecond or two.
const BATCH: usize = 64;

/// Requests that begin something taken at a turn: all else goes before them, so that running calls do not feel a flood.
const NEWCOMERS: usize = 16;

/// How long a source is not listened to that keeps sending more than it may. Then a few of its requests are looked at
/// again, so that one that has come to its senses is served.
const MUTED: Duration = Duration::from_secs(1);

/// Something to be done on the shard with all it owns.
type Errand = Box<dyn FnOnce(&mut Shard, Now) + Send>;

/// A chain in PEM and how long it may be kept.
type FetchedCertificate = Result<(Vec<u8>, Option<Duration>), StirResult>;

/// What reaches the shard beside messages from the network.
#[allow(clippy::large_enum_variant, reason = "moved once each; the large ones are the usual ones")]
enum Inbound {
    Media(MediaEvent),
    Journal(JournalEvent),
    Resolved { trunk: Arc<str>, targets: Vec<Target> },
    Certificate { url: String, fetched: FetchedCertificate },
    Errand(Errand),
}

/// The way to a running shard; cheap to clone.
#[derive(Clone)]
pub struct ShardHandle {
    inbox: mpsc::UnboundedSender<Inbound>,
}

impl ShardHandle {
    /// A media worker's news. Never blocks: it is called on the worker's thread.
    pub fn media(&self, event: MediaEvent) {
        let _ = self.inbox.send(Inbound::Media(event));
    }

    /// The journal's news. Never blocks: it is called on the journal's thread.
    pub fn journal(&self, event: JournalEvent) {
        let _ = self.inbox.send(Inbound::Journal(event));
    }

    /// Addresses of a trunk's proxies.
    pub fn resolved(&self, trunk: Arc<str>, targets: Vec<Target>) {
        let _ = self.inbox.send(Inbound::Resolved { trunk, targets });
    }

    /// A certificate that was asked for, or why there is none.
    pub fn certificate(&self, url: String, fetched: FetchedCertificate) {
        let _ = self.inbox.send(Inbound::Certificate { url, fetched });
    }

    /// Runs something on the shard. False when the shard is gone.
    pub fn errand(&self, errand: impl FnOnce(&mut Shard, Now) + Send + 'static) -> bool {
        self.inbox.send(Inbound::Errand(Box::new(errand))).is_ok()
    }

    /// Asks the shard something and waits for the answer; `None` when it is gone.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Shard, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.errand(move |shard, now| {
            let _ = reply.send(question(shard, now));
        });
        answer.await.ok()
    }
}

/// The receiving end of a handle, until a shard is made of it.
pub struct ShardInbox(mpsc::UnboundedReceiver<Inbound>);

/// Both ends of the way to a shard: media workers and the journal need theirs before the shard exists.
pub fn channel() -> (ShardHandle, ShardInbox) {
    #[allow(
        clippy::disallowed_methods,
        reason = "a few answers to each order of the shard, from threads that may never wait for it"
    )]
    let (inbox, receiver) = mpsc::unbounded_channel();
    (ShardHandle { inbox }, ShardInbox(receiver))
}

/// What a shard is made of.
pub struct ShardParts {
    pub exchange: Exchange,
    pub inbox: ShardInbox,
    pub transports: Transports,
    pub messages: mpsc::Receiver<TransportEvent>,
    pub ports: PortAllocator,
    pub workers: MediaWorkers,
    pub journal: Journal,
    pub rates: Arc<RateTable>,
    pub observer: Observer,
    pub bindings: BindingKeeper,
    pub certificates: CertificateFetcher,
}

/// A registration that is to be kept over a restart.
#[derive(Debug)]
pub enum BindingChange {
    Stored(Box<StoredBinding>),
    Removed { user: Arc<str>, contact: String },
}

/// Where registrations are kept. A slow database must not hold calls up: what does not fit is dropped, and the device
/// registers again.
pub struct BindingKeeper(mpsc::Sender<BindingChange>);

impl BindingKeeper {
    /// `capacity` changes may wait for the database.
    pub fn channel(capacity: usize) -> (BindingKeeper, mpsc::Receiver<BindingChange>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (BindingKeeper(sender), receiver)
    }

    fn send(&self, change: BindingChange) {
        let _ = self.0.try_send(change);
    }
}

/// Media of one call.
struct CallMedia {
    /// Where its legs are opened.
    worker: WorkerId,
    /// Legs whose ports are open, each with the thread that has it.
    legs: Vec<(LegId, WorkerId)>,
}

/// One signalling shard with all it owns.
pub struct Shard {
    pub exchange: Exchange,
    pub transports: Transports,
    pub ports: PortAllocator,
    workers: MediaWorkers,
    pub journal: Journal,
    pub rates: Arc<RateTable>,
    pub observer: Observer,
    bindings: BindingKeeper,
    pub certificates: CertificateFetcher,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    messages: mpsc::Receiver<TransportEvent>,
    media: HashMap<CallId, CallMedia>,
    tickets: HashMap<u64, (CallId, RecordStep)>,
    next_ticket: u64,
    /// Requests that begin something.
    newcomers: Queue<TransportEvent>,
    /// What the door of the transports was told last.
    told: Option<(Arc<Settings>, Arc<Dialplan>)>,
    /// What it turned away, as far as it was counted.
    turned_away: u64,
    stopping: bool,
}

impl Shard {
    pub fn new(parts: ShardParts) -> Shard {
        Shard {
            exchange: parts.exchange,
            transports: parts.transports,
            ports: parts.ports,
            workers: parts.workers,
            journal: parts.journal,
            rates: parts.rates,
            observer: parts.observer,
            bindings: parts.bindings,
            certificates: parts.certificates,
            inbox: parts.inbox.0,
            messages: parts.messages,
            media: HashMap::new(),
            tickets: HashMap::new(),
            next_ticket: 1,
            newcomers: Queue::default(),
            told: None,
            turned_away: 0,
            stopping: false,
        }
    }

    /// Runs until [`stop`](Self::stop), then closes what it owns.
    pub async fn run(mut self) {
        self.tell_ports();
        self.tell_door(Now::read());
        while !self.stopping {
            let due = [self.exchange.poll_timeout(), self.ports.poll_timeout()].into_iter().flatten().min();
            let deadline = due.map(TokioInstant::from_std);
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(event) => self.sort_in(event),
                    None => break,
                },
                inbound = self.inbox.recv() => match inbound {
                    Some(inbound) => self.on_inbound(Now::read(), inbound),
                    None => break,
                },
                // The sockets are read meanwhile.
                () = tokio::task::yield_now(), if !self.newcomers.is_empty() => {}
                () = sleep_until(deadline) => {}
            }
            self.take_waiting();
            for _ in 0..NEWCOMERS {
                let Some(event) = self.newcomers.pop() else { break };
                self.on_transport(Now::read(), event);
            }
            let now = Now::read();
            if self.exchange.poll_timeout().is_some_and(|at| at <= now.instant) {
                self.exchange.handle_timeout(now);
            }
            if self.ports.poll_timeout().is_some_and(|at| at <= now.instant) {
                self.ports.handle_timeout(now.instant);
                self.tell_ports();
            }
            self.carry_out(now);
            self.workers.wake();
            let turned_away = self.transports.stats().turned_away();
            if turned_away > self.turned_away {
                self.observer.turned_away(turned_away - self.turned_away);
                self.turned_away = turned_away;
            }
        }
        self.workers.shutdown();
    }

    /// Ends [`run`](Self::run) after the current turn.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Takes what else is waiting, up to a batch, so that a busy shard wakes up seldom.
    fn take_waiting(&mut self) {
        for _ in 0..BATCH {
            let message = self.messages.try_recv().ok();
            let inbound = self.inbox.try_recv().ok();
            if message.is_none() && inbound.is_none() {
                return;
            }
            let now = Now::read();
            if let Some(event) = message {
                self.sort_in(event);
            }
            if let Some(inbound) = inbound {
                self.on_inbound(now, inbound);
            }
        }
    }

    /// Works off what belongs to something that goes on; what begins something waits its turn, and so does the end of
    /// a stream that may have brought it, and the CANCEL of what may wait.
    fn sort_in(&mut self, event: TransportEvent) {
        match event.line().or_else(|| event.goes_behind(&self.newcomers)) {
            Some(line) => self.newcomers.push(line, event),
            None => self.on_transport(Now::read(), event),
        }
    }

    fn on_transport(&mut self, now: Now, event: TransportEvent) {
        match event {
            // `turn` holds a stream's next message back until this one is worked off.
            TransportEvent::Message { peer, message, tls_names, turn } => {
                self.transports.handled(&turn, now.instant);
                self.observer.received(&peer, &message);
                self.exchange.set_media_busy(!self.workers.admits());
                self.exchange.handle_input(now, Input::Sip { peer, message, tls_names });
            }
            TransportEvent::Malformed { peer, fault, refusal, turn } => {
                self.transports.handled(&turn, now.instant);
                self.observer.malformed(&peer, &fault);
                if let Some(refusal) = refusal {
                    self.transports.send(&peer, refusal, 0);
                }
            }
            TransportEvent::Failed { ticket, .. } => {
                self.exchange.handle_input(now, Input::TransportFailed { ticket });
            }
            TransportEvent::Undelivered { remote, quoted } => {
                self.exchange.handle_input(now, Input::Undelivered { remote, quoted });
            }
            TransportEvent::Closed { connection, .. } => {
                self.exchange.handle_input(now, Input::ConnectionClosed { connection });
            }
        }
        self.carry_out(now);
    }

    fn on_inbound(&mut self, now: Now, inbound: Inbound) {
        match inbound {
            Inbound::Media(event) => self.on_media(now, event),
            Inbound::Journal(event) => self.on_journal(now, event),
            Inbound::Resolved { trunk, targets } => {
                self.exchange.handle_input(now, Input::TrunkResolved { trunk, targets });
                self.transports.set_trunks(self.exchange.trunk_networks());
            }
            Inbound::Certificate { url, fetched } => {
                self.exchange.handle_input(now, Input::CertificateFetched { url, fetched });
            }
            Inbound::Errand(errand) => {
                errand(self, now);
                self.tell_door(now);
            }
        }
        self.carry_out(now);
    }

    fn on_media(&mut self, now: Now, event: MediaEvent) {
        match event {
            MediaEvent::Latched { leg, .. } => self.observer.latched(leg),
            MediaEvent::FirstPacket { .. } => {}
            // A leg whose keys can't be used will never be heard: it ends as one that fell silent.
            MediaEvent::TimedOut { leg } | MediaEvent::Unusable { leg } => {
                self.exchange.handle_input(now, Input::MediaTimedOut { leg });
            }
            MediaEvent::Fault { leg, fault } => {
                self.exchange.handle_input(now, Input::MediaFault { leg, fault });
            }
            MediaEvent::Report { leg, report, .. } => {
                self.exchange.handle_input(now, Input::MediaReport { leg, report });
            }
            MediaEvent::Closed { leg, report, sockets } => {
                self.ports.release(sockets, now.instant);
                self.tell_ports();
                if let Some(media) = self.media.get_mut(&leg.call) {
                    media.legs.retain(|(open, _)| *open != leg);
                }
                self.exchange.handle_input(now, Input::MediaClosed { leg, report });
            }
        }
    }

    fn on_journal(&mut self, now: Now, event: JournalEvent) {
        let (ticket, durable) = match event {
            JournalEvent::Durable { ticket } => (ticket, true),
            JournalEvent::Failed { ticket } => {
                self.observer.journal("a call record could not be made durable");
                (ticket, false)
            }
            JournalEvent::Broken => {
                self.observer
                    .journal("the journal can't be written: running calls end, new ones are refused");
                self.exchange.hang_up_all(now, EndCause::JournalFailed);
                return;
            }
            JournalEvent::Stalled => return self.observer.journal("the disk of the journal does not answer"),
            JournalEvent::Recovered => return self.observer.journal("the journal writes again"),
        };
        if let Some((call, step)) = self.tickets.remove(&ticket) {
            self.exchange.handle_input(now, Input::Recorded { call, step, durable });
        }
    }

    /// Does what the exchange orders until it orders nothing more.
    pub fn carry_out(&mut self, now: Now) {
        while let Some(output) = self.exchange.poll_output() {
            match output {
                Output::Transmit { peer, bytes, ticket } => {
                    self.observer.sent(&peer, &bytes);
                    self.transports.send(&peer, bytes, ticket);
                }
                Output::Reserve { call } => {
                    let reserved = match self.journal.reserve(call) {
                        Ok(()) => true,
                        Err(refusal) => {
                            self.observer.journal(&refusal.to_string());
                            false
                        }
                    };
                    self.exchange.handle_input(now, Input::Reserved { call, reserved });
                }
                Output::OpenMedia { leg, kind, network, address, beside } => {
                    let result = self.open_media(now, leg, kind, network, address, beside);
                    self.exchange.handle_input(now, Input::MediaOpened { leg, result });
                }
                Output::ConfigureMedia { leg, config } => {
                    self.order(leg, MediaCommand::ConfigureLeg { leg, config });
                }
                Output::Bridge { caller, callee } => {
                    let mark = self.journal.last_media().slot(caller.call);
                    self.order(caller, MediaCommand::Bridge { a: caller, b: callee, mark });
                }
                Output::Serve { leg, line } => {
                    let mark = self.journal.last_media().slot(leg.call);
                    self.order(leg, MediaCommand::Serve { leg, line, mark });
                }
                Output::PlayTone { leg, tone, unless } => {
                    self.order(leg, MediaCommand::PlayTone { leg, tone, unless });
                }
                Output::StopTone { leg } => self.order(leg, MediaCommand::StopTone { leg }),
                Output::MoveMedia { leg, beside } => self.move_media(leg, beside),
                Output::SetMediaTimeout { leg, after } => {
                    self.order(leg, MediaCommand::SetTimeout { leg, after });
                }
                Output::SetConversation { leg, on } => {
                    self.order(leg, MediaCommand::SetConversation { leg, on });
                }
                Output::ReportMedia { leg } => self.order(leg, MediaCommand::Report { leg, tag: 0 }),
                Output::CloseMedia { leg } => self.order(leg, MediaCommand::CloseLeg { leg }),
                Output::Record { call, record, wait } => self.record(call, record, wait),
                Output::FetchCertificate { url } => self.certificates.fetch(url),
                Output::Forget { call } => {
                    self.journal.release(call);
                    self.media.remove(&call);
                }
                Output::BindingStored(binding) => {
                    let address = binding.remote.ip();
                    self.transports.set_user(now.instant, address, self.exchange.registrar().longest());
                    self.bindings.send(BindingChange::Stored(binding));
                }
                Output::BindingRemoved { user, contact } => {
                    self.bindings.send(BindingChange::Removed { user, contact });
                }
                Output::Mute { source } => self.transports.mute(now.instant, source, MUTED),
                Output::Event(event) => self.observer.event(event),
            }
        }
    }

    fn open_media(
        &mut self,
        now: Now,
        leg: LegId,
        kind: LegKind,
        network: NetworkId,
        address: IpAddr,
        beside: Option<CallId>,
    ) -> Result<MediaPorts, PortsExhausted> {
        let sockets = match self.ports.allocate(network, Family::of(address), now.instant) {
            Ok(sockets) => sockets,
            Err(error) => {
                self.observer.ports(&error.to_string());
                return Err(PortsExhausted);
            }
        };
        self.tell_ports();
        let (rtp, rtcp) = (sockets.local_rtp.port(), sockets.local_rtcp_port());
        let workers = &self.workers;
        let beside = beside.and_then(|call| self.media.get(&call)).map(|media| media.worker);
        let media = self.media.entry(leg.call).or_insert_with(|| CallMedia {
            worker: beside.unwrap_or_else(|| workers.assign(leg.call)),
            legs: Vec::with_capacity(2),
        });
        let ports = MediaPorts { rtp, rtcp, worker: media.worker.0 };
        media.legs.push((leg, media.worker));
        workers.leave(media.worker, MediaCommand::OpenLeg { leg, kind, sockets, config: None });
        Ok(ports)
    }

    /// Tells the door of the transports who is no stranger and which numbers help, where a reload may have changed it.
    fn tell_door(&mut self, now: Now) {
        let (settings, dialplan) = (self.exchange.settings(), self.exchange.dialplan());
        let told = self.told.as_ref().is_some_and(|(old_settings, old_dialplan)| {
            Arc::ptr_eq(old_settings, settings) && Arc::ptr_eq(old_dialplan, dialplan)
        });
        if told {
            return;
        }
        self.told = Some((settings.clone(), dialplan.clone()));
        self.transports.set_trunks(self.exchange.trunk_networks());
        let longest = self.exchange.registrar().longest();
        for (_, bindings) in self.exchange.registrar().iter() {
            for binding in bindings {
                self.transports.set_user(now.instant, binding.peer.remote.ip(), longest);
            }
        }
        let dialplan = dialplan.clone();
        self.transports.set_urgent(move |called| dialplan.is_emergency_number(called));
    }

    fn tell_ports(&self) {
        let ports = &self.ports;
        self.observer.ports_now(ports.idle(), ports.configured(), ports.rushed(), ports.disturbed());
    }

    /// Asks a leg's worker how it is and was; `tell` is dropped untold if there is none.
    pub fn look(&self, leg: LegId, tell: impl FnOnce(LegReport, Vec<QualitySample>) + Send + 'static) {
        self.order(leg, MediaCommand::Look { leg, tell: Box::new(tell) });
    }

    fn order(&self, leg: LegId, command: MediaCommand) {
        if let Some(worker) = self.worker_of(leg) {
            self.workers.leave(worker, command);
        }
    }

    fn worker_of(&self, leg: LegId) -> Option<WorkerId> {
        let legs = &self.media.get(&leg.call)?.legs;
        legs.iter().find(|(open, _)| *open == leg).map(|(_, worker)| *worker)
    }

    /// Brings a leg to the thread that has another one.
    fn move_media(&mut self, leg: LegId, beside: LegId) {
        let (Some(from), Some(to)) = (self.worker_of(leg), self.worker_of(beside)) else { return };
        self.workers.leave_move(leg, from, to);
        let legs = self.media.get_mut(&leg.call).map(|media| media.legs.iter_mut());
        for (_, worker) in legs.into_iter().flatten().filter(|(open, _)| *open == leg) {
            *worker = to;
        }
    }

    fn record(&mut self, call: CallId, mut record: JournalRecord, wait: Option<RecordStep>) {
        if let JournalRecord::End(cdr) = &mut record {
            self.rates.rate(cdr);
            self.observer.rated(cdr);
        }
        let ticket = wait.map(|step| {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.tickets.insert(ticket, (call, step));
            ticket
        });
        self.journal.append(record, ticket);
    }

    /// Media workers, for their counters.
    pub fn workers(&self) -> &MediaWorkers {
        &self.workers
    }

    /// Things that are still held; nothing when no call goes on.
    pub fn held(&self) -> usize {
        self.exchange.held() + self.media.len() + self.tickets.len()
    }
}

async fn sleep_until(deadline: Option<TokioInstant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
