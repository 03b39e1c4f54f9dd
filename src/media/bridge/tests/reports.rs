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
fn answer_first_sr(call: &mut Call) {
    let sr = call.rtcp_at_b[0].clone();
    let our_ssrc = u32::from_be_bytes(sr[4..8].try_into().unwrap());
    let last_sr = u32::from_be_bytes(sr[10..14].try_into().unwrap());
    let now = NtpTime::from_unix_millis(call.now.unix_ms).middle();
    let delay = now.wrapping_sub(last_sr).wrapping_sub(65_536 * 30 / 1000);
    let reception =
        Reception { ssrc: our_ssrc, fraction_lost: 26, cumulative_lost: 4, highest_sequence: 1, jitter: 80 };
    let report = Some(Report { reception, last_sr, delay_since_last_sr: delay });
    let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let from = call.config_b.remote_rtcp;
    let datagram = Datagram { from, arrival: call.now.instant, bytes: &mut bytes[..len] };
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
    answer_first_sr(&mut call);
    let report = call.b.report();
    let rtt = report.rtt_ms.unwrap();
    assert!((29.0..31.0).contains(&rtt), "{rtt}");
    assert_eq!(report.remote_jitter_ms, Some(10.0));
    assert_eq!(report.remote_loss, Some(4.0 / 50.0));
    assert!((4.3..4.42).contains(&report.mos_cq.unwrap()));
    assert!(report.mos_lq.unwrap() > report.mos_cq.unwrap());
}

#[test]
fn loss_the_app_reports_brings_redundancy() {
    let mut app_side = config(AudioCodec::Opus);
    app_side.remote_rtcp = at("198.51.100.1:4001");
    let mut call = Call::new(config(AudioCodec::Pcma), app_side);
    call.config_b.remote_rtcp = at("198.51.100.1:4001");
    let mut talker = Talker::new(Side::A, 8);
    for (n, packet) in pcma_speech(150, 160).iter().enumerate() {
        call.until(20 * MS * n as u32);
        talker.say(&mut call, 160, packet);
        if n == 75 {
            answer_first_sr(&mut call);
        }
    }
    let redundant = |part: &[Got]| {
        part.iter().filter(|got| crate::media::codec::opus::has_redundancy(&got.payload)).count()
    };
    assert_eq!(redundant(&call.at_b[..75]), 0);
    assert!(redundant(&call.at_b[78..]) > 30);
}

#[test]
fn closing_says_goodbye() {
    let mut call = Call::opus_to_pcma();
    let mut wire = Sent::default();
    call.a.close(call.now, &mut Out { wire: &mut wire, work: &mut call.work });
    let (channel, to, bytes) = &wire.0[0];
    assert_eq!((*channel, *to), (Channel::Rtcp, call.config_a.remote_rtcp));
    assert!(rtcp::parse(bytes, 0).unwrap().bye);
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
