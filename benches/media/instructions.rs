//! Instructions a packet, counted by valgrind: the same at every run and on every machine of one kind, however busy it is.

use crate::codec::{Path, Silent};
use crate::speech::{self, CONTINUOUS, payloads};
use std::hint::black_box;
use std::process::Command;
use tandem::media::codec::opus::{Decoder, Encoder, MAX_ENCODED};
use tandem::types::AudioCodec::{self, Opus, Pcma, Pcmu};

/// The command line by which this program becomes what is counted.
pub const COUNTED: &str = "counted";

/// What is counted: libopus alone, or a packet's way from datagram to datagram.
const KINDS: [(&str, &str); 7] = [
    ("encode", "libopus alone, encoder"),
    ("decode", "libopus alone, decoder"),
    ("opus-pcma", "Opus to PCMA"),
    ("pcma-opus", "PCMA to Opus"),
    ("opus-opus", "Opus relayed"),
    ("pcma-pcma", "PCMA relayed"),
    ("pcma-pcmu", "PCMA to PCMU"),
];

/// Prints instructions a packet, and how many of them are not libopus.
pub fn run() {
    println!(
        "instructions a packet of 20 ms (valgrind --tool=callgrind), no sockets     all      not libopus"
    );
    let mut floors = [0.0; 2];
    for (index, (kind, what)) in KINDS.iter().enumerate() {
        let Some(count) = count(kind) else {
            println!("  {what:<70} valgrind is not installed or failed");
            return;
        };
        let rest = match index {
            0 | 1 => {
                floors[index] = count;
                String::new()
            }
            2 => format!("{:>12.0}  ({:.3} x libopus)", count - floors[1], count / floors[1]),
            3 => format!("{:>12.0}  ({:.3} x libopus)", count - floors[0], count / floors[0]),
            _ => format!("{count:>12.0}"),
        };
        println!("  {what:<66} {count:>10.0} {rest}");
    }
}

/// Of a kind, a packet: what twice as many packets take beyond what they take once.
fn count(kind: &str) -> Option<f64> {
    let frames = speech::voiced(&speech::caller()).len();
    let of = |rounds: &str| -> Option<f64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args([COUNTED, kind, rounds])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("Collected"))?;
        line.split_whitespace().last()?.parse().ok()
    };
    Some((of("2")? - of("1")?) / frames as f64)
}

/// The child's side: plays the speech so many times.
pub fn counted(kind: &str, rounds: usize) {
    let voice = speech::caller();
    let once = speech::voiced(&voice);
    match kind {
        "encode" => {
            let mut encoder = Encoder::new(8_000, CONTINUOUS).expect("an encoder");
            let mut packet = [0; MAX_ENCODED];
            for frame in (0..rounds).flat_map(|_| once.iter().copied()) {
                black_box(encoder.encode(frame, &mut packet)).expect("a frame");
            }
        }
        "decode" => {
            let mut decoder = Decoder::new(8_000).expect("a decoder");
            let mut pcm = [0; 960];
            let packets = payloads(&once, Opus, CONTINUOUS, 0);
            for packet in (0..rounds).flat_map(|_| packets.iter().flatten()) {
                black_box(decoder.decode(packet, &mut pcm)).expect("a packet");
            }
        }
        "opus-pcma" => through_bridge(&once, rounds, Opus, Pcma),
        "pcma-opus" => through_bridge(&once, rounds, Pcma, Opus),
        "opus-opus" => through_bridge(&once, rounds, Opus, Opus),
        "pcma-pcma" => through_bridge(&once, rounds, Pcma, Pcma),
        "pcma-pcmu" => through_bridge(&once, rounds, Pcma, Pcmu),
        other => panic!("nothing is counted as {other}"),
    }
}

/// The packets are made once, however often they are sent.
fn through_bridge(once: &[&[i16]], rounds: usize, from: AudioCodec, to: AudioCodec) {
    let mut path = Path::new(from, to, None);
    let said = payloads(once, from, CONTINUOUS, 0);
    let said: Vec<&[u8]> = said.iter().flatten().map(Vec::as_slice).collect();
    for number in 0..rounds * said.len() {
        path.say(number as u32, said[number % said.len()], &mut Silent);
    }
}
