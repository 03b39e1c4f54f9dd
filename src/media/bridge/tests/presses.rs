//! Key presses through a bridge, as events and as tones.

use super::changes::reconfigure;
use super::*;
use crate::media::dtmf::Event;
use crate::media::dtmf::detector::Detector;

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

/// The same without any end.
fn press_endlessly(call: &mut Call, talker: &mut Talker, code: u8, updates: u16, unit: u16) {
    let base = call.now.instant - call.start;
    for n in 1..=updates {
        let event = Event { code, end: false, volume: 10, duration: unit * n };
        let header = RtpHeader { payload_type: 101, marker: n == 1, ..talker.header() };
        talker.sequence = talker.sequence.wrapping_add(1);
        call.until(base + 20 * MS * u32::from(n));
        call.send(talker.side, header, &event.to_bytes());
    }
    // The ends are lost.
    talker.sequence = talker.sequence.wrapping_add(3);
    talker.timestamp = talker.timestamp.wrapping_add(u32::from(unit) * u32::from(updates + 2));
    call.until(base + 20 * MS * u32::from(updates + 2));
}

/// Says packets 20 ms apart, beginning 20 ms from now.
fn say(call: &mut Call, talker: &mut Talker, step: u32, payloads: &[Vec<u8>]) {
    for payload in payloads {
        let base = call.now.instant - call.start;
        call.until(base + 20 * MS);
        talker.say(call, step, payload);
    }
}

/// An app with DTX says a second of voice and falls silent: half a second later nothing comes of it any more.
fn falls_silent(call: &mut Call) -> Talker {
    let mut encoder = Encoder::new(8_000, OpusSettings { dtx: true, ..OpusSettings::default() }).unwrap();
    let mut app = Talker::new(Side::A, 111);
    for n in 0..75usize {
        let pcm = if n < 50 { speech(n * 160, 160) } else { vec![0; 160] };
        call.until(20 * MS * n as u32);
        let mut packet = [0; 1276];
        match encoder.encode(&pcm, &mut packet).unwrap() {
            Encoded::Packet(len) => {
                app.say(call, 960, &packet[..len]);
            }
            Encoded::Silence => app.timestamp = app.timestamp.wrapping_add(960),
        }
    }
    call.until(1_500 * MS);
    app
}

/// The keys a detector finds in a sound.
fn keys_in(pcm: &[i16]) -> Vec<u8> {
    let mut detector = Detector::default();
    let silence = [0; 480];
    let found = pcm.chunks(160).chain(silence.chunks(160)).filter_map(|frame| detector.hear(frame));
    found.filter(|found| found.ended).map(|found| found.code).collect()
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

#[test]
fn a_press_that_is_told_every_fifty_milliseconds_sounds_as_one_key_between_equal_laws() {
    let to = LegConfig { dtmf: None, ..config(AudioCodec::Pcma) };
    let mut call = Call::new(config(AudioCodec::Pcma), to);
    let mut trunk = Talker::new(Side::A, 8);
    say(&mut call, &mut trunk, 160, &vec![vec![0xd5; 160]; 10]);
    for _ in 0..2 {
        let base = call.now.instant - call.start;
        for n in 1..=5u16 {
            // Half of what is told comes a little late.
            call.until(base + MS * (50 * u32::from(n) + 15 * u32::from(n % 2)));
            let event = Event { code: 5, end: n == 5, volume: 10, duration: 400 * n };
            let header = RtpHeader { payload_type: 101, marker: n == 1, ..trunk.header() };
            trunk.sequence = trunk.sequence.wrapping_add(1);
            call.send(trunk.side, header, &event.to_bytes());
        }
        call.until(base + 310 * MS);
        trunk.timestamp = trunk.timestamp.wrapping_add(310 * 8);
    }
    say(&mut call, &mut trunk, 160, &vec![vec![0xd5; 160]; 10]);
    assert_eq!(keys_in(&listen_pcma(&call.at_b)), [5, 5]);
    for pair in call.at_b.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step as usize >= pair[0].payload.len() && step < 1_000, "{step}");
    }
}

#[test]
fn a_new_source_is_heard_pressing_its_keys_wherever_its_timestamps_begin() {
    // Behind those of the source before it, just behind, and ahead; and the same source that began anew.
    let places = [0x9999u32, 0xabcd]
        .into_iter()
        .flat_map(|ssrc| [1u32 << 31, 1 << 30, 8_000, 0xfff0_0000].map(|behind| (ssrc, behind)));
    for (ssrc, behind) in places {
        for to in [config(AudioCodec::Opus), config(AudioCodec::Pcma), config(AudioCodec::Pcmu)] {
            let mut call = Call::new(config(AudioCodec::Pcma), to);
            let mut trunk = Talker::new(Side::A, 8);
            let voice = pcma_speech(60, 160);
            say(&mut call, &mut trunk, 160, &voice[..20]);
            press(&mut call, &mut trunk, 5, 5, 160);
            say(&mut call, &mut trunk, 160, &voice[..20]);
            // The switch goes silent for a second and connects another party.
            call.until(call.now.instant - call.start + 1_000 * MS);
            trunk.ssrc = ssrc;
            trunk.sequence = trunk.sequence.wrapping_add(20_000);
            trunk.timestamp = trunk.timestamp.wrapping_sub(behind);
            say(&mut call, &mut trunk, 160, &voice);
            press(&mut call, &mut trunk, 6, 5, 160);
            say(&mut call, &mut trunk, 160, &voice[..20]);
            let sent = events(&call.at_b);
            let begun: Vec<u8> =
                sent.iter().filter(|(got, _)| got.marker).map(|(_, event)| event.code).collect();
            assert_eq!(begun, [5, 6], "{behind} behind");
            assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 6, "{behind} behind");
            for pair in call.at_b.windows(2) {
                assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{behind} behind");
            }
        }
    }
}

#[test]
fn an_end_that_comes_again_behind_the_voice_sounds_no_second_key() {
    let to = LegConfig { dtmf: None, ptime_ms: 30, ..config(AudioCodec::Pcmu) };
    let mut call = Call::new(config(AudioCodec::Pcma), to);
    let mut trunk = Talker::new(Side::A, 8);
    say(&mut call, &mut trunk, 160, &pcma_speech(10, 160));
    let (spoken, pressed) = (call.at_b.len(), trunk.timestamp);
    let part = |call: &mut Call, trunk: &mut Talker, n: u16| {
        let event = Event { code: 1, end: n >= 5, volume: 10, duration: 160 * n.min(5) };
        let header = RtpHeader { payload_type: 101, marker: n == 1, timestamp: pressed, ..trunk.header() };
        trunk.sequence = trunk.sequence.wrapping_add(1);
        call.until(call.now.instant - call.start + 20 * MS);
        call.send(trunk.side, header, &event.to_bytes());
    };
    (1..=5).for_each(|n| part(&mut call, &mut trunk, n));
    trunk.timestamp = pressed.wrapping_add(5 * 160);
    for n in 6..=7 {
        // The voice goes on before the end has been said three times.
        say(&mut call, &mut trunk, 160, &[vec![0xd5; 160]]);
        part(&mut call, &mut trunk, n);
        trunk.timestamp = trunk.timestamp.wrapping_add(160);
    }
    say(&mut call, &mut trunk, 160, &vec![vec![0xd5; 160]; 10]);
    let heard = call.at_b[spoken - 1..].iter().flat_map(|got| &got.payload);
    let heard: Vec<i16> = heard.map(|code| Law::Mu.expand(*code)).collect();
    assert_eq!(keys_in(&heard), [1]);
}

#[test]
fn a_key_pressed_twice_is_heard_twice_though_nothing_came_between() {
    // The app is silent: none of its packets falls between the presses.
    for pause in [20u32, 100, 2_000] {
        let inband = LegConfig { dtmf: None, ..config(AudioCodec::Pcma) };
        let mut call = Call::new(config(AudioCodec::Opus), inband);
        let mut app = falls_silent(&mut call);
        for _ in 0..2 {
            press(&mut call, &mut app, 1, 4, 960);
            call.until(call.now.instant - call.start + MS * pause);
            app.timestamp = app.timestamp.wrapping_add(48 * pause);
        }
        call.until(call.now.instant - call.start + 200 * MS);
        assert_eq!(keys_in(&listen_pcma(&call.at_b)), [1, 1], "{pause} ms between");
        for pair in call.at_b.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert!(step as usize >= pair[0].payload.len() && step < 2_000, "{step}");
        }
    }
    // A trunk without comfort noise says nothing between them either.
    for (codec, ptime_ms) in [(AudioCodec::Pcmu, 30), (AudioCodec::Opus, 20), (AudioCodec::Opus, 60)] {
        let to = LegConfig { dtmf: None, ptime_ms, ..config(codec) };
        let mut call = Call::new(config(AudioCodec::Pcma), to);
        let mut trunk = Talker::new(Side::A, 8);
        say(&mut call, &mut trunk, 160, &pcma_speech(10, 160));
        let spoken = call.at_b.len();
        for _ in 0..2 {
            press(&mut call, &mut trunk, 1, 5, 160);
            call.until(call.now.instant - call.start + 20 * MS);
            trunk.timestamp = trunk.timestamp.wrapping_add(160);
        }
        call.until(call.now.instant - call.start + 200 * MS);
        let mut decoder = Decoder::new(8_000).unwrap();
        let mut heard: Vec<i16> = Vec::new();
        for got in &call.at_b[spoken - 1..] {
            match codec {
                AudioCodec::Opus => {
                    let mut pcm = [0; 960];
                    let samples = decoder.decode(&got.payload, &mut pcm).unwrap();
                    heard.extend(&pcm[..samples]);
                }
                AudioCodec::Pcma | AudioCodec::Pcmu => {
                    heard.extend(got.payload.iter().map(|code| Law::Mu.expand(*code)));
                }
            }
        }
        assert_eq!(keys_in(&heard), [1, 1], "{codec} of {ptime_ms} ms");
    }
}

#[test]
fn behind_the_key_press_of_a_silent_app_its_silence_goes_on() {
    for comfort_noise in [false, true] {
        let mut call =
            Call::new(config(AudioCodec::Opus), LegConfig { comfort_noise, ..config(AudioCodec::Pcma) });
        let mut app = falls_silent(&mut call);
        press(&mut call, &mut app, 5, 10, 960);
        let end = call.now.instant - call.start;
        call.until(end + 400 * MS);
        let first = &call.at_b[0];
        let after: Vec<&Got> =
            call.at_b.iter().filter(|got| got.at > end && got.payload_type != 101).collect();
        assert!(after[0].at - end <= 60 * MS, "{:?} of dead air", after[0].at - end);
        let wanted = if comfort_noise { 2..4 } else { 16..21 };
        assert!(wanted.contains(&after.len()), "{} packets in 400 ms", after.len());
        for got in after {
            let place = i64::from(got.timestamp.wrapping_sub(first.timestamp) / 8);
            let late = (got.at - first.at).as_millis() as i64 - place;
            assert!((0..=80).contains(&late), "{late} ms behind true time");
        }
        for pair in call.at_b.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        }
    }
}

#[test]
fn behind_the_key_press_of_a_trunk_that_described_its_silence_the_noise_goes_on() {
    use crate::media::codec::comfort_noise::PAYLOAD_TYPE;
    for codec in [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu] {
        for inband in [false, true] {
            let far = config(codec);
            let dtmf = far.dtmf.filter(|_| !inband);
            let mut call = Call::new(config(AudioCodec::Pcma), LegConfig { dtmf, ..far });
            let mut trunk = Talker::new(Side::A, 8);
            say(&mut call, &mut trunk, 160, &pcma_speech(50, 160));
            call.until(call.now.instant - call.start + 20 * MS);
            // It says so once, and then no more: nothing has changed.
            let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..trunk.next(160) };
            call.send(Side::A, header, &[60]);
            call.until(call.now.instant - call.start + 500 * MS);
            trunk.timestamp = trunk.timestamp.wrapping_add(25 * 160);
            press(&mut call, &mut trunk, 5, 5, 160);
            let end = call.now.instant - call.start;
            call.until(end + 400 * MS);
            let case = format!("{codec}, in the voice: {inband}");
            let units = codec.clock_rate() / 1_000;
            let first = &call.at_b[0];
            let after: Vec<&Got> =
                call.at_b.iter().filter(|got| got.at > end && got.payload_type != 101).collect();
            assert!((16..=21).contains(&after.len()), "{case}: {} packets in 400 ms", after.len());
            for got in after {
                let place = i64::from(got.timestamp.wrapping_sub(first.timestamp) / units);
                let late = (got.at - first.at).as_millis() as i64 - place;
                assert!((-25..=45).contains(&late), "{case}: {late} ms behind true time");
            }
            trunk.timestamp = trunk.timestamp.wrapping_add(20 * 160);
            say(&mut call, &mut trunk, 160, &pcma_speech(10, 160));
            for pair in call.at_b.windows(2) {
                assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{case}");
            }
        }
    }
}

#[test]
fn a_press_whose_ends_are_all_lost_is_ended_when_the_voice_is_back() {
    for (from, to) in [
        (AudioCodec::Opus, AudioCodec::Pcma),
        (AudioCodec::Pcma, AudioCodec::Opus),
        (AudioCodec::Pcma, AudioCodec::Pcma),
        (AudioCodec::Opus, AudioCodec::Opus),
    ] {
        let mut call = Call::new(config(from), config(to));
        let (opus, pcma) = (opus_speech(40, 0), pcma_speech(40, 160));
        let (payload_type, voice) = if from == AudioCodec::Opus { (111, opus) } else { (8, pcma) };
        let step = from.clock_rate() / 50;
        let mut talker = Talker::new(Side::A, payload_type);
        say(&mut call, &mut talker, step, &voice[..10]);
        press_endlessly(&mut call, &mut talker, 9, 5, step as u16);
        say(&mut call, &mut talker, step, &voice[10..]);
        let case = format!("{from} to {to}");
        let sent = events(&call.at_b);
        let ends: Vec<_> = sent.iter().filter(|(_, event)| event.end).collect();
        assert_eq!(ends.len(), 3, "{case}");
        for (got, event) in ends {
            assert_eq!(got.timestamp, sent[0].0.timestamp, "{case}");
            assert_eq!(u32::from(event.duration), to.clock_rate() / 10, "{case}");
            assert!(!got.marker, "{case}");
        }
        // Nothing else is out of its place: on a relay the lost ends are missing, and nothing else.
        let steps = call.at_b.windows(2).map(|pair| pair[1].sequence.wrapping_sub(pair[0].sequence));
        let lost = if from == to { 3 } else { 0 };
        let steps: Vec<u16> = steps.filter(|step| *step != 1).collect();
        assert_eq!(steps, if lost == 0 { vec![] } else { vec![lost + 1] }, "{case}");
    }
}

/// A tone begins towards the far side of `b`.
fn play(call: &mut Call) {
    let tone = crate::media::Tone::Ringback(crate::media::Ringing::Europe);
    call.b.play_tone(tone, false, call.now.instant);
}

#[test]
fn a_press_in_which_a_tone_begins_and_ends_is_one_press() {
    for (from, to) in [
        (AudioCodec::Opus, AudioCodec::Pcma),
        (AudioCodec::Pcma, AudioCodec::Opus),
        (AudioCodec::Pcma, AudioCodec::Pcma),
    ] {
        // Packets 4 to 9 of the press fall into the tone, or its end does.
        for updates in [20u16, 8] {
            let case = format!("{from} to {to}, {updates} packets");
            let mut call = Call::new(config(from), config(to));
            let (payload_type, voice) = match from {
                AudioCodec::Opus => (111, opus_speech(40, 0)),
                AudioCodec::Pcma | AudioCodec::Pcmu => (8, pcma_speech(40, 160)),
            };
            let step = from.clock_rate() / 50;
            let mut talker = Talker::new(Side::A, payload_type);
            say(&mut call, &mut talker, step, &voice[..10]);
            let timestamp = talker.timestamp;
            for n in 1..=updates + 2 {
                match n {
                    4 => play(&mut call),
                    10 => call.b.stop_tone(),
                    _ => {}
                }
                let event =
                    Event { code: 5, end: n >= updates, volume: 10, duration: step as u16 * n.min(updates) };
                let header = RtpHeader { payload_type: 101, marker: n == 1, timestamp, ..talker.header() };
                talker.sequence = talker.sequence.wrapping_add(1);
                call.until(call.now.instant - call.start + 20 * MS);
                call.send(Side::A, header, &event.to_bytes());
            }
            talker.timestamp = timestamp.wrapping_add(step * u32::from(updates + 2));
            say(&mut call, &mut talker, step, &voice[10..]);
            let sent = events(&call.at_b);
            assert_eq!(sent.iter().filter(|(got, _)| got.marker).count(), 1, "{case}");
            assert!(sent.iter().all(|(got, _)| got.timestamp == sent[0].0.timestamp), "{case}");
            let ends: Vec<_> = sent.iter().filter(|(_, event)| event.end).collect();
            // A relay leaves it to the source to repeat an end, of which one came through.
            let wanted = if from == to && updates == 8 { 1 } else { 3 };
            assert_eq!(ends.len(), wanted, "{case}");
            let duration = u32::from(updates) * to.clock_rate() / 50;
            assert!(ends.iter().all(|(_, event)| u32::from(event.duration) == duration), "{case}");
        }
    }
}

#[test]
fn a_tone_in_the_middle_of_a_press_that_is_found_in_a_voice_makes_no_second_press() {
    use crate::media::tone::KeyTone;
    let from = LegConfig { dtmf: None, ..config(AudioCodec::Pcma) };
    // The key is let go in packet 25.
    for stops in [16usize, 22, 30] {
        let mut call = Call::new(from.clone(), config(AudioCodec::Opus));
        let mut trunk = Talker::new(Side::A, 8);
        let mut key = vec![0; 3_200];
        KeyTone::new(4).unwrap().fill(&mut key);
        let pcm = [vec![0; 800], key, vec![0; 4_000]].concat();
        for (n, frame) in pcm.chunks(160).enumerate() {
            match n {
                10 => play(&mut call),
                _ if n == stops => call.b.stop_tone(),
                _ => {}
            }
            let payload: Vec<u8> = frame.iter().map(|sample| Law::A.compress(*sample)).collect();
            say(&mut call, &mut trunk, 160, &[payload]);
        }
        let sent = events(&call.at_b);
        assert_eq!(sent.iter().filter(|(got, _)| got.marker).count(), 1, "until {stops}");
        assert!(sent.iter().all(|(got, _)| got.timestamp == sent[0].0.timestamp), "until {stops}");
        assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 3, "until {stops}");
    }
}

#[test]
fn a_press_that_sounds_and_is_cut_by_a_tone_is_heard_once() {
    let mut call = Call::new(config(AudioCodec::Opus), LegConfig { dtmf: None, ..config(AudioCodec::Pcma) });
    let mut app = Talker::new(Side::A, 111);
    say(&mut call, &mut app, 960, &opus_speech(10, 0));
    let timestamp = app.timestamp;
    for n in 1..=22u16 {
        match n {
            8 => play(&mut call),
            14 => call.b.stop_tone(),
            _ => {}
        }
        let event = Event { code: 5, end: n >= 20, volume: 10, duration: 960 * n.min(20) };
        let header = RtpHeader { payload_type: 101, marker: n == 1, timestamp, ..app.header() };
        app.sequence = app.sequence.wrapping_add(1);
        call.until(call.now.instant - call.start + 20 * MS);
        call.send(Side::A, header, &event.to_bytes());
    }
    assert_eq!(keys_in(&listen_pcma(&call.at_b[9..])), [5]);
}

#[test]
fn a_voice_that_comes_late_behind_a_press_that_sounds_is_back_at_its_time() {
    for codec in [AudioCodec::Pcma, AudioCodec::Pcmu] {
        let mut call = Call::new(config(AudioCodec::Pcma), LegConfig { dtmf: None, ..config(codec) });
        let mut trunk = Talker::new(Side::A, 8);
        for _ in 0..3 {
            say(&mut call, &mut trunk, 160, &pcma_speech(10, 160));
            press(&mut call, &mut trunk, 3, 5, 160);
            // The first three packets of the voice come at once, 60 ms late.
            let pressed = call.now.instant - call.start;
            for (n, packet) in pcma_speech(20, 160).iter().enumerate() {
                call.until(pressed + (20 * MS * (n as u32 + 1)).max(80 * MS));
                trunk.say(&mut call, 160, packet);
            }
        }
        let late = super::recovery::behind(&call.at_b, 8);
        let (last, worst) = (late[late.len() - 1], *late.iter().max().unwrap());
        assert!(last <= 1 && worst <= 21, "{codec}: {last} ms at the end, {worst} ms at most");
    }
}

#[test]
fn a_press_during_which_the_far_side_changes_its_law_is_one_press() {
    for dtmf in [config(AudioCodec::Pcma).dtmf, None] {
        let leg = |codec| LegConfig { dtmf, ..config(codec) };
        let mut call = Call::new(config(AudioCodec::Opus), leg(AudioCodec::Pcma));
        let mut app = Talker::new(Side::A, 111);
        say(&mut call, &mut app, 960, &opus_speech(10, 0));
        let (spoken, timestamp) = (call.at_b.len(), app.timestamp);
        for n in 1..=12u16 {
            if n == 5 {
                reconfigure(&mut call, Side::B, leg(AudioCodec::Pcmu));
            }
            let event = Event { code: 5, end: n >= 10, volume: 10, duration: 960 * n.min(10) };
            let header = RtpHeader { payload_type: 101, marker: n == 1, timestamp, ..app.header() };
            app.sequence = app.sequence.wrapping_add(1);
            call.until(call.now.instant - call.start + 20 * MS);
            call.send(Side::A, header, &event.to_bytes());
        }
        let got = &call.at_b[spoken..];
        if dtmf.is_some() {
            let sent = events(got);
            assert_eq!(sent.iter().filter(|(got, _)| got.marker).count(), 1);
            assert!(sent.iter().all(|(got, _)| got.timestamp == sent[0].0.timestamp));
            assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 3);
        } else {
            let law = |got: &Got| if got.payload_type == 8 { Law::A } else { Law::Mu };
            let tone = got.iter().flat_map(|got| got.payload.iter().map(move |code| law(got).expand(*code)));
            let tone: Vec<i16> = tone.collect();
            assert_eq!((keys_in(&tone), tone.len()), (vec![5], 1_600));
        }
    }
}

#[test]
fn a_press_found_in_a_voice_while_the_far_side_changes_its_law_is_one_press() {
    use crate::media::tone::KeyTone;
    let from = LegConfig { dtmf: None, remote_rtp: at(APP), ..config(AudioCodec::Pcma) };
    let mut call = Call::new(from, config(AudioCodec::Pcma));
    let mut app = Talker::new(Side::A, 8);
    let mut key = vec![0; 3_200];
    KeyTone::new(4).unwrap().fill(&mut key);
    let pcm = [vec![0; 800], key, vec![0; 1_600]].concat();
    for (n, frame) in pcm.chunks(160).enumerate() {
        if n == 15 {
            reconfigure(&mut call, Side::B, config(AudioCodec::Pcmu));
        }
        let payload: Vec<u8> = frame.iter().map(|sample| Law::A.compress(*sample)).collect();
        say(&mut call, &mut app, 160, &[payload]);
    }
    let sent = events(&call.at_b);
    assert_eq!(sent.iter().filter(|(got, _)| got.marker).count(), 1);
    assert!(sent.iter().all(|(got, _)| got.timestamp == sent[0].0.timestamp));
    assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 3);
}

#[test]
fn a_press_without_an_end_is_ended_in_the_silence_behind_it_too() {
    let mut call = Call::opus_to_pcma();
    let mut app = falls_silent(&mut call);
    press_endlessly(&mut call, &mut app, 9, 5, 960);
    call.until(call.now.instant - call.start + 400 * MS);
    let sent = events(&call.at_b);
    assert_eq!(sent.iter().filter(|(_, event)| event.end).count(), 3);
    let after = call.at_b.iter().filter(|got| got.at > 1_600 * MS && got.payload_type == 8);
    assert!(after.count() >= 8, "its silence is heard");
}

#[test]
fn a_relay_takes_nothing_for_a_late_packet_whose_number_it_gave_away() {
    let mut call = Call::new(config(AudioCodec::Pcma), config(AudioCodec::Pcma));
    let mut talker = Talker::new(Side::A, 8);
    let voice = pcma_speech(40, 160);
    say(&mut call, &mut talker, 160, &voice[..10]);
    press_endlessly(&mut call, &mut talker, 9, 5, 160);
    say(&mut call, &mut talker, 160, &voice[10..18]);
    // Overtaken by those beside which the ends are said.
    let late = talker.next(160);
    say(&mut call, &mut talker, 160, &voice[19..25]);
    call.send(Side::A, late, &voice[18]);
    say(&mut call, &mut talker, 160, &voice[25..]);
    let overtaken = talker.next(160);
    talker.next(160);
    talker.say(&mut call, 160, &voice[0]);
    call.send(Side::A, overtaken, &voice[1]);
    let mut numbers: Vec<u16> = call.at_b.iter().map(|got| got.sequence.wrapping_add(1_000)).collect();
    let (sent, last) = (numbers.len(), call.at_b.last().unwrap());
    assert_eq!(last.payload, voice[1], "later ones are late and no more");
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), sent, "no number twice");
}
