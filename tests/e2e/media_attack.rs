//! Attacks on the media ports of a running call: whatever is thrown at them, the call lives and nobody hears it.

use crate::scene::{ALICE, MOBILE};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    speech::{self, Floor, Voice},
    tls::Authority,
    wait,
    wiretap::{Added, OUTSIDE, Wiretap},
};
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The words take nine seconds, and what is late is still on its way.
const WORDS: Duration = Duration::from_secs(11);
/// What strangers throw, packets a second.
const FLOOD: u64 = 10_000;

fn same(bytes: Vec<u8>) -> Added {
    Added { same_port: true, bytes }
}

/// What follows each packet of a phone, from its own address.
fn meddle(port: u16, packet: &[u8]) -> Vec<Added> {
    if !port.is_multiple_of(2) || packet.len() < 20 {
        return Vec::new();
    }
    // A tag or more behind 160 bytes of A-law, or Opus: the user's leg is encrypted, the operator's is not.
    let plain = packet.len() == 172 && packet[1] & 0x7f == 8;
    let mut added = malformed(packet);
    added.extend(if plain { forged_in_clear(packet) } else { forged_srtp(packet) });
    added
}

/// No RTP at all, or RTP whose lengths point beyond its end, and RTCP that only costs time.
fn malformed(packet: &[u8]) -> Vec<Added> {
    let head = |first: u8| [&[first], &packet[1..12]].concat();
    let empty_rr = [0x80, 201, 0, 1, 0, 0, 0, 7];
    vec![
        same(vec![packet[0]]),
        same([&packet[..12], &[0x55; 1_488]].concat()),
        same([head(0x40), packet[12..].to_vec()].concat()),
        same([head(0xa0), vec![0xff; 30]].concat()),
        same([head(0x90), vec![0xbe, 0xde, 0x7f, 0xff, 1]].concat()),
        same(head(0x8f)),
        Added { same_port: false, bytes: empty_rr.repeat(150) },
        Added { same_port: false, bytes: [0x9f, 200, 0xff, 0xff, 0, 0, 0, 7].to_vec() },
    ]
}

/// What somebody can do who sees SRTP but has no key: repeat it, change it, take its tag off.
fn forged_srtp(packet: &[u8]) -> Vec<Added> {
    let flipped = |at: usize| {
        let mut bytes = packet.to_vec();
        bytes[at] ^= 0x40;
        same(bytes)
    };
    let ahead = {
        let mut bytes = packet.to_vec();
        let sequence = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(500);
        bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
        same(bytes)
    };
    vec![
        same(packet.to_vec()),
        same(packet.to_vec()),
        flipped(packet.len() - 1),
        flipped(14),
        flipped(9),
        ahead,
        same(packet[..packet.len() - 10].to_vec()),
    ]
}

/// Other sources from the same address: who does not know the stream can't join it.
fn forged_in_clear(packet: &[u8]) -> Vec<Added> {
    (1..8u8)
        .map(|n| {
            let mut bytes = packet.to_vec();
            bytes[8] ^= n;
            // Loud, if anybody hears it.
            bytes[12..].fill(if n.is_multiple_of(2) { 0x2a } else { 0xaa });
            same(bytes)
        })
        .collect()
}

/// A stranger at every live port: media that would be heard, and noise. Gives what was sent and what came back.
fn flood(ports: Vec<SocketAddr>, stop: Arc<AtomicBool>) -> (u64, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_nonblocking(true).expect("a socket");
    let (begun, mut sent) = (Instant::now(), 0u64);
    let mut loud = vec![0x80, 8];
    loud.resize(172, 0x2a);
    let mut opus = vec![0x80, 111];
    opus.resize(92, 0x37);
    let noise = vec![0xa5; 300];
    while !stop.load(Ordering::Relaxed) {
        let due = begun.elapsed().as_millis() as u64 * FLOOD / 1_000;
        while sent < due {
            let packet = if sent % 2 == 0 { &mut loud } else { &mut opus };
            packet[2..4].copy_from_slice(&(sent as u16).to_be_bytes());
            let packet: &[u8] = if sent % 5 == 4 { &noise } else { packet };
            let _ = socket.send_to(packet, ports[sent as usize % ports.len()]);
            sent += 1;
        }
        wait::talk(Duration::from_millis(2));
    }
    let mut buffer = [0; 2_048];
    let mut came_back = 0;
    while socket.recv_from(&mut buffer).is_ok() {
        came_back += 1;
    }
    (sent, came_back)
}

#[test]
fn a_call_under_attack_from_strangers_and_from_its_peers_addresses_lives_and_is_heard_as_ever() {
    let lane = Lane::take("media-attack");
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let first = lane.even_ports(8);
    let builder = Gateway::on(&lane).set("sip.digest", vec![toml::Value::from("MD5")]).tls(&authority);
    let (udp, tls) = (builder.udp().port(), builder.tls_address().port());
    let listen = ["127.0.0.1".to_owned(), OUTSIDE.to_string()]
        .iter()
        .flat_map(|ip| [format!("udp:{ip}:{udp}"), format!("tls:{ip}:{tls}")])
        .map(toml::Value::from)
        .collect::<Vec<_>>();
    let builder = builder.set("sip.listen", listen).set("network.public_address", OUTSIDE.to_string());
    let builder = builder.set("network.media_ports", format!("{first}-{}", first + 7)).user("alice", ALICE);
    // The tap stands where the operator's phone would send from: it is the peer.
    let builder = builder.trunk_with("operator-a", callee.address(), |trunk| {
        trunk.set("latch", true);
    });
    let gateway = builder.start();
    let tap = Wiretap::start(first..first + 8, meddle);
    let caller = Baresip::on(&lane, "alice").voice(Voice::Caller).tls(&authority);
    let mut caller = caller.registers(gateway.tls(), "tls").srtp().start();
    caller.dial(MOBILE);
    caller.wait_event("CALL_ESTABLISHED");
    let ports = wait::until("media both ways", wait::SOON, || {
        let ports = tap.live_ports();
        let voices = ports.iter().filter(|at| at.port().is_multiple_of(2)).count();
        (voices == 2).then_some(ports)
    });
    let stop = Arc::new(AtomicBool::new(false));
    let stranger = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || flood(ports, stop))
    };
    wait::talk(WORDS);
    stop.store(true, Ordering::Relaxed);
    let (thrown, came_back) = stranger.join().expect("the flood ends");
    let added = tap.added() as u64;
    assert_eq!(gateway.calls().len(), 1, "the call lives");
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.wait_event("CALL_CLOSED");
    speech::assert_heard(caller.said(), callee.said(), &callee.heard());
    speech::assert_heard(callee.said(), caller.said(), &caller.heard());

    assert_eq!(came_back, 0, "a stranger got packets of the call");
    let cdr = gateway.wait_cdr();
    let figure = |leg: &str, name: &str| cdr[leg][name].as_u64().unwrap_or_default();
    for leg in ["caller_leg", "callee_leg"] {
        let (lost, received) = (figure(leg, "packets_lost"), figure(leg, "packets_received"));
        assert!(received > 400 && lost * 200 <= received, "{leg}: {lost} lost of {received}");
        assert!(cdr[leg]["fault"].is_null(), "{leg}: {}", cdr[leg]["fault"]);
    }
    let counted: f64 = ["app", "trunk"]
        .iter()
        .map(|leg| gateway.metric("tandem_media_discarded_packets_total", &[("leg", leg)]))
        .sum();
    println!("{thrown} thrown by a stranger, {added} added on the way, {counted} discarded");
    assert!(thrown > 3 * FLOOD && added > 5_000, "too little was thrown: {thrown} and {added}");
    // What was thrown between the last words and the end counts too; a few may find the kernel's buffer full.
    assert!(counted >= 0.9 * (thrown + added) as f64, "{counted} counted of {}", thrown + added);
}
