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
