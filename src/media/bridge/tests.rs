//! Whole calls in virtual time: an app and a trunk on either side of a bridge, heard packet by packet.

mod calls;
mod changes;
mod faults;
mod fax;
mod latching;
mod lines;
mod long_packets;
mod numbers;
mod presses;
mod quality;
mod recovery;
mod rekeying;
mod reports;
mod security;
mod silence;
mod stalls;
mod told;

use super::*;
use crate::media::codec::g711::Law;
use crate::media::codec::opus::{Decoder, Encoded, Encoder};
use crate::media::codec::speech::speech;
use crate::media::config::{DtmfFormat, LegConfig, OpusSettings};
use crate::media::rtp::{self, RtpHeader};
use crate::media::transmit::{Channel, Wire, Workspace};
use crate::types::{AudioCodec, DtmfMode, LegKind, MediaDirection};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const APP: &str = "198.51.100.1:4000";
const TRUNK: &str = "192.0.2.1:5000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config(codec: AudioCodec) -> LegConfig {
    let (payload_type, remote, clock_rate) = match codec {
        AudioCodec::Opus => (111, APP, 48_000),
        AudioCodec::Pcma => (8, TRUNK, 8_000),
        AudioCodec::Pcmu => (0, TRUNK, 8_000),
    };
    LegConfig {
        dtmf: Some(DtmfFormat { send_payload_type: 101, receive_payload_type: 101, clock_rate }),
        remote_rtcp: SocketAddr::new(at(remote).ip(), at(remote).port() + 1),
        rtcp_mux: false,
        opus: OpusSettings { dtx: false, ..OpusSettings::default() },
        ..LegConfig::plain(codec, payload_type, at(remote))
    }
}

/// What a leg sent.
#[derive(Default)]
struct Sent(Vec<(Channel, SocketAddr, Vec<u8>)>);

impl Wire for Sent {
    fn send(&mut self, channel: Channel, to: SocketAddr, packet: &[u8]) {
        self.0.push((channel, to, packet.to_vec()));
    }
}

/// A voice packet as a far side got it.
#[derive(Debug, Clone, PartialEq)]
struct Got {
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: Vec<u8>,
    /// The whole packet as it was on the wire.
    bytes: Vec<u8>,
    to: SocketAddr,
    at: Duration,
}

/// A bridge of legs `a` and `b`, and the far sides of both.
struct Call {
    a: Leg,
    b: Leg,
    config_a: LegConfig,
    config_b: LegConfig,
    start: Instant,
    now: Now,
    work: Box<Workspace>,
    at_a: Vec<Got>,
    at_b: Vec<Got>,
    rtcp_at_a: Vec<Vec<u8>>,
    rtcp_at_b: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    A,
    B,
}

impl Call {
    fn new(config_a: LegConfig, config_b: LegConfig) -> Call {
        let start = Instant::now();
        let now = Now { instant: start, unix_ms: 1_700_000_000_000 };
        let mut a = Leg::new(LegKind::App, 0x1111_2222_3333_4444, start);
        let mut b = Leg::new(LegKind::Trunk, 0x5555_6666_7777_8888, start);
        a.configure(config_a.clone(), now).unwrap();
        b.configure(config_b.clone(), now).unwrap();
        join(&mut a, &mut b);
        Call {
            a,
            b,
            config_a,
            config_b,
            start,
            now,
            work: Box::default(),
            at_a: Vec::new(),
            at_b: Vec::new(),
            rtcp_at_a: Vec::new(),
            rtcp_at_b: Vec::new(),
        }
    }

    fn opus_to_pcma() -> Call {
        Call::new(config(AudioCodec::Opus), config(AudioCodec::Pcma))
    }

    /// Lets time pass until `since_start`, doing what falls due on the way.
    fn until(&mut self, since_start: Duration) {
        let goal = self.start + since_start;
        loop {
            let due = [self.a.poll_timeout(), self.b.poll_timeout()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= goal) else { break };
            // A worker wakes up to a millisecond late.
            self.set_time((due.max(self.now.instant) + MS).min(goal.max(due)));
            for side in [Side::A, Side::B] {
                let mut wire = Sent::default();
                let leg = if side == Side::A { &mut self.a } else { &mut self.b };
                leg.handle_timeout(self.now, &mut Out { wire: &mut wire, work: &mut self.work });
                self.collect(side, wire);
            }
        }
        self.set_time(goal.max(self.now.instant));
    }

    fn set_time(&mut self, instant: Instant) {
        self.now = self.now.after(instant.saturating_duration_since(self.now.instant));
    }

    fn collect(&mut self, to: Side, wire: Sent) {
        let elapsed = self.now.instant - self.start;
        for (channel, remote, bytes) in wire.0 {
            let (got, rtcp) = match to {
                Side::A => (&mut self.at_a, &mut self.rtcp_at_a),
                Side::B => (&mut self.at_b, &mut self.rtcp_at_b),
            };
            if channel == Channel::Rtcp || rtp::is_rtcp(&bytes) {
                rtcp.push(bytes);
                continue;
            }
            let packet = rtp::parse(&bytes).unwrap();
            got.push(Got {
                payload_type: packet.payload_type,
                marker: packet.marker,
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                ssrc: packet.ssrc,
                payload: packet.payload.to_vec(),
                bytes: bytes.clone(),
                to: remote,
                at: elapsed,
            });
        }
    }

    /// A datagram arrives at a leg's RTP port now.
    fn arrive(&mut self, at_leg: Side, from: SocketAddr, bytes: &[u8]) -> Outcome {
        let mut bytes = bytes.to_vec();
        let datagram = Datagram { from, arrival: self.now.instant, bytes: &mut bytes };
        let mut wire = Sent::default();
        let mut out = Out { wire: &mut wire, work: &mut self.work };
        let outcome = match at_leg {
            Side::A => forward(&mut self.a, &mut self.b, datagram, self.now, &mut out),
            Side::B => forward(&mut self.b, &mut self.a, datagram, self.now, &mut out),
        };
        self.collect(if at_leg == Side::A { Side::B } else { Side::A }, wire);
        outcome
    }

    /// The far side of a leg sends.
    fn send(&mut self, from: Side, header: RtpHeader, payload: &[u8]) -> Outcome {
        let remote = match from {
            Side::A => self.config_a.remote_rtp,
            Side::B => self.config_b.remote_rtp,
        };
        let mut bytes = vec![0; payload.len() + 12];
        header.write(payload, &mut bytes).unwrap();
        self.arrive(from, remote, &bytes)
    }
}

/// A far side that talks.
struct Talker {
    side: Side,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

impl Talker {
    fn new(side: Side, payload_type: u8) -> Talker {
        Talker { side, payload_type, sequence: 65_500, timestamp: u32::MAX - 5_000, ssrc: 0xabcd }
    }

    fn header(&self) -> RtpHeader {
        RtpHeader {
            payload_type: self.payload_type,
            marker: false,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        }
    }

    /// The next packet; `step` is its length in clock units.
    fn next(&mut self, step: u32) -> RtpHeader {
        let header = self.header();
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(step);
        header
    }

    fn say(&mut self, call: &mut Call, step: u32, payload: &[u8]) -> Outcome {
        let header = self.next(step);
        call.send(self.side, header, payload)
    }
}

/// Speech as Opus packets of 20 ms.
fn opus_speech(packets: usize, expected_loss: u8) -> Vec<Vec<u8>> {
    let settings = OpusSettings { dtx: false, ..OpusSettings::default() };
    let mut encoder = Encoder::new(8_000, settings).unwrap();
    encoder.set_expected_loss(expected_loss);
    (0..packets)
        .map(|n| {
            let mut packet = [0; 1276];
            match encoder.encode(&speech(n * 160, 160), &mut packet).unwrap() {
                Encoded::Packet(len) => packet[..len].to_vec(),
                Encoded::Silence => unreachable!("without DTX every frame is sent"),
            }
        })
        .collect()
}

/// Speech as A-law packets of `samples`.
fn pcma_speech(packets: usize, samples: usize) -> Vec<Vec<u8>> {
    (0..packets)
        .map(|n| speech(n * samples, samples).iter().map(|sample| Law::A.compress(*sample)).collect())
        .collect()
}

fn assert_continuous(got: &[Got], step: u32) {
    for pair in got.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "sequence after {:?}", pair[0].at);
        assert_eq!(
            pair[1].timestamp,
            pair[0].timestamp.wrapping_add(step),
            "timestamp after {:?}",
            pair[0].at
        );
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
    }
}

/// What a listener with an ideal jitter buffer hears: each packet at its timestamp, silence where none is.
fn listen_pcma(got: &[Got]) -> Vec<i16> {
    let Some(first) = got.first() else { return Vec::new() };
    let mut heard = Vec::new();
    for packet in got {
        let from = rtp::timestamp_distance(first.timestamp, packet.timestamp) as usize;
        heard.resize(heard.len().max(from + packet.payload.len()), 0);
        for (sample, code) in heard[from..].iter_mut().zip(&packet.payload) {
            *sample = Law::A.expand(*code);
        }
    }
    heard
}

/// The delay at which `heard` resembles `said` most, in samples, and how much it does.
fn best_match(said: &[i16], heard: &[i16], up_to: usize) -> (usize, f64) {
    let energy = |part: &[i16]| part.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
    let score = |lag: usize| {
        let heard = &heard[lag..];
        let len = said.len().min(heard.len());
        let product: f64 = said.iter().zip(heard).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        product / (energy(&said[..len]) * energy(&heard[..len])).sqrt().max(1.0)
    };
    (0..up_to).map(|lag| (lag, score(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}
