//! The threads with real sockets on the loopback.

use super::*;
use crate::media::codec::g711::Law;
use crate::media::codec::opus::{Encoded, Encoder};
use crate::media::codec::speech::speech;
use crate::media::config::{DtmfFormat, LegConfig, Line, OpusSettings, Ringing, Tone};
use crate::media::io::ports::LegSockets;
use crate::media::rtp::{self, RtpHeader};
use crate::types::{ActivityMark, AudioCodec, LegId, LegKind, LegReport, NetworkId};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct FarSide(UdpSocket);

impl FarSide {
    fn new() -> FarSide {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        FarSide(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn send(&self, to: SocketAddr, payload_type: u8, number: u16, step: u32, payload: &[u8]) {
        let timestamp = u32::from(number) * step;
        let header = RtpHeader { payload_type, marker: false, sequence: number, timestamp, ssrc: 1 };
        let mut bytes = vec![0; payload.len() + 12];
        header.write(payload, &mut bytes).unwrap();
        self.0.send_to(&bytes, to).unwrap();
    }

    fn receive(&self) -> (u8, Vec<u8>) {
        let mut bytes = [0; 2000];
        // Reports come to the same port.
        let len = loop {
            let (len, _) = self.0.recv_from(&mut bytes).expect("a packet");
            if !rtp::is_rtcp(&bytes[..len]) {
                break len;
            }
        };
        let packet = rtp::parse(&bytes[..len]).unwrap();
        (packet.payload_type, packet.payload.to_vec())
    }
}

fn sockets() -> (LegSockets, SocketAddr) {
    let bind = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let (rtp, rtcp) = (bind(), bind());
    let local_rtp = rtp.local_addr().unwrap();
    (LegSockets { rtp, rtcp: Some(rtcp), network: NetworkId(0), local_rtp }, local_rtp)
}

fn config(codec: AudioCodec, far: &FarSide) -> Box<LegConfig> {
    let payload_type = match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcma => 8,
        AudioCodec::Pcmu => 0,
    };
    let clock_rate = codec.clock_rate();
    Box::new(LegConfig {
        dtmf: Some(DtmfFormat { send_payload_type: 101, receive_payload_type: 101, clock_rate }),
        rtcp_mux: false,
        opus: OpusSettings { dtx: false, ..OpusSettings::default() },
        ..LegConfig::plain(codec, payload_type, far.address())
    })
}

fn leg(call: u8, index: u8) -> LegId {
    LegId { call: CallId::from_parts(1, [call; 10]), index }
}

/// More than any of these tests is told.
const TOLD: usize = 10_000;

/// A worker and what it tells.
struct Bench {
    workers: MediaWorkers,
    events: Receiver<MediaEvent>,
}

impl Bench {
    fn new(count: usize) -> Bench {
        Bench::limited(count, LoadLimit::default())
    }

    fn limited(count: usize, limit: LoadLimit) -> Bench {
        let (sender, events) = mpsc::sync_channel(TOLD);
        let sender = Mutex::new(sender);
        let workers = MediaWorkers::start(count, limit, move |event| {
            let _ = sender.lock().unwrap().send(event);
        })
        .unwrap();
        Bench { workers, events }
    }

    fn send(&self, command: MediaCommand) {
        self.workers.send(WorkerId(0), command);
    }

    fn event(&self) -> MediaEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    fn close(&self, leg: LegId) -> LegReport {
        self.send(MediaCommand::CloseLeg { leg });
        loop {
            if let MediaEvent::Closed { leg: closed, report, .. } = self.event()
                && closed == leg
            {
                return report;
            }
        }
    }
}

/// Tells when it was written to.
struct Marked(mpsc::SyncSender<i64>);

impl ActivityMark for Marked {
    fn mark(&mut self, unix_ms: i64) {
        let _ = self.0.send(unix_ms);
    }
}

#[test]
fn a_leg_moves_to_another_thread_while_it_is_spoken_to_and_what_was_ordered_meanwhile_is_done() {
    let bench = Bench::new(2);
    let fars: Vec<FarSide> = (0..3).map(|_| FarSide::new()).collect();
    let (first, second) = (WorkerId(0), WorkerId(1));
    let legs = [leg(1, 0), leg(2, 0), leg(2, 1)];
    let mut ports = Vec::new();
    for ((id, far), worker) in legs.into_iter().zip(&fars).zip([first, second, second]) {
        let (sockets, port) = sockets();
        ports.push(port);
        let config = Some(config(AudioCodec::Pcma, far));
        bench.workers.send(worker, MediaCommand::OpenLeg { leg: id, kind: LegKind::Trunk, sockets, config });
    }
    let [stays, moves, goes] = legs;
    bench.workers.send(second, MediaCommand::Bridge { a: moves, b: goes, mark: None });
    let voice = [Law::A.compress(1_000); 160];
    for n in 0..5 {
        fars[1].send(ports[1], 8, n, 160, &voice);
        assert_eq!(fars[2].receive().0, 8);
    }
    // All at once: the first thread hears of the bridge and of the end long before it has the leg.
    bench.workers.leave_move(moves, second, first);
    bench.workers.leave(first, MediaCommand::Bridge { a: stays, b: moves, mark: None });
    bench.workers.leave(first, MediaCommand::Report { leg: moves, tag: 7 });
    bench.workers.leave(second, MediaCommand::CloseLeg { leg: goes });
    bench.workers.wake();
    let mut told = (None, None);
    while told.0.is_none() || told.1.is_none() {
        match bench.event() {
            MediaEvent::Report { leg, tag: 7, report } if leg == moves => told.0 = Some(report),
            MediaEvent::Closed { leg, report, .. } if leg == goes => told.1 = Some(report),
            MediaEvent::FirstPacket { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told.0.unwrap().packets_received, 5, "its counts have come along");
    for n in 5..10 {
        fars[1].send(ports[1], 8, n, 160, &voice);
        assert_eq!(fars[0].receive(), (8, voice.to_vec()));
        fars[0].send(ports[0], 8, n, 160, &voice);
        assert_eq!(fars[1].receive(), (8, voice.to_vec()));
    }
    assert_eq!(bench.workers.legs(), 2);
    // One that has ended is not waited for.
    bench.workers.leave_move(goes, second, first);
    bench.workers.send(first, MediaCommand::CloseLeg { leg: goes });
    for id in [stays, moves] {
        bench.workers.send(first, MediaCommand::CloseLeg { leg: id });
    }
    let mut received = 0;
    for _ in 0..2 {
        loop {
            match bench.event() {
                MediaEvent::Closed { leg, report, .. } => {
                    assert_ne!(leg, goes);
                    received += report.packets_received;
                    break;
                }
                MediaEvent::FirstPacket { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(received, 10 + 5);
    assert_eq!((bench.workers.legs(), bench.workers.totals().trunk.received), (0, 15));
    bench.workers.shutdown();
}

#[test]
fn a_transcoded_call_runs_through_real_sockets() {
    let bench = Bench::new(1);
    let (app, trunk) = (FarSide::new(), FarSide::new());
    let ((app_sockets, app_port), (trunk_sockets, trunk_port)) = (sockets(), sockets());
    let (a, b) = (leg(1, 0), leg(1, 1));
    let (marks, marked) = mpsc::sync_channel(TOLD);
    bench.send(MediaCommand::OpenLeg { leg: a, kind: LegKind::App, sockets: app_sockets, config: None });
    bench.send(MediaCommand::ConfigureLeg { leg: a, config: config(AudioCodec::Opus, &app) });
    bench.send(MediaCommand::OpenLeg {
        leg: b,
        kind: LegKind::Trunk,
        sockets: trunk_sockets,
        config: Some(config(AudioCodec::Pcma, &trunk)),
    });
    bench.send(MediaCommand::Bridge { a, b, mark: Some(Box::new(Marked(marks))) });
    assert_eq!(bench.workers.legs(), 2);

    let mut encoder = Encoder::new(8_000, OpusSettings::default()).unwrap();
    for n in 0..10u16 {
        let mut packet = [0; 1276];
        let pcm = speech(usize::from(n) * 160, 160);
        let Ok(Encoded::Packet(len)) = encoder.encode(&pcm, &mut packet) else { panic!("not sent") };
        app.send(app_port, 111, n, 960, &packet[..len]);
        let (payload_type, payload) = trunk.receive();
        assert_eq!((payload_type, payload.len()), (8, 160));
        let voice: Vec<u8> = pcm.iter().map(|sample| Law::A.compress(*sample)).collect();
        trunk.send(trunk_port, 8, n, 160, &voice);
        assert_eq!(app.receive().0, 111);
    }
    assert!(marked.recv_timeout(PATIENCE).unwrap() > 0);

    bench.send(MediaCommand::Report { leg: a, tag: 7 });
    let report = loop {
        match bench.event() {
            MediaEvent::Report { tag: 7, report, .. } => break report,
            MediaEvent::FirstPacket { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((report.packets_received, report.packets_sent, report.packets_lost), (10, 10, 0));
    assert!(report.mos_lq.unwrap() > 4.3);
    assert!(report.last_media_at.is_some());
    assert_eq!(bench.close(b).packets_received, 10);
    bench.close(a);
    assert_eq!(bench.workers.legs(), 0);
    let totals = bench.workers.totals();
    assert_eq!((totals.app.received, totals.app.sent), (10, 10));
    assert_eq!((totals.trunk.received, totals.trunk.sent), (10, 10));
    assert_eq!(totals.delay_counts.iter().sum::<u64>(), 20);
    bench.workers.shutdown();
}

#[test]
fn a_closed_leg_gives_its_sockets_back_and_its_port_is_silent() {
    let bench = Bench::new(1);
    let (sockets, port) = sockets();
    let id = leg(2, 0);
    bench.send(MediaCommand::OpenLeg { leg: id, kind: LegKind::App, sockets, config: None });
    bench.send(MediaCommand::CloseLeg { leg: id });
    let MediaEvent::Closed { leg: closed, sockets, report } = bench.event() else { panic!("not closed") };
    assert_eq!((closed, sockets.local_rtp), (id, port));
    assert_eq!(report, LegReport::default());
    // The sockets are whole and nobody reads them any more.
    let far = FarSide::new();
    far.send(port, 8, 1, 160, &[0xd5; 160]);
    sockets.rtp.set_nonblocking(false).unwrap();
    sockets.rtp.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(sockets.rtp.recv(&mut [0; 2000]).unwrap(), 172);
    bench.workers.shutdown();
}

#[test]
fn silence_beyond_the_time_out_is_told() {
    let bench = Bench::new(1);
    let far = FarSide::new();
    let (sockets, _) = sockets();
    let id = leg(3, 0);
    let config = Some(config(AudioCodec::Pcma, &far));
    bench.send(MediaCommand::OpenLeg { leg: id, kind: LegKind::Trunk, sockets, config });
    bench.send(MediaCommand::SetTimeout { leg: id, after: Some(Duration::from_millis(30)) });
    assert!(matches!(bench.event(), MediaEvent::TimedOut { leg } if leg == id));
    bench.workers.shutdown();
}

#[test]
fn a_test_line_answers_at_the_callers_own_port_and_its_call_is_known_to_live() {
    let bench = Bench::new(1);
    let caller = FarSide::new();
    let (sockets, port) = sockets();
    let id = leg(8, 0);
    let (marks, marked) = mpsc::sync_channel(TOLD);
    let config = Some(config(AudioCodec::Pcma, &caller));
    bench.send(MediaCommand::OpenLeg { leg: id, kind: LegKind::Trunk, sockets, config });
    bench.send(MediaCommand::Serve { leg: id, line: Line::Echo, mark: Some(Box::new(Marked(marks))) });
    for n in 0..10u16 {
        caller.send(port, 8, n, 160, &[n as u8; 160]);
        assert_eq!(caller.receive(), (8, vec![n as u8; 160]));
    }
    assert!(marked.recv_timeout(PATIENCE).unwrap() > 0);
    bench.send(MediaCommand::Serve { leg: id, line: Line::Speech, mark: None });
    assert_eq!(caller.receive().1.len(), 160, "a line speaks without being spoken to");
    bench.workers.shutdown();
}

#[test]
fn ringback_arrives_by_itself() {
    let bench = Bench::new(1);
    let far = FarSide::new();
    let (sockets, _) = sockets();
    let id = leg(4, 0);
    let config = Some(config(AudioCodec::Pcma, &far));
    bench.send(MediaCommand::OpenLeg { leg: id, kind: LegKind::App, sockets, config });
    bench.send(MediaCommand::PlayTone { leg: id, tone: Tone::Ringback(Ringing::Europe), unless: None });
    for _ in 0..5 {
        assert_eq!(far.receive().1.len(), 160);
    }
    bench.workers.shutdown();
}

#[test]
fn the_leg_follows_its_peer_when_it_latches() {
    let bench = Bench::new(1);
    let (announced, real) = (FarSide::new(), FarSide::new());
    let (sockets, port) = sockets();
    let id = leg(5, 0);
    let mut latching = config(AudioCodec::Pcma, &announced);
    latching.latch = true;
    bench.send(MediaCommand::OpenLeg { leg: id, kind: LegKind::App, sockets, config: Some(latching) });
    real.send(port, 8, 1, 160, &[0xd5; 160]);
    let MediaEvent::Latched { remote, .. } = bench.event() else { panic!("not latched") };
    assert_eq!(remote, real.address());
    bench.send(MediaCommand::PlayTone { leg: id, tone: Tone::Ringback(Ringing::Europe), unless: None });
    assert_eq!(real.receive().0, 8);
    bench.workers.shutdown();
}

#[test]
fn keys_that_do_not_fit_are_told_and_other_orders_about_unknown_legs_ignored() {
    let bench = Bench::new(1);
    let far = FarSide::new();
    let (sockets, _) = sockets();
    let id = leg(6, 0);
    let mut bad = config(AudioCodec::Pcma, &far);
    let suite = crate::types::SrtpSuite::AesCm128HmacSha1_80;
    bad.srtp = Some(crate::types::SrtpKeys::new(suite, vec![0; 3], vec![0; 30]));
    let unknown = leg(7, 0);
    bench.send(MediaCommand::Bridge { a: unknown, b: id, mark: None });
    bench.send(MediaCommand::CloseLeg { leg: unknown });
    bench.send(MediaCommand::OpenLeg { leg: id, kind: LegKind::App, sockets, config: Some(bad) });
    assert!(matches!(bench.event(), MediaEvent::Unusable { leg } if leg == id));
    bench.workers.shutdown();
}

#[test]
fn calls_go_to_the_worker_with_the_fewest_legs() {
    let bench = Bench::new(2);
    let mut counts = [0; 2];
    for n in 0..6 {
        let id = leg(10 + n, 0);
        let worker = bench.workers.assign(id.call);
        counts[worker.0] += 1;
        let (sockets, _) = sockets();
        bench
            .workers
            .send(worker, MediaCommand::OpenLeg { leg: id, kind: LegKind::App, sockets, config: None });
    }
    assert_eq!(counts, [3, 3]);
    bench.workers.shutdown();
}

#[allow(clippy::disallowed_methods, reason = "more than the pace of a voice is not heard from any source")]
fn wait_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[test]
fn a_worker_with_too_much_to_do_encodes_more_cheaply_and_then_takes_no_more_calls() {
    // Next to nothing is too much here, so that one call is.
    let bench = Bench::limited(1, LoadLimit::new(0.001));
    let (app, trunk) = (FarSide::new(), FarSide::new());
    let ((app_sockets, _), (trunk_sockets, trunk_port)) = (sockets(), sockets());
    let (a, b) = (leg(8, 0), leg(8, 1));
    let ends = [(a, LegKind::App, app_sockets, &app), (b, LegKind::Trunk, trunk_sockets, &trunk)];
    for ((leg, kind, sockets, far), codec) in ends.into_iter().zip([AudioCodec::Opus, AudioCodec::Pcma]) {
        let config = Some(config(codec, far));
        bench.send(MediaCommand::OpenLeg { leg, kind, sockets, config });
    }
    bench.send(MediaCommand::Bridge { a, b, mark: None });
    let (mut seen, start) = (Vec::new(), Instant::now());
    for n in 0..u16::MAX {
        let voice: Vec<u8> =
            speech(usize::from(n) * 160, 160).iter().map(|sample| Law::A.compress(*sample)).collect();
        trunk.send(trunk_port, 8, n, 160, &voice);
        assert_eq!(app.receive().0, 111, "the call that runs is heard");
        wait_until(start + Duration::from_millis(20) * (u32::from(n) + 1));
        let complexity = bench.workers.totals().complexity;
        if seen.last() != Some(&complexity) {
            seen.push(complexity);
        }
        if !bench.workers.admits() {
            break;
        }
    }
    // The step to 5 is none: they are set to that.
    assert_eq!(seen, [10, 3, 1, 0], "step by step, and all of them before a call is refused");
    assert!(bench.workers.totals().load > 0.001);
    bench.workers.shutdown();
}
