//! Speech over a wire that loses packets, judged by PESQ: what the repair is worth, through a bridge in virtual time and
//! through a running gateway.

use crate::scene::{ALICE, MOBILE};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    impairment::Impairment,
    lane::Lane,
    speech::{self, Floor, Voice},
    wait,
    wav::Wav,
    wire::Wire as LossyWire,
};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tandem::media::bridge;
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::{Decoder, Encoded, Encoder, MAX_ENCODED};
use tandem::media::config::{LegConfig, OpusSettings};
use tandem::media::leg::{Datagram, Leg};
use tandem::media::recovery::wire::{ImpairedWire, Impairments, Loss};
use tandem::media::rtp::{self, RtpHeader};
use tandem::media::transmit::{Channel, Out, Wire, Workspace};
use tandem::simulator::speech::{callee, caller};
use tandem::types::{AudioCodec, LegKind, Now};

const FRAME: usize = 160;
const TICK: Duration = Duration::from_millis(20);
const FAR: &str = "192.0.2.1:4000";
/// By how much repaired speech must score above unrepaired speech of the same losses, from five percent on. Redundancy
/// brings more back than concealment can make up.
fn worth(way: Way, percent: u32) -> f64 {
    match (way, percent) {
        (_, 0..3) => 0.0,
        (Way::AppToTrunk, 3..5) => 0.3,
        (Way::AppToTrunk, _) => 0.6,
        (Way::TrunkToApp, 3..5) => 0.3,
        (Way::TrunkToApp, _) => 0.5,
    }
}

/// What speech over a network that loses so many percent must at least reach.
fn floor(way: Way, percent: u32) -> f64 {
    match (way, percent) {
        (_, 0) => speech::GOOD,
        (Way::AppToTrunk, 1..=5) => 3.6,
        (Way::AppToTrunk, 6..=10) => 2.7,
        (Way::TrunkToApp, 1..=5) => 3.3,
        (Way::TrunkToApp, 6..=10) => 2.6,
        (_, _) => 1.8,
    }
}

/// Which way the speech goes; the loss is on the sender's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AppToTrunk,
    TrunkToApp,
}

/// What is done about lost packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// The gateway's.
    Tandem,
    /// None, on a true timeline: a lost packet is 20 ms of silence.
    Off,
}

#[test]
fn repaired_speech_scores_far_above_unrepaired_speech_of_the_same_losses() {
    let lane = Lane::take("repair");
    let said: Vec<i16> = [caller().samples, callee().samples].concat();
    let folder = lane.folder().to_path_buf();
    let reference = folder.join("said.wav");
    write(&reference, &said);
    let judged = |way, wire: Impairments, repair| {
        let seeds = if wire == Impairments::default() { 1..2 } else { 1..3 };
        let scores: Vec<f64> = seeds
            .map(|seed| {
                let heard = hear(&said, way, wire, repair, seed);
                let (loss, jitter) = (wire.loss, wire.jitter.as_millis());
                let file = folder.join(format!("heard-{way:?}-{repair:?}-{loss:?}-{jitter}-{seed}.wav"));
                write(&file, &heard);
                let score = speech::score(&reference, &file);
                score.pesq_nb.unwrap_or_else(|| panic!("{way:?} {wire:?} {repair:?}: {score:?}"))
            })
            .collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    };
    let mut table = Vec::new();
    for way in [Way::AppToTrunk, Way::TrunkToApp] {
        for percent in [0u32, 1, 3, 5, 10, 20] {
            let loss = if percent == 0 { Loss::None } else { Loss::Random(f64::from(percent) / 100.0) };
            table.push((way, percent, Impairments { loss, ..Impairments::default() }));
        }
        let loss = Loss::Bursts { share: 0.1, mean_run: 2.5 };
        table.push((way, 10, Impairments { loss, ..Impairments::default() }));
        for jitter in [40, 60] {
            let jitter = Duration::from_millis(jitter);
            table.push((way, 0, Impairments { jitter, ..Impairments::default() }));
        }
    }
    // Two cores judge at once; the speech itself takes no time.
    let scores: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let (judged, table) = (&judged, &table);
        let half = |from: usize| {
            scope.spawn(move || {
                let mine = table.iter().skip(from).step_by(2);
                mine.map(|(way, _, wire)| {
                    (judged(*way, *wire, Repair::Tandem), judged(*way, *wire, Repair::Off))
                })
                .collect::<Vec<_>>()
            })
        };
        let (even, odd) = (half(0), half(1));
        let (even, odd) = (even.join().expect("judged"), odd.join().expect("judged"));
        (0..table.len()).map(|row| if row % 2 == 0 { even[row / 2] } else { odd[row / 2] }).collect()
    });
    println!("PESQ-NB                     repaired   not");
    for ((way, percent, wire), (with, without)) in table.iter().zip(&scores) {
        let kind = if matches!(wire.loss, Loss::Bursts { .. }) { "bursts" } else { "random" };
        let jitter = wire.jitter.as_millis();
        println!("  {way:?} {percent:>2} % {kind}, jitter 0 to {jitter:>2} ms   {with:>6.2}  {without:>6.2}");
    }
    for ((way, percent, wire), (with, without)) in table.iter().zip(&scores) {
        let case = format!("{way:?}, {percent} %, {wire:?}: {with:.2} repaired, {without:.2} not");
        assert!(*with >= floor(*way, *percent), "{case}");
        // No packet is lost: to a patient listener jitter alone is nothing.
        assert!(wire.jitter.is_zero() || *with >= without - 0.05, "{case}");
        assert!(*percent == 0 || with - without >= worth(*way, *percent), "{case}");
    }
}

/// What the networks of a call do to its media; none of it where nothing is said.
#[derive(Default)]
struct Networks {
    app_to_gateway: Impairment,
    gateway_to_app: Impairment,
    trunk_to_gateway: Impairment,
}

/// A call over such networks in which alice's phone and a line in A-law both spoke; it is over.
struct Spoken<'a> {
    gateway: Gateway<'a>,
    phone: Baresip,
    line: Baresip,
    app: LossyWire,
    trunk: LossyWire,
}

impl Spoken<'_> {
    #[track_caller]
    fn over(lane: &Lane, networks: Networks) -> Spoken<'_> {
        let line = Baresip::on(lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
        let builder = Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")]);
        let builder = builder.user("alice", ALICE);
        let app = LossyWire::on(lane, builder.udp()).to_gateway(networks.app_to_gateway);
        let app = app.to_peer(networks.gateway_to_app).start();
        let trunk = LossyWire::on(lane, builder.udp()).peer(line.address());
        let trunk = trunk.to_gateway(networks.trunk_to_gateway).start();
        let gateway = builder.trunk("operator-a", trunk.address()).start();
        let phone = Baresip::on(lane, "alice").voice(Voice::Caller).config("opus_packet_loss 10");
        let mut phone = phone.registers(app.address(), "udp").start();
        phone.dial(MOBILE);
        phone.wait_event("CALL_ESTABLISHED");
        wait::talk(Duration::from_secs(11));
        phone.hang_up();
        line.wait_event("CALL_CLOSED");
        phone.wait_event("CALL_CLOSED");
        gateway.wait_idle();
        Spoken { gateway, phone, line, app, trunk }
    }

    /// The line's words reach the phone as if no network were bad, and the phone's are not among them.
    #[track_caller]
    fn assert_phone_hears(&self) {
        speech::assert_heard(self.line.said(), self.phone.said(), &self.phone.heard());
    }

    /// The same the other way.
    #[track_caller]
    fn assert_line_hears(&self) {
        speech::assert_heard(self.phone.said(), self.line.said(), &self.line.heard());
    }

    fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.gateway.metric(name, labels) as usize
    }
}

/// One packet in twenty is lost, as many come 25 ms behind the others, two in a hundred twice.
fn bad() -> Impairment {
    let ms = Duration::from_millis;
    let chances = Impairments {
        loss: Loss::Random(0.05),
        jitter: ms(10),
        detour: (0.05, ms(25)),
        doubled: 0.02,
        ..Impairments::default()
    };
    Impairment::none().by_chance(chances, 7).delay(ms(30))
}

#[test]
fn a_phone_whose_packets_are_lost_doubled_and_reordered_on_the_way_is_heard_well() {
    let lane = Lane::take("repair-wire");
    let _floor = Floor::take();
    let call = Spoken::over(&lane, Networks { app_to_gateway: bad(), ..Networks::default() });
    let score = speech::score(call.phone.said(), &call.line.heard());
    println!("over a lossy wire: {score:?}");
    assert!(score.pesq_nb.is_some_and(|pesq| pesq >= 3.0), "{score:?}");
    call.assert_phone_hears();
    let tally = call.app.call().to_gateway;
    assert!(tally.dropped.len() > 15 && tally.overtaken.len() > 15, "{tally:?}");
    assert_eq!(call.count("tandem_media_lost_packets_total", &[("leg", "app")]), tally.dropped.len());
    let fec = call.count("tandem_media_recovered_packets_total", &[("method", "fec")]);
    let plc = call.count("tandem_media_recovered_packets_total", &[("method", "plc")]);
    assert!(
        fec > tally.dropped.len() / 3 && fec + plc >= tally.dropped.len() - 2,
        "{fec} and {plc}: {tally:?}"
    );
    // Doubled ones are late, and of the overtaken ones only those before the gateway knew this wire.
    let late = call.count("tandem_media_late_packets_total", &[("leg", "app")]);
    assert!(late < tally.doubled.len() + tally.overtaken.len() / 2, "{late} late: {tally:?}");
}

#[test]
fn a_line_whose_packets_are_lost_doubled_and_reordered_on_the_way_is_heard_well() {
    let lane = Lane::take("repair-trunk");
    let _floor = Floor::take();
    let call = Spoken::over(&lane, Networks { trunk_to_gateway: bad(), ..Networks::default() });
    let score = speech::score(call.line.said(), &call.phone.heard());
    println!("from a line over a lossy wire: {score:?}");
    assert!(score.pesq_nb.is_some_and(|pesq| pesq >= 3.0), "{score:?}");
    call.assert_line_hears();
    let tally = call.trunk.call().to_gateway;
    assert!(tally.dropped.len() > 15 && tally.overtaken.len() > 15, "{tally:?}");
    assert_eq!(call.count("tandem_media_lost_packets_total", &[("leg", "trunk")]), tally.dropped.len());
    // There is no redundancy in A-law: all is concealed before the encoder.
    let plc = call.count("tandem_media_recovered_packets_total", &[("method", "plc")]);
    assert!(plc >= tally.dropped.len() - 2, "{plc}: {tally:?}");
    let late = call.count("tandem_media_late_packets_total", &[("leg", "trunk")]);
    assert!(late < tally.doubled.len() + tally.overtaken.len() / 2, "{late} late: {tally:?}");
}

#[test]
fn a_phone_that_loses_what_it_is_sent_hears_well_and_its_reports_are_kept() {
    let lane = Lane::take("repair-app");
    let _floor = Floor::take();
    let call = Spoken::over(&lane, Networks { gateway_to_app: bad(), ..Networks::default() });
    let score = speech::score(call.line.said(), &call.phone.heard());
    println!("to a phone over a lossy wire: {score:?}");
    assert!(score.pesq_nb.is_some_and(|pesq| pesq >= 2.5), "{score:?}");
    call.assert_line_hears();
    let tally = call.app.call().to_peer;
    assert!(tally.dropped.len() > 15 && tally.overtaken.len() > 15, "{tally:?}");
    // Nothing of it is lost on the way here, nor made up.
    assert_eq!(call.count("tandem_media_lost_packets_total", &[]), 0);
    let cdr = call.gateway.wait_cdr();
    let told = cdr["caller_leg"]["remote_loss"].as_f64();
    assert!(told.is_some_and(|loss| (0.01..0.12).contains(&loss)), "{cdr:#}");
}

#[test]
fn clocks_that_are_off_are_heard_no_worse_than_those_that_are_right() {
    // Ten times what clocks are off by, so that eleven seconds gain more than a packet.
    for slow_ppm in [-2_000, 2_000] {
        let lane = Lane::take("repair-clock");
        let _floor = Floor::take();
        let off = |drift_ppm| {
            let drifting = Impairments { drift_ppm, ..Impairments::default() };
            Impairment::none().by_chance(drifting, 7).delay(Duration::from_millis(40))
        };
        let (app_to_gateway, trunk_to_gateway) = (off(slow_ppm), off(-slow_ppm));
        let call = Spoken::over(&lane, Networks { app_to_gateway, trunk_to_gateway, ..Networks::default() });
        call.assert_line_hears();
        call.assert_phone_hears();
        assert_eq!(call.count("tandem_media_lost_packets_total", &[]), 0);
        for name in ["tandem_media_late_packets_total", "tandem_media_recovered_packets_total"] {
            // Those of a busy machine.
            assert!(call.count(name, &[]) <= 5, "{name}: {}", call.count(name, &[]));
        }
    }
}

/// What the far side hears, whose jitter buffer is ideal.
fn hear(said: &[i16], way: Way, impairments: Impairments, repair: Repair, seed: u64) -> Vec<i16> {
    let (mut wire, loss) = (ImpairedWire::new(impairments, seed), impairments.loss);
    let arrivals: Vec<Option<Duration>> =
        (0..said.len() / FRAME).map(|n| wire.carry(TICK * n as u32).next()).collect();
    let arrived: Vec<bool> = arrivals.iter().map(Option::is_some).collect();
    match (way, repair) {
        (Way::AppToTrunk, Repair::Tandem) => {
            let call = Call::carry(AudioCodec::Opus, AudioCodec::Pcma, &opus(said, loss), &arrivals);
            play_g711(&call.sent)
        }
        (Way::AppToTrunk, Repair::Off) => {
            let mut decoder = Decoder::new(8_000).expect("a decoder");
            let frame = |(packet, arrived): (Vec<u8>, &bool)| {
                let mut pcm = vec![0; 960];
                let samples = if *arrived { decoder.decode(&packet, &mut pcm).expect("Opus") } else { FRAME };
                pcm[..samples]
                    .iter()
                    .map(|sample| Law::A.expand(Law::A.compress(*sample)))
                    .collect::<Vec<_>>()
            };
            opus(said, loss).into_iter().zip(&arrived).flat_map(frame).collect()
        }
        (Way::TrunkToApp, Repair::Tandem) => {
            let call = Call::carry(AudioCodec::Pcma, AudioCodec::Opus, &g711(said), &arrivals);
            play_opus(&call.sent)
        }
        (Way::TrunkToApp, Repair::Off) => {
            let frames = said.chunks_exact(FRAME).zip(&arrived);
            let holed: Vec<i16> = frames
                .flat_map(|(frame, arrived)| if *arrived { frame.to_vec() } else { vec![0; FRAME] })
                .map(|sample| Law::A.expand(Law::A.compress(sample)))
                .collect();
            let mut decoder = Decoder::new(8_000).expect("a decoder");
            opus(&holed, Loss::None)
                .iter()
                .flat_map(|packet| {
                    let mut pcm = [0; 960];
                    let samples = decoder.decode(packet, &mut pcm).expect("Opus");
                    pcm[..samples].to_vec()
                })
                .collect()
        }
    }
}

/// As an app encodes whose receiver reports this loss.
fn opus(said: &[i16], loss: Loss) -> Vec<Vec<u8>> {
    let settings = OpusSettings { dtx: false, ..OpusSettings::default() };
    let mut encoder = Encoder::new(8_000, settings).expect("an encoder");
    encoder.set_expected_loss(match loss {
        Loss::None => 0,
        Loss::Random(share) | Loss::Bursts { share, .. } => (share * 100.0) as u8,
    });
    let frame = |pcm: &[i16]| {
        let mut packet = [0; MAX_ENCODED];
        match encoder.encode(pcm, &mut packet).expect("a frame") {
            Encoded::Packet(len) => packet[..len].to_vec(),
            Encoded::Silence => unreachable!("without DTX every frame is sent"),
        }
    };
    said.chunks_exact(FRAME).map(frame).collect()
}

fn g711(said: &[i16]) -> Vec<Vec<u8>> {
    let packet = |pcm: &[i16]| pcm.iter().map(|sample| Law::A.compress(*sample)).collect();
    said.chunks_exact(FRAME).map(packet).collect()
}

/// A voice packet as the far side got it: timestamp and payload.
type Packet = (u32, Vec<u8>);

fn play_g711(packets: &[Packet]) -> Vec<i16> {
    let Some((first, _)) = packets.first() else { return Vec::new() };
    let mut heard = Vec::new();
    for (timestamp, payload) in packets {
        let from = timestamp.wrapping_sub(*first) as usize;
        heard.resize(heard.len().max(from + payload.len()), 0);
        for (sample, code) in heard[from..].iter_mut().zip(payload) {
            *sample = Law::A.expand(*code);
        }
    }
    heard
}

fn play_opus(packets: &[Packet]) -> Vec<i16> {
    let mut decoder = Decoder::new(8_000).expect("a decoder");
    let (mut heard, mut next) = (Vec::new(), packets.first().map_or(0, |(timestamp, _)| *timestamp));
    for (timestamp, payload) in packets {
        while rtp::timestamp_distance(next, *timestamp) >= 960 {
            let mut pcm = [0; FRAME];
            decoder.conceal(&mut pcm).expect("20 ms");
            heard.extend(pcm);
            next = next.wrapping_add(960);
        }
        let mut pcm = [0; 960];
        let samples = decoder.decode(payload, &mut pcm).expect("Opus");
        heard.extend(&pcm[..samples]);
        next = next.wrapping_add(6 * samples as u32);
    }
    heard
}

/// A bridge in virtual time, its voice going one way.
struct Call {
    from: Leg,
    to: Leg,
    now: Now,
    work: Box<Workspace>,
    sent: Vec<Packet>,
}

struct Collect<'a>(&'a mut Vec<Packet>);

impl Wire for Collect<'_> {
    fn send(&mut self, channel: Channel, _: SocketAddr, packet: &[u8]) {
        if channel == Channel::Rtcp || rtp::is_rtcp(packet) {
            return;
        }
        let packet = rtp::parse(packet).expect("RTP");
        self.0.push((packet.timestamp, packet.payload.to_vec()));
    }
}

impl Call {
    /// Those packets that arrive, at their time; in between what falls due is done.
    fn carry(from: AudioCodec, to: AudioCodec, payloads: &[Vec<u8>], arrivals: &[Option<Duration>]) -> Call {
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let mut call = Call {
            from: Leg::new(LegKind::App, 3, now.instant),
            to: Leg::new(LegKind::Trunk, 4, now.instant),
            now,
            work: Box::default(),
            sent: Vec::new(),
        };
        call.from.configure(config(from), now).expect("no keys");
        call.to.configure(config(to), now).expect("no keys");
        bridge::join(&mut call.from, &mut call.to);
        let far: SocketAddr = FAR.parse().expect("an address");
        let packets = payloads.iter().zip(arrivals).enumerate();
        let mut coming: Vec<_> =
            packets.filter_map(|(n, (payload, at))| Some((at.as_ref()?, n, payload))).collect();
        coming.sort();
        for (at, number, payload) in coming {
            call.until(now.instant + *at);
            let header = RtpHeader {
                payload_type: payload_type(from),
                marker: false,
                sequence: number as u16,
                timestamp: number as u32 * from.clock_rate() / 50,
                ssrc: 7,
            };
            let mut bytes = vec![0; payload.len() + rtp::HEADER_LEN];
            header.write(payload, &mut bytes).expect("room");
            let datagram = Datagram { from: far, arrival: call.now.instant, bytes: &mut bytes };
            let mut wire = Collect(&mut call.sent);
            let mut out = Out { wire: &mut wire, work: &mut call.work };
            bridge::forward(&mut call.from, &mut call.to, datagram, call.now, &mut out);
        }
        call
    }

    fn until(&mut self, goal: Instant) {
        while let Some(due) = self.to.poll_timeout().filter(|due| *due <= goal) {
            self.now = self.now.after(due.saturating_duration_since(self.now.instant));
            let mut wire = Collect(&mut self.sent);
            self.to.handle_timeout(self.now, &mut Out { wire: &mut wire, work: &mut self.work });
        }
        self.now = self.now.after(goal.saturating_duration_since(self.now.instant));
    }
}

fn config(codec: AudioCodec) -> LegConfig {
    let far: SocketAddr = FAR.parse().expect("an address");
    let opus = OpusSettings { dtx: false, ..OpusSettings::default() };
    LegConfig { opus, ..LegConfig::plain(codec, payload_type(codec), far) }
}

fn payload_type(codec: AudioCodec) -> u8 {
    match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcma => 8,
        AudioCodec::Pcmu => 0,
    }
}

fn write(file: &Path, samples: &[i16]) {
    Wav { rate: 8_000, channels: 1, samples: samples.to_vec() }.write(file);
}
