//! Key presses through a bridge, as events and as tones.

use super::*;
use crate::media::dtmf::Event;

/// Presses a key: `updates` packets 20 ms apart and two more end packets.
fn press(call: &mut Call, talker: &mut Talker, code: u8, updates: u16, unit: u16) {
    let timestamp = talker.timestamp;
    let base = call.now.instant - call.start;
    for n in 1..=updates + 2 {
        let duration = unit * n.min(updates);
        let event = Event { code, end: n >= updates, volume: 10, duration };
        let header = RtpHeader { payload_type: 101, marker: n == 1, timestamp, ..talker.header() };
        talker.sequence = talker.sequence.wrapping_add(1);
        call.until(base + 20 * MS * u32::from(n));
        call.send(talker.side, header, &event.to_bytes());
    }
    talker.timestamp = timestamp.wrapping_add(u32::from(unit) * u32::from(updates + 2));
}

fn events(got: &[Got]) -> Vec<(&Got, Event)> {
    let is_event = |got: &&Got| got.payload_type == 101;
    got.iter().filter(is_event).map(|got| (got, Event::parse(&got.payload).unwrap())).collect()
}

#[test]
fn a_press_crosses_clock_rates_without_being_stretched() {
    let mut call = Call::opus_to_pcma();
    let mut app = Talker::new(Side::A, 111);
    let voice = opus_speech(40, 0);
    for packet in &voice[..20] {
        let base = call.now.instant - call.start;
        call.until(base + 20 * MS);
        app.say(&mut call, 960, packet);
    }
    press(&mut call, &mut app, 5, 5, 960);
    for packet in &voice[20..] {
        let base = call.now.instant - call.start;
        call.until(base + 20 * MS);
        app.say(&mut call, 960, packet);
    }
    let sent = events(&call.at_b);
    assert_eq!(sent.len(), 7, "five and the end twice more");
    let durations: Vec<u16> = sent.iter().map(|(_, event)| event.duration).collect();
    assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
    assert!(sent.iter().all(|(got, event)| event.code == 5 && got.timestamp == sent[0].0.timestamp));
    assert_eq!(sent.iter().filter(|(got, _)| got.marker).count(), 1);
    assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 3);
    // It starts where the voice stopped, the voice comes back where it would have been, nothing is filled between.
    let voice: Vec<_> = call.at_b.iter().filter(|got| got.payload_type == 8).collect();
    assert_eq!(voice.len(), 40);
    assert_eq!(sent[0].0.timestamp, voice[19].timestamp.wrapping_add(160));
    assert_eq!(voice[20].timestamp, voice[19].timestamp.wrapping_add(160 * 8));
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
    }
}

#[test]
fn a_press_from_the_trunk_reaches_the_app_in_its_clock() {
    let mut call = Call::opus_to_pcma();
    let mut trunk = Talker::new(Side::B, 8);
    trunk.say(&mut call, 160, &[0xd5; 160]);
    press(&mut call, &mut trunk, 11, 4, 160);
    let sent = events(&call.at_a);
    let durations: Vec<u16> = sent.iter().map(|(_, event)| event.duration).collect();
    assert_eq!(durations, [960, 1920, 2880, 3840, 3840, 3840]);
    assert!(sent.iter().all(|(_, event)| event.code == 11));
}

#[test]
fn a_press_between_equal_codecs_keeps_its_place_in_the_numbers() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Pcma));
    let mut talker = Talker::new(Side::A, 8);
    for n in 0..5u32 {
        call.until(20 * MS * n);
        talker.say(&mut call, 160, &[0xd5; 160]);
    }
    press(&mut call, &mut talker, 1, 3, 160);
    talker.say(&mut call, 160, &[0xd5; 160]);
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
    }
    assert_eq!(events(&call.at_b).len(), 5);
}

#[test]
fn a_side_without_events_hears_tones_as_long_as_the_press() {
    for mode in [DtmfMode::Inband, DtmfMode::Rfc4733] {
        let mut to = config(AudioCodec::Pcma);
        to.dtmf_mode = mode;
        if mode == DtmfMode::Rfc4733 {
            to.dtmf = None;
        }
        let mut call = Call::new(config(AudioCodec::Opus), to);
        let mut app = Talker::new(Side::A, 111);
        app.say(&mut call, 960, &opus_speech(1, 0)[0]);
        press(&mut call, &mut app, 7, 6, 960);
        assert!(events(&call.at_b).is_empty());
        let codes = call.at_b[1..].iter().flat_map(|got| got.payload.iter());
        let tone: Vec<i16> = codes.map(|code| Law::A.expand(*code)).collect();
        assert_eq!(tone.len(), 960, "120 ms, neither more nor less");
        let loud = tone.iter().filter(|sample| sample.abs() > 1000).count();
        assert!(loud > 700, "{loud} of 960 samples are loud");
    }
}

#[test]
fn tones_from_a_trunk_without_events_reach_the_app_as_events_and_not_as_sound() {
    use crate::media::tone::KeyTone;
    let modes = [DtmfMode::Inband, DtmfMode::Rfc4733];
    // A trunk that takes events by its configuration may still answer without them.
    for (codec, dtmf_mode) in
        modes.iter().flat_map(|mode| [(AudioCodec::Opus, *mode), (AudioCodec::Pcma, *mode)])
    {
        let from = LegConfig { dtmf: None, dtmf_mode, ..config(AudioCodec::Pcma) };
        let mut to = config(codec);
        to.remote_rtp = at(APP);
        let mut call = Call::new(from, to);
        let mut trunk = Talker::new(Side::A, 8);
        let mut say = |call: &mut Call, pcm: Vec<i16>| {
            for frame in pcm.chunks(160) {
                let base = call.now.instant - call.start;
                call.until(base + 20 * MS);
                let payload: Vec<u8> = frame.iter().map(|sample| Law::A.compress(*sample)).collect();
                trunk.say(call, 160, &payload);
            }
        };
        say(&mut call, speech(0, 8_000));
        for code in [4, 4, 11] {
            let mut pcm = vec![0; 960];
            KeyTone::new(code).unwrap().fill(&mut pcm);
            say(&mut call, pcm);
            say(&mut call, vec![0; 960]);
        }
        say(&mut call, speech(0, 8_000));
        let sent = events(&call.at_b);
        let began: Vec<u8> = sent.iter().filter(|(got, _)| got.marker).map(|(_, event)| event.code).collect();
        assert_eq!(began, [4, 4, 11], "{codec}");
        let mut times: Vec<u32> = sent.iter().map(|(got, _)| got.timestamp).collect();
        times.dedup();
        assert_eq!(times.len(), 3, "one timestamp each");
        let clock = codec.clock_rate() / 1000;
        for end in sent.iter().filter(|(_, event)| event.end) {
            let ms = u32::from(end.1.duration) / clock;
            assert!((95..=130).contains(&ms), "{codec}: {ms} ms");
        }
        assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 9, "each end three times");
        for pair in call.at_b.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        }
        let voice = call.at_b.iter().filter(|got| got.payload_type != 101);
        assert!(voice.count() >= 2 * 50 + 6, "the voice between and behind the presses");
    }
}

#[test]
fn a_trunk_configured_for_tones_gets_them_from_a_trunk_with_events() {
    let mut to = config(AudioCodec::Pcma);
    to.dtmf_mode = DtmfMode::Inband;
    let mut call = Call::new(config(AudioCodec::Pcma), to);
    let mut talker = Talker::new(Side::A, 8);
    talker.say(&mut call, 160, &[0xd5; 160]);
    press(&mut call, &mut talker, 3, 5, 160);
    talker.say(&mut call, 160, &[0xd5; 160]);
    let lengths: usize = call.at_b.iter().map(|got| got.payload.len()).sum();
    assert_eq!(lengths, 160 + 800 + 160);
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert!(rtp::timestamp_distance(pair[0].timestamp, pair[1].timestamp) > 0);
    }
}
