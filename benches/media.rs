//! What the media path costs: each direction against libopus alone, calls over real sockets, memory per call.
//!
//! `cargo bench --bench media`. Figures are of this machine; compare ratios.

use std::hint::black_box;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tandem::media::bridge;
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::{Decoder, Encoded, Encoder, MAX_ENCODED};
use tandem::media::config::{LegConfig, OpusSettings};
use tandem::media::leg::{Datagram, Leg};
use tandem::media::rtp::{self, RtpHeader};
use tandem::media::srtp;
use tandem::media::stats::DELAY_BOUNDS_US;
use tandem::media::transmit::{Channel, Out, Wire, Workspace};
use tandem::media::{LegSockets, MediaCommand, MediaEvent, MediaTotals, MediaWorkers};
use tandem::types::{
    AudioCodec, CallId, DtmfMode, LegId, LegKind, MediaDirection, NetworkId, Now, SrtpKeys, SrtpSuite,
};

const SPEECH: &[u8] = include_bytes!("../src/simulator/speech/caller.wav");
const FRAME: usize = 160;
const FRAME_TIME: Duration = Duration::from_millis(20);
/// Continuous voice: what is measured is talking, not silence.
const CONTINUOUS: OpusSettings =
    OpusSettings { bitrate: 24_000, complexity: 5, fec: true, dtx: false, max_ptime_ms: 60 };

fn main() {
    // `cargo bench` passes options of the usual harness; there is nothing to choose here.
    let speech = samples(SPEECH);
    let frames: Vec<&[i16]> = speech.chunks_exact(FRAME).filter(|frame| is_voiced(frame)).collect();
    println!("Tandem media path · commit {} · {} build", commit(), build());
    println!(
        "speech: {} voiced frames of 20 ms; Opus 24 kb/s, VOIP, FEC on at 0 % loss, DTX off",
        frames.len()
    );
    println!();
    let floor = codec_floor(&frames);
    directions(&frames, floor);
    content_delay(&speech);
    println!();
    calls_over_sockets(&frames, 50, Duration::from_secs(10));
    println!();
    memory(&frames);
}

/// µs per frame of libopus alone.
#[derive(Clone, Copy)]
struct Floor {
    encode: f64,
    decode: f64,
}

fn codec_floor(frames: &[&[i16]]) -> Floor {
    println!("libopus alone, µs per 20 ms frame          encode    decode to 8 kHz");
    let mut at_five = Floor { encode: 0.0, decode: 0.0 };
    for complexity in [0, 5, 10] {
        let settings = OpusSettings { complexity, ..CONTINUOUS };
        let packets = encode_all(frames, settings);
        let encode = best_of(5, || {
            let mut encoder = Encoder::new(8_000, settings).expect("an encoder");
            let mut packet = [0; MAX_ENCODED];
            let start = Instant::now();
            for frame in frames {
                black_box(encoder.encode(frame, &mut packet)).expect("a frame");
            }
            start.elapsed()
        });
        let decode = best_of(5, || {
            let mut decoder = Decoder::new(8_000).expect("a decoder");
            let mut pcm = [0; 960];
            let start = Instant::now();
            for packet in &packets {
                black_box(decoder.decode(packet, &mut pcm)).expect("a packet");
            }
            start.elapsed()
        });
        let per_frame = |time: Duration| micros(time) / frames.len() as f64;
        println!(
            "  complexity {complexity:<2}                            {:>8.2}  {:>8.2}",
            per_frame(encode),
            per_frame(decode)
        );
        if complexity == 5 {
            at_five = Floor { encode: per_frame(encode), decode: per_frame(decode) };
        }
    }
    println!();
    at_five
}

fn directions(frames: &[&[i16]], floor: Floor) {
    use AudioCodec::{Opus, Pcma, Pcmu};
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
        (floor.encode + floor.decode) * 50.0 / 1000.0
    );
}

/// By how much the gateway delays the sound itself, beside what the wire and the waking of a thread take.
fn content_delay(speech: &[i16]) {
    let frames: Vec<&[i16]> = speech.chunks_exact(FRAME).collect();
    let direct = {
        let packets = encode_all(&frames, CONTINUOUS);
        let mut decoder = Decoder::new(8_000).expect("a decoder");
        let mut pcm = [0; 960];
        let decode = |packet: &Vec<u8>| {
            let samples = decoder.decode(packet, &mut pcm).expect("a packet");
            pcm[..samples].to_vec()
        };
        packets.iter().flat_map(decode).collect::<Vec<i16>>()
    };
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
    for (number, payload) in payloads(frames, from).iter().enumerate() {
        path.pass(number as u32, payload, &mut ear);
    }
    ear.pcm
}

fn lag(said: &[i16], heard: &[i16]) -> usize {
    let window = 8_000..32_000;
    let score = |lag: usize| -> f64 {
        let later = heard[window.start + lag..].iter();
        said[window.clone()].iter().zip(later).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (0..400).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(0)
}

/// Two legs and the time, without sockets.
struct Path {
    from: Leg,
    to: Leg,
    codec: AudioCodec,
    now: Now,
    work: Box<Workspace>,
    sealer: Option<srtp::Outgoing>,
}

impl Path {
    fn new(from: AudioCodec, to: AudioCodec, keys: Option<SrtpKeys>) -> Path {
        let now = Now { instant: Instant::now(), unix_ms: 0 };
        let mut leg_from = Leg::new(LegKind::App, 3, now.instant);
        let mut leg_to = Leg::new(LegKind::Trunk, 4, now.instant);
        let sealer = keys.as_ref().map(|keys| srtp::session(keys).expect("keys").0);
        leg_from.configure(LegConfig { srtp: keys, ..config(from, far()) }, now).expect("keys");
        leg_to.configure(config(to, far()), now).expect("no keys");
        bridge::join(&mut leg_from, &mut leg_to);
        Path { from: leg_from, to: leg_to, codec: from, now, work: Box::default(), sealer }
    }

    fn datagram(&mut self, number: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = datagram(self.codec, number, payload);
        if let Some(sealer) = &mut self.sealer {
            let len = bytes.len();
            bytes.resize(len + srtp::MAX_TRAILER, 0);
            let sealed = sealer.protect_rtp(&mut bytes, len).expect("room");
            bytes.truncate(sealed);
        }
        bytes
    }

    fn pass(&mut self, number: u32, payload: &[u8], wire: &mut dyn Wire) {
        let mut bytes = self.datagram(number, payload);
        self.pass_datagram(&mut bytes, wire);
    }

    fn pass_datagram(&mut self, bytes: &mut [u8], wire: &mut dyn Wire) {
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
    let keys = SrtpKeys {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        local: (0..30).collect(),
        remote: (0..30).collect(),
    };
    let mut path = Path::new(from, to, secured.then_some(keys));
    let payloads = payloads(frames, from);
    let mut datagrams: Vec<Vec<u8>> =
        payloads.iter().enumerate().map(|(number, payload)| path.datagram(number as u32, payload)).collect();
    let mut wire = Count(0);
    let start = Instant::now();
    for bytes in &mut datagrams {
        path.pass_datagram(bytes, &mut wire);
    }
    let elapsed = start.elapsed();
    assert!(wire.0 > 0);
    elapsed
}

/// Transcoded calls on one media thread, both far sides on another: the thread's own CPU time counts.
fn calls_over_sockets(frames: &[&[i16]], calls: usize, time: Duration) {
    let mut load = Load::new(calls, (AudioCodec::Opus, AudioCodec::Pcma));
    load.talk(frames, Duration::from_secs(1));
    let (cpu, totals) = (media_cpu(), load.workers.totals());
    let packets = load.talk(frames, time);
    let cpu = media_cpu() - cpu;
    let delays = Delays::between(&totals, &load.workers.totals());
    println!("{calls} calls Opus↔PCMA over loopback for {} s, one media thread", time.as_secs());
    let per_call_second = cpu.as_secs_f64() * 1000.0 / calls as f64 / time.as_secs_f64();
    println!("  {per_call_second:.2} CPU-ms per call-second (reach ≤ 7), {packets} packets each way");
    println!(
        "  arrival to departure: p50 ≤ {} µs, p99 ≤ {} µs (reach ≤ 3000), max ≤ {} µs",
        delays.quantile(0.5),
        delays.quantile(0.99),
        delays.quantile(1.0)
    );
    load.close();
}

fn memory(frames: &[&[i16]]) {
    // The first calls also grow what all share.
    let warm = Load::new(20, (AudioCodec::Opus, AudioCodec::Pcma));
    warm.close();
    for (what, codecs, talking, reach) in [
        ("held (no packet yet)", (AudioCodec::Opus, AudioCodec::Pcma), false, 60),
        ("transcoded", (AudioCodec::Opus, AudioCodec::Pcma), true, 150),
        ("relayed", (AudioCodec::Opus, AudioCodec::Opus), true, 60),
    ] {
        let calls = 200;
        let before = resident();
        let mut load = Load::new(calls, codecs);
        let sockets = resident();
        if talking {
            load.talk(frames, Duration::from_secs(1));
        }
        let after = resident();
        let far_sides = load.far_side_bytes();
        let each = (after.saturating_sub(before).saturating_sub(far_sides)) as f64 / calls as f64 / 1024.0;
        println!(
            "{calls} calls {what}: {each:.1} KB resident each (reach ≤ {reach}), opened at {:.1}",
            sockets.saturating_sub(before) as f64 / calls as f64 / 1024.0
        );
        load.close();
    }
}

/// Calls through real workers, with the far sides of all of them here.
struct Load {
    workers: MediaWorkers,
    events: mpsc::Receiver<MediaEvent>,
    calls: Vec<Ends>,
    codecs: (AudioCodec, AudioCodec),
    number: u32,
}

struct Ends {
    legs: [LegId; 2],
    far: [UdpSocket; 2],
    ports: [SocketAddr; 2],
}

impl Load {
    fn new(calls: usize, codecs: (AudioCodec, AudioCodec)) -> Load {
        let (sender, events) = mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let workers = MediaWorkers::start(1, move |event| {
            let _ = sender.lock().expect("nobody panics holding it").send(event);
        })
        .expect("a media thread");
        let mut load = Load { workers, events, calls: Vec::new(), codecs, number: 0 };
        for call in 0..calls {
            load.open(call);
        }
        load.settle();
        load
    }

    fn open(&mut self, call: usize) {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&(call as u64).to_be_bytes());
        let id = CallId::from_parts(1, random);
        let worker = self.workers.assign(id);
        let legs = [0, 1].map(|index| LegId { call: id, index });
        let far = [bind(), bind()];
        let mut ports = Vec::new();
        for (index, kind) in [LegKind::App, LegKind::Trunk].into_iter().enumerate() {
            let codec = [self.codecs.0, self.codecs.1][index];
            let sockets = LegSockets {
                rtp: bind(),
                rtcp: Some(bind()),
                network: NetworkId(0),
                local_rtp: SocketAddr::from(([127, 0, 0, 1], 0)),
            };
            ports.push(sockets.rtp.local_addr().expect("bound"));
            let config = Some(Box::new(config(codec, far[index].local_addr().expect("bound"))));
            self.workers.send(worker, MediaCommand::OpenLeg { leg: legs[index], kind, sockets, config });
        }
        self.workers.send(worker, MediaCommand::Bridge { a: legs[0], b: legs[1], mark: None });
        self.calls.push(Ends { legs, far, ports: [ports[0], ports[1]] });
    }

    /// Waits until the worker has carried out everything so far.
    fn settle(&self) {
        let Some(ends) = self.calls.last() else { return };
        let worker = self.workers.assign(ends.legs[0].call);
        self.workers.send(worker, MediaCommand::Report { leg: ends.legs[0], tag: 1 });
        while let Ok(event) = self.events.recv_timeout(Duration::from_secs(10)) {
            if matches!(event, MediaEvent::Report { .. }) {
                return;
            }
        }
    }

    /// Both sides of all calls talk for `time`, spread evenly over each 20 ms; returns the packets sent each way.
    fn talk(&mut self, frames: &[&[i16]], time: Duration) -> u32 {
        let speech = [payloads(frames, self.codecs.0), payloads(frames, self.codecs.1)];
        let rounds = (time.as_millis() / FRAME_TIME.as_millis()) as u32;
        let mut junk = [0; 2000];
        let start = Instant::now();
        let share = FRAME_TIME / self.calls.len() as u32;
        for round in 0..rounds {
            for (index, ends) in self.calls.iter().enumerate() {
                let due = start + FRAME_TIME * round + share * index as u32;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                for (side, codec) in [self.codecs.0, self.codecs.1].into_iter().enumerate() {
                    let payload = &speech[side][self.number as usize % frames.len()];
                    let bytes = datagram(codec, self.number, payload);
                    let _ = ends.far[side].send_to(&bytes, ends.ports[side]);
                    while ends.far[side].recv(&mut junk).is_ok() {}
                }
            }
            self.number += 1;
        }
        rounds * self.calls.len() as u32
    }

    /// What the far sides here take of this process's memory, roughly: nothing but their handles.
    fn far_side_bytes(&self) -> usize {
        self.calls.len() * std::mem::size_of::<Ends>()
    }

    fn close(self) {
        for ends in &self.calls {
            for leg in ends.legs {
                let worker = self.workers.assign(leg.call);
                self.workers.send(worker, MediaCommand::CloseLeg { leg });
            }
        }
        let closed = self.events.iter().filter(|event| matches!(event, MediaEvent::Closed { .. }));
        closed.take(2 * self.calls.len()).for_each(drop);
        self.workers.shutdown();
    }
}

/// How long packets were inside, from the workers' own histogram.
struct Delays(Vec<u64>);

impl Delays {
    fn between(before: &MediaTotals, after: &MediaTotals) -> Delays {
        Delays(
            after
                .delay_counts
                .iter()
                .zip(before.delay_counts)
                .map(|(after, before)| after - before)
                .collect(),
        )
    }

    /// Upper bound in µs of the bucket the quantile lies in.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return DELAY_BOUNDS_US.get(index).copied().unwrap_or(u64::MAX);
            }
        }
        0
    }
}

fn config(codec: AudioCodec, far: SocketAddr) -> LegConfig {
    LegConfig {
        codec,
        send_payload_type: payload_type(codec),
        receive_payload_type: payload_type(codec),
        dtmf: None,
        comfort_noise: false,
        remote_rtp: far,
        remote_rtcp: far,
        rtcp_mux: false,
        voip_metrics: false,
        direction: MediaDirection::SendRecv,
        ptime_ms: 20,
        srtp: None,
        latch: false,
        dtmf_mode: DtmfMode::Rfc4733,
        opus: CONTINUOUS,
    }
}

fn payload_type(codec: AudioCodec) -> u8 {
    match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcma => 8,
        AudioCodec::Pcmu => 0,
    }
}

fn far() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_000))
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

fn datagram(codec: AudioCodec, number: u32, payload: &[u8]) -> Vec<u8> {
    let header = RtpHeader {
        payload_type: payload_type(codec),
        marker: number == 0,
        sequence: number as u16,
        timestamp: number.wrapping_mul(codec.clock_rate() / 50),
        ssrc: 7,
    };
    let mut bytes = vec![0; payload.len() + rtp::HEADER_LEN];
    header.write(payload, &mut bytes).expect("room");
    bytes
}

fn payloads(frames: &[&[i16]], codec: AudioCodec) -> Vec<Vec<u8>> {
    let companded = |law: Law| {
        frames.iter().map(|frame| frame.iter().map(|sample| law.compress(*sample)).collect()).collect()
    };
    match codec {
        AudioCodec::Opus => encode_all(frames, CONTINUOUS),
        AudioCodec::Pcma => companded(Law::A),
        AudioCodec::Pcmu => companded(Law::Mu),
    }
}

fn encode_all(frames: &[&[i16]], settings: OpusSettings) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(8_000, settings).expect("an encoder");
    let mut packet = [0; MAX_ENCODED];
    let mut encode = |frame: &&[i16]| match encoder.encode(frame, &mut packet) {
        Ok(Encoded::Packet(len)) => packet[..len].to_vec(),
        Ok(Encoded::Silence) | Err(_) => unreachable!("without DTX every frame is sent"),
    };
    frames.iter().map(&mut encode).collect()
}

/// The samples of a WAV file of 16 bits, one channel, 8 kHz.
fn samples(wav: &[u8]) -> Vec<i16> {
    let data = wav.windows(4).position(|four| four == b"data").expect("a data chunk") + 8;
    wav[data..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn is_voiced(frame: &[i16]) -> bool {
    let sum: i64 = frame.iter().map(|sample| i64::from(*sample).pow(2)).sum();
    sum / FRAME as i64 > 10_000
}

fn best_of(times: u32, mut run: impl FnMut() -> Duration) -> Duration {
    (0..times).map(|_| run()).min().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time of the media threads of this process.
fn media_cpu() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of_task = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanos = times.split_whitespace().next()?.parse().ok()?;
        name.starts_with("media-").then(|| Duration::from_nanos(nanos))
    };
    tasks.flatten().filter_map(of_task).sum()
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "unoptimised" } else { "optimised" }
}
