//! Nothing is allocated on the packet path: 1,000 relayed and 1,000 transcoded packets each way, after warm-up; without
//! sockets, and by a media thread with all it does around a packet.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tandem::media::bridge;
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::{Encoded, Encoder, MAX_ENCODED};
use tandem::media::config::{DtmfFormat, LegConfig, Line, OpusSettings, Tone};
use tandem::media::leg::{Datagram, Leg};
use tandem::media::rtp::RtpHeader;
use tandem::media::srtp;
use tandem::media::transmit::{Channel, Out, Wire, Workspace};
use tandem::media::{LegSockets, LoadLimit, MediaCommand, MediaEvent, MediaWorkers, WorkerId};
use tandem::types::{AudioCodec, CallId, LegId, LegKind, NetworkId, Now, SrtpKeys, SrtpSuite};

/// Counts what each thread allocates. libopus allocates only when a codec is created: its frames live on the
/// stack.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of this thread so far.
fn allocated() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn count() {
    // A thread that ends allocates when its variables are gone already: nobody asks for that.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

const FAR: &str = "192.0.2.1:4000";
const WARM_UP: u32 = 100;
const MEASURED: u32 = 1_000;

fn config(codec: AudioCodec, srtp: Option<SrtpKeys>) -> LegConfig {
    let far: SocketAddr = FAR.parse().unwrap();
    let payload_type = payload_type(codec);
    LegConfig {
        dtmf: events(codec),
        voip_metrics: true,
        srtp,
        latch: true,
        opus: OpusSettings { dtx: false, ..OpusSettings::default() },
        ..LegConfig::plain(codec, payload_type, far)
    }
}

fn events(codec: AudioCodec) -> Option<DtmfFormat> {
    Some(DtmfFormat { send_payload_type: 101, receive_payload_type: 101, clock_rate: codec.clock_rate() })
}

fn payload_type(codec: AudioCodec) -> u8 {
    match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcma => 8,
        AudioCodec::Pcmu => 0,
    }
}

/// A voice-like frame: three partials whose level rises and falls.
fn frame(number: u32) -> Vec<i16> {
    (0..160u32)
        .map(|n| {
            let t = (number * 160 + n) as f32 / 8000.0 * std::f32::consts::TAU;
            let level = (t * 3.0).sin().abs() * 5000.0;
            (level * ((t * 130.0).sin() + 0.5 * (t * 650.0).sin() + 0.2 * (t * 1700.0).sin())) as i16
        })
        .collect()
}

/// What a side does in its pauses, the second half of every two seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pauses {
    /// It has none.
    None,
    /// The noise of its room is heard; of Opus nothing is sent but a sign of life now and then (DTX).
    Quiet,
    /// It says five times a second what its silence is like (RFC 3389). Opus has no word for that: it is quiet.
    Described,
}

/// Every packet of a call, made before anything is measured.
fn packets(codec: AudioCodec, protect: Option<&SrtpKeys>) -> Vec<Vec<u8>> {
    packets_with(codec, protect, Pauses::None).into_iter().flatten().collect()
}

/// The same by the 20 ms in which they are sent; in some nothing is.
fn packets_with(codec: AudioCodec, protect: Option<&SrtpKeys>, pauses: Pauses) -> Vec<Option<Vec<u8>>> {
    let dtx = pauses != Pauses::None;
    let mut encoder = Encoder::new(8_000, OpusSettings { dtx, ..OpusSettings::default() }).unwrap();
    let mut sealer = protect.map(|keys| srtp::session(keys).unwrap().0);
    let mut sequence = 0;
    (0..WARM_UP + MEASURED)
        .map(|number| {
            let silent = pauses != Pauses::None && number % 100 >= 50;
            let pcm = if silent { room(number) } else { frame(number) };
            let (payload_type, payload) = match codec {
                AudioCodec::Opus => {
                    let mut packet = [0; MAX_ENCODED];
                    let Encoded::Packet(len) = encoder.encode(&pcm, &mut packet).unwrap() else {
                        return None;
                    };
                    (111, packet[..len].to_vec())
                }
                AudioCodec::Pcma | AudioCodec::Pcmu if silent && pauses == Pauses::Described => {
                    // The faint hiss of a line.
                    (number % 10 == 0).then_some((13, vec![60, 100, 127]))?
                }
                AudioCodec::Pcma => (8, pcm.iter().map(|sample| Law::A.compress(*sample)).collect()),
                AudioCodec::Pcmu => (0, pcm.iter().map(|sample| Law::Mu.compress(*sample)).collect()),
            };
            let timestamp = number * codec.clock_rate() / 50;
            let header = RtpHeader { payload_type, marker: number == 0, sequence, timestamp, ssrc: 7 };
            sequence += 1;
            let mut bytes = vec![0; payload.len() + 64];
            let mut len = header.write(&payload, &mut bytes).unwrap();
            if let Some(sealer) = &mut sealer {
                len = sealer.protect_rtp(&mut bytes, len).unwrap();
            }
            bytes.truncate(len);
            Some(bytes)
        })
        .collect()
}

/// The faint noise of a room.
fn room(number: u32) -> Vec<i16> {
    let scramble = |n: u32| n.wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
    (0..160).map(|n| (((scramble(number * 160 + n) >> 16) as i32 - 32_768) / 500) as i16).collect()
}

#[derive(Default)]
struct Sink {
    packets: u64,
    /// Descriptions of silence among them.
    described: u64,
}

impl Wire for Sink {
    fn send(&mut self, _: Channel, _: SocketAddr, packet: &[u8]) {
        self.packets += 1;
        self.described += u64::from(packet.get(1).is_some_and(|octet| octet & 0x7f == 13));
    }
}

/// Which packets arrive in each 20 ms: every tenth is lost, every tenth is overtaken by the next, and 200 ms out of
/// every two seconds come in one go.
fn schedule() -> Vec<Vec<usize>> {
    let ticks = (WARM_UP + MEASURED) as usize;
    let mut arrivals = vec![Vec::new(); ticks + 1];
    for number in 0..ticks {
        let tick = match number {
            _ if (60..70).contains(&(number % 100)) => number - number % 100 + 70,
            _ if number % 10 == 4 => number + 1,
            _ => number,
        };
        if number % 10 != 9 {
            arrivals[tick].push(number);
        }
    }
    for arrivals in &mut arrivals {
        if let [first, second] = arrivals[..] {
            // The one that was overtaken comes behind the one that overtook it.
            *arrivals = vec![first.max(second), first.min(second)];
        }
    }
    arrivals
}

/// A call between an app's leg and a trunk's.
#[derive(Debug, Clone, Copy)]
struct Case {
    codecs: [AudioCodec; 2],
    /// Of the app's leg.
    suite: Option<SrtpSuite>,
    /// What the trunk wants.
    ptime_ms: u8,
    pauses: Pauses,
    /// Whether the trunk takes comfort noise.
    takes_noise: bool,
    /// The trunk has its key presses in the voice.
    inband: bool,
}

impl Case {
    fn plain(a: AudioCodec, b: AudioCodec) -> Case {
        let pauses = Pauses::None;
        Case { codecs: [a, b], suite: None, ptime_ms: 20, pauses, takes_noise: false, inband: false }
    }

    fn keys(&self) -> Option<SrtpKeys> {
        self.suite.map(|suite| {
            let (key, salt) = suite.key_and_salt_len();
            let both = || (0..(key + salt) as u8).collect();
            SrtpKeys::new(suite, both(), both())
        })
    }

    fn configs(&self) -> [LegConfig; 2] {
        let [mut a, mut b] = self.codecs.map(|codec| config(codec, None));
        a.srtp = self.keys();
        a.opus.dtx = self.pauses != Pauses::None;
        (b.ptime_ms, b.comfort_noise) = (self.ptime_ms, self.takes_noise);
        if self.inband {
            b.dtmf = None;
        }
        [a, b]
    }

    /// Whether losses of the app's voice are made up for here.
    fn repairs(&self) -> bool {
        let [a, b] = self.codecs.map(|codec| codec == AudioCodec::Opus);
        a != b || (!a && self.ptime_ms != 20)
    }

    /// Whether the trunk is told what the app's silence is like: where it is Opus we say it, else it passes through.
    fn describes(&self) -> bool {
        let said = match self.codecs[0] {
            AudioCodec::Opus => self.pauses != Pauses::None,
            AudioCodec::Pcma | AudioCodec::Pcmu => self.pauses == Pauses::Described && self.ptime_ms == 20,
        };
        said && self.takes_noise
    }
}

/// Allocations for `MEASURED` packets each way, with deadlines met and all that a network does to packets.
fn allocations(case: Case) -> u64 {
    let keys = case.keys();
    let mut from_a = packets_with(case.codecs[0], keys.as_ref(), case.pauses);
    let mut from_b = packets_with(case.codecs[1], None, case.pauses);
    let start = Instant::now();
    let mut now = Now { instant: start, unix_ms: 0 };
    let (mut leg_a, mut leg_b) = (Leg::new(LegKind::App, 3, start), Leg::new(LegKind::Trunk, 4, start));
    let [config_a, config_b] = case.configs();
    leg_a.configure(config_a, now).unwrap();
    leg_b.configure(config_b, now).unwrap();
    bridge::join(&mut leg_a, &mut leg_b);
    // As in an answered call: both sides are watched.
    leg_a.set_conversation(true);
    leg_b.set_conversation(true);
    let mut work = Box::<Workspace>::default();
    let mut sink = Sink::default();
    let far: SocketAddr = FAR.parse().unwrap();
    let mut before = 0;
    for (tick, arrivals) in schedule().into_iter().enumerate() {
        if tick == WARM_UP as usize {
            before = allocated();
        }
        now = now.after(Duration::from_millis(20));
        let mut out = Out { wire: &mut sink, work: &mut work };
        leg_a.handle_timeout(now, &mut out);
        leg_b.handle_timeout(now, &mut out);
        for number in arrivals {
            if let Some(bytes) = &mut from_a[number] {
                let datagram = Datagram { from: far, arrival: now.instant, bytes };
                bridge::forward(&mut leg_a, &mut leg_b, datagram, now, &mut out);
            }
            if let Some(bytes) = &mut from_b[number] {
                let datagram = Datagram { from: far, arrival: now.instant, bytes };
                bridge::forward(&mut leg_b, &mut leg_a, datagram, now, &mut out);
            }
        }
    }
    let allocations = allocated() - before;
    let (counts, discarded) = (leg_a.counts(), leg_b.counts().discarded);
    assert_eq!((counts.discarded, discarded), (0, 0), "{case:?}: all that comes is heard");
    if case.pauses == Pauses::None {
        let repaired = counts.recovered_fec + counts.recovered_plc;
        assert_eq!(repaired > 90, case.repairs(), "{case:?}: what is repaired is counted");
        let least = 900 + 900 * 20 / u64::from(case.ptime_ms);
        assert!(sink.packets >= least, "{case:?}: {} packets went through", sink.packets);
    }
    assert_eq!(sink.described > 20, case.describes(), "{case:?}: {} descriptions of silence", sink.described);
    allocations
}

#[test]
fn a_thousand_packets_each_way_allocate_nothing() {
    use AudioCodec::{Opus, Pcma, Pcmu};
    for (a, b) in [(Pcma, Pcma), (Opus, Opus), (Pcma, Pcmu), (Opus, Pcma), (Opus, Pcmu)] {
        let case = Case::plain(a, b);
        assert_eq!(allocations(case), 0, "{case:?}");
    }
}

#[test]
fn no_suite_of_srtp_allocates_for_a_thousand_packets() {
    use AudioCodec::{Opus, Pcma};
    for suite in SrtpSuite::ALL {
        for b in [Pcma, Opus] {
            let case = Case { suite: Some(suite), ..Case::plain(Opus, b) };
            assert_eq!(allocations(case), 0, "{case:?}");
        }
    }
}

#[test]
fn neither_silence_nor_its_description_nor_packets_of_another_length_allocate() {
    use AudioCodec::{Opus, Pcma, Pcmu};
    use Pauses::{Described, Quiet};
    for (a, b) in [(Opus, Pcma), (Pcma, Pcma), (Pcmu, Pcma)] {
        for ptime_ms in [20, 40] {
            for (pauses, takes_noise) in
                [(Pauses::None, false), (Quiet, false), (Quiet, true), (Described, false), (Described, true)]
            {
                let case = Case { pauses, takes_noise, ptime_ms, ..Case::plain(a, b) };
                assert_eq!(allocations(case), 0, "{case:?}");
            }
        }
    }
    let case = Case { pauses: Quiet, ..Case::plain(Opus, Opus) };
    assert_eq!(allocations(case), 0, "{case:?}");
}

#[test]
fn looking_for_keys_in_a_voice_allocates_nothing() {
    use AudioCodec::{Opus, Pcma};
    for (a, b) in [(Opus, Pcma), (Pcma, Pcma)] {
        let case = Case { inband: true, ..Case::plain(a, b) };
        assert_eq!(allocations(case), 0, "{case:?}");
    }
}

#[test]
fn packets_that_get_another_length_in_the_middle_of_a_call_are_cut_anew_without_allocating() {
    let (start, far) = (Instant::now(), FAR.parse::<SocketAddr>().unwrap());
    let mut now = Now { instant: start, unix_ms: 0 };
    let (mut from, mut to) = (Leg::new(LegKind::App, 3, start), Leg::new(LegKind::Trunk, 4, start));
    from.configure(config(AudioCodec::Pcma, None), now).unwrap();
    to.configure(config(AudioCodec::Pcmu, None), now).unwrap();
    bridge::join(&mut from, &mut to);
    let mut work = Box::<Workspace>::default();
    let mut sink = Sink { packets: 0, described: 0 };
    let (mut before, mut timestamp) = (0, 0);
    for number in 0..3 * WARM_UP {
        // From the hundredth on they are half as long.
        let samples = if number < WARM_UP { 160 } else { 80 };
        if number == WARM_UP {
            before = allocated();
        }
        let mut bytes = [0; 200];
        let header =
            RtpHeader { payload_type: 8, marker: false, sequence: number as u16, timestamp, ssrc: 7 };
        let len = header.write(&[0x55; 160][..samples as usize], &mut bytes).unwrap();
        let mut out = Out { wire: &mut sink, work: &mut work };
        from.handle_timeout(now, &mut out);
        to.handle_timeout(now, &mut out);
        let datagram = Datagram { from: far, arrival: now.instant, bytes: &mut bytes[..len] };
        bridge::forward(&mut from, &mut to, datagram, now, &mut out);
        timestamp += samples;
        now = now.after(Duration::from_millis(u64::from(samples) / 8));
    }
    assert_eq!(allocated() - before, 0);
    // Twenty milliseconds each, before and behind, but for the first short one, and reports.
    assert!(
        (2 * u64::from(WARM_UP)..2 * u64::from(WARM_UP) + 20).contains(&sink.packets),
        "{}",
        sink.packets
    );
}

/// Keys that are pressed for 100 ms twice a second, as events, from the caller of a line.
fn presses(codec: AudioCodec) -> Vec<Vec<u8>> {
    let clock = codec.clock_rate();
    (0..WARM_UP + MEASURED)
        .map(|number| {
            let (press, at) = (number / 25, number % 25);
            let duration = ((at + 1).min(5) * clock / 50).to_be_bytes();
            let payload = [(press % 10) as u8, u8::from(at >= 4) << 7 | 10, duration[2], duration[3]];
            let header = RtpHeader {
                payload_type: 101,
                marker: at == 0,
                sequence: number as u16,
                timestamp: press * clock / 2,
                ssrc: 7,
            };
            let mut bytes = vec![0; 64];
            let len = header.write(&payload, &mut bytes).unwrap();
            bytes.truncate(len);
            bytes
        })
        .collect()
}

#[test]
fn a_test_line_allocates_nothing_for_a_thousand_packets() {
    let far: SocketAddr = FAR.parse().unwrap();
    for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
        for line in
            [Line::Echo, Line::Tone(Tone::Steady { hertz: 1_004, dbm0: -10 }), Line::Speech, Line::Digits]
        {
            let mut said = if line == Line::Digits { presses(codec) } else { packets(codec, None) };
            let start = Instant::now();
            let mut now = Now { instant: start, unix_ms: 0 };
            let mut leg = Leg::new(LegKind::App, 3, start);
            leg.configure(config(codec, None), now).unwrap();
            leg.serve(line, start);
            let mut work = Box::<Workspace>::default();
            let mut sink = Sink::default();
            let mut before = 0;
            for (number, bytes) in said.iter_mut().enumerate() {
                if number == WARM_UP as usize {
                    before = allocated();
                }
                now = now.after(Duration::from_millis(20));
                let mut out = Out { wire: &mut sink, work: &mut work };
                leg.handle_timeout(now, &mut out);
                // A caller that presses for a second then waits for its keys.
                if line != Line::Digits || (number / 50).is_multiple_of(4) {
                    let datagram = Datagram { from: far, arrival: now.instant, bytes };
                    bridge::attend(&mut leg, datagram, now, &mut out);
                }
            }
            assert_eq!(allocated() - before, 0, "{line:?} in {codec}");
            assert!(sink.packets > 100, "{line:?} in {codec}: {} packets", sink.packets);
        }
    }
}

#[test]
fn a_flood_of_strange_sources_makes_a_leg_allocate_once() {
    let far: SocketAddr = FAR.parse().unwrap();
    let mut said = packets(AudioCodec::Pcma, None);
    let mut strange = said.clone();
    for (number, bytes) in strange.iter_mut().enumerate() {
        bytes[8..12].copy_from_slice(&(number as u32 + 1_000).to_be_bytes());
    }
    let start = Instant::now();
    let mut now = Now { instant: start, unix_ms: 0 };
    let mut leg = Leg::new(LegKind::Trunk, 3, start);
    leg.configure(config(AudioCodec::Pcma, None), now).unwrap();
    let mut before = 0;
    for (number, bytes) in said.iter_mut().enumerate() {
        if number == WARM_UP as usize {
            before = allocated();
        }
        now = now.after(Duration::from_millis(20));
        let known = Datagram { from: far, arrival: now.instant, bytes };
        assert!(leg.receive(known, now).is_some());
        if number >= WARM_UP as usize {
            let bytes = &mut strange[number];
            assert!(leg.receive(Datagram { from: far, arrival: now.instant, bytes }, now).is_none());
        }
    }
    assert_eq!(allocated() - before, 1, "the room in which they compete");
}

/// A media thread with one call, and how much it has allocated whenever it is asked.
struct Worker {
    workers: MediaWorkers,
    counts: Receiver<u64>,
    far: [UdpSocket; 2],
    ports: [SocketAddr; 2],
    legs: [LegId; 2],
}

impl Worker {
    fn start(codecs: [AudioCodec; 2]) -> Worker {
        // A bounded channel has its room from the start: telling a count allocates nothing on the thread.
        let (sender, counts) = sync_channel(64);
        let sender = Mutex::new(sender);
        let workers = MediaWorkers::start(1, LoadLimit::default(), move |event| {
            if matches!(event, MediaEvent::Report { .. }) {
                sender.lock().unwrap().send(allocated()).unwrap();
            }
        })
        .unwrap();
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let call = CallId::from_parts(1, [1; 10]);
        let (far, legs) = ([bind(), bind()], [0, 1].map(|index| LegId { call, index }));
        let ports = [0, 1].map(|side: usize| {
            far[side].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let (rtp, rtcp) = (bind(), bind());
            rtp.set_nonblocking(true).unwrap();
            rtcp.set_nonblocking(true).unwrap();
            let local_rtp = rtp.local_addr().unwrap();
            let sockets = LegSockets { rtp, rtcp: Some(rtcp), network: NetworkId(0), local_rtp };
            let kind = [LegKind::App, LegKind::Trunk][side];
            let remote = far[side].local_addr().unwrap();
            let config = LegConfig { remote_rtp: remote, remote_rtcp: remote, ..config(codecs[side], None) };
            let config = Some(Box::new(config));
            workers.send(WorkerId(0), MediaCommand::OpenLeg { leg: legs[side], kind, sockets, config });
            local_rtp
        });
        workers.send(WorkerId(0), MediaCommand::Bridge { a: legs[0], b: legs[1], mark: None });
        Worker { workers, counts, far, ports, legs }
    }

    fn allocated(&self) -> u64 {
        self.workers.send(WorkerId(0), MediaCommand::Report { leg: self.legs[0], tag: 0 });
        self.counts.recv_timeout(Duration::from_secs(20)).expect("the thread answers")
    }

    /// Sends to one side and waits until it comes out at the other.
    fn pass(&self, side: usize, packet: &[u8]) {
        self.far[side].send_to(packet, self.ports[side]).unwrap();
        let mut bytes = [0; 2_000];
        loop {
            let len = self.far[1 - side].recv(&mut bytes).expect("it comes out");
            // Reports are sent on the same port.
            if !tandem::media::rtp::is_rtcp(&bytes[..len]) {
                return;
            }
        }
    }
}

#[test]
fn a_media_thread_allocates_nothing_for_a_thousand_packets_each_way() {
    use AudioCodec::{Opus, Pcma};
    std::thread::scope(|scope| {
        for codecs in [[Opus, Pcma], [Opus, Opus], [Pcma, Pcma]] {
            scope.spawn(move || {
                let worker = Worker::start(codecs);
                let packets = codecs.map(|codec| packets(codec, None));
                let (mut before, start) = (0, Instant::now());
                for number in 0..WARM_UP + MEASURED {
                    if number == WARM_UP {
                        before = worker.allocated();
                    }
                    (0..2).for_each(|side| worker.pass(side, &packets[side][number as usize]));
                    wait_until(start + Duration::from_millis(20) * (number + 1));
                }
                assert_eq!(worker.allocated() - before, 0, "{codecs:?}");
                worker.workers.shutdown();
            });
        }
    });
}

#[allow(clippy::disallowed_methods, reason = "more than the pace of a voice is not heard from any source")]
fn wait_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}
