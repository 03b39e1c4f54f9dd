//! The door of the transports: what is not let in while the gateway is behind costs as little as can be.

use super::event::Turn;
use super::stats::TransportStats;
use crate::sip::glance::{self, Glance, Head, glance};
use crate::sip::mark::Marks;
use crate::sip::message::{HeaderName, Limits, Message, Method, Response, Uri, parse_with};
use crate::sip::overload::{Line, Newcomer, Overload, OverloadSettings, Sender, Verdict};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Tells whether a called number or service is one of those that help.
type Urgent = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What becomes of a message at the door.
pub(super) enum Passage {
    /// It goes in; a newcomer begins something, and waits.
    In { newcomer: Option<Waiting> },
    /// It is answered 503 and forgotten.
    Refused { retry_after: Duration },
    /// It is dropped.
    Out,
    /// It came by a stream, and has to wait outside.
    Full { stranger: bool },
}

/// A newcomer on its way to the layer above.
pub(super) struct Waiting {
    since: Instant,
    pub(super) line: Line,
    gate: Arc<Gate>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "since {:?}", self.since)
    }
}

/// Taken in or lost: it waits no longer.
impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.overload().left(self.line);
        self.gate.room.iter().for_each(Notify::notify_one);
    }
}

pub(super) struct Gate {
    /// `None` leaves the door open.
    marks: Option<Marks>,
    overload: Mutex<Overload>,
    urgent: ArcSwapOption<Urgent>,
    /// What a stream waits for that has no room: one for those who are known, one for strangers.
    room: [Notify; 2],
}

impl Gate {
    pub(super) fn new(marks: Option<Marks>) -> Gate {
        let overload = Overload::new(OverloadSettings::default(), Instant::now());
        Gate::with(marks, overload)
    }

    fn with(marks: Option<Marks>, overload: Overload) -> Gate {
        Gate {
            marks,
            overload: Mutex::new(overload),
            urgent: ArcSwapOption::empty(),
            room: Default::default(),
        }
    }

    fn overload(&self) -> MutexGuard<'_, Overload> {
        // Nothing in it can be left half done.
        self.overload.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Decides on a message by a glance at it, and counts what does not go in.
    pub(super) fn passage(
        self: &Arc<Gate>,
        stats: &TransportStats,
        now: Instant,
        sender: Sender,
        message: &[u8],
    ) -> Passage {
        let Some(marks) = &self.marks else { return Passage::In { newcomer: None } };
        let (head, claims, useless) = match glance(marks, message) {
            Glance::Belongs => return Passage::In { newcomer: None },
            Glance::AckOfShed => return Passage::Out,
            Glance::AckOfRefusal(head) => (head, true, true),
            Glance::Claims(head) => (head, true, false),
            Glance::Begins(head) => (head, false, false),
        };
        let mut overload = self.overload();
        // It is let in for the trace alone, and takes nobody's share.
        if useless && overload.is_limiting() {
            return Passage::Out;
        }
        // Of whoever is known it is believed, of all others it may be a flood.
        if claims && overload.is_known(now, sender) {
            return Passage::In { newcomer: None };
        }
        if overload.is_muted(now, sender) {
            stats.add(&stats.muted);
            return Passage::Out;
        }
        let urgent = !claims
            && overload.is_limiting()
            && head.method == Method::Invite.as_str().as_bytes()
            && self.is_urgent(&head);
        let newcomer = Newcomer { sender, identity: glance::identity(sender.address, &head), urgent };
        let verdict = overload.admit(now, newcomer);
        drop(overload);
        match verdict {
            Verdict::Admit { line } => {
                Passage::In { newcomer: Some(Waiting { since: now, line, gate: Arc::clone(self) }) }
            }
            Verdict::Refuse { retry_after } => {
                stats.add(&stats.shed);
                Passage::Refused { retry_after }
            }
            Verdict::Drop => {
                stats.add(&stats.shed);
                Passage::Out
            }
            Verdict::Full { stranger } => Passage::Full { stranger },
        }
    }

    /// The same for what came by a stream: where there is no room it waits until there is.
    pub(super) async fn stream_passage(
        self: &Arc<Gate>,
        stats: &TransportStats,
        sender: Sender,
        message: &[u8],
    ) -> Passage {
        let mut woken = None;
        loop {
            let passage = self.passage(stats, Instant::now(), sender, message);
            if let Passage::Full { stranger } = passage {
                let room = &self.room[usize::from(stranger)];
                room.notified().await;
                woken = Some(room);
                continue;
            }
            // Whoever was woken and takes no place leaves it to the next.
            if let (Some(room), Passage::Refused { .. } | Passage::Out) = (woken, &passage) {
                room.notify_one();
            }
            return passage;
        }
    }

    /// A call for help, wherever its operator names the number: whose it is nobody knows here.
    fn is_urgent(&self, head: &Head<'_>) -> bool {
        use crate::sip::message::NameAddr;
        let Some(urgent) = &*self.urgent.load() else { return false };
        let text = |octets| std::str::from_utf8(octets).ok();
        let uri = text(head.uri).and_then(|uri| uri.parse::<Uri>().ok());
        let named = head.named.into_iter().filter(|value| !value.is_empty());
        let named = named.filter_map(|value| NameAddr::parse(text(value)?.trim()).ok());
        uri.into_iter().chain(named.map(|address| address.uri)).any(|uri| urgent(&uri.called()))
    }

    pub(super) fn handled(&self, turn: &Turn, now: Instant) {
        if let Some(waiting) = &turn.newcomer {
            let waited = now.saturating_duration_since(waiting.since);
            self.overload().handled(now, waiting.line, waited);
        }
    }

    pub(super) fn mute(&self, now: Instant, source: IpAddr, span: Duration) {
        self.overload().mute(now, source, now + span);
    }

    pub(super) fn set_trunks(&self, trunks: Vec<IpNet>) {
        self.overload().set_trunks(trunks);
    }

    pub(super) fn set_user(&self, now: Instant, address: IpAddr, span: Duration) {
        self.overload().set_user(now, address, now + span);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::overload::Sender;

    fn gate(settings: OverloadSettings) -> Arc<Gate> {
        Arc::new(Gate::with(Some(Marks::new(7)), Overload::new(settings, Instant::now())))
    }

    fn marked() -> String {
        format!(";tag={}", Marks::new(7).tag([1, 2, 3, 4, 5, 6, 7, 8]))
    }

    const STREAM: Sender =
        Sender { address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), stream: true, proven: false };

    fn request(method: &str, tag: &str) -> String {
        format!(
            "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\nTo: <sip:b@h>{tag}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    #[tokio::test]
    async fn a_stream_waits_for_room_and_loses_nothing() {
        let settings = OverloadSettings { room: 2, ..OverloadSettings::default() };
        let gate = gate(settings);
        let stats = Arc::new(TransportStats::default());
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        for _ in 0..50 {
            let (gate, stats, sender) = (gate.clone(), stats.clone(), sender.clone());
            tokio::spawn(async move {
                let passage = gate.stream_passage(&stats, STREAM, request("REGISTER", "").as_bytes()).await;
                let _ = sender.send(passage).await;
            });
        }
        drop(sender);
        // Room for one stranger at a time: the next comes in when the last has left.
        let mut taken = 0;
        while let Some(passage) = receiver.recv().await {
            assert!(matches!(passage, Passage::In { newcomer: Some(_) }));
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            assert!(receiver.try_recv().is_err(), "two at once");
            drop(passage);
            taken += 1;
        }
        assert_eq!((taken, stats.turned_away()), (50, 0));
    }

    #[test]
    fn what_only_claims_to_belong_is_a_newcomer_unless_its_source_is_known() {
        let gate = gate(OverloadSettings::default());
        let stats = TransportStats::default();
        let now = Instant::now();
        let datagram = Sender { stream: false, ..STREAM };
        let waits = |sender: Sender, message: String| {
            let passage = gate.passage(&stats, now, sender, message.as_bytes());
            matches!(passage, Passage::In { newcomer: Some(_) })
        };
        for (method, tag) in [("BYE", ";tag=1"), ("CANCEL", ""), ("INFO", ";tag=1"), ("ACK", ";tag=1")] {
            assert!(waits(datagram, request(method, tag)), "{method}");
            assert!(!waits(datagram, request(method, &marked())), "{method}");
            let forged = format!(";tag={}", Marks::new(8).tag([1, 2, 3, 4, 5, 6, 7, 8]));
            assert!(waits(datagram, request(method, &forged)), "{method} of our form");
            assert!(!waits(Sender { proven: true, ..STREAM }, request(method, tag)), "{method}");
        }
        gate.set_user(now, datagram.address, Duration::from_secs(1));
        assert!(!waits(datagram, request("BYE", ";tag=1")));
        assert!(waits(datagram, request("INVITE", "")));
    }

    #[test]
    fn a_call_for_help_is_one_wherever_its_operator_names_the_number() {
        let gate = gate(OverloadSettings::default());
        gate.set_urgent(Box::new(|called| called == "112"));
        let urgent = |uri: &str, to: &str, more: &str| {
            let text = format!("INVITE {uri} SIP/2.0\r\nTo: {to}\r\nCall-ID: c\r\n{more}\r\n");
            match glance(&Marks::new(7), text.as_bytes()) {
                Glance::Begins(head) => gate.is_urgent(&head),
                other => panic!("{other:?}"),
            }
        };
        let ours = "sip:registered@192.0.2.1";
        assert!(urgent("sip:112@192.0.2.1", "<sip:b@h>", ""));
        assert!(urgent(ours, "\"Help\" <sip:112@h>", ""));
        assert!(urgent(ours, "<sip:b@h>", "P-Called-Party-ID: <sip:112@h>\r\n"));
        assert!(!urgent(ours, "<sip:b@h>", "P-Asserted-Identity: <sip:112@h>\r\n"));
        assert!(!urgent(ours, "<sip:1120@h>", "P-Called-Party-ID: 112\r\n"));
    }

    #[test]
    fn without_a_door_nobody_waits() {
        let gate = Arc::new(Gate::new(None));
        let passage = gate.passage(
            &TransportStats::default(),
            Instant::now(),
            Sender { stream: false, ..STREAM },
            request("INVITE", "").as_bytes(),
        );
        assert!(matches!(passage, Passage::In { newcomer: None }));
    }

    #[test]
    fn the_ack_of_a_refusal_that_is_forgotten_takes_nobodys_share() {
        let gate = gate(OverloadSettings { room: 2, ..OverloadSettings::default() });
        let stats = TransportStats::default();
        let now = Instant::now();
        let datagram = Sender { stream: false, ..STREAM };
        let pass = |message: String| gate.passage(&stats, now, datagram, message.as_bytes());
        let ack = || request("ACK", ";tag=0123456789abcdef");
        assert!(matches!(pass(ack()), Passage::In { newcomer: Some(_) }));
        let waiting = pass(request("INVITE", ""));
        assert!(matches!(waiting, Passage::In { newcomer: Some(_) }));
        assert!(matches!(pass(ack()), Passage::Out));
        assert_eq!(stats.turned_away(), 0);
    }

    #[test]
    fn a_muted_source_is_still_heard_where_it_speaks_of_what_goes_on() {
        let gate = gate(OverloadSettings::default());
        let stats = TransportStats::default();
        let now = Instant::now();
        let datagram = Sender { stream: false, ..STREAM };
        gate.mute(now, datagram.address, Duration::from_secs(1));
        let goes_in = |sender: Sender, message: String| {
            matches!(gate.passage(&stats, now, sender, message.as_bytes()), Passage::In { .. })
        };
        assert!(!goes_in(datagram, request("INVITE", "")));
        assert!(goes_in(datagram, request("BYE", &marked())));
        assert!(goes_in(STREAM, request("INVITE", "")), "a stream is not muted for what datagrams do");
    }
}
