//! libopus alone, and our path around it without sockets: what no gateway can be cheaper than, and what ours adds.

use crate::gateway::config;
use crate::heard::lag;
use crate::machine;
use crate::speech::{self, CONTINUOUS, FRAME, ROOM, datagram, payloads};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tandem::media::bridge;
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::{Decoder, Encoder, MAX_ENCODED};
use tandem::media::config::{LegConfig, OpusSettings};
use tandem::media::leg::{Datagram, Leg};
use tandem::media::rtp;
use tandem::media::srtp;
use tandem::media::transmit::{Channel, Out, Wire, Workspace};
use tandem::types::{AudioCodec, LegKind, Now, SrtpKeys, SrtpSuite};

const FRAME_TIME: Duration = Duration::from_millis(20);

/// µs per frame of libopus alone.
#[derive(Clone, Copy)]
pub struct Floor {
    pub encode: f64,
    pub decode: f64,
}

impl Floor {
    /// CPU-ms of a call that is encoded one way and decoded the other.
    pub fn per_call_second(self) -> f64 {
        (self.encode + self.decode) * 50.0 / 1_000.0
    }
}

/// libopus with as many encoders and decoders as there are calls, each in turn: their states do not fit into the first
/// caches, as they don't in a gateway.
pub fn floor(frames: &[&[i16]], complexity: u8, loss: u8, calls: usize) -> Floor {
    let settings = OpusSettings { complexity, ..CONTINUOUS };
    let packets = payloads(frames, AudioCodec::Opus, settings, loss);
    let rounds = 100;
    let encode = best_of(3, || {
        let encoder = || {
            let mut encoder = Encoder::new(8_000, settings).expect("an encoder");
            encoder.set_expected_loss(loss);
            encoder
        };
        let mut encoders: Vec<Encoder> = (0..calls).map(|_| encoder()).collect();
        let mut packet = [0; MAX_ENCODED];
        let start = machine::own_cpu();
        for round in 0..rounds {
            for (call, encoder) in encoders.iter_mut().enumerate() {
                let frame = frames[(round + call * 37) % frames.len()];
                black_box(encoder.encode(frame, &mut packet)).expect("a frame");
            }
        }
        machine::own_cpu() - start
    });
    let decode = best_of(3, || {
        let mut decoders: Vec<Decoder> =
            (0..calls).map(|_| Decoder::new(8_000).expect("a decoder")).collect();
        let mut pcm = [0; 960];
        let start = machine::own_cpu();
        for round in 0..rounds {
            for (call, decoder) in decoders.iter_mut().enumerate() {
                let packet = packets[(round + call * 37) % packets.len()].as_ref().expect("no DTX");
                black_box(decoder.decode(packet, &mut pcm)).expect("a packet");
            }
        }
        machine::own_cpu() - start
    });
    let per_frame = |time: Duration| micros(time) / (rounds * calls) as f64;
    Floor { encode: per_frame(encode), decode: per_frame(decode) }
}

/// The command line by which this program becomes libopus alone in the rhythm of a gateway.
pub const PACED: &str = "paced";

/// libopus alone, but woken each millisecond for its share of the calls' frames, on the gateway's core: what a gateway
/// would cost whose sockets cost nothing, on this machine as busy as it is. CPU-ms per call-second.
pub fn paced_floor(calls: usize, loss: u8) -> Option<f64> {
    let output = machine::on_gateway_core()
        .arg(std::env::current_exe().ok()?)
        .args([PACED, &calls.to_string(), &loss.to_string()])
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The child's side of [`paced_floor`].
pub fn pace(calls: usize, loss: u8) {
    let voice = speech::caller();
    let frames = speech::voiced(&voice);
    let packets = payloads(&frames, AudioCodec::Opus, CONTINUOUS, loss);
    let mut codecs: Vec<(Encoder, Decoder)> = (0..calls)
        .map(|_| {
            let mut encoder = Encoder::new(8_000, CONTINUOUS).expect("an encoder");
            encoder.set_expected_loss(loss);
            (encoder, Decoder::new(8_000).expect("a decoder"))
        })
        .collect();
    let (mut pcm, mut packet) = ([0; 960], [0; MAX_ENCODED]);
    let seconds = 5;
    let (begun, cpu) = (Instant::now(), machine::own_cpu());
    for tick in 0..seconds * 1_000 {
        let due = begun + Duration::from_millis(tick as u64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (round, part) = (tick / 20, tick % 20);
        for call in (0..calls).filter(|call| call % 20 == part) {
            let place = (round + call * 37) % frames.len();
            let (encoder, decoder) = &mut codecs[call];
            black_box(encoder.encode(frames[place], &mut packet)).expect("a frame");
            black_box(decoder.decode(packets[place].as_ref().expect("no DTX"), &mut pcm)).expect("a packet");
        }
    }
    let cpu = machine::own_cpu() - cpu;
    println!("{:.3}", cpu.as_secs_f64() * 1_000.0 / (calls * seconds) as f64);
}

/// The command line by which this program becomes a thread that only sleeps.
pub const SLEEPING: &str = "sleeping";

/// µs of processor time that it takes to sleep for a millisecond and wake up, doing nothing: what each wake-up of a gateway
/// costs before it has done anything. On a virtual machine that may be more than a packet.
pub fn cost_of_a_sleep() -> Option<f64> {
    let own = std::env::current_exe().ok()?;
    let output = machine::on_gateway_core().arg(own).arg(SLEEPING).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The child's side of [`cost_of_a_sleep`].
pub fn sleep() {
    let (times, cpu) = (2_000, machine::own_cpu());
    (0..times).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
    println!("{:.2}", micros(machine::own_cpu() - cpu) / f64::from(times));
}

/// Prints the floor at every complexity that is used.
pub fn floors(frames: &[&[i16]]) {
    println!("libopus alone, µs per 20 ms frame             encode    decode to 8 kHz");
    let alone = (0..=10).map(|complexity| (complexity, 0, 1));
    for (complexity, loss, calls) in alone.chain([(5, 0, 50), (5, 5, 50)]) {
        let Floor { encode, decode } = floor(frames, complexity, loss, calls);
        let label = match (calls, loss) {
            (1, _) => format!("complexity {complexity}"),
            (_, 0) => format!("complexity {complexity}, {calls} in turn"),
            (..) => format!("complexity {complexity}, {calls} in turn, {loss} % loss told"),
        };
        println!("  {label:<42} {encode:>7.2}  {decode:>8.2}");
    }
    println!();
}

/// Prints what each direction costs from datagram to datagram.
pub fn directions(frames: &[&[i16]]) {
    use AudioCodec::{Opus, Pcma, Pcmu};
    let floor = floor(frames, CONTINUOUS.complexity, 0, 1);
    println!("datagram in to datagram out, no sockets      µs    above floor");
    let mut both = 0.0;
    for (from, to, secured, floor) in [
        (Opus, Pcma, false, Some(floor.decode)),
        (Pcma, Opus, false, Some(floor.encode)),
        (Opus, Pcma, true, Some(floor.decode)),
        (Opus, Opus, false, None),
        (Pcma, Pcma, false, None),
        (Pcma, Pcmu, false, None),
    ] {
        let time = best_of(5, || through_bridge(frames, from, to, secured));
        let each = micros(time) / frames.len() as f64;
        let note = floor.map_or_else(
            || "               (relay)".to_owned(),
            |floor| format!("{:>8.2} µs  ({:.2} ×)", each - floor, each / floor),
        );
        let label = format!("{from} to {to}{}", if secured { ", from SRTP" } else { "" });
        println!("  {label:<38} {each:>7.2}  {note}");
        if !secured && from != to && to != Pcmu {
            both += each;
        }
    }
    println!(
        "  Opus↔PCMA both ways without sockets: {:.2} CPU-ms per call-second (floor {:.2})",
        both * 50.0 / 1000.0,
        floor.per_call_second()
    );
}

/// By how much the gateway delays the sound itself, beside what the wire and the waking of a thread take.
pub fn content_delay(speech: &[i16]) {
    let frames: Vec<&[i16]> = speech.chunks_exact(FRAME).collect();
    let mut decoder = Decoder::new(8_000).expect("a decoder");
    let mut pcm = [0; 960];
    let mut direct = Vec::new();
    for packet in payloads(&frames, AudioCodec::Opus, CONTINUOUS, 0).iter().flatten() {
        let samples = decoder.decode(packet, &mut pcm).expect("a packet");
        direct.extend_from_slice(&pcm[..samples]);
    }
    let to_pcma = heard(&frames, AudioCodec::Opus, AudioCodec::Pcma);
    let to_opus = heard(&frames, AudioCodec::Pcma, AudioCodec::Opus);
    println!(
        "content delay, cross-correlated: Opus→PCMA {:.3} ms after the decoder, PCMA→Opus {:.3} ms (look-ahead 6.5)",
        lag(&direct, &to_pcma) as f64 / 8.0,
        lag(speech, &to_opus) as f64 / 8.0
    );
}

/// What a listener behind the bridge hears of `frames`.
fn heard(frames: &[&[i16]], from: AudioCodec, to: AudioCodec) -> Vec<i16> {
    struct Ear {
        decoder: Option<Decoder>,
        pcm: Vec<i16>,
    }
    impl Wire for Ear {
        fn send(&mut self, _: Channel, _: SocketAddr, packet: &[u8]) {
            if rtp::is_rtcp(packet) {
                return;
            }
            let payload = rtp::parse(packet).expect("RTP").payload;
            match &mut self.decoder {
                None => self.pcm.extend(payload.iter().map(|code| Law::A.expand(*code))),
                Some(decoder) => {
                    let mut pcm = [0; 960];
                    let samples = decoder.decode(payload, &mut pcm).expect("Opus");
                    self.pcm.extend(&pcm[..samples]);
                }
            }
        }
    }
    let decoder = (to == AudioCodec::Opus).then(|| Decoder::new(8_000).expect("a decoder"));
    let mut ear = Ear { decoder, pcm: Vec::new() };
    let mut path = Path::new(from, to, None);
    for mut bytes in path.datagrams(frames) {
        path.pass(&mut bytes, &mut ear);
    }
    ear.pcm
}

/// Where nobody listens.
pub struct Silent;

impl Wire for Silent {
    fn send(&mut self, _: Channel, _: SocketAddr, packet: &[u8]) {
        black_box(packet);
    }
}

/// Two legs and the time, without sockets.
pub struct Path {
    from: Leg,
    to: Leg,
    codec: AudioCodec,
    now: Now,
    work: Box<Workspace>,
    sealer: Option<srtp::Outgoing>,
}

impl Path {
    pub fn new(from: AudioCodec, to: AudioCodec, keys: Option<SrtpKeys>) -> Path {
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let mut leg_from = Leg::new(LegKind::App, 3, now.instant);
        let mut leg_to = Leg::new(LegKind::Trunk, 4, now.instant);
        let sealer = keys.as_ref().map(|keys| srtp::session(keys).expect("keys").0);
        leg_from.configure(LegConfig { srtp: keys, ..config(from, far(), CONTINUOUS) }, now).expect("keys");
        leg_to.configure(config(to, far(), CONTINUOUS), now).expect("no keys");
        bridge::join(&mut leg_from, &mut leg_to);
        Path { from: leg_from, to: leg_to, codec: from, now, work: Box::default(), sealer }
    }

    fn datagrams(&mut self, frames: &[&[i16]]) -> Vec<Vec<u8>> {
        let said = payloads(frames, self.codec, CONTINUOUS, 0);
        let mut bytes = [0; ROOM + srtp::MAX_TRAILER];
        let mut write = |(number, payload): (usize, &Vec<u8>)| {
            let mut len = datagram(self.codec, number as u16, number as u32, payload, &mut bytes);
            if let Some(sealer) = &mut self.sealer {
                len = sealer.protect_rtp(&mut bytes, len).expect("room");
            }
            bytes[..len].to_vec()
        };
        said.iter().flatten().enumerate().map(&mut write).collect()
    }

    /// Sends a payload as packet `number`.
    pub fn say(&mut self, number: u32, payload: &[u8], wire: &mut dyn Wire) {
        let mut bytes = [0; ROOM];
        let len = datagram(self.codec, number as u16, number, payload, &mut bytes);
        self.pass(&mut bytes[..len], wire);
    }

    fn pass(&mut self, bytes: &mut [u8], wire: &mut dyn Wire) {
        self.now = self.now.after(FRAME_TIME);
        let mut out = Out { wire, work: &mut self.work };
        let datagram = Datagram { from: far(), arrival: self.now.instant, bytes };
        bridge::forward(&mut self.from, &mut self.to, datagram, self.now, &mut out);
    }
}

fn through_bridge(frames: &[&[i16]], from: AudioCodec, to: AudioCodec, secured: bool) -> Duration {
    struct Count(u64);
    impl Wire for Count {
        fn send(&mut self, _: Channel, _: SocketAddr, packet: &[u8]) {
            self.0 += black_box(packet).len() as u64;
        }
    }
    let keys = SrtpKeys::new(SrtpSuite::AesCm128HmacSha1_80, (0..30).collect(), (0..30).collect());
    let mut path = Path::new(from, to, secured.then_some(keys));
    let mut datagrams = path.datagrams(frames);
    let mut wire = Count(0);
    let start = machine::own_cpu();
    for bytes in &mut datagrams {
        path.pass(bytes, &mut wire);
    }
    let elapsed = machine::own_cpu() - start;
    assert!(wire.0 > 0);
    elapsed
}

fn far() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_000))
}

fn best_of(times: u32, mut run: impl FnMut() -> Duration) -> Duration {
    (0..times).map(|_| run()).min().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
