//! Keeps the messages of the most recent calls.

use super::Flow;
use crate::types::{CallId, EndCause, LegId, LegReport, Peer, Transport};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// Messages of one call: its beginning and its end tell the story, a thousand session refreshes between them do not.
const MOST_MESSAGES: usize = 200;
/// Of these, so many from the beginning.
const FIRST_MESSAGES: usize = 120;
/// Messages that came before their call was known: its first INVITE, mostly.
const UNCLAIMED: usize = 256;

/// The octets of a message; keeping it copies none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Octets {
    Whole(Bytes),
    /// What was received: the text up to the body, and the body.
    Parts {
        head: Arc<str>,
        body: Bytes,
    },
}

impl Octets {
    pub fn len(&self) -> usize {
        match self {
            Octets::Whole(bytes) => bytes.len(),
            Octets::Parts { head, body } => head.len() + body.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn to_bytes(&self) -> Bytes {
        match self {
            Octets::Whole(bytes) => bytes.clone(),
            Octets::Parts { head, body } => [head.as_bytes(), body].concat().into(),
        }
    }
}

/// One message as it passed.
#[derive(Debug, Clone)]
pub struct KeptMessage {
    pub unix_micros: i64,
    pub flow: Flow,
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub octets: Octets,
}

/// One leg of a traced call.
#[derive(Debug, Clone)]
pub struct KeptLeg {
    pub index: u8,
    /// `user alice` or `trunk operator-a`.
    pub party: Arc<str>,
    pub call_id: Arc<str>,
    pub report: Option<LegReport>,
}

/// What is kept of one call.
#[derive(Debug, Clone)]
pub struct Kept {
    pub call: CallId,
    pub legs: Vec<KeptLeg>,
    /// In the order in which they passed, each with the place of its leg in `legs`.
    pub messages: Vec<(usize, KeptMessage)>,
    /// Messages left out of the middle.
    pub left_out: usize,
    pub end: Option<(EndCause, Option<u64>)>,
}

/// The traces of the last calls. Nothing here grows beyond its bounds.
pub struct Recorder {
    most_calls: usize,
    calls: HashMap<CallId, Kept>,
    order: VecDeque<CallId>,
    legs: HashMap<Arc<str>, (CallId, usize)>,
    unclaimed: VecDeque<(Arc<str>, KeptMessage)>,
}

impl Recorder {
    /// Keeps `most_calls` calls; 0 keeps none.
    pub fn new(most_calls: usize) -> Recorder {
        Recorder {
            most_calls,
            calls: HashMap::new(),
            order: VecDeque::new(),
            legs: HashMap::new(),
            unclaimed: VecDeque::new(),
        }
    }

    /// True where nothing is kept: then nobody needs to look at messages.
    pub fn is_off(&self) -> bool {
        self.most_calls == 0
    }

    /// A reload changed how many are kept.
    pub fn set_most_calls(&mut self, most_calls: usize) {
        self.most_calls = most_calls;
        self.forget_surplus();
        if self.is_off() {
            self.unclaimed.clear();
        }
    }

    /// A leg of a call has a Call-ID. Messages that passed before are taken over.
    pub fn leg(&mut self, leg: LegId, party: Arc<str>, call_id: &str) {
        if self.is_off() {
            return;
        }
        let order = &mut self.order;
        self.calls.entry(leg.call).or_insert_with(|| {
            order.push_back(leg.call);
            Kept { call: leg.call, legs: Vec::new(), messages: Vec::new(), left_out: 0, end: None }
        });
        self.forget_surplus();
        let Some(kept) = self.calls.get_mut(&leg.call) else { return };
        let call_id: Arc<str> = call_id.into();
        let place = kept.legs.len();
        kept.legs.push(KeptLeg { index: leg.index, party, call_id: call_id.clone(), report: None });
        self.legs.insert(call_id.clone(), (leg.call, place));
        let waiting = std::mem::take(&mut self.unclaimed);
        for (of, message) in waiting {
            if of == call_id {
                kept.keep(place, message);
            } else {
                self.unclaimed.push_back((of, message));
            }
        }
    }

    /// A message passed; gives the call it belongs to, if that is known.
    pub fn message(&mut self, message: KeptMessage, call_id: &str) -> Option<CallId> {
        if self.is_off() {
            return None;
        }
        match self.legs.get(call_id).copied() {
            Some((call, place)) => {
                self.calls.get_mut(&call)?.keep(place, message);
                Some(call)
            }
            None => {
                if self.unclaimed.len() >= UNCLAIMED {
                    self.unclaimed.pop_front();
                }
                self.unclaimed.push_back((call_id.into(), message));
                None
            }
        }
    }

    /// A call ended, with what its caller's and its callee's legs heard; `duration_ms` is `None` for one that was not
    /// answered. `callee` is the index of the leg that answered.
    pub fn end(
        &mut self,
        call: CallId,
        cause: EndCause,
        duration_ms: Option<u64>,
        reports: [Option<LegReport>; 2],
        callee: Option<u8>,
    ) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        kept.end = Some((cause, duration_ms));
        let [caller, of_callee] = reports;
        for leg in &mut kept.legs {
            if leg.index == 0 {
                leg.report.clone_from(&caller);
            } else if Some(leg.index) == callee {
                leg.report.clone_from(&of_callee);
            }
        }
    }

    pub fn get(&self, call: CallId) -> Option<&Kept> {
        self.calls.get(&call)
    }

    fn forget_surplus(&mut self) {
        while self.order.len() > self.most_calls {
            let Some(oldest) = self.order.pop_front() else { return };
            for leg in self.calls.remove(&oldest).into_iter().flat_map(|kept| kept.legs) {
                self.legs.remove(&leg.call_id);
            }
        }
    }
}

impl KeptMessage {
    pub fn new(unix_micros: i64, flow: Flow, peer: &Peer, octets: Octets) -> KeptMessage {
        let Peer { transport, local, remote, .. } = *peer;
        KeptMessage { unix_micros, flow, transport, local, remote, octets }
    }
}

impl Kept {
    fn keep(&mut self, place: usize, message: KeptMessage) {
        if self.messages.len() >= MOST_MESSAGES {
            self.messages.remove(FIRST_MESSAGES);
            self.left_out += 1;
        }
        self.messages.push((place, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NetworkId;

    fn call(n: u8) -> CallId {
        CallId::from_parts(0, [n; 10])
    }

    fn leg(n: u8, index: u8) -> LegId {
        LegId { call: call(n), index }
    }

    fn peer() -> Peer {
        Peer {
            network: NetworkId(0),
            transport: Transport::Udp,
            remote: "192.0.2.1:5060".parse().unwrap(),
            local: "192.0.2.9:5060".parse().unwrap(),
            connection: None,
            tls_name: None,
        }
    }

    fn pass(recorder: &mut Recorder, call_id: &str, text: &'static str) -> Option<CallId> {
        let octets = Octets::Whole(Bytes::from_static(text.as_bytes()));
        recorder.message(KeptMessage::new(1_000_000, Flow::Received, &peer(), octets), call_id)
    }

    #[test]
    fn both_legs_are_told_in_the_order_of_their_messages() {
        let mut recorder = Recorder::new(10);
        assert_eq!(pass(&mut recorder, "a", "INVITE"), None, "before anybody knows the call");
        recorder.leg(leg(1, 0), "user alice".into(), "a");
        recorder.leg(leg(1, 1), "trunk x".into(), "b");
        assert_eq!(pass(&mut recorder, "b", "180"), Some(call(1)));
        assert_eq!(pass(&mut recorder, "a", "BYE"), Some(call(1)));
        pass(&mut recorder, "elsewhere", "OPTIONS");
        let kept = recorder.get(call(1)).unwrap();
        let told: Vec<_> = kept.messages.iter().map(|(leg, m)| (*leg, m.octets.to_bytes())).collect();
        assert_eq!(told, [(0, "INVITE".into()), (1, "180".into()), (0, "BYE".into())]);
    }

    #[test]
    fn the_oldest_call_goes_first_with_all_that_led_to_it() {
        let mut recorder = Recorder::new(2);
        for n in 1..=3 {
            recorder.leg(leg(n, 0), "user alice".into(), &format!("id-{n}"));
        }
        assert!(recorder.get(call(1)).is_none());
        assert!(recorder.get(call(2)).is_some() && recorder.get(call(3)).is_some());
        assert_eq!(pass(&mut recorder, "id-1", "BYE"), None);
        assert_eq!(recorder.legs.len(), 2);
    }

    #[test]
    fn a_long_call_keeps_its_beginning_and_its_end() {
        let mut recorder = Recorder::new(1);
        recorder.leg(leg(1, 0), "user alice".into(), "a");
        pass(&mut recorder, "a", "first");
        for _ in 0..1_000 {
            pass(&mut recorder, "a", "between");
        }
        pass(&mut recorder, "a", "last");
        let kept = recorder.get(call(1)).unwrap();
        assert_eq!(kept.messages.len(), MOST_MESSAGES);
        assert_eq!(kept.left_out, 1_002 - MOST_MESSAGES);
        assert_eq!(kept.messages.first().unwrap().1.octets.to_bytes(), "first");
        assert_eq!(kept.messages.last().unwrap().1.octets.to_bytes(), "last");
    }

    #[test]
    fn what_belongs_to_no_call_does_not_pile_up() {
        let mut recorder = Recorder::new(1);
        for n in 0..10_000 {
            pass(&mut recorder, &format!("options-{n}"), "OPTIONS");
        }
        assert_eq!(recorder.unclaimed.len(), UNCLAIMED);
    }

    #[test]
    fn switched_off_nothing_is_kept() {
        let mut recorder = Recorder::new(0);
        recorder.leg(leg(1, 0), "user alice".into(), "a");
        pass(&mut recorder, "a", "INVITE");
        assert!(recorder.get(call(1)).is_none() && recorder.unclaimed.is_empty());
        let mut recorder = Recorder::new(5);
        recorder.leg(leg(1, 0), "user alice".into(), "a");
        recorder.set_most_calls(0);
        assert!(recorder.get(call(1)).is_none() && recorder.legs.is_empty());
    }
}
