//! What happened, told to the metrics and the log. Numbers are masked; nothing here can block a call.

use crate::billing::{Cdr, Rated};
use crate::call::event::Event;
use crate::sip::message::{Message, ParseError};
use crate::telemetry::metrics::{Flow, Metrics, Refused};
use crate::types::{LegId, LegKind, LegReport, Peer};
use bytes::Bytes;
use std::sync::Arc;

/// Sees every message as it passes, for the ladder of a demo or a test.
pub type Tap = Box<dyn Fn(&Peer, &[u8], Flow) + Send>;

/// Turns events into counts and log lines.
pub struct Observer {
    metrics: Arc<Metrics>,
    tap: Option<Tap>,
}

impl Observer {
    pub fn new(metrics: Arc<Metrics>, tap: Option<Tap>) -> Observer {
        Observer { metrics, tap }
    }

    pub fn received(&self, peer: &Peer, message: &Message) {
        if let Some(tap) = &self.tap {
            tap(peer, &message.to_bytes(), Flow::Received);
        }
        tracing::trace!(target: "tandem::sip", transport = peer.transport.as_str(), "received a message");
    }

    pub fn sent(&self, peer: &Peer, bytes: &Bytes) {
        if let Some(tap) = &self.tap {
            tap(peer, bytes, Flow::Sent);
        }
    }

    pub fn malformed(&self, peer: &Peer, error: &ParseError) {
        self.metrics.sip.refused(Refused::Malformed);
        tracing::debug!(target: "tandem::sip", transport = peer.transport.as_str(), %error, "refused a malformed message");
    }

    pub fn latched(&self, leg: LegId) {
        tracing::debug!(target: "tandem::media", call = %leg.call, leg = leg.index, "media comes from another address than its SDP says");
    }

    pub fn journal(&self, what: &str) {
        tracing::error!(target: "tandem::billing", "{what}");
    }

    pub fn ports(&self, what: &str) {
        tracing::error!(target: "tandem::media", "{what}");
    }

    pub fn rated(&self, cdr: &Cdr) {
        let micros = |side: &Option<Rated>| match side {
            Some(Rated::Charge(charge)) => Some(charge.amount),
            Some(Rated::NotRated(_)) | None => None,
        };
        let (sell, buy) = (micros(&cdr.sell), micros(&cdr.buy));
        match sell.or(buy) {
            Some(any) => self.metrics.system.charged(
                any.currency,
                sell.map(|money| money.micros),
                buy.map(|money| money.micros),
            ),
            None if cdr.is_answered() => self.metrics.system.not_rated(),
            None => {}
        }
    }

    pub fn event(&self, event: Event) {
        let metrics = &self.metrics;
        match event {
            Event::Request { method, transport, received } => {
                let flow = if received { Flow::Received } else { Flow::Sent };
                metrics.sip.request(method.as_str(), transport, flow);
            }
            Event::Response { status, method } => metrics.sip.response(status, method.as_str()),
            Event::Retransmission => metrics.sip.retransmission(),
            Event::CallStarted { call, direction } => {
                tracing::info!(target: "tandem::call", %call, direction = direction.as_str(), "call started");
            }
            Event::AttemptStarted { trunk, direction } => {
                metrics.trunk(trunk.as_deref().unwrap_or("")).attempt(direction);
            }
            Event::AttemptEnded { trunk, direction, outcome } => {
                metrics.trunk(trunk.as_deref().unwrap_or("")).ended(direction, outcome);
            }
            Event::FailedOver { trunk } => {
                metrics.trunk(&trunk).failed_over();
                tracing::warn!(target: "tandem::call", %trunk, "the trunk failed; trying the next");
            }
            Event::TrunkProgress { trunk, after } => metrics.trunk(&trunk).setup(after.as_secs_f64()),
            Event::CallAnswered { call, trunk, direction } => {
                tracing::info!(target: "tandem::call", %call, trunk = trunk.as_deref(), direction = direction.as_str(), "call answered");
            }
            Event::CallEnded { call, trunk, direction, cause, duration_ms, legs } => {
                if let Some(duration) = duration_ms {
                    metrics.trunk(trunk.as_deref().unwrap_or("")).duration(duration as f64 / 1e3);
                }
                for (kind, report) in legs {
                    self.quality(trunk.as_deref().unwrap_or(""), kind, &report);
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
            Event::TrunkHealth { trunk, up, why } => {
                metrics.trunk(&trunk).set_up(up);
                if up {
                    tracing::info!(target: "tandem::trunk", %trunk, "trunk is up");
                } else {
                    tracing::warn!(target: "tandem::trunk", %trunk, %why, "trunk is down");
                }
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
            Event::Challenged { method } => {
                tracing::trace!(target: "tandem::sip", method = method.as_str(), "asked for credentials");
            }
            Event::Refused { method, status, why, kind } => {
                metrics.sip.refused(kind);
                tracing::info!(target: "tandem::sip", method = method.as_str(), status, why, "refused a request");
            }
        }
    }

    fn quality(&self, trunk: &str, kind: LegKind, report: &LegReport) {
        self.metrics.trunk(trunk).quality(kind, report);
    }
}
