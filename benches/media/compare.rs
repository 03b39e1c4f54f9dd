//! The gateways side by side in one run: the same calls, speech and losses through each, and the ratios.

use crate::codec::{self, Floor};
use crate::crowd::{Crowd, FRAME_TIME, Fate, Heard, Measured, Talk, on_time, on_timeline};
use crate::gateway::{Gateway, Tandem};
use crate::heard;
use crate::machine::{self, resident};
use crate::rtpengine;
use crate::speech::{self, CONTINUOUS, Said, payloads, step};
use std::time::Duration;
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::Decoder;
use tandem::types::AudioCodec::{self, Opus, Pcma};

/// Calls in the measurements that are not about capacity.
const CALLS: usize = 50;
/// A gateway carries as many calls as it does within these.
const MOST_DELAY_MS: f64 = 20.0;
const MOST_LOSS: f64 = 0.1;
/// Calls per way, each with faults of its own.
const SEEDS: usize = 2;
/// How much later than the quickest packet the judge's ear still plays one: a phone's usual buffer.
const PATIENCE: Duration = Duration::from_millis(60);

/// A way from the app to the gateway, and what the app's encoder has been told of its loss, in percent.
struct Way {
    name: &'static str,
    told: u8,
    /// Of packet `number` with the draws of its call.
    fate: fn(call: u64, number: u32) -> Fate,
}

const WAYS: [Way; 10] = [
    Way { name: "0 % lost", told: 0, fate: |_, _| Fate::OnTime },
    Way { name: "1 % lost", told: 1, fate: |call, number| lost(call, number, 1) },
    Way { name: "3 % lost", told: 3, fate: |call, number| lost(call, number, 3) },
    Way { name: "5 % lost", told: 5, fate: |call, number| lost(call, number, 5) },
    Way { name: "10 % lost", told: 10, fate: |call, number| lost(call, number, 10) },
    Way { name: "20 % lost", told: 20, fate: |call, number| lost(call, number, 20) },
    Way {
        name: "10 % lost, two in a row",
        told: 10,
        fate: |call, number| if hits(call, number / 2, 10) { Fate::Lost } else { Fate::OnTime },
    },
    Way { name: "jitter 0 to 40 ms", told: 0, fate: |call, number| late(call, number, 40) },
    Way {
        name: "5 % overtaken by one",
        told: 0,
        fate: |call, number| match hits(call, number, 5) {
            true => Fate::Late(Duration::from_millis(25)),
            false => Fate::OnTime,
        },
    },
    Way {
        name: "5 % lost, jitter 0 to 30 ms",
        told: 5,
        fate: |call, number| match lost(call, number, 5) {
            Fate::Lost => Fate::Lost,
            Fate::OnTime | Fate::Late(_) => late(call, number, 30),
        },
    },
];

fn hits(call: u64, number: u32, percent: u32) -> bool {
    draw(call, number) < percent * 100
}

fn lost(call: u64, number: u32, percent: u32) -> Fate {
    if hits(call, number, percent) { Fate::Lost } else { Fate::OnTime }
}

fn late(call: u64, number: u32, most_ms: u64) -> Fate {
    let share = draw(call ^ 0x5eed, number);
    Fate::Late(Duration::from_micros(u64::from(share) * most_ms / 10))
}

/// All that is known of one gateway; `None` was not measured.
#[derive(Default)]
struct Row {
    name: String,
    transcode: Option<f64>,
    relay: [Option<f64>; 2],
    memory: Option<f64>,
    /// Towards the trunk and towards the app.
    floor: [Option<f64>; 2],
    single_p99: [Option<f64>; 2],
    capacity: Option<usize>,
    complexity: Option<u8>,
    /// Calls it carries while its encoders keep the complexity they are set to.
    whole: Option<usize>,
    p99: [Option<f64>; 2],
    pesq: [Option<f64>; WAYS.len()],
    noise: f64,
}

pub fn run(quick: bool) {
    println!(
        "machine: {}; gateway on core {}, load on core {}",
        machine::describe(),
        machine::GATEWAY_CORE,
        machine::load_core()
    );
    println!(
        "options: Opus 24 kb/s VOIP complexity 5, in-band FEC offered, DTX off, ptime 20 ms; PCMA; continuous speech"
    );
    machine::pin_self();
    let voice = speech::caller();
    let voiced = speech::voiced(&voice);
    let floor = codec::floor(&voiced, 5, 0, CALLS);
    println!(
        "libopus alone, {CALLS} calls in turn: {:.2} CPU-ms per call-second; woken each ms on the gateway's core {:.2}; a \
         thread that only sleeps for 1 ms at a time costs {:.1} µs a sleep\n",
        floor.per_call_second(),
        codec::paced_floor(CALLS, 0).unwrap_or(f64::NAN),
        codec::cost_of_a_sleep().unwrap_or(f64::NAN)
    );
    let mut rows = vec![measure(&mut Tandem::start(CONTINUOUS), quick)];
    for mut peer in rtpengine::installed() {
        rows.push(measure(&mut peer, quick));
    }
    print(&rows, floor);
    println!("\nmachine afterwards: {}", machine::describe());
}

fn measure(gateway: &mut dyn Gateway, quick: bool) -> Row {
    let mut row = Row { name: gateway.name().to_owned(), ..Row::default() };
    println!("measuring {}", row.name);
    single(gateway, &mut row);
    cost(gateway, &mut row);
    if !quick {
        capacity(gateway, &mut row);
    }
    listen(gateway, &mut row);
    row
}

fn continuous(codecs: [AudioCodec; 2]) -> [Said; 2] {
    let voice = speech::caller();
    let frames = speech::voiced(&voice);
    codecs.map(|codec| payloads(&frames, codec, CONTINUOUS, 0))
}

/// One call alone: the delay nothing gets below.
fn single(gateway: &mut dyn Gateway, row: &mut Row) {
    let voice = speech::caller();
    let frames: Vec<&[i16]> = voice.chunks_exact(speech::FRAME).collect();
    let said = [Opus, Pcma].map(|codec| payloads(&frames, codec, CONTINUOUS, 0));
    let Some(mut crowd) = Crowd::open(gateway, 1, [Opus, Pcma]) else { return gateway.close_all() };
    crowd.record(0);
    crowd.record(1);
    let time = FRAME_TIME * frames.len() as u32;
    let measured = crowd.talk(
        gateway,
        &Talk { said: std::slice::from_ref(&said), time, stagger: 0, last: true, fate: &on_time },
    );
    gateway.close_all();
    let direct = decode_all(&said[0]);
    let to_app = crowd.recordings(0).pop().map(|recording| opus_sound(&recording)).unwrap_or_default();
    let to_trunk = crowd.recordings(1).pop().map(|recording| pcma_sound(&recording)).unwrap_or_default();
    // The sound itself lies behind by what the codec holds back, beside the time each packet was inside.
    let lags = [heard::lag(&direct, &to_trunk), heard::lag(&voice, &to_app)].map(|lag| lag as f64 / 8.0);
    println!(
        "  one call: packets are inside for {:.2} / {:.2} ms, their sound lies {:.2} / {:.2} ms behind",
        measured.delay(1, 0.5),
        measured.delay(0, 0.5),
        lags[0],
        lags[1]
    );
    row.floor = [Some(measured.delay(1, 0.5) + lags[0]), Some(measured.delay(0, 0.5) + lags[1])];
    row.single_p99 = [Some(measured.delay(1, 0.99) + lags[0]), Some(measured.delay(0, 0.99) + lags[1])];
}

fn cost(gateway: &mut dyn Gateway, row: &mut Row) {
    for (codecs, place) in [([Opus, Pcma], None), ([Opus, Opus], Some(0)), ([Pcma, Pcma], Some(1))] {
        let said = continuous(codecs);
        let before = resident(gateway.pid());
        let Some(mut crowd) = Crowd::open(gateway, CALLS, codecs) else { return gateway.close_all() };
        crowd.talk(gateway, &Talk::mixed(&said, 2));
        let measured = crowd.talk(gateway, &Talk::mixed_last(&said, 8));
        let grown = resident(gateway.pid()).saturating_sub(before) as f64 / CALLS as f64 / 1024.0;
        gateway.close_all();
        tell(row, &format!("{CALLS} calls {} to {}", codecs[0], codecs[1]), &measured);
        match place {
            Some(place) => row.relay[place] = Some(measured.cpu),
            None => (row.transcode, row.memory) = (Some(measured.cpu), Some(grown)),
        }
    }
}

fn tell(row: &mut Row, what: &str, measured: &Measured) {
    row.noise = row.noise.max(measured.noise);
    println!(
        "  {what}: {:.2} CPU-ms per call-second, {:.0} sleeps a second, p99 {:.1} / {:.1} ms, lost {:.2} %; others took {:.0} % of the core, \
         this load was late by up to {:.0} ms",
        measured.cpu,
        measured.sleeps,
        measured.delay(1, 0.99),
        measured.delay(0, 0.99),
        measured.lost(),
        measured.noise,
        measured.own_lateness.as_secs_f64() * 1_000.0
    );
}

/// Finds the most calls the gateway carries, between one it does and one it does not.
fn capacity(gateway: &mut dyn Gateway, row: &mut Row) {
    let said = continuous([Opus, Pcma]);
    let Some(cpu) = row.transcode else { return };
    // Where its own cost would fill the core.
    let full = (1_000.0 / cpu) as usize;
    let (mut carried, mut too_many) = (full * 6 / 10, full * 13 / 10);
    let trial = |gateway: &mut dyn Gateway, row: &mut Row, calls: usize| {
        let crowd = Crowd::open(gateway, calls, [Opus, Pcma]);
        let measured = crowd.map(|mut crowd| {
            crowd.talk(gateway, &Talk::mixed(&said, 3));
            crowd.talk(gateway, &Talk::mixed_last(&said, 5))
        });
        let complexity = gateway.complexity();
        gateway.close_all();
        if let Some(measured) = &measured {
            tell(row, &format!("{calls} calls"), measured);
        }
        (measured, complexity)
    };
    let fits = |gateway: &mut dyn Gateway, row: &mut Row, calls: usize| {
        let (measured, complexity) = trial(gateway, row, calls);
        let fits = measured.is_some_and(|measured| {
            measured.delay(0, 0.99).max(measured.delay(1, 0.99)) <= MOST_DELAY_MS
                && measured.lost() <= MOST_LOSS
        });
        if fits {
            (row.capacity, row.complexity) = (Some(calls), complexity);
        }
        fits
    };
    // Where encoders give way there is a second figure: as many calls as still sound as they are set to. From below,
    // since what gave way once takes its time to come back.
    if gateway.complexity().is_some() {
        let mut calls = full / 2;
        while fits(gateway, row, calls) && row.complexity >= Some(CONTINUOUS.complexity) {
            row.whole = Some(calls);
            calls += calls / 10;
        }
    }
    // One that saves as load grows carries more than its cost at rest says.
    while fits(gateway, row, too_many) {
        (carried, too_many) = (too_many, too_many * 13 / 10);
    }
    while too_many - carried > (full / 25).max(4) {
        let calls = (carried + too_many) / 2;
        if fits(gateway, row, calls) {
            carried = calls;
        } else {
            too_many = calls;
        }
    }
    let (measured, _) = trial(gateway, row, carried * 8 / 10);
    if let Some(measured) = measured {
        row.p99 = [Some(measured.delay(1, 0.99)), Some(measured.delay(0, 0.99))];
    }
}

/// How it sounds to the trunk while the app's packets get lost or late, the app having been told of its losses.
fn listen(gateway: &mut dyn Gateway, row: &mut Row) {
    let voice = speech::caller();
    let frames: Vec<&[i16]> = voice.chunks_exact(speech::FRAME).collect();
    let pcma = payloads(&frames, Pcma, CONTINUOUS, 0);
    let said = WAYS.map(|way| [payloads(&frames, Opus, CONTINUOUS, way.told), pcma.clone()]);
    let calls = SEEDS * WAYS.len();
    let Some(mut crowd) = Crowd::open(gateway, calls, [Opus, Pcma]) else { return gateway.close_all() };
    crowd.record(1);
    // The first packet tells the gateway where the far side is.
    let fate = |call: usize, number: u32| match number {
        0 => Fate::OnTime,
        number => (WAYS[call % WAYS.len()].fate)(call as u64, number),
    };
    let time = FRAME_TIME * frames.len() as u32;
    crowd.talk(gateway, &Talk { said: &said, time, stagger: 0, last: true, fate: &fate });
    gateway.close_all();
    let heard: Vec<Vec<i16>> = crowd.recordings(1).iter().map(|recording| pcma_sound(recording)).collect();
    for (index, way) in WAYS.iter().enumerate() {
        let of_this_way: Vec<Vec<i16>> = heard.iter().skip(index).step_by(WAYS.len()).cloned().collect();
        row.pesq[index] = heard::pesq(&voice, &of_this_way);
        match row.pesq[index] {
            Some(score) => println!("  {}: PESQ {score:.2}", way.name),
            None => println!("  {}: PESQ not measured", way.name),
        }
    }
}

/// 0 to 9999, always the same for a call and a packet.
fn draw(call: u64, number: u32) -> u32 {
    let mut state =
        call.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number).wrapping_mul(0xd1b5_4a32_d192_ed03);
    state ^= state >> 29;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 32;
    (state % 10_000) as u32
}

fn decode_all(said: &Said) -> Vec<i16> {
    let mut decoder = Decoder::new(8_000).expect("a decoder");
    said.iter().flatten().flat_map(|packet| decode(&mut decoder, packet)).collect()
}

fn decode(decoder: &mut Decoder, packet: &[u8]) -> Vec<i16> {
    let mut pcm = [0; 960];
    let samples = decoder.decode(packet, &mut pcm).unwrap_or(0);
    pcm[..samples].to_vec()
}

fn opus_sound(recording: &[Heard]) -> Vec<i16> {
    let mut decoder = Decoder::new(8_000).expect("a decoder");
    on_timeline(recording, |packet| decode(&mut decoder, packet), step(Opus), PATIENCE)
}

fn pcma_sound(recording: &[Heard]) -> Vec<i16> {
    let expand = |packet: &[u8]| packet.iter().map(|code| Law::A.expand(*code)).collect();
    on_timeline(recording, expand, step(Pcma), PATIENCE)
}

fn print(rows: &[Row], floor: Floor) {
    let Some(own) = rows.first() else { return };
    println!("\n{:<58}{}", "", rows.iter().map(|row| format!("{:>20}", row.name)).collect::<String>());
    let line = |what: &str, value: &dyn Fn(&Row) -> Option<f64>, digits: usize| {
        let cells = rows.iter().map(|row| match value(row) {
            Some(value) => format!("{value:>20.digits$}"),
            None => format!("{:>20}", "not measured"),
        });
        println!("{what:<58}{}", cells.collect::<String>());
    };
    line("transcode, CPU-ms per call-second", &|row| row.transcode, 2);
    line("  times the libopus floor of this run", &|row| Some(row.transcode? / floor.per_call_second()), 2);
    line("  times Tandem", &|row| Some(row.transcode? / own.transcode?), 2);
    line("relay Opus to Opus, CPU-ms per call-second", &|row| row.relay[0], 2);
    line("relay PCMA to PCMA, CPU-ms per call-second", &|row| row.relay[1], 2);
    line("calls per core until p99 > 20 ms or loss > 0.1 %", &|row| Some(row.capacity? as f64), 0);
    line("  Tandem's is so many times that", &|row| Some(own.capacity? as f64 / row.capacity? as f64), 2);
    line("  highest complexity of encoders there", &|row| row.complexity.map(f64::from), 0);
    line(
        "  calls per core while encoders keep their complexity",
        &|row| row.whole.map(|calls| calls as f64),
        0,
    );
    line("content delay of one call to the trunk, ms", &|row| row.floor[0], 2);
    line("content delay of one call to the app, ms (6.5 the codec's)", &|row| row.floor[1], 2);
    // Nobody has a packet before its frame has been computed.
    let own_time = [floor.decode / 1_000.0, 6.5 + floor.encode / 1_000.0];
    line(
        "  above what the codec takes itself, to the trunk, ms",
        &|row| Some(row.floor[0]? - own_time[0]),
        2,
    );
    line("  above what the codec takes itself, to the app, ms", &|row| Some(row.floor[1]? - own_time[1]), 2);
    line("  p99 to the trunk, ms", &|row| row.single_p99[0], 2);
    line("  p99 to the app, ms", &|row| row.single_p99[1], 2);
    line("p99 of a packet at 80 % of capacity to the trunk, ms", &|row| row.p99[0], 2);
    line("p99 of a packet at 80 % of capacity to the app, ms", &|row| row.p99[1], 2);
    line("RSS per transcoded call, KB", &|row| row.memory, 0);
    for (index, way) in WAYS.iter().enumerate() {
        line(&format!("PESQ, Opus with FEC to PCMA, {}", way.name), &|row| row.pesq[index], 2);
    }
    line("most that others took of the core during it, %", &|row| Some(row.noise), 0);
    if rows.len() == 1 {
        println!("rtpengine: not measured (it is not installed; `make bench-media` installs it)");
    }
}
