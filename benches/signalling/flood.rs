//! A flood at ten times the clean rate, of a stranger and of trunks: what becomes of the calls of those who behave?

use super::HOLD;
use super::machine::Noise;
use super::server::Server;
use super::sipp::Load;
use super::soak::{metrics, sum};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Of the clean rate, in tenths: what the well-behaved trunk brings, and the flood.
const LEGITIMATE: u32 = 8;
const FLOOD: u32 = 100;
/// How long calls are made, and how much of that the flood lasts.
const SECONDS: u32 = 14;
const FLOODED: Duration = Duration::from_secs(10);
/// Calls that are up through all of it.
const HELD: u32 = 300;
const HELD_FOR: Duration = Duration::from_secs(22);
/// No interconnect is without; it keeps a trunk that never acknowledges from all media ports.
const CHANNELS: &str = "max_channels = 100";

/// Who sends it, and whom it calls.
struct Flooder {
    who: &'static str,
    /// Its settings, where it is a trunk.
    trunk: Option<&'static str>,
    called: &'static str,
}

const FLOODERS: [Flooder; 3] = [
    Flooder { who: "stranger", trunk: None, called: "+3225551234" },
    Flooder { who: "trunk", trunk: Some(CHANNELS), called: "+3225551234" },
    Flooder { who: "trunk without limits, for nobody", trunk: Some(""), called: "nobody" },
];

pub fn rows(clean: u32) {
    FLOODERS.iter().for_each(|flooder| row(flooder, clean));
}

fn row(flooder: &Flooder, clean: u32) {
    let who = flooder.who;
    let admin =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let holder = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    // An address of its own: sources are told apart by it.
    let source = UdpSocket::bind("127.0.0.2:0").expect("a socket");
    let from = source.local_addr().expect("an address");
    let mut trunks = vec![("holder", holder, "")];
    if let Some(settings) = flooder.trunk {
        trunks.push(("runaway", from, settings));
    }
    let server = Server::gateway_with("flood", &admin.to_string(), &trunks);
    server.sipp().run(Load::of(300, 100, HOLD));
    let mut held = server.sipp().start_from(holder, "holder", Load::of(HELD, 150, HELD_FOR));
    std::thread::sleep(Duration::from_secs(u64::from(HELD / 150) + 1));

    let (noise, before) = (Noise::start(), server.resident());
    let rate = clean * LEGITIMATE / 10;
    let mut caller = server.sipp().start(Load::of(rate * SECONDS, rate, HOLD));
    std::thread::sleep(Duration::from_secs(2));
    let over = AtomicBool::new(false);
    let to = server.address();
    let (sent, answers, peak) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let counts = send(&source, to, flooder.called, clean * FLOOD / 10);
            over.store(true, Ordering::Relaxed);
            counts
        });
        let mut peak = before;
        while !over.load(Ordering::Relaxed) {
            peak = peak.max(server.resident());
            std::thread::sleep(Duration::from_millis(100));
        }
        let (sent, answers) = sender.join().expect("the flood is sent");
        (sent, answers, peak)
    });
    let report = caller.finish();
    let turned_away = metrics(admin).map_or(0, |metrics| sum(&metrics, "tandem_sip_refused_total"));
    let held = held.finish();
    let goodput = report.successful as f64 / f64::from(SECONDS) / f64::from(clean);
    println!(
        "flood       {who}: {:.0} INVITEs a second for {} s ({:.1} x the clean rate of {clean}; asked for {}), {answers} \
         answered, {turned_away} turned away",
        sent as f64 / FLOODED.as_secs_f64(),
        FLOODED.as_secs(),
        sent as f64 / FLOODED.as_secs_f64() / f64::from(clean),
        clean * FLOOD / 10,
    );
    println!(
        "flood       {who}: calls at {rate} cps: goodput={:.0} % of clean ({:.1} % of what was asked) failed={} \
         retransmitted={}; {HELD} held calls: ended well={} failed={}; RSS {} -> {} KB  (asked: >= 80 %, 0 held calls \
         harmed, memory bounded)  [{noise}]",
        goodput * 100.0,
        report.successful as f64 * 100.0 / f64::from(rate * SECONDS),
        report.failed,
        report.retransmitted,
        held.successful,
        held.failed,
        before / 1024,
        peak / 1024,
    );
}

/// Sends as evenly as one thread can; how many went out, and how many answers came.
fn send(socket: &UdpSocket, to: SocketAddr, called: &str, rate: u32) -> (u64, u64) {
    let from = socket.local_addr().expect("an address");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    let template = invite(from, to, called);
    // Where the number stands in the datagram: each is another call.
    let places: Vec<usize> = template.match_indices(NUMBER).map(|(at, _)| at).collect();
    let mut datagram = template.into_bytes();
    let (mut sent, mut answers) = (0_u64, 0_u64);
    let mut buffer = [0; 2_048];
    let begun = Instant::now();
    while begun.elapsed() < FLOODED {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while sent < due {
            let number = format!("{sent:08}");
            for at in &places {
                datagram[*at..*at + NUMBER.len()].copy_from_slice(number.as_bytes());
            }
            let _ = socket.send_to(&datagram, to);
            sent += 1;
        }
        while socket.recv(&mut buffer).is_ok() {
            answers += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (sent, answers)
}

const NUMBER: &str = "########";

fn invite(from: SocketAddr, to: SocketAddr, called: &str) -> String {
    let body = format!(
        "v=0\r\no=flood 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 101\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n",
        ip = from.ip()
    );
    format!(
        "INVITE sip:{called}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{NUMBER};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+33123456789@{from}>;tag={NUMBER}\r\nTo: <sip:{called}@{to}>\r\n\
         Call-ID: {NUMBER}@{from}\r\nCSeq: 1 INVITE\r\nContact: <sip:flood@{from}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
