//! The numbers of a stream that is passed on: whatever its source does with its own, none of ours is used twice.

use super::*;
use crate::media::config::Tone;
use crate::media::srtp;
use crate::types::{SrtpKeys, SrtpSuite};

/// A relay from A to B, who has a key; and what opens what B gets.
fn secured_relay(codec: AudioCodec) -> (Call, srtp::Incoming, Talker) {
    let suite = SrtpSuite::AeadAes128Gcm;
    let (key, salt) = suite.key_and_salt_len();
    let ours = vec![7; key + salt];
    let keys = SrtpKeys::new(suite, ours.clone(), vec![8; key + salt]);
    let to = LegConfig { srtp: Some(keys), ..config(codec) };
    let talker = Talker::new(Side::A, to.receive_payload_type);
    (Call::new(config(codec), to), srtp::Incoming::new(suite, &ours).unwrap(), talker)
}

/// A says so many packets, 20 ms each.
fn say(call: &mut Call, talker: &mut Talker, packets: &[Vec<u8>]) {
    let step = call.config_a.codec.clock_rate() / 50;
    for packet in packets {
        call.until(call.now.instant - call.start + 20 * MS);
        talker.say(call, step, packet);
    }
}

fn voice(codec: AudioCodec) -> Vec<Vec<u8>> {
    if codec == AudioCodec::Opus { opus_speech(100, 0) } else { pcma_speech(100, 160) }
}

/// All that B got opens, once each.
fn assert_open(call: &Call, opener: &mut srtp::Incoming) {
    for got in &call.at_b {
        assert!(opener.unprotect_rtp(&mut got.bytes.clone()).is_ok(), "{} at {:?}", got.sequence, got.at);
    }
}

#[test]
fn who_skips_numbers_that_are_never_sent_leads_ours_to_none_that_was_used() {
    let (mut call, mut opener, mut app) = secured_relay(AudioCodec::Opus);
    let packets = voice(AudioCodec::Opus);
    say(&mut call, &mut app, &packets);
    // Each is within what a loss may be, holds nothing that could be sent, and takes no time.
    for skipped in [3_000; 21].into_iter().chain([2_486]) {
        app.sequence = app.sequence.wrapping_add(skipped - 1);
        call.until(call.now.instant - call.start + 20 * MS);
        app.say(&mut call, 120, &[]);
    }
    assert_eq!(call.at_b.len(), 100);
    say(&mut call, &mut app, &packets[..60]);
    assert_eq!(call.at_b.len(), 160);
    assert_open(&call, &mut opener);
}

#[test]
fn a_hold_in_which_the_source_counts_on_leaves_no_gap_and_uses_no_number_twice() {
    for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
        // Who is on hold: the source, whom nobody hears, or the far side, to whom nothing goes.
        for held in [Side::A, Side::B] {
            let (mut call, mut opener, mut app) = secured_relay(codec);
            let packets = voice(codec);
            say(&mut call, &mut app, &packets);
            let direct = |call: &mut Call, direction| {
                let (leg, config) = match held {
                    Side::A => (&mut call.a, &call.config_a),
                    Side::B => (&mut call.b, &call.config_b),
                };
                leg.configure(LegConfig { direction, ..config.clone() }, call.now).unwrap();
                join(&mut call.a, &mut call.b);
            };
            direct(&mut call, MediaDirection::Inactive);
            // Eleven minutes and more bring the source half around the circle of its numbers.
            for _ in 0..400 {
                say(&mut call, &mut app, &packets);
            }
            assert_eq!(call.at_b.len(), 100);
            direct(&mut call, MediaDirection::SendRecv);
            say(&mut call, &mut app, &packets[..60]);
            assert_eq!(call.at_b.len(), 160);
            assert_open(&call, &mut opener);
            let (last, first) = (&call.at_b[99], &call.at_b[100]);
            assert_eq!(first.sequence, last.sequence.wrapping_add(1), "what nobody was to hear is not lost");
            let step = codec.clock_rate() / 50;
            let passed = first.timestamp.wrapping_sub(last.timestamp);
            assert_eq!(passed, 40_001 * step, "the time was real");
            assert!(first.marker);
        }
    }
}

#[test]
fn a_packet_from_before_a_tone_of_ours_has_no_number_any_more() {
    let (mut call, mut opener, mut app) = secured_relay(AudioCodec::Pcma);
    let packets = voice(AudioCodec::Pcma);
    say(&mut call, &mut app, &packets[..10]);
    call.b.play_tone(Tone::Steady { hertz: 425, dbm0: -10 }, false, call.now.instant);
    let overtaken = app.next(160);
    say(&mut call, &mut app, &packets[..10]);
    call.b.stop_tone();
    let before = call.at_b.len();
    let late = app.next(160);
    say(&mut call, &mut app, &packets[..1]);
    for header in [overtaken, late] {
        call.send(Side::A, header, &packets[0]);
    }
    say(&mut call, &mut app, &packets[..5]);
    assert_eq!(call.at_b.len(), before + 6);
    assert_continuous(&call.at_b[before..], 160);
    assert_open(&call, &mut opener);
}

#[test]
fn a_gap_of_a_moment_is_kept_for_the_far_side_to_see_and_one_of_half_a_minute_is_not() {
    for (lost, kept) in [(999u16, 1_000u16), (1_500, 1)] {
        let (mut call, mut opener, mut app) = secured_relay(AudioCodec::Pcma);
        let packets = voice(AudioCodec::Pcma);
        say(&mut call, &mut app, &packets);
        app.sequence = app.sequence.wrapping_add(lost);
        app.timestamp = app.timestamp.wrapping_add(u32::from(lost) * 160);
        call.until(call.now.instant - call.start + 20 * MS * u32::from(lost));
        say(&mut call, &mut app, &packets);
        let (last, first) = (&call.at_b[99], &call.at_b[100]);
        assert_eq!(first.sequence.wrapping_sub(last.sequence), kept);
        assert_eq!(first.timestamp.wrapping_sub(last.timestamp), 160 * (u32::from(lost) + 1));
        assert_open(&call, &mut opener);
    }
}
