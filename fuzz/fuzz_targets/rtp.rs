//! Feeds arbitrary datagrams to a bridge: nothing may panic, and what comes out is RTP or RTCP of our own streams.
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
use media::transmit::{Channel, Out, Wire, Workspace};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use types::{AudioCodec, DtmfMode, LegKind, MediaDirection, Now, SrtpKeys, SrtpSuite};

const FAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4000);

/// The bridges tried; the first byte of the input picks one.
const PAIRS: [(AudioCodec, AudioCodec, u8); 6] = [
    (AudioCodec::Opus, AudioCodec::Pcma, 20),
    (AudioCodec::Pcmu, AudioCodec::Opus, 20),
    (AudioCodec::Pcma, AudioCodec::Pcmu, 20),
    (AudioCodec::Pcma, AudioCodec::Pcma, 30),
    (AudioCodec::Opus, AudioCodec::Opus, 60),
    (AudioCodec::Pcma, AudioCodec::Opus, 60),
];

fn config(codec: AudioCodec, ptime_ms: u8, dtmf: bool, srtp: Option<SrtpKeys>) -> LegConfig {
    LegConfig {
        codec,
        send_payload_type: 96,
        receive_payload_type: 96,
        other_law: None,
        dtmf: dtmf.then_some(DtmfFormat {
            send_payload_type: 101,
            receive_payload_type: 101,
            clock_rate: codec.clock_rate(),
        }),
        comfort_noise: false,
        remote_rtp: FAR,
        remote_rtcp: FAR,
        rtcp_mux: true,
        voip_metrics: false,
        direction: MediaDirection::SendRecv,
        ptime_ms,
        srtp,
        latch: true,
        dtmf_mode: DtmfMode::Rfc4733,
        opus: OpusSettings { complexity: 0, ..OpusSettings::default() },
        clear: false,
    }
}

struct Check;

impl Wire for Check {
    fn send(&mut self, _: Channel, to: SocketAddr, packet: &[u8]) {
        assert_eq!(to.port(), 4000);
        assert!(rtp::is_rtcp(packet) || rtp::parse(packet).is_ok());
        assert!(packet.len() <= rtp::MAX_PACKET);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [pick, options, rest @ ..] = input else { return };
    let (a, b, ptime_ms) = PAIRS[usize::from(*pick) % PAIRS.len()];
    let srtp = (options & 1 != 0).then(|| SrtpKeys::new(SrtpSuite::AesCm128HmacSha1_80, vec![1; 30], vec![1; 30]));
    let mut now = Now { instant: Instant::now(), unix_ms: 0 };
    let mut leg_a = Leg::new(LegKind::App, 3, now.instant);
    let mut leg_b = Leg::new(LegKind::Trunk, 4, now.instant);
    leg_a.configure(config(a, 20, true, srtp), now).expect("the keys fit");
    leg_b.configure(config(b, ptime_ms, options & 2 == 0, None), now).expect("no keys");
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
        let mut bytes = vec![0; len + 12];
        if kind & 1 == 0 {
            bytes = payload.to_vec();
        } else {
            sequence = sequence.wrapping_add_signed(i16::from(*step as i8));
            timestamp = timestamp.wrapping_add(u32::from(*jump) * 120);
            let payload_type = if kind & 2 == 0 { 96 } else { 101 };
            let header =
                RtpHeader { payload_type, marker: false, sequence, timestamp, ssrc: u32::from(kind >> 6) };
            header.write(payload, &mut bytes).expect("there is room");
        }
        let datagram = Datagram { from: FAR, arrival: now.instant, bytes: &mut bytes };
        if kind & 4 == 0 {
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
