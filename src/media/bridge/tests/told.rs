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
        report(call, reception);
    }
}

/// The far side of leg B sends a report, with a block or without.
fn report(call: &mut Call, reception: Option<Reception>) {
    let report = reception.map(|reception| Report { reception, last_sr: 0, delay_since_last_sr: 0 });
    let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "far", bye: false };
    let mut bytes = [0; rtcp::MAX_WRITTEN];
    let len = compound.write(&mut bytes).unwrap();
    let (from, arrival) = (call.config_b.remote_rtcp, call.now.instant);
    let datagram = Datagram { from, arrival, bytes: &mut bytes[..len] };
    call.b.receive_rtcp(datagram, Channel::Rtcp, call.now);
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
    let never = conversation(30, |_| false, own);
    let breaks_off = conversation(40, |at| at < 12_000 * MS, own);
    for mut call in [never, breaks_off] {
        assert_eq!(call.b.take_news().fault, Some(AudioFault::Unheard));
        let report = call.b.report();
        assert_eq!(report.fault, Some(AudioFault::Unheard));
        assert!((10_000..=20_000).contains(&report.fault_ms), "{} ms", report.fault_ms);
        assert_eq!(call.a.report().fault, None);
    }
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
fn before_the_answer_and_on_hold_nobody_has_to_hear_us() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    for (n, packet) in opus_speech(100, 0).iter().cycle().take(1_000).enumerate() {
        call.until(20 * MS * n as u32);
        app.say(&mut call, 960, packet);
        match n % 250 {
            140 => report(&mut call, None),
            // It is answered, held and resumed again and again, before anything is sure.
            20 | 200 => call.b.set_conversation(n % 250 == 20),
            _ => {}
        }
    }
    assert_eq!(call.b.report().fault, None);
}
