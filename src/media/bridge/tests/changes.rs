//! What changes in the middle of a call: packet lengths, codecs, addresses, numbers; and two clocks that part.

use super::*;
use crate::media::codec::opus::packet_samples;
use crate::media::recovery::wire::{ImpairedWire, Impairments, Loss};
use crate::media::rtcp::{self, Compound, Report};

pub(super) fn reconfigure(call: &mut Call, side: Side, config: LegConfig) {
    let now = call.now;
    match side {
        Side::A => {
            call.config_a = config.clone();
            call.a.configure(config, now).unwrap();
        }
        Side::B => {
            call.config_b = config.clone();
            call.b.configure(config, now).unwrap();
        }
    }
    join(&mut call.a, &mut call.b);
}

/// Each packet begins where the one before it ended.
fn assert_seamless(got: &[Got], length: impl Fn(&Got) -> u32) {
    for pair in got.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "after {:?}", pair[0].at);
        let ends = pair[0].timestamp.wrapping_add(length(&pair[0]));
        assert_eq!(pair[1].timestamp, ends, "after {:?}", pair[0].at);
    }
}

#[test]
fn the_wanted_packet_length_changes_in_the_middle_of_a_call() {
    let lengths = [20u8, 60, 10, 30, 40, 20];
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (opus, pcma) = (opus_speech(300, 0), pcma_speech(300, 160));
    for n in 0..300 {
        call.until(20 * MS * n as u32);
        if n % 50 == 0 {
            let ptime_ms = lengths[n / 50];
            reconfigure(&mut call, Side::A, LegConfig { ptime_ms, ..config(AudioCodec::Opus) });
            reconfigure(&mut call, Side::B, LegConfig { ptime_ms, ..config(AudioCodec::Pcma) });
        }
        app.say(&mut call, 960, &opus[n]);
        trunk.say(&mut call, 160, &pcma[n]);
    }
    assert_seamless(&call.at_b, |got| got.payload.len() as u32);
    assert_seamless(&call.at_a, |got| packet_samples(&got.payload, 48_000).unwrap() as u32);
    for (index, ptime_ms) in lengths.iter().enumerate() {
        let settled = |got: &&Got| {
            let from = 1_000 * MS * index as u32;
            got.at >= from + 200 * MS && got.at < from + 1_000 * MS
        };
        let mut to_trunk = call.at_b.iter().filter(settled);
        assert!(to_trunk.all(|got| got.payload.len() == usize::from(*ptime_ms) * 8), "{ptime_ms} ms");
        let opus_ms = [60, 40, 20, 10].into_iter().find(|ms| ms <= ptime_ms).unwrap();
        let mut to_app = call.at_a.iter().filter(settled);
        assert!(
            to_app.all(|got| packet_samples(&got.payload, 1_000) == Some(usize::from(opus_ms))),
            "{ptime_ms} ms"
        );
    }
}

#[test]
fn the_far_sides_packet_length_changes_in_the_middle_of_a_call() {
    let lengths = [20usize, 60, 10, 30, 50, 40, 20, 60];
    let said = speech(0, lengths.len() * 9_600);
    let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let mut at = 0usize;
    for ms in lengths {
        let samples = ms * 8;
        for pcm in said[at..at + 9_600].chunks_exact(samples) {
            call.until(MS * (at / 8) as u32);
            // Opus has no frame of 30 or 50 ms; an app sends such a time as several packets.
            for part in pcm.chunks(if matches!(ms, 30 | 50) { 80 } else { samples }) {
                let mut packet = [0; 1276];
                let Ok(Encoded::Packet(len)) = encoder.encode(part, &mut packet) else {
                    unreachable!("no DTX")
                };
                app.say(&mut call, 6 * part.len() as u32, &packet[..len]);
            }
            let payload: Vec<u8> = pcm.iter().map(|sample| Law::A.compress(*sample)).collect();
            trunk.say(&mut call, samples as u32, &payload);
            at += samples;
        }
    }
    assert_continuous(&call.at_b, 160);
    assert_continuous(&call.at_a, 960);
    assert_eq!((call.at_b.len(), call.at_a.len()), (at / 160, at / 160), "all that was said");
}

#[test]
fn a_packet_of_another_length_that_comes_late_leaves_no_delay_behind() {
    for to in [AudioCodec::Pcma, AudioCodec::Pcmu] {
        let mut call = Call::new(config(AudioCodec::Pcma), config(to));
        let mut trunk = Talker::new(Side::A, 8);
        let mut due = Duration::ZERO;
        for n in 0..150 {
            // From the fiftieth on they are longer, and the second of those comes 90 ms late.
            let ms = if n < 50 { 20 } else { 30 };
            let samples = 8 * ms as usize;
            call.until(due + if n == 51 { 90 * MS } else { Duration::ZERO });
            trunk.say(&mut call, samples as u32, &pcma_speech(1, samples)[0]);
            due += MS * ms;
        }
        assert_seamless(&call.at_b, |got| got.payload.len() as u32);
        // Of 30 ms that are cut into 20, every other rest waits for the next packet: 10 ms.
        let late = super::recovery::behind(&call.at_b, 8);
        assert!(late[70..].iter().all(|ms| *ms <= 11), "{to}: {late:?} ms");
    }
}

#[test]
fn every_packet_length_goes_with_every_other() {
    let said = speech(0, 3 * 8_000);
    for ms_in in [10usize, 20, 30, 40, 50, 60] {
        for ptime_ms in [10u8, 20, 30, 40, 50, 60] {
            let (mut to_app, mut to_trunk) = (config(AudioCodec::Opus), config(AudioCodec::Pcma));
            (to_app.ptime_ms, to_trunk.ptime_ms) = (ptime_ms, ptime_ms);
            let mut call = Call::new(to_app, to_trunk);
            let mut encoder = Encoder::new(8_000, config(AudioCodec::Opus).opus).unwrap();
            let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
            for (n, pcm) in said.chunks_exact(ms_in * 8).enumerate() {
                call.until(MS * (ms_in * n) as u32);
                let payload: Vec<u8> = pcm.iter().map(|sample| Law::A.compress(*sample)).collect();
                trunk.say(&mut call, 8 * ms_in as u32, &payload);
                // Opus has no frame of 30 or 50 ms; an app sends such a time as several packets.
                for part in pcm.chunks(if matches!(ms_in, 30 | 50) { 80 } else { pcm.len() }) {
                    let mut packet = [0; 1276];
                    let Ok(Encoded::Packet(len)) = encoder.encode(part, &mut packet) else {
                        unreachable!("no DTX")
                    };
                    app.say(&mut call, 6 * part.len() as u32, &packet[..len]);
                }
            }
            let case = format!("{ms_in} to {ptime_ms} ms");
            assert!(call.at_b.iter().all(|got| got.payload.len() == 8 * usize::from(ptime_ms)), "{case}");
            assert_continuous(&call.at_b, 8 * u32::from(ptime_ms));
            let opus_ms = [60, 40, 20, 10].into_iter().find(|ms| ms <= &ptime_ms).unwrap();
            assert_continuous(&call.at_a, 48 * u32::from(opus_ms));
            let missing = |got: usize, ms: u8| 3_000 - got * usize::from(ms);
            assert!(missing(call.at_b.len(), ptime_ms) < 60 + ms_in, "{case}");
            assert!(missing(call.at_a.len(), opus_ms) < 60 + ms_in, "{case}");
        }
    }
}

#[test]
fn a_codec_changes_and_changes_back_by_reinvite() {
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (opus, pcma) = (opus_speech(150, 0), pcma_speech(150, 160));
    for n in 0..150 {
        call.until(20 * MS * n as u32);
        if n == 50 || n == 100 {
            let codec = if n == 50 { AudioCodec::Pcmu } else { AudioCodec::Opus };
            let changed = LegConfig { remote_rtp: at(APP), ..config(codec) };
            reconfigure(&mut call, Side::A, changed);
            app.payload_type = if n == 50 { 0 } else { 111 };
        }
        if (50..100).contains(&n) {
            let mut mu = vec![0; 160];
            Law::A.translate_into(Law::Mu, &pcma[n], &mut mu);
            app.say(&mut call, 160, &mu);
        } else {
            app.say(&mut call, 960, &opus[n]);
        }
        trunk.say(&mut call, 160, &pcma[n]);
    }
    // Towards the trunk it is one stream all the time.
    assert_eq!(call.at_b.len(), 150);
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((160..=320).contains(&step), "{step}");
    }
    // Towards the app another clock is another source (RFC 7160 §4.1).
    let parts: Vec<&[Got]> = [&call.at_a[..50], &call.at_a[50..100], &call.at_a[100..]].into();
    for (part, (payload_type, step)) in parts.iter().zip([(111, 960), (0, 160), (111, 960)]) {
        assert!(part.iter().all(|got| got.payload_type == payload_type));
        assert_continuous(part, step);
    }
    assert!(parts.windows(2).all(|pair| pair[0][0].ssrc != pair[1][0].ssrc));
}

#[test]
fn an_address_changes_by_reinvite_and_the_stream_goes_on() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let elsewhere = "192.0.2.99:7000";
    for (n, packet) in opus_speech(60, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        if n == 30 {
            let moved = LegConfig { remote_rtp: at(elsewhere), ..config(AudioCodec::Pcma) };
            reconfigure(&mut call, Side::B, moved);
            let header = Talker::new(Side::B, 8).header();
            let mut bytes = [0x55; 172];
            header.write(&[0xd5; 160], &mut bytes).unwrap();
            call.arrive(Side::B, at(TRUNK), &bytes);
            assert!(call.at_a.is_empty(), "the old place is not heard any more");
        }
        app.say(&mut call, 960, packet);
    }
    assert_continuous(&call.at_b, 160);
    assert!(call.at_b[..30].iter().all(|got| got.to == at(TRUNK)));
    assert!(call.at_b[30..].iter().all(|got| got.to == at(elsewhere)));
}

#[test]
fn each_side_has_its_own_payload_types_and_event_clocks() {
    let mut a = config(AudioCodec::Opus);
    (a.send_payload_type, a.receive_payload_type) = (120, 97);
    a.dtmf = Some(DtmfFormat { send_payload_type: 99, receive_payload_type: 98, clock_rate: 8_000 });
    let mut call = Call::new(a, config(AudioCodec::Pcma));
    let (mut app, mut trunk) = (Talker::new(Side::A, 97), Talker::new(Side::B, 8));
    let (opus, pcma) = (opus_speech(20, 0), pcma_speech(20, 160));
    for n in 0..20 {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, &opus[n]);
        trunk.say(&mut call, 160, &pcma[n]);
    }
    assert!(call.at_a.iter().all(|got| got.payload_type == 120));
    assert!(call.at_b.iter().all(|got| got.payload_type == 8));
    // Events beside Opus in the clock of a telephone, as some app stacks have them.
    let press = crate::media::dtmf::Event { code: 3, end: false, volume: 10, duration: 480 };
    let (at_app, at_trunk) = (call.at_a.len(), call.at_b.len());
    let header = RtpHeader { payload_type: 98, marker: true, ..app.header() };
    call.send(Side::A, header, &press.to_bytes());
    let header = RtpHeader { payload_type: 101, marker: true, ..trunk.header() };
    call.send(Side::B, header, &press.to_bytes());
    for (got, payload_type) in [(&call.at_a[at_app], 99), (&call.at_b[at_trunk], 101)] {
        assert_eq!(got.payload_type, payload_type);
        assert_eq!(got.payload, press.to_bytes(), "8000 and 8000: the same duration");
    }
}

/// The app says what it lost of our stream since the last time, in 256ths.
fn report_loss(call: &mut Call, fraction_lost: u8) {
    report(call, fraction_lost, 0, 0);
}

/// The same in answer to our last sender report, so that the round trip shows.
fn report_loss_and_way(call: &mut Call, fraction_lost: u8, rtt_ms: u32) {
    let sr = call.rtcp_at_a.last().unwrap();
    let last_sr = u32::from_be_bytes(sr[10..14].try_into().unwrap());
    let now = rtcp::NtpTime::from_unix_millis(call.now.unix_ms).middle();
    report(call, fraction_lost, last_sr, now.wrapping_sub(last_sr).wrapping_sub(65_536 * rtt_ms / 1_000));
}

fn report(call: &mut Call, fraction_lost: u8, last_sr: u32, delay_since_last_sr: u32) {
    let ssrc = call.at_a.last().unwrap().ssrc;
    let reception = crate::media::reception::Reception {
        ssrc,
        fraction_lost,
        cumulative_lost: 0,
        highest_sequence: 1,
        jitter: 0,
    };
    let report = Some(Report { reception, last_sr, delay_since_last_sr });
    let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "app", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let datagram =
        Datagram { from: call.config_a.remote_rtcp, arrival: call.now.instant, bytes: &mut bytes[..len] };
    call.a.receive_rtcp(datagram, Channel::Rtcp, call.now);
}

#[test]
fn a_full_network_of_the_app_gets_longer_packets_and_fewer_bits_and_them_back_when_it_is_calm() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    let voice = pcma_speech(250, 160);
    for n in 0..6_000usize {
        call.until(20 * MS * n as u32);
        trunk.say(&mut call, 160, &voice[n % 250]);
        // Full from the tenth to the thirtieth second.
        if n % 250 == 249 {
            report_loss(&mut call, if (500..1_500).contains(&n) { 64 } else { 0 });
        }
    }
    assert_seamless(&call.at_a, |got| packet_samples(&got.payload, 48_000).unwrap() as u32);
    let second = |from: u32| {
        let within = |got: &&Got| got.at >= 1_000 * MS * from && got.at < 1_000 * MS * (from + 5);
        let packets: Vec<&Got> = call.at_a.iter().filter(within).collect();
        let bits = packets.iter().map(|got| (got.bytes.len() + 28) * 8).sum::<usize>() / 5;
        (bits, packet_samples(&packets.last().unwrap().payload, 1_000).unwrap())
    };
    let ((before, short), (full, long), (after, short_again)) = (second(5), second(30), second(115));
    assert_eq!((short, long, short_again), (20, 60, 20));
    assert!(full < before * 6 / 10, "{full} bit/s of {before}");
    assert!(after > before * 9 / 10, "{after} bit/s of {before}");
}

#[test]
fn a_packet_lost_now_and_then_in_a_silence_makes_none_behind_it_longer() {
    let mut to = config(AudioCodec::Opus);
    to.opus.dtx = true;
    let mut call = Call::new(to, config(AudioCodec::Pcma));
    let mut trunk = Talker::new(Side::B, 8);
    let (voice, silence) = (pcma_speech(250, 160), vec![0xd5; 160]);
    for n in 0..3_500usize {
        call.until(20 * MS * n as u32);
        // A minute of silence between two spells of voice: a dozen packets a report.
        let payload = if (250..3_250).contains(&n) { &silence } else { &voice[n % 250] };
        trunk.say(&mut call, 160, payload);
        if n % 250 == 249 {
            report_loss(&mut call, if n / 250 % 5 == 2 { 43 } else { 0 });
        }
    }
    assert_eq!(packet_samples(&call.at_a.last().unwrap().payload, 1_000), Some(20));
}

#[test]
fn an_app_that_moves_to_a_network_with_a_longer_way_keeps_its_short_packets() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    let voice = pcma_speech(250, 160);
    for n in 0..2_000usize {
        call.until(20 * MS * n as u32);
        if n == 500 {
            let (remote_rtp, remote_rtcp) = (at("198.51.100.77:7000"), at("198.51.100.77:7001"));
            let moved = LegConfig { remote_rtp, remote_rtcp, ..config(AudioCodec::Opus) };
            reconfigure(&mut call, Side::A, moved);
        }
        trunk.say(&mut call, 160, &voice[n % 250]);
        if n % 250 == 249 {
            report_loss_and_way(&mut call, 13, if n < 500 { 20 } else { 380 });
        }
    }
    assert_eq!(packet_samples(&call.at_a.last().unwrap().payload, 1_000), Some(20));
}

/// A transfer: another trunk leg takes the place of the first.
fn replace_trunk(call: &mut Call) {
    part(&mut call.a, &mut call.b);
    call.b = Leg::new(LegKind::Trunk, 77, call.now.instant);
    call.b.configure(call.config_b.clone(), call.now).unwrap();
    join(&mut call.a, &mut call.b);
}

#[test]
fn what_an_app_has_reported_holds_for_whoever_speaks_to_it_next() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    let voice = pcma_speech(250, 160);
    let mut talk = |call: &mut Call, seconds: std::ops::Range<u32>, full: bool| {
        for n in seconds.start * 50..seconds.end * 50 {
            call.until(20 * MS * n);
            trunk.say(call, 160, &voice[n as usize % 250]);
            if full && n % 250 == 249 {
                report_loss(call, 64);
            }
        }
    };
    talk(&mut call, 0..25, true);
    let sizes = |got: &[Got]| got.iter().map(|got| got.payload.len()).sum::<usize>() / got.len();
    let before = sizes(&call.at_a[call.at_a.len() - 50..]);
    replace_trunk(&mut call);
    let from = call.at_a.len();
    talk(&mut call, 25..30, false);
    let got = &call.at_a[from..];
    assert_eq!(packet_samples(&got[0].payload, 1_000), Some(60), "the first packet of the new source");
    assert!(sizes(got).abs_diff(before) < before / 4, "{} bytes after {before}", sizes(got));
}

#[test]
fn redundancy_for_what_an_app_has_reported_to_lose_goes_on_with_whoever_speaks_to_it_next() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    let voice = pcma_speech(250, 160);
    for n in 0..500 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &voice[n as usize % 250]);
        if n % 250 == 249 {
            // A tenth: too little for a network that is full.
            report_loss(&mut call, 26);
        }
    }
    let redundant = |got: &[Got]| {
        got.iter().filter(|got| crate::media::codec::opus::has_redundancy(&got.payload)).count()
    };
    let before = redundant(&call.at_a[call.at_a.len() - 200..]);
    assert!(before > 60, "{before} of 200 packets");
    replace_trunk(&mut call);
    let from = call.at_a.len();
    for n in 500..700 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &voice[n as usize % 250]);
    }
    let after = redundant(&call.at_a[from..]);
    assert!(after > before / 2, "{after} of 200 packets after {before}");
}

/// Packets of 20 ms in an hour.
const HOUR: u32 = 180_000;

/// A wire that does nothing but let its sender's clock be slow by so many millionths.
fn drifting(drift_ppm: i32) -> ImpairedWire {
    ImpairedWire::new(Impairments { drift_ppm, ..Impairments::default() }, 1)
}

/// Lets time pass until the packet of that number comes.
fn until_it_comes(call: &mut Call, wire: &mut ImpairedWire, n: u32) {
    wire.carry(20 * MS * n).for_each(|at| call.until(at));
}

/// An hour of packets whose sender's clock is slow by so many millionths.
fn hour(call: &mut Call, side: Side, ppm: i32, payloads: &[Vec<u8>], pauses: bool) -> Vec<(u32, usize)> {
    let (payload_type, step) = if side == Side::A { (111, 960) } else { (8, 160) };
    let (mut talker, mut wire) = (Talker::new(side, payload_type), drifting(ppm));
    let mut seen = Vec::new();
    for n in 0..HOUR {
        until_it_comes(call, &mut wire, n);
        // Three seconds of voice, three of nothing but a sign of life every 400 ms.
        let silent = pauses && n / 150 % 2 == 1 && n % 20 != 0;
        if silent {
            talker.timestamp = talker.timestamp.wrapping_add(step);
            continue;
        }
        let before = if side == Side::A { call.at_b.len() } else { call.at_a.len() };
        let header = talker.next(step);
        call.send(side, header, &payloads[n as usize % payloads.len()]);
        seen.push((header.timestamp, before));
    }
    seen
}

#[test]
fn a_clock_that_is_200_ppm_off_leaves_no_trace_in_an_hour_from_the_app() {
    for ppm in [-200, 200] {
        let mut call = Call::opus_to_pcma();
        let seen = hour(&mut call, Side::A, ppm, &opus_speech(150, 0), true);
        assert_continuous(&call.at_b, 160);
        assert!(call.at_b.len().abs_diff(180_000) <= 4, "{} packets", call.at_b.len());
        // Every packet lies where the app said, to the sample: nothing was put in, nothing left out.
        let origin = call.at_b[0].timestamp;
        for (timestamp, index) in seen {
            let place = call.at_b[index].timestamp.wrapping_sub(origin);
            assert_eq!(place, timestamp.wrapping_sub(u32::MAX - 5_000) / 6, "{ppm} ppm, packet {index}");
        }
    }
}

#[test]
fn a_clock_that_is_off_on_a_bad_network_costs_no_more_than_the_network_does() {
    let voice = opus_speech(150, 10);
    for drift_ppm in [-200, 200] {
        let loss = Loss::Random(0.03);
        let bad = Impairments { loss, jitter: 30 * MS, drift_ppm, ..Impairments::default() };
        let (mut wire, mut app) = (ImpairedWire::new(bad, 4), Talker::new(Side::A, 111));
        let mut arrivals = Vec::new();
        for n in 0..HOUR {
            // Three seconds of voice, three with a sign of life every 400 ms.
            if n / 150 % 2 == 1 && n % 20 != 0 {
                app.timestamp = app.timestamp.wrapping_add(960);
                continue;
            }
            let header = app.next(960);
            arrivals.extend(wire.carry(20 * MS * n).map(|at| (at, n, header)));
        }
        arrivals.sort_by_key(|(at, n, _)| (*at, *n));
        let mut call = Call::opus_to_pcma();
        let (mut late, mut made_up) = (0, 0);
        for (at, n, header) in arrivals {
            call.until(at);
            let outcome = call.send(Side::A, header, &voice[n as usize % 150]);
            late += u64::from(outcome.too_late);
            made_up += u64::from(outcome.recovered_fec + outcome.recovered_plc);
        }
        assert_continuous(&call.at_b, 160);
        assert!(call.at_b.len().abs_diff(HOUR as usize) <= 25, "{drift_ppm} ppm: {}", call.at_b.len());
        let lost = call.a.report().packets_lost;
        assert!(late <= 30, "{drift_ppm} ppm: {late} came too late");
        assert!(made_up <= lost + 30, "{drift_ppm} ppm: {made_up} made up for {lost}");
    }
}

#[test]
fn a_clock_that_is_200_ppm_off_leaves_no_trace_in_an_hour_from_the_trunk() {
    for ppm in [-200, 200] {
        let mut to = config(AudioCodec::Opus);
        to.opus.complexity = 0;
        to.ptime_ms = 60;
        let mut call = Call::new(to, config(AudioCodec::Pcma));
        hour(&mut call, Side::B, ppm, &pcma_speech(150, 160), false);
        assert_continuous(&call.at_a, 2_880);
        assert_eq!(call.at_a.len(), 60_000);
    }
}

#[test]
fn a_clock_that_is_200_ppm_off_leaves_no_trace_in_an_hour_of_a_trunk_that_describes_its_silence() {
    let voice = pcma_speech(150, 160);
    for ppm in [-200, 200] {
        let mut to = config(AudioCodec::Opus);
        (to.opus.complexity, to.opus.dtx) = (0, true);
        let mut call = Call::new(to, config(AudioCodec::Pcma));
        let (mut trunk, mut wire) = (Talker::new(Side::B, 8), drifting(ppm));
        let (begin, mut spoken, mut farthest) = (trunk.timestamp, 0, 0);
        for n in 0..HOUR {
            until_it_comes(&mut call, &mut wire, n);
            // Three seconds of voice, three in which it only says what its silence is like.
            if n / 150 % 2 == 1 {
                if n % 150 % 20 == 0 {
                    let header = RtpHeader { payload_type: 13, ..trunk.next(160) };
                    call.send(Side::B, header, &[60]);
                } else {
                    trunk.timestamp = trunk.timestamp.wrapping_add(160);
                }
                continue;
            }
            let before = call.at_a.len();
            let said = trunk.timestamp.wrapping_sub(begin) * 6;
            trunk.say(&mut call, 160, &voice[n as usize % 150]);
            if let Some(got) = call.at_a.get(before) {
                let heard = got.timestamp.wrapping_sub(call.at_a[0].timestamp);
                spoken += 1;
                farthest = farthest.max(heard.abs_diff(said));
            }
        }
        assert!(spoken > 80_000, "{ppm} ppm: {spoken} packets of voice");
        assert!(farthest <= 2 * 960, "{ppm} ppm: {farthest} units from where it was said");
    }
}

#[test]
fn a_clock_that_is_200_ppm_off_costs_nothing_of_a_voice_behind_twenty_minutes_of_described_silence() {
    const SILENT: std::ops::Range<u32> = 50..60_050;
    for (ppm, codec) in
        [-200, 200].into_iter().flat_map(|ppm| [(ppm, AudioCodec::Opus), (ppm, AudioCodec::Pcma)])
    {
        let mut to = config(codec);
        to.opus.complexity = 0;
        let mut call = Call::new(config(AudioCodec::Pcma), to);
        let (mut trunk, mut wire) = (Talker::new(Side::A, 8), drifting(ppm));
        let begin = trunk.timestamp;
        let mut back = None;
        for n in 0..SILENT.end + 10 {
            until_it_comes(&mut call, &mut wire, n);
            if !SILENT.contains(&n) {
                back = back.filter(|_| n > SILENT.end).or(Some((call.at_b.len(), trunk.timestamp)));
                assert!(!trunk.say(&mut call, 160, &pcma_speech(1, 160)[0]).too_late);
            } else if n % 20 == 10 {
                let header = RtpHeader { payload_type: 13, ..trunk.next(160) };
                call.send(Side::A, header, &[60]);
            } else {
                trunk.timestamp = trunk.timestamp.wrapping_add(160);
            }
        }
        let case = format!("{ppm} ppm to {codec}");
        let length = |got: &Got| match codec {
            AudioCodec::Opus => packet_samples(&got.payload, 48_000).unwrap() as u32,
            AudioCodec::Pcma | AudioCodec::Pcmu => got.payload.len() as u32,
        };
        assert_seamless(&call.at_b, length);
        let (before, said) = back.unwrap();
        let heard = call.at_b.last().unwrap().timestamp.wrapping_sub(call.at_b[0].timestamp);
        let heard = heard / (codec.clock_rate() / 8_000);
        let last_said = said.wrapping_sub(begin).wrapping_add(9 * 160);
        assert!(call.at_b.len() >= before + 5, "{case}");
        assert!(heard.abs_diff(last_said) <= 90 * 8, "{case}: {heard} for {last_said}");
    }
}
