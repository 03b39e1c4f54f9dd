//! Two streams on a wire that loses what it is told to, in virtual time.

use super::*;
use crate::sdp::{DtmfFormat, OpusRemote};
use crate::simulator::{heard, speech};
use crate::types::{AudioCodec, MediaDirection, SrtpKeys, SrtpSuite};
use std::sync::Arc;

fn negotiated(codec: AudioCodec, to: &str, srtp: Option<SrtpKeys>) -> Negotiated {
    let remote_rtp: SocketAddr = to.parse().unwrap();
    Negotiated {
        codec,
        send_payload_type: 96,
        receive_payload_type: 96,
        other_law: None,
        dtmf: Some(DtmfFormat {
            send_payload_type: 101,
            receive_payload_type: 101,
            clock_rate: codec.clock_rate(),
        }),
        comfort_noise: false,
        clear: false,
        remote_rtp,
        remote_rtcp: SocketAddr::new(remote_rtp.ip(), remote_rtp.port() + 1),
        rtcp_mux: false,
        voip_metrics: false,
        direction: MediaDirection::SendRecv,
        ptime_ms: 20,
        srtp,
        opus_fmtp: OpusRemote { useinbandfec: true, ..OpusRemote::default() },
        on_hold_address: false,
    }
}

fn keys(local: u8, remote: u8) -> Option<SrtpKeys> {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    Some(SrtpKeys::new(suite, vec![local; 30], vec![remote; 30]))
}

fn plan(speech: Speech) -> StreamPlan {
    StreamPlan {
        speech: Some(speech),
        early: true,
        mute: false,
        record: true,
        clock: true,
        opus: OpusSettings::default(),
    }
}

struct Pair {
    now: Now,
    a: Stream,
    b: Stream,
    passed: usize,
}

impl Pair {
    fn new(codec: AudioCodec, secure: bool) -> Pair {
        let now = Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
        let seed = |ssrc| StreamSeed { ssrc, sequence: 65_500, timestamp: u32::MAX - 9_000 };
        let said = |wav| Speech::Once { wav: Arc::new(wav), after_ms: 100 };
        let mut a = Stream::new(now, plan(said(speech::caller())), seed(1));
        let mut b = Stream::new(now, plan(said(speech::callee())), seed(2));
        let srtp = |local, remote| keys(local, remote).filter(|_| secure);
        a.configure(now, negotiated(codec, "192.0.2.2:4000", srtp(1, 2))).unwrap();
        b.configure(now, negotiated(codec, "192.0.2.1:4000", srtp(2, 1))).unwrap();
        Pair { now, a, b, passed: 0 }
    }

    fn run(&mut self, time: Duration, lose: impl Fn(usize) -> bool) {
        let end = self.now.instant + time;
        let mut buffer = [0; MAX_PACKET];
        loop {
            let next = [&self.a, &self.b].iter().filter_map(|s| s.poll_timeout()).min().unwrap();
            if next > end {
                break;
            }
            self.now = self.now.after(next.saturating_duration_since(self.now.instant));
            let now = self.now;
            let Pair { a, b, passed, .. } = self;
            carry(now, a, b, passed, &lose, &mut buffer);
            carry(now, b, a, passed, &lose, &mut buffer);
        }
    }
}

/// Everything takes 30 ms; what a packet holds is handed over at once, with its time of arrival.
fn carry(
    now: Now,
    from: &mut Stream,
    to: &mut Stream,
    passed: &mut usize,
    lose: &impl Fn(usize) -> bool,
    buffer: &mut [u8; MAX_PACKET],
) {
    let later = now.after(Duration::from_millis(30));
    while let Some((len, _)) = from.poll_rtp(now, buffer) {
        from.note_sent(now.unix_ms * 1_000_000);
        *passed += 1;
        if !lose(*passed) {
            to.handle_rtp(later, &mut buffer[..len], later.unix_ms * 1_000_000);
        }
    }
    if let Some((len, _)) = from.poll_rtcp(now, false, buffer) {
        to.handle_rtcp(later, &mut buffer[..len]);
    }
}

#[test]
fn both_sides_hear_each_other_plain_and_protected() {
    for (codec, secure) in [(AudioCodec::Opus, true), (AudioCodec::Pcma, false)] {
        let mut pair = Pair::new(codec, secure);
        pair.run(Duration::from_secs(10), |_| false);
        assert!(pair.a.is_done());
        let (a, b) = (pair.a.finish(), pair.b.finish());
        for (ours, said, own) in
            [(&a, speech::callee(), speech::caller()), (&b, speech::caller(), speech::callee())]
        {
            let verdict = heard::judge(&said, ours.recording.as_ref().unwrap(), Some(&own));
            assert!(verdict.heard, "{codec}: {verdict:?}");
            assert_eq!((ours.report.packets_lost, ours.report.packets_discarded), (0, 0));
            assert!(ours.report.mos_lq.unwrap() > 4.3);
            // Reports of the same moment cross: one side counts one trip, the other both.
            assert!((29.0..62.0).contains(&ours.report.rtt_ms.unwrap()), "{:?}", ours.report.rtt_ms);
            assert!(ours.report.packets_received > 150);
            assert_eq!(ours.report.remote_loss, Some(0.0));
        }
        assert_eq!(a.report.packets_sent, b.report.packets_received);
        assert_eq!(a.sent.len(), b.received.len());
        for (sent, received) in a.sent.iter().zip(&b.received) {
            assert_eq!(received.media_us, sent.media_us - a.sent[0].media_us);
            assert_eq!(received.unix_ns - sent.unix_ns, 30_000_000);
        }
    }
}

#[test]
fn loss_is_counted_and_lowers_the_mos() {
    let mut pair = Pair::new(AudioCodec::Pcma, false);
    pair.run(Duration::from_secs(10), |n| n % 20 == 0);
    let a = pair.a.finish();
    let share = a.report.packets_lost as f32 / (a.report.packets_lost + a.report.packets_received) as f32;
    assert!((0.0..0.11).contains(&share), "{share}");
    assert!(a.report.packets_lost > 0 && a.report.mos_lq.unwrap() < 4.0, "{:?}", a.report);
}

#[test]
fn keys_are_pressed_and_read_at_each_clock() {
    for codec in [AudioCodec::Opus, AudioCodec::Pcmu] {
        let mut pair = Pair::new(codec, false);
        pair.run(Duration::from_secs(1), |_| false);
        pair.a.press("15*x#");
        assert!(!pair.a.is_done());
        pair.run(Duration::from_secs(3), |n| n % 7 == 0);
        let b = pair.b.finish();
        assert_eq!(b.keys, "15*#");
        assert!(b.report.packets_discarded == 0);
    }
}

#[test]
fn on_hold_nothing_is_sent_and_time_goes_on() {
    let mut pair = Pair::new(AudioCodec::Pcma, false);
    pair.run(Duration::from_secs(1), |_| false);
    let before = pair.a.outcome.report.packets_sent;
    let mut held = negotiated(AudioCodec::Pcma, "192.0.2.2:4000", None);
    held.direction = MediaDirection::Inactive;
    pair.a.configure(pair.now, held.clone()).unwrap();
    pair.run(Duration::from_secs(1), |_| false);
    assert_eq!(pair.a.outcome.report.packets_sent, before);
    held.direction = MediaDirection::SendRecv;
    pair.a.configure(pair.now, held).unwrap();
    pair.run(Duration::from_secs(1), |_| false);
    let sent = &pair.a.outcome.sent;
    let step = sent[before as usize].media_us - sent[before as usize - 1].media_us;
    assert!((1_000_000..1_050_000).contains(&step), "{step}");
    let b = pair.b.finish();
    assert_eq!(b.report.packets_lost, 0);
}

#[test]
fn what_is_not_ours_is_discarded() {
    let mut pair = Pair::new(AudioCodec::Pcma, true);
    let mut junk = [0x80u8; 60];
    pair.a.handle_rtp(pair.now, &mut junk, 0);
    pair.a.handle_rtp(pair.now, &mut [1, 2, 3], 0);
    let a = pair.a.finish();
    assert_eq!((a.report.packets_discarded, a.report.packets_received), (2, 0));
    assert_eq!(a.report.mos_lq, None);
}

#[test]
fn before_the_answer_only_silence_is_sent() {
    let mut pair = Pair::new(AudioCodec::Pcma, false);
    let wav = Arc::new(speech::caller());
    let late = StreamPlan { early: false, ..plan(Speech::Once { wav, after_ms: 0 }) };
    let seed = StreamSeed { ssrc: 9, sequence: 1, timestamp: 1 };
    pair.a = Stream::new(pair.now, late, seed);
    pair.a.configure(pair.now, negotiated(AudioCodec::Pcma, "192.0.2.2:4000", None)).unwrap();
    pair.run(Duration::from_secs(3), |_| false);
    assert!(!pair.a.is_done());
    pair.a.begin().unwrap();
    pair.run(Duration::from_secs(10), |_| false);
    assert!(pair.a.is_done());
    let verdict = heard::judge(&speech::caller(), &pair.b.finish().recording.unwrap(), None);
    assert!(verdict.heard && (2_900.0..3_100.0).contains(&verdict.offset_ms), "{verdict:?}");
}
