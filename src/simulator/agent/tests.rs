//! Two agents on a perfect wire, in virtual time.

use super::*;
use crate::sdp::Capability;
use crate::sip::message::{HeaderName, Message, parse};
use crate::types::{AudioCodec, MediaDirection, NetworkId, Now, Transport};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

struct Side {
    agent: UserAgent,
    address: SocketAddr,
    events: Vec<(CallHandle, CallEvent)>,
    registered: Vec<(u16, u32)>,
    registrations: Vec<(String, u32)>,
    ladder: Vec<String>,
}

struct Wire {
    now: Now,
    sides: [Side; 2],
    /// Messages whose first line starts with one of these are lost.
    lose: Vec<&'static str>,
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

fn settings(user: &str) -> AgentSettings {
    AgentSettings {
        user: user.into(),
        domain: HostPort { host: "example.org".into(), port: None },
        credentials: None,
        guard: None,
        product: "test".into(),
        manner: Manner::default(),
        timers: Timers::default(),
    }
}

fn credentials(password: &str) -> Option<Credentials> {
    Some(Credentials { user: "alice".into(), password: Secret::new(password) })
}

fn guard() -> Option<Guard> {
    Some(Guard { realm: "there".into(), user: "alice".into(), password: Secret::new("secret") })
}

impl Wire {
    fn new(caller: AgentSettings, callee: AgentSettings) -> Wire {
        let side = |settings, seed, address: &str| Side {
            agent: UserAgent::new(settings, random(seed)),
            address: address.parse().unwrap(),
            events: Vec::new(),
            registered: Vec::new(),
            registrations: Vec::new(),
            ladder: Vec::new(),
        };
        Wire {
            now: Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 },
            sides: [side(caller, 1, "192.0.2.1:5060"), side(callee, 2, "192.0.2.2:5060")],
            lose: Vec::new(),
        }
    }

    fn peer(&self, of: usize) -> Peer {
        Peer {
            network: NetworkId::default(),
            transport: Transport::Udp,
            remote: self.sides[1 - of].address,
            local: self.sides[of].address,
            connection: None,
            tls_name: None,
        }
    }

    /// Carries messages both ways until nobody has anything to say.
    fn settle(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for from in 0..2 {
                while let Some(output) = self.sides[from].agent.poll_output() {
                    quiet = false;
                    match output {
                        Output::Transmit { peer, bytes, .. } => {
                            assert_eq!(peer.remote, self.sides[1 - from].address);
                            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
                            if self.lose.iter().any(|lost| start.starts_with(lost)) {
                                continue;
                            }
                            let back = self.peer(1 - from);
                            let message = parse(&bytes).unwrap();
                            self.sides[1 - from].agent.handle_message(self.now, back, message);
                        }
                        Output::Call { handle, event } => self.sides[from].events.push((handle, event)),
                        Output::Registered { status, expires, .. } => {
                            self.sides[from].registered.push((status, expires));
                        }
                        Output::Polled { .. } | Output::Alive { .. } => {}
                        Output::Registration { user, expires, .. } => {
                            self.sides[from].registrations.push((user, expires));
                        }
                        Output::Ladder(step) => {
                            let way = if step.sent { ">" } else { "<" };
                            self.sides[from].ladder.push(format!("{way}{}", step.text));
                        }
                    }
                }
            }
        }
    }

    /// Lets time pass, from deadline to deadline.
    fn wait(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.settle();
            let next = self.sides.iter().filter_map(|side| side.agent.poll_timeout()).min();
            match next.filter(|at| *at <= end.instant) {
                Some(at) => self.now = self.now.after(at.saturating_duration_since(self.now.instant)),
                None => break,
            }
            let now = self.now;
            self.sides.iter_mut().for_each(|side| side.agent.handle_timeout(now));
        }
        self.now = end;
    }

    fn capability(&self, of: usize) -> Capability {
        Capability::new(SocketAddr::new(self.sides[of].address.ip(), 4_000))
    }

    fn call(&mut self) -> (CallHandle, CallHandle) {
        let to = "sip:+3225550001@example.net".parse().unwrap();
        let (peer, capability) = (self.peer(0), self.capability(0));
        let ours = self.sides[0].agent.call(
            self.now,
            Invitation { peer, to, from: None, fields: Vec::new() },
            capability,
        );
        self.settle();
        let theirs = self.sides[1].events.iter().rev().find_map(|(handle, event)| match event {
            CallEvent::Incoming(_) => Some(*handle),
            _ => None,
        });
        (ours, theirs.unwrap_or(CallHandle(0)))
    }

    fn answered(&mut self) -> (CallHandle, CallHandle) {
        let (ours, theirs) = self.call();
        let capability = self.capability(1);
        self.sides[1].agent.prepare(self.now, theirs, capability).unwrap();
        self.sides[1].agent.progress(self.now, theirs, 180, false).unwrap();
        self.sides[1].agent.answer(self.now, theirs).unwrap();
        self.settle();
        (ours, theirs)
    }

    fn ending(&self, of: usize) -> Option<(EndedBy, u16)> {
        self.sides[of].events.iter().find_map(|(_, event)| match event {
            CallEvent::Ended(ending) => Some((ending.by, ending.status)),
            _ => None,
        })
    }

    fn media(&self, of: usize) -> Option<&crate::sdp::Negotiated> {
        self.sides[of].events.iter().rev().find_map(|(_, event)| match event {
            CallEvent::Answered { media } | CallEvent::Updated { media, .. } => Some(&**media),
            _ => None,
        })
    }
}

fn mannered(user: &str, manner: Manner) -> AgentSettings {
    AgentSettings { manner, ..settings(user) }
}

#[test]
fn progress_that_has_to_arrive_is_repeated_until_its_prack_and_its_description_is_the_answer() {
    let reliable =
        || Manner { allow: "INVITE, ACK, BYE, CANCEL, PRACK", reliable: true, ..Manner::default() };
    let mut wire = Wire::new(mannered("alice", reliable()), mannered("bob", reliable()));
    wire.lose = vec!["PRACK"];
    let (ours, theirs) = wire.call();
    let capability = wire.capability(1);
    wire.sides[1].agent.prepare(wire.now, theirs, capability).unwrap();
    wire.sides[1].agent.progress(wire.now, theirs, 183, true).unwrap();
    wire.wait(Duration::from_millis(400));
    let heard = |wire: &Wire| wire.sides[0].ladder.iter().filter(|step| step.starts_with("<183")).count();
    assert_eq!(heard(&wire), 1);
    wire.wait(Duration::from_secs(1));
    assert_eq!(heard(&wire), 2, "said again after half a second");
    wire.lose.clear();
    wire.wait(Duration::from_secs(30));
    let repeated = heard(&wire);
    assert!(wire.sides[0].ladder.iter().any(|step| step == ">PRACK"));
    wire.wait(Duration::from_secs(30));
    assert_eq!(heard(&wire), repeated, "nothing is repeated behind the PRACK");
    wire.sides[1].agent.answer(wire.now, theirs).unwrap();
    wire.settle();
    assert!(wire.sides[0].events.iter().any(|(handle, event)| {
        *handle == ours && matches!(event, CallEvent::Answered { media } if media.codec == AudioCodec::Opus)
    }));
    wire.sides[0].agent.hang_up(wire.now, ours, 480);
    wire.wait(Duration::from_secs(1));
    assert!(
        matches!(wire.sides[1].events.last(), Some((_, CallEvent::Ended(ending))) if ending.by == EndedBy::Them)
    );
}

#[test]
fn a_session_interval_is_granted_to_those_who_know_timers_and_they_refresh() {
    let timed = Manner { session_timer: Some(1_800), ..Manner::default() };
    for (manner, granted) in [(timed.clone(), true), (Manner::default(), false)] {
        let mut wire = Wire::new(mannered("alice", manner), mannered("bob", timed.clone()));
        let (_, theirs) = wire.call();
        let capability = wire.capability(1);
        wire.sides[1].agent.prepare(wire.now, theirs, capability).unwrap();
        wire.sides[1].agent.answer(wire.now, theirs).unwrap();
        let mut said = None;
        while let Some(output) = wire.sides[1].agent.poll_output() {
            if let Output::Transmit { bytes, .. } = output
                && let Ok(Message::Response(answer)) = parse(&bytes)
                && answer.status == 200
            {
                said = answer.headers.get(&HeaderName::SessionExpires).map(str::to_owned);
            }
        }
        assert_eq!(said.as_deref(), granted.then_some("1800;refresher=uac"));
    }
}

#[test]
fn a_call_is_answered_and_hung_up() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (ours, _) = wire.answered();
    assert_eq!(wire.media(0).unwrap().codec, AudioCodec::Opus);
    assert_eq!(wire.media(0).unwrap().remote_rtp, "192.0.2.2:4000".parse().unwrap());
    assert_eq!(wire.media(1).unwrap().remote_rtp, "192.0.2.1:4000".parse().unwrap());
    assert!(matches!(wire.sides[1].events.last(), Some((_, CallEvent::Acknowledged))));
    wire.sides[0].agent.hang_up(wire.now, ours, 480);
    wire.settle();
    assert_eq!(wire.ending(0), Some((EndedBy::Us, 200)));
    assert_eq!(wire.ending(1), Some((EndedBy::Them, 200)));
    assert_eq!(wire.sides[0].ladder, [">INVITE", "<180 Ringing", "<200 OK", ">ACK", ">BYE", "<200 OK"]);
    wire.wait(Duration::from_secs(70));
    for side in &wire.sides {
        assert_eq!((side.agent.calls.len(), side.agent.dialogs.len(), side.agent.clients.len()), (0, 0, 0));
        assert_eq!((side.agent.layer.active(), side.agent.servers.len()), (0, 0));
    }
}

#[test]
fn challenges_are_answered_and_wrong_passwords_end_the_call() {
    let alice = |password| AgentSettings { credentials: credentials(password), ..settings("alice") };
    let guarded = || AgentSettings { guard: guard(), ..settings("bob") };
    let mut wire = Wire::new(alice("secret"), guarded());
    let (ours, theirs) = wire.answered();
    assert!(wire.sides[0].ladder.contains(&"<407 Proxy Authentication Required".into()));
    wire.sides[1].agent.hang_up(wire.now, theirs, 480);
    wire.settle();
    assert_eq!(wire.ending(0), Some((EndedBy::Them, 200)));
    assert_eq!(ours, CallHandle(1));

    let mut wire = Wire::new(alice("wrong"), guarded());
    wire.call();
    assert_eq!(wire.ending(0), Some((EndedBy::Them, 407)));
    assert!(wire.sides[1].events.is_empty());
}

#[test]
fn a_registration_is_made_renewed_and_taken_back() {
    let alice = AgentSettings { credentials: credentials("secret"), ..settings("alice") };
    let mut wire = Wire::new(alice, AgentSettings { guard: guard(), ..settings("") });
    let registrar = || "sip:example.org".parse().unwrap();
    let peer = wire.peer(0);
    wire.sides[0].agent.register(wire.now, peer, registrar(), 60);
    wire.settle();
    assert_eq!(wire.sides[0].registered, [(200, 60)]);
    wire.wait(Duration::from_secs(100));
    assert_eq!(wire.sides[0].registered, [(200, 60); 3]);
    wire.sides[0].agent.unregister(wire.now);
    wire.wait(Duration::from_secs(200));
    assert_eq!(wire.sides[0].registered.last(), Some(&(200, 0)));
    assert_eq!(
        wire.sides[1].registrations,
        [
            ("alice".to_owned(), 60),
            ("alice".to_owned(), 60),
            ("alice".to_owned(), 60),
            ("alice".to_owned(), 0)
        ]
    );

    let stranger = AgentSettings { credentials: credentials("wrong"), ..settings("alice") };
    let mut wire = Wire::new(stranger, AgentSettings { guard: guard(), ..settings("") });
    let peer = wire.peer(0);
    wire.sides[0].agent.register(wire.now, peer, registrar(), 60);
    wire.settle();
    assert_eq!(wire.sides[0].registered, [(401, 0)]);
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (ours, theirs) = wire.call();
    wire.sides[1].agent.progress(wire.now, theirs, 180, false).unwrap();
    wire.settle();
    wire.sides[0].agent.hang_up(wire.now, ours, 480);
    wire.settle();
    assert_eq!(wire.ending(0), Some((EndedBy::Us, 487)));
    assert_eq!(wire.ending(1), Some((EndedBy::Them, 487)));
}

#[test]
fn an_answer_that_crosses_the_cancel_is_hung_up() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (ours, theirs) = wire.call();
    let capability = wire.capability(1);
    wire.sides[1].agent.prepare(wire.now, theirs, capability).unwrap();
    wire.sides[1].agent.set_quirks(theirs, Quirks { answer_after_cancel: true, ..Quirks::default() });
    wire.sides[1].agent.progress(wire.now, theirs, 180, false).unwrap();
    wire.settle();
    wire.sides[0].agent.hang_up(wire.now, ours, 480);
    wire.settle();
    assert_eq!(wire.ending(0), Some((EndedBy::Us, 200)));
    assert_eq!(wire.ending(1), Some((EndedBy::Them, 200)));
}

#[test]
fn refusals_carry_their_status() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (_, theirs) = wire.call();
    let reason = [(HeaderName::Reason, "Q.850;cause=17".to_owned())];
    wire.sides[1].agent.reject(wire.now, theirs, 486, &reason);
    wire.settle();
    assert_eq!(wire.ending(0), Some((EndedBy::Them, 486)));

    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (_, theirs) = wire.call();
    let mut capability = wire.capability(1);
    capability.codecs.clear();
    assert!(wire.sides[1].agent.prepare(wire.now, theirs, capability).is_err());
    wire.settle();
    assert_eq!(wire.ending(0), Some((EndedBy::Them, 488)));
}

#[test]
fn hold_and_resume_change_the_direction_on_both_sides() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (ours, _) = wire.answered();
    for (wanted, seen) in [
        (MediaDirection::SendOnly, MediaDirection::RecvOnly),
        (MediaDirection::SendRecv, MediaDirection::SendRecv),
    ] {
        wire.sides[0].agent.update(wire.now, ours, wanted).unwrap();
        wire.settle();
        assert_eq!(wire.media(0).unwrap().direction, wanted);
        assert_eq!(wire.media(1).unwrap().direction, seen);
    }
    let quirks = Quirks { refuse_updates: Some(481), ..Quirks::default() };
    wire.sides[1].agent.set_quirks(CallHandle(1), quirks);
    wire.sides[0].agent.update(wire.now, ours, MediaDirection::Inactive).unwrap();
    wire.settle();
    assert_eq!(wire.ending(1), Some((EndedBy::Them, 200)), "a 481 ends the dialog");
}

#[test]
fn a_lost_ack_is_asked_for_and_a_deaf_side_gives_up() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    wire.lose.push("ACK");
    wire.answered();
    wire.wait(Duration::from_secs(2));
    wire.lose.clear();
    wire.wait(Duration::from_secs(5));
    assert!(matches!(wire.sides[1].events.last(), Some((_, CallEvent::Acknowledged))));
    assert!(wire.sides[0].ladder.iter().filter(|step| *step == ">ACK").count() >= 2);

    let mut wire = Wire::new(settings("alice"), settings("bob"));
    let (_, theirs) = wire.call();
    let capability = wire.capability(1);
    wire.sides[1].agent.prepare(wire.now, theirs, capability).unwrap();
    wire.sides[1].agent.set_quirks(theirs, Quirks { deaf_to_ack: true, ..Quirks::default() });
    wire.sides[1].agent.answer(wire.now, theirs).unwrap();
    wire.wait(Duration::from_secs(40));
    assert_eq!(wire.ending(1), Some((EndedBy::Failure, 408)));
    assert_eq!(wire.ending(0), Some((EndedBy::Them, 200)));
}

#[test]
fn a_silent_far_end_is_given_up_after_timer_b() {
    let mut wire = Wire::new(settings("alice"), settings("bob"));
    wire.lose.push("INVITE");
    wire.call();
    wire.wait(Duration::from_secs(33));
    assert_eq!(wire.ending(0), Some((EndedBy::Failure, 408)));
}

#[test]
fn answers_without_or_with_a_foreign_codec_are_hung_up() {
    for quirks in [
        Quirks { answer_without_sdp: true, ..Quirks::default() },
        Quirks { answer_with_foreign_codec: true, ..Quirks::default() },
    ] {
        let mut wire = Wire::new(settings("alice"), settings("bob"));
        let (_, theirs) = wire.call();
        let capability = wire.capability(1);
        wire.sides[1].agent.prepare(wire.now, theirs, capability).unwrap();
        wire.sides[1].agent.set_quirks(theirs, quirks);
        wire.sides[1].agent.answer(wire.now, theirs).unwrap();
        wire.settle();
        assert_eq!(wire.ending(0), Some((EndedBy::Failure, 488)));
        assert_eq!(wire.ending(1), Some((EndedBy::Them, 200)));
    }
}
