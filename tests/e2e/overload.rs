//! Floods: running calls go on, new ones of those who behave are made, and nobody is made an amplifier of.

use crate::scene::{ALICE, BOB, MOBILE, SECOND, alice, incoming, operator};
use crate::support::{gateway::Gateway, lane::Lane, sipp::Sipp, wait};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const FLOOD: u32 = 6_000;

/// Whose flood it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    Stranger,
    Trunk,
    /// Which may send one call a second.
    TrunkBeyondItsRate,
}

/// An INVITE of nobody's for nobody, another one for each number.
fn invite(from: SocketAddr, to: SocketAddr, number: u32) -> String {
    let body =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n";
    format!(
        "INVITE sip:+3225559999@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKflood{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+33140205050@{from}>;tag=f{number}\r\nTo: <sip:+3225559999@{to}>\r\n\
         Call-ID: flood-{number}@{from}\r\nCSeq: 1 INVITE\r\nContact: <sip:x@{from}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A message that says it belongs to a call, with a tag or branch of the gateway's form; no call has it.
fn forged(from: SocketAddr, to: SocketAddr, number: u32) -> String {
    let noise = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let head = format!(
        "From: <sip:x@{from}>;tag=f{number}\r\nTo: <sip:y@{to}>;tag={noise:016x}{:08x}\r\nCall-ID: forged-{number}\r\n",
        noise as u32
    );
    let method = match number % 3 {
        0 => "BYE",
        1 => "INFO",
        _ => {
            return format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {to};branch=z9hG4bK-{number:x}-{noise:016x};rport\r\n{head}\
                 CSeq: 1 INVITE\r\nContact: <sip:x@{from}>\r\nContent-Length: 0\r\n\r\n"
            );
        }
    };
    format!(
        "{method} sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKforged{number};rport\r\n\
         Max-Forwards: 70\r\n{head}CSeq: 2 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Sends the flood from an address, one a millisecond: more than a gateway that is not optimised can make calls of, and
/// less than what makes its answers to those who behave later than SIPp waits before it repeats. What comes back is not
/// even read.
fn flood(socket: &UdpSocket, to: SocketAddr, message: fn(SocketAddr, SocketAddr, u32) -> String) {
    let from = socket.local_addr().expect("an address");
    for number in 0..FLOOD {
        let _ = socket.send_to(message(from, to, number).as_bytes(), to);
        wait::talk(Duration::from_millis(1));
    }
}

/// A call is up while the flood comes, others are made meanwhile; all go as if there was none. Gives how many INFO were
/// looked at.
fn calls_pass_a_flood(test: &str, flooder: Flood, message: fn(SocketAddr, SocketAddr, u32) -> String) -> f64 {
    let lane = Lane::take(test);
    let source = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).expect("an address of its own");
    let (from, held) = (lane.address(), 12 * SECOND);
    let mobile = operator(&lane, "operator-answers").calls(1).start();
    let mut gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB);
    gateway = gateway.trunk("operator-a", mobile.address()).trunk("operator-b", from);
    let runaway = source.local_addr().expect("an address");
    gateway = match flooder {
        Flood::Stranger => gateway,
        Flood::Trunk => gateway.trunk("runaway", runaway),
        Flood::TrunkBeyondItsRate => gateway.trunk_with("runaway", runaway, |trunk| {
            trunk.set("max_cps_in", 1);
        }),
    };
    let gateway = gateway.start();
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "bob", device);
    let phone = operator(&lane, "user-answers").calls(20).at_port(device).start();
    let running = alice(&lane, &gateway, "user-calls").number(MOBILE).pause(held).start();
    running.wait_status(200);

    let begun = Instant::now();
    let to = gateway.udp();
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&source, to, message));
        let calls = incoming(&lane, &gateway, "operator-calls", from.port(), BOB);
        calls.calls(20).arg("-r").arg("5").start().succeed();
    });
    assert!(begun.elapsed() < held, "the call that was up lasted through it");
    phone.succeed();
    running.succeed();
    mobile.succeed();
    // Whatever of it reached the gateway, most was not worth a look.
    let shed = gateway.metric("tandem_sip_refused_total", &[("reason", "overload")]);
    if flooder != Flood::Trunk {
        assert!(shed > f64::from(FLOOD) / 4.0, "{shed} turned away");
    }
    if flooder == Flood::TrunkBeyondItsRate {
        let refused = [("trunk", "runaway"), ("outcome", "congestion")];
        let recorded = gateway.metric("tandem_calls_ended_total", &refused);
        let most = 50.0 * (begun.elapsed().as_secs_f64() + 1.0);
        assert!((50.0..=most).contains(&recorded), "{recorded} refusals have a record");
    }
    println!("{shed} of {FLOOD} turned away");
    let infos = [("flow", "received"), ("method", "INFO")];
    gateway.metrics().sum("tandem_sip_requests_total", &infos).unwrap_or(0.0)
}

#[test]
fn a_flood_of_a_stranger_harms_no_call() {
    calls_pass_a_flood("overload-stranger", Flood::Stranger, invite);
}

#[test]
fn a_flood_of_a_trunk_harms_no_call_of_others() {
    calls_pass_a_flood("overload-trunk", Flood::Trunk, invite);
}

#[test]
fn a_strangers_flood_of_what_looks_like_a_part_of_calls_harms_none_and_passes_no_door() {
    let taken = calls_pass_a_flood("overload-forged", Flood::Stranger, forged);
    println!("{taken} of {} INFO were looked at", FLOOD / 3);
    assert!(taken < f64::from(FLOOD) / 6.0, "{taken} forged INFO were let in");
}

#[test]
fn a_trunk_that_floods_beyond_its_rate_harms_no_call_and_fills_no_disk() {
    calls_pass_a_flood("overload-runaway", Flood::TrunkBeyondItsRate, invite);
}

#[test]
fn max_cps_in_holds_what_a_trunk_may_send_in_a_second() {
    let lane = Lane::take("overload-cps-in");
    let from = lane.address();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", from, |trunk| {
        trunk.set("max_cps_in", 5);
    });
    let gateway = gateway.start();
    let shown = gateway.get("/api/v1/trunks/operator-a");
    assert_eq!((shown["max_cps"].as_u64(), shown["max_cps_in"].as_u64()), (Some(0), Some(5)));
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let _phone = operator(&lane, "user-answers").calls(20).at_port(device).start();
    // Twice the rate for two seconds.
    let calls = incoming(&lane, &gateway, "operator-calls", from.port(), ALICE).calls(20);
    let played = calls.arg("-r").arg("10").start().finish();
    let (made, refused) = (played.count("SuccessfulCall(C)"), played.responses(503));
    assert!((9..=15).contains(&made), "{made} calls were taken\n{played}");
    assert_eq!(made + refused.len() as u64, 20);
    assert!(refused.iter().all(|refusal| refusal.header("Retry-After").is_some()));
    let congested = [("trunk", "operator-a"), ("outcome", "congestion")];
    assert_eq!(gateway.metric("tandem_calls_ended_total", &congested) as u64, 20 - made);
}

#[test]
fn nobody_who_has_proven_nothing_gets_back_more_than_one_and_a_half_times_what_came() {
    let lane = Lane::take("overload-amplification");
    let gateway = Gateway::on(&lane).user("alice", ALICE).start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(700))).expect("a time-out");
    let (from, to) = (socket.local_addr().expect("an address"), gateway.udp());
    let mut answered = 0;
    for method in ["INVITE", "REGISTER", "OPTIONS", "FOO"] {
        for padding in [0, 40, 80, 160, 700] {
            let request = format!(
                "{method} sip:{to} SIP/2.0\r\nv:SIP/2.0/UDP {from};branch=z9hG4bK{method}{padding}\r\nf:<sip:a@b>;tag=1\r\n\
                 t:<sip:a@b>\r\ni:{method}{padding}\r\nCSeq:1 {method}\r\nm:<sip:a@{from}>\r\nSubject:{}\r\n\
                 Max-Forwards:9\r\nl:0\r\n\r\n",
                "x".repeat(padding)
            );
            socket.send_to(request.as_bytes(), to).expect("sent");
            let mut back = 0;
            let mut buffer = [0; 4_096];
            while let Ok(length) = socket.recv(&mut buffer) {
                back += length;
            }
            assert!(back * 2 <= request.len() * 3, "{method}: {back} octets for {}", request.len());
            answered += u32::from(back > 0);
            assert!(padding < 700 || back > 0, "a usual {method} is answered");
        }
    }
    assert!(answered >= 8, "{answered} of 20 answered");
}
