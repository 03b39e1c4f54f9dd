//! One-way and silent audio as the bridge notices them, and what looks like either and is not.

use super::*;
use crate::types::AudioFault;

/// What a microphone gives, encoded by libopus in packets of 20 ms.
fn opus_of(packets: usize, dtx: bool, microphone: impl Fn(usize, usize) -> Vec<i16>) -> Vec<Option<Vec<u8>>> {
    let mut encoder = Encoder::new(8_000, OpusSettings { dtx, ..OpusSettings::default() }).unwrap();
    let encode = |n| {
        let mut packet = [0; 1276];
        match encoder.encode(&microphone(n * 160, 160), &mut packet).unwrap() {
            Encoded::Packet(len) => Some(packet[..len].to_vec()),
            Encoded::Silence => None,
        }
    };
    (0..packets).map(encode).collect()
}

fn nothing(_: usize, len: usize) -> Vec<i16> {
    vec![0; len]
}

/// An answered call, app and trunk.
fn answered() -> Call {
    let mut call = Call::opus_to_pcma();
    call.a.set_conversation(true);
    call.b.set_conversation(true);
    call
}

/// Ten seconds in which both sides send their packets, `None` being a pause; gives the faults and when they were told.
fn ten_seconds(
    call: &mut Call,
    app: impl Fn(usize) -> Option<Vec<u8>>,
    trunk: impl Fn(usize) -> Option<Vec<u8>>,
) -> Vec<(Side, AudioFault, Duration)> {
    let start = call.now.instant - call.start;
    let (mut at_app, mut at_trunk) = (Talker::new(Side::A, 111), Talker::new(Side::B, 8));
    let mut told = Vec::new();
    for n in 0..500 {
        call.until(start + 20 * MS * n as u32);
        // A pause moves on in time, not in number.
        for (talker, packet, step) in [(&mut at_app, app(n), 960), (&mut at_trunk, trunk(n), 160)] {
            match packet {
                Some(packet) => drop(talker.say(call, step, &packet)),
                None => talker.timestamp = talker.timestamp.wrapping_add(step),
            }
        }
        let faults = [(Side::A, call.a.take_news().fault), (Side::B, call.b.take_news().fault)];
        for (side, fault) in faults {
            told.extend(fault.map(|fault| (side, fault, 20 * MS * n as u32)));
        }
    }
    told
}

fn speech_of(packets: &[Vec<u8>]) -> impl Fn(usize) -> Option<Vec<u8>> + '_ {
    |n| Some(packets[n].clone())
}

#[test]
fn an_app_that_sends_nothing_is_told_within_five_seconds_and_once() {
    let mut call = answered();
    let trunk = pcma_speech(500, 160);
    let told = ten_seconds(&mut call, |_| None, speech_of(&trunk));
    let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
    assert!(side == Side::A && fault == AudioFault::Missing);
    assert!(after < Duration::from_secs(5), "{after:?}");
    let report = call.a.report();
    assert_eq!(report.fault, Some(AudioFault::Missing));
    assert!((9_000..=10_000).contains(&report.fault_ms), "{} ms", report.fault_ms);
    assert_eq!(call.b.report().fault, None);
}

#[test]
fn a_trunk_that_stops_in_the_middle_is_told() {
    let mut call = answered();
    let (app, trunk) = (opus_speech(500, 0), pcma_speech(500, 160));
    let told = ten_seconds(&mut call, speech_of(&app), |n| (n < 150).then(|| trunk[n].clone()));
    let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
    assert!(side == Side::B && fault == AudioFault::Missing);
    assert!(after - 3_000 * MS < Duration::from_secs(5), "{after:?}");
}

#[test]
fn digital_silence_of_either_side_is_told_while_the_other_talks() {
    let (app, trunk) = (opus_speech(500, 0), pcma_speech(500, 160));
    let nothing = opus_of(500, false, nothing);
    assert!(nothing.iter().all(Option::is_some), "without DTX every frame is sent");
    let mut call = answered();
    let told = ten_seconds(&mut call, |n| nothing[n].clone(), speech_of(&trunk));
    let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
    assert!(side == Side::A && fault == AudioFault::Silent && after < Duration::from_secs(5), "{after:?}");
    for dead in [0xd5, 0x55, 0x80] {
        let mut call = answered();
        let told = ten_seconds(&mut call, speech_of(&app), |_| Some(vec![dead; 160]));
        let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
        assert!(
            side == Side::B && fault == AudioFault::Silent && after < Duration::from_secs(5),
            "{after:?}"
        );
    }
}

#[test]
fn speech_both_ways_is_no_fault() {
    let (app, trunk) = (opus_speech(500, 0), pcma_speech(500, 160));
    let mut call = answered();
    assert!(ten_seconds(&mut call, speech_of(&app), speech_of(&trunk)).is_empty());
    assert_eq!((call.a.report().fault, call.a.report().fault_ms), (None, 0));
}

#[test]
fn a_listener_with_dtx_or_comfort_noise_is_neither_missing_nor_silent() {
    let trunk = pcma_speech(500, 160);
    let listening = opus_of(500, true, super::silence::room);
    assert!(listening.iter().filter(|packet| packet.is_none()).count() > 300, "DTX leaves packets out");
    let mut call = answered();
    assert!(ten_seconds(&mut call, |n| listening[n].clone(), speech_of(&trunk)).is_empty());

    let app = opus_speech(500, 0);
    let mut call = answered();
    let noise = RtpHeader { payload_type: 13, ..Talker::new(Side::B, 8).header() };
    call.send(Side::B, RtpHeader { sequence: noise.sequence.wrapping_sub(1), ..noise }, &[70]);
    assert!(
        ten_seconds(&mut call, speech_of(&app), |_| None).is_empty(),
        "after comfort noise a pause is said"
    );
}

#[test]
fn an_app_that_dies_while_it_listens_with_dtx_is_told_within_five_seconds() {
    let trunk = pcma_speech(500, 160);
    let listening = opus_of(500, true, super::silence::room);
    let last = listening[..200].iter().rposition(Option::is_some).unwrap();
    // Its last word is that it pauses (RFC 7587 §3.1.3): a packet of the first octet alone.
    let pause = vec![listening[last].as_ref().unwrap()[0] & 0xfc];
    let app = |n: usize| {
        if n > last { Some(pause.clone()).filter(|_| n == last + 1) } else { listening[n].clone() }
    };
    let mut call = answered();
    let told = ten_seconds(&mut call, app, speech_of(&trunk));
    let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
    assert!(side == Side::A && fault == AudioFault::Missing);
    let after = after - 20 * MS * last as u32;
    assert!(after < Duration::from_secs(5), "{after:?}");
}

#[test]
fn a_dead_microphone_behind_dtx_is_told_within_five_seconds() {
    let trunk = pcma_speech(500, 160);
    let dead = opus_of(500, true, nothing);
    assert!(dead.iter().filter(|packet| packet.is_none()).count() > 300, "DTX leaves packets out");
    let mut call = answered();
    let told = ten_seconds(&mut call, |n| dead[n].clone(), speech_of(&trunk));
    let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
    assert!(side == Side::A && fault == AudioFault::Silent && after < Duration::from_secs(5), "{after:?}");
}

#[test]
fn a_trunk_that_sends_nothing_is_told_within_five_seconds_though_the_app_says_hello_and_waits_with_dtx() {
    let hello = |from: usize, len: usize| {
        let mut pcm = super::silence::room(from, len);
        if from < 50 * 160 {
            pcm.iter_mut().zip(speech(from, len)).for_each(|(room, voice)| *room += voice);
        }
        pcm
    };
    let app = opus_of(500, true, hello);
    assert!(app[100..].iter().filter(|packet| packet.is_none()).count() > 300, "DTX leaves packets out");
    let mut call = answered();
    let told = ten_seconds(&mut call, |n| app[n].clone(), |_| None);
    let [(side, fault, after)] = told[..] else { panic!("{} faults", told.len()) };
    assert!(side == Side::B && fault == AudioFault::Missing && after < Duration::from_secs(5), "{after:?}");
}

#[test]
fn before_the_answer_and_on_hold_nobody_is_missed() {
    let trunk = pcma_speech(500, 160);
    let mut call = Call::opus_to_pcma();
    assert!(ten_seconds(&mut call, |_| None, speech_of(&trunk)).is_empty(), "early media");
    call.a.set_conversation(true);
    call.b.set_conversation(true);
    call.a.set_conversation(false);
    call.b.set_conversation(false);
    assert!(ten_seconds(&mut call, |_| None, speech_of(&trunk)).is_empty(), "hold");
}

#[test]
fn a_ringing_tone_before_the_answer_does_not_excuse_a_dead_line_after_it() {
    let (app, ringing) = (opus_speech(500, 0), pcma_speech(500, 160));
    let mut call = Call::opus_to_pcma();
    ten_seconds(&mut call, |_| None, speech_of(&ringing));
    call.a.set_conversation(true);
    call.b.set_conversation(true);
    let told = ten_seconds(&mut call, speech_of(&app), |_| Some(vec![0xd5; 160]));
    assert!(matches!(told[..], [(Side::B, AudioFault::Silent, _)]));
}

#[test]
fn whoever_is_talked_to_next_is_not_measured_by_what_the_one_before_had_sent() {
    let (app, trunk) = (opus_speech(500, 0), pcma_speech(500, 160));
    let mut call = answered();
    assert!(ten_seconds(&mut call, speech_of(&app), speech_of(&trunk)).is_empty());
    // The app's call is moved on to a leg that has heard nothing yet.
    part(&mut call.a, &mut call.b);
    call.b = Leg::new(LegKind::Trunk, 0x9999_aaaa_bbbb_cccc, call.now.instant);
    call.b.configure(call.config_b.clone(), call.now).unwrap();
    call.b.set_conversation(true);
    join(&mut call.a, &mut call.b);
    assert!(ten_seconds(&mut call, speech_of(&app), speech_of(&trunk)).is_empty());
    assert_eq!((call.a.report().fault, call.b.report().fault), (None, None));
}
