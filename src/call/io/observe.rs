//! What happened, told to the metrics and the log. Numbers are masked; nothing here can block a call.

use crate::billing::{Cdr, NotRated, Rated};
use crate::call::event::{Event, RefusedFor};
use crate::config::TraceConfig;
use crate::routing::AdminState;
use crate::sip::message::{Message, ParseErrorKind, Typed};
use crate::telemetry::metrics::{Flow, Metrics, Refused};
use crate::telemetry::trace::{HepExport, Kept, KeptMessage, Octets, Recorder, Sender};
use crate::types::{CallId, Emergency, LegId, Outcome, Peer};
use bytes::Bytes;
use std::sync::Arc;

/// Sees every message as it passes, for the ladder of a demo or a test.
pub type Tap = Box<dyn Fn(&Peer, &[u8], Flow) + Send>;

/// Turns events into counts and log lines.
pub struct Observer {
    metrics: Arc<Metrics>,
    tap: Option<Tap>,
    recorder: Recorder,
    export: Option<HepExport>,
}

impl Observer {
    pub fn new(metrics: Arc<Metrics>, tap: Option<Tap>, trace: &TraceConfig) -> Observer {
        let mut observer = Observer { metrics, tap, recorder: Recorder::new(0), export: None };
        observer.set_trace(trace);
        observer
    }

    /// Takes up how many calls are traced, and whether copies go to a capture server.
    pub fn set_trace(&mut self, trace: &TraceConfig) {
        self.recorder.set_most_calls(trace.calls);
        self.export = trace.hep.and_then(|server| {
            let sender = Sender { capture_id: trace.hep_id, key: trace.hep_password.clone() };
            let opened = HepExport::open(server, sender);
            opened
                .inspect_err(
                    |error| tracing::error!(target: "tandem::sip", %error, "copies for the capture server can't be sent"),
                )
                .ok()
        });
    }

    /// What is kept of a recent call.
    pub fn trace(&self, call: CallId) -> Option<&Kept> {
        self.recorder.get(call)
    }

    fn is_traced(&self) -> bool {
        !self.recorder.is_off() || self.export.is_some()
    }

    fn keep(&mut self, flow: Flow, peer: &Peer, call_id: &str, octets: Octets) {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let message = KeptMessage::new(wall.as_micros() as i64, flow, peer, octets);
        if let Some(export) = &mut self.export
            && !export.send(&message, call_id)
        {
            self.metrics.sip.trace_dropped();
        }
        self.recorder.message(message, call_id);
    }

    pub fn received(&mut self, peer: &Peer, message: &Message) {
        if let Some(tap) = &self.tap {
            tap(peer, &message.to_bytes(), Flow::Received);
        }
        if self.is_traced() {
            let octets = match message.headers().source() {
                Some(head) => Octets::Parts { head: head.clone(), body: message.body().clone() },
                None => Octets::Whole(message.to_bytes()),
            };
            self.keep(Flow::Received, peer, message.call_id().unwrap_or_default(), octets);
        }
        tracing::trace!(target: "tandem::sip", transport = peer.transport.as_str(), "received a message");
    }

    pub fn sent(&mut self, peer: &Peer, bytes: &Bytes) {
        if let Some(tap) = &self.tap {
            tap(peer, bytes, Flow::Sent);
        }
        if self.is_traced() {
            let call_id = call_id_of(bytes).unwrap_or_default();
            self.keep(Flow::Sent, peer, call_id, Octets::Whole(bytes.clone()));
        }
    }

    pub fn malformed(&self, peer: &Peer, fault: &ParseErrorKind) {
        let kind = if fault.status() == 513 { Refused::TooLarge } else { Refused::Malformed };
        self.metrics.sip.refused(kind);
        tracing::debug!(target: "tandem::sip", transport = peer.transport.as_str(), fault = fault.label(), "refused a malformed message");
    }

    /// Messages that were turned away unread, or found no room.
    pub fn turned_away(&self, count: u64) {
        self.metrics.sip.refused_many(Refused::Overload, count);
    }

    pub fn latched(&self, leg: LegId) {
        tracing::debug!(target: "tandem::media", call = %leg.call, leg = leg.index, "media comes from another address than its SDP says");
    }

    pub fn journal(&self, what: &str) {
        tracing::error!(target: "tandem::billing", "{what}");
    }

    /// Media ports no leg has, all there are, those that had to be used before they had rested, and those that had to rest
    /// longer.
    pub fn ports_now(&self, idle: usize, configured: usize, rushed: u64, disturbed: u64) {
        self.metrics.media.set_ports(idle, configured, rushed, disturbed);
    }

    pub fn ports(&self, what: &str) {
        tracing::error!(target: "tandem::media", "{what}");
    }

    pub fn rated(&self, cdr: &Cdr) {
        let charge = |side: &Option<Rated>| match side {
            Some(Rated::Charge(charge)) => Some(charge.amount),
            Some(Rated::NotRated(_)) | None => None,
        };
        self.metrics.system.charged(charge(&cdr.sell), charge(&cdr.buy));
        match &cdr.sell {
            Some(Rated::NotRated(NotRated::NoRate | NotRated::NoNumber)) => self.metrics.system.not_rated(),
            Some(Rated::NotRated(
                NotRated::NotAnswered | NotRated::AppToApp | NotRated::TestLine | NotRated::Received,
            )) => {}
            Some(Rated::Charge(_)) | None => {}
        }
    }

    pub fn event(&mut self, event: Event) {
        let metrics = &self.metrics;
        match event {
            Event::Request { method, transport, received } => {
                let flow = if received { Flow::Received } else { Flow::Sent };
                metrics.sip.request(method.as_str(), transport, flow);
            }
            Event::Response { status, method } => metrics.sip.response(status, method.as_str()),
            Event::Retransmission => metrics.sip.retransmission(),
            Event::Dropped => metrics.sip.refused(Refused::Overload),
            Event::CallStarted { call, direction } => {
                tracing::info!(target: "tandem::call", %call, direction = direction.as_str(), "call started");
            }
            Event::AttemptStarted { trunk, direction } => {
                metrics.trunk(trunk.as_deref().unwrap_or("")).attempt(direction);
            }
            Event::AttemptEnded { trunk, direction, outcome, failed_over } => {
                let name = trunk.as_deref().unwrap_or("");
                if failed_over {
                    metrics.trunk(name).failed_over(direction, outcome);
                    tracing::warn!(target: "tandem::call", trunk = name, outcome = outcome.as_str(), "the trunk failed; another has the call");
                } else {
                    metrics.trunk(name).ended(direction, outcome);
                }
            }
            Event::TrunkProgress { trunk, after } => metrics.trunk(&trunk).setup(after.as_secs_f64()),
            Event::CallAnswered { call, trunk, direction } => {
                tracing::info!(target: "tandem::call", %call, trunk = trunk.as_deref(), direction = direction.as_str(), "call answered");
            }
            Event::LegKnown { leg, party, call_id } => self.recorder.leg(leg, party, &call_id),
            Event::CallEnded {
                call,
                trunk,
                direction,
                cause,
                emergency,
                duration_ms,
                ingress,
                caller,
                callee,
                callee_leg,
            } => {
                let heard = [&caller, &callee].map(|leg| leg.as_ref().map(|(_, report)| report.clone()));
                self.recorder.end(call, cause, duration_ms, heard, callee_leg);
                let handles = metrics.trunk(trunk.as_deref().unwrap_or(""));
                if emergency == Some(Emergency::Call) {
                    handles.emergency(cause.outcome());
                    if !matches!(cause.outcome(), Outcome::Answered | Outcome::Cancelled) {
                        tracing::error!(target: "tandem::call", %call, trunk = trunk.as_deref(), cause = cause.as_str(), "an emergency call failed");
                    }
                }
                if let Some(duration) = duration_ms {
                    handles.duration(duration as f64 / 1e3);
                    let ingress = ingress.map(|name| metrics.trunk(&name));
                    handles.measured(ingress.as_deref(), caller.as_ref(), callee.as_ref());
                }
                tracing::info!(
                    target: "tandem::call",
                    %call,
                    trunk = trunk.as_deref(),
                    direction = direction.as_str(),
                    cause = cause.as_str(),
                    duration_ms,
                    "call ended"
                );
            }
            Event::AudioFault { call, trunk, leg, of, fault, counted } => {
                let name = trunk.as_deref().unwrap_or("");
                if !counted {
                    metrics.trunk(name).fault(fault);
                }
                tracing::warn!(
                    target: "tandem::media",
                    %call,
                    trunk = name,
                    leg = leg.as_str(),
                    of = of.as_deref(),
                    fault = fault.as_str(),
                    "one side is not heard"
                );
            }
            Event::StirVerified { call, trunk, result } => {
                metrics.trunk(&trunk).stir_verified(result);
                tracing::info!(target: "tandem::stir", %call, %trunk, result = result.as_str(), "checked the caller's signed identity");
            }
            Event::StirUnsigned { call, trunk } => {
                tracing::warn!(target: "tandem::stir", %call, %trunk, "a call goes unsigned: the certificate of [stir] has ended");
            }
            Event::StirSigned { trunk, attestation } => metrics.trunk(&trunk).stir_signed(attestation),
            Event::TrunkHealth { trunk, up } => {
                metrics.trunk(&trunk).set_up(up);
                if up {
                    tracing::info!(target: "tandem::trunk", %trunk, "trunk is up");
                } else {
                    tracing::warn!(target: "tandem::trunk", %trunk, "trunk is down");
                }
            }
            Event::TrunkAdmin { trunk, admin } => {
                let handles = metrics.trunk(&trunk);
                handles.set_draining(admin == AdminState::Draining);
                tracing::info!(target: "tandem::trunk", %trunk, state = admin.as_str(), "trunk set by its operator");
            }
            Event::TrunkBlocked { trunk, blocked } => metrics.trunk(&trunk).set_blocked(blocked),
            Event::TrunkDrained { trunk } => {
                tracing::info!(target: "tandem::trunk", %trunk, "draining trunk carries no call any more");
            }
            Event::TrunkOptions { trunk, round_trip } => {
                metrics.trunk(&trunk).options_rtt(round_trip.as_secs_f64());
            }
            Event::TrunkRegistered { trunk, registered, why } => {
                if registered {
                    tracing::debug!(target: "tandem::trunk", %trunk, "registered at the trunk");
                } else {
                    tracing::warn!(target: "tandem::trunk", %trunk, %why, "not registered at the trunk");
                }
            }
            Event::Registrations { active } => metrics.sip.set_registrations(active),
            Event::Challenged { method, failed } => {
                if failed {
                    metrics.sip.refused(Refused::Unauthenticated);
                }
                tracing::debug!(target: "tandem::sip", method = method.as_str(), failed, "asked for credentials");
            }
            Event::RefusedForMedia => metrics.media.refused_call(),
            Event::Refused { method, status, why } => {
                metrics.sip.refused(match why {
                    RefusedFor::UnknownDialog => Refused::UnknownDialog,
                    RefusedFor::Stranger => Refused::UnknownSource,
                    RefusedFor::OtherUser => Refused::Unauthenticated,
                    RefusedFor::Unsupported => Refused::Unsupported,
                    RefusedFor::Loop => Refused::Loop,
                    RefusedFor::Malformed => Refused::Malformed,
                    RefusedFor::Overload => Refused::Overload,
                });
                tracing::debug!(target: "tandem::sip", method = method.as_str(), status, ?why, "refused a request");
            }
        }
    }
}

/// The Call-ID of a message that we wrote ourselves: its name is never folded nor shortened.
fn call_id_of(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"Call-ID: ";
    let start =
        memchr::memchr_iter(b'\n', bytes).find(|end| bytes[end + 1..].starts_with(NAME))? + 1 + NAME.len();
    let len = memchr::memchr(b'\r', &bytes[start..])?;
    std::str::from_utf8(&bytes[start..start + len]).ok()
}
