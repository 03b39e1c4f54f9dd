//! RTCP on both legs of a bridge.

use super::*;
use crate::media::reception::Reception;
use crate::media::rtcp::{self, Compound, NtpTime, Report};

#[test]
fn senders_report_packets_and_receivers_report_loss() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(100, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        if n % 10 == 5 {
            app.next(960);
        } else {
            app.say(&mut call, 960, packet);
        }
    }
    call.until(12_000 * MS);
    let sr = &call.rtcp_at_b[0];
    assert_eq!(sr[1], 200, "we sent to the trunk: an SR");
    let packets = u32::from_be_bytes(sr[20..24].try_into().unwrap());
    assert!(packets > 30 && packets < 50, "{packets} packets within 0.8 s");
    let rr = call.rtcp_at_a.last().unwrap();
    assert_eq!(rr[1], 201, "we sent nothing to the app: an RR");
    let about_app = rtcp::parse(rr, 0xabcd).unwrap().about_us.unwrap();
    assert_eq!(about_app.reception.cumulative_lost, 10);
    assert!(call.rtcp_at_a.len() >= 2, "every five seconds or so");
}

/// The far side of the trunk's leg reports on the stream it gets, 40 ms after our SR, having waited 10 ms.
fn answer_first_sr(call: &mut Call, fraction_lost: u8) {
    let last_sr = u32::from_be_bytes(call.rtcp_at_b[0][10..14].try_into().unwrap());
    let now = NtpTime::from_unix_millis(call.now.unix_ms).middle();
    let delay = now.wrapping_sub(last_sr).wrapping_sub(65_536 * 30 / 1000);
    report_on_first_sr(call, fraction_lost, delay, call.now.instant);
}

/// The same, having waited so many 65,536ths of a second; it arrives at `arrival` and is read now.
fn report_on_first_sr(call: &mut Call, fraction_lost: u8, delay_since_last_sr: u32, arrival: Instant) {
    let last_sr = u32::from_be_bytes(call.rtcp_at_b[0][10..14].try_into().unwrap());
    report_on_sr(call, last_sr, fraction_lost, delay_since_last_sr, arrival);
}

fn report_on_sr(
    call: &mut Call,
    last_sr: u32,
    fraction_lost: u8,
    delay_since_last_sr: u32,
    arrival: Instant,
) {
    let ssrc = u32::from_be_bytes(call.rtcp_at_b[0][4..8].try_into().unwrap());
    let reception = Reception { ssrc, fraction_lost, cumulative_lost: 4, highest_sequence: 1, jitter: 80 };
    let report = Some(Report { reception, last_sr, delay_since_last_sr });
    let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let datagram = Datagram { from: call.config_b.remote_rtcp, arrival, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
}

#[test]
fn the_far_sides_report_gives_round_trip_loss_jitter_and_conversational_quality() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut trunk = Talker::new(Side::B, 8);
    for (n, packet) in opus_speech(50, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        trunk.say(&mut call, 160, &[0xd5; 160]);
    }
    assert_eq!(call.b.report().rtt_ms, None);
    answer_first_sr(&mut call, 26);
    let report = call.b.report();
    let rtt = report.rtt_ms.unwrap();
    assert!((29.0..31.0).contains(&rtt), "{rtt}");
    assert_eq!(report.remote_jitter_ms, Some(10.0));
    assert_eq!(report.remote_loss, Some(4.0 / 50.0));
    assert!((4.3..4.42).contains(&report.mos_cq.unwrap()));
    assert!(report.mos_lq.unwrap() > report.mos_cq.unwrap());
}

#[test]
fn a_time_that_we_never_told_or_that_nobody_says_he_kept_makes_no_round_trip() {
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    for (n, packet) in opus_speech(50, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        trunk.say(&mut call, 160, &[0xd5; 160]);
    }
    let (now, arrival) = (NtpTime::from_unix_millis(call.now.unix_ms).middle(), call.now.instant);
    let told = u32::from_be_bytes(call.rtcp_at_b[0][10..14].try_into().unwrap());
    // The peer's own clock, which is right, 300 ms ago; and our time, as if it had come this very moment.
    report_on_sr(&mut call, now.wrapping_sub(65_536 * 300 / 1000), 26, 65_536 * 10 / 1000, arrival);
    report_on_sr(&mut call, told, 26, 0, arrival);
    let report = call.b.report();
    assert_eq!((report.rtt_ms, report.mos_cq), (None, None));
    assert_eq!(report.remote_loss, Some(4.0 / 50.0), "what it counts is worth as much as ever");
    report_on_sr(&mut call, told, 26, 65_536 * 10 / 1000, arrival);
    assert!(call.b.report().rtt_ms.is_some());
}

/// The trunk's far side reports as `sender` on a source that is not ours: its SR, and a block with this LSR that it kept
/// for 10 ms.
fn report_as_another(call: &mut Call, sender: u32, from: SocketAddr, last_sr: u32) -> NtpTime {
    let ntp = NtpTime::from_unix_millis(call.now.unix_ms - 7_000);
    let info = rtcp::SenderInfo { ntp, rtp_timestamp: 1, packets: 40, octets: 6_400 };
    let reception =
        Reception { ssrc: 0x7777, fraction_lost: 26, cumulative_lost: 4, highest_sequence: 1, jitter: 80 };
    let report = Some(Report { reception, last_sr, delay_since_last_sr: 65_536 * 10 / 1000 });
    let compound =
        Compound { ssrc: sender, sender: Some(info), report, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let datagram = Datagram { from, arrival: call.now.instant, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
    ntp
}

#[test]
fn a_peer_whose_reports_name_other_sources_than_its_packets_has_a_round_trip_too() {
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let mut talk = |call: &mut Call, reports: usize| {
        let voice = opus_speech(10, 0);
        while call.rtcp_at_b.len() < reports {
            call.until(call.now.instant - call.start + 20 * MS);
            app.say(call, 960, &voice[0]);
            trunk.say(call, 160, &[0xd5; 160]);
        }
        call.until(call.now.instant - call.start + 50 * MS);
    };
    talk(&mut call, 1);
    let told = u32::from_be_bytes(call.rtcp_at_b[0][10..14].try_into().unwrap());
    let agreed = call.config_b.remote_rtcp;
    // Whoever does not know the time of our SR, or sends from elsewhere, is not believed.
    report_as_another(&mut call, 5, agreed, told ^ 1);
    report_as_another(&mut call, 5, at("203.0.113.66:5001"), told);
    report_as_another(&mut call, 5, at("192.0.2.1:9"), told);
    assert_eq!((call.b.report().rtt_ms, call.b.report().remote_loss), (None, None));
    let ntp = report_as_another(&mut call, 5, agreed, told);
    let report = call.b.report();
    assert!(report.rtt_ms.is_some_and(|rtt| (39.0..61.0).contains(&rtt)), "{:?}", report.rtt_ms);
    assert_eq!(report.remote_jitter_ms, Some(10.0));
    assert!(report.remote_loss.is_some() && report.mos_cq.is_some());
    // It gets its own round trip as well.
    talk(&mut call, 2);
    let about = rtcp::parse(&call.rtcp_at_b[1], 0xabcd).unwrap().about_us.unwrap();
    assert_eq!(about.last_sr, ntp.middle());
    assert!(about.delay_since_last_sr > 0);
}

#[test]
fn neither_a_calendar_that_is_set_nor_a_busy_thread_makes_the_round_trip_longer() {
    for step in [-3_000, 0, 3_000] {
        let mut call = Call::opus_to_pcma();
        let mut app = Talker::new(Side::A, 111);
        for packet in opus_speech(100, 0) {
            call.until(call.now.instant - call.start + 20 * MS);
            app.say(&mut call, 960, &packet);
            if !call.rtcp_at_b.is_empty() {
                break;
            }
        }
        // Our SR left within the last 20 ms, and 50 ms later the peer's report is here, which it kept for 10.
        let told = call.now.instant - call.start + 50 * MS;
        call.until(told);
        call.now.unix_ms += step;
        let arrival = call.now.instant;
        // It is read 40 ms late.
        call.now = call.now.after(40 * MS);
        report_on_first_sr(&mut call, 0, 65_536 * 10 / 1000, arrival);
        let rtt = call.b.report().rtt_ms.unwrap();
        assert!((39.0..61.0).contains(&rtt), "{rtt} ms with a step of {step} ms");
        // And the next SR counts on from the first.
        let ntp = |sr: &[u8]| u64::from_be_bytes(sr[8..16].try_into().unwrap());
        for packet in opus_speech(500, 0) {
            call.until(call.now.instant - call.start + 20 * MS);
            app.say(&mut call, 960, &packet);
        }
        let spans = (ntp(call.rtcp_at_b.last().unwrap()) - ntp(&call.rtcp_at_b[0])) >> 32;
        assert!((2..=11).contains(&spans), "{spans} s");
    }
}

#[test]
fn a_report_about_a_new_source_says_nothing_of_the_senders_report_of_the_one_before() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    for n in 0..40 {
        call.until(20 * MS * n);
        trunk.say(&mut call, 160, &[0xd5; 160]);
    }
    let ntp = NtpTime::from_unix_millis(call.now.unix_ms);
    let sender = rtcp::SenderInfo { ntp, rtp_timestamp: 1, packets: 40, octets: 6_400 };
    let compound =
        Compound { ssrc: 0xabcd, sender: Some(sender), report: None, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let (from, arrival) = (call.config_b.remote_rtcp, call.now.instant);
    let datagram = Datagram { from, arrival, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);

    let next_report = |call: &mut Call, trunk: &mut Talker| {
        let told = call.rtcp_at_b.len();
        for _ in 0..500 {
            call.until(call.now.instant - call.start + 20 * MS);
            trunk.say(call, 160, &[0xd5; 160]);
            if call.rtcp_at_b.len() > told {
                break;
            }
        }
        rtcp::parse(call.rtcp_at_b.last().unwrap(), trunk.ssrc).unwrap().about_us.unwrap()
    };
    let about = next_report(&mut call, &mut trunk);
    assert_eq!(about.last_sr, ntp.middle());
    assert!(about.delay_since_last_sr > 0);
    // The far switch connects somebody else.
    call.until(call.now.instant - call.start + 200 * MS);
    (trunk.ssrc, trunk.sequence, trunk.timestamp) = (0x1234, 100, 7);
    let about = next_report(&mut call, &mut trunk);
    assert_eq!((about.last_sr, about.delay_since_last_sr), (0, 0));
}

#[test]
fn loss_the_app_reports_brings_redundancy() {
    // Ten percent, and less than one.
    for (fraction_lost, least) in [(26, 30), (2, 20)] {
        redundancy_after(fraction_lost, least);
    }
}

fn redundancy_after(fraction_lost: u8, least: usize) {
    let mut app_side = config(AudioCodec::Opus);
    app_side.remote_rtcp = at("198.51.100.1:4001");
    let mut call = Call::new(config(AudioCodec::Pcma), app_side);
    call.config_b.remote_rtcp = at("198.51.100.1:4001");
    let mut talker = Talker::new(Side::A, 8);
    for (n, packet) in pcma_speech(150, 160).iter().enumerate() {
        call.until(20 * MS * n as u32);
        talker.say(&mut call, 160, packet);
        if n == 75 {
            answer_first_sr(&mut call, fraction_lost);
        }
    }
    let redundant = |part: &[Got]| {
        part.iter().filter(|got| crate::media::codec::opus::has_redundancy(&got.payload)).count()
    };
    assert_eq!(redundant(&call.at_b[..75]), 0);
    let after = redundant(&call.at_b[78..]);
    assert!(after > least, "{after} packets after {fraction_lost} of 256 were lost");
}

/// The SSRC of what the app is sent.
const OURS: u32 = 0x3333_4444;
/// Who speaks after the app's first source.
const NEXT: u32 = 0x1234;

/// Half a second from a new source right behind an app that paused before: how many of its 24 packets are heard. The app
/// reports at the beginning, which is long forgotten then, and in between.
fn heard_of_a_new_source(before: Option<Compound<'_>>, between: Option<Compound<'_>>) -> usize {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let mut heard = 0;
    for (n, packet) in opus_speech(149, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        // A sign of life every 400 ms.
        if (60..100).contains(&n) && n % 20 != 0 {
            app.timestamp = app.timestamp.wrapping_add(960);
            continue;
        }
        let report = match n {
            1 => before,
            125 => between,
            _ => None,
        };
        if let Some(compound) = report {
            let mut bytes = [0; rtcp::MAX_WRITTEN];
            let len = compound.write(&mut bytes).unwrap();
            let (from, arrival) = (call.config_a.remote_rtcp, call.now.instant);
            let datagram = Datagram { from, arrival, bytes: &mut bytes[..len] };
            call.a.receive_rtcp(datagram, Channel::Rtcp, call.now);
        }
        if n == 125 {
            (app.ssrc, app.sequence, app.timestamp) = (NEXT, 100, 7);
        }
        let outcome = app.say(&mut call, 960, packet);
        heard += usize::from(n >= 125 && outcome.transcoded);
    }
    heard
}

#[test]
fn a_source_that_says_goodbye_is_not_waited_for() {
    let goodbye =
        |ssrc| Some(Compound { ssrc, sender: None, report: None, voip: None, cname: "app", bye: true });
    assert_eq!(heard_of_a_new_source(None, goodbye(0xabcd)), 23, "two in a row are believed");
    assert_eq!(heard_of_a_new_source(None, None), 0, "whoever pauses is waited for");
    assert_eq!(heard_of_a_new_source(None, goodbye(NEXT)), 0, "nobody says goodbye for another");
}

#[test]
fn a_new_source_that_reports_on_what_it_hears_is_believed_at_once() {
    let ntp = NtpTime::from_unix_millis(1_700_000_000_000);
    let sender = Some(rtcp::SenderInfo { ntp, rtp_timestamp: 7, packets: 1, octets: 60 });
    let report = |ssrc, about| {
        let reception =
            Reception { ssrc: about, fraction_lost: 0, cumulative_lost: 0, highest_sequence: 1, jitter: 8 };
        let report = Some(Report { reception, last_sr: 0, delay_since_last_sr: 0 });
        Some(Compound { ssrc, sender, report, voip: None, cname: "app", bye: false })
    };
    assert_eq!(heard_of_a_new_source(None, report(NEXT, OURS)), 23);
    assert_eq!(heard_of_a_new_source(None, report(NEXT, 77)), 0, "who does not know ours may be anybody");
    assert_eq!(heard_of_a_new_source(None, report(0xabcd, OURS)), 0, "the one that is heard is no news");
    // Some report from another source than they speak from.
    assert_eq!(
        heard_of_a_new_source(report(5, OURS), report(5, OURS)),
        0,
        "nor is one that has always reported"
    );
    assert_eq!(heard_of_a_new_source(report(5, OURS), report(NEXT, OURS)), 23);
}

#[test]
fn closing_says_goodbye() {
    let mut call = Call::opus_to_pcma();
    let mut wire = Sent::default();
    call.a.close(call.now, &mut Out { wire: &mut wire, work: &mut call.work });
    let (channel, to, bytes) = &wire.0[0];
    assert_eq!((*channel, *to), (Channel::Rtcp, call.config_a.remote_rtcp));
    let said = rtcp::parse(bytes, 0).unwrap();
    assert_eq!((said.bye, said.leaves), (true, Some(OURS)));
}

#[test]
fn multiplexed_rtcp_shares_the_port() {
    let mux = LegConfig { rtcp_mux: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(mux, config(AudioCodec::Pcma));
    let mut wire = Sent::default();
    call.a.close(call.now, &mut Out { wire: &mut wire, work: &mut call.work });
    let (channel, to, mut bytes) = wire.0.remove(0);
    assert_eq!((channel, to), (Channel::Rtp, call.config_a.remote_rtp));
    call.arrive(Side::A, at(APP), &bytes.clone());
    assert_eq!(call.a.report().packets_discarded, 0, "it is taken for RTCP");
    bytes[3] = 99;
    call.arrive(Side::A, at(APP), &bytes);
    assert_eq!(call.a.report().packets_discarded, 1);
}

#[test]
fn nothing_is_reported_to_an_address_that_is_none() {
    for (remote, told) in [("192.0.2.1:5001", true), ("0.0.0.0:5001", false), ("192.0.2.1:0", false)] {
        let held = LegConfig { remote_rtcp: at(remote), ..config(AudioCodec::Pcma) };
        let held = LegConfig { direction: MediaDirection::Inactive, remote_rtp: at(remote), ..held };
        let mut call = Call::new(config(AudioCodec::Opus), held);
        call.until(20_000 * MS);
        assert_eq!(!call.rtcp_at_b.is_empty(), told, "{remote}");
    }
}

#[test]
fn rtcp_from_a_stranger_is_dropped() {
    let mut call = Call::opus_to_pcma();
    let mut bytes = [0x80, 201, 0, 1, 0, 0, 0, 7];
    for from in ["203.0.113.66:5001", "192.0.2.1:5000"] {
        let datagram = Datagram { from: at(from), arrival: call.now.instant, bytes: &mut bytes };
        call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
    }
    assert_eq!(call.b.report().packets_discarded, 2);
    let from = call.config_b.remote_rtcp;
    let datagram = Datagram { from, arrival: call.now.instant, bytes: &mut bytes };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
    assert_eq!(call.b.report().packets_discarded, 2);
}
