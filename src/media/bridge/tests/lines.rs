//! Legs that a test line answers: echo, tone, speech, digits, in virtual time.

use super::*;
use crate::media::codec::speech::recorded;
use crate::media::config::{Line, Tone};
use crate::media::dtmf::Event;
use crate::media::tone::KeyTone;

/// A caller's leg and the line on it.
struct Served {
    leg: Leg,
    config: LegConfig,
    start: Instant,
    now: Now,
    work: Box<Workspace>,
    got: Vec<Got>,
    reports: usize,
    sequence: u16,
    timestamp: u32,
}

impl Served {
    fn by(line: Line, config: LegConfig) -> Served {
        let start = Instant::now();
        let now = Now { instant: start, unix_ms: 1_700_000_000_000 };
        let mut leg = Leg::new(LegKind::App, 0x1111_2222_3333_4444, start);
        leg.configure(config.clone(), now).unwrap();
        leg.serve(line, start);
        let (work, got) = (Box::default(), Vec::new());
        Served {
            leg,
            config,
            start,
            now,
            work,
            got,
            reports: 0,
            sequence: 65_500,
            timestamp: u32::MAX - 5_000,
        }
    }

    /// Lets so much time pass, doing what falls due on the way.
    fn pass(&mut self, time: Duration) {
        let goal = self.now.instant + time;
        while let Some(due) = self.leg.poll_timeout().filter(|due| *due <= goal) {
            self.now = self.now.after(due.saturating_duration_since(self.now.instant));
            let mut wire = Sent::default();
            self.leg.handle_timeout(self.now, &mut Out { wire: &mut wire, work: &mut self.work });
            self.collect(wire);
        }
        self.now = self.now.after(goal - self.now.instant);
    }

    fn collect(&mut self, wire: Sent) {
        let at = self.now.instant - self.start;
        for (channel, to, bytes) in wire.0 {
            if channel == Channel::Rtcp || rtp::is_rtcp(&bytes) {
                self.reports += 1;
                continue;
            }
            let rtp::RtpPacket { payload_type, marker, sequence, timestamp, ssrc, payload } =
                rtp::parse(&bytes).unwrap();
            let payload = payload.to_vec();
            self.got.push(Got { payload_type, marker, sequence, timestamp, ssrc, payload, bytes, to, at });
        }
    }

    /// The caller sends a packet and its time passes.
    fn say(&mut self, payload_type: u8, step: u32, marker: bool, payload: &[u8]) {
        let header = RtpHeader {
            payload_type,
            marker,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: 0xabcd,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(step);
        let mut bytes = vec![0; payload.len() + 12];
        header.write(payload, &mut bytes).unwrap();
        let datagram =
            Datagram { from: self.config.remote_rtp, arrival: self.now.instant, bytes: &mut bytes };
        let mut wire = Sent::default();
        attend(&mut self.leg, datagram, self.now, &mut Out { wire: &mut wire, work: &mut self.work });
        self.collect(wire);
        self.pass(20 * MS);
    }

    /// The caller presses a key for 100 ms, as events.
    fn press(&mut self, code: u8, clock: u32) {
        for n in 1..=7u16 {
            let duration = (clock / 50) as u16 * n.min(5);
            let event = Event { code, end: n >= 5, volume: 10, duration };
            self.say(101, 0, n == 1, &event.to_bytes());
        }
        self.timestamp = self.timestamp.wrapping_add(clock / 50 * 7);
    }

    /// The keys that came back as events: their code, and how long each was in ms.
    fn keys(&self) -> Vec<(u8, u32)> {
        let clock = self.config.dtmf.unwrap().clock_rate / 1000;
        let events = self.got.iter().filter(|got| got.payload_type == 101);
        let mut ends: Vec<(u32, Event)> = events
            .map(|got| (got.timestamp, Event::parse(&got.payload).unwrap()))
            .filter(|(_, event)| event.end)
            .collect();
        ends.dedup();
        ends.iter().map(|(_, event)| (event.code, u32::from(event.duration) / clock)).collect()
    }
}

fn pcm(got: &[Got]) -> Vec<i16> {
    got.iter().flat_map(|got| got.payload.iter().map(|code| Law::A.expand(*code))).collect()
}

#[test]
fn an_echo_is_what_was_sent_with_its_gaps_and_its_keys_at_once() {
    for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
        let mut caller = Served::by(Line::Echo, config(codec));
        let voice = match codec {
            AudioCodec::Opus => opus_speech(50, 0),
            AudioCodec::Pcma | AudioCodec::Pcmu => pcma_speech(50, 160),
        };
        let step = codec.clock_rate() / 50;
        for (n, packet) in voice.iter().enumerate() {
            if n == 20 {
                // This one was lost on the way here.
                caller.sequence = caller.sequence.wrapping_add(1);
                caller.timestamp = caller.timestamp.wrapping_add(step);
                continue;
            }
            caller.say(config(codec).receive_payload_type, step, n == 0, packet);
        }
        let heard: Vec<&Vec<u8>> = caller.got.iter().map(|got| &got.payload).collect();
        let said: Vec<&Vec<u8>> =
            voice.iter().enumerate().filter(|(n, _)| *n != 20).map(|(_, packet)| packet).collect();
        assert_eq!(heard, said, "{codec}");
        let steps: Vec<u16> =
            caller.got.windows(2).map(|pair| pair[1].sequence.wrapping_sub(pair[0].sequence)).collect();
        assert_eq!(steps.iter().filter(|step| **step == 2).count(), 1, "the gap is still one");
        caller.press(7, codec.clock_rate());
        assert_eq!(caller.keys(), [(7, 100)]);
        assert_eq!(caller.leg.report().packets_received, 49 + 7, "{codec}");
        assert_eq!(caller.leg.report().packets_lost, 1, "{codec}");
    }
}

#[test]
fn a_tone_is_a_steady_stream_of_the_level_and_frequency_that_were_asked_for() {
    let tone = Tone::Steady { hertz: 1_004, dbm0: -10 };
    let mut caller = Served::by(Line::Tone(tone), config(AudioCodec::Pcma));
    caller.pass(Duration::from_secs(10));
    assert!((499..=501).contains(&caller.got.len()), "{}", caller.got.len());
    assert_continuous(&caller.got, 160);
    assert_eq!(caller.got.iter().filter(|got| got.marker).count(), 1);
    assert!(caller.reports >= 1, "reports are sent");
    let heard = pcm(&caller.got);
    let rms = (heard.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / heard.len() as f64).sqrt();
    #[allow(clippy::approx_constant, reason = "decibels, not pi")]
    const TOP_DBM0: f64 = 3.14;
    let level = 20.0 * (rms * 2f64.sqrt() / 32_768.0).log10() + TOP_DBM0;
    assert!((level + 10.0).abs() < 0.2, "{level} dBm0");
    let rises = heard.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    let hertz = rises as f64 / (heard.len() as f64 / 8_000.0);
    assert!((hertz - 1_004.0).abs() < 0.5, "{hertz} Hz");
}

#[test]
fn speech_is_the_recording_and_goes_on_after_a_hold() {
    let mut caller = Served::by(Line::Speech, config(AudioCodec::Pcma));
    caller.pass(Duration::from_secs(3));
    let [_, callee] = recorded();
    let coded: Vec<i16> = callee.iter().map(|sample| Law::A.expand(Law::A.compress(*sample))).collect();
    assert_eq!(pcm(&caller.got)[..], coded[..caller.got.len() * 160]);
    let before = caller.got.len();
    let held = LegConfig { direction: MediaDirection::RecvOnly, ..config(AudioCodec::Pcma) };
    caller.leg.configure(held, caller.now).unwrap();
    caller.pass(Duration::from_secs(2));
    assert_eq!(caller.got.len(), before, "silent on hold");
    caller.leg.configure(config(AudioCodec::Pcma), caller.now).unwrap();
    caller.pass(Duration::from_secs(1));
    let after = &caller.got[before..];
    assert!((49..=51).contains(&after.len()), "{}", after.len());
    // The time on hold has passed in the stream too, and the voice goes on where it stopped.
    assert_eq!(after[0].timestamp.wrapping_sub(caller.got[before - 1].timestamp).div_ceil(160) / 50, 2);
    assert_eq!(pcm(after)[..8_000 - 160], coded[before * 160..][..8_000 - 160]);
}

#[test]
fn keys_are_said_back_as_events_after_a_pause_each_of_them_once() {
    for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
        let (clock, voice) = (codec.clock_rate(), config(codec).receive_payload_type);
        let mut caller = Served::by(Line::Digits, config(codec));
        let silence: &[u8] = if codec == AudioCodec::Opus { &[0xf8, 0xff, 0xfe] } else { &[0xd5; 160] };
        for code in [1, 5, 5, 11] {
            caller.press(code, clock);
            (0..10).for_each(|_| caller.say(voice, clock / 50, false, silence));
        }
        assert_eq!(caller.keys(), [], "not before the caller pauses");
        caller.pass(Duration::from_secs(4));
        assert_eq!(caller.keys(), [(1, 120), (5, 120), (5, 120), (11, 120)], "{codec}");
        let events: Vec<&Got> = caller.got.iter().filter(|got| got.payload_type == 101).collect();
        assert_eq!(events.iter().filter(|got| got.marker).count(), 4);
        let ends = events.iter().filter(|got| Event::parse(&got.payload).unwrap().end).count();
        assert_eq!(ends, 4 * 3, "each end three times");
        for pair in caller.got.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            assert!(rtp::timestamp_distance(pair[0].timestamp, pair[1].timestamp) >= 0);
        }
        // A second turn, and nothing of the first in it.
        caller.got.clear();
        caller.press(0, clock);
        caller.pass(Duration::from_secs(4));
        assert_eq!(caller.keys(), [(0, 120)]);
        caller.got.clear();
        caller.pass(Duration::from_secs(4));
        assert_eq!(caller.keys(), [], "nothing is said twice");
    }
}

#[test]
fn who_presses_again_while_its_keys_are_said_begins_anew() {
    let mut caller = Served::by(Line::Digits, config(AudioCodec::Pcma));
    (1..=9).for_each(|code| caller.press(code, 8_000));
    caller.pass(Duration::from_millis(2_000));
    let said = caller.keys().len();
    assert!((1..9).contains(&said), "{said} so far");
    caller.press(11, 8_000);
    caller.got.clear();
    caller.pass(Duration::from_secs(4));
    assert_eq!(caller.keys(), [(11, 120)]);
}

#[test]
fn where_no_events_are_agreed_keys_are_tones_both_ways_and_an_echo_of_ours_is_none() {
    let plain = LegConfig { dtmf: None, ..config(AudioCodec::Pcma) };
    let mut caller = Served::by(Line::Digits, plain);
    let say = |caller: &mut Served, pcm: &[i16]| {
        for frame in pcm.chunks(160) {
            let payload: Vec<u8> = frame.iter().map(|sample| Law::A.compress(*sample)).collect();
            caller.say(8, 160, false, &payload);
        }
    };
    let mut keys = Vec::new();
    for code in [4, 4, 10] {
        let mut tone = [0; 960];
        KeyTone::new(code).unwrap().fill(&mut tone);
        keys.extend_from_slice(&tone);
        keys.extend_from_slice(&[0; 960]);
    }
    say(&mut caller, &keys);
    let before = caller.got.len();
    // The far end's line sends back what it hears, weaker.
    for _ in 0..300 {
        let echo: Vec<i16> = pcm(&caller.got[caller.got.len() - 1..]).iter().map(|s| s / 3).collect();
        say(&mut caller, &echo);
    }
    let mut expected = Vec::new();
    for code in [4, 4, 10] {
        let mut tone = [0; 960];
        KeyTone::new(code).unwrap().fill(&mut tone);
        expected.extend(tone.iter().map(|sample| Law::A.expand(Law::A.compress(*sample))));
        expected.extend([Law::A.expand(0xd5); 800]);
    }
    let heard = pcm(&caller.got[before..]);
    let begins = heard.iter().position(|sample| sample.abs() > 500).expect("a tone") / 160 * 160;
    assert_eq!(heard[begins..begins + expected.len()], expected[..]);
    let again = heard[begins + expected.len()..].iter().filter(|sample| sample.abs() > 500).count();
    assert_eq!(again, 0, "its own echo is not said back");
    assert_continuous(&caller.got, 160);
}

#[test]
fn another_codec_in_the_middle_of_a_line_keeps_what_was_pressed() {
    let mut caller = Served::by(Line::Digits, config(AudioCodec::Pcma));
    caller.press(3, 8_000);
    caller.config = LegConfig { remote_rtp: at(TRUNK), ..config(AudioCodec::Opus) };
    caller.leg.configure(caller.config.clone(), caller.now).unwrap();
    caller.pass(Duration::from_secs(3));
    assert_eq!(caller.keys(), [(3, 120)]);
}

#[test]
fn a_bridge_ends_a_line() {
    let mut call = Call::opus_to_pcma();
    call.a.serve(Line::Speech, call.now.instant);
    assert!(call.a.is_served());
    join(&mut call.a, &mut call.b);
    call.until(Duration::from_secs(1));
    assert!(!call.a.is_served() && call.at_a.is_empty());
}
