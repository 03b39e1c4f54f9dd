//! The operator against an agent that stands for the gateway, on a perfect wire, in virtual time.

use super::*;
use crate::sip::auth::Credentials;
use crate::sip::message::{Typed, parse};
use crate::types::{NetworkId, Transport};

const SECOND: Duration = Duration::from_secs(1);

struct Wire {
    now: Now,
    gateway: UserAgent,
    operator: Operator,
    /// What the gateway saw.
    events: Vec<(CallHandle, CallEvent)>,
    /// Start lines and headers of responses to the gateway.
    responses: Vec<crate::sip::message::Response>,
    /// What the operator's media did.
    media: Vec<String>,
    ledger: Vec<Entry>,
    registrations: Vec<String>,
}

fn random(seed: u64) -> Random {
    let mut state = seed;
    Box::new(move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
    })
}

fn peer(local: &str, remote: &str) -> Peer {
    Peer {
        network: NetworkId::default(),
        transport: Transport::Udp,
        remote: remote.parse().unwrap(),
        local: local.parse().unwrap(),
        connection: None,
        tls_name: None,
    }
}

fn to_operator() -> Peer {
    peer("192.0.2.1:5060", "192.0.2.2:5070")
}

fn to_gateway() -> Peer {
    peer("192.0.2.2:5070", "192.0.2.1:5060")
}

fn host(text: &str) -> HostPort {
    HostPort { host: text.to_owned(), port: None }
}

impl Wire {
    fn new(settings: Settings) -> Wire {
        let gateway = AgentSettings {
            user: "gw".to_owned(),
            domain: host("gateway.example"),
            credentials: Some(Credentials { user: "gw".to_owned(), password: Secret::new("secret") }),
            guard: None,
            product: "test".to_owned(),
            manner: Manner::default(),
            timers: Timers::default(),
        };
        Wire {
            now: Now { instant: Instant::now(), unix_ms: 1_772_366_400_000 },
            gateway: UserAgent::new(gateway, random(1)).without_ladder(),
            operator: Operator::new(settings, host("192.0.2.2"), random(2)),
            events: Vec::new(),
            responses: Vec::new(),
            media: Vec::new(),
            ledger: Vec::new(),
            registrations: Vec::new(),
        }
    }

    fn call(&mut self, number: &str) -> CallHandle {
        let invitation = Invitation {
            peer: to_operator(),
            to: Uri::sip(Some(number), host("192.0.2.2")),
            from: Some(NameAddr::new(Uri::sip(Some("+3225550001"), host("gateway.example")))),
            fields: Vec::new(),
        };
        let media = "192.0.2.1:20000".parse().unwrap();
        let handle = self.gateway.call(self.now, invitation, Capability::new(media));
        self.settle();
        handle
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.gateway.poll_output() {
                quiet = false;
                match output {
                    Act::Transmit { bytes, .. } => {
                        let message = parse(&bytes).unwrap();
                        self.operator.handle_message(self.now, to_gateway(), message);
                    }
                    Act::Call { handle, event } => self.events.push((handle, event)),
                    Act::Registered { .. }
                    | Act::Registration { .. }
                    | Act::Polled { .. }
                    | Act::Alive { .. }
                    | Act::Ladder(_) => {}
                }
            }
            while let Some(output) = self.operator.poll_output() {
                quiet = false;
                self.carry_out(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit { bytes, .. } => {
                let message = parse(&bytes).unwrap();
                if let Message::Response(response) = &message {
                    self.responses.push(response.clone());
                }
                self.gateway.handle_message(self.now, to_operator(), message);
            }
            Output::OpenMedia { line, local, mute: _ } => {
                self.media.push("open".to_owned());
                let address = SocketAddr::new(local, 30_000);
                self.operator.media_opened(self.now, line, Some(address));
            }
            Output::StartMedia { agreed, say, .. } => self.media.push(format!("{say:?} {}", agreed.codec)),
            Output::CloseMedia { line } => {
                self.media.push("close".to_owned());
                let media = Media { packets_heard: 7, ..Media::default() };
                self.operator.media_closed(line, media, Some("a.wav".to_owned()));
            }
            Output::Ledger(entry) => self.ledger.push(*entry),
            Output::Polled { .. } | Output::Alive { .. } => {}
            Output::Registration { user, contact, .. } => {
                self.registrations.push(format!("{user} {contact}"))
            }
        }
    }

    /// Lets time pass, from deadline to deadline.
    fn wait(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.settle();
            let next =
                [self.gateway.poll_timeout(), self.operator.poll_timeout()].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end.instant) else { break };
            self.now = self.now.after(at.saturating_duration_since(self.now.instant));
            self.gateway.handle_timeout(self.now);
            self.operator.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn statuses(&self) -> Vec<u16> {
        self.responses.iter().map(|response| response.status).collect()
    }

    fn entry(&self) -> &Entry {
        assert_eq!(self.ledger.len(), 1, "{:?}", self.ledger);
        &self.ledger[0]
    }
}

#[test]
fn a_call_rings_is_answered_and_stands_in_the_ledger_when_the_caller_hangs_up() {
    let mut wire = Wire::new(Settings::default());
    let start = wire.now.unix_ms;
    let call = wire.call("+32470123456");
    assert_eq!(wire.statuses(), [180]);
    wire.wait(4 * SECOND);
    assert_eq!(wire.statuses(), [180, 200]);
    assert_eq!(wire.media, ["open", "Speech PCMA"]);
    wire.gateway.hang_up(wire.now, call, 480);
    wire.wait(SECOND);
    assert_eq!(wire.media[2], "close");
    let entry = wire.entry();
    assert_eq!((entry.side, entry.status, entry.released_by), (Side::Callee, 200, ReleasedBy::Caller));
    assert_eq!((entry.calling.as_str(), entry.called.as_str()), ("+3225550001", "+32470123456"));
    assert_eq!(
        (entry.started_at, entry.ringing_at, entry.answered_at, entry.released_at),
        (start, Some(start), Some(start + 1_000), start + 4_000)
    );
    assert_eq!((entry.setup_ms, entry.duration_ms), (Some(1_000), 3_000));
    assert!(entry.acknowledged);
    assert_eq!((entry.codec, entry.media.packets_heard), (Some(AudioCodec::Pcma), 7));
    assert_eq!(wire.operator.active_calls(), 0);
}

#[test]
fn refusals_come_at_once_with_what_belongs_to_them() {
    let mut wire = Wire::new(Settings::default());
    for number in ["+3247000486", "+3247000503", "+3247000302"] {
        wire.call(number);
    }
    wire.wait(SECOND);
    assert_eq!(wire.statuses(), [486, 503, 302]);
    assert_eq!(wire.responses[1].retry_after(), Some(5));
    let contact = wire.responses[2].contact().unwrap().unwrap();
    assert_eq!(contact.uri.to_string(), "sip:+3247000302@192.0.2.2:5070");
    let told: Vec<_> =
        wire.ledger.iter().map(|entry| (entry.call, entry.status, entry.released_by)).collect();
    let by = ReleasedBy::Callee;
    assert_eq!(told, [(1, 486, by), (2, 503, by), (3, 302, by)]);
    assert!(wire.media.is_empty(), "no port for a call that is refused");
}

#[test]
fn a_silent_operator_says_nothing_and_writes_one_line() {
    let mut wire = Wire::new(Settings::default());
    wire.call("+3247000000");
    wire.wait(40 * SECOND);
    assert!(wire.responses.is_empty(), "{:?}", wire.responses);
    assert_eq!((wire.entry().status, wire.entry().released_by), (0, ReleasedBy::Nobody));
    assert!(matches!(&wire.events[0].1, CallEvent::Ended(ending) if ending.status == 408));
    wire.wait(40 * SECOND);
    assert_eq!(wire.operator.poll_timeout(), None, "nothing is kept of it");
}

#[test]
fn trying_and_ringing_may_be_all_there_is() {
    for (number, heard) in [("+3247000100", 100), ("+3247000180", 180)] {
        let mut wire = Wire::new(Settings::default());
        let call = wire.call(number);
        wire.wait(60 * SECOND);
        assert_eq!(wire.statuses(), [heard]);
        wire.gateway.hang_up(wire.now, call, 480);
        wire.wait(SECOND);
        assert_eq!(wire.statuses()[1..], [200, 487], "of the CANCEL and of the INVITE");
        assert_eq!((wire.entry().status, wire.entry().released_by), (487, ReleasedBy::Caller));
        assert_eq!(wire.entry().duration_ms, 0);
    }
}

#[test]
fn early_media_is_a_tone_until_the_answer() {
    let mut wire = Wire::new(Settings::default());
    wire.call("+3247000183");
    wire.wait(2 * SECOND);
    assert_eq!(wire.statuses(), [183, 200]);
    assert_eq!(wire.media, ["open", "Ringback PCMA", "Speech PCMA"]);
    let early =
        wire.events.iter().any(|(_, event)| matches!(event, CallEvent::Progress { media: Some(_), .. }));
    assert!(early);
}

#[test]
fn credentials_are_demanded_by_number_or_by_profile() {
    for (number, status) in [("+3247000401", 401), ("+3247000407", 407)] {
        let mut settings = Settings { user: "gw".to_owned(), ..Settings::default() };
        let mut wire = Wire::new(settings.clone());
        wire.call(number);
        wire.wait(2 * SECOND);
        assert_eq!(wire.statuses(), [status, status], "the password is wrong");
        assert!(wire.ledger.is_empty(), "who proves nothing has no call");
        settings.password = Secret::new("secret");
        let mut wire = Wire::new(settings);
        wire.call(number);
        wire.wait(2 * SECOND);
        assert_eq!(wire.statuses(), [status, 180, 200]);
    }
}

#[test]
fn the_operator_hangs_up_when_it_is_time() {
    let mut wire = Wire::new(Settings::default());
    wire.call("+3247000903");
    wire.wait(10 * SECOND);
    let entry = wire.entry();
    assert_eq!((entry.duration_ms, entry.released_by), (3_000, ReleasedBy::Callee));
    assert!(wire.events.iter().any(|(_, event)| matches!(event, CallEvent::Ended(_))));
}

#[test]
fn a_number_asks_for_nothing_where_that_is_off() {
    let mut wire = Wire::new(Settings { by_number: false, ..Settings::default() });
    wire.call("+3247000486");
    wire.wait(2 * SECOND);
    assert_eq!(wire.statuses(), [180, 200]);
}

#[test]
fn a_codec_nobody_shares_is_refused_before_it_rings() {
    let mut wire = Wire::new(Settings { codecs: vec![AudioCodec::Pcmu], ..Settings::default() });
    let media = "192.0.2.1:20000".parse().unwrap();
    let capability = Capability { codecs: vec![AudioCodec::Opus], ..Capability::new(media) };
    let to = Uri::sip(Some("+32470123456"), host("192.0.2.2"));
    wire.gateway.call(
        wire.now,
        Invitation { peer: to_operator(), to, from: None, fields: Vec::new() },
        capability,
    );
    wire.wait(SECOND);
    assert_eq!(wire.statuses(), [488]);
    assert_eq!(
        (wire.entry().status, wire.media.as_slice()),
        (488, &["open".to_owned(), "close".to_owned()][..])
    );
}

#[test]
fn an_unnoticed_ack_ends_the_call_without_duration_lost() {
    let mut wire = Wire::new(Settings::default());
    wire.call("+3247000801");
    wire.wait(60 * SECOND);
    let entry = wire.entry();
    assert_eq!((entry.status, entry.released_by, entry.acknowledged), (200, ReleasedBy::Nobody, false));
    assert_eq!(entry.duration_ms, 32_000);
    assert!(entry.reason.is_some());
    assert_eq!(wire.statuses().iter().filter(|status| **status == 200).count(), 11);
}

#[test]
fn a_call_of_its_own_is_placed_and_hung_up() {
    let mut wire = Wire::new(Settings::default());
    let order = Order {
        peer: to_gateway(),
        to: Uri::sip(Some("+3225550001"), host("192.0.2.1")),
        from: "+32470123456".to_owned(),
        withheld: false,
        talk: Some(5 * SECOND),
        patience: 20 * SECOND,
    };
    wire.operator.place(wire.now, order.clone());
    wire.settle();
    let Some((handle, CallEvent::Incoming(incoming))) = wire.events.first().cloned() else { panic!() };
    assert_eq!((incoming.uri.user(), incoming.from.uri.user()), ("+3225550001", "+32470123456"));
    let media = "192.0.2.1:20000".parse().unwrap();
    wire.gateway.prepare(wire.now, handle, Capability::new(media)).unwrap();
    wire.gateway.progress(wire.now, handle, 180, false).unwrap();
    wire.wait(2 * SECOND);
    wire.gateway.answer(wire.now, handle).unwrap();
    wire.wait(10 * SECOND);
    let entry = wire.entry().clone();
    assert_eq!((entry.side, entry.released_by, entry.status), (Side::Caller, ReleasedBy::Caller, 200));
    assert_eq!((entry.setup_ms, entry.duration_ms), (Some(2_000), 5_000));
    assert!(!entry.call_id.is_empty());

    // Nobody answers this one.
    wire.operator.place(wire.now, order);
    wire.settle();
    let (handle, _) = wire.events.last().cloned().unwrap();
    wire.gateway.prepare(wire.now, handle, Capability::new(media)).unwrap();
    wire.gateway.progress(wire.now, handle, 180, false).unwrap();
    wire.wait(30 * SECOND);
    let entry = &wire.ledger[1];
    assert_eq!((entry.status, entry.released_by), (487, ReleasedBy::Caller));
    assert_eq!(entry.released_at - entry.started_at, 20_000);
}

#[test]
fn a_stop_ends_every_call_and_waits_for_no_dead_gateway() {
    let mut wire = Wire::new(Settings::default());
    wire.call("+3247000180");
    wire.call("+32470123456");
    wire.wait(2 * SECOND);
    wire.operator.stop(wire.now);
    // The gateway is gone: nothing reaches it any more.
    while let Some(output) = wire.operator.poll_output() {
        if !matches!(output, Output::Transmit { .. }) {
            wire.carry_out(output);
        }
    }
    assert_eq!(wire.ledger.len(), 1, "the ringing call is refused");
    wire.operator.abandon(wire.now);
    wire.operator.abandon(wire.now);
    while let Some(output) = wire.operator.poll_output() {
        wire.carry_out(output);
    }
    let told: Vec<_> = wire.ledger.iter().map(|entry| (entry.status, entry.duration_ms)).collect();
    assert_eq!(told, [(480, 0), (200, 1_000)]);
    assert!(wire.ledger.iter().all(|entry| entry.released_by == ReleasedBy::Callee));
    assert_eq!(wire.operator.active_calls(), 0);
}

#[test]
fn lost_media_ends_an_answered_call() {
    let mut wire = Wire::new(Settings::default());
    wire.call("+3247000802");
    wire.wait(2 * SECOND);
    wire.operator.media_lost(wire.now, Line(1));
    wire.wait(SECOND);
    assert_eq!(wire.entry().reason.as_deref(), Some("no media"));
}

#[test]
fn registrations_are_told_and_a_dead_operator_ignores_them() {
    for (profile, told) in [("standard", 1), ("silent", 0)] {
        let treatment = (super::super::treatment::profile(profile).unwrap().treatment)();
        let mut wire = Wire::new(Settings { treatment, ..Settings::default() });
        let registrar = Uri::sip(None, host("192.0.2.2"));
        wire.gateway.register(wire.now, to_operator(), registrar, 600);
        wire.wait(SECOND);
        assert_eq!(wire.registrations.len(), told, "{profile}");
        assert_eq!(wire.responses.len(), told);
    }
}
