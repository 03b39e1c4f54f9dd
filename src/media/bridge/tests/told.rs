//! What a far side's reports tell of the stream it gets.

use super::*;
use crate::media::reception::{ReceiveStats, Reception};
use crate::media::rtcp::{self, Compound, Report};

/// The far side of leg B: what it counts of what it gets, and where it is in that.
struct Receiver {
    stats: ReceiveStats,
    got: usize,
}

impl Receiver {
    fn new(call: &Call) -> Receiver {
        Receiver { stats: ReceiveStats::new(call.config_b.codec.clock_rate()), got: 0 }
    }

    /// Takes what has come since the last time, but for the packets its own network loses.
    fn hear(&mut self, call: &Call, lost: impl Fn(usize) -> bool) {
        for (n, got) in call.at_b.iter().enumerate().skip(self.got) {
            if !lost(n) {
                self.stats.record(got.ssrc, got.sequence, Some(got.timestamp), call.start + got.at);
            }
        }
        self.got = call.at_b.len();
    }

    fn report(&mut self, call: &mut Call) {
        let reception = self.stats.reception();
        report(call, Side::B, reception);
    }
}

/// The far side of a leg sends a report, with a block or without.
fn report(call: &mut Call, side: Side, reception: Option<Reception>) {
    let report = reception.map(|reception| Report { reception, last_sr: 0, delay_since_last_sr: 0 });
    send_report(call, side, report);
}

fn send_report(call: &mut Call, side: Side, report: Option<Report>) {
    let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let (leg, from) = match side {
        Side::A => (&mut call.a, call.config_a.remote_rtcp),
        Side::B => (&mut call.b, call.config_b.remote_rtcp),
    };
    let datagram = Datagram { from, arrival: call.now.instant, bytes: &mut bytes[..len] };
    leg.receive_rtcp(datagram, Channel::Rtcp, call.now);
}

#[test]
fn what_the_source_of_a_stream_lost_is_not_laid_at_the_far_sides_door() {
    let mut call = Call::new(config(AudioCodec::Opus), config(AudioCodec::Opus));
    let (mut app, mut far) = (Talker::new(Side::A, 111), Receiver::new(&call));
    let mut late = None;
    for (n, packet) in opus_speech(200, 0).iter().enumerate() {
        call.until(20 * MS * n as u32);
        match n % 5 {
            // One in five is lost on the way of the app; one of them is only late.
            2 if n == 52 => late = Some(app.next(960)),
            2 => drop(app.next(960)),
            _ => drop(app.say(&mut call, 960, packet)),
        }
        if n == 54 {
            call.send(Side::A, late.unwrap(), packet);
        }
    }
    assert_eq!(call.at_b.len(), 161);
    far.hear(&call, |_| false);
    far.report(&mut call);
    assert_eq!(call.b.report().remote_loss, Some(0.0));

    let mut far = Receiver::new(&call);
    far.hear(&call, |n| n % 16 == 8);
    far.report(&mut call);
    assert_eq!(call.b.report().remote_loss, Some(10.0 / 161.0), "and its own loss is");
}

/// A conversation in which both talk, and B's network may lose all that goes to B.
fn conversation(
    seconds: usize,
    arrives: impl Fn(Duration) -> bool,
    reports: impl Fn(&mut Call, &mut Receiver),
) -> Call {
    let mut call = Call::opus_to_pcma();
    call.a.set_conversation(true);
    call.b.set_conversation(true);
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (opus, pcma, mut far) = (opus_speech(100, 0), pcma_speech(100, 160), Receiver::new(&call));
    for n in 0..seconds * 50 {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, &opus[n % 100]);
        trunk.say(&mut call, 160, &pcma[n % 100]);
        let lost = !arrives(call.now.instant - call.start);
        far.hear(&call, |_| lost);
        if n % 250 == 40 {
            reports(&mut call, &mut far);
        }
    }
    call
}

#[test]
fn a_far_side_that_reports_that_it_hears_nothing_is_a_fault_of_its_leg() {
    use crate::types::AudioFault;
    let own = |call: &mut Call, far: &mut Receiver| far.report(call);
    let mut call = conversation(40, |at| at < 12_000 * MS, own);
    assert_eq!(call.b.take_news().fault, Some(AudioFault::Unheard));
    let report = call.b.report();
    assert_eq!(report.fault, Some(AudioFault::Unheard));
    assert!((10_000..=20_000).contains(&report.fault_ms), "{} ms", report.fault_ms);
    assert_eq!(call.a.report().fault, None);
    // One that hears, one that hears again, and one that never reports.
    for call in [
        conversation(30, |_| true, own),
        conversation(30, |at| !(8_000..12_000).contains(&at.as_millis()), own),
        conversation(30, |_| false, |_, _| {}),
    ] {
        assert_eq!(call.b.report().fault, None);
    }
}

#[test]
fn reports_without_a_block_are_believed_of_an_app_and_of_a_trunk_that_has_had_one_about_us() {
    use crate::types::AudioFault;
    let app = conversation(30, |_| true, |call, _| report(call, Side::A, None));
    assert_eq!((app.a.report().fault, app.b.report().fault), (Some(AudioFault::Unheard), None));
    let never = conversation(60, |_| true, |call, _| report(call, Side::B, None));
    assert_eq!(never.b.report().fault, None);
    let then = |call: &mut Call, far: &mut Receiver| match call.now.instant - call.start {
        at if at < 10_000 * MS => far.report(call),
        _ => report(call, Side::B, None),
    };
    assert_eq!(conversation(30, |_| true, then).b.report().fault, Some(AudioFault::Unheard));
}

#[test]
fn that_nothing_comes_takes_the_place_of_a_report_that_nothing_is_heard() {
    use crate::types::AudioFault;
    let mut call = conversation(20, |_| true, |call, _| report(call, Side::A, None));
    assert_eq!(call.a.take_news().fault, Some(AudioFault::Unheard));
    // The app falls silent, and goes on to say that it hears nothing.
    let (mut trunk, pcma) = (Talker::new(Side::B, 8), pcma_speech(100, 160));
    (trunk.sequence, trunk.timestamp) =
        (trunk.sequence.wrapping_add(1_000), trunk.timestamp.wrapping_add(160_000));
    for n in 1_000..1_500usize {
        call.until(20 * MS * n as u32);
        trunk.say(&mut call, 160, &pcma[n % 100]);
        if n % 250 == 40 {
            report(&mut call, Side::A, None);
        }
    }
    assert_eq!(call.a.take_news().fault, Some(AudioFault::Missing));
    let report = call.a.report();
    assert_eq!(report.fault, Some(AudioFault::Missing));
    assert!((3_000..=10_000).contains(&report.fault_ms), "{} ms", report.fault_ms);
}

#[test]
fn before_the_answer_and_on_hold_nobody_has_to_hear_us() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(100, 0).iter().cycle().take(1_000).enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        match n % 250 {
            140 => report(&mut call, Side::B, None),
            // It is answered, held and resumed again and again, before anything is sure.
            20 | 200 => call.b.set_conversation(n % 250 == 20),
            _ => {}
        }
    }
    assert_eq!(call.b.report().fault, None);
}

/// The far side of leg B answers our last SR but one; its answer shows a round trip of so many milliseconds.
fn answer_after(call: &mut Call, rtt_ms: u32) {
    let sr = call.rtcp_at_b[call.rtcp_at_b.len() - 2].clone();
    let word = |at: usize| u32::from_be_bytes(sr[at..at + 4].try_into().unwrap());
    let now = rtcp::NtpTime::from_unix_millis(call.now.unix_ms).middle();
    let reception =
        Reception { ssrc: word(4), fraction_lost: 0, cumulative_lost: 0, highest_sequence: 1, jitter: 0 };
    let delay_since_last_sr = now.wrapping_sub(word(10)).wrapping_sub(65_536 * rtt_ms / 1_000);
    let report = Some(Report { reception, last_sr: word(10), delay_since_last_sr });
    let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let (from, arrival) = (call.config_b.remote_rtcp, call.now.instant);
    let datagram = Datagram { from, arrival, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
}

#[test]
fn a_record_is_of_the_whole_call_and_not_of_its_last_moment() {
    let mut call = Call::opus_to_pcma();
    let (mut app, mut trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let (opus, pcma) = (opus_speech(100, 0), pcma_speech(100, 160));
    let mut before = None;
    for n in 0..2_025usize {
        // For the last half second every second packet of the trunk is 18 ms late.
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, &opus[n % 100]);
        call.until(20 * MS * n as u32 + if n >= 2_000 { 18 * MS * (n as u32 % 2) } else { Duration::ZERO });
        trunk.say(&mut call, 160, &pcma[n % 100]);
        if n % 500 == 499 && n < 2_000 {
            call.until(20 * MS * n as u32 + MS);
            answer_after(&mut call, 40);
        }
        if n == 1_999 {
            before = Some(call.b.report());
        }
    }
    answer_after(&mut call, 600);
    let (before, after) = (before.unwrap(), call.b.report());
    assert!((39.0..41.0).contains(&before.rtt_ms.unwrap()), "{:?}", before.rtt_ms);
    let mean = (4.0 * 40.0 + 600.0) / 5.0;
    assert!((after.rtt_ms.unwrap() - mean).abs() < 1.0, "{:?}", after.rtt_ms);
    assert!(before.jitter_ms.unwrap() < 0.1 && after.jitter_ms.unwrap() < 0.5, "{:?}", after.jitter_ms);
    let lost = before.mos_cq.unwrap() - after.mos_cq.unwrap();
    assert!((0.0..0.1).contains(&lost), "{lost}: a round trip of 600 ms takes most of a point");
}

#[test]
fn each_part_of_a_call_is_rated_by_the_codec_it_had() {
    use crate::media::quality::{self, Heard, Impairment};
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let (opus, pcma) = (opus_speech(100, 0), pcma_speech(100, 160));
    for n in 0..1_000usize {
        call.until(20 * MS * n as u32);
        if n == 500 {
            // The app's new SDP has another codec.
            call.config_a = LegConfig { remote_rtp: at(APP), ..config(AudioCodec::Pcma) };
            call.a.configure(call.config_a.clone(), call.now).unwrap();
            join(&mut call.a, &mut call.b);
            app.payload_type = 8;
        }
        match n {
            0..500 if n % 10 == 5 => drop(app.next(960)),
            0..500 => drop(app.say(&mut call, 960, &opus[n % 100])),
            _ => drop(app.say(&mut call, 160, &pcma[n % 100])),
        }
    }
    let report = call.a.report();
    assert_eq!((report.packets_lost, report.packets_unrepaired), (50, Some(50)));
    let r = |row, loss| quality::listening_r(row, Heard { loss, burst_ratio: 1.0 });
    let expected = quality::mos((r(Impairment::OPUS, 0.1) + r(Impairment::G711, 0.0)) / 2.0);
    assert!((report.mos_lq.unwrap() - expected).abs() < 0.02, "{:?}, not {expected}", report.mos_lq);
}

#[test]
fn a_sample_of_five_seconds_has_the_round_trip_that_was_told_in_them_or_none() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(100, 0).iter().cycle().take(1_300).enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        match n {
            // In the third step twice, in the fourth not at all.
            600 => answer_after(&mut call, 80),
            700 => answer_after(&mut call, 40),
            1_100 => answer_after(&mut call, 60),
            _ => {}
        }
    }
    let told: Vec<_> = call.b.series().iter().map(|sample| sample.rtt_ms.map(f32::round)).collect();
    assert_eq!(told, [None, None, Some(40.0), None, Some(60.0)]);
    assert!(call.b.report().rtt_ms.is_some());
}

#[test]
fn reports_alone_hold_the_time_out_off_for_as_long_as_they_show_that_somebody_listens() {
    let mut call = Call::opus_to_pcma();
    let (mut app, mut far) = (Talker::new(Side::A, 111), Receiver::new(&call));
    call.b.set_timeout(Some(3_000 * MS), call.now.instant);
    let opus = opus_speech(100, 0);
    let mut timed_out = None;
    for n in 0..2_500usize {
        let at = 20 * MS * n as u32;
        call.until(at);
        app.say(&mut call, 960, &opus[n % 100]);
        // For half a minute B listens, muted; then what came to it stops, and what it reports.
        far.hear(&call, |_| at >= 30_000 * MS);
        if n % 50 == 0 {
            far.report(&mut call);
        }
        timed_out = timed_out.or(call.b.take_news().timed_out.then_some(at));
    }
    let after = timed_out.expect("nobody is there") - 30_000 * MS;
    assert!((8_000 * MS..=9_100 * MS).contains(&after), "{after:?}");
}

/// When the leg of a muted B, which reports each second as told, times out after 3 s; its reports end after a minute.
fn muted(mut reports: impl FnMut(&Call, u32) -> Option<Report>) -> Option<Duration> {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    call.b.set_timeout(Some(3_000 * MS), call.now.instant);
    let opus = opus_speech(100, 0);
    let mut timed_out = None;
    for n in 0..3_500usize {
        let at = 20 * MS * n as u32;
        call.until(at);
        app.say(&mut call, 960, &opus[n % 100]);
        if n % 50 == 0 && n < 3_000 {
            let report = reports(&call, n as u32 / 50);
            send_report(&mut call, Side::B, report);
        }
        timed_out = timed_out.or(call.b.take_news().timed_out.then_some(at));
    }
    timed_out
}

#[test]
fn a_muted_listener_whose_reports_name_another_source_is_not_hung_up_while_it_listens() {
    // It numbers our stream anew, and hears nothing more of it after half a minute.
    let timed_out = muted(|call, second| {
        let sr = call.rtcp_at_b.last()?;
        let last_sr = u32::from_be_bytes(sr[10..14].try_into().unwrap());
        let highest_sequence = 50 * second.min(30);
        let reception =
            Reception { ssrc: 0x7777, fraction_lost: 0, cumulative_lost: 0, highest_sequence, jitter: 0 };
        Some(Report { reception, last_sr, delay_since_last_sr: 65_536 })
    });
    let after = timed_out.expect("nobody is there") - 30_000 * MS;
    assert!((8_000 * MS..=9_100 * MS).contains(&after), "{after:?}");
}

#[test]
fn reports_that_never_say_what_is_heard_hold_the_time_out_off_for_as_long_as_they_come() {
    let reports_end = 59_000 * MS;
    let others = Reception { ssrc: 9, fraction_lost: 0, cumulative_lost: 0, highest_sequence: 1, jitter: 0 };
    for reception in [None, Some(others)] {
        let report = reception.map(|reception| Report { reception, last_sr: 0, delay_since_last_sr: 0 });
        let after = muted(|_, _| report).expect("nobody is there") - reports_end;
        assert!((3_000 * MS..=3_100 * MS).contains(&after), "{after:?}");
    }
}
