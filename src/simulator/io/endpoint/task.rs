//! The task behind an endpoint: one loop over messages, orders and the agent's clock.

use super::{
    Arrival, Binding, Command, Controls, Observer, RegisterOutcome, Session, SessionEvent, Steer, Visit,
    VoiceOptions,
};
use crate::sdp::{Capability, Loopback};
use crate::simulator::SimulatorError;
use crate::simulator::agent::{CallEvent, CallHandle, Invitation, Output, UserAgent};
use crate::simulator::io::media::{MediaThreads, StreamId, StreamSockets};
use crate::simulator::io::stream_seed;
use crate::simulator::stream::StreamPlan;
use crate::sip::io::{TransportEvent, Transports};
use crate::types::{MediaDirection, Now, SrtpSuite};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

pub(super) struct Attached {
    events: mpsc::UnboundedSender<SessionEvent>,
    stream: Option<StreamId>,
}

pub(super) struct Registering {
    reply: oneshot::Sender<RegisterOutcome>,
    since: Now,
}

pub(super) struct Task {
    pub(super) agent: UserAgent,
    pub(super) transports: Transports,
    pub(super) media: MediaThreads,
    pub(super) voice: Arc<VoiceOptions>,
    pub(super) observer: Option<Observer>,
    pub(super) calls: HashMap<CallHandle, Attached>,
    pub(super) registering: Option<Registering>,
    pub(super) visits: mpsc::UnboundedSender<Visit>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

impl Task {
    /// Serves messages, orders and timers until it is stopped, or nobody is left.
    pub(super) async fn run(
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
            TransportEvent::Undelivered { remote, quoted } => {
                self.agent.handle_undelivered(now, remote, &quoted);
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
            suites: SrtpSuite::ALL.to_vec(),
            address: sockets.address,
            rtcp_port: sockets.rtcp_port,
            rtcp_mux: false,
            loopback: Loopback::Reached,
            ptime_ms: voice.ptime_ms,
            direction: MediaDirection::SendRecv,
        };
        Ok((self.media.open(sockets, plan, stream_seed()), capability))
    }

    #[allow(clippy::disallowed_methods, reason = "a call has a handful of events")]
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
                Output::Polled { peer: _ } | Output::Alive { status: _ } => {}
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
