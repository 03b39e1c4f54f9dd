//! The door of the transports: what is not let in while the gateway is behind costs as little as can be.

use super::event::Turn;
use super::stats::TransportStats;
use crate::sip::glance::{self, Glance, glance};
use crate::sip::message::{HeaderName, Limits, Message, Method, Response, Uri, parse_with};
use crate::sip::overload::{Newcomer, Overload, OverloadSettings, Verdict};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Tells whether a called number or service is one of those that help.
type Urgent = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What becomes of a message at the door.
pub(super) enum Passage {
    /// It goes in; a newcomer begins something.
    In { newcomer: bool },
    /// It is answered 503 and forgotten.
    Refused { retry_after: Duration },
    /// It is dropped.
    Out,
}

/// A newcomer on its way to the layer above.
pub(super) struct Waiting {
    since: Instant,
    gate: Arc<Gate>,
}

impl Waiting {
    pub(super) fn new(since: Instant, gate: &Arc<Gate>) -> Waiting {
        Waiting { since, gate: Arc::clone(gate) }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "since {:?}", self.since)
    }
}

/// Taken in or lost: it waits no longer.
impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.overload().left();
    }
}

pub(super) struct Gate {
    overload: Mutex<Overload>,
    urgent: ArcSwapOption<Urgent>,
}

impl Gate {
    pub(super) fn new() -> Gate {
        let overload = Overload::new(OverloadSettings::default(), Instant::now());
        Gate { overload: Mutex::new(overload), urgent: ArcSwapOption::empty() }
    }

    fn overload(&self) -> MutexGuard<'_, Overload> {
        // Nothing in it can be left half done.
        self.overload.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Decides on a message by a glance at it, and counts what does not go in.
    pub(super) fn passage(
        &self,
        stats: &TransportStats,
        now: Instant,
        source: IpAddr,
        message: &[u8],
    ) -> Passage {
        let mut overload = self.overload();
        if overload.is_muted(now, source) {
            stats.add(&stats.muted);
            return Passage::Out;
        }
        let (method, uri, call_id) = match glance(message) {
            Glance::Belongs => return Passage::In { newcomer: false },
            Glance::AckOfShed => return Passage::Out,
            Glance::Begins { method, uri, call_id } => (method, uri, call_id),
        };
        let urgent =
            overload.is_limiting() && method == Method::Invite.as_str().as_bytes() && self.is_urgent(uri);
        let newcomer = Newcomer { source, identity: glance::identity(source, call_id), urgent };
        let verdict = overload.admit(now, newcomer);
        drop(overload);
        match verdict {
            Verdict::Admit => Passage::In { newcomer: true },
            Verdict::Refuse { retry_after } => {
                stats.add(&stats.shed);
                Passage::Refused { retry_after }
            }
            Verdict::Drop => {
                stats.add(&stats.shed);
                Passage::Out
            }
        }
    }

    fn is_urgent(&self, uri: &[u8]) -> bool {
        let Some(urgent) = &*self.urgent.load() else { return false };
        std::str::from_utf8(uri)
            .ok()
            .and_then(|uri| uri.parse::<Uri>().ok())
            .is_some_and(|uri| urgent(&uri.called()))
    }

    pub(super) fn handled(&self, turn: &Turn, now: Instant) {
        if let Some(waiting) = &turn.newcomer {
            self.overload().handled(now, now.saturating_duration_since(waiting.since));
        }
    }

    pub(super) fn mute(&self, now: Instant, source: IpAddr, span: Duration) {
        self.overload().mute(now, source, now + span);
    }

    pub(super) fn set_trunks(&self, trunks: Vec<IpNet>) {
        self.overload().set_trunks(trunks);
    }

    pub(super) fn set_user(&self, now: Instant, address: IpAddr) {
        self.overload().set_user(now, address);
    }

    pub(super) fn set_urgent(&self, urgent: Urgent) {
        self.urgent.store(Some(urgent.into()));
    }
}

/// The answer to a request that is not let in: stateless, and told by its tag, so that its ACK is not let in either
/// (RFC 3261 §8.2.7, §21.5.4). `None` for what can't be answered.
pub(super) fn refusal(
    message: &[u8],
    limits: &Limits,
    source: SocketAddr,
    retry_after: Duration,
) -> Option<Bytes> {
    let Ok(Message::Request(request)) = parse_with(message, limits) else { return None };
    if request.method == Method::Ack {
        return None;
    }
    let seconds = retry_after.as_secs().max(1).to_string();
    let mut response = Response::to_request(&request, 503).with_header(HeaderName::RetryAfter, seconds);
    response.note_source(source);
    Some(response.with_shed_tag().to_bytes())
}
