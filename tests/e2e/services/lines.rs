//! Every test line is called by a user and by an operator over every transport, and does what it is for.

use super::says;
use crate::lines::{self, BUSY, DIGITS, ECHO, NO_ANSWER, SPEECH, TONE};
use crate::media::{a_law, rings};
use crate::scene::{BLINK, SECOND, STRANGER};
use crate::support::{
    gateway::Gateway,
    lane::Lane,
    rtp::{self, RtpPacket, RtpSocket},
    sipp::{Over, RunningSipp, Sipp},
    tls::Authority,
};
use crate::transports::{at_once, authority, trunk_at};
use crate::trunk_media::{OPUS_SILENCE, TICK, listen, speak};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tandem::media::codec::{g711::Law, opus::Decoder};

/// Who calls a line, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    User,
    Trunk,
}

/// A side that calls lines of a gateway.
struct Caller<'a> {
    lane: &'a Lane,
    gateway: &'a Gateway<'a>,
    over: Over<'a>,
    side: Side,
}

impl Caller<'_> {
    fn plays(&self, of_user: &str, of_trunk: &str, number: &str) -> Sipp {
        let scenario = if self.side == Side::User { of_user } else { of_trunk };
        let sipp = Sipp::client(self.lane, scenario, self.gateway.at(self.over)).number(number);
        let sipp = match self.side {
            Side::User => sipp.user("alice"),
            Side::Trunk => sipp.at(self.lane.own_ip()).key("calling", STRANGER),
        };
        sipp.pause(BLINK).over(self.over)
    }

    /// Calls a line for so long and listens with an ear of the test's own.
    fn calls(&self, number: &str, span: Duration) -> (RunningSipp, RtpSocket, SocketAddr) {
        let ear = match self.side {
            Side::User => RtpSocket::new(self.lane),
            Side::Trunk => RtpSocket::at(SocketAddr::new(self.lane.own_ip(), self.lane.port())),
        };
        let port = ear.as_ref().local_addr().expect("an address").port();
        let call = self.plays("user-calls", "operator-calls", number).fill("audio", &port.to_string());
        let call = call.pause(span).start();
        let line = rtp::audio_of(&call.wait_status(200));
        (call, ear, line)
    }

    /// Payload type, and the length of 20 ms in its clock.
    fn voice(&self) -> (u8, u32) {
        if self.side == Side::User { (111, 960) } else { (8, 160) }
    }

    /// 20 ms that are nobody else's.
    fn frame(&self) -> Vec<u8> {
        let sample = |n: u16| (f64::from(n) * 700.0 / 8_000.0 * std::f64::consts::TAU).sin() * 8_000.0;
        match self.side {
            Side::User => OPUS_SILENCE.to_vec(),
            Side::Trunk => (0..160).map(|n| a_law(sample(n) as i16)).collect(),
        }
    }

    /// Talks to a line for most of a second: what comes meanwhile.
    fn talks_to(&self, number: &str) -> Vec<RtpPacket> {
        let (call, ear, line) = self.calls(number, 2 * SECOND);
        let heard = speak((&ear, line), self.voice(), &self.frame(), 0..40, &ear);
        call.succeed();
        assert!(heard.len() >= 30, "{} packets of {number}", heard.len());
        assert!(heard.iter().all(|packet| packet.payload_type == self.voice().0), "in another codec");
        heard
    }

    /// The sound of packets, each at 8 kHz.
    fn sound(&self, packets: &[RtpPacket]) -> Vec<Vec<i16>> {
        let mut decoder = Decoder::new(8_000).expect("a decoder");
        let samples = |packet: &RtpPacket| match self.side {
            Side::Trunk => packet.payload.iter().map(|code| Law::A.expand(*code)).collect(),
            Side::User => {
                let mut pcm = [0; 960];
                let count = decoder.decode(&packet.payload, &mut pcm).expect("Opus");
                pcm[..count].to_vec()
            }
        };
        packets.iter().map(samples).collect()
    }

    /// Presses 5 at the line that plays keys back: the keys that come as events.
    fn presses(&self) -> Vec<u8> {
        let (call, ear, line) = self.calls(DIGITS, 4 * SECOND);
        let (event_type, clock) = if self.side == Side::User { (110, 48) } else { (101, 8) };
        speak((&ear, line), self.voice(), &self.frame(), 0..5, &ear);
        let at = 5 * self.voice().1;
        // A press of 100 ms, and its end three times (RFC 4733 §2.5.1.4).
        let length = |ms: u16| (ms * clock).to_be_bytes();
        for (count, ms) in [20, 40, 60, 80, 100, 100, 100].into_iter().enumerate() {
            let [high, low] = length(ms);
            let ends = if ms == 100 { 0x80 } else { 0 };
            ear.send_at(line, event_type, 5 + count as u16, at, &[5, ends | 10, high, low]);
            listen(&ear, Instant::now() + TICK);
        }
        // The line waits for more of them first.
        let heard = listen(&ear, Instant::now() + 3 * SECOND);
        call.succeed();
        let events = heard.iter().filter(|packet| packet.payload_type == event_type);
        events.map(|packet| packet.payload[0]).collect()
    }
}

/// All lines are called by one side.
fn call_lines(side: Side, over: Over<'_>, authority: &Authority) {
    let lane = Lane::take(&format!("services-lines-{side:?}-{}", over.as_str()).to_lowercase());
    let there = SocketAddr::new(lane.own_ip(), lane.port());
    let gateway = trunk_at(&lane, authority, over, there, |_, _| ()).dialplan(&lines::dialplan());
    let gateway = gateway.set("limits.ring_seconds", 2).start();
    let caller = Caller { lane: &lane, gateway: &gateway, over, side };

    let frame = caller.frame();
    let echoed = caller.talks_to(ECHO).iter().filter(|packet| packet.payload == frame).count();
    assert!(echoed >= 30, "{echoed} of 40 came back");
    let tone = caller.sound(&caller.talks_to(TONE));
    let sounding = tone.iter().filter(|samples| rings(samples, 1_004.0)).count();
    assert!(sounding >= 25, "{sounding} of {}", tone.len());
    let speech = caller.sound(&caller.talks_to(SPEECH));
    let loud = |samples: &&Vec<i16>| samples.iter().any(|sample| sample.unsigned_abs() > 1_000);
    let spoken = speech.iter().filter(loud).count();
    assert!(spoken >= 10 && !speech.iter().any(|samples| rings(samples, 1_004.0)), "{spoken} loud");
    let keys = caller.presses();
    assert!(!keys.is_empty() && keys.iter().all(|key| *key == 5), "{keys:?}");

    let refused = |number: &str, code: u16| {
        let played = caller.plays("user-is-refused", "operator-is-refused", number).code(code, "");
        played.start().succeed()
    };
    says(refused(BUSY, 486).response(486), "Reason", "Q.850;cause=17");
    let rung = refused(NO_ANSWER, 480);
    assert_eq!(rung.responses(180).len(), 1);
    says(rung.response(480), "Reason", "Q.850;cause=19");
    caller.plays("user-holds-and-resumes", "operator-calls-and-holds", ECHO).start().succeed();

    let cdrs = gateway.wait_cdrs(7);
    let called: Vec<_> = cdrs.iter().map(|cdr| cdr["called_line"].as_str().unwrap_or_default()).collect();
    assert_eq!(called, ["echo", "tone", "speech", "digits", "busy", "no-answer", "echo"]);
    let ingress = if side == Side::User { Value::Null } else { "operator-a".into() };
    assert!(cdrs.iter().all(|cdr| cdr["ingress_trunk"] == ingress), "{cdrs:#?}");
    gateway.wait_idle();
}

fn call_lines_over(over: Over<'_>, authority: &Authority) {
    at_once(
        &[Side::User, Side::Trunk],
        |side| format!("{side:?}"),
        |_, side| {
            call_lines(*side, over, authority);
        },
    );
}

#[test]
fn every_test_line_answers_users_and_operators_over_udp() {
    call_lines_over(Over::Udp, &authority());
}

#[test]
fn every_test_line_answers_users_and_operators_over_tcp() {
    call_lines_over(Over::Tcp, &authority());
}

#[test]
fn every_test_line_answers_users_and_operators_over_tls() {
    let authority = authority();
    call_lines_over(Over::Tls(&authority), &authority);
}
