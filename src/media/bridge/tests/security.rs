//! Who is heard: sources, junk, SRTP.

use super::*;
use crate::media::srtp;
use crate::types::{SrtpKeys, SrtpSuite};
use proptest::prelude::*;

fn packet_of(header: RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; payload.len() + 12];
    header.write(payload, &mut bytes).unwrap();
    bytes
}

#[test]
fn strangers_are_not_heard() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let bytes = packet_of(app.next(960), &opus_speech(1, 0)[0]);
    call.arrive(Side::A, at("203.0.113.66:4000"), &bytes);
    call.arrive(Side::A, at("198.51.100.1:4001"), &bytes);
    assert!(call.at_b.is_empty());
    assert_eq!(call.a.report().packets_discarded, 2);
    call.arrive(Side::A, at(APP), &bytes);
    assert_eq!(call.at_b.len(), 1);
}

#[test]
fn a_latching_leg_follows_the_first_media_once_and_only_media() {
    let latching = LegConfig { latch: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(latching, config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(10, 0);
    let real = at("203.0.113.5:40000");
    call.arrive(Side::A, at("203.0.113.66:1"), b"not media at all");
    let wrong_type = RtpHeader { payload_type: 5, ..app.header() };
    call.arrive(Side::A, at("203.0.113.66:1"), &packet_of(wrong_type, &packets[0]));
    assert_eq!(call.a.take_news().latched, None);

    call.arrive(Side::A, real, &packet_of(app.next(960), &packets[0]));
    assert_eq!(call.a.take_news().latched, Some(real));
    call.arrive(Side::A, at("203.0.113.66:1"), &packet_of(app.header(), &packets[1]));
    assert_eq!(call.at_b.len(), 1, "strict after latching");
    call.arrive(Side::A, real, &packet_of(app.next(960), &packets[1]));
    assert_eq!(call.at_b.len(), 2);

    let mut trunk = Talker::new(Side::B, 8);
    trunk.say(&mut call, 160, &[0xd5; 160]);
    assert_eq!(call.at_a.last().unwrap().to, real, "and answers go there");
}

#[test]
fn junk_at_a_live_port_is_counted_and_nobody_hears_it() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut junk = 0u64;
    for (n, packet) in opus_speech(20, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        for k in 0..200u32 {
            junk += 1;
            let noise: Vec<u8> = (0..(k % 60)).map(|b| (b * 37 + k * 11) as u8).collect();
            let stray = RtpHeader { ssrc: k + 100, sequence: (k * 7) as u16, ..app.header() };
            match k % 4 {
                0 => call.arrive(Side::A, at(APP), &noise),
                1 => call.send(Side::A, stray, packet),
                2 => call.arrive(Side::A, at("203.0.113.66:9"), &noise),
                _ => call.send(Side::A, RtpHeader { payload_type: 77, ..app.header() }, packet),
            };
        }
    }
    assert_eq!(call.at_b.len(), 20);
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_lost), (20, 0));
    assert_eq!(report.packets_discarded, junk);
}

#[test]
fn payloads_no_codec_takes_are_counted_and_the_call_lives() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(30, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        match n {
            10 => app.say(&mut call, 960, &[0x03, 0x00]),
            11 => app.say(&mut call, 960, &[]),
            12 => app.say(&mut call, 960, &[0xff; 1400]),
            _ => app.say(&mut call, 960, packet),
        };
    }
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_discarded, report.packets_lost), (30, 3, 0));
    assert_eq!(report.packets_unrepaired, Some(3));
    let last = call.at_b.last().unwrap();
    assert_eq!(last.timestamp.wrapping_sub(call.at_b[0].timestamp), 29 * 160, "the timeline is whole");
}

#[test]
fn payloads_of_one_byte_and_of_a_whole_datagram_do_no_harm_either_way() {
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (opus, pcma) = (opus_speech(60, 0), pcma_speech(60, 160));
    for n in 0..60usize {
        call.until(20 * MS * n as u32);
        match n {
            // Code 3 without its count, then more than 120 ms, then a length no datagram has room for.
            20 => app.say(&mut call, 960, &[0x03]),
            25 => app.say(&mut call, 960, &[0x01; 1_488]),
            30 => app.say(&mut call, 960, &[0x03; 1_488]),
            _ => app.say(&mut call, 960, &opus[n]),
        };
        match n {
            20 => trunk.say(&mut call, 160, &[0x55]),
            30 => trunk.say(&mut call, 160, &[0x55; 1_488]),
            _ => trunk.say(&mut call, 160, &pcma[n]),
        };
    }
    assert_eq!(call.a.report().packets_discarded, 3);
    assert_eq!(call.b.report().packets_discarded, 1, "one sample is little, and no fault");
    assert_eq!(call.at_b.len(), 60, "what could not be played was filled");
    assert_continuous(&call.at_b, 160);
    let spans = |got: &[Got]| got.last().unwrap().timestamp.wrapping_sub(got[0].timestamp);
    assert!(spans(&call.at_a).abs_diff(59 * 960) <= 960, "{}", spans(&call.at_a));
}

#[test]
fn a_datagram_longer_than_any_packet_is_counted_and_not_passed_on() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Pcma));
    let mut talker = Talker::new(Side::A, 8);
    for n in 0..20u32 {
        call.until(20 * MS * n);
        let length = if n == 10 { 1_500 } else { 160 };
        talker.say(&mut call, 160, &vec![0x55; length]);
    }
    assert_eq!((call.at_b.len(), call.a.report().packets_discarded), (19, 1));
    assert!(call.at_b.iter().all(|got| got.payload.len() == 160));
}

#[test]
fn with_srtp_only_proven_packets_are_heard_or_latched_onto() {
    let local: Vec<u8> = (0..30).collect();
    let remote: Vec<u8> = (100..130).collect();
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let keys = SrtpKeys::new(suite, local.clone(), remote.clone());
    let secured = LegConfig { latch: true, srtp: Some(keys), ..config(AudioCodec::Opus) };
    let mut call = Call::new(secured, config(AudioCodec::Pcma));
    let (mut theirs, mut opener) = srtp::session(&SrtpKeys::new(suite, remote, local)).unwrap();
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(10, 0);
    let real = at("203.0.113.5:7");

    call.arrive(Side::A, at("203.0.113.66:1"), &packet_of(app.header(), &packets[0]));
    assert_eq!(call.a.take_news().latched, None, "an unproven packet can't latch");

    for packet in &packets {
        let mut bytes = vec![0; packet.len() + 64];
        let len = app.next(960).write(packet, &mut bytes).unwrap();
        let len = theirs.protect_rtp(&mut bytes, len).unwrap();
        call.arrive(Side::A, real, &bytes[..len]);
        call.arrive(Side::A, real, &bytes[..len]);
    }
    assert_eq!(call.at_b.len(), 10);
    assert_eq!(call.a.report().packets_discarded, 11, "the clear one and ten replays");

    // What goes to the app is protected, and goes where the app really is.
    let mut trunk = Talker::new(Side::B, 8);
    trunk.say(&mut call, 160, &pcma_speech(1, 160)[0]);
    let got = call.at_a.last().unwrap();
    assert_eq!(got.to, real);
    assert!(opener.unprotect_rtp(&mut got.bytes.clone()).is_ok());
}

#[test]
fn a_reinvite_with_the_same_keys_never_protects_two_packets_alike() {
    let key: Vec<u8> = (0..30).collect();
    let keys = SrtpKeys::new(SrtpSuite::AesCm128HmacSha1_80, key.clone(), key);
    // Transcoded, and passed on as it is.
    for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
        let secured = LegConfig { srtp: Some(keys.clone()), ..config(codec) };
        let mut call = Call::new(secured.clone(), config(AudioCodec::Pcma));
        let mut trunk = Talker::new(Side::B, 8);
        let voice = pcma_speech(40, 160);
        for (n, packet) in voice.iter().enumerate() {
            call.until(20 * MS * n as u32);
            if n == 20 {
                call.a.configure(secured.clone(), call.now).unwrap();
                join(&mut call.a, &mut call.b);
            }
            trunk.say(&mut call, 160, packet);
        }
        let mut numbers: Vec<_> = call.at_a.iter().map(|got| (got.ssrc, got.sequence)).collect();
        assert_eq!(numbers.len(), 40);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 40);
    }
}

#[test]
fn a_new_key_of_the_far_side_leaves_our_rollover_counter_alone() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let ours: Vec<u8> = (0..30).collect();
    let keys = |remote: u8| SrtpKeys::new(suite, ours.clone(), vec![remote; 30]);
    let secured = |remote| LegConfig { srtp: Some(keys(remote)), ..config(AudioCodec::Pcma) };
    let mut call = Call::new(secured(1), config(AudioCodec::Pcma));
    let (_, mut opener) = srtp::session(&SrtpKeys::new(suite, vec![1; 30], ours.clone())).unwrap();
    let mut trunk = Talker::new(Side::B, 8);
    // Past the wrap of the sequence numbers the counter is one; a context made anew would start at zero.
    for n in 0..100u32 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        trunk.sequence = trunk.sequence.wrapping_add(999);
        let mut sealed = call.at_a.pop().unwrap().bytes;
        assert!(opener.unprotect_rtp(&mut sealed).is_ok(), "packet {n}");
        if n == 80 {
            call.a.configure(secured(2), call.now).unwrap();
            join(&mut call.a, &mut call.b);
        }
    }
}

/// A trunk's voice brings our numbers towards the secured leg to `goal`; the far side opens all of it.
fn count_up_to(call: &mut Call, trunk: &mut Talker, opener: &mut srtp::Incoming, goal: u16) {
    loop {
        call.until(call.now.instant - call.start + 20 * MS);
        trunk.say(call, 160, &[0xd5; 160]);
        let mut got = call.at_a.pop().unwrap();
        opener.unprotect_rtp(&mut got.bytes).unwrap();
        let left = goal.wrapping_sub(got.sequence);
        if left == 0 {
            return;
        }
        // A relay keeps gaps.
        trunk.sequence = trunk.sequence.wrapping_add(left.min(1_000) - 1);
    }
}

/// The trunk talks on, the first ten packets are lost, and the rest is opened; gives what got through.
fn lose_ten_and_open(call: &mut Call, trunk: &mut Talker, opener: &mut srtp::Incoming) -> Vec<Got> {
    for packet in pcma_speech(40, 160) {
        call.until(call.now.instant - call.start + 20 * MS);
        trunk.say(call, 160, &packet);
    }
    let through = call.at_a.split_off(10);
    for got in &through {
        assert!(opener.unprotect_rtp(&mut got.bytes.clone()).is_ok(), "packet {}", got.sequence);
    }
    call.at_a.clear();
    through
}

#[test]
fn a_stream_with_another_clock_begins_where_a_receiver_that_lost_its_first_packets_still_opens_it() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let keys = || Some(SrtpKeys::new(suite, vec![7; 30], vec![8; 30]));
    let secured = |codec| LegConfig { srtp: keys(), ..config(codec) };
    let mut call = Call::new(secured(AudioCodec::Pcma), config(AudioCodec::Pcma));
    let mut opener = srtp::Incoming::new(suite, &[7; 30]).unwrap();
    let mut trunk = Talker::new(Side::B, 8);
    count_up_to(&mut call, &mut trunk, &mut opener, 65_530);
    call.a.configure(secured(AudioCodec::Opus), call.now).unwrap();
    join(&mut call.a, &mut call.b);
    let through = lose_ten_and_open(&mut call, &mut trunk, &mut opener);
    assert_continuous(&through, 960);
    assert_eq!(through.len(), 30);
}

#[test]
fn a_new_key_near_the_wrap_of_the_numbers_begins_a_stream_and_any_other_does_not() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let secured = |key: u8| {
        let keys = Some(SrtpKeys::new(suite, vec![key; 30], vec![8; 30]));
        LegConfig { srtp: keys, ..config(AudioCodec::Pcma) }
    };
    for (at, begins) in [(20_000, false), (65_530, true)] {
        let mut call = Call::new(secured(1), config(AudioCodec::Pcma));
        let mut opener = srtp::Incoming::new(suite, &[1; 30]).unwrap();
        let mut trunk = Talker::new(Side::B, 8);
        count_up_to(&mut call, &mut trunk, &mut opener, 9_000);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        let before = call.at_a.pop().unwrap();
        opener.unprotect_rtp(&mut before.bytes.clone()).unwrap();
        count_up_to(&mut call, &mut trunk, &mut opener, at);
        call.a.configure(secured(2), call.now).unwrap();
        join(&mut call.a, &mut call.b);
        let mut opener = srtp::Incoming::new(suite, &[2; 30]).unwrap();
        let through = lose_ten_and_open(&mut call, &mut trunk, &mut opener);
        assert_continuous(&through, 160);
        assert_eq!(through[0].ssrc != before.ssrc, begins, "at {at}");
        // Time goes on alike: the packets are where they were going to be.
        assert_eq!(through.len(), 30);
    }
}

#[test]
fn streams_of_one_key_never_have_the_same_source_twice() {
    let keys = || Some(SrtpKeys::new(SrtpSuite::AesCm128HmacSha1_80, vec![7; 30], vec![8; 30]));
    let secured = |codec| LegConfig { srtp: keys(), ..config(codec) };
    let mut call = Call::new(secured(AudioCodec::Opus), config(AudioCodec::Pcma));
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..200u32 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        let codec = if n % 2 == 0 { AudioCodec::Pcmu } else { AudioCodec::Opus };
        call.a.configure(secured(codec), call.now).unwrap();
        join(&mut call.a, &mut call.b);
    }
    let mut sources: Vec<u32> = call.at_a.iter().map(|got| got.ssrc).collect();
    assert_eq!(sources.len(), 200);
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), 200);
}

#[test]
fn who_comes_next_behind_a_switch_that_has_the_key_loses_one_packet_and_no_sentence() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let keys = SrtpKeys::new(suite, vec![1; 30], vec![2; 30]);
    let secured = LegConfig { srtp: Some(keys), ..config(AudioCodec::Pcma) };
    let mut call = Call::new(config(AudioCodec::Opus), secured);
    let (mut theirs, _) = srtp::session(&SrtpKeys::new(suite, vec![2; 30], vec![1; 30])).unwrap();
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..100u32 {
        // A stall of half a second on the way; later somebody else, without any SDP.
        call.until(20 * MS * n + if n >= 25 { 500 * MS } else { Duration::ZERO });
        if n == 50 {
            (trunk.ssrc, trunk.sequence, trunk.timestamp) = (0x1234, 100, 7);
        }
        let mut bytes = packet_of(trunk.next(160), &[0xd5; 160]);
        let len = bytes.len();
        bytes.resize(len + srtp::MAX_TRAILER, 0);
        let sealed = theirs.protect_rtp(&mut bytes, len).unwrap();
        call.arrive(Side::B, at(TRUNK), &bytes[..sealed]);
    }
    let report = call.b.report();
    assert_eq!((report.packets_received, report.packets_discarded), (99, 1));
}

/// One datagram of a stranger's making, or one that nearly fits.
#[derive(Debug, Clone)]
enum Thrown {
    Bytes(Vec<u8>),
    Rtp { kind: u8, step: i16, jump: u32, ssrc: u32, payload: Vec<u8> },
}

fn thrown() -> impl Strategy<Value = Thrown> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..80);
    let step = prop_oneof![8 => Just(1i16), 2 => -5..10i16, 1 => any::<i16>()];
    let jump = prop_oneof![8 => Just(960u32), 2 => 0..20_000u32, 1 => any::<u32>()];
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        (0..4u8, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(toc, rest)| [
            vec![toc << 3],
            rest
        ]
        .concat()),
    ];
    let rtp = (0..10u8, step, jump, 0..2u32, payload)
        .prop_map(|(kind, step, jump, ssrc, payload)| Thrown::Rtp { kind, step, jump, ssrc, payload });
    prop_oneof![1 => bytes.prop_map(Thrown::Bytes), 6 => rtp]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_arrives_the_bridge_lives_and_its_streams_stay_rtp(
        pair in 0..5usize,
        throws in proptest::collection::vec((any::<bool>(), 0..300u64, thrown()), 1..60),
    ) {
        use AudioCodec::{Opus, Pcma, Pcmu};
        let (a, b, ptime) =
            [(Opus, Pcma, 20), (Pcma, Opus, 60), (Pcma, Pcmu, 20), (Pcma, Pcma, 30), (Opus, Opus, 20)][pair];
        let mut to = config(b);
        to.ptime_ms = ptime;
        to.comfort_noise = b != Opus;
        let mut from = config(a);
        from.dtmf_mode = if pair == 2 { DtmfMode::Inband } else { DtmfMode::Rfc4733 };
        let mut call = Call::new(from, to);
        let (mut sequence, mut timestamp) = (0u16, 0u32);
        let mut time = Duration::ZERO;
        for (to_a, wait, throw) in throws {
            time += Duration::from_millis(wait);
            call.until(time);
            let side = if to_a { Side::A } else { Side::B };
            let settings = if to_a { call.config_a.clone() } else { call.config_b.clone() };
            match throw {
                Thrown::Bytes(bytes) => {
                    call.arrive(side, settings.remote_rtp, &bytes);
                }
                Thrown::Rtp { kind, step, jump, ssrc, payload } => {
                    sequence = sequence.wrapping_add_signed(step);
                    timestamp = timestamp.wrapping_add(jump);
                    let payload_type = match kind {
                        0 | 1 => 101,
                        2 => 13,
                        _ => settings.receive_payload_type,
                    };
                    let header = RtpHeader { payload_type, marker: false, sequence, timestamp, ssrc };
                    call.send(side, header, &payload);
                }
            }
        }
        for report in [call.a.report(), call.b.report()] {
            prop_assert!(report.mos_lq.is_none_or(|mos| (1.0..=4.5).contains(&mos)));
        }
    }
}

#[test]
fn packets_of_any_length_and_rtcp_bombs_are_counted_and_the_call_lives() {
    let mux = LegConfig { rtcp_mux: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(mux, config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let mut thrown = 0;
    for (n, packet) in opus_speech(100, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        let head = packet_of(app.header(), &[]);
        let with = |first: u8, rest: &[u8]| [&[first], &head[1..], rest].concat();
        let bombs = [
            vec![0x80],
            with(0x40, packet),                   // version 1
            with(0xa0, &[1, 2, 255]),             // more padding than packet
            with(0xa0, &[1, 2, 0]),               // padding of nothing
            with(0x90, &[0xbe, 0xde, 0xff, 255]), // an extension of 256 KiB
            with(0x8f, &[]),                      // fifteen sources that are not there
            packet_of(RtpHeader { payload_type: 12, ..app.header() }, &[0x55; 1_488]),
            [0x80, 201, 0, 1, 0, 0, 0, 7].repeat(180),
            [&[0x9f, 200, 0, 6][..], &[0; 24]].concat(), // 31 reports that are not there
            [&[0x80, 207, 0, 2, 0, 0, 0, 7][..], &[7, 0, 0xff, 0xff]].concat(), // a block beyond its packet
            vec![0x80, 200],
        ];
        for bomb in &bombs {
            thrown += 1;
            call.arrive(Side::A, at(APP), bomb);
        }
    }
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_lost), (100, 0));
    assert_eq!(report.packets_discarded, thrown);
    assert_eq!(call.at_b.len(), 100);
    assert_eq!(report.mos_lq, Some(4.37), "nobody heard it");
}

#[test]
fn a_flood_of_other_sources_from_the_peers_own_address_takes_nothing_over() {
    for ptime in [20usize, 40, 60] {
        let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Opus));
        let mut trunk = Talker::new(Side::A, 8);
        let mut thrown = 0;
        for (n, packet) in pcma_speech(100, 8 * ptime).iter().enumerate() {
            trunk.say(&mut call, 8 * ptime as u32, packet);
            // Ten packets a millisecond are ten thousand a second.
            for k in 0..10 * ptime as u32 {
                call.until(MS * (n * ptime) as u32 + MS * k / 10);
                thrown += 1;
                call.send(Side::A, flooding(&trunk, n, k, 10 * ptime as u32), &[0x2a; 160]);
            }
            call.until(MS * ((n + 1) * ptime) as u32);
        }
        let report = call.a.report();
        assert_eq!((report.packets_received, report.packets_lost), (100, 0), "{ptime} ms");
        assert_eq!(report.packets_discarded, thrown);
        assert!(call.at_b.iter().all(|got| got.ssrc == call.at_b[0].ssrc));
    }
}

/// A packet of a flood: of one source that counts well, its timestamps standing still or rising, or of many.
fn flooding(talker: &Talker, tick: usize, k: u32, a_tick: u32) -> RtpHeader {
    let number = tick as u32 / 3 * a_tick + k;
    let header = RtpHeader { sequence: number as u16, ..talker.header() };
    match tick % 3 {
        0 => RtpHeader { ssrc: 0xbad, ..header },
        1 => RtpHeader { ssrc: 0xbad, timestamp: number.wrapping_mul(160), ..header },
        _ => RtpHeader { ssrc: 0xbad + k, ..header },
    }
}

#[test]
fn a_flood_takes_nothing_over_while_the_app_is_silent() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let voice = opus_speech(300, 0);
    let mut thrown = 0;
    let mut said = 0;
    for (n, packet) in voice.iter().enumerate() {
        // Two seconds of voice, then a sign of life every 400 ms.
        if n < 100 || n % 20 == 0 {
            said += 1;
            app.say(&mut call, 960, packet);
        } else {
            app.timestamp = app.timestamp.wrapping_add(960);
        }
        for k in 0..200u32 {
            call.until(20 * MS * n as u32 + MS * k / 10);
            thrown += 1;
            call.send(Side::A, flooding(&app, n, k, 200), packet);
        }
    }
    let report = call.a.report();
    assert_eq!((report.packets_received, report.packets_lost), (said, 0));
    assert_eq!(report.packets_discarded, thrown);
}

#[test]
fn a_source_that_sends_far_more_than_time_passes_is_heard_at_twice_the_pace_of_time_at_most() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let voice = opus_speech(100, 0);
    for n in 0..5_000u32 {
        // Ten seconds of voice in each of five, all of it counted well.
        call.until(MS * n);
        app.say(&mut call, 960, &voice[n as usize % 100]);
    }
    let report = call.a.report();
    // Its timestamps are not believed any more: each packet may be one of 10 ms.
    assert!((250..=620).contains(&report.packets_received), "{} were heard", report.packets_received);
    assert_eq!(report.packets_received + report.packets_discarded, 5_000);
}

#[test]
fn an_identical_sdp_lets_no_stranger_in_while_the_app_is_silent() {
    let latching = LegConfig { latch: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(latching.clone(), config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let (real, stranger) = (at("203.0.113.5:40000"), at("203.0.113.66:1"));
    let packets = opus_speech(60, 0);
    for (n, packet) in packets[..50].iter().enumerate() {
        call.until(20 * MS * n as u32);
        call.arrive(Side::A, real, &packet_of(app.next(960), packet));
    }
    call.a.take_news();
    // A session refresh in a pause of the voice: its SDP says nothing new.
    call.until(1_300 * MS);
    let refresh = |call: &mut Call, config: &LegConfig| {
        call.a.configure(config.clone(), call.now).unwrap();
        join(&mut call.a, &mut call.b);
    };
    refresh(&mut call, &latching);
    let before = call.a.report().packets_discarded;
    call.arrive(Side::A, stranger, &packet_of(Talker::new(Side::A, 111).header(), &packets[0]));
    assert_eq!(call.a.report().packets_discarded, before + 1);
    assert_eq!(call.a.take_news().latched, None);
    app.timestamp = app.timestamp.wrapping_add(20 * 960);
    call.arrive(Side::A, real, &packet_of(app.next(960), &packets[50]));
    assert_eq!(call.a.report().packets_received, 51);

    // Who has been silent for two seconds may have moved, though the SDP's address is the old one.
    call.until(3_500 * MS);
    refresh(&mut call, &latching);
    let moved = at("203.0.113.5:40010");
    call.arrive(Side::A, moved, &packet_of(app.next(960), &packets[51]));
    assert_eq!(call.a.take_news().latched, Some(moved));

    // Another address announced is a new start at once.
    let announced = LegConfig { remote_rtp: at("198.51.100.9:4000"), ..latching };
    refresh(&mut call, &announced);
    call.arrive(Side::A, real, &packet_of(app.next(960), &packets[52]));
    assert_eq!(call.a.take_news().latched, Some(real));
}

#[test]
fn a_phone_that_moved_right_after_the_same_sdp_is_heard_again_once_nothing_comes_the_old_way() {
    let latching = LegConfig { latch: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(latching.clone(), config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let (real, moved) = (at("203.0.113.5:40000"), at("203.0.113.5:40010"));
    let packets = opus_speech(300, 0);
    let mut latched = None;
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        if n == 50 {
            call.a.configure(latching.clone(), call.now).unwrap();
            join(&mut call.a, &mut call.b);
            call.a.take_news();
        }
        let from = if n < 50 { real } else { moved };
        call.arrive(Side::A, from, &packet_of(app.next(960), packet));
        latched = latched.or(call.a.take_news().latched.filter(|_| n >= 50).map(|to| (n, to)));
    }
    // The last packet from the old place came at 980 ms.
    assert_eq!(latched, Some((149, moved)));
}

#[test]
fn a_flood_of_random_sources_at_an_armed_latch_does_not_keep_the_far_end_out() {
    let latching = LegConfig { latch: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(latching.clone(), config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let (real, moved) = (at("203.0.113.5:40000"), at("203.0.113.99:40010"));
    let packets = opus_speech(150, 0);
    for (n, packet) in packets[..50].iter().enumerate() {
        call.until(20 * MS * n as u32);
        call.arrive(Side::A, real, &packet_of(app.next(960), packet));
    }
    // The app is in another network now, says so, and begins a new stream.
    let announced = LegConfig { remote_rtp: at("10.0.0.7:4000"), ..latching };
    call.a.configure(announced, call.now).unwrap();
    join(&mut call.a, &mut call.b);
    call.a.take_news();
    let mut app = Talker { ssrc: 0x00c0_ffee, ..Talker::new(Side::A, 111) };
    let (mut latched, mut random) = (None, 1u64);
    for (n, packet) in packets[50..].iter().enumerate() {
        for k in 0..200u32 {
            call.until(1_000 * MS + 20 * MS * n as u32 + MS * k / 10);
            if k == 100 {
                call.arrive(Side::A, moved, &packet_of(app.next(960), packet));
            }
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let stray = RtpHeader {
                ssrc: (random >> 32) as u32,
                sequence: (random >> 16) as u16,
                timestamp: (random >> 24) as u32,
                ..app.header()
            };
            call.arrive(Side::A, at("203.0.113.66:9"), &packet_of(stray, packet));
        }
        latched = latched.or(call.a.take_news().latched.map(|to| (n, to)));
    }
    let (after, to) = latched.expect("somebody is heard");
    assert_eq!(to, moved);
    assert_eq!(call.a.report().packets_received, 50 + 100 - after as u64, "each of its packets since then");
}

#[test]
fn rtcp_from_an_unknown_port_is_believed_only_if_it_knows_the_stream() {
    use crate::media::rtcp::{self, Compound};
    let latching = LegConfig { latch: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(latching, config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let real = at("203.0.113.5:40000");
    call.arrive(Side::A, real, &packet_of(app.next(960), &opus_speech(1, 0)[0]));
    let mut hear = |port: u16, ssrc: u32| {
        let compound = Compound { ssrc, sender: None, report: None, voip: None, cname: "app", bye: false };
        let mut bytes = [0; rtcp::MAX_WRITTEN];
        let len = compound.write(&mut bytes).unwrap();
        let datagram = Datagram {
            from: SocketAddr::new(real.ip(), port),
            arrival: call.now.instant,
            bytes: &mut bytes[..len],
        };
        let before = call.a.report().packets_discarded;
        call.a.receive_rtcp(datagram, Channel::Rtcp, call.now);
        call.a.report().packets_discarded == before
    };
    assert!(!hear(50_000, 5), "somebody else behind the same address");
    assert!(hear(40_007, app.ssrc), "the app, wherever its router put it");
    assert!(!hear(50_000, app.ssrc), "strict from then on");
}

#[test]
fn nothing_is_sent_to_anybody_but_the_peers_whoever_sends() {
    let latching = LegConfig { latch: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(latching, config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let voice = pcma_speech(200, 160);
    for (n, packet) in opus_speech(200, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        trunk.say(&mut call, 160, &voice[n]);
        let stranger = SocketAddr::new(at("203.0.113.66:1").ip(), n as u16 + 1);
        call.arrive(Side::A, stranger, &packet_of(app.header(), packet));
        call.arrive(Side::B, stranger, &packet_of(trunk.header(), &voice[n]));
    }
    assert!(call.at_a.iter().all(|got| got.to == at(APP)));
    assert!(call.at_b.iter().all(|got| got.to == at(TRUNK)));
    assert_eq!((call.a.report().packets_discarded, call.b.report().packets_discarded), (200, 200));
}
