//! Fax machines and modems through a bridge: what one says the other gets, code word by code word.

use super::*;
use crate::media::codec::comfort_noise::PAYLOAD_TYPE;
use crate::media::fax::signals::{tone, v17, v21};
use crate::media::tone::KeyTone;

/// What a called machine says: its answering tone, the flags and the frame of its capabilities, then a fast modem.
fn machine() -> Vec<i16> {
    let mut pcm = tone(2_100.0, 6_000.0, 8_000, 3_600);
    pcm.extend([0; 600]);
    pcm.extend(v21(&[[0x7e; 30], [0x5c; 30]].concat(), 5_000.0));
    pcm.extend([0; 600]);
    pcm.extend(v17(16_000, 9_000.0));
    pcm.truncate(pcm.len() / 160 * 160);
    pcm
}

fn coded(law: Law, pcm: &[i16]) -> Vec<u8> {
    pcm.iter().map(|sample| law.compress(*sample)).collect()
}

fn law_of(codec: AudioCodec) -> Law {
    if codec == AudioCodec::Pcma { Law::A } else { Law::Mu }
}

/// Sends 20 ms packets from leg A, those that `lost` names only by their numbers.
fn send(call: &mut Call, talker: &mut Talker, codes: &[u8], lost: impl Fn(usize) -> bool) -> u64 {
    let base = call.now.instant - call.start;
    let mut made_up = 0;
    for (n, frame) in codes.chunks(160).enumerate() {
        call.until(base + 20 * MS * (n as u32 + 1));
        if lost(n) {
            talker.next(160);
        } else {
            let outcome = talker.say(call, 160, frame);
            made_up += u64::from(outcome.recovered_plc);
        }
    }
    made_up
}

/// Two percent, one packet or two at a time.
fn two_percent(n: usize) -> bool {
    matches!(n % 97, 40 | 41) || n % 101 == 70
}

/// What was sent, in its place; `None` where nothing was.
fn laid_out(got: &[Got]) -> Vec<Option<u8>> {
    let first = got[0].timestamp;
    let mut all = Vec::new();
    for packet in got {
        let from = packet.timestamp.wrapping_sub(first) as usize;
        all.resize(all.len().max(from + packet.payload.len()), None);
        for (place, code) in all[from..].iter_mut().zip(&packet.payload) {
            *place = Some(*code);
        }
    }
    all
}

const LAWS: [AudioCodec; 2] = [AudioCodec::Pcma, AudioCodec::Pcmu];

#[test]
fn every_code_word_passes_a_relay_as_it_is_or_as_the_table_of_the_laws_has_it_and_what_is_lost_stays_lost() {
    for (from, to) in LAWS.into_iter().flat_map(|from| LAWS.map(|to| (from, to))) {
        let (law, other) = (law_of(from), law_of(to));
        // Each code word there is, then what a machine says.
        let mut codes: Vec<u8> = (0..=255u8).chain(0..64).collect();
        codes.extend(coded(law, &machine()));
        let mut call = Call::new(config(from), config(to));
        let mut talker = Talker::new(Side::A, config(from).receive_payload_type);
        assert_eq!(send(&mut call, &mut talker, &codes, two_percent), 0);
        let kept: Vec<&[u8]> =
            codes.chunks(160).enumerate().filter(|(n, _)| !two_percent(*n)).map(|(_, frame)| frame).collect();
        assert_eq!(call.at_b.len(), kept.len(), "nothing was made up");
        for (got, frame) in call.at_b.iter().zip(kept) {
            let mut expected = vec![0; frame.len()];
            law.translate_into(other, frame, &mut expected);
            assert_eq!(got.payload, expected, "{from} to {to} at {:?}", got.at);
        }
        let places = call
            .at_b
            .iter()
            .map(|got| got.timestamp.wrapping_sub(call.at_b[0].timestamp))
            .collect::<Vec<_>>();
        assert!(
            places.iter().all(|place| place % 160 == 0)
                && *places.last().unwrap() as usize / 160 + 1 == codes.len() / 160
        );
    }
}

#[test]
fn packets_cut_anew_lose_no_code_word_and_what_is_lost_is_exact_silence_once_a_machine_was_heard() {
    for (from, to) in LAWS.into_iter().flat_map(|from| LAWS.map(|to| (from, to))) {
        let (law, other) = (law_of(from), law_of(to));
        let codes = coded(law, &machine());
        let mut call = Call::new(config(from), LegConfig { ptime_ms: 30, ..config(to) });
        let mut talker = Talker::new(Side::A, config(from).receive_payload_type);
        // Half a second proves the machine; nothing is lost in it.
        let lost = |n: usize| n > 30 && two_percent(n);
        assert_eq!(send(&mut call, &mut talker, &codes, lost), 0, "{from} to {to}: nothing is made up");
        call.until(call.now.instant - call.start + 200 * MS);
        assert!(call.a.report().fax && !call.b.report().fax, "the one that spoke is a machine");
        let got = laid_out(&call.at_b);
        let mut expected = vec![0; codes.len()];
        law.translate_into(other, &codes, &mut expected);
        for (n, frame) in expected.chunks_mut(160).enumerate() {
            if lost(n) {
                frame.fill(other.silence());
            }
        }
        assert!(got.len() + 240 >= expected.len(), "{} of {}", got.len(), expected.len());
        for (place, (got, expected)) in got.iter().zip(&expected).enumerate() {
            // Before the machine is known the sound goes through linear, which knows one zero.
            let same = *got == Some(*expected)
                || (place < 5_000 && got.is_some_and(|got| other.expand(got) == other.expand(*expected)));
            assert!(same, "{from} to {to} at {place}: {got:?} for {expected}");
        }
    }
}

#[test]
fn a_voice_in_the_same_place_is_concealed() {
    let mut call =
        Call::new(config(AudioCodec::Pcma), LegConfig { ptime_ms: 30, ..config(AudioCodec::Pcma) });
    let mut talker = Talker::new(Side::A, 8);
    let codes = coded(Law::A, &speech(0, 48_000));
    assert!(send(&mut call, &mut talker, &codes, two_percent) > 0);
    assert!(!call.a.report().fax);
}

#[test]
fn a_machine_that_is_heard_on_one_way_clears_the_other_too() {
    for hears_first in [false, true] {
        let b = LegConfig { ptime_ms: 30, ..config(AudioCodec::Pcma) };
        let mut call = Call::new(LegConfig { ptime_ms: 30, ..config(AudioCodec::Pcma) }, b);
        let (mut caller, mut callee) = (Talker::new(Side::A, 8), Talker::new(Side::B, 8));
        if hears_first {
            send(&mut call, &mut callee, &coded(Law::A, &tone(2_100.0, 6_000.0, 8_000, 0)), |_| false);
        }
        // No tone that the ear knows.
        let made_up = send(&mut call, &mut caller, &coded(Law::A, &v17(16_000, 9_000.0)), two_percent);
        assert_eq!(made_up == 0, hears_first);
    }
}

#[test]
fn neither_noise_nor_key_presses_are_made_of_what_a_machine_says() {
    for machine in [false, true] {
        let inband =
            LegConfig { dtmf_mode: DtmfMode::Inband, comfort_noise: true, ..config(AudioCodec::Pcma) };
        let mut call = Call::new(inband, config(AudioCodec::Pcma));
        let mut talker = Talker::new(Side::A, 8);
        if machine {
            send(&mut call, &mut talker, &coded(Law::A, &tone(1_100.0, 6_000.0, 4_000, 0)), |_| false);
        }
        let mut key = vec![0; 1_600];
        KeyTone::new(5).unwrap().fill(&mut key);
        key.extend([0; 1_600]);
        let before = call.at_b.len();
        send(&mut call, &mut talker, &coded(Law::A, &key), |_| false);
        let events = call.at_b[before..].iter().filter(|got| got.payload_type == 101).count();
        assert_eq!(events == 0, machine, "{events} events");
        let before = call.at_b.len();
        let header = RtpHeader { payload_type: PAYLOAD_TYPE, ..talker.next(160) };
        call.send(Side::A, header, &[60]);
        call.until(call.now.instant - call.start + 500 * MS);
        assert_eq!(call.at_b.len() == before, machine, "{} packets of noise", call.at_b.len() - before);
    }
}

#[test]
fn opus_gets_all_the_bits_it_may_have_and_every_pause_of_a_machine() {
    for (limit, least) in [(510_000, 45_000), (32_000, 24_000)] {
        let settings =
            OpusSettings { bitrate: 24_000, most_bitrate: limit, dtx: true, ..OpusSettings::default() };
        let app = LegConfig { opus: settings, ..config(AudioCodec::Opus) };
        let mut call = Call::new(config(AudioCodec::Pcma), app);
        let mut talker = Talker::new(Side::A, 8);
        send(&mut call, &mut talker, &coded(Law::A, &tone(2_100.0, 6_000.0, 8_000, 0)), |_| false);
        let before = call.at_b.len();
        send(&mut call, &mut talker, &coded(Law::A, &v17(16_000, 9_000.0)), |_| false);
        let bits: usize = call.at_b[before..].iter().map(|got| got.payload.len() * 8).sum();
        assert!(
            (least / 2..limit as usize * 115 / 100).contains(&(bits / 2)),
            "{} bit/s of at most {limit}",
            bits / 2
        );
        let before = call.at_b.len();
        send(&mut call, &mut talker, &coded(Law::A, &[0; 16_000]), |_| false);
        assert_eq!(call.at_b.len() - before, 100, "a modem's pause is sent, not suppressed");
    }
}

#[test]
fn a_far_side_that_says_so_passes_clear_from_the_first_packet() {
    let data = LegConfig { clear: true, ..config(AudioCodec::Pcma) };
    let mut call = Call::new(data, LegConfig { ptime_ms: 30, ..config(AudioCodec::Pcma) });
    let mut talker = Talker::new(Side::A, 8);
    assert_eq!(send(&mut call, &mut talker, &coded(Law::A, &v17(16_000, 9_000.0)), two_percent), 0);
}
