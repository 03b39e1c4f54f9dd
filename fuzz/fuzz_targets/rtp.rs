//! Feeds arbitrary datagrams to both ports of a bridge: nothing may panic, and what comes out is RTP or RTCP of our own
//! streams.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "../../src/media/mod.rs"]
mod media;
#[path = "../../src/types/mod.rs"]
mod types;

use media::bridge;
use media::config::{DtmfFormat, LegConfig, OpusSettings};
use media::leg::{Datagram, Leg};
use media::rtp::{self, RtpHeader};
use media::srtp;
use media::transmit::{Channel, Out, Wire, Workspace};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use types::{AudioCodec, DtmfMode, LegKind, MediaDirection, Now, SrtpKeys, SrtpSuite};

const FAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4000);

const VOICE: u8 = 96;
const OTHER_LAW: u8 = 97;
const EVENT: u8 = 101;
const NOISE: u8 = 13;

/// The bridges tried; the first byte of the input picks one.
const PAIRS: [(AudioCodec, AudioCodec, u8); 6] = [
    (AudioCodec::Opus, AudioCodec::Pcma, 20),
    (AudioCodec::Pcmu, AudioCodec::Opus, 20),
    (AudioCodec::Pcma, AudioCodec::Pcmu, 20),
    (AudioCodec::Pcma, AudioCodec::Pcma, 30),
    (AudioCodec::Opus, AudioCodec::Opus, 60),
    (AudioCodec::Pcma, AudioCodec::Opus, 60),
];

fn config(codec: AudioCodec, ptime_ms: u8, options: u8, srtp: Option<SrtpKeys>) -> LegConfig {
    let g711 = codec != AudioCodec::Opus;
    LegConfig {
        codec,
        send_payload_type: VOICE,
        receive_payload_type: VOICE,
        other_law: (g711 && options & 16 != 0).then_some(OTHER_LAW),
        dtmf: (options & 2 == 0).then_some(DtmfFormat {
            send_payload_type: EVENT,
            receive_payload_type: EVENT,
            clock_rate: codec.clock_rate(),
        }),
        comfort_noise: g711 && options & 4 != 0,
        remote_rtp: FAR,
        remote_rtcp: FAR,
        rtcp_mux: options & 64 == 0,
        voip_metrics: true,
        direction: MediaDirection::SendRecv,
        ptime_ms,
        srtp,
        latch: true,
        dtmf_mode: if options & 8 == 0 { DtmfMode::Rfc4733 } else { DtmfMode::Inband },
        opus: OpusSettings { complexity: 0, ..OpusSettings::default() },
        clear: options & 32 != 0,
    }
}

struct Check;

impl Wire for Check {
    fn send(&mut self, _: Channel, to: SocketAddr, packet: &[u8]) {
        assert_eq!(to.port(), 4000);
        assert!(rtp::is_rtcp(packet) || rtp::header_len(packet).is_some());
        assert!(packet.len() <= rtp::MAX_PACKET + srtp::MAX_TRAILER);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [pick, options, rest @ ..] = input else { return };
    let (a, b, ptime_ms) = PAIRS[usize::from(*pick) % PAIRS.len()];
    let srtp = (options & 1 != 0).then(|| SrtpKeys::new(SrtpSuite::AesCm128HmacSha1_80, vec![1; 30], vec![1; 30]));
    let mut now = Now { instant: Instant::now(), unix_ms: 0 };
    let mut leg_a = Leg::new(LegKind::App, 3, now.instant);
    let mut leg_b = Leg::new(LegKind::Trunk, 4, now.instant);
    leg_a.configure(config(a, 20, options & !2, srtp), now).expect("the keys fit");
    leg_b.configure(config(b, ptime_ms, *options, None), now).expect("no keys");
    bridge::join(&mut leg_a, &mut leg_b);
    let mut work = Box::<Workspace>::default();
    let (mut sequence, mut timestamp) = (0u16, 0u32);
    let mut rest = rest;
    // Records of: kind, milliseconds, length, steps of sequence and timestamp, payload.
    while let [kind, wait, len, step, jump, following @ ..] = rest {
        let len = usize::from(*len).min(following.len());
        let (payload, following) = following.split_at(len);
        rest = following;
        now = now.after(Duration::from_millis(u64::from(*wait)));
        let mut out = Out { wire: &mut Check, work: &mut work };
        leg_a.handle_timeout(now, &mut out);
        leg_b.handle_timeout(now, &mut out);
        // Up to more than a datagram has room for.
        let payload = if kind & 32 == 0 { payload.to_vec() } else { payload.repeat(7) };
        let mut bytes = vec![0; payload.len() + 12];
        if kind & 1 == 0 {
            bytes = payload;
        } else {
            sequence = sequence.wrapping_add_signed(i16::from(*step as i8));
            timestamp = timestamp.wrapping_add(u32::from(*jump) * 120);
            let payload_type = [VOICE, EVENT, NOISE, OTHER_LAW][usize::from(*kind >> 1 & 1 | *kind >> 2 & 2)];
            let header =
                RtpHeader { payload_type, marker: false, sequence, timestamp, ssrc: u32::from(kind >> 6) };
            header.write(&payload, &mut bytes).expect("there is room");
        }
        let datagram = Datagram { from: FAR, arrival: now.instant, bytes: &mut bytes };
        if kind & 17 == 16 {
            let leg = if kind & 4 == 0 { &mut leg_a } else { &mut leg_b };
            leg.receive_rtcp(datagram, Channel::Rtcp, now);
        } else if kind & 4 == 0 {
            bridge::forward(&mut leg_a, &mut leg_b, datagram, now, &mut out);
        } else {
            bridge::forward(&mut leg_b, &mut leg_a, datagram, now, &mut out);
        }
    }
    for leg in [&leg_a, &leg_b] {
        let report = leg.report();
        assert!(report.mos_lq.is_none_or(|mos| (1.0..=4.5).contains(&mos)));
    }
});
