//! What is measured of a leg: loss after repair, bursts, extended reports, the recent past.

use super::*;
use crate::media::quality;
use crate::media::reception::Reception;
use crate::media::rtcp::{self, Compound, NtpTime, Report, VoipMetrics};

/// A minute of app speech towards a trunk, without the packets `missing` names.
fn talk(call: &mut Call, packets: &[Vec<u8>], missing: impl Fn(usize) -> bool) {
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        if missing(n) {
            app.next(960);
        } else {
            app.say(call, 960, packet);
        }
    }
}

#[test]
fn what_redundancy_gives_back_is_lost_on_the_wire_and_not_for_the_ear() {
    let mut call = Call::opus_to_pcma();
    let packets = opus_speech(500, 20);
    talk(&mut call, &packets, |n| n % 10 == 5);
    let report = call.a.report();
    assert_eq!(report.packets_lost, 50);
    let unrepaired = report.packets_unrepaired.unwrap();
    assert!(unrepaired < 15, "{unrepaired} of 50 were not recovered");
    assert_eq!(unrepaired, 50 - call.a.counts().recovered_fec);
    let mut plain = Call::opus_to_pcma();
    talk(&mut plain, &opus_speech(500, 0), |n| n % 10 == 5);
    let bare = plain.a.report();
    assert_eq!((bare.packets_lost, bare.packets_unrepaired), (50, Some(50)));
    assert!((bare.mos_lq.unwrap() - 2.86).abs() < 0.02, "10 % of Opus: {:?}", bare.mos_lq);
    assert!(report.mos_lq.unwrap() > bare.mos_lq.unwrap() + 0.6, "{:?}", report.mos_lq);
}

#[test]
fn a_packet_that_comes_too_late_or_that_no_codec_takes_is_missed_by_the_ear() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(120, 0);
    let mut held = None;
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        match n {
            30 => held = Some(app.next(960)),
            // Half a second later nobody waits for it any more.
            55 => {
                call.send(Side::A, held.unwrap(), &packets[30]);
                app.say(&mut call, 960, packet);
            }
            80 => drop(app.say(&mut call, 960, &[0xff; 1_200])),
            _ => drop(app.say(&mut call, 960, packet)),
        }
    }
    let report = call.a.report();
    assert_eq!((report.packets_lost, report.packets_late), (0, 1));
    assert_eq!(report.packets_unrepaired, Some(2));
}

#[test]
fn bursts_and_gaps_are_told_apart_and_cost_quality() {
    let packets = opus_speech(1_000, 0);
    let mut scattered = Call::opus_to_pcma();
    talk(&mut scattered, &packets, |n| n % 20 == 10);
    let mut bursty = Call::opus_to_pcma();
    talk(&mut bursty, &packets, |n| n % 200 >= 190);
    let (scattered, bursty) = (scattered.a.report(), bursty.a.report());
    assert_eq!(scattered.packets_lost, 50);
    // The last of the five bursts ends with the stream: nobody knows that there was more.
    assert_eq!(bursty.packets_lost, 40);
    assert_eq!((scattered.burst_density, scattered.burst_ms), (Some(0.0), Some(0.0)));
    assert_eq!((bursty.burst_density, bursty.burst_ms), (Some(1.0), Some(200.0)));
    assert_eq!((bursty.gap_density, bursty.gap_ms), (Some(0.0), Some(3_800.0)));
    assert!(bursty.burst_ratio.unwrap() > 9.0 && scattered.burst_ratio == Some(1.0));
    let by_chance = quality::Heard { loss: 40.0 / 990.0, burst_ratio: 1.0 };
    let by_chance = quality::mos_lq(quality::Impairment::OPUS, by_chance);
    assert!(bursty.mos_lq.unwrap() < by_chance - 0.1, "{:?}, by chance {by_chance}", bursty.mos_lq);
}

#[test]
fn a_line_that_is_heard_through_opus_is_told_as_the_app_hears_it_also_when_the_bridge_has_ended() {
    for (lost, mos) in [(0, 4.37), (5, 3.85)] {
        let mut call = Call::opus_to_pcma();
        let mut trunk = Talker::new(Side::B, 8);
        for (n, packet) in pcma_speech(500, 160).iter().enumerate() {
            call.until(20 * MS * n as u32);
            if n % 100 / 20 < lost && n % 20 == 10 {
                trunk.next(160);
            } else {
                trunk.say(&mut call, 160, packet);
            }
        }
        let during = call.b.report();
        assert_eq!(during.packets_lost, 5 * lost as u64);
        assert!((during.mos_lq.unwrap() - mos).abs() < 0.02, "{:?}, not {mos}", during.mos_lq);
        part(&mut call.a, &mut call.b);
        assert_eq!(call.b.report().mos_lq, during.mos_lq);
    }
    // What passes untouched is coded once.
    let mut call = Call::new(config(AudioCodec::Opus), config(AudioCodec::Opus));
    talk(&mut call, &opus_speech(100, 0), |_| false);
    assert_eq!(call.a.report().mos_lq, Some(4.37));
}

#[test]
fn a_leg_whose_packets_are_cut_anew_is_rated_as_the_concealed_one_it_is() {
    let rated = |packet_ms: u32| {
        let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Pcma));
        let mut trunk = Talker::new(Side::A, 8);
        let samples = packet_ms as usize * 8;
        for (n, packet) in pcma_speech(500, samples).iter().enumerate() {
            call.until(MS * packet_ms * n as u32);
            if n % 20 == 10 {
                trunk.next(samples as u32);
            } else {
                trunk.say(&mut call, samples as u32, packet);
            }
        }
        (call.a.counts().recovered_plc, call.a.report().mos_lq.unwrap())
    };
    let (concealed, mos) = rated(30);
    assert!(concealed == 25 && mos > 3.7, "{concealed} of 25 concealed: {mos}");
    // What passes as it is, with its gaps.
    let (concealed, mos) = rated(20);
    assert!(concealed == 0 && mos < 2.7, "{concealed} of 25 concealed: {mos}");
}

/// The last compound a far side got, with what it says of a stream of `ssrc`.
fn last_report(compounds: &[Vec<u8>], ssrc: u32) -> rtcp::Received {
    rtcp::parse(compounds.last().unwrap(), ssrc).unwrap()
}

#[test]
fn who_asked_for_voip_metrics_gets_them_and_who_did_not_does_not() {
    let asked = LegConfig { voip_metrics: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(asked, config(AudioCodec::Pcma));
    let mut trunk = Talker::new(Side::B, 8);
    let packets = opus_speech(500, 0);
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in packets.iter().enumerate() {
        call.until(20 * MS * n as u32);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        if n % 10 == 5 {
            app.next(960);
        } else {
            app.say(&mut call, 960, packet);
        }
    }
    call.until(20_000 * MS);
    assert_eq!(last_report(&call.rtcp_at_b, 0xabcd).voip, None, "the trunk did not ask");
    let told = last_report(&call.rtcp_at_a, 0xabcd).voip.unwrap();
    let report = call.a.report();
    assert!((told.loss - 0.1).abs() < 0.01 && told.discard == 0.0, "{told:?}");
    assert!((told.mos_lq.unwrap() - report.mos_lq.unwrap()).abs() <= 0.05);
    assert_eq!((told.mos_cq, told.round_trip_ms), (None, None), "no round trip is known");
    assert_eq!((told.r_factor, told.buffer_ms), (None, 0), "R counts the delay, and nothing had to wait");
    assert_eq!((told.gmin, told.conceals), (16, true));
    assert!((told.gap_density - report.gap_density.unwrap()).abs() < 0.01);
    assert_eq!(told.end_system_ms, Some(26), "packet and look-ahead");
}

#[test]
fn what_may_wait_for_an_overtaken_packet_is_told_as_the_buffer_it_is() {
    let asked = LegConfig { voip_metrics: true, ..config(AudioCodec::Opus) };
    let mut call = Call::new(asked, config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 111);
    let packets = opus_speech(500, 0);
    let mut arrivals: Vec<(u32, RtpHeader, &Vec<u8>)> = Vec::new();
    for (n, packet) in packets.iter().enumerate() {
        let late = if n % 10 == 5 { 35 } else { 0 };
        arrivals.push((20 * n as u32 + late, app.next(960), packet));
    }
    arrivals.sort_by_key(|(at, ..)| *at);
    for (at, header, packet) in arrivals {
        call.until(MS * at);
        call.send(Side::A, header, packet);
    }
    call.until(10_000 * MS);
    let told = last_report(&call.rtcp_at_a, 0xabcd).voip.unwrap();
    assert!((15..=25).contains(&told.buffer_ms), "{} ms", told.buffer_ms);
}

#[test]
fn what_became_of_a_packet_that_waited_is_noted_where_it_stands() {
    let mut call = Call::opus_to_pcma();
    let packets = opus_speech(60, 0);
    // 2 overtakes 1, which teaches. 22 never comes. 39, which no decoder takes, overtakes 38 and waits for it.
    let mut arrivals: Vec<(u32, u16)> = (0..60u16).map(|n| (20 * u32::from(n), n)).collect();
    (arrivals[1].0, arrivals[38].0) = (50, 785);
    arrivals.remove(22);
    arrivals.sort_unstable();
    let first = Talker::new(Side::A, 111).header();
    for (at, n) in arrivals {
        call.until(MS * at);
        let (sequence, timestamp) =
            (first.sequence.wrapping_add(n), first.timestamp.wrapping_add(960 * u32::from(n)));
        let payload = if n == 39 { &[0x03, 0x00][..] } else { &packets[usize::from(n)][..] };
        call.send(Side::A, RtpHeader { sequence, timestamp, ..first }, payload);
    }
    let report = call.a.report();
    assert_eq!((report.packets_discarded, report.packets_lost), (1, 1));
    assert_eq!(report.packets_unrepaired, Some(3), "1, 22 and 39");
    // Sixteen packets part the last two of them (RFC 3611 §4.7.2); were it 38 that was missed, it would be a burst.
    assert_eq!(report.burst_ms, Some(0.0));
}

/// The far side of the trunk reports with VoIP metrics.
fn voip_from_trunk(call: &mut Call, metrics: VoipMetrics) {
    let ssrc = u32::from_be_bytes(call.rtcp_at_b[0][4..8].try_into().unwrap());
    let voip = Some(VoipMetrics { ssrc, ..metrics });
    let compound = Compound { ssrc: 5, sender: None, report: None, voip, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let from = call.config_b.remote_rtcp;
    let datagram = Datagram { from, arrival: call.now.instant, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
}

#[test]
fn the_far_sides_voip_metrics_are_kept_and_its_round_trip_used_where_we_have_none() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    for (n, packet) in opus_speech(100, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        trunk.say(&mut call, 160, &[0xd5; 160]);
        call.send(Side::A, Talker { sequence: n as u16, ..Talker::new(Side::A, 111) }.header(), packet);
    }
    let metrics = VoipMetrics {
        discard: 0.125,
        round_trip_ms: Some(80),
        mos_lq: Some(3.9),
        mos_cq: Some(3.8),
        ..VoipMetrics::default()
    };
    voip_from_trunk(&mut call, metrics);
    let report = call.b.report();
    assert_eq!(report.remote_discard, Some(0.125));
    assert_eq!((report.remote_mos_lq, report.remote_mos_cq), (Some(3.9), Some(3.8)));
    assert_eq!(report.rtt_ms, Some(80.0));
    assert!(report.mos_cq.is_some());
    // Metrics of a stream that is not ours say nothing.
    let before = call.b.report();
    let foreign = VoipMetrics { ssrc: 77, mos_lq: Some(1.0), ..VoipMetrics::default() };
    let reception =
        Reception { ssrc: 77, fraction_lost: 255, cumulative_lost: 9, highest_sequence: 1, jitter: 8 };
    let report = Some(Report { reception, last_sr: 1, delay_since_last_sr: 1 });
    let compound = Compound { ssrc: 5, sender: None, report, voip: Some(foreign), cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let from = call.config_b.remote_rtcp;
    let datagram = Datagram { from, arrival: call.now.instant, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
    assert_eq!(call.b.report(), before);
    assert!(NtpTime::from_unix_millis(0).middle() > 0);
}

#[test]
fn the_recent_past_is_kept_in_steps_of_five_seconds() {
    let mut call = Call::opus_to_pcma();
    talk(&mut call, &opus_speech(750, 0), |n| (250..500).contains(&n) && n % 10 == 5);
    call.until(20_100 * MS);
    let series = call.a.series();
    assert_eq!(series.len(), 4);
    let losses: Vec<_> = series.iter().map(|sample| sample.loss).collect();
    assert_eq!((losses[0], losses[2], losses[3]), (Some(0.0), Some(0.0), None), "{losses:?}");
    assert!((losses[1].unwrap() - 0.1).abs() < 0.005);
    assert!(series[1].mos_lq.unwrap() < series[0].mos_lq.unwrap() - 1.0);
    assert!(series[0].jitter_ms.is_some() && series[0].rtt_ms.is_none());
    assert_eq!((series[3].mos_lq, series[3].jitter_ms), (None, None), "nothing came, nothing was measured");
    assert_eq!(series.windows(2).map(|pair| pair[1].at - pair[0].at).max(), Some(5_001));
    let received: u64 = series.iter().map(|sample| u64::from(sample.bytes_received)).sum();
    assert_eq!(received, call.a.report().bytes_received);
    let sent: u64 = call.b.series().iter().map(|sample| u64::from(sample.bytes_sent)).sum();
    assert!(sent > 700 * 172, "{sent} bytes to the trunk");
}
